//! Bringing an archive onto a master: block by block over as many lines as its distance is worth, each block proven there, what is there already
//! not sent again.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::super::{Context, library_ending};
use super::{Stopped, stopped};
use crate::fleet::Ending;
use crate::library::{BLOCK, Entry, Plain, Sum, Verified, parse_sum};
use crate::model::facts::parse_frames;
use crate::model::id::HostName;
use crate::model::inventory::Host;
use crate::model::report::Severity;
use crate::model::text::human_bytes;
use crate::monitor::{Event, Monitor, Step};
use crate::remote::job::Job;
use crate::remote::link::Link;
use crate::remote::{RemoteError, Script};

/// Its name in the job's folder.
const NAME: &str = "archive.tar.lrz";
/// Asking how much is there.
const ASKING: Duration = Duration::from_secs(60);
/// How long a line may stay broken before the push is given up; every block that arrives starts it anew.
const PATIENCE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// An sshd takes 2 MiB at a time in each stream, so one carries that much a round trip: for each of these a stream more ...
const WORTH_A_STREAM: Duration = Duration::from_millis(6);
/// ... up to this.
const MOST_STREAMS: usize = 16;
const STREAMS_ON_A_LINE: usize = 2;
/// What an sshd of old lets in at once.
const MOST_LINES: usize = 8;
/// The exit code of `seal.sh` where what arrived is not what was sent.
const WRONG: u32 = 8;

/// An archive on its way.
struct Cargo {
    /// One reader for all streams: what it takes to open an archive is paid once.
    plain: Mutex<Plain>,
    bytes: u64,
    sums: Vec<Sum>,
    sha256: String,
    job: Job,
}

