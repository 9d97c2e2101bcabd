//! The command line: clap types only.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::fleet::Share;
use crate::model::id::{BackupRef, HostName};
use crate::model::manifest::FreezeMethod;
use crate::model::restore_parts::Part;
use crate::model::text::parse_rate;

mod around;
mod examples;
mod library;
mod offsite;

pub use around::{Completions, Config, ConfigVerb, Init, Man, ReportArgs};
pub use library::{Diff, Export, Extract, Forget, Import, List, Mark, Named, Note, Protect, Rekey, Show, Stats, Tag, Undelete, Verify};
pub use offsite::{Copy, Drill, Sync};

/// Backs up and restores Fuel masters over SSH, from this workstation.
#[derive(Debug, Parser)]
#[command(
    name = "tanker",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 refused, 4 unreachable, 5 damaged, 6 half restored, 7 still frozen, 130 interrupted."
)]
pub struct Cli {
    /// The inventory; looked for at ./inventory.toml and in the XDG config folder (tanker/inventory.toml) unless given
    #[arg(short, long, global = true, value_name = "FILE", env = "TANKER_INVENTORY")]
    pub inventory: Option<PathBuf>,
    /// The library, instead of the inventory's; with it, looking into the library needs no inventory
    #[arg(long, global = true, value_name = "DIR")]
    pub library: Option<PathBuf>,
    /// A key file that opens encrypted archives, beside those of the inventory: age's or an SSH private key
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Show nothing while it works, only what came of it
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Show each step as a line instead of bars; twice: every piece of progress too
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect, read facts and tasks, say what a backup would do; change nothing
    #[command(after_help = examples::CHECK)]
    Check(Fleet),
    /// Back masters up into the library
    #[command(after_help = examples::BACKUP)]
    Backup(Backup),
    /// List the backups of the library, oldest first
    #[command(after_help = examples::LIST)]
    List(List),
    /// Show one backup
    #[command(after_help = examples::SHOW)]
    Show(Show),
    /// Hold archives against their manifests: SHA-256, with --deep every byte and file inside
    #[command(after_help = examples::VERIFY)]
    Verify(Verify),
    /// How many backups there are, and what they take
    #[command(after_help = examples::STATS)]
    Stats(Stats),
    /// What differs between two backups
    #[command(after_help = examples::DIFF)]
    Diff(Diff),
    /// Give backups tags to find and keep them by
    #[command(after_help = examples::TAG)]
    Tag(Tag),
    /// Never forget these backups
    #[command(after_help = examples::PROTECT)]
    Protect(Protect),
    /// Let these backups be forgotten again
    #[command(after_help = examples::UNPROTECT)]
    Unprotect(Mark),
    /// Write a note at a backup
    #[command(after_help = examples::NOTE)]
    Note(Note),
    /// Move backups that no rule keeps into the trash; without --yes only say which
    #[command(after_help = examples::FORGET)]
    Forget(Forget),
    /// Take a forgotten backup back out of the trash
    #[command(after_help = examples::UNDELETE)]
    Undelete(Undelete),
    /// Encrypt archives anew, to the recipients that the inventory names now
    #[command(after_help = examples::REKEY)]
    Rekey(Rekey),
    /// Copy backups to a remote, or back from one
    #[command(after_help = examples::COPY)]
    Copy(Copy),
    /// Copy to a remote what it lacks
    #[command(after_help = examples::SYNC)]
    Sync(Sync),
    /// How well each master is looked after, and what is at risk; exit code 1 where something is
    #[command(after_help = examples::REPORT)]
    Report(ReportArgs),
    /// Write an inventory to begin with
    #[command(after_help = examples::INIT)]
    Init(Init),
    /// Look after the inventory
    Config(Config),
    /// Completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Man pages
    #[command(after_help = examples::MAN)]
    Man(Man),
    /// Prove that a backup restores: onto a machine of its own, with a stopwatch
    #[command(after_help = examples::DRILL)]
    Drill(Drill),
    /// List the files in a backup
    #[command(after_help = examples::FILES)]
    Files(Named),
    /// Take a file or directory out of a backup
    #[command(after_help = examples::EXTRACT)]
    Extract(Extract),
    /// Write a backup as the file that a bare master's `dockerctl restore` takes
    #[command(after_help = examples::EXPORT)]
    Export(Export),
    /// Take an archive of `dockerctl backup` into the library
    #[command(after_help = examples::IMPORT)]
    Import(Import),
    /// Restore a backup onto a master of the same release
    #[command(after_help = examples::RESTORE)]
    Restore(Restore),
    /// List hosts, or look whether they can be reached
    Hosts(HostsCommand),
    /// Make a host's key known after showing it
    #[command(after_help = examples::TRUST)]
    Trust(Trust),
    /// Show what jobs of tanker's are on masters
    #[command(after_help = examples::STATUS)]
    Status(Fleet),
    /// Thaw whatever any tanker has frozen on masters
    #[command(after_help = examples::THAW)]
    Thaw(Fleet),
    /// Remove what jobs of tanker's have left on masters, archives that nobody fetched included
    #[command(after_help = examples::CLEAN)]
    Clean(Clean),
}

