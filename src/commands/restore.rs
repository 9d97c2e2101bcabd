//! `tanker restore`: prove, plan, ask, push, unpack to the side, and only then let the master cut over; it rolls back by
//! itself if that fails (I4).

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Context, library_ending, look, look_ending, refused, remote_ending};
use crate::fleet::Ending;
use crate::library::{Entry, verify};
use crate::model::astute;
use crate::model::facts::Facts;
use crate::model::id::{BackupRef, HostName};
use crate::model::inventory::Host;
use crate::model::manifest::{Description, Manifest};
use crate::model::release::Supervisor;
use crate::model::report::{Outcome, RunReport, Severity};
use crate::model::restore_plan::{RestorePlan, plan_restore};
use crate::monitor::{Event, Monitor, Step};
use crate::remote::job::{Job, JobEvent};
use crate::remote::link::Link;
use crate::remote::{RemoteError, Script};

/// A small file of the master's.
const READING: Duration = Duration::from_secs(60);

/// A restore that was planned and waits for a yes.
pub struct Prepared {
    entry: Entry,
    host: Host,
    facts: Facts,
    link: Link,
    /// What will happen.
    pub plan: RestorePlan,
    /// `HOST@ID`.
    pub name: String,
    began: Instant,
}

impl Prepared {
    /// Says goodbye to the target without having touched it.
    pub async fn leave(self) {
        self.link.close().await;
    }
}

/// Proves the archive, looks at the target and decides. Nothing on the target changes.
///
/// # Errors
/// With a report of one outcome, when the archive is damaged or anything forbids the restore.
pub async fn prepare(ctx: &Context, backup: &BackupRef, to: &HostName, ignore_tasks: bool) -> Result<Prepared, RunReport> {
    let began = Instant::now();
    try_prepare(ctx, backup, to, ignore_tasks, began).await.map_err(|ending| {
        ctx.monitor.event(to, Event::Finished);
        report(to, ending, began)
    })
}

async fn try_prepare(ctx: &Context, backup: &BackupRef, to: &HostName, ignore_tasks: bool, began: Instant) -> Result<Prepared, Ending> {
    let host = ctx.host(to)?;
    // The backup may be of a host that keeps its archives elsewhere, or is no longer in the inventory.
    let source = ctx.inventory.host(&backup.host).unwrap_or(&host);
    let entry = ctx.library(source).find(backup).map_err(|e| library_ending(&e))?;
    ctx.step(&host, Step::Prove);
    let proven = entry.clone();
    tokio::task::spawn_blocking(move || verify(&proven))
        .await
        .map_err(|e| Ending::bad(Severity::Failed, e.to_string(), None))?
        .map_err(|e| library_ending(&e))?;
    let mut link = ctx.open(&host).await?;
    ctx.step(&host, Step::Preflight);
    let (facts, tasks) = look(&mut link).await.map_err(|e| look_ending(&host, &e))?;
    let hint = tasks.is_err().then(|| "where nailgun is what has to be restored, '--ignore-tasks' goes on without asking it".to_owned());
    let plan = plan_restore(&entry.manifest, &facts, tasks, ignore_tasks).map_err(|reasons| refused(&reasons, hint))?;
    let name = entry.name();
    Ok(Prepared { entry, host, facts, link, plan, name, began })
}

/// Carries a prepared restore out.
pub async fn execute(ctx: &Context, prepared: Prepared) -> RunReport {
    let Prepared { entry, host, facts, mut link, began, .. } = prepared;
    let job = Job::new(&format!("restore-{}", entry.manifest.description.id));
    let ready = tokio::select! {
        ready = bring_over(ctx, &host, &job, &mut link, &entry) => ready,
        () = ctx.cancel.cancelled() => Err(Ending::bad(Severity::Interrupted, "interrupted before the cutover: nothing was changed", None)),
    };
    let ending = match ready {
        Ok(merged) => cut_over(ctx, &host, &job, &mut link, &entry.manifest, &facts, merged).await,
        Err(ending) => {
            ctx.step(&host, Step::Clean);
            match job.clean(&mut link).await {
                Ok(()) => ending,
                Err(e) => Ending { summary: format!("{}; and it could not be cleaned up: {e}", ending.summary), ..ending },
            }
        }
    };
    link.close().await;
    ctx.monitor.event(&host.name, Event::Finished);
    report(&host.name, ending, began)
}

