//! `tanker restore`: prove, plan, ask, push, unpack to the side, and only then let the master cut over; it rolls back by
//! itself if that fails (I4).

mod cutover;
mod frames;
mod push;

use std::convert::Infallible;
use std::iter;
use std::time::{Duration, Instant};

pub use cutover::Way;
pub(super) use cutover::show as show_event;
pub(super) use push::{Opening, push};

use super::backup::frozen_of;
use super::{Context, READING, library_ending, look, look_at_jobs, look_ending, look_into, prove, refused, remote_ending};
use crate::fleet::Ending;
use crate::library::{Depth, Entry, LibraryError, Verified};
use crate::model::astute;
use crate::model::facts::{Facts, parse_frames};
use crate::model::id::HostName;
use crate::model::inventory::Host;
use crate::model::manifest::{Description, Origin};
use crate::model::report::{Outcome, RunReport, Severity};
use crate::model::restore_parts::Selection;
use crate::model::restore_plan::{RestoreOptions, RestorePlan, may_cut_over, plan_restore};
use crate::monitor::{Event, Step};
use crate::remote::job::Job;
use crate::remote::link::Link;
use crate::remote::{BUSY, RemoteError, Script};

/// How often the lease of a restore is renewed while its master is looked at.
const RENEWED: Duration = Duration::from_secs(5);
/// How often a look is tried over a line that breaks.
const TRIES: u32 = 12;

/// A restore that was planned and waits for a yes.
pub struct Prepared {
    entry: Entry,
    verified: Verified,
    host: Host,
    facts: Facts,
    link: Link,
    /// What will happen.
    pub plan: RestorePlan,
    /// `HOST@ID`.
    pub name: String,
    ignore_tasks: bool,
    opening: Opening,
    began: Instant,
}

impl Prepared {
    /// Says goodbye to the target without having touched it.
    pub async fn leave(self) {
        self.link.close().await;
    }
}

/// Proves the archive, looks at the target and decides. Nothing on the target changes. `at_once`: nobody is asked before it is carried out, so
/// the lines that it needs are opened meanwhile.
///
/// # Errors
/// With a report of one outcome, when the archive is damaged or anything forbids the restore.
pub async fn prepare(
    ctx: &Context,
    found: Result<Entry, LibraryError>,
    to: &HostName,
    options: RestoreOptions<'_>,
    at_once: bool,
) -> Result<Prepared, RunReport> {
    let began = Instant::now();
    try_prepare(ctx, found, to, options, at_once, began).await.map_err(|ending| {
        ctx.monitor.event(to, Event::Finished);
        report(to, ending, began)
    })
}

async fn try_prepare(
    ctx: &Context,
    found: Result<Entry, LibraryError>,
    to: &HostName,
    options: RestoreOptions<'_>,
    at_once: bool,
    began: Instant,
) -> Result<Prepared, Ending> {
    let host = ctx.host(to)?;
    let entry = found.map_err(|e| library_ending(&e))?;
    // It is, byte for byte, what was decompressed whole before it was listed; the master decompresses it again before anything there changes.
    let verified = prove(ctx, &host, &entry, Depth::Hashed).await?;
    let mut link = ctx.cancel.ends(ctx.open(&host)).await?;
    ctx.step(&host, Step::Preflight);
    let opening = if at_once {
        ctx.cancel.ends(async { Ok(Opening::begin(&host, &mut link, verified.bytes).await) }).await?
    } else {
        Opening::default()
    };
    let (facts, tasks) = ctx.cancel.ends(async { look(&mut link).await.map_err(|e| look_ending(&host, &e)) }).await?;
    let hint = tasks.is_err().then(|| "where nailgun is what has to be restored, '--ignore-tasks' goes on without asking it".to_owned());
    let mut plan = plan_restore(&entry.manifest, &facts, tasks, options).map_err(|reasons| refused(&reasons, hint))?;
    plan.warnings.extend(ctx.inventory.unsealed(&entry.manifest));
    let name = entry.name();
    Ok(Prepared { entry, verified, host, facts, link, plan, name, ignore_tasks: options.ignore_tasks, opening, began })
}

/// A deployment that began while the archive was pushed and unpacked must not be cut down.
async fn look_again(ctx: &Context, host: &Host, job: &Job, link: &mut Link, ignore_tasks: bool) -> Result<(), Stopped> {
    ctx.step(host, Step::Preflight);
    let mut other = link.another();
    let look_patiently = async {
        let mut tries = 0;
        loop {
            tries += 1;
            match look_into(link, iter::empty()).await {
                Err(e) if e.is_broken_line() && tries < TRIES => {
                    link.drop_session();
                    tokio::time::sleep(RENEWED).await;
                }
                looked => return looked,
            }
        }
    };
    // Asking a master takes a while, and what was pushed must not look abandoned meanwhile.
    let looked = tokio::select! {
        looked = look_patiently => looked,
        never = keep(job, &mut other) => match never {},
    };
    other.close().await;
    let (facts, tasks) = looked.map_err(|e| stopped(host, &e))?;
    may_cut_over(&facts, tasks, ignore_tasks).map_err(|reasons| Stopped::Clean(refused(&reasons, None)))
}

