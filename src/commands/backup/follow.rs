//! Bringing an archive from a master into the library while the master still writes it: what has been written is fetched, a broken
//! line is made again and goes on at the next byte, and in the end only those blocks are asked for again that lrzip went back to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::super::{Context, READING, library_ending};
use super::NotHome;
use super::key::keep_key;
use crate::fleet::Ending;
use crate::library::{BLOCK, Library, LibraryError, Recipients, Sum, Writer, parse_sums};
use crate::model::facts::parse_frames;
use crate::model::id::HostName;
use crate::model::inventory::Host;
use crate::model::report::Severity;
use crate::monitor::{Event, Monitor};
use crate::remote::bulk::Bulk;
use crate::remote::job::Job;
use crate::remote::link::Link;
use crate::remote::{RemoteError, Script};

/// How many chunks of at most 32 KiB wait for the disk before the line is throttled.
const IN_FLIGHT: usize = 256;
/// Less than this is not worth a request while more is coming.
const WORTH_IT: u64 = 256 << 10;
/// What `read.sh` sends at a time, where it begins and ends there.
const PIECE: u64 = 64 << 10;
/// How `pack.sh` chooses lrzip's threads, of which each packs a piece, and the least that lrzip gives one.
const BYTES_A_THREAD: u64 = 16 << 20;
const LEAST_PIECE: u64 = 10 << 20;
/// So many blocks are asked for again at once: they lie in memory.
const AT_ONCE: usize = 4;
/// So much stays free here while nobody knows how large the archive becomes.
const SPARE: u64 = 1 << 30;
/// How long a broken line is tried again, each time a little later, before the transfer is left to a later run; every byte that is
/// written starts it anew.
const PATIENCE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How much of the archive there is on the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// So much by now that stays as it is.
    Growing(u64),
    /// So much, and that is all.
    Whole(u64),
}

/// What of an archive of `written` bytes, packed from a tar of so many, lrzip doesn't go back to: when it writes a piece it patches the head of the
/// one before, and a piece is never larger than what it was packed from.
pub(super) fn settled(written: u64, tar_bytes: u64) -> u64 {
    let threads = (tar_bytes / BYTES_A_THREAD).clamp(32, 128);
    written.saturating_sub((tar_bytes / threads).max(LEAST_PIECE) + (1 << 20))
}

/// An archive on its way.
pub(super) struct Follower<'a> {
    pub ctx: &'a Context,
    pub host: &'a Host,
    pub library: &'a Library,
    /// Lines of its own: the other one renews the lease.
    pub lines: Bulk,
    /// The job that packs it.
    pub job: &'a Job,
    /// The file on the master.
    pub file: String,
    /// To whom the archive is encrypted here.
    pub to: Option<Arc<Recipients>>,
}

