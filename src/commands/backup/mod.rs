//! `tanker backup`: look, refuse or decide, let the master capture itself, bring the archive here, prove it, list it.

mod follow;
mod home;
mod key;
mod pipes;
mod seen;
mod start;

use std::time::Duration;

use home::{Captured, Way};
pub(super) use seen::frozen_of;
use seen::{Seen, after_failure};
use start::start;

use super::{Context, hint_for_tasks, hooks, library_ending, look, look_at_jobs, look_ending, refused, remote_ending};
use crate::fleet::{self, Ending, Pace};
use crate::library::{Arrival, HostLock, Library, lrzip_is_here};
use crate::model::astute::network_settings;
use crate::model::backup_plan::{BackupOptions, BackupPlan, plan_backup};
use crate::model::facts::{Facts, JobTrace};
use crate::model::id::{BackupId, HostName, stock_id};
use crate::model::inventory::Host;
use crate::model::manifest::{Description, FreezeMethod, Origin, archive_name};
use crate::model::pending::{Pending, parse_pending};
use crate::model::report::{RunReport, Severity, backup_summary};
use crate::model::text::human_bytes;
use crate::monitor::{Event, Step};
use crate::remote::RemoteError;
use crate::remote::job::Job;
use crate::remote::link::Link;

/// What the operator asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many at once, and when to stop.
    pub pace: Pace,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Go on with unfinished or unreadable tasks; the manifest says so.
    pub ignore_tasks: bool,
    /// How to freeze, instead of what the inventory says; `Some(None)` lets tanker choose.
    pub freeze: Option<Option<FreezeMethod>>,
    /// How long a freeze may take, instead of what the inventory says.
    pub freeze_timeout: Option<Duration>,
    /// No package repositories, no images but those that hold state.
    pub light: bool,
    /// Nothing is packed on the master: it has no room for it.
    pub no_spool: bool,
}

/// Backs up each host.
pub async fn backup(ctx: &Context, hosts: &[HostName], options: Options) -> RunReport {
    fleet::run(hosts, options.pace, &ctx.cancel, |name| {
        let ctx = ctx.clone();
        async move {
            let ending = with_hooks(&ctx, &name, options).await.unwrap_or_else(|ending| ending);
            ctx.monitor.event(&name, Event::Finished);
            ending
        }
    })
    .await
}

async fn with_hooks(ctx: &Context, name: &HostName, options: Options) -> Result<Ending, Ending> {
    let host = ctx.host(name)?;
    may_be_sealed(ctx, name)?;
    if options.dry_run {
        return backup_host(ctx, name, options).await;
    }
    hooks::before(ctx, &host).await?;
    let ending = backup_host(ctx, name, options).await.unwrap_or_else(|ending| ending);
    Ok(hooks::after(ctx, &host, ending).await)
}

/// What should be encrypted and can't be is not begun, and not gone on with: it would lie there in the clear (I6).
fn may_be_sealed(ctx: &Context, name: &HostName) -> Result<(), Ending> {
    let hint = "'tanker config check' finds that before a backup is due".to_owned();
    ctx.vault.sealless.get(name).map_or(Ok(()), |why| Err(refused(std::slice::from_ref(why), Some(hint))))
}

