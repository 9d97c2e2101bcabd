//! `tanker backup`: look, refuse or decide, let the master capture itself, bring the archive here, prove it, list it.

mod pipes;
mod seen;

use std::time::Duration;

pub(super) use seen::still_frozen;
use seen::{Seen, after_failure};

use super::receive::{NotReceived, receive};
use super::{Context, READING, library_ending, look, look_ending, refused, remote_ending};
use crate::fleet::{self, Ending, Pace};
use crate::library::{HostLock, Library, Received, lrzip_is_here, walk};
use crate::model::astute::network_settings;
use crate::model::backup_plan::{BackupOptions, BackupPlan, plan_backup};
use crate::model::facts::Facts;
use crate::model::id::{BackupId, HostName, stock_id};
use crate::model::inventory::Host;
use crate::model::manifest::{
    Archive, CapturedContainer, Description, FORMAT, Freeze, FreezeMethod, Manifest, Member, Origin, Proof, ProofPlace, TaskRecord,
    archive_name,
};
use crate::model::report::{RunReport, Severity, backup_summary};
use crate::model::tasks::parse_tasks;
use crate::model::text::human_bytes;
use crate::monitor::{Event, Step};
use crate::remote::job::Job;
use crate::remote::link::Link;
use crate::remote::{RemoteError, Script};

/// lrzip testing a large archive on an old master.
const PROVING: Duration = Duration::from_secs(6 * 3600);

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
            let ending = backup_host(&ctx, &name, options).await.unwrap_or_else(|ending| ending);
            ctx.monitor.event(&name, Event::Finished);
            ending
        }
    })
    .await
}

async fn backup_host(ctx: &Context, name: &HostName, options: Options) -> Result<Ending, Ending> {
    let mut host = ctx.host(name)?;
    host.freeze_timeout = options.freeze_timeout.or(host.freeze_timeout);
    let mut link = ctx.open(&host).await?;
    ctx.step(&host, Step::Preflight);
    let (facts, tasks) = look(&mut link).await.map_err(|e| look_ending(&host, &e))?;
    let wanted = BackupOptions {
        ignore_tasks: options.ignore_tasks,
        freeze: options.freeze.unwrap_or(host.freeze),
        light: options.light,
        no_spool: options.no_spool || !host.spool,
    };
    let unreadable = tasks.as_ref().err().map(ToString::to_string);
    let plan = plan_backup(&facts, tasks, wanted).map_err(|reasons| refused(&reasons, None))?;
    for note in &plan.notes {
        ctx.note(&host, note);
    }
    if plan.no_spool && !lrzip_is_here() {
        let reason = "without a spool on the master the archive is packed here, and lrzip is not installed here".to_owned();
        return Err(refused(&[reason], Some("apt install lrzip".into())));
    }
    if options.dry_run {
        link.close().await;
        return Ok(Ending::ok(would_do(&plan)));
    }

    let library = ctx.library(&host);
    let lock = library.lock(name, &ctx.owner).map_err(|e| library_ending(&e))?;
    library.room_for_another(name).map_err(|e| library_ending(&e))?;
    let description = describe(ctx, &host, &facts, &plan, &library);
    // Ids come again after an hour's end; a job's folder must never be that of an earlier one.
    let job = Job::new(&format!("backup-{}.{}", description.id, description.started.timestamp_millis()));
    let mut seen = Seen::default();
    if let Err(e) = start(ctx, &host, &job, &mut link, &description, &plan).await {
        let ending = remote_ending(&host, &e);
        if matches!(e, RemoteError::Lost(_) | RemoteError::TimedOut { .. }) {
            // It may have been started all the same.
            return Err(after_failure(ending, job.clean(&mut link).await, &Seen { frozen: true, ..seen }, &plan));
        }
        return Err(ending);
    }
    let outcome = tokio::select! {
        outcome = capture(ctx, &host, &job, &mut link, &description, &plan, &library, lock, &mut seen) => outcome,
        () = ctx.cancel.cancelled() => Err(Ending::bad(Severity::Interrupted, "stopped as told to", None)),
    };
    let published = outcome.and_then(|captured| {
        let (received, manifest) = captured.describe(ctx, &description, &plan, &seen);
        let manifest = record_reason(manifest, unreadable);
        ctx.step(&host, Step::Publish);
        received.commit(&manifest).map_err(|e| library_ending(&e))
    });
    ctx.step(&host, Step::Clean);
    let cleaned = job.clean(&mut link).await;
    link.close().await;
    match published {
        Err(ending) => Err(after_failure(ending, cleaned, &seen, &plan)),
        Ok(entry) => {
            if let Err(e) = cleaned {
                ctx.note(&host, format!("the backup is whole, but the master could not be cleaned up: {e}"));
            }
            let manifest = &entry.manifest;
            let freeze = Duration::from_millis(manifest.freeze.milliseconds);
            Ok(Ending::ok(backup_summary(manifest.description.id.as_str(), manifest.archive.bytes, freeze)))
        }
    }
}

