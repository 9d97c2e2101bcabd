//! The cutover as seen from here: begun, followed to its end, and what it came to. The master needs nobody for it.

use super::super::{Context, READING, remote_ending};
use super::{Chosen, lines};
use crate::fleet::Ending;
use crate::model::facts::Container;
use crate::model::inventory::Host;
use crate::model::report::Severity;
use crate::model::restore_parts::Selection;
use crate::monitor::{Event, Step};
use crate::remote::job::{Job, JobEvent};
use crate::remote::link::Link;
use crate::remote::{BUSY, RemoteError, Script};

/// What a cutover is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Restore.
    Forward,
    /// Put an unfinished one back, then restore.
    Resume,
    /// Put an unfinished one back.
    Rollback,
}

/// What the script is to do.
struct Order<'a> {
    way: Way,
    args: &'a [String],
    files: &'a [(&'a str, Vec<u8>)],
    /// What is restored, for the last word.
    name: &'a str,
}

/// From here on the master goes on by itself and ends in one of two ways: restored, or as it was.
///
/// `merged` is the astute.yaml to put in place.
pub(super) async fn cut_over(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    chosen: &Chosen<'_>,
    merged: Option<String>,
) -> Ending {
    let (backup, Chosen { selection, facts, .. }) = (&chosen.entry.manifest.description, chosen);
    let mut files = vec![
        ("before.containers", chosen.before()),
        ("before.volumes", lines(facts.containers.iter().flat_map(|c| volumes_that_change(c, selection))).into_bytes()),
    ];
    if let Some(merged) = merged {
        files.push(("astute.yaml", merged.into_bytes()));
    }
    let supervisor = backup.release.supervisor().as_str();
    let key = match link.session().await {
        Ok(session) => session.key.clone().unwrap_or_else(|| "-".into()),
        Err(e) => return undone(job, link, remote_ending(host, &e)).await,
    };
    let ready = host.ready_timeout.as_secs().to_string();
    let args = ["forward".to_owned(), backup.stock_id.clone(), supervisor.to_owned(), key, ready];
    let name = format!("{}@{}", backup.host, backup.id);
    run(ctx, host, job, link, Order { way: Way::Forward, args: &args, files: &files, name: &name }).await
}

/// The volumes of a container that the restore replaces, as `MEMBER SERVICE PATH`.
fn volumes_that_change(container: &Container, selection: &Selection) -> Vec<String> {
    let anew = selection.containers.iter().any(|c| c.service == container.service);
    let filled = |path: &str| selection.volumes.iter().any(|v| v.service == container.service && v.path == path);
    let changing = container.volumes.iter().enumerate().filter(|(_, (path, _))| anew || filled(path));
    changing.map(|(n, (path, _))| format!("{}.{n} {} {path}", container.service, container.service)).collect()
}

/// Ends a restore that came to no end.
pub(super) async fn finish_half(ctx: &Context, host: &Host, job: &Job, link: &mut Link, way: Way) -> Ending {
    let word = if way == Way::Resume { "resume" } else { "rollback" };
    let name = job.path().rsplit('/').next().unwrap_or_default().to_owned();
    run(ctx, host, job, link, Order { way, args: &[word.to_owned()], files: &[], name: &name }).await
}

async fn run(ctx: &Context, host: &Host, job: &Job, link: &mut Link, order: Order<'_>) -> Ending {
    let offset = match event_log_length(job, link).await {
        Ok(offset) => offset,
        Err(e) => return undone(job, link, remote_ending(host, &e)).await,
    };
    match job.start(link, "cutover", &ctx.owner_now(), order.args, order.files).await {
        Ok(()) => {}
        // It may have been started all the same: its log tells.
        Err(RemoteError::Lost(_) | RemoteError::TimedOut { .. }) => {}
        Err(e @ RemoteError::Script { code: BUSY, .. }) => return remote_ending(host, &e),
        Err(e) => return undone(job, link, remote_ending(host, &e)).await,
    }
    let mut seen = Seen::default();
    if let Err(e) = job.follow(link, offset, |event| seen.take(ctx, host, event)).await {
        let hint = format!(
            "the master ends the cutover by itself, restored or as it was, unless it is restarted meanwhile: look with 'tanker status {0}'; \
             if that says HALF RESTORED, 'tanker restore --to {0} --rollback' puts it back and '--resume' does it again",
            host.name
        );
        return Ending::bad(Severity::HalfRestored, format!("it could not be followed to its end: {e}"), Some(hint));
    }
    seen.ending(ctx, host, job, link, &order).await
}

/// What the event log told.
#[derive(Default)]
struct Seen {
    failed: Option<(String, String)>,
    rolled_back: bool,
    stuck: Option<String>,
}

impl Seen {
    fn take(&mut self, ctx: &Context, host: &Host, event: JobEvent) {
        match event {
            JobEvent::RolledBack => self.rolled_back = true,
            JobEvent::Stuck(why) => self.stuck = Some(why),
            other => show(ctx, host, &mut self.failed, other),
        }
    }

    async fn ending(self, ctx: &Context, host: &Host, job: &Job, link: &mut Link, order: &Order<'_>) -> Ending {
        let (way, name) = (order.way, order.name);
        let whole = self.failed.is_none() || self.rolled_back;
        if whole {
            ctx.step(host, Step::Clean);
            if let Err(e) = job.clean(link).await {
                ctx.note(host, format!("what was temporary could not be removed: {e}"));
            }
        }
        match self.failed {
            None if way == Way::Rollback => Ending::ok(format!("put back as it was before {name}")),
            None => Ending::ok(format!("restored {name}")),
            Some((step, reason)) if self.rolled_back => {
                Ending::bad(Severity::Failed, format!("{step}: {reason}; everything was put back as it was"), None)
            }
            Some((step, reason)) => {
                let why = self.stuck.unwrap_or_else(|| "it ended before everything was put back".into());
                let hint = format!(
                    "what was replaced is kept in {} on the master; when the reason is gone, 'tanker restore --to {} --rollback' tries again",
                    job.path(),
                    host.name
                );
                Ending::bad(Severity::HalfRestored, format!("{step}: {reason}; {why}"), Some(hint))
            }
        }
    }
}

/// The cutover was not begun: what was prepared for it is removed.
async fn undone(job: &Job, link: &mut Link, mut ending: Ending) -> Ending {
    if let Err(e) = job.clean(link).await {
        ending.summary = format!("{}; and it could not be cleaned up: {e}", ending.summary);
    }
    ending
}

/// How much of the event log is of the preparation.
async fn event_log_length(job: &Job, link: &mut Link) -> Result<usize, RemoteError> {
    let script = Script::read([job.file("events"), "0".to_owned()]);
    link.run(&script, READING, READING).await.map(|bytes| bytes.len())
}

/// Events that a preparation and a cutover have in common.
pub(in crate::commands) fn show(ctx: &Context, host: &Host, failed: &mut Option<(String, String)>, event: JobEvent) {
    match event {
        JobEvent::Step(name, _) => {
            if let Some(step) = Step::from_log(&name) {
                ctx.step(host, step);
            }
        }
        JobEvent::Note(text) => ctx.note(host, text),
        JobEvent::Part(done, total, what) => ctx.monitor.event(&host.name, Event::Part { done, total, what }),
        JobEvent::Failed(step, reason) => {
            ctx.note(host, format!("{step} failed: {reason}"));
            *failed = Some((step, reason));
        }
        JobEvent::Growing(bytes) => ctx.monitor.event(&host.name, Event::Progress { bytes, total: None }),
        _ => {}
    }
}
