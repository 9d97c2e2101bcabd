//! What happened in a run, kept: a folder a run under the state folder, a file a host, the recap beside them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Days, NaiveDateTime, SecondsFormat, Utc};

use super::plain::line_of;
use super::recap::{recap, recap_json, summary};
use crate::model::id::HostName;
use crate::model::report::RunReport;
use crate::monitor::{Event, Monitor, Step};
use crate::platform;

/// Runs that are kept.
const KEPT: usize = 100;
/// A run that left no recap may still go on, but not for so many days.
const LONGEST: Days = Days::new(14);
/// The form of the time that a run's folder begins with.
const TIME: &str = "%Y-%m-%dT%H-%M-%S";
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
    steps: Arc<Mutex<HashMap<HostName, Step>>>,
}

impl RunLog {
    /// Begins the record of a run. Whether it `counts`: `@failed` is about the last one that does.
    #[must_use]
    pub fn begin(state: &Path, verb: &'static str, counts: bool, clock: fn() -> DateTime<Utc>) -> Self {
        let began = clock();
        let runs = state.join("runs");
        let folder = runs.join(format!("{}-{verb}-{}", began.format(TIME), std::process::id()));
        let made = platform::make_folders(&folder);
        let folder = match made {
            Ok(()) => Some(folder),
            Err(e) => {
                super::err(&format!("tanker: no log is kept: {} can't be made: {e}\n", folder.display()));
                None
            }
        };
        forget_old(&runs, began);
        Self { verb, state: state.to_owned(), folder, began, clock, counts, steps: Arc::default() }
    }

    /// A monitor that writes down what it tells the other one.
    #[must_use]
    pub fn monitor(&self, inner: Arc<dyn Monitor>) -> Arc<dyn Monitor> {
        let (folder, steps) = (self.folder.clone(), Arc::clone(&self.steps));
        Arc::new(Logged { inner, verb: self.verb, folder, files: Mutex::default(), steps, clock: self.clock })
    }

    /// What came of it, for the terminal.
    #[must_use]
    pub fn recap(&self, report: &RunReport) -> String {
        recap(report, &self.steps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends it with what came of it, and returns that as JSON.
    #[must_use]
    pub fn end(&self, report: &RunReport) -> String {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let recap = recap_json(self.verb, (self.began, (self.clock)()), report, &steps);
        if let Some(folder) = &self.folder {
            for outcome in &report.outcomes {
                let hint = outcome.hint.as_deref().map(|hint| format!(" -> {hint}")).unwrap_or_default();
                write_line(
                    folder,
                    &outcome.host,
                    (self.clock)(),
                    &format!("{}: {}{hint}", outcome.severity.word(), summary(outcome, &steps)),
                );
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
    verb: &'static str,
    folder: Option<PathBuf>,
    files: Mutex<HashMap<HostName, File>>,
    steps: Arc<Mutex<HashMap<HostName, Step>>>,
    clock: fn() -> DateTime<Utc>,
}

impl Monitor for Logged {
    fn event(&self, host: &HostName, event: Event) {
        if let Event::Step(step) = event {
            let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
            if is_of_the_work(self.verb, steps.get(host).copied(), step) {
                steps.insert(host.clone(), step);
            }
        }
        if let (Some(folder), Some(line)) = (&self.folder, line_of(event.clone())) {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            if !files.contains_key(host)
                && let Ok(file) = open(folder, host)
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

/// Whether a step is of the work itself. What follows a failure puts things back or away, and it is the failure's own step that counts.
fn is_of_the_work(verb: &str, before: Option<Step>, step: Step) -> bool {
    match step {
        Step::Clean => verb == "clean",
        Step::Rollback => matches!(before, None | Some(Step::Connect | Step::Preflight)),
        _ => true,
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
fn forget_old(runs: &Path, now: DateTime<Utc>) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    let oldest = now.naive_utc().checked_sub_days(LONGEST).unwrap_or_default();
    let began = |path: &Path| NaiveDateTime::parse_from_str(path.file_name()?.to_str()?.get(..19)?, TIME).ok();
    let has_ended = |path: &PathBuf| path.join("recap.json").exists() || began(path).is_some_and(|began| began < oldest);
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(has_ended).collect();
    folders.sort();
    for old in folders.iter().take(folders.len().saturating_sub(KEPT)) {
        // One that can't be removed is tried again by the next run.
        let _ = fs::remove_dir_all(old);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::report::{Outcome, Severity};

    struct Deaf;

    impl Monitor for Deaf {
        fn event(&self, _: &HostName, _: Event) {}
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    /// What the terminal and the recap say of a run of these steps that ended so.
    fn ended(verb: &'static str, steps: &[Step], severity: Severity, summary: &str) -> (String, serde_json::Value) {
        let state = tempfile::tempdir().unwrap();
        let log = RunLog::begin(state.path(), verb, true, now);
        let (monitor, host): (_, HostName) = (log.monitor(Arc::new(Deaf)), "east".parse().unwrap());
        for step in steps {
            monitor.event(&host, Event::Step(*step));
        }
        let report = RunReport { outcomes: vec![Outcome { host, severity, summary: summary.into(), hint: None, took: Duration::ZERO }] };
        (log.recap(&report), serde_json::from_str(&log.end(&report)).unwrap())
    }

    #[test]
    fn the_recap_says_in_which_step_it_failed_not_in_which_it_was_put_away() {
        let (text, json) = ended("backup", &[Step::Connect, Step::Transfer, Step::Clean], Severity::Failed, "the connection was lost");
        assert_eq!((text.as_str(), &json["hosts"][0]["step"]), ("east  failed  transfer: the connection was lost\n", &"transfer".into()));
        let (text, json) = ended("restore", &[Step::Start, Step::Rollback], Severity::Failed, "start: no; put back as it was");
        assert_eq!((text.as_str(), &json["hosts"][0]["step"]), ("east  failed  start: no; put back as it was\n", &"start".into()));
        let (text, _) = ended("restore", &[Step::Connect, Step::Preflight, Step::Rollback], Severity::HalfRestored, "no");
        assert_eq!(text, "east  HALF RESTORED  rollback: no\n");
        let (text, json) = ended("backup", &[Step::Connect, Step::Preflight], Severity::Refused, "unfinished: 7");
        assert_eq!((text.as_str(), &json["hosts"][0]["step"]), ("east  refused  unfinished: 7\n", &"preflight".into()));
        assert_eq!(ended("check", &[], Severity::Interrupted, "not begun").1["hosts"][0]["step"], serde_json::Value::Null);
    }

    #[test]
    fn runs_that_left_no_recap_go_with_the_old_ones_and_one_that_may_still_go_on_stays() {
        let state = tempfile::tempdir().unwrap();
        let runs = state.path().join("runs");
        let folder = |days: u64, name: &str| {
            let began = now().checked_sub_days(Days::new(days)).unwrap();
            let path = runs.join(format!("{}-{name}", began.format(TIME)));
            fs::create_dir_all(&path).unwrap();
            path
        };
        let (lost, going_on) = (folder(30, "backup-1"), folder(2, "backup-2"));
        for n in 0..KEPT {
            fs::write(folder(1, &format!("check-{n}")).join("recap.json"), "{}").unwrap();
        }
        drop(RunLog::begin(state.path(), "check", true, now));
        assert!(!lost.exists() && going_on.exists());
    }
}