async fn backup_host(ctx: &Context, name: &HostName, options: Options) -> Result<Ending, Ending> {
    let mut host = ctx.host(name)?;
    host.freeze_timeout = options.freeze_timeout.or(host.freeze_timeout);
    let mut link = ctx.cancel.ends(ctx.open(&host)).await?;
    ctx.step(&host, Step::Preflight);
    let (facts, tasks) = ctx.cancel.ends(async { look(&mut link).await.map_err(|e| look_ending(&host, &e)) }).await?;
    let wanted = BackupOptions {
        ignore_tasks: options.ignore_tasks,
        freeze: options.freeze.unwrap_or(host.freeze),
        light: options.light,
        no_spool: options.no_spool || !host.spool,
    };
    let unreadable = tasks.as_ref().err().map(ToString::to_string);
    let hint = hint_for_tasks(&tasks).filter(|_| !options.ignore_tasks);
    let plan = plan_backup(&facts, tasks, wanted).map_err(|reasons| refused(&reasons, hint))?;
    for note in &plan.notes {
        ctx.note(&host, note);
    }
    if plan.no_spool && !lrzip_is_here() {
        let reason = "without a spool on the master the archive is packed here, and lrzip is not installed here".to_owned();
        return Err(refused(&[reason], Some("apt install lrzip".into())));
    }
    let recipients = ctx.vault.recipients.get(name).map(AsRef::as_ref);
    if plan.no_spool && recipients.is_some() {
        let reason = "without a spool on the master the archive is packed on this disk before it can be encrypted".to_owned();
        return Err(refused(&[reason], Some("make room on the master, or say 'encrypt_to = []' for this host".into())));
    }
    if options.dry_run {
        link.close().await;
        return Ok(Ending::ok(would_do(&plan)));
    }

    let library = ctx.library(&host);
    let lock = library.lock(name, &ctx.owner).map_err(|e| library_ending(&e))?;
    ctx.cancel.gives_up(give_up_earlier(ctx, &host, &mut link, &library, &lock, &facts.jobs)).await?;
    library.room_for_another(name).map_err(|e| library_ending(&e))?;
    let description = describe(ctx, &host, &facts, &plan, &library);
    // Ids come again after an hour's end; a job's folder must never be that of an earlier one.
    let job = Job::new(&format!("backup-{}.{}", description.id, description.started.timestamp_millis()));
    let pending = Pending::new(job.name(), description, &plan, unreadable);
    if let Err(e) = start(ctx, &host, &job, &mut link, &pending.description, &plan).await {
        let ending = frozen_of(name, &e).unwrap_or_else(|| remote_ending(&host, &e));
        if matches!(e, RemoteError::Lost(_) | RemoteError::TimedOut { .. }) {
            // It may have been started all the same.
            return Err(after_failure(ending, job.clean(&mut link).await, &Seen { frozen: true, ..Seen::default() }, &pending));
        }
        return Err(ending);
    }
    let way = Way { ctx, host: &host, job: &job, library: &library, pending: &pending };
    let mut seen = Seen::default();
    let work = async {
        let id = &pending.description.id;
        if plan.no_spool {
            let parcel = library.begin_parcel(lock, name, id, plan.packing_bytes).map_err(|e| NotHome::Failed(library_ending(&e)))?;
            let most = plan.packing_bytes.saturating_mul(4).saturating_add(1 << 30);
            return Box::pin(way.bring_members_home(&mut link, parcel, most, &mut seen)).await;
        }
        let note = serde_json::to_vec_pretty(&pending).map_err(|e| NotHome::Failed(Ending::bad(Severity::Failed, e.to_string(), None)))?;
        let file = archive_name(&pending.description.stock_id);
        let mut writer = library
            .begin(lock, name, id, &Arrival { name: &file, bytes: 0, note: Some(&note), to: recipients })
            .map_err(|e| NotHome::Failed(library_ending(&e)))?;
        writer.keep();
        // Large ones, one inside the other, are more than a thread's stack holds.
        Box::pin(way.bring_home(&mut link, writer, &mut seen)).await
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = ctx.cancel.cancelled() => Err(NotHome::stopped(ctx, plan.no_spool)),
    };
    finish(&way, link, outcome, &seen).await
}

/// Why an archive is not home.
enum NotHome {
    /// It will not come: everything is cleaned up.
    Failed(Ending),
    /// The line is lost, or this disk takes no more: the master goes on packing, and a later run goes on from here.
    Later(Ending),
}

/// Goes on, on each host, with what an earlier run did not bring to its end.
pub async fn resume(ctx: &Context, hosts: &[HostName], pace: Pace) -> RunReport {
    fleet::run(hosts, pace, &ctx.cancel, |name| {
        let ctx = ctx.clone();
        async move {
            let ending = resume_host(&ctx, &name).await.unwrap_or_else(|ending| ending);
            ctx.monitor.event(&name, Event::Finished);
            ending
        }
    })
    .await
}

async fn resume_host(ctx: &Context, name: &HostName) -> Result<Ending, Ending> {
    let host = ctx.host(name)?;
    may_be_sealed(ctx, name)?;
    let library = ctx.library(&host);
    let nothing = || {
        let why = "there is nothing to go on with: no backup of it was left under way in this library".to_owned();
        refused(&[why], None)
    };
    // A library that knows nothing of it stays as it is.
    if library.pending(name).map_err(|e| library_ending(&e))?.is_none() {
        return Err(nothing());
    }
    let lock = library.lock(name, &ctx.owner).map_err(|e| library_ending(&e))?;
    let Some((id, note)) = library.pending(name).map_err(|e| library_ending(&e))? else {
        return Err(nothing());
    };
    let pending = parse_pending(&note).map_err(|why| refused(&[why], Some("run a new backup".into())))?;
    hooks::before(ctx, &host).await?;
    let ending = resume_pending(ctx, &host, library, lock, id, pending).await.unwrap_or_else(|ending| ending);
    Ok(hooks::after(ctx, &host, ending).await)
}

