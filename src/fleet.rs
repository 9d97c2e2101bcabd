//! Many masters at once: so many at a time, each with an outcome of its own (I5), and a way to stop.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::model::id::HostName;
use crate::model::report::{Outcome, RunReport, Severity};

/// Tells work in progress that the operator wants it to stop.
#[derive(Clone)]
pub struct Cancel(watch::Receiver<Said>);

/// The other end of [`Cancel`].
pub struct Canceller(watch::Sender<Said>);

#[derive(Debug, Clone, Copy, Default)]
struct Said {
    times: u32,
    going_down: bool,
}

/// A pair of them.
#[must_use]
pub fn cancellation() -> (Canceller, Cancel) {
    let (sender, receiver) = watch::channel(Said::default());
    (Canceller(sender), Cancel(receiver))
}

impl Canceller {
    /// Stops everything that listens; because the workstation goes down, or because somebody says so.
    pub fn cancel(&self, going_down: bool) {
        self.0.send_modify(|said| *said = Said { times: said.times + 1, going_down });
    }
}

impl Cancel {
    /// Whether it has been said.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.borrow().times > 0
    }

    /// Whether nobody has thought better of what is under way, but the workstation goes down: what a later run can go on with stays.
    #[must_use]
    pub fn is_going_down(&self) -> bool {
        self.0.borrow().going_down
    }

    /// Waits until it is said; for ever, if whoever could say it is gone.
    pub async fn cancelled(&self) {
        self.said_more_than(0).await;
    }

    /// Waits until it is said again, by somebody who has been told to wait: what cleans up is given up then.
    pub async fn insisted(&self) {
        let so_far = self.0.borrow().times;
        self.said_more_than(so_far.max(1)).await;
    }

    /// Work that leaves nothing behind it: it ends when the operator says so.
    ///
    /// # Errors
    /// The work's own, or that it was interrupted.
    pub async fn ends<T>(&self, work: impl Future<Output = Result<T, Ending>>) -> Result<T, Ending> {
        tokio::select! {
            done = work => done,
            () = self.cancelled() => Err(Ending::bad(Severity::Interrupted, "stopped as told to", None)),
        }
    }

    /// Work that had better come to its end: it is given up when the operator insists.
    ///
    /// # Errors
    /// The work's own, or that it was interrupted.
    pub async fn gives_up<T>(&self, work: impl Future<Output = Result<T, Ending>>) -> Result<T, Ending> {
        tokio::select! {
            done = work => done,
            () = self.insisted() => {
                let hint = "'tanker status' shows what is left on it".to_owned();
                Err(Ending::bad(Severity::Interrupted, "given up half done as told to", Some(hint)))
            }
        }
    }

    async fn said_more_than(&self, times: u32) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|said| said.times > times).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How a piece of work on one host ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// How serious it is.
    pub severity: Severity,
    /// One line.
    pub summary: String,
    /// What to do now.
    pub hint: Option<String>,
}

impl Ending {
    /// It went well.
    #[must_use]
    pub fn ok(summary: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, summary: summary.into(), hint: None }
    }

    /// It didn't.
    #[must_use]
    pub fn bad(severity: Severity, summary: impl Into<String>, hint: Option<String>) -> Self {
        Self { severity, summary: summary.into(), hint }
    }
}

/// How many at once, and when to stop beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many hosts at once.
    pub forks: usize,
    /// Hosts are worked on in groups of this many, one group after the other.
    pub serial: Option<Share>,
    /// More failures than this, and no further host is begun.
    pub max_fail: Option<Share>,
}

/// A number of hosts, or a part of those that were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Hosts(usize),
    /// So many percent, 0 to 100.
    Percent(usize),
}

impl Share {
    /// How many of `all` hosts that is, rounded down.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Hosts(count) => count,
            Self::Percent(percent) => all * percent / 100,
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is neither a number of hosts nor a percentage such as 30%");
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent).ok_or_else(bad),
            None => text.parse().map(Self::Hosts).map_err(|_| bad()),
        }
    }
}

impl Pace {
    /// So many at once, all of them.
    #[must_use]
    pub fn of(forks: usize) -> Self {
        Self { forks, serial: None, max_fail: None }
    }
}

/// Works on each host. One whose turn had not come when everything was cancelled, or too many others had failed, is not begun; what
/// was begun goes on to its end.
pub async fn run<F, W>(hosts: &[HostName], pace: Pace, cancel: &Cancel, work: W) -> RunReport
where
    W: Fn(HostName) -> F,
    F: Future<Output = Ending> + Send + 'static,
{
    let group = pace.serial.map_or(hosts.len(), |share| share.of(hosts.len())).max(1);
    let most = pace.max_fail.map(|share| share.of(hosts.len()));
    let failures = Arc::new(AtomicUsize::new(0));
    let mut outcomes = Vec::with_capacity(hosts.len());
    for hosts in hosts.chunks(group) {
        outcomes.extend(run_group(hosts, pace.forks, most, &failures, cancel, &work).await);
    }
    RunReport { outcomes }
}

