//! The command line of verbs that work with remotes and other machines.

use clap::Args;

use super::Login;
use crate::model::id::{BackupRef, HostName};
use crate::model::text::parse_rate;

/// Options of `copy`.
#[derive(Debug, Args)]
pub struct Copy {
    /// HOST@ID, HOST@latest, or hosts, groups and globs for all of theirs
    #[arg(required = true)]
    pub what: Vec<String>,
    /// To this remote of the inventory
    #[arg(long, value_name = "REMOTE", required_unless_present = "from", conflicts_with = "from")]
    pub to: Option<String>,
    /// From this remote of the inventory, into the library
    #[arg(long, value_name = "REMOTE")]
    pub from: Option<String>,
}

/// Options of `sync`.
#[derive(Debug, Args)]
pub struct Sync {
    /// Hosts, groups or globs; all unless given
    pub pattern: Vec<String>,
    /// To this remote of the inventory
    #[arg(long, value_name = "REMOTE")]
    pub to: String,
    /// Only say what would be copied
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `drill`.
#[derive(Debug, Args)]
pub struct Drill {
    /// HOST@ID or HOST@latest
    pub backup: BackupRef,
    /// A machine of the inventory with Docker, lrzip and tar to try it out on; nothing that it uses is touched; 'drill_on' of the
    /// inventory unless given
    #[arg(long, value_name = "HOST")]
    pub on: Option<HostName>,
    /// Push the archive at no more than this, in bytes a second: 512K, 10M; instead of what the inventory says
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub bwlimit: Option<u64>,
    /// What opens its door
    #[command(flatten)]
    pub login: Login,
    /// What happens as a stream of JSON objects, a line each; the last one says what came of it
    #[arg(long)]
    pub json: bool,
}
