//! `tanker status` and `tanker thaw`: what jobs of tanker's a master has, and ending a freeze from any workstation (I1).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Context, look_at_jobs, look_ending, remote_ending};
use crate::fleet::{self, Ending, Pace};
use crate::model::facts::{JobTrace, parse_frames};
use crate::model::id::HostName;
use crate::model::report::{RunReport, Severity};
use crate::monitor::{Event, Step};
use crate::remote::{RemoteError, Script};

/// Thawing eleven containers four times over; those that were stopped take minutes each to start.
const THAWING: Duration = Duration::from_secs(3600);

/// The jobs on each master.
pub async fn status(ctx: &Context, hosts: &[HostName], pace: Pace) -> (RunReport, BTreeMap<HostName, Vec<JobTrace>>) {
    let found = Arc::new(Mutex::new(BTreeMap::new()));
    let report = fleet::run(hosts, pace, &ctx.cancel, |name| {
        let (ctx, found) = (ctx.clone(), Arc::clone(&found));
        async move {
            let result = ctx.cancel.ends(jobs_of(&ctx, &name)).await;
            ctx.monitor.event(&name, Event::Finished);
            match result {
                Ok(jobs) => {
                    let frozen = jobs.iter().any(|job| job.frozen);
                    let half = jobs.iter().any(|job| job.half_restored && !job.alive);
                    let summary = format!(
                        "{} {}{}{}",
                        jobs.len(),
                        if jobs.len() == 1 { "job" } else { "jobs" },
                        if frozen { ", containers frozen now" } else { "" },
                        if half { ", HALF RESTORED" } else { "" }
                    );
                    found.lock().unwrap_or_else(PoisonError::into_inner).insert(name, jobs);
                    Ending::ok(summary)
                }
                Err(ending) => ending,
            }
        }
    })
    .await;
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    (report, found)
}

async fn jobs_of(ctx: &Context, name: &HostName) -> Result<Vec<JobTrace>, Ending> {
    let host = ctx.host(name)?;
    let mut link = ctx.open(&host).await?;
    ctx.step(&host, Step::Preflight);
    let jobs = look_at_jobs(&mut link).await.map_err(|e| look_ending(&host, &e))?;
    link.close().await;
    Ok(jobs)
}

/// Thaws whatever any tanker froze on these masters and looks at it.
pub async fn thaw(ctx: &Context, hosts: &[HostName], pace: Pace) -> RunReport {
    fleet::run(hosts, pace, &ctx.cancel, |name| {
        let ctx = ctx.clone();
        async move {
            let ending = thaw_host(&ctx, &name).await.unwrap_or_else(|ending| ending);
            ctx.monitor.event(&name, Event::Finished);
            ending
        }
    })
    .await
}

async fn thaw_host(ctx: &Context, name: &HostName) -> Result<Ending, Ending> {
    let host = ctx.host(name)?;
    let mut link = ctx.cancel.gives_up(ctx.open(&host)).await?;
    ctx.step(&host, Step::Thaw);
    let script = Script::thaw([""; 0]);
    let result = tokio::select! {
        result = link.run(&script, THAWING, Duration::ZERO) => result,
        () = ctx.cancel.insisted() => Err(RemoteError::Answer("given up as told to".into())),
    };
    link.close().await;
    match result {
        Ok(answer) => {
            let frames = parse_frames(&answer).map_err(|e| Ending::bad(Severity::Failed, e.to_string(), None))?;
            let thawed = frames.get("thawed").map(|names| names.lines().count()).unwrap_or_default();
            Ok(Ending::ok(if thawed == 0 { "nothing was frozen by tanker".to_owned() } else { format!("{thawed} containers are thawed") }))
        }
        Err(e @ RemoteError::Script { .. }) => {
            Err(super::backup::frozen_of(name, &e).unwrap_or_else(|| Ending::bad(Severity::Failed, e.to_string(), None)))
        }
        Err(e @ RemoteError::Sudo { .. }) => Err(remote_ending(&host, &e)),
        // Nobody knows whether it thawed.
        Err(e) => {
            let Ending { severity, summary, .. } = remote_ending(&host, &e);
            let severity = severity.max(Severity::Frozen);
            Err(Ending::bad(severity, format!("not confirmed: {summary}"), Some(format!("tanker status {name}; tanker thaw {name}"))))
        }
    }
}
