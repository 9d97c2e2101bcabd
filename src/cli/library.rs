//! The command line of verbs that look into the library and after it.

use std::path::PathBuf;

use clap::Args;

use crate::model::id::{BackupRef, HostName};
use crate::model::record::parse_tag;
use crate::model::release::Release;
use crate::model::retention::Policy;
use crate::model::span::parse_span;

/// Options of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Hosts, groups or globs; all unless given
    pub pattern: Vec<String>,
    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// What was forgotten and can still be taken back
    #[arg(long)]
    pub trash: bool,
    /// What this remote of the inventory has
    #[arg(long, value_name = "REMOTE", conflicts_with_all = ["trash", "tag"])]
    pub remote: Option<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `show`.
#[derive(Debug, Args)]
pub struct Show {
    /// HOST@ID, the beginning of an id, a day, or HOST@latest
    pub backup: BackupRef,
    /// As JSON: the manifest
    #[arg(long)]
    pub json: bool,
}

/// One backup.
#[derive(Debug, Args)]
pub struct Named {
    /// HOST@ID or HOST@latest
    pub backup: BackupRef,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// HOST@ID or HOST@latest
    #[arg(required_unless_present_any = ["all", "sample"])]
    pub backups: Vec<BackupRef>,
    /// Every backup of the library
    #[arg(long, conflicts_with = "backups")]
    pub all: bool,
    /// Only this share of the library, what was looked at longest ago first: a rota for a timer
    #[arg(long, value_name = "P%", conflicts_with_all = ["backups", "all"], value_parser = parse_percentage)]
    pub sample: Option<f64>,
    /// Also decompress, and walk every member and every file in it
    #[arg(long)]
    pub deep: bool,
    /// How many at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// The copies of this remote of the inventory, which are read back for it
    #[arg(long, value_name = "REMOTE", conflicts_with_all = ["sample", "deep", "jobs"])]
    pub remote: Option<String>,
    /// What came of it as JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_percentage(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok()).filter(|n| *n > 0.0 && *n <= 100.0);
    number.ok_or_else(|| "a share of the library is a percentage, such as 5%".to_owned())
}

/// Options of `stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// Hosts, groups or globs; all unless given
    pub pattern: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The earlier one: HOST@ID
    pub before: BackupRef,
    /// The later one: HOST@ID or HOST@latest
    pub after: BackupRef,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Backups.
#[derive(Debug, Args)]
pub struct Mark {
    /// HOST@ID or HOST@latest
    #[arg(required = true)]
    pub backups: Vec<BackupRef>,
}

/// Options of `protect`.
#[derive(Debug, Args)]
pub struct Protect {
    /// HOST@ID or HOST@latest
    #[arg(required = true)]
    pub backups: Vec<BackupRef>,
    /// Also where its record can't be read: the record is begun anew, its tags and notes are lost; what stands in it is shown and asked about first
    #[arg(long)]
    pub renew: bool,
    /// Don't ask whether to begin a record anew
    #[arg(long, requires = "renew")]
    pub yes: bool,
}

/// Options of `tag`.
#[derive(Debug, Args)]
pub struct Tag {
    /// HOST@ID or HOST@latest
    #[arg(required = true)]
    pub backups: Vec<BackupRef>,
    /// A tag to give
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    pub add: Vec<String>,
    /// A tag to take
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    pub remove: Vec<String>,
}

/// Options of `note`.
#[derive(Debug, Args)]
pub struct Note {
    /// HOST@ID or HOST@latest
    pub backup: BackupRef,
    /// The note; empty takes it away
    pub text: String,
}

/// Options of `forget`.
#[derive(Debug, Args)]
pub struct Forget {
    /// Hosts, groups or globs; all unless given
    pub pattern: Vec<String>,
    /// Keep the newest N
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<u32>,
    /// The same for days (of UTC)
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// The same for weeks
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
    /// The same for months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,
    /// The same for years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,
    /// Keep all of this long before the newest: 36h, 14d, 8w, 6m, 2y
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub keep_within: Option<chrono::Duration>,
    /// Keep all with this tag
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    pub keep_tag: Vec<String>,
    /// Also where the newest backup is far smaller than the ones before it
    #[arg(long)]
    pub accept_small: bool,
    /// Do it: move them into the trash, and empty it of what has lain there for its days
    #[arg(long)]
    pub yes: bool,
    /// The copies of this remote of the inventory, for good: it has no trash. What is protected here, or was not seen whole from here, stays
    #[arg(long, value_name = "REMOTE")]
    pub remote: Option<String>,
    /// Also copies that were never seen whole from this library, unless the record beside them protects them or can't be read
    #[arg(long, requires = "remote")]
    pub accept_unknown: bool,
    /// What came of it as JSON
    #[arg(long)]
    pub json: bool,
}

impl Forget {
    /// What the command line says is to be kept; none where it says nothing.
    #[must_use]
    pub fn policy(&self) -> Option<Policy> {
        let policy = Policy {
            last: self.keep_last.unwrap_or(0),
            hourly: self.keep_hourly.unwrap_or(0),
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
            yearly: self.keep_yearly.unwrap_or(0),
            within: self.keep_within,
            tags: self.keep_tag.clone(),
        };
        Some(policy).filter(|policy| !policy.is_empty())
    }
}

/// Options of `undelete`.
#[derive(Debug, Args)]
pub struct Undelete {
    /// HOST@ID, the beginning of an id, a day, or HOST@latest, of what 'tanker list --trash' shows
    #[arg(required = true)]
    pub backups: Vec<BackupRef>,
}

/// Options of `rekey`.
#[derive(Debug, Args)]
pub struct Rekey {
    /// HOST@ID or HOST@latest
    #[arg(required_unless_present = "all")]
    pub backups: Vec<BackupRef>,
    /// Every backup of the library whose recipients are others
    #[arg(long, conflicts_with = "backups")]
    pub all: bool,
    /// Do it; without this only say which
    #[arg(long)]
    pub yes: bool,
}

/// Options of `extract`.
#[derive(Debug, Args)]
pub struct Extract {
    /// HOST@ID or HOST@latest
    pub backup: BackupRef,
    /// A path as `files` prints it, or a directory above such paths
    pub path: String,
    /// The folder to put it into, with its path below it (a volume's files: their path in the volume)
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// HOST@ID or HOST@latest
    pub backup: BackupRef,
    /// The folder to write the file into
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// `fuel_backup_*.tar.lrz`
    pub file: PathBuf,
    /// Whose backup it is: the name it is listed under
    #[arg(long, value_name = "NAME")]
    pub host: HostName,
    /// Its Fuel release, where the archive doesn't tell
    #[arg(long, value_name = "REL")]
    pub fuel: Option<Release>,
}