/// Sends the archive, which was found to be this, decrypted.
pub(in crate::commands) async fn push(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    entry: &Entry,
    verified: Verified,
) -> Result<(), Stopped> {
    ctx.step(host, Step::Push);
    let Verified { sums, bytes, sha256, .. } = verified;
    let (opening, vault) = (entry.clone(), Arc::clone(&ctx.vault));
    let opened = tokio::task::spawn_blocking(move || opening.open(&vault.keys)).await;
    let opened = opened.map_err(|e| Stopped::Clean(Ending::bad(Severity::Failed, e.to_string(), None)))?;
    let plain = opened.map_err(|e| Stopped::Clean(library_ending(&e)))?;
    let cargo = Arc::new(Cargo { plain: Mutex::new(plain), bytes, sums, sha256, job: job.clone() });
    let (mut since, mut reached, mut pause) = (Instant::now(), 0, Duration::from_millis(500));
    let mut wrong = 0;
    loop {
        let error = match push_what_is_missing(ctx, host, link, &cargo, &mut reached, &mut since).await {
            Ok(()) => return Ok(()),
            Err(e) => e,
        };
        // The master has struck off what is wrong; a disk that does that twice is to blame itself.
        if since.elapsed() < pause {
            pause = Duration::from_millis(500);
        }
        let is_wrong = matches!(error, RemoteError::Script { code: WRONG, .. });
        wrong += u32::from(is_wrong);
        let again = error.is_broken_line() || (is_wrong && wrong == 1);
        if !again || (!is_wrong && since.elapsed() + pause > PATIENCE) {
            return Err(stopped(host, &error));
        }
        link.drop_session();
        ctx.note(host, format!("{error}; going on with the push"));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn push_what_is_missing(
    ctx: &Context,
    host: &Host,
    link: &mut Link,
    cargo: &Arc<Cargo>,
    reached: &mut usize,
    since: &mut Instant,
) -> Result<(), RemoteError> {
    let words = [cargo.job.path().to_owned(), NAME.to_owned(), cargo.bytes.to_string()];
    let offer = words.clone().into_iter().chain([ctx.owner.clone()]);
    let answer = link.run_once(&Script::offer(offer), b"", ASKING).await?;
    let frames = parse_frames(&answer).map_err(|e| RemoteError::Answer(e.to_string()))?;
    let have = frames.get("have").map_or("", String::as_str);
    if have == "whole" {
        return Ok(());
    }
    let there = blocks_there(have, &cargo.sums);
    if there.len() > *reached {
        (*reached, *since) = (there.len(), Instant::now());
        ctx.note(host, format!("{} of the archive are there already", human_bytes((there.len() as u64 * BLOCK).min(cargo.bytes))));
    }
    let missing: VecDeque<usize> = (0..cargo.sums.len()).filter(|n| !there.contains(n)).collect();
    let streams = streams_worth_it(link.session().await?.round_trip().await?).min(missing.len());
    let lines = link.another();
    // The master hashes what has arrived while the rest is on its way.
    let seal = Script::seal(words.into_iter().chain([cargo.sha256.clone()]));
    let limit = link.step_timeout();
    let sent = Arc::new(AtomicU64::new(0));
    let sending = send(ctx, host, &lines, cargo, missing, streams, &sent);
    let outcome = tokio::try_join!(sending, async { Ok(link.run_once(&seal, b"", limit).await) });
    // More than what lines swallow before anybody notices that they are dead: that earns new patience.
    if sent.load(Ordering::Relaxed) >= BLOCK * streams as u64 {
        *since = Instant::now();
    }
    outcome?.1.map(drop)
}

/// The blocks that the master has as they should be. Anything else in its list is none (I8).
fn blocks_there(list: &str, sums: &[Sum]) -> BTreeSet<usize> {
    let right = |line: &str| {
        let (index, sum) = line.split_once(' ')?;
        let index: usize = index.parse().ok()?;
        (sums.get(index).copied() == parse_sum(sum) && index < sums.len()).then_some(index)
    };
    list.lines().filter_map(right).collect()
}

fn streams_worth_it(round_trip: Duration) -> usize {
    usize::try_from(round_trip.as_millis() / WORTH_A_STREAM.as_millis()).map_or(MOST_STREAMS, |streams| streams.clamp(1, MOST_STREAMS))
}

/// Each stream takes the next block that nobody has taken. One that breaks leaves the rest to the others; what it had taken is found missing
/// later.
async fn send(
    ctx: &Context,
    host: &Host,
    link: &Link,
    cargo: &Arc<Cargo>,
    missing: VecDeque<usize>,
    streams: usize,
    sent: &Arc<AtomicU64>,
) -> Result<(), RemoteError> {
    let first = cargo.bytes - missing.iter().map(|n| length_of(cargo.bytes, *n)).sum::<u64>();
    let queue = Arc::new(Mutex::new(missing));
    let frames = || Frames {
        cargo: Arc::clone(cargo),
        queue: Arc::clone(&queue),
        sent: Arc::clone(sent),
        first,
        host: host.name.clone(),
        monitor: Arc::clone(&ctx.monitor),
        header: Vec::new(),
        block: Vec::new(),
        gone: 0,
        ended: false,
    };
    // Several streams inside one connection through a jump host can wait for each other for ever.
    let on_a_line = if host.jump.is_empty() { STREAMS_ON_A_LINE } else { 1 };
    let lines = streams.div_ceil(on_a_line).min(MOST_LINES);
    let mut set = JoinSet::new();
    for _ in 0..lines {
        let (mut line, script) = (link.another(), Script::take([cargo.job.path().to_owned(), NAME.to_owned()]));
        let mut own: Vec<Frames> = (0..on_a_line.min(streams)).map(|_| frames()).collect();
        set.spawn(async move {
            let limit = line.step_timeout();
            // One that isn't let in is no worse than one that breaks: the others go on.
            let session = line.session().await.map_err(|e| if e.is_unreachable() { RemoteError::Lost(e.to_string()) } else { e })?;
            let (last, other) = (own.pop(), own.pop());
            let one = async |frames: Option<Frames>| match frames {
                Some(frames) => session.push(&script, frames).await,
                None => Ok(()),
            };
            let both = async { tokio::try_join!(one(last), one(other)).map(drop) };
            let pushed = Link::within_step(limit, "the push", both).await;
            line.close().await;
            pushed
        });
    }
    let mut worst: Option<RemoteError> = None;
    while let Some(joined) = set.join_next().await {
        let result = joined.unwrap_or_else(|e| Err(RemoteError::Answer(format!("tanker failed: {e}"))));
        if let Err(e) = result {
            // A full disk outranks a broken line: trying again won't help.
            worst = Some(worst.filter(|worst| !worst.is_broken_line()).unwrap_or(e));
        }
    }
    worst.map_or(Ok(()), Err)
}

fn length_of(bytes: u64, index: usize) -> u64 {
    bytes.saturating_sub(index as u64 * BLOCK).min(BLOCK)
}

/// The blocks that one line sends, as a stream: a header, the bytes, the next header, and in the end the end.
struct Frames {
    cargo: Arc<Cargo>,
    queue: Arc<Mutex<VecDeque<usize>>>,
    sent: Arc<AtomicU64>,
    /// What had been there before.
    first: u64,
    host: HostName,
    monitor: Arc<dyn Monitor>,
    header: Vec<u8>,
    block: Vec<u8>,
    /// How many bytes of the current block have gone.
    gone: usize,
    ended: bool,
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.header.is_empty() && self.gone == self.block.len() && !self.ended {
            self.next_block()?;
        }
        if !self.header.is_empty() {
            let now = self.header.len().min(buffer.len());
            buffer[..now].copy_from_slice(&self.header[..now]);
            self.header.drain(..now);
            return Ok(now);
        }
        let rest = &self.block[self.gone..];
        let read = rest.len().min(buffer.len());
        if read == 0 {
            return Ok(0);
        }
        buffer[..read].copy_from_slice(&rest[..read]);
        self.gone += read;
        let bytes = self.first + self.sent.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        self.monitor.event(&self.host, Event::Progress { bytes, total: Some(self.cargo.bytes) });
        Ok(read)
    }
}

impl Frames {
    fn next_block(&mut self) -> io::Result<()> {
        let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(index) = next else {
            self.ended = true;
            (self.gone, self.block) = (0, Vec::new());
            return writeln!(self.header, ". 0 -");
        };
        let length = length_of(self.cargo.bytes, index);
        self.block.resize(usize::try_from(length).unwrap_or(0), 0);
        self.gone = 0;
        let mut plain = self.cargo.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.seek(SeekFrom::Start(index as u64 * BLOCK))?;
        plain.read_exact(&mut self.block)?;
        drop(plain);
        let sum: String = self.cargo.sums[index].iter().map(|b| format!("{b:02x}")).collect();
        writeln!(self.header, "{index} {length} {sum}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_a_masters_list_of_blocks_counts_only_where_it_is_right() {
        let sums: Vec<Sum> = vec![[0xab; 32], [0xcd; 32]];
        let (one, two) = ("ab".repeat(32), "cd".repeat(32));
        assert_eq!(blocks_there(&format!("0 {one}\n1 {two}\n"), &sums), BTreeSet::from([0, 1]));
        assert_eq!(blocks_there(&format!("0 {two}\n1 {one}\n7 {one}\nx\n-1 {one}\n0 \n"), &sums), BTreeSet::new());
    }

    #[test]
    fn a_long_line_is_worth_several_streams_and_a_short_one_is_not() {
        let streams = [0, 5, 12, 60, 100, 900].map(|ms| streams_worth_it(Duration::from_millis(ms)));
        assert_eq!(streams, [1, 1, 2, 10, 16, 16]);
    }
}