/// Hosts, and how many at once.
#[derive(Debug, Args)]
pub struct Fleet {
    /// Which hosts
    #[command(flatten)]
    pub hosts: Hosts,
    /// How many masters at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub forks: Option<u16>,
    /// Work on groups of this many hosts, one group after the other: a number or a percentage
    #[arg(long, value_name = "N|P%", value_parser = parse_group)]
    pub serial: Option<Share>,
    /// Begin no further host once one has failed
    #[arg(long, conflicts_with = "max_fail")]
    pub fail_fast: bool,
    /// Begin no further host once more than this many have failed: a number or a percentage
    #[arg(long, value_name = "N|P%")]
    pub max_fail: Option<Share>,
    /// What opens their doors
    #[command(flatten)]
    pub login: Login,
    /// What happens as a stream of JSON objects, a line each; the last one says what came of it
    #[arg(long)]
    pub json: bool,
}

/// How fast archives are moved.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Bandwidth {
    /// Move archives at no more than this for each host, in bytes a second: 512K, 10M
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub bwlimit: Option<u64>,
    /// The same for all hosts together
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub bwlimit_all: Option<u64>,
}

/// What is asked for to log in.
#[derive(Debug, Clone, Copy, Args)]
pub struct Login {
    /// Ask for the password of the logins
    #[arg(short = 'k', long)]
    pub ask_pass: bool,
    /// Use sudo, and ask for its password (one for all hosts)
    #[arg(short = 'K', long)]
    pub ask_sudo_pass: bool,
}

/// Which hosts.
#[derive(Debug, Args)]
pub struct Hosts {
    /// Hosts, groups, globs, `web[01:20]`, `prod[0:2]`, `!out`, `&only`, `@failed` (in the last run); all hosts unless given
    pub pattern: Vec<String>,
    /// Only those of them that fit this pattern too
    #[arg(long, value_name = "PATTERN")]
    pub limit: Vec<String>,
}

/// Options of `hosts`.
#[derive(Debug, Args)]
pub struct HostsCommand {
    /// What to do
    #[command(subcommand)]
    pub verb: HostsVerb,
}

/// What `hosts` does.
#[derive(Debug, Subcommand)]
pub enum HostsVerb {
    /// List hosts and how they are reached; reach none
    #[command(after_help = examples::HOSTS_LIST)]
    List(HostsList),
    /// Connect, log in, become root; nothing else
    #[command(after_help = examples::HOSTS_CHECK)]
    Check(Fleet),
}

/// Options of `hosts list`.
#[derive(Debug, Args)]
pub struct HostsList {
    /// Which hosts
    #[command(flatten)]
    pub hosts: Hosts,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Which hosts
    #[command(flatten)]
    pub fleet: Fleet,
    /// How fast
    #[command(flatten)]
    pub bandwidth: Bandwidth,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Go on although tasks are unfinished or can't be read; the manifest says so
    #[arg(long)]
    pub ignore_tasks: bool,
    /// How to freeze containers, instead of what the inventory says
    #[arg(long, value_enum)]
    pub freeze: Option<FreezeArg>,
    /// The master thaws by itself after this many seconds, and the capture is void
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub freeze_timeout: Option<u64>,
    /// Only state, configuration and the database dump: no package repositories, no images but those that hold state
    #[arg(long)]
    pub light: bool,
    /// Pack on this workstation, for a master without room: it sends what it has as it comes, which can't be resumed
    #[arg(long)]
    pub no_spool: bool,
    /// Go on with what an earlier run did not bring to its end: the master has gone on packing meanwhile
    #[arg(long, conflicts_with_all = ["dry_run", "ignore_tasks", "freeze", "freeze_timeout", "light", "no_spool"])]
    pub resume: bool,
}

