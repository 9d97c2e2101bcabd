//! What happened in a run, kept: a folder a run under the state folder, a file a host, the recap beside them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};

use super::plain::line_of;
use super::recap::recap_json;
use crate::model::id::HostName;
use crate::model::report::RunReport;
use crate::monitor::{Event, Monitor};
use crate::platform;

/// Runs that are kept.
const KEPT: usize = 100;
/// The last run's recap, by which `@failed` is known.
const LAST: &str = "last-run.json";

/// The record of one run. Where it can't be written, that is said once and the run goes on.
pub struct RunLog {
    verb: &'static str,
    state: PathBuf,
    folder: Option<PathBuf>,
    began: DateTime<Utc>,
    clock: fn() -> DateTime<Utc>,
    counts: bool,
}

impl RunLog {
    /// Begins the record of a run. Whether it `counts`: `@failed` is about the last one that does.
    #[must_use]
    pub fn begin(state: &Path, verb: &'static str, counts: bool, clock: fn() -> DateTime<Utc>) -> Self {
        let began = clock();
        let runs = state.join("runs");
        let folder = runs.join(format!("{}-{verb}-{}", began.format("%Y-%m-%dT%H-%M-%S"), std::process::id()));
        let made = platform::make_folders(&folder);
        let folder = match made {
            Ok(()) => Some(folder),
            Err(e) => {
                super::err(&format!("tanker: no log is kept: {} can't be made: {e}\n", folder.display()));
                None
            }
        };
        forget_old(&runs);
        Self { verb, state: state.to_owned(), folder, began, clock, counts }
    }

    /// A monitor that writes down what it tells the other one.
    #[must_use]
    pub fn monitor(&self, inner: Arc<dyn Monitor>) -> Arc<dyn Monitor> {
        match &self.folder {
            Some(folder) => Arc::new(Logged { inner, folder: folder.clone(), files: Mutex::default(), clock: self.clock }),
            None => inner,
        }
    }

    /// Ends it with what came of it, and returns that as JSON.
    #[must_use]
    pub fn end(&self, report: &RunReport) -> String {
        let recap = recap_json(self.verb, self.began, (self.clock)(), report);
        if let Some(folder) = &self.folder {
            for outcome in &report.outcomes {
                let hint = outcome.hint.as_deref().map(|hint| format!(" -> {hint}")).unwrap_or_default();
                write_line(folder, &outcome.host, (self.clock)(), &format!("{}: {}{hint}", outcome.severity.word(), outcome.summary));
            }
            self.keep(&folder.join("recap.json"), &recap);
        }
        if self.counts {
            self.keep(&self.state.join(LAST), &recap);
        }
        recap
    }

    /// Under another name first: another run may read it.
    fn keep(&self, path: &Path, recap: &str) {
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let kept = platform::private()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)
            .and_then(|mut file| file.write_all(recap.as_bytes()))
            .and_then(|()| fs::rename(&new, path));
        if let Err(e) = kept {
            super::err(&format!("tanker: the recap can't be kept at {}: {e}\n", path.display()));
        }
    }
}

/// The hosts that did not end well in the last run; none where no run is known.
#[must_use]
pub fn failed_last_time(state: &Path) -> Option<Vec<HostName>> {
    let recap: serde_json::Value = serde_json::from_str(&fs::read_to_string(state.join(LAST)).ok()?).ok()?;
    let hosts = recap["hosts"].as_array()?;
    Some(hosts.iter().filter(|host| host["outcome"] != "ok").filter_map(|host| host["host"].as_str()?.parse().ok()).collect())
}

struct Logged {
    inner: Arc<dyn Monitor>,
    folder: PathBuf,
    files: Mutex<HashMap<HostName, File>>,
    clock: fn() -> DateTime<Utc>,
}

impl Monitor for Logged {
    fn event(&self, host: &HostName, event: Event) {
        if let Some(line) = line_of(event.clone()) {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            if !files.contains_key(host)
                && let Ok(file) = open(&self.folder, host)
            {
                files.insert(host.clone(), file);
            }
            if let Some(file) = files.get_mut(host) {
                // A log that can't be written is no reason to stop a backup; its folder could be made a moment ago.
                let _ = file.write_all(stamped((self.clock)(), &line).as_bytes());
            }
        }
        self.inner.event(host, event);
    }
}

fn open(folder: &Path, host: &HostName) -> std::io::Result<File> {
    platform::private().append(true).create(true).open(folder.join(format!("{host}.log")))
}

fn write_line(folder: &Path, host: &HostName, time: DateTime<Utc>, line: &str) {
    if let Ok(mut file) = open(folder, host) {
        // As above.
        let _ = file.write_all(stamped(time, line).as_bytes());
    }
}

fn stamped(time: DateTime<Utc>, line: &str) -> String {
    format!("{} {line}\n", time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// The names begin with the time.
fn forget_old(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    // One without a recap may still be running.
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.join("recap.json").exists()).collect();
    folders.sort();
    for old in folders.iter().take(folders.len().saturating_sub(KEPT)) {
        // One that can't be removed is tried again by the next run.
        let _ = fs::remove_dir_all(old);
    }
}
