//! One file a verb, each readable from top to bottom as the procedure itself. They do; they never print.

pub mod backup;
pub mod check;
pub mod clean;
pub mod drill;
pub mod hooks;
pub mod hosts;
pub mod restore;
pub mod status;
pub mod trust;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use tokio::sync::Semaphore;

use crate::fleet::{Cancel, Ending};
use crate::library::{Depth, Entry, Keys, Library, LibraryError, Recipients, Verified, verify};
use crate::model::facts::{Facts, JobTrace, parse_facts, parse_frames, parse_jobs};
use crate::model::id::HostName;
use crate::model::inventory::{Host, Inventory};
use crate::model::release::{DIRECTORIES, PLUGINS};
use crate::model::report::Severity;
use crate::model::tasks::{TaskList, UnreadableTasks, parse_tasks};
use crate::model::text::first_ten;
use crate::monitor::{Event, Monitor, Step};
use crate::remote::link::Link;
use crate::remote::ssh::{Keyring, expand};
use crate::remote::{BUSY, RemoteError, Script};

/// Facts look at every host directory's size, minutes on a slow disk full of packages; the fuel client has 90 s of its own.
const FACTS: Duration = Duration::from_secs(720);
/// A small file of a job's or of the master's.
const READING: Duration = Duration::from_secs(60);

/// What encrypts archives and opens them, gathered before any work begins. No `Debug` (I6).
#[derive(Default)]
pub struct Vault {
    /// What opens them.
    pub keys: Keys,
    /// To whom each host's new archives are encrypted; a host that isn't here has none that are.
    pub recipients: BTreeMap<HostName, Arc<Recipients>>,
    /// Why a host's new archives can't be encrypted as the inventory has it: no backup of it is begun.
    pub sealless: BTreeMap<HostName, String>,
}

/// What every verb works with.
#[derive(Clone)]
pub struct Context {
    /// The masters.
    pub inventory: Arc<Inventory>,
    /// Deciphered keys.
    pub keyring: Arc<Keyring>,
    /// What encrypts and opens archives.
    pub vault: Arc<Vault>,
    /// The operator's home folder.
    pub home: PathBuf,
    /// Where what is known of hosts and runs is kept: `$XDG_STATE_HOME/tanker`.
    pub state: PathBuf,
    /// Who this is, for locks: user, workstation, process.
    pub owner: String,
    /// Whether to stop.
    pub cancel: Cancel,
    /// Held while an archive is decompressed here: lrzip keeps what it unpacks in memory.
    pub proving: Arc<Semaphore>,
    /// Who is told.
    pub monitor: Arc<dyn Monitor>,
    /// The time.
    pub clock: fn() -> DateTime<Utc>,
}

impl Context {
    fn host(&self, name: &HostName) -> Result<Host, Ending> {
        let missing = || Ending::bad(Severity::Failed, "it is not in the inventory", None);
        self.inventory.host(name).cloned().ok_or_else(missing)
    }

