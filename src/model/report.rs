//! What a run came to: one outcome a host, and what the process ends with.

use std::time::Duration;

use super::id::HostName;
use super::text::{human_bytes, human_duration};

/// How a host's work ended, the least serious first: the run ends with its most serious one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Done.
    Ok,
    /// Its turn did not come: too many others had failed.
    Skipped,
    /// Stopped by the operator.
    Interrupted,
    /// Not begun, because something forbids it; nothing was changed.
    Refused,
    /// Not reached: network, key or login.
    Unreachable,
    /// Begun and failed; the master is as it was.
    Failed,
    /// An archive isn't what its manifest says.
    Damaged,
    /// A restore failed and could not be put back.
    HalfRestored,
    /// Containers may still be frozen: outranks everything.
    Frozen,
}

/// How a host's work ended, with its figures or its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whose.
    pub host: HostName,
    /// How serious it is.
    pub severity: Severity,
    /// One line: what was made, or what happened.
    pub summary: String,
    /// What to do now, where there is something.
    pub hint: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// All outcomes of a run, in the order of the hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunReport {
    /// One a host.
    pub outcomes: Vec<Outcome>,
}

impl RunReport {
    /// The most serious outcome; `Ok` for none.
    #[must_use]
    pub fn worst(&self) -> Severity {
        self.outcomes.iter().map(|outcome| outcome.severity).max().unwrap_or(Severity::Ok)
    }
}

impl Severity {
    /// The word of the recap.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "not begun",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
            Self::Damaged => "damaged",
            Self::HalfRestored => "HALF RESTORED",
            Self::Frozen => "STILL FROZEN",
        }
    }
}

/// The recap line of a finished backup.
#[must_use]
pub fn backup_summary(id: &str, bytes: u64, freeze: Duration) -> String {
    format!("{id}  {}  frozen {}", human_bytes(bytes), human_duration(freeze))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_the_worst_outcome_decides_and_a_frozen_master_outranks_all() {
        let outcome = |severity| Outcome { host: "a".parse().unwrap(), severity, summary: String::new(), hint: None, took: Duration::ZERO };
        let report = RunReport { outcomes: vec![outcome(Severity::Ok), outcome(Severity::Frozen), outcome(Severity::Failed)] };
        assert_eq!(report.worst(), Severity::Frozen);
        assert_eq!(RunReport::default().worst(), Severity::Ok);
    }
}
