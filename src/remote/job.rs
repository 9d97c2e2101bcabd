//! A job: a script that goes on running on the master whether anybody is connected or not. Started, followed, cleaned up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::link::Link;
use super::{RemoteError, Script, TANKER_ROOT, job_script};
use crate::model::facts::parse_frames;
use crate::model::text::printable;

/// How often a job is asked how it is doing; each time renews its lease.
const POLL: Duration = Duration::from_millis(300);
/// A call that only looks or signals.
const SHORT: Duration = Duration::from_secs(60);
/// Starting one: what dead ones have left there is removed first.
const STARTING: Duration = Duration::from_secs(600);
/// How long a lost line is tried again while a job runs, and when nothing that it does is urgent any more.
const PATIENCE: Duration = Duration::from_secs(90);
const LONG_PATIENCE: Duration = Duration::from_secs(300);
/// A thaw may have to start stopped containers, which run puppet first.
const CLEANING: Duration = Duration::from_secs(3600);

/// What a job's log may come to (I8). A backup writes some dozen lines, and a master that can't thaw one each two seconds; how a file grows
/// is not in it.
const LONGEST_LOG: usize = 16 << 20;
const MOST_EVENTS: usize = 100_000;
/// So many steps earn the time of a step each: no job has half of them.
const MOST_STEPS: usize = 64;

/// A line of a job's event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// A step began, at this time on the master in milliseconds.
    Step(String, u64),
    /// The first container is about to be frozen.
    Frozen,
    /// All are thawed; the freeze took this many milliseconds.
    Thawed(u64),
    /// The capture is void, because.
    Void(String),
    /// These containers stay frozen, or the master could not be put back.
    Stuck(String),
    /// The tasks were read again; the client's exit code.
    Tasks(i64),
    /// The outer tar has this many bytes.
    Tar(u64),
    /// The archive: bytes, SHA-256 of the list of its blocks' digests, file name.
    Archive(u64, String, String),
    /// Without a spool: this member can be read from the job's pipe now.
    Member(String),
    /// Without a spool: this member was sent whole; its SHA-256.
    Sent(String, String),
    /// How many milliseconds the freeze should take.
    Predicted(u64),
    /// A part of the step is done: how many, of how many, which.
    Part(u64, u64, String),
    /// A remark.
    Note(String),
    /// The file that the current step writes has this many bytes by now.
    Growing(u64),
    /// It failed: step, reason.
    Failed(String, String),
    /// It failed and everything was put back.
    RolledBack,
    /// It succeeded.
    Finished,
}

/// A job's folder on the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    path: String,
}