/// A report with the one outcome of a restore.
fn report(host: &HostName, ending: Ending, began: Instant) -> RunReport {
    let outcome =
        Outcome { host: host.clone(), severity: ending.severity, summary: ending.summary, hint: ending.hint, took: began.elapsed() };
    RunReport { outcomes: vec![outcome] }
}

/// Everything that the master doesn't notice: push, unpack, stage, load, and the merged astute.yaml.
async fn bring_over(ctx: &Context, host: &Host, job: &Job, link: &mut Link, entry: &Entry) -> Result<Option<String>, Ending> {
    let manifest = &entry.manifest;
    // What an earlier, interrupted run of this restore left would be in the way.
    job.clean(link).await.map_err(|e| remote_ending(host, &e))?;
    push(ctx, host, job, link, entry).await?;
    let backup = &manifest.description;
    let files = [
        ("containers", containers(backup).into_bytes()),
        ("directories", lines(backup.directories.iter().map(String::as_str)).into_bytes()),
        ("volumes", lines(backup.volumes.iter().map(|v| format!("{} {} {}", v.member, v.service, v.path))).into_bytes()),
        ("members", lines(manifest.archive.members.iter().map(|m| format!("{} {}", m.bytes, m.name))).into_bytes()),
    ];
    job.start(link, "prepare", &ctx.owner, std::slice::from_ref(&backup.stock_id), &files).await.map_err(|e| remote_ending(host, &e))?;
    let mut failed = None;
    job.follow(link, 0, |event| show(ctx, host, &mut failed, event)).await.map_err(|e| remote_ending(host, &e))?;
    if let Some((step, reason)) = failed {
        return Err(Ending::bad(Severity::Failed, format!("{step}: {reason}; nothing in use was changed"), None));
    }
    ctx.step(host, Step::Merge);
    merge_astute(host, job, link, backup).await
}

async fn push(ctx: &Context, host: &Host, job: &Job, link: &mut Link, entry: &Entry) -> Result<(), Ending> {
    ctx.step(host, Step::Push);
    let archive = &entry.manifest.archive;
    let path = entry.archive();
    let script = Script::receive([job.path().to_owned(), "archive.tar.lrz".to_owned(), archive.bytes.to_string(), archive.sha256.clone()]);
    let mut attempt = 1;
    loop {
        let file = File::open(&path).map_err(|e| Ending::bad(Severity::Failed, format!("{} can't be read: {e}", path.display()), None))?;
        let counted = Counted { inner: file, bytes: 0, total: archive.bytes, host: host.name.clone(), monitor: Arc::clone(&ctx.monitor) };
        let pushed = match link.session().await {
            Ok(session) => session.push(&script, counted).await.map(drop),
            Err(e) => Err(e),
        };
        match pushed {
            Ok(()) => return Ok(()),
            Err(e @ (RemoteError::Lost(_) | RemoteError::Unreachable { .. })) if attempt < 4 => {
                link.drop_session();
                ctx.note(host, format!("{e}; sending again"));
                tokio::time::sleep(Duration::from_secs(attempt * 2)).await;
                attempt += 1;
            }
            Err(e) => return Err(remote_ending(host, &e)),
        }
    }
}

/// Tells how far a file was read.
struct Counted {
    inner: File,
    bytes: u64,
    total: u64,
    host: HostName,
    monitor: Arc<dyn Monitor>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 {
            return Ok(0);
        }
        self.bytes += read as u64;
        self.monitor.event(&self.host, Event::Progress { bytes: self.bytes, total: Some(self.total) });
        Ok(read)
    }
}

fn lines<S: AsRef<str>>(items: impl Iterator<Item = S>) -> String {
    items.map(|item| format!("{}\n", item.as_ref())).collect()
}

fn containers(backup: &Description) -> String {
    lines(backup.containers.iter().map(|c| format!("{} {} {}", c.service, c.name, c.image)))
}

