//! `tanker clean`: removes what jobs of tanker's have left on masters, archives that nobody fetched included.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::backup::frozen_of;
use super::{Context, look_at_jobs, look_ending, refused, remote_ending};
use crate::fleet::{self, Ending, Pace};
use crate::model::facts::JobTrace;
use crate::model::id::HostName;
use crate::model::report::RunReport;
use crate::monitor::{Event, Step};
use crate::remote::job::Job;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only say what would be removed.
    Plan,
    /// Jobs that have ended.
    Ended,
    /// Jobs that still run too.
    Running,
}

/// Removes jobs on each host; says which were there.
pub async fn clean(ctx: &Context, hosts: &[HostName], pace: Pace, depth: Depth) -> (RunReport, BTreeMap<HostName, Vec<JobTrace>>) {
    let found = Arc::new(Mutex::new(BTreeMap::new()));
    let report = fleet::run(hosts, pace, &ctx.cancel, |name| {
        let (ctx, found) = (ctx.clone(), Arc::clone(&found));
        async move {
            let work = clean_host(&ctx, &name, depth, &found);
            let ended = if depth == Depth::Plan { ctx.cancel.ends(work).await } else { ctx.cancel.gives_up(work).await };
            let ending = ended.unwrap_or_else(|ending| ending);
            ctx.monitor.event(&name, Event::Finished);
            ending
        }
    })
    .await;
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    (report, found)
}

async fn clean_host(
    ctx: &Context,
    name: &HostName,
    depth: Depth,
    found: &Mutex<BTreeMap<HostName, Vec<JobTrace>>>,
) -> Result<Ending, Ending> {
    let host = ctx.host(name)?;
    let mut link = ctx.open(&host).await?;
    ctx.step(&host, Step::Preflight);
    let jobs = look_at_jobs(&mut link).await.map_err(|e| look_ending(&host, &e))?;
    found.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), jobs.clone());
    if depth == Depth::Plan {
        link.close().await;
        let half = jobs.iter().filter(|job| job.half_restored && !job.alive).count();
        let alone = if half > 0 { format!("; {half} left alone: a restore that came to no end") } else { String::new() };
        let ended = jobs.iter().filter(|job| !job.alive && !job.half_restored).count();
        return Ok(Ending::ok(format!("{} to remove: say --yes to do it{alone}", count(ended))));
    }
    if let Some(job) = jobs.iter().find(|job| job.half_restored && job.alive) {
        let why = format!("{} is a restore that is cutting over: it ends by itself", job.name);
        return Err(refused(&[why], Some(format!("look with 'tanker status {name}'"))));
    }
    if let Some(job) = jobs.iter().find(|job| job.half_restored) {
        let why = format!("{} is a restore that came to no end, and holds the only copy of what it replaced", job.name);
        return Err(refused(&[why], Some(format!("'tanker restore --to {name} --rollback' puts it back, '--resume' does it again"))));
    }
    if let Some(job) = jobs.iter().find(|job| job.alive && depth != Depth::Running) {
        return Err(refused(&[format!("{} still runs: {}", job.name, job.about)], Some("'--running' ends it".into())));
    }
    ctx.step(&host, Step::Clean);
    let (mut removed, mut worst) = (0, None::<Ending>);
    for job in &jobs {
        let job = Job::new(&job.name);
        let cleaned = if depth == Depth::Running { job.clean(&mut link).await } else { job.clean_unless_used(&mut link).await };
        match cleaned {
            Ok(()) => removed += 1,
            // Containers that stay frozen outrank all else (I1).
            Err(e) => {
                let ending = frozen_of(name, &e).unwrap_or_else(|| remote_ending(&host, &e));
                worst = Some(worst.filter(|worst| worst.severity >= ending.severity).unwrap_or(ending));
            }
        }
    }
    link.close().await;
    match worst {
        Some(ending) => Err(ending),
        None => Ok(Ending::ok(format!("{} removed", count(removed)))),
    }
}

fn count(jobs: usize) -> String {
    format!("{jobs} {}", if jobs == 1 { "job" } else { "jobs" })
}
