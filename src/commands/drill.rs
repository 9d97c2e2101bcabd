//! `tanker drill`: proves that a backup restores. The archive is pushed to a machine with Docker, unpacked and walked there, its images
//! are loaded, PostgreSQL runs on its data in a container without a network, every table is read; and all of it is removed again.

use std::time::{Duration, Instant};

use super::restore::{Opening, Stopped, push, show_event, stopped};
use super::{Context, library_ending, prove};
use crate::fleet::Ending;
use crate::library::{Depth, Entry, LibraryError, Verified};
use crate::model::id::HostName;
use crate::model::inventory::Host;
use crate::model::record::Drill;
use crate::model::report::{Outcome, RunReport, Severity};
use crate::model::text::human_duration;
use crate::monitor::{Event, Step};
use crate::remote::job::{Job, JobEvent};
use crate::remote::link::Link;

/// Drills a backup on a machine, and writes into its record what came of it.
pub async fn drill(ctx: &Context, found: Result<Entry, LibraryError>, on: &HostName) -> RunReport {
    let began = Instant::now();
    let ending = drill_on(ctx, found, on, began).await.unwrap_or_else(|ending| ending);
    ctx.monitor.event(on, Event::Finished);
    let Ending { severity, summary, hint } = ending;
    RunReport { outcomes: vec![Outcome { host: on.clone(), severity, summary, hint, took: began.elapsed() }] }
}

async fn drill_on(ctx: &Context, found: Result<Entry, LibraryError>, on: &HostName, began: Instant) -> Result<Ending, Ending> {
    let host = ctx.host(on)?;
    let mut entry = found.map_err(|e| library_ending(&e))?;
    if let Some(why) = ctx.inventory.unsealed(&entry.manifest) {
        ctx.note(&host, why);
    }
    let verified = prove(ctx, &host, &entry, Depth::Deep).await?;
    let mut link = ctx.cancel.ends(ctx.open(&host)).await?;
    let job = Job::new(&format!(
        "restore-drill-{}-{}",
        entry.manifest.description.id,
        entry.manifest.archive.sha256.get(..8).unwrap_or_default()
    ));
    let tried = tokio::select! {
        tried = try_out(ctx, &host, &job, &mut link, &entry, verified) => tried,
        () = ctx.cancel.cancelled() => Err(Stopped::Clean(Ending::bad(Severity::Interrupted, "stopped as told to", None))),
    };
    ctx.step(&host, Step::Clean);
    let cleaned = match &tried {
        // Another tanker's, or one that a later run goes on with.
        Err(Stopped::Keep(_)) => Ok(()),
        _ => job.clean(&mut link).await,
    };
    link.close().await;
    if let Err(e) = cleaned {
        ctx.note(&host, format!("the machine could not be cleaned up: {e}"));
    }
    // What ends a drill before its verdict - a line, an operator, a machine that is restarted - says nothing of the backup.
    let tried = match tried {
        Ok(tried) => tried,
        Err(Stopped::Keep(ending) | Stopped::Clean(ending)) => return Err(ending),
    };
    let took = began.elapsed();
    let (failure, mut ending) = match tried {
        Tried::Restores { push, rest, database } => {
            let (push, rest) = (human_duration(push), human_duration(rest));
            if !database {
                let why = "NO DATABASE was started, for it holds no image of postgres: this is not recorded as a drill";
                return Ok(Ending::ok(format!("{}: pushed in {push}, unpacked in {rest}; {why}", entry.name())));
            }
            (None, Ending::ok(format!("{} restores: pushed in {push}, unpacked, loaded and started in {rest}", entry.name())))
        }
        Tried::Fails(why) => (Some(why.clone()), Ending::bad(Severity::Failed, why, None)),
    };
    let record = Drill { at: (ctx.clock)(), on: on.to_string(), seconds: took.as_secs(), failure };
    let recorded = entry.update(false, |known| known.drills.push(record));
    if let Err(e) = recorded {
        ending.summary = format!("{}; it could not be recorded: {e}", ending.summary);
    }
    Ok(ending)
}

/// A drill's verdict.
enum Tried {
    /// How long it took to bring it there, and all the rest; whether there was a database to start.
    Restores { push: Duration, rest: Duration, database: bool },
    /// In which step, and why.
    Fails(String),
}

async fn try_out(ctx: &Context, host: &Host, job: &Job, link: &mut Link, entry: &Entry, verified: Verified) -> Result<Tried, Stopped> {
    let began = Instant::now();
    push(ctx, host, job, link, entry, verified, Opening::default()).await?;
    let pushed = began.elapsed();
    let about = &entry.manifest.description;
    let lines = |items: Vec<String>| items.iter().map(|item| format!("{item}\n")).collect::<String>().into_bytes();
    let files = [
        ("containers", lines(about.containers.iter().map(|c| format!("{} {} {}", c.service, c.name, c.image)).collect())),
        ("volumes", lines(about.volumes.iter().map(|v| format!("{} {} {}", v.member, v.service, v.path)).collect())),
        ("members", lines(entry.manifest.archive.members.iter().map(|m| format!("{} {}", m.bytes, m.name)).collect())),
    ];
    let data = about.release.database_directory().filter(|d| about.directories.iter().any(|of| d.starts_with(of.as_str())));
    let args = [about.stock_id.clone(), data.unwrap_or_else(|| "-".into())];
    job.start(link, "drill", &ctx.owner_now(), &args, &files).await.map_err(|e| stopped(host, &e))?;
    let (mut failed, mut database) = (None, false);
    let followed = job.follow(link, 0, |event| {
        database |= matches!(&event, JobEvent::Step(name, _) if name == "start");
        show_event(ctx, host, &mut failed, event);
    });
    followed.await.map_err(|e| stopped(host, &e))?;
    match failed {
        // The machine has too little for it: no fault of the backup's.
        Some((step, reason)) if step == "preflight" => Err(Stopped::Clean(Ending::bad(Severity::Refused, reason, None))),
        Some((step, reason)) => Ok(Tried::Fails(format!("{step}: {reason}"))),
        None => Ok(Tried::Restores { push: pushed, rest: began.elapsed().saturating_sub(pushed), database }),
    }
}