fn record_reason(mut manifest: Manifest, unreadable: Option<String>) -> Manifest {
    if let (TaskRecord::Ignored { reason, .. }, Some(why)) = (&mut manifest.tasks, unreadable) {
        *reason = Some(why);
    }
    manifest
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
    Description {
        host: host.name.clone(),
        id: BackupId::at(started, |id| library.is_taken(&host.name, id)),
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

async fn start(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    description: &Description,
    plan: &BackupPlan,
) -> Result<(), RemoteError> {
    let state = |running| if running { "freeze" } else { "keep" };
    let save = |taken| if taken { "image" } else { "no-image" };
    let line = |(c, taken): &(CapturedContainer, bool)| format!("{} {} {} {}\n", c.name, c.image, state(c.running), save(*taken));
    let containers: String = plan.containers.iter().map(line).collect();
    let directories: String = plan.directories.iter().map(|d| format!(" {}", d.trim_start_matches('/'))).collect();
    let volumes: String = plan.volumes.iter().map(|(volume, from)| format!("{} {from} .\n", volume.member)).collect();
    let json = serde_json::to_vec_pretty(description).map_err(|e| RemoteError::Answer(e.to_string()))?;
    let files = [
        ("containers", containers.into_bytes()),
        ("trees", format!("system-dirs.tar /{directories}\n{volumes}").into_bytes()),
        ("dump.name", description.release.dump_member().as_bytes().to_vec()),
        ("description.json", json),
    ];
    let form = if description.release.images_together() { "together" } else { "separate" };
    let args = [
        description.stock_id.clone(),
        "backup".to_owned(),
        plan.freeze.as_str().to_owned(),
        host.freeze_timeout.unwrap_or(plan.freeze.default_timeout()).as_secs().to_string(),
        host.lease.as_secs().to_string(),
        form.to_owned(),
        description.release.supervisor().as_str().to_owned(),
        if plan.no_spool { "pipe" } else { "spool" }.to_owned(),
    ];
    let owner = format!("{} since {}", ctx.owner, description.started.to_rfc3339());
    job.start(link, "backup", &owner, &args, &files).await
}

/// An archive that has arrived and was proven, with what the manifest needs of it.
struct Captured {
    received: Received,
    members: Vec<Member>,
    tar_bytes: u64,
    tasks: TaskRecord,
    proven: ProofPlace,
}

impl Captured {
    fn describe(self, ctx: &Context, description: &Description, plan: &BackupPlan, seen: &Seen) -> (Received, Manifest) {
        let manifest = Manifest {
            format: FORMAT,
            description: description.clone(),
            finished: (ctx.clock)(),
            archive: Archive {
                file: archive_name(&description.stock_id),
                bytes: self.received.bytes,
                sha256: self.received.sha256.clone(),
                tar_bytes: self.tar_bytes,
                members: self.members,
            },
            freeze: Freeze {
                method: plan.freeze,
                milliseconds: seen.thawed.unwrap_or(0),
                consistent: plan.freeze != FreezeMethod::None,
                steps: seen.freeze_steps(),
                predicted_milliseconds: seen.predicted,
            },
            tasks: self.tasks,
            proof: Proof { place: self.proven, at: (ctx.clock)() },
            notes: plan.notes.iter().chain(&seen.notes).cloned().collect(),
        };
        (self.received, manifest)
    }
}

#[allow(clippy::too_many_arguments)] // the whole of one backup
async fn capture(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    description: &Description,
    plan: &BackupPlan,
    library: &Library,
    lock: HostLock,
    seen: &mut Seen,
) -> Result<Captured, Ending> {
    if plan.no_spool {
        return capture_through_pipes(ctx, host, job, link, description, plan, library, lock, seen).await;
    }
    let failed = |what: String| Ending::bad(Severity::Failed, what, None);
    job.follow(link, 0, |event| seen.take(ctx, host, event)).await.map_err(|e| remote_ending(host, &e))?;
    if let Some((step, reason)) = &seen.failed {
        return Err(failed(format!("{step}: {reason}")));
    }
    let (bytes, sha256, file) = seen.archive.clone().ok_or_else(|| failed("the master announced no archive".into()))?;
    if file != archive_name(&description.stock_id) {
        return Err(failed("the master announced an archive of another name".into()));
    }
    let tasks = judge_tasks_after(link, job, plan, seen.tasks_code, host).await?;
    let members = read_members(link, job, host).await?;
    let proven = if lrzip_is_here() {
        ProofPlace::Workstation
    } else {
        ctx.step(host, Step::Prove);
        link.run_once(&Script::prove([job.file(&file)]), b"", PROVING).await.map_err(|e| remote_ending(host, &e))?;
        ProofPlace::Master
    };

    ctx.step(host, Step::Transfer);
    // By now the master has been frozen and packed: nothing is `refused` any more.
    let writer = library.begin(lock, &host.name, &description.id, &file, bytes).map_err(|e| failed(e.to_string()))?;
    let writer = receive(link, &job.file(&file), bytes, writer, &host.name, &ctx.monitor).await.map_err(|e| match e {
        NotReceived::Remote(e) => remote_ending(host, &e),
        NotReceived::Library(e) => library_ending(&e),
        NotReceived::TooMuch => failed("the master sent more than it had announced".into()),
    })?;
    let received =
        tokio::task::spawn_blocking(move || writer.finish()).await.map_err(|e| failed(e.to_string()))?.map_err(|e| library_ending(&e))?;
    if received.bytes != bytes || received.sha256 != sha256 {
        return Err(failed(format!(
            "what arrived is not what the master has: {} of {bytes} bytes, SHA-256 {}",
            received.bytes, received.sha256
        )));
    }
    if proven == ProofPlace::Workstation {
        ctx.step(host, Step::Prove);
        prove_here(&received, description, &members).await?;
    }
    Ok(Captured { received, members, tar_bytes: seen.tar_bytes, tasks, proven })
}

/// The same where the master has no room: members come one by one, and are packed here.
#[allow(clippy::too_many_arguments)] // the whole of one backup
async fn capture_through_pipes(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    description: &Description,
    plan: &BackupPlan,
    library: &Library,
    lock: HostLock,
    seen: &mut Seen,
) -> Result<Captured, Ending> {
    let failed = |what: String| Ending::bad(Severity::Failed, what, None);
    let parcel = library.begin_parcel(lock, &host.name, &description.id, plan.packing_bytes).map_err(|e| library_ending(&e))?;
    let most = plan.packing_bytes.saturating_mul(4).saturating_add(1 << 30);
    let parcel = pipes::collect(ctx, host, job, link, parcel, most, seen).await?;
    let tasks = judge_tasks_after(link, job, plan, seen.tasks_code, host).await?;
    ctx.step(host, Step::Compress);
    let name = archive_name(&description.stock_id);
    let packed = tokio::task::spawn_blocking(move || parcel.pack(&name)).await.map_err(|e| failed(e.to_string()))?;
    let packed = packed.map_err(|e| failed(e.to_string()))?;
    ctx.step(host, Step::Prove);
    prove_here(&packed.received, description, &packed.members).await?;
    Ok(Captured { received: packed.received, members: packed.members, tar_bytes: packed.tar_bytes, tasks, proven: ProofPlace::Workstation })
}

/// A task that began while the capture ran changed what was being captured.
async fn judge_tasks_after(link: &mut Link, job: &Job, plan: &BackupPlan, code: Option<i64>, host: &Host) -> Result<TaskRecord, Ending> {
    let mut read = async |name: &str| -> Result<String, Ending> {
        let script = Script::read([job.file(name), "0".to_owned()]);
        let bytes = link.run(&script, READING, READING).await.map_err(|e| remote_ending(host, &e))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (out, err) = (read("tasks.out").await?, read("tasks.err").await?);
    let after = parse_tasks(code.unwrap_or(-1), &out, &err);
    let Some(before) = plan.tasks.as_ref().filter(|before| before.unfinished().is_empty()) else {
        let unfinished = plan.tasks.iter().flat_map(|list| list.unfinished()).cloned().collect();
        return Ok(TaskRecord::Ignored { unfinished, reason: None });
    };
    let after =
        after.map_err(|e| Ending::bad(Severity::Failed, format!("the tasks could not be read again after the capture: {e}"), None))?;
    let begun: Vec<String> = after.begun_since(before).iter().map(|task| task.describe()).collect();
    if begun.is_empty() {
        return Ok(TaskRecord::Clean);
    }
    Err(Ending::bad(
        Severity::Failed,
        format!("a task began during the capture, which is void: {}", begun.join(", ")),
        Some("run the backup again when it has ended".into()),
    ))
}

async fn read_members(link: &mut Link, job: &Job, host: &Host) -> Result<Vec<Member>, Ending> {
    let script = Script::read([job.file("contents"), "0".to_owned()]);
    let text = link.run(&script, READING, READING).await.map_err(|e| remote_ending(host, &e))?;
    let line =
        |line: &str| line.split_once(' ').and_then(|(bytes, name)| Some(Member { name: name.to_owned(), bytes: bytes.parse().ok()? }));
    Ok(String::from_utf8_lossy(&text).lines().filter_map(line).collect())
}

async fn prove_here(received: &Received, description: &Description, members: &[Member]) -> Result<(), Ending> {
    let damaged = |reason: String| Ending::bad(Severity::Damaged, format!("the archive does not prove: {reason}"), None);
    let path = received.archive.clone();
    let walked = tokio::task::spawn_blocking(move || walk(&path)).await.map_err(|e| damaged(e.to_string()))?.map_err(damaged)?;
    if walked.members != members {
        return Err(damaged("its members are not those that the master packed".into()));
    }
    if walked.description.as_ref() != Some(description) {
        return Err(damaged("its description is not the one that was sent".into()));
    }
    Ok(())
}