    /// Who works on a master, for whoever finds it locked: also since when.
    fn owner_now(&self) -> String {
        format!("{} since {}", self.owner, (self.clock)().to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    }

    /// The library of a host's archives.
    #[must_use]
    pub fn library(&self, host: &Host) -> Library {
        Library::at(expand(&host.library, &self.home))
    }

    fn step(&self, host: &Host, step: Step) {
        self.monitor.event(&host.name, Event::Step(step));
    }

    fn note(&self, host: &Host, text: impl Into<String>) {
        self.monitor.event(&host.name, Event::Note(text.into()));
    }

    async fn open(&self, host: &Host) -> Result<Link, Ending> {
        self.step(host, Step::Connect);
        for note in &host.notes {
            self.note(host, note);
        }
        if let Some(why) = self.keyring.unusable(&host.name) {
            return Err(Ending::bad(Severity::Refused, why, None));
        }
        let mut link = Link::open(host, &self.keyring, self.home.clone()).await.map_err(|e| remote_ending(host, &e))?;
        if let Ok(session) = link.session().await
            && !session.sha1.is_empty()
        {
            let what = session.sha1.join(", ");
            let of_its_key = session.sha1.iter().any(|name| name == "ssh-rsa");
            let remedy = if of_its_key {
                format!("'tanker trust {}' asks whether it has a better key than the known one, ", host.name)
            } else {
                String::new()
            };
            self.note(host, format!("both sides know nothing better than SHA-1 here ({what}): {remedy}'legacy = false' would refuse that"));
        }
        Ok(link)
    }
}

/// Facts and tasks of a master; nothing on it changes.
async fn look(link: &mut Link) -> Result<(Facts, Result<TaskList, UnreadableTasks>), RemoteError> {
    look_into(link, DIRECTORIES.into_iter().chain([PLUGINS])).await
}

/// The same, these directories measured and no others, which can take a master minutes.
async fn look_into(
    link: &mut Link,
    directories: impl Iterator<Item = &str>,
) -> Result<(Facts, Result<TaskList, UnreadableTasks>), RemoteError> {
    let words = ["tasks"].into_iter().chain(directories);
    let answer = link.run_once(&Script::facts(words), b"", FACTS.min(link.step_timeout())).await?;
    let facts = parse_facts(&answer).map_err(|e| RemoteError::Answer(e.to_string()))?;
    let frames = parse_frames(&answer).map_err(|e| RemoteError::Answer(e.to_string()))?;
    let text = |name: &str| frames.get(name).map_or("", String::as_str);
    let tasks = parse_tasks(text("tasks.code").trim().parse().unwrap_or(-1), text("tasks.out"), text("tasks.err"));
    Ok((facts, tasks))
}

/// The jobs on a master, which needs no whole master: a half restored one may lack what makes it one.
async fn look_at_jobs(link: &mut Link) -> Result<Vec<JobTrace>, RemoteError> {
    let answer = link.run_once(&Script::facts(["no-tasks"]), b"", FACTS.min(link.step_timeout())).await?;
    parse_frames(&answer).map(|frames| parse_jobs(&frames)).map_err(|e| RemoteError::Answer(e.to_string()))
}

fn remote_ending(host: &Host, error: &RemoteError) -> Ending {
    let severity = match error {
        e if e.is_unreachable() => Severity::Unreachable,
        RemoteError::Script { code: BUSY, .. } | RemoteError::Sudo { .. } => Severity::Refused,
        _ => Severity::Failed,
    };
    Ending::bad(severity, error.to_string(), error.hint(host.name.as_str()))
}

/// A host that was reached and found to be no master that tanker can work on was refused, not failed.
fn look_ending(host: &Host, error: &RemoteError) -> Ending {
    let mut ending = remote_ending(host, error);
    if matches!(error, RemoteError::Answer(_)) {
        ending.severity = Severity::Refused;
    }
    // What can't be looked at can't be looked at with 'tanker status' either.
    ending.hint = ending.hint.filter(|_| !matches!(error, RemoteError::Script { .. }));
    ending
}

fn library_ending(error: &LibraryError) -> Ending {
    Ending::bad(error.severity(), error.to_string(), error.hint())
}

/// Holds an archive here against its manifest, and tells how far it is.
async fn prove(ctx: &Context, host: &Host, entry: &Entry, depth: Depth) -> Result<Verified, Ending> {
    ctx.step(host, Step::Prove);
    let (entry, vault) = (entry.clone(), Arc::clone(&ctx.vault));
    // Without a key the archive can't be pushed: said before it is read.
    entry.open(&vault.keys).map_err(|e| library_ending(&e))?;
    let (monitor, name, total) = (Arc::clone(&ctx.monitor), host.name.clone(), Some(entry.manifest.archive.bytes));
    let mut bytes = 0;
    let mut seen = move |more| {
        bytes += more;
        monitor.event(&name, Event::Progress { bytes, total });
    };
    let verified = tokio::task::spawn_blocking(move || verify(&entry, &vault.keys, depth, &mut seen)).await;
    verified.map_err(|e| Ending::bad(Severity::Failed, e.to_string(), None))?.map_err(|e| library_ending(&e))
}

/// What to do about tasks that forbid a backup.
fn hint_for_tasks(tasks: &Result<TaskList, UnreadableTasks>) -> Option<String> {
    match tasks {
        Err(_) => Some("'--ignore-tasks' backs it up without knowing them, and the manifest says so".to_owned()),
        Ok(list) if !list.unfinished().is_empty() => {
            Some("run it again when they have ended; '--ignore-tasks' doesn't wait for them, and the manifest says so".to_owned())
        }
        Ok(_) => None,
    }
}

fn refused(reasons: &[String], hint: Option<String>) -> Ending {
    Ending::bad(Severity::Refused, first_ten(reasons, "; "), hint)
}