impl Follower<'_> {
    /// Fetches the archive as it grows, until `size` says that it is whole and every byte is here.
    pub(super) async fn fetch(&mut self, mut writer: Writer, size: &mut watch::Receiver<Size>) -> Result<Writer, NotHome> {
        let mut followed = false;
        loop {
            let (there, whole) = match *size.borrow_and_update() {
                Size::Growing(bytes) => (bytes, false),
                Size::Whole(bytes) => (bytes, true),
            };
            let have = writer.bytes();
            if whole && have == there {
                return Ok(writer);
            }
            if whole && have > there {
                return Err(self.failed("the archive became smaller while it was fetched"));
            }
            if whole {
                if let Some(to) = self.to.clone().filter(|_| followed && writer.room_for(self.library, there.saturating_mul(2)).is_err()) {
                    // It will have to be written again, and there is no room for both: better now than when all of it is here.
                    writer = writer.anew(&to).map_err(|e| NotHome::of_library(&e))?;
                    keep_key(self.ctx, self.host, self.job, &mut self.lines.first, &writer, PATIENCE).await?;
                    followed = false;
                    continue;
                }
                writer.room_for(self.library, there).map_err(|e| NotHome::Later(library_ending(&e)))?;
            }
            let worth_it = if whole {
                1
            } else if self.may_follow(&writer, there) {
                WORTH_IT
            } else {
                u64::MAX
            };
            if there.saturating_sub(have) >= worth_it {
                if !whole {
                    // lrzip goes back to its very beginning, at least.
                    writer.will_change();
                    followed = true;
                }
                // What comes in whole pieces is sent in whole ones.
                let to = if whole { there } else { there - there % PIECE };
                writer = self.fetch_range(writer, to, whole).await?;
            } else if size.changed().await.is_err() {
                // Whoever tells how it grows has ended, and says why.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Where it would get tight here, lrzip's end is waited for: a master that writes without end must not fill this disk. What is encrypted is
    /// written twice.
    fn may_follow(&self, writer: &Writer, there: u64) -> bool {
        let (have, times) = (writer.bytes(), if writer.is_sealing() { 2 } else { 1 });
        let needed = there.saturating_sub(have).saturating_add(have.max(there) * (times - 1)).saturating_add(SPARE);
        writer.room_for(self.library, have.saturating_add(needed)).is_ok()
    }

    async fn fetch_range(&mut self, mut writer: Writer, to: u64, whole: bool) -> Result<Writer, NotHome> {
        let (mut since, mut pause) = (Instant::now(), Duration::from_millis(500));
        loop {
            let from = writer.bytes();
            if from >= to {
                return Ok(writer);
            }
            let (sink, source) = mpsc::channel::<Bytes>(IN_FLIGHT);
            let disk = tokio::task::spawn_blocking({
                let (host, monitor) = (self.host.name.clone(), Arc::clone(&self.ctx.monitor));
                move || store(writer, source, to, whole, &host, monitor.as_ref())
            });
            let limit = self.lines.first.step_timeout();
            let pulled = Link::within_step(limit, "the transfer", self.lines.pull(&self.file, from, to, sink)).await;
            let stored = disk.await.map_err(|e| self.failed(&format!("tanker failed: {e}")))?;
            writer = stored.map_err(|e| NotHome::of_library(&e))?;
            let error = match pulled {
                Ok(()) if writer.bytes() > from => continue,
                Ok(()) => return Err(self.failed("the archive became smaller while it was fetched")),
                Err(e @ (RemoteError::Lost(_) | RemoteError::Unreachable { .. })) => e,
                // A slow line that still carries something is no reason to lose what has come.
                Err(e @ RemoteError::TimedOut { .. }) if writer.bytes() > from => e,
                Err(e) => return Err(self.broken(&e)),
            };
            self.lines.drop_sessions();
            // Progress earns new patience.
            if writer.bytes() > from {
                (since, pause) = (Instant::now(), Duration::from_millis(500));
            }
            if since.elapsed() + pause > PATIENCE {
                return Err(self.broken(&error));
            }
            self.ctx.note(self.host, format!("{error}; trying again from byte {}", writer.bytes()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Holds what has arrived against the master's list of blocks, which has this SHA-256, and asks again for those that differ, some at a time.
    pub(super) async fn settle(&mut self, mut writer: Writer, list_sha256: &str) -> Result<Writer, NotHome> {
        let list = self.job.file("blocks");
        let answer = self.lines.first.run(&Script::files([list.clone()]), READING, PATIENCE).await.map_err(|e| self.broken(&e))?;
        let mut frames = parse_frames(&answer).map_err(|e| self.failed(&e.to_string()))?;
        let bytes = writer.bytes();
        let sums: Vec<Sum> = parse_sums(&frames.remove(&list).unwrap_or_default(), bytes, list_sha256).map_err(|e| self.failed(&e))?;
        let differing = writer.differing(&sums);
        if let Some(to) = self.to.clone().filter(|_| !differing.is_empty()) {
            writer = Box::pin(self.write_again(writer, to, differing)).await?;
        } else {
            for some in differing.chunks(AT_ONCE) {
                for (index, block) in some.iter().zip(self.blocks(some, bytes).await?) {
                    writer.replace(*index, &block).map_err(|e| NotHome::of_library(&e))?;
                }
            }
        }
        if !writer.differing(&sums).is_empty() {
            return Err(self.failed("blocks of the archive arrive otherwise than the master lists them"));
        }
        Ok(writer)
    }

    /// What is encrypted can't be patched: it is written once more.
    async fn write_again(&mut self, writer: Writer, to: Arc<Recipients>, differing: Vec<usize>) -> Result<Writer, NotHome> {
        let (bytes, wanted) = (writer.bytes(), differing.clone());
        let (patches, mut patch) = mpsc::channel(AT_ONCE);
        // A thread can't be ended from outside: it looks whether somebody still waits for it.
        let here = Arc::new(());
        let somebody = Arc::downgrade(&here);
        let exchange = move |index| {
            if somebody.strong_count() == 0 {
                return Err(LibraryError::Missing("nobody waits for it any more".into()));
            }
            match wanted.binary_search(&index) {
                Err(_) => Ok(None),
                Ok(_) => patch.blocking_recv().map(Some).ok_or_else(|| LibraryError::Missing("a block did not come again".into())),
            }
        };
        let writing = tokio::task::spawn_blocking(move || writer.again(&to, exchange));
        let fetching = async {
            // However this ends, nobody waits for more.
            let patches = patches;
            for some in differing.chunks(AT_ONCE) {
                // Whoever takes no more says itself why, or begins anew.
                let blocks = tokio::select! {
                    blocks = self.blocks(some, bytes) => blocks?,
                    () = patches.closed() => return Ok(()),
                };
                for block in blocks {
                    let _ = patches.send(block).await;
                }
            }
            Ok(())
        };
        let (fetched, written) = tokio::join!(fetching, writing);
        drop(here);
        let writer = match (written.map_err(|e| self.failed(&format!("tanker failed: {e}")))?, fetched) {
            (Ok(writer), _) => writer,
            // What isn't fetched isn't written either, and that is the reason.
            (Err(LibraryError::Missing(_)), Err(why)) => return Err(why),
            (Err(e), _) => return Err(NotHome::of_library(&e)),
        };
        if writer.bytes() == 0 {
            // What was asked for and isn't wanted any more would lie in the way.
            self.lines.drop_sessions();
            keep_key(self.ctx, self.host, self.job, &mut self.lines.first, &writer, PATIENCE).await?;
        }
        self.fetch_range(writer, bytes, true).await
    }

    /// These blocks of the archive, as they are on the master.
    async fn blocks(&mut self, indices: &[usize], bytes: u64) -> Result<Vec<Vec<u8>>, NotHome> {
        let length = |index: usize| (bytes - index as u64 * BLOCK).min(BLOCK);
        let pieces = indices.iter().flat_map(|index| [(*index as u64 * BLOCK).to_string(), length(*index).to_string()]);
        let script = Script::read([self.file.clone()].into_iter().chain(pieces));
        let limit = READING * 10 * u32::try_from(indices.len()).unwrap_or(1);
        let came = self.lines.first.run_limited(&script, limit, PATIENCE).await.map_err(|e| self.broken(&e))?;
        let (mut came, mut blocks) = (&came[..], Vec::new());
        for index in indices {
            let block = usize::try_from(length(*index)).ok().and_then(|length| came.split_off(..length));
            blocks.push(block.ok_or_else(|| self.failed("the master sent less than it was asked for"))?.to_vec());
        }
        Ok(blocks)
    }

    pub(super) async fn close(self) {
        self.lines.close().await;
    }

    fn failed(&self, what: &str) -> NotHome {
        NotHome::Failed(Ending::bad(Severity::Failed, what, None))
    }

    fn broken(&self, error: &RemoteError) -> NotHome {
        NotHome::of(self.host, error)
    }
}

fn store(
    mut writer: Writer,
    mut source: mpsc::Receiver<Bytes>,
    to: u64,
    whole: bool,
    host: &HostName,
    monitor: &dyn Monitor,
) -> Result<Writer, LibraryError> {
    while let Some(chunk) = source.blocking_recv() {
        // Never more than was asked for, whatever comes (I8).
        let room = usize::try_from(to - writer.bytes()).unwrap_or(usize::MAX);
        writer.write(&chunk[..chunk.len().min(room)])?;
        if whole {
            monitor.event(host, Event::Progress { bytes: writer.bytes(), total: Some(to) });
        }
        if chunk.len() > room {
            return Err(LibraryError::Missing("the master sent more than it was asked for".into()));
        }
    }
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_piece_is_not_followed_before_the_next_one_is_there() {
        let mib = 1 << 20;
        assert_eq!(settled(5 * mib, 500 * mib), 0);
        assert_eq!(settled(100 * mib, 500 * mib), (100 - 500 / 32 - 1) * mib - 500 * mib / 32 % mib);
        assert_eq!(settled(100 * mib, 30 * mib), 89 * mib);
        // A hundred gigabytes are cut into 128 pieces.
        assert_eq!(settled(2000 * mib, 128_000 * mib), 999 * mib);
    }
}
