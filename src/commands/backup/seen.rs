//! What a backup's job tells while it runs, and what a failure comes to: whether the master is thawed outranks all else.

use std::time::Duration;

use super::super::Context;
use crate::fleet::Ending;
use crate::model::facts::parse_frames;
use crate::model::id::HostName;
use crate::model::inventory::Host;
use crate::model::manifest::FreezeMethod;
use crate::model::pending::Pending;
use crate::model::release::START_ORDER;
use crate::model::report::Severity;
use crate::model::text::{first_ten, printable};
use crate::monitor::{Event, Step};
use crate::remote::job::JobEvent;
use crate::remote::{RemoteError, TANKER_ROOT};

/// What the job's event log told.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) steps: Vec<(String, u64)>,
    pub(super) predicted: Option<u64>,
    pub(super) frozen: bool,
    pub(super) thawed: Option<u64>,
    pub(super) stuck: Option<String>,
    pub(super) tasks_code: Option<i64>,
    pub(super) tar_bytes: u64,
    pub(super) archive: Option<(u64, String, String)>,
    pub(super) failed: Option<(String, String)>,
    pub(super) notes: Vec<String>,
    /// An earlier run's job that has packed: its freeze is over, whatever of its log was read by now.
    pub(super) is_past: bool,
    /// An earlier run's job: it is left as it was found where this run can't go on with it.
    pub(super) is_resumed: bool,
}

impl Seen {
    pub(super) fn take(&mut self, ctx: &Context, host: &Host, event: JobEvent) {
        match event {
            JobEvent::Step(name, at) => {
                if let Some(step) = Step::from_log(&name) {
                    ctx.step(host, step);
                }
                self.steps.push((name, at));
            }
            JobEvent::Predicted(ms) => {
                self.predicted = Some(ms);
                ctx.monitor.event(&host.name, Event::Predicted(Duration::from_millis(ms)));
            }
            JobEvent::Frozen => {
                self.frozen = true;
                ctx.monitor.event(&host.name, Event::Frozen);
            }
            JobEvent::Thawed(ms) => {
                self.thawed = Some(ms);
                ctx.monitor.event(&host.name, Event::Thawed(Duration::from_millis(ms)));
            }
            JobEvent::Void(reason) => ctx.note(host, format!("the capture is void: {reason}")),
            JobEvent::Stuck(names) => self.stuck = Some(names),
            JobEvent::Tasks(code) => self.tasks_code = Some(code),
            JobEvent::Tar(bytes) => self.tar_bytes = bytes,
            JobEvent::Archive(bytes, sha256, file) => self.archive = Some((bytes, sha256, file)),
            JobEvent::Note(text) => {
                ctx.note(host, text.clone());
                self.notes.push(text);
            }
            JobEvent::Growing(bytes) => {
                let total = (self.tar_bytes > 0).then_some(self.tar_bytes);
                ctx.monitor.event(&host.name, Event::Progress { bytes, total: total.filter(|total| bytes <= *total) });
            }
            JobEvent::Failed(step, reason) => self.failed = Some((step, reason)),
            JobEvent::Member(_) | JobEvent::Sent(..) | JobEvent::Part(..) | JobEvent::RolledBack | JobEvent::Finished => {}
        }
    }

    /// Whether the capture is over and nothing is frozen any more: what is left needs nobody.
    pub(super) fn is_packing(&self) -> bool {
        self.failed.is_none()
            && self.stuck.is_none()
            && (self.is_past || self.is_resumed || self.steps.iter().any(|(name, _)| name == "save"))
    }

    /// The steps of the freeze with their milliseconds.
    pub(super) fn freeze_steps(&self) -> Vec<(String, u64)> {
        let frozen = ["freeze", "commit", "delta", "thaw"];
        let next = self.steps.iter().skip(1).map(|(_, at)| *at);
        self.steps
            .iter()
            .zip(next)
            .filter(|((name, _), _)| frozen.contains(&name.as_str()))
            .map(|((name, at), end)| (name.clone(), end.saturating_sub(*at)))
            .collect()
    }
}