async fn resume_pending(
    ctx: &Context,
    host: &Host,
    library: Library,
    lock: HostLock,
    id: BackupId,
    pending: Pending,
) -> Result<Ending, Ending> {
    let name = &host.name;
    let mut link = ctx.cancel.ends(ctx.open(host)).await?;
    ctx.step(host, Step::Preflight);
    let jobs = ctx.cancel.ends(async { look_at_jobs(&mut link).await.map_err(|e| look_ending(host, &e)) }).await?;
    let Some(trace) = jobs.iter().find(|job| job.name == pending.job) else {
        library.give_up(&lock, name, &id).map_err(|e| library_ending(&e))?;
        let why = format!("the master has nothing left of {id}: it was rebuilt, or cleaned up");
        return Err(Ending::bad(Severity::Failed, why, Some("run a new backup".into())));
    };
    let mut seen = Seen { is_past: !trace.frozen && trace.packed.is_some(), is_resumed: true, ..Seen::default() };
    let job = Job::new(&pending.job);
    let way = Way { ctx, host, job: &job, library: &library, pending: &pending };
    let work = async {
        let file = archive_name(&pending.description.stock_id);
        let (from, of, which, to) = (library.clone(), name.clone(), id.clone(), ctx.vault.recipients.get(name).cloned());
        let key = if to.is_some() { way.kept_key(&mut link).await? } else { None };
        // What has arrived is read again, which takes a while.
        let reopen = move || from.reopen(lock, &of, &which, &file, to.as_deref().map(|to| (to, key.as_ref())));
        let writer = tokio::task::spawn_blocking(reopen).await;
        let writer = writer.map_err(|e| NotHome::Failed(Ending::bad(Severity::Failed, e.to_string(), None)))?;
        let writer = writer.map_err(|e| NotHome::of_library(&e))?;
        ctx.note(host, format!("{} of {id} are here already", human_bytes(writer.bytes())));
        Box::pin(way.bring_home(&mut link, writer, &mut seen)).await
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = ctx.cancel.cancelled() => Err(NotHome::stopped(ctx, false)),
    };
    finish(&way, link, outcome, &seen).await
}

/// Publishes what is home and cleans the master up; leaves both sides as they are where a later run can go on.
async fn finish(way: &Way<'_>, mut link: Link, outcome: Result<Captured, NotHome>, seen: &Seen) -> Result<Ending, Ending> {
    let Way { ctx, host, job, library, pending } = way;
    let published = outcome.and_then(|captured| {
        let (received, manifest) = captured.describe(ctx, pending, seen);
        ctx.step(host, Step::Publish);
        received.commit(&manifest).map_err(|e| NotHome::of_library(&e))
    });
    let published = match published {
        Ok(entry) => Ok(entry),
        // Only a capture that is over can be gone on with.
        Err(NotHome::Later(mut ending)) if seen.is_packing() && library.pending(&host.name).is_ok_and(|pending| pending.is_some()) => {
            link.close().await;
            ending.summary = format!("{}; the master goes on packing {}", ending.summary, pending.description.id);
            let before = ending
                .hint
                .take()
                .filter(|_| ending.severity != Severity::Interrupted)
                .map_or(String::new(), |hint| format!("{hint}; then "));
            ending.hint = Some(format!("{before}'tanker backup --resume {}' goes on where this stopped", host.name));
            return Err(ending);
        }
        Err(NotHome::Later(ending) | NotHome::Failed(ending)) => Err(ending),
    };
    ctx.step(host, Step::Clean);
    let cleaned = tokio::select! {
        cleaned = job.clean(&mut link) => cleaned,
        // What isn't said any more is as good as a line that is lost.
        () = ctx.cancel.insisted() => Err(RemoteError::Lost("given up as told to".into())),
    };
    link.close().await;
    match published {
        Err(ending) => {
            // Where the master could not be told, it may have packed all the same: what a later run needs to look for it stays.
            let untold = seen.failed.is_none() && cleaned.as_ref().is_err_and(RemoteError::is_broken_line);
            if !untold {
                give_up(way).await;
            }
            let mut ending = after_failure(ending, cleaned, seen, pending);
            if untold && ending.severity != Severity::Frozen {
                let resumes = library.pending(&host.name).is_ok_and(|pending| pending.is_some());
                ending.hint = Some(match resumes {
                    true => format!("'tanker backup --resume {}' looks whether the master has packed all the same", host.name),
                    false => "nothing of it was kept: run it again; the next backup of this master removes what was left".to_owned(),
                });
            }
            Err(ending)
        }
        Ok(entry) => {
            if let Some(mut frozen) = cleaned.as_ref().err().and_then(|e| frozen_of(&host.name, e)) {
                frozen.summary = format!("{}; the backup {} is whole", frozen.summary, pending.description.id);
                return Err(frozen);
            }
            if let Err(e) = cleaned {
                ctx.note(host, format!("the backup is whole, but the master could not be cleaned up: {e}"));
            }
            let manifest = &entry.manifest;
            let freeze = Duration::from_millis(manifest.freeze.milliseconds);
            Ok(Ending::ok(backup_summary(manifest.description.id.as_str(), manifest.archive.bytes, freeze)))
        }
    }
}