impl Job {
    /// The job of this name: lower-case letters, digits, `.`, `_`, `-`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { path: format!("{TANKER_ROOT}/{name}") }
    }

    /// A file in its folder.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Its folder's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Starts one of the long scripts with these arguments and files.
    ///
    /// # Errors
    /// When another tanker holds the master's lock, or it can't be started.
    pub async fn start(
        &self,
        link: &mut Link,
        script: &str,
        owner: &str,
        args: &[String],
        files: &[(&str, Vec<u8>)],
    ) -> Result<(), RemoteError> {
        let text = job_script(script).ok_or_else(|| RemoteError::Answer(format!("there is no job '{script}'")))?;
        let mut input = Vec::new();
        for (name, bytes) in files.iter().map(|(n, b)| (*n, b.as_slice())).chain([("run.sh", text.as_bytes())]) {
            input.extend_from_slice(format!("{name} {}\n", bytes.len()).as_bytes());
            input.extend_from_slice(bytes);
        }
        input.extend_from_slice(b". 0\n");
        let words = [self.path.clone(), owner.to_owned(), link.keep_jobs().as_secs().to_string()].into_iter().chain(args.iter().cloned());
        link.run_once(&Script::start(words), &input, STARTING).await.map(drop)
    }

    /// Follows the event log from `offset` until the job has ended, renewing its lease. Returns the offset behind the last
    /// event. A lost line is made again; the job doesn't mind.
    ///
    /// # Errors
    /// When the line stays lost, the job is gone without a last word, or a step takes longer than the host's `step_timeout`.
    pub async fn follow(&self, link: &mut Link, mut offset: usize, mut on_event: impl FnMut(JobEvent)) -> Result<usize, RemoteError> {
        let (limit, mut log) = (link.step_timeout(), Log::begin());
        loop {
            let patience = if log.thawed { LONG_PATIENCE } else { PATIENCE };
            let answer = link.run(&Script::poll([self.path.clone(), offset.to_string()]), SHORT, patience).await?;
            let frames = parse_frames(&answer).map_err(|e| RemoteError::Answer(e.to_string()))?;
            offset += log.take(frames.get("events").map_or("", String::as_str), &mut on_event)?;
            if let Some(bytes) = frames.get("growing").and_then(|bytes| bytes.trim().parse().ok()) {
                on_event(JobEvent::Growing(bytes));
            }
            // The script looks whether the job lives before it reads the log: a dead job's log is whole.
            if frames.get("alive").is_none_or(|word| word != "yes") {
                if log.ended {
                    return Ok(offset);
                }
                return Err(RemoteError::Answer(
                    "the job on the master ended without a word: it was killed, or the master was restarted".into(),
                ));
            }
            if log.since.elapsed() > limit {
                // The line is not to blame: trying again, or later, would change nothing.
                return Err(RemoteError::Answer(format!("{} did not end within {} s", log.step, limit.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Says that it is still wanted, where it doesn't run at the moment.
    ///
    /// # Errors
    /// When the line stays lost.
    pub async fn renew(&self, link: &mut Link) -> Result<(), RemoteError> {
        link.run(&Script::poll([self.path.clone(), "0".to_owned()]), SHORT, PATIENCE).await.map(drop)
    }

    /// As [`Self::clean`], but not while somebody brings its archive home or pushes one.
    ///
    /// # Errors
    /// As there, and when somebody does.
    pub async fn clean_unless_used(&self, link: &mut Link) -> Result<(), RemoteError> {
        link.run(&Script::clean([self.path.as_str(), "unused"]), CLEANING, PATIENCE).await.map(drop)
    }

    /// Stops it if it runs, thaws what it froze, removes its images and its folder. May be repeated.
    ///
    /// # Errors
    /// When containers stay frozen (the frame `frozen` of its output names them), or something can't be removed.
    pub async fn clean(&self, link: &mut Link) -> Result<(), RemoteError> {
        link.run(&Script::clean([self.path.clone()]), CLEANING, PATIENCE).await.map(drop)
    }
}

/// An event log as it is followed.
struct Log {
    bytes: usize,
    events: usize,
    /// Whether the job has said its last word.
    ended: bool,
    /// Whether what it froze is thawed: what is left to do waits for nobody.
    thawed: bool,
    /// What it does, for a sentence.
    step: String,
    since: Instant,
    steps: BTreeSet<String>,
}

impl Log {
    fn begin() -> Self {
        Self {
            bytes: 0,
            events: 0,
            ended: false,
            thawed: false,
            step: "the job's start".to_owned(),
            since: Instant::now(),
            steps: BTreeSet::new(),
        }
    }

    /// Takes what was written since the last look, as far as its lines are whole: how many bytes that is. A line that is still being
    /// written is left for the next look.
    fn take(&mut self, text: &str, on_event: &mut impl FnMut(JobEvent)) -> Result<usize, RemoteError> {
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        if self.bytes + text.len() > LONGEST_LOG || self.events + whole.lines().count() > MOST_EVENTS {
            let why = format!("the job on the master writes its log without end: more than {LONGEST_LOG} bytes, or {MOST_EVENTS} lines");
            return Err(RemoteError::Answer(why));
        }
        self.bytes += whole.len();
        self.events += whole.lines().count();
        for event in whole.lines().filter_map(parse_event) {
            self.ended |= matches!(event, JobEvent::Failed(..) | JobEvent::Finished);
            self.thawed |= matches!(event, JobEvent::Thawed(_));
            // One that says the same step again and again would have no limit.
            if let JobEvent::Step(name, _) = &event
                && self.steps.len() < MOST_STEPS
                && self.steps.insert(name.clone())
            {
                (self.step, self.since) = (format!("the step '{name}'"), Instant::now());
            }
            on_event(event);
        }
        Ok(whole.len())
    }
}

/// Reads a line of a job's event log; none where it makes no sense.
#[must_use]
pub fn parse_event(line: &str) -> Option<JobEvent> {
    let (time, rest) = line.split_once(' ')?;
    let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let text = || printable(rest);
    Some(match kind {
        "step" => JobEvent::Step(text(), time.parse().unwrap_or(0)),
        "frozen" => JobEvent::Frozen,
        "thawed" => JobEvent::Thawed(rest.parse().ok()?),
        "void" => JobEvent::Void(text()),
        "stuck" => JobEvent::Stuck(text()),
        "tasks" => JobEvent::Tasks(rest.parse().ok()?),
        "tar" => JobEvent::Tar(rest.parse().ok()?),
        "archive" => {
            let mut words = rest.split(' ');
            JobEvent::Archive(words.next()?.parse().ok()?, words.next()?.to_owned(), printable(words.next()?))
        }
        "member" => JobEvent::Member(text()),
        "sent" => {
            let (name, sha256) = rest.split_once(' ')?;
            JobEvent::Sent(printable(name), sha256.to_owned())
        }
        "predicted" => JobEvent::Predicted(rest.parse().ok()?),
        "checked" => {
            let mut words = rest.splitn(3, ' ');
            JobEvent::Part(words.next()?.parse().ok()?, words.next()?.parse().ok()?, printable(words.next()?))
        }
        "note" => JobEvent::Note(text()),
        "failed" => {
            let (step, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            JobEvent::Failed(printable(step), printable(reason))
        }
        "rolled-back" => JobEvent::RolledBack,
        "finished" => JobEvent::Finished,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_a_step_that_is_said_again_and_again_gets_no_more_time() {
        let mut log = Log::begin();
        log.take("1 step live\n2 step freeze\n3 st", &mut |_| ()).unwrap();
        assert_eq!(log.step, "the step 'freeze'");
        let since = log.since;
        std::thread::sleep(Duration::from_millis(5));
        log.take("0 step live\n0 step freeze\n", &mut |_| ()).unwrap();
        assert_eq!((log.step.as_str(), log.since), ("the step 'freeze'", since));
        log.take("4 step thaw\n", &mut |_| ()).unwrap();
        assert!(log.since > since);
        // New names without end are no steps either.
        for n in 0..200 {
            log.take(&format!("5 step x{n}\n"), &mut |_| ()).unwrap();
        }
        assert_eq!(log.step, format!("the step 'x{}'", MOST_STEPS - 4));
    }

    #[test]
    fn i8_a_log_without_end_is_not_followed() {
        let (mut log, mut told) = (Log::begin(), 0);
        assert_eq!(log.take("1 note a\n2 not", &mut |_| told += 1).unwrap(), 9);
        let line = format!("1 note {}\n", "x".repeat(1 << 20));
        let bytes = (0..).map_while(|_| log.take(&line, &mut |_| told += 1).ok()).sum::<usize>();
        assert!(bytes < LONGEST_LOG && told < 20, "{bytes} {told}");
        assert!(Log::begin().take(&"x".repeat(LONGEST_LOG + 1), &mut |_| ()).is_err(), "one line");
        let many = "1 x\n".repeat(MOST_EVENTS / 2);
        let mut log = Log::begin();
        assert!(log.take(&many, &mut |_| ()).is_ok() && log.take(&many, &mut |_| ()).is_ok());
        let said = log.take("1 note y\n", &mut |_| ()).unwrap_err().to_string();
        assert!(said.contains("without end"), "{said}");
    }

    #[test]
    fn i8_lines_of_an_event_log_that_make_no_sense_are_passed_over() {
        assert_eq!(parse_event("17 thawed 410"), Some(JobEvent::Thawed(410)));
        assert_eq!(
            parse_event("17 failed freeze docker \u{1b}[2Jsaid no"),
            Some(JobEvent::Failed("freeze".into(), "docker ?[2Jsaid no".into()))
        );
        assert_eq!(parse_event("17 archive 12 abc fuel.lrz"), Some(JobEvent::Archive(12, "abc".into(), "fuel.lrz".into())));
        for bad in ["", "17", "17 thawed x", "17 archive 1", "17 whatever"] {
            assert_eq!(parse_event(bad), None, "{bad:?}");
        }
    }
}
