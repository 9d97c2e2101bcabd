//! Many masters at once: so many at a time, each with an outcome of its own (I5), and a way to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::model::id::HostName;
use crate::model::report::{Outcome, RunReport, Severity};

/// Tells work in progress that the operator wants it to stop.
#[derive(Clone)]
pub struct Cancel(watch::Receiver<bool>);

/// The other end of [`Cancel`].
pub struct Canceller(watch::Sender<bool>);

/// A pair of them.
#[must_use]
pub fn cancellation() -> (Canceller, Cancel) {
    let (sender, receiver) = watch::channel(false);
    (Canceller(sender), Cancel(receiver))
}

impl Canceller {
    /// Stops everything that listens.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

impl Cancel {
    /// Whether it has been said.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is said; for ever, if whoever could say it is gone.
    pub async fn cancelled(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|said| *said).await.is_err() {
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

/// Works on each host, `forks` at a time. A host whose turn had not come when everything was cancelled is not begun.
pub async fn run<F, W>(hosts: &[HostName], forks: usize, cancel: &Cancel, work: W) -> RunReport
where
    W: Fn(HostName) -> F,
    F: Future<Output = Ending> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(forks.max(1)));
    let mut set = JoinSet::new();
    for (place, host) in hosts.iter().enumerate() {
        let (turns, cancel, name) = (Arc::clone(&turns), cancel.clone(), host.clone());
        let begun = work(host.clone());
        set.spawn(async move {
            // The semaphore is never closed: a missing permit could only mean that, and then nobody waits for turns.
            let _turn = turns.acquire_owned().await.ok();
            let began = Instant::now();
            let ending = if cancel.is_cancelled() { Ending::bad(Severity::Interrupted, "not begun", None) } else { begun.await };
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
    RunReport { outcomes: hosts.iter().zip(outcomes).map(|(host, o)| o.unwrap_or_else(|| lost(host))).collect() }
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
        let report = run(&hosts(&["a", "b", "c"]), 2, &cancel, |host| async move {
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
        let report = run(&hosts(&["a", "b"]), 1, &cancel, |_| {
            let canceller = Arc::clone(&canceller);
            async move {
                canceller.cancel();
                Ending::ok("done")
            }
        })
        .await;
        assert_eq!(report.outcomes.iter().filter(|o| o.severity == Severity::Interrupted).count(), 1);
    }
}
