//! Bringing an archive from a master into the library: follow the line, count, hash, go on where a broken line stopped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::library::{LibraryError, Writer};
use crate::model::id::HostName;
use crate::monitor::{Event, Monitor};
use crate::remote::link::Link;
use crate::remote::{RemoteError, Script};

/// How many chunks of at most 32 KiB wait for the disk before the line is throttled.
const IN_FLIGHT: usize = 256;
/// How often a broken line is made again before the transfer is given up.
const ATTEMPTS: u32 = 5;

/// Why an archive did not arrive.
pub(super) enum NotReceived {
    /// The line or the master.
    Remote(RemoteError),
    /// This disk.
    Library(LibraryError),
    /// More came than was announced.
    TooMuch,
}

/// Receives a file of a known size.
pub(super) async fn receive(
    link: &mut Link,
    file: &str,
    total: u64,
    mut writer: Writer,
    host: &HostName,
    monitor: &Arc<dyn Monitor>,
) -> Result<Writer, NotReceived> {
    let mut attempt = 0;
    loop {
        let before = writer.bytes();
        let (sink, source) = mpsc::channel::<Bytes>(IN_FLIGHT);
        let disk = tokio::task::spawn_blocking({
            let (host, monitor) = (host.clone(), Arc::clone(monitor));
            move || store(writer, source, total, &host, monitor.as_ref())
        });
        let script = Script::read([file.to_owned(), before.to_string()]);
        let limit = link.step_timeout();
        let pulled = match link.session().await {
            Ok(session) => Link::within_step(limit, "the transfer", session.pull(&script, sink)).await,
            Err(e) => {
                drop(sink);
                Err(e)
            }
        };
        let stored = disk.await.map_err(|e| NotReceived::Remote(RemoteError::Answer(format!("tanker failed: {e}"))))?;
        writer = stored?;
        match pulled {
            Ok(()) => return Ok(writer),
            Err(e @ (RemoteError::Lost(_) | RemoteError::Unreachable { .. })) => {
                link.drop_session();
                // Progress earns new patience.
                attempt = if writer.bytes() > before { 1 } else { attempt + 1 };
                if attempt > ATTEMPTS {
                    return Err(NotReceived::Remote(e));
                }
                monitor.event(host, Event::Note(format!("{e}; trying again from byte {}", writer.bytes())));
                tokio::time::sleep(Duration::from_secs(u64::from(attempt) * 2)).await;
            }
            Err(e) => return Err(NotReceived::Remote(e)),
        }
    }
}

fn store(
    mut writer: Writer,
    mut source: mpsc::Receiver<Bytes>,
    total: u64,
    host: &HostName,
    monitor: &dyn Monitor,
) -> Result<Writer, NotReceived> {
    while let Some(chunk) = source.blocking_recv() {
        if writer.bytes() + chunk.len() as u64 > total {
            return Err(NotReceived::TooMuch);
        }
        writer.write(&chunk).map_err(NotReceived::Library)?;
        monitor.event(host, Event::Progress { bytes: writer.bytes(), total: Some(total) });
    }
    Ok(writer)
}