/// Options of `clean`.
#[derive(Debug, Args)]
pub struct Clean {
    /// Which hosts
    #[command(flatten)]
    pub fleet: Fleet,
    /// Do it; without this it only says what it would remove
    #[arg(long)]
    pub yes: bool,
    /// End jobs that still run, too
    #[arg(long, requires = "yes")]
    pub running: bool,
}

/// How to freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FreezeArg {
    /// Pause where Docker has it, else cgroup, else stop
    Auto,
    /// `docker pause` (Docker 0.12 on)
    Pause,
    /// The kernel's freezer, for an older Docker
    Cgroup,
    /// Stop the containers in order and start them again: minutes
    Stop,
    /// Not at all: the backup may be inconsistent
    None,
}

impl FreezeArg {
    /// The method; none where tanker is to choose.
    #[must_use]
    pub fn method(self) -> Option<FreezeMethod> {
        match self {
            Self::Auto => None,
            Self::Pause => Some(FreezeMethod::Pause),
            Self::Cgroup => Some(FreezeMethod::Cgroup),
            Self::Stop => Some(FreezeMethod::Stop),
            Self::None => Some(FreezeMethod::None),
        }
    }
}

/// Options of `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// HOST@ID or HOST@latest
    #[arg(required_unless_present_any = ["resume", "rollback"])]
    pub backup: Option<BackupRef>,
    /// The host of the inventory to restore onto
    #[arg(long, value_name = "HOST")]
    pub to: HostName,
    /// Take the backup from this remote of the inventory, by way of the library
    #[arg(long, value_name = "REMOTE")]
    pub from: Option<String>,
    /// Only show the plan
    #[arg(long)]
    pub dry_run: bool,
    /// Don't ask for the host's name
    #[arg(long)]
    pub yes: bool,
    /// Push the archive at no more than this, in bytes a second: 512K, 10M; instead of what the inventory says
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub bwlimit: Option<u64>,
    /// What opens its door
    #[command(flatten)]
    pub login: Login,
    /// What happens as a stream of JSON objects, a line each; the plan goes to stderr
    #[arg(long)]
    pub json: bool,
    /// Go on although the target's tasks are unfinished or can't be read
    #[arg(long)]
    pub ignore_tasks: bool,
    /// Restore only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<PartArg>,
    /// Carry on with a restore that came to no end on this host: put it back, then do it again
    #[arg(long, conflicts_with_all = ["backup", "rollback", "only", "from", "ignore_tasks", "bwlimit"])]
    pub resume: bool,
    /// Put the host back as it was before a restore that came to no end
    #[arg(long, conflicts_with_all = ["backup", "only", "from", "ignore_tasks", "bwlimit"])]
    pub rollback: bool,
}

/// A part of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartArg {
    /// Configuration, keys and puppet manifests, volumes below /etc
    Config,
    /// The containers, from their images, with their volumes (to Fuel 6.0 the database is inside)
    Images,
    /// PostgreSQL
    Database,
    /// Package repositories: /var/www/nailgun
    Repositories,
}

impl From<PartArg> for Part {
    fn from(arg: PartArg) -> Self {
        match arg {
            PartArg::Config => Self::Config,
            PartArg::Images => Self::Images,
            PartArg::Database => Self::Database,
            PartArg::Repositories => Self::Repositories,
        }
    }
}

/// Options of `trust`.
#[derive(Debug, Args)]
pub struct Trust {
    /// The host
    pub host: HostName,
    /// It was rebuilt: the new key takes the place of the known one
    #[arg(long)]
    pub rebuilt: bool,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}

/// A group of hosts holds one at least.
fn parse_group(text: &str) -> Result<Share, String> {
    match text.parse()? {
        Share::Hosts(0) | Share::Percent(0) => Err("a group holds one host at least".to_owned()),
        share => Ok(share),
    }
}