/// The backup's astute.yaml with the target's network settings; none where the backup has no such file.
async fn merge_astute(host: &Host, job: &Job, link: &mut Link, backup: &Description) -> Result<Option<String>, Ending> {
    if !backup.directories.iter().any(|d| d == "/etc/fuel") {
        return Ok(None);
    }
    let name = job.path().rsplit('/').next().unwrap_or_default();
    let staged = format!("/etc/.tanker-new-{name}-fuel/astute.yaml");
    let mut read = async |path: &str| -> Result<String, Ending> {
        let bytes = link.run(&Script::read([path, "0"]), READING, READING).await.map_err(|e| remote_ending(host, &e))?;
        String::from_utf8(bytes).map_err(|_| Ending::bad(Severity::Failed, format!("{path} is no UTF-8 text"), None))
    };
    let (theirs, ours) = (read(&staged).await?, read("/etc/fuel/astute.yaml").await?);
    let merged =
        astute::merge(&theirs, &ours).map_err(|e| Ending::bad(Severity::Failed, format!("{e}; nothing in use was changed"), None))?;
    Ok(Some(merged))
}

/// From here on the master goes on by itself and ends in one of two ways: restored, or as it was.
async fn cut_over(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    manifest: &Manifest,
    facts: &Facts,
    merged: Option<String>,
) -> Ending {
    let backup = &manifest.description;
    let before = lines(facts.containers.iter().map(|c| format!("{} {} {}", c.service, c.name, c.image)));
    let volumes = facts
        .containers
        .iter()
        .flat_map(|c| c.volumes.iter().enumerate().map(move |(n, (path, _))| format!("{}.{n} {} {path}", c.service, c.service)));
    let mut files = vec![("before.containers", before.into_bytes()), ("before.volumes", lines(volumes).into_bytes())];
    if let Some(merged) = merged {
        files.push(("astute.yaml", merged.into_bytes()));
    }
    let supervisor = match backup.release.supervisor() {
        Supervisor::Supervisor => "supervisor",
        Supervisor::Systemd => "systemd",
    };
    let key = match link.session().await {
        Ok(session) => session.key.clone().unwrap_or_else(|| "-".into()),
        Err(e) => return undone(job, link, remote_ending(host, &e)).await,
    };
    let offset = match event_log_length(job, link).await {
        Ok(offset) => offset,
        Err(e) => return undone(job, link, remote_ending(host, &e)).await,
    };
    match job.start(link, "cutover", &ctx.owner, &[backup.stock_id.clone(), supervisor.into(), key], &files).await {
        Ok(()) => {}
        // It may have been started all the same: its log tells.
        Err(RemoteError::Lost(_) | RemoteError::TimedOut { .. }) => {}
        Err(e) => return undone(job, link, remote_ending(host, &e)).await,
    }
    let mut failed = None;
    let mut rolled_back = false;
    let mut stuck = None;
    let followed = job
        .follow(link, offset, |event| match event {
            JobEvent::RolledBack => rolled_back = true,
            JobEvent::Stuck(why) => stuck = Some(why),
            other => show(ctx, host, &mut failed, other),
        })
        .await;
    if let Err(e) = followed {
        let hint = format!(
            "the master ends the cutover by itself, restored or as it was: look with 'tanker check {0}' and 'tanker status {0}'",
            host.name
        );
        return Ending::bad(Severity::HalfRestored, format!("it could not be followed to its end: {e}"), Some(hint));
    }
    match (failed, rolled_back) {
        (None, _) => {
            ctx.step(host, Step::Clean);
            if let Err(e) = job.clean(link).await {
                ctx.note(host, format!("what was temporary could not be removed: {e}"));
            }
            Ending::ok(format!("restored {}@{}", backup.host, backup.id))
        }
        (Some((step, reason)), true) => {
            if let Err(e) = job.clean(link).await {
                ctx.note(host, format!("what was temporary could not be removed: {e}"));
            }
            Ending::bad(Severity::Failed, format!("{step}: {reason}; everything was put back as it was"), None)
        }
        (Some((step, reason)), false) => {
            let why = stuck.unwrap_or_else(|| "it ended before everything was put back".into());
            Ending::bad(
                Severity::HalfRestored,
                format!("{step}: {reason}; {why}"),
                Some(format!("what was replaced is kept in {} on the master", job.path())),
            )
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

fn show(ctx: &Context, host: &Host, failed: &mut Option<(String, String)>, event: JobEvent) {
    match event {
        JobEvent::Step(name, _) => {
            if let Some(step) = Step::from_log(&name) {
                ctx.step(host, step);
            }
        }
        JobEvent::Note(text) => ctx.note(host, text),
        JobEvent::Failed(step, reason) => {
            ctx.note(host, format!("{step} failed: {reason}"));
            *failed = Some((step, reason));
        }
        JobEvent::Growing(bytes) => ctx.monitor.event(&host.name, Event::Progress { bytes, total: None }),
        _ => {}
    }
}