/// Nobody will go on with it. A thread that is still reading or writing the archive has the lock for a moment.
async fn give_up(way: &Way<'_>) {
    for pause in [0, 100, 300, 1000, 3000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let Ok(lock) = way.library.lock(&way.host.name, &way.ctx.owner) else { continue };
        if let Err(e) = way.library.give_up(&lock, &way.host.name, &way.pending.description.id) {
            way.ctx.note(way.host, e.to_string());
        }
        return;
    }
    way.ctx.note(way.host, "what has arrived of it is left in the library: the next backup removes it");
}

/// A new backup takes the place of one of this library that did not come to its end, and removes what is left of those that did.
async fn give_up_earlier(
    ctx: &Context,
    host: &Host,
    link: &mut Link,
    library: &Library,
    lock: &HostLock,
    jobs: &[JobTrace],
) -> Result<(), Ending> {
    let pending = library.pending(&host.name).map_err(|e| library_ending(&e))?;
    let (entries, _) = library.list(Some(&host.name)).map_err(|e| library_ending(&e))?;
    let listed =
        entries.iter().map(|e| format!("backup-{}.{}", e.manifest.description.id, e.manifest.description.started.timestamp_millis()));
    let mut done: Vec<String> = listed.collect();
    if let Some((id, note)) = pending {
        ctx.note(host, format!("{id}, which an earlier run did not bring to its end, is given up"));
        done.extend(parse_pending(&note).ok().map(|pending| pending.job));
        library.give_up(lock, &host.name, &id).map_err(|e| library_ending(&e))?;
    }
    for job in jobs.iter().filter(|job| done.contains(&job.name)) {
        let stays = |e: RemoteError| frozen_of(&host.name, &e).unwrap_or_else(|| remote_ending(host, &e));
        Job::new(&job.name).clean(link).await.map_err(stays)?;
    }
    Ok(())
}

fn would_do(plan: &BackupPlan) -> String {
    let running = plan.containers.iter().filter(|(c, _)| c.running).count();
    let images = plan.containers.iter().filter(|(_, taken)| *taken).count();
    let packed_here = if plan.no_spool { format!(" and {} here, to pack it", human_bytes(plan.packing_bytes)) } else { String::new() };
    format!(
        "would freeze {running} of {} containers ({}), take {images} images, {} volumes and {} directories; needs {} of spool{packed_here}",
        plan.containers.len(),
        plan.freeze.as_str(),
        plan.volumes.len(),
        plan.directories.len(),
        human_bytes(plan.spool_bytes)
    )
}

fn describe(ctx: &Context, host: &Host, facts: &Facts, plan: &BackupPlan, library: &Library) -> Description {
    let started = (ctx.clock)();
    let taken = |id: &BackupId| library.is_taken(&host.name, id);
    let id = if library.is_mirror() { BackupId::at_a_shared_home(started, &ctx.owner, taken) } else { BackupId::at(started, taken) };
    Description {
        host: host.name.clone(),
        id,
        stock_id: stock_id(started),
        started,
        tanker: env!("CARGO_PKG_VERSION").to_owned(),
        release: facts.release.clone(),
        hostname: facts.hostname.clone(),
        uuid: facts.uuid.clone(),
        docker_version: facts.docker_version.clone(),
        containers: plan.containers.iter().filter(|(_, taken)| *taken).map(|(c, _)| c.clone()).collect(),
        directories: plan.directories.clone(),
        volumes: plan.volumes.iter().map(|(volume, _)| volume.clone()).collect(),
        network: network_settings(&facts.astute),
        contents: plan.contents,
        origin: Origin::Tanker,
    }
}