async fn run_group<F, W>(
    hosts: &[HostName],
    forks: usize,
    most: Option<usize>,
    failures: &Arc<AtomicUsize>,
    cancel: &Cancel,
    work: &W,
) -> Vec<Outcome>
where
    W: Fn(HostName) -> F,
    F: Future<Output = Ending> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(forks.max(1)));
    let mut set = JoinSet::new();
    for (place, host) in hosts.iter().enumerate() {
        // Turns are taken in the hosts' order. The semaphore is never closed: a missing permit could only mean that, and then nobody
        // waits for turns.
        let turn = Arc::clone(&turns).acquire_owned().await.ok();
        let (cancel, name, failures) = (cancel.clone(), host.clone(), Arc::clone(failures));
        let begun = work(host.clone());
        set.spawn(async move {
            let _turn = turn;
            let began = Instant::now();
            let failed = failures.load(Ordering::SeqCst);
            let ending = if cancel.is_cancelled() {
                Ending::bad(Severity::Interrupted, "not begun", None)
            } else if most.is_some_and(|most| failed > most) {
                Ending::bad(
                    Severity::Skipped,
                    format!("{failed} {} failed before its turn", if failed == 1 { "host" } else { "hosts" }),
                    None,
                )
            } else {
                // Counted also where the work panics.
                let mut count = Failure { failures, ended: Severity::Failed };
                let ending = begun.await;
                count.ended = ending.severity;
                ending
            };
            (place, outcome(name, ending, began.elapsed()))
        });
    }
    let mut outcomes: Vec<Option<Outcome>> = vec![None; hosts.len()];
    while let Some(joined) = set.join_next().await {
        if let Ok((place, outcome)) = joined {
            outcomes[place] = Some(outcome);
        }
    }
    let lost = |host: &HostName| {
        outcome(host.clone(), Ending::bad(Severity::Failed, "tanker itself failed here: please report this", None), Duration::ZERO)
    };
    hosts.iter().zip(outcomes).map(|(host, o)| o.unwrap_or_else(|| lost(host))).collect()
}

struct Failure {
    failures: Arc<AtomicUsize>,
    ended: Severity,
}

impl Drop for Failure {
    fn drop(&mut self) {
        if self.ended != Severity::Ok {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn outcome(host: HostName, ending: Ending, took: Duration) -> Outcome {
    Outcome { host, severity: ending.severity, summary: ending.summary, hint: ending.hint, took }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<HostName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn i5_one_hosts_failure_neither_stops_nor_hides_anothers() {
        let (_canceller, cancel) = cancellation();
        let report = run(&hosts(&["a", "b", "c"]), Pace::of(2), &cancel, |host| async move {
            match host.as_str() {
                "a" => panic!("a bug"),
                "b" => Ending::bad(Severity::Failed, "no", None),
                _ => Ending::ok("fine"),
            }
        })
        .await;
        let severities: Vec<_> = report.outcomes.iter().map(|o| o.severity).collect();
        assert_eq!(severities, [Severity::Failed, Severity::Failed, Severity::Ok]);
        assert!(report.outcomes[0].summary.contains("tanker itself"));
    }

    #[tokio::test]
    async fn hosts_whose_turn_had_not_come_are_not_begun_after_an_interrupt() {
        let (canceller, cancel) = cancellation();
        let canceller = Arc::new(canceller);
        let report = run(&hosts(&["a", "b"]), Pace::of(1), &cancel, |_| {
            let canceller = Arc::clone(&canceller);
            async move {
                canceller.cancel(false);
                Ending::ok("done")
            }
        })
        .await;
        assert_eq!(report.outcomes.iter().filter(|o| o.severity == Severity::Interrupted).count(), 1);
    }

    #[tokio::test]
    async fn what_hangs_ends_when_it_is_told_to_and_what_cleans_up_when_it_is_told_to_again() {
        let (canceller, cancel) = cancellation();
        let hangs = || std::future::pending::<Result<(), Ending>>();
        let still = async |work: &mut (dyn Future<Output = Result<(), Ending>> + Unpin)| {
            tokio::time::timeout(Duration::from_millis(20), work).await.is_err()
        };
        let (mut looks, mut cleans) = (Box::pin(cancel.ends(hangs())), Box::pin(cancel.gives_up(hangs())));
        assert!(still(&mut looks).await && still(&mut cleans).await);
        canceller.cancel(false);
        assert_eq!(looks.await.unwrap_err().severity, Severity::Interrupted);
        assert!(still(&mut cleans).await);
        canceller.cancel(false);
        assert_eq!(cleans.await.unwrap_err().severity, Severity::Interrupted);
        assert_eq!(cancellation().1.ends(async { Ok(7) }).await, Ok(7));
    }

    #[tokio::test]
    async fn i5_too_many_failures_end_the_run_and_say_whose_turn_did_not_come() {
        let (_canceller, cancel) = cancellation();
        let names = hosts(&["a", "b", "c", "d"]);
        let severities = async |pace| -> Vec<Severity> {
            let work = |host: HostName| async move {
                if host.as_str() == "d" { Ending::ok("fine") } else { Ending::bad(Severity::Failed, "no", None) }
            };
            run(&names, pace, &cancel, work).await.outcomes.iter().map(|o| o.severity).collect()
        };
        use Severity::{Failed, Ok, Skipped};
        assert_eq!(severities(Pace { max_fail: Some(Share::Hosts(0)), ..Pace::of(1) }).await, [Failed, Skipped, Skipped, Skipped]);
        assert_eq!(severities(Pace { max_fail: Some(Share::Percent(50)), ..Pace::of(1) }).await, [Failed, Failed, Failed, Skipped]);
        // A group is worked on at once, and the next one not begun.
        let pace = Pace { serial: Some(Share::Hosts(2)), max_fail: Some(Share::Hosts(0)), ..Pace::of(9) };
        assert_eq!(severities(pace).await[2..], [Skipped, Skipped]);
        assert_eq!(severities(Pace::of(9)).await, [Failed, Failed, Failed, Ok]);
        assert!("101%".parse::<Share>().is_err() && "x".parse::<Share>().is_err());
    }
}