async fn keep(job: &Job, link: &mut Link) -> Infallible {
    loop {
        // One that can't be renewed is seen by what comes next.
        let _ = job.renew(link).await;
        tokio::time::sleep(RENEWED).await;
    }
}

/// Carries a prepared restore out.
pub async fn execute(ctx: &Context, prepared: Prepared) -> RunReport {
    let Prepared { entry, verified, host, facts, mut link, plan, ignore_tasks, opening, began, .. } = prepared;
    let chosen = Chosen { entry: &entry, selection: &plan.selection, facts: &facts };
    let job = Job::new(&entry.manifest.restore_job());
    let bring_over_and_look = async {
        let merged = bring_over(ctx, &host, &job, &mut link, &chosen, (verified, opening)).await?;
        look_again(ctx, &host, &job, &mut link, ignore_tasks).await?;
        Ok(merged)
    };
    let ready = tokio::select! {
        ready = bring_over_and_look => ready,
        () = ctx.cancel.cancelled() => {
            let why = "interrupted before the cutover: nothing was changed";
            Err(if ctx.cancel.is_going_down() {
                let hint = Some("the same restore, run again, goes on with what has been pushed".to_owned());
                Stopped::Keep(Ending::bad(Severity::Interrupted, why, hint))
            } else {
                Stopped::Clean(Ending::bad(Severity::Interrupted, why, None))
            })
        }
    };
    let ending = match ready {
        Ok(merged) => cutover::cut_over(ctx, &host, &job, &mut link, &chosen, merged).await,
        Err(Stopped::Keep(ending)) => ending,
        Err(Stopped::Clean(ending)) => {
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

/// What is restored, onto what.
struct Chosen<'a> {
    entry: &'a Entry,
    /// What of it.
    selection: &'a Selection,
    /// The master as it was found.
    facts: &'a Facts,
}

impl Chosen<'_> {
    /// The containers that are there, as `SERVICE NAME IMAGE`.
    fn before(&self) -> Vec<u8> {
        lines(self.facts.containers.iter().map(|c| format!("{} {} {}", c.service, c.name, c.image))).into_bytes()
    }
}

/// A restore that came to no end, and waits for a yes to be ended.
pub struct Half {
    host: Host,
    link: Link,
    job: Job,
    /// Which it is, and whose, printable.
    pub about: String,
    began: Instant,
}

impl Half {
    /// Says goodbye to the host without having touched it.
    pub async fn leave(self) {
        self.link.close().await;
    }
}

/// Looks for the restore that came to no end on a host. Nothing on it changes.
///
/// # Errors
/// With a report of one outcome, when there is none or somebody is at work on the host.
pub async fn find_half(ctx: &Context, to: &HostName) -> Result<Half, RunReport> {
    let began = Instant::now();
    try_find_half(ctx, to, began).await.map_err(|ending| {
        ctx.monitor.event(to, Event::Finished);
        report(to, ending, began)
    })
}

async fn try_find_half(ctx: &Context, to: &HostName, began: Instant) -> Result<Half, Ending> {
    let host = ctx.host(to)?;
    let mut link = ctx.cancel.ends(ctx.open(&host)).await?;
    ctx.step(&host, Step::Preflight);
    let jobs = ctx.cancel.ends(async { look_at_jobs(&mut link).await.map_err(|e| look_ending(&host, &e)) }).await?;
    if let Some(busy) = jobs.iter().find(|job| job.alive) {
        return Err(refused(&[format!("another tanker works on it: {}", busy.about)], None));
    }
    let Some(half) = jobs.iter().find(|job| job.half_restored) else {
        let hint = "a restore that did not come as far as its cutover is simply run again: what was pushed is used".to_owned();
        return Err(refused(&["no restore of it came to no end: there is nothing to do".to_owned()], Some(hint)));
    };
    Ok(Half { job: Job::new(&half.name), about: format!("{}, {}", half.name, half.about), host, link, began })
}

/// Ends it: does it again, or puts the host back as it was.
pub async fn finish(ctx: &Context, half: Half, way: Way) -> RunReport {
    let Half { host, mut link, job, began, .. } = half;
    // Somebody else may have ended it while this was asked, and the line may have died of waiting.
    let looked = match look_at_jobs(&mut link).await {
        Err(e) if e.is_broken_line() => look_at_jobs(&mut link).await,
        looked => looked,
    };
    let ending = match looked {
        Ok(jobs) if jobs.iter().any(|there| there.half_restored && !there.alive && job.path().ends_with(&format!("/{}", there.name))) => {
            cutover::finish_half(ctx, &host, &job, &mut link, way).await
        }
        Ok(_) => refused(&["it has come to an end meanwhile, or somebody is at work with it".to_owned()], None),
        Err(e) => look_ending(&host, &e),
    };
    link.close().await;
    ctx.monitor.event(&host.name, Event::Finished);
    report(&host.name, ending, began)
}

const ASTUTE: &str = "/etc/fuel/astute.yaml";

/// Why nothing was cut over, and what becomes of what is on the master by then.
pub(super) enum Stopped {
    /// It goes.
    Clean(Ending),
    /// It stays: a later run goes on with it, or it is another tanker's.
    Keep(Ending),
}

/// What a remote error before the cutover comes to.
pub(super) fn stopped(host: &Host, error: &RemoteError) -> Stopped {
    if let Some(frozen) = frozen_of(&host.name, error) {
        return Stopped::Keep(frozen);
    }
    let ending = remote_ending(host, error);
    if error.is_broken_line() || matches!(error, RemoteError::Script { code: BUSY, .. }) {
        Stopped::Keep(ending)
    } else {
        Stopped::Clean(ending)
    }
}

/// A report with the one outcome of a restore.
fn report(host: &HostName, ending: Ending, began: Instant) -> RunReport {
    let outcome =
        Outcome { host: host.clone(), severity: ending.severity, summary: ending.summary, hint: ending.hint, took: began.elapsed() };
    RunReport { outcomes: vec![outcome] }
}

/// Everything that the master doesn't notice: push, unpack, stage, load, and the merged astute.yaml.
async fn bring_over(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    chosen: &Chosen<'_>,
    (verified, opening): (Verified, Opening),
) -> Result<Option<String>, Stopped> {
    let Chosen { entry, selection, .. } = chosen;
    let manifest = &entry.manifest;
    push(ctx, host, job, link, entry, verified, opening).await?;
    let backup = &manifest.description;
    let files = [
        ("before.containers", chosen.before()),
        ("containers", lines(selection.containers.iter().map(|c| format!("{} {} {}", c.service, c.name, c.image))).into_bytes()),
        ("brought", lines(backup.containers.iter().map(|c| c.image.as_str())).into_bytes()),
        ("directories", lines(selection.directories.iter().map(String::as_str)).into_bytes()),
        ("volumes", lines(selection.volumes.iter().map(|v| format!("{} {} {}", v.member, v.service, v.path))).into_bytes()),
        ("members", lines(manifest.archive.members.iter().map(|m| format!("{} {}", m.bytes, m.name))).into_bytes()),
    ];
    job.start(link, "prepare", &ctx.owner_now(), std::slice::from_ref(&backup.stock_id), &files).await.map_err(|e| stopped(host, &e))?;
    let mut failed = None;
    job.follow(link, 0, |event| cutover::show(ctx, host, &mut failed, event)).await.map_err(|e| stopped(host, &e))?;
    if let Some((step, reason)) = failed {
        return Err(Stopped::Clean(Ending::bad(Severity::Failed, format!("{step}: {reason}; nothing in use was changed"), None)));
    }
    let staged = format!("/etc/.tanker-new-{}-fuel/astute.yaml", job.name());
    let paths = [job.file("x/tanker.json"), staged, ASTUTE.to_owned()];
    let answer = link.run(&Script::files(paths.clone()), READING, READING).await.map_err(|e| stopped(host, &e))?;
    let mut found = parse_frames(&answer).map_err(|e| Stopped::Clean(Ending::bad(Severity::Failed, e.to_string(), None)))?;
    let [inside, theirs, ours] = paths.map(|path| found.remove(&path));
    is_what_it_says(inside.as_deref(), backup)?;
    ctx.step(host, Step::Merge);
    merge_astute(selection, theirs, ours).map_err(Stopped::Clean)
}

/// The archive says of which backup it is: a manifest that was put beside another one's is found here at the latest.
fn is_what_it_says(inside: Option<&str>, backup: &Description) -> Result<(), Stopped> {
    if backup.origin == Origin::Stock || inside.and_then(|text| serde_json::from_str::<Description>(text).ok()).as_ref() == Some(backup) {
        return Ok(());
    }
    let why = "the archive is of another backup than its manifest says; nothing in use was changed".to_owned();
    Err(Stopped::Clean(Ending::bad(Severity::Damaged, why, None)))
}

fn lines<S: AsRef<str>>(items: impl Iterator<Item = S>) -> String {
    items.map(|item| format!("{}\n", item.as_ref())).collect()
}

/// The backup's astute.yaml with the target's network settings; none where /etc/fuel is not restored.
fn merge_astute(selection: &Selection, theirs: Option<String>, ours: Option<String>) -> Result<Option<String>, Ending> {
    if !selection.directories.iter().any(|d| d == "/etc/fuel") {
        return Ok(None);
    }
    let failed = |why: String| Ending::bad(Severity::Failed, format!("{why}; nothing in use was changed"), None);
    let of = |whose: &str, text: Option<String>| match text {
        None => Err(failed(format!("the {whose} has no astute.yaml in /etc/fuel"))),
        // What is no text came as this.
        Some(text) if text.contains(char::REPLACEMENT_CHARACTER) => Err(failed(format!("the {whose}'s astute.yaml is no UTF-8 text"))),
        Some(text) => Ok(text),
    };
    let (theirs, ours) = (of("backup", theirs)?, of("target", ours)?);
    astute::merge(&theirs, &ours).map(Some).map_err(|e| failed(e.to_string()))
}
