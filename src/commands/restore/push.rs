//! Bringing an archive onto a master: resumed where a broken line stopped, proven there by its SHA-256.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Context;
use super::{Stopped, stopped};
use crate::fleet::Ending;
use crate::library::Entry;
use crate::model::facts::parse_frames;
use crate::model::id::HostName;
use crate::model::inventory::Host;
use crate::model::report::Severity;
use crate::monitor::{Event, Monitor, Step};
use crate::remote::job::Job;
use crate::remote::link::Link;
use crate::remote::{RemoteError, Script};

/// Its name in the job's folder.
const NAME: &str = "archive.tar.lrz";
/// Asking how much is there.
const ASKING: Duration = Duration::from_secs(60);
/// How long a line may stay broken before the push is given up; every byte that arrives starts it anew.
const PATIENCE: Duration = Duration::from_secs(90);

/// Sends the archive; what an earlier push has brought is not sent again.
pub(super) async fn push(ctx: &Context, host: &Host, job: &Job, link: &mut Link, entry: &Entry) -> Result<(), Stopped> {
    ctx.step(host, Step::Push);
    let mut since = Instant::now();
    let mut reached = 0;
    loop {
        let error = match push_once(ctx, host, job, link, entry, &mut reached, &mut since).await {
            Ok(()) => return Ok(()),
            Err(NotPushed::Here(ending)) => return Err(Stopped::Clean(ending)),
            Err(NotPushed::Remote(e)) => e,
        };
        if !error.is_broken_line() || since.elapsed() > PATIENCE {
            return Err(stopped(host, &error));
        }
        link.drop_session();
        ctx.note(host, format!("{error}; going on with the push"));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

enum NotPushed {
    /// This workstation.
    Here(Ending),
    /// The line or the master.
    Remote(RemoteError),
}

async fn push_once(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    entry: &Entry,
    reached: &mut u64,
    since: &mut Instant,
) -> Result<(), NotPushed> {
    let archive = &entry.manifest.archive;
    let path = entry.archive();
    let unreadable = |e: io::Error| NotPushed::Here(Ending::bad(Severity::Failed, format!("{} can't be read: {e}", path.display()), None));
    let words = [job.path().to_owned(), NAME.to_owned(), archive.bytes.to_string(), archive.sha256.clone()];
    let answer = link.run_once(&Script::receive(words.clone()), b"", ASKING).await.map_err(NotPushed::Remote)?;
    let odd = || NotPushed::Remote(RemoteError::Answer("the master doesn't say how much of the archive it has".into()));
    let frames = parse_frames(&answer).map_err(|_| odd())?;
    let have: u64 = frames.get("have").and_then(|text| text.trim().parse().ok()).filter(|have| *have <= archive.bytes).ok_or_else(odd)?;
    if have == archive.bytes {
        return Ok(());
    }
    if have > *reached {
        (*reached, *since) = (have, Instant::now());
        ctx.note(host, format!("{} of the archive are there already", crate::model::text::human_bytes(have)));
    }
    let mut file = File::open(&path).map_err(unreadable)?;
    file.seek(SeekFrom::Start(have)).map_err(unreadable)?;
    let counted = Counted { inner: file, bytes: have, total: archive.bytes, host: host.name.clone(), monitor: Arc::clone(&ctx.monitor) };
    let script = Script::receive(words.into_iter().chain([have.to_string()]));
    let limit = link.step_timeout();
    let session = link.session().await.map_err(NotPushed::Remote)?;
    Link::within_step(limit, "the push", session.push(&script, counted)).await.map(drop).map_err(NotPushed::Remote)
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
