//! `--no-spool`: a master without room sends each member as it is made, from a pipe, and tanker packs here. A line that breaks can't
//! be gone on with, for nothing of it was kept; the rest is as strict as ever.

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::super::{Context, library_ending, remote_ending};
use super::Seen;
use crate::fleet::Ending;
use crate::library::{HashedFile, LibraryError, Parcel};
use crate::model::inventory::Host;
use crate::model::report::Severity;
use crate::monitor::Event;
use crate::remote::job::{Job, JobEvent};
use crate::remote::link::Link;
use crate::remote::{RemoteError, Script};

/// How many chunks of at most 32 KiB wait for the disk before the line is throttled.
const IN_FLIGHT: usize = 256;

enum Said {
    /// This member can be read now.
    Member(String),
    /// This one was sent whole, with this SHA-256.
    Sent(String, String),
}

/// Follows the job to its end and takes every member that it announces, over a line of its own: the other one renews the lease.
pub(super) async fn collect(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    parcel: Parcel,
    most: u64,
    seen: &mut Seen,
) -> Result<Parcel, Ending> {
    // What waits in it is bounded as the job's log is.
    let (tell, heard) = mpsc::unbounded_channel();
    let mut taking = std::pin::pin!(take_members(ctx, host, job, link.another_for_bulk().await, parcel, most, heard));
    let following = async {
        let followed = job
            .follow(link, 0, |event| {
                // Whoever takes the members and has failed already says so itself.
                let _ = match &event {
                    JobEvent::Member(name) => tell.send(Said::Member(name.clone())),
                    JobEvent::Sent(name, sha256) => tell.send(Said::Sent(name.clone(), sha256.clone())),
                    _ => Ok(()),
                };
                seen.take(ctx, host, event);
            })
            .await;
        drop(tell);
        followed
    };
    tokio::select! {
        followed = following => {
            followed.map_err(|e| remote_ending(host, &e))?;
            if let Some((step, reason)) = &seen.failed {
                return Err(Ending::bad(Severity::Failed, format!("{step}: {reason}"), None));
            }
            taking.await
        }
        taken = &mut taking => Err(match taken {
            Err(ending) => ending,
            Ok(_) => Ending::bad(Severity::Failed, "the job sent nothing more and did not end", None),
        }),
    }
}

async fn take_members(
    ctx: &Context,
    host: &Host,
    job: &Job,
    mut line: Link,
    mut parcel: Parcel,
    most: u64,
    mut heard: UnboundedReceiver<Said>,
) -> Result<Parcel, Ending> {
    let failed = |what: String| Ending::bad(Severity::Failed, what, None);
    let mut left = most;
    let mut last: Option<(String, String)> = None;
    while let Some(said) = heard.recv().await {
        match said {
            Said::Member(name) => {
                let file = parcel.member(&name).map_err(|e| library_ending(&e))?;
                let (sha256, bytes) = take(ctx, host, job, &mut line, file, left).await?;
                left -= bytes;
                last = Some((name, sha256));
            }
            Said::Sent(name, sha256) => match last.take() {
                Some((taken, hash)) if taken == name && hash == sha256 => {}
                _ => return Err(failed(format!("what arrived of {name} is not what the master sent"))),
            },
        }
    }
    match last {
        None => {
            line.close().await;
            Ok(parcel)
        }
        Some((name, _)) => Err(failed(format!("the master did not say that {name} was sent whole"))),
    }
}

async fn take(ctx: &Context, host: &Host, job: &Job, line: &mut Link, file: HashedFile, most: u64) -> Result<(String, u64), Ending> {
    let (sink, mut source) = mpsc::channel::<Bytes>(IN_FLIGHT);
    let disk = tokio::task::spawn_blocking({
        let (host, monitor) = (host.name.clone(), ctx.monitor.clone());
        let mut file = file;
        move || -> Result<(String, u64), LibraryError> {
            while let Some(chunk) = source.blocking_recv() {
                file.write(&chunk)?;
                if file.bytes() > most {
                    return Err(LibraryError::Missing("the master sends far more than it has".into()));
                }
                monitor.event(&host, Event::Progress { bytes: file.bytes(), total: None });
            }
            let bytes = file.bytes();
            file.finish().map(|sha256| (sha256, bytes))
        }
    });
    let limit = line.step_timeout();
    let pulled = match line.session().await {
        Ok(session) => Link::within_step(limit, "the transfer", session.pull(&Script::pull([job.path().to_owned()]), sink)).await,
        Err(e) => Err(e),
    };
    // What the disk says comes first: a full one is why the line was let go of.
    let stored = disk.await.map_err(|e| Ending::bad(Severity::Failed, format!("tanker failed: {e}"), None))?;
    let stored = stored.map_err(|e| library_ending(&e))?;
    pulled.map_err(|e: RemoteError| remote_ending(host, &e))?;
    Ok(stored)
}