/// What a failure comes to once the master was told to clean up: whether it is thawed outranks why it failed (I1).
pub(super) fn after_failure(mut ending: Ending, cleaned: Result<(), RemoteError>, seen: &Seen, pending: &Pending) -> Ending {
    let Err(error) = cleaned else { return ending };
    if let Some(frozen) = frozen_of(&pending.description.host, &error) {
        return frozen;
    }
    // A job that nobody saw fail may freeze after the line was lost.
    let may_freeze = pending.freeze != FreezeMethod::None && !seen.is_past && (seen.frozen || seen.failed.is_none());
    let unconfirmed = seen.stuck.is_some() || (may_freeze && seen.thawed.is_none());
    if unconfirmed {
        let mut frozen = still_frozen(&pending.description.host, &pending.running, pending.freeze);
        frozen.summary = format!("{}; that its containers are thawed can't be confirmed ({error})", ending.summary);
        return frozen;
    }
    ending.summary = format!("{}; and it could not be cleaned up: {error}", ending.summary);
    ending.hint = Some("the next backup of this master removes what was left".into());
    ending
}

/// What a script's failure comes to where it says that containers stay frozen: nothing else counts then.
pub(in crate::commands) fn frozen_of(host: &HostName, error: &RemoteError) -> Option<Ending> {
    let RemoteError::Script { stdout, .. } = error else { return None };
    let frames = parse_frames(stdout).ok()?;
    let names: Vec<String> = frames.get("frozen")?.split_whitespace().map(printable).collect();
    let method = match frames.get("method").map_or("", |method| method.trim()) {
        "cgroup" => FreezeMethod::Cgroup,
        "stop" => FreezeMethod::Stop,
        _ => FreezeMethod::Pause,
    };
    Some(still_frozen(host, &names, method))
}

/// Containers that are or may be frozen, with the command that ends it.
pub(in crate::commands) fn still_frozen(host: &HostName, names: &[String], method: FreezeMethod) -> Ending {
    if names == ["supervisor"] {
        let hint = "on the master: supervisorctl start all (8.0: for s in $(dockerctl list); do systemctl start docker-$s; done)";
        return Ending::bad(
            Severity::Frozen,
            "the containers run, but their supervisor was not told to watch them again",
            Some(hint.into()),
        );
    }
    let are = if names.len() == 1 { "container is" } else { "containers are" };
    let summary = format!("{} {are} still frozen: {}", names.len(), first_ten(names, " "));
    let command = match method {
        // The job's list names the kernel's files; a Docker that old has no command for it.
        FreezeMethod::Cgroup => format!("for f in $(cut -d' ' -f2 {TANKER_ROOT}/*/frozen); do echo THAWED > $f; done"),
        FreezeMethod::Stop => {
            "dockerctl start all; supervisorctl start all || for s in $(dockerctl list); do systemctl start docker-$s; done".to_owned()
        }
        // More than a release has containers: the master's list names them all, a line here could not.
        FreezeMethod::Pause | FreezeMethod::None if names.len() > START_ORDER.len() => {
            format!("for c in $(cut -d' ' -f1 {TANKER_ROOT}/*/frozen); do docker unpause $c; done")
        }
        FreezeMethod::Pause | FreezeMethod::None => format!("for c in {}; do docker unpause $c; done", names.join(" ")),
    };
    Ending::bad(Severity::Frozen, summary, Some(format!("run 'tanker thaw {host}', or on the master itself: {command}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_a_master_that_names_frozen_containers_without_end_fills_no_screen() {
        let host: HostName = "m".parse().unwrap();
        let names: Vec<String> = (0..50_000).map(|n| format!("fuel-{n}")).collect();
        let ending = still_frozen(&host, &names, FreezeMethod::Pause);
        let (summary, hint) = (ending.summary, ending.hint.unwrap());
        assert!(summary.starts_with("50000 containers are still frozen: fuel-0 ") && summary.ends_with("and 49990 more"), "{summary}");
        assert!(hint.len() < 300 && hint.contains("docker unpause $c"), "{hint}");
        // What a release has is named: the command must leave nobody out.
        let hint = still_frozen(&host, &names[..11], FreezeMethod::Pause).hint.unwrap();
        assert!(hint.contains("for c in fuel-0 fuel-1 ") && hint.contains(" fuel-10; do"), "{hint}");
    }
}
