//! Bringing an archive onto a master: block by block over as many lines as its distance is worth, each block proven there, what is there already
//! not sent again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};

use super::super::{Context, library_ending};
use super::frames::{Cargo, Frames, Queue, Taken, length_of};
use super::{Stopped, stopped};
use crate::fleet::Ending;
use crate::library::{BLOCK, Entry, Sum, Verified, parse_sum, sum_of_sums};
use crate::model::facts::parse_frames;
use crate::model::inventory::Host;
use crate::model::report::Severity;
use crate::model::text::human_bytes;
use crate::monitor::{Event, Step};
use crate::remote::job::Job;
use crate::remote::link::Link;
use crate::remote::ssh::Session;
use crate::remote::{RemoteError, Script};

/// Its name in the job's folder.
const NAME: &str = "archive.tar.lrz";
/// Asking how much is there.
const ASKING: Duration = Duration::from_secs(60);
/// How long a line may stay broken before the push is given up; every block that arrives starts it anew.
const PATIENCE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// What went for so long tells how fast a line is.
const TELLING: Duration = Duration::from_secs(20);
/// An sshd takes 2 MiB at a time in each stream, so one carries that much a round trip: for each of these a stream more ...
const WORTH_A_STREAM: Duration = Duration::from_millis(6);
/// ... up to this.
const MOST_STREAMS: usize = 16;
const STREAMS_ON_A_LINE: usize = 2;
/// What an sshd of old lets in at once.
const MOST_LINES: usize = 8;
/// What somebody else ends.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// The exit code of `seal.sh` where what arrived is not what was sent.
const WRONG: u32 = 8;

/// Sends the archive, which was found to be this, decrypted.
pub(in crate::commands) async fn push(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    entry: &Entry,
    verified: Verified,
    opening: Opening,
) -> Result<(), Stopped> {
    ctx.step(host, Step::Push);
    let Verified { sums, bytes, .. } = verified;
    let (archive, vault) = (entry.clone(), Arc::clone(&ctx.vault));
    let opened = tokio::task::spawn_blocking(move || archive.open(&vault.keys)).await;
    let opened = opened.map_err(|e| Stopped::Clean(Ending::bad(Severity::Failed, e.to_string(), None)))?;
    let plain = opened.map_err(|e| Stopped::Clean(library_ending(&e)))?;
    let cargo = Arc::new(Cargo { plain: Mutex::new(plain), bytes, sums, job: job.clone() });
    let (mut course, mut wrong) = (Course::new(host.bwlimit, opening), 0);
    loop {
        let arrived = course.arrived.load(Ordering::Relaxed);
        let error = match push_what_is_missing(ctx, host, link, &cargo, &mut course).await {
            Ok(()) => {
                ctx.monitor.event(&host.name, Event::Progress { bytes, total: Some(bytes) });
                return Ok(());
            }
            Err(e) => e,
        };
        link.drop_session();
        if course.arrived.load(Ordering::Relaxed) > arrived {
            course.patience.renew();
        }
        // The master has struck off what is wrong; a disk that does that twice is to blame itself.
        let is_wrong = matches!(error, RemoteError::Script { code: WRONG, .. });
        wrong += u32::from(is_wrong);
        let again = if is_wrong { wrong == 1 } else { may_go_on(&error) };
        if !again || !course.patience.waits().await {
            return Err(stopped(host, &error));
        }
        ctx.note(host, format!("{error}; going on with the push"));
    }
}

/// Whether another line would help. Hashing what is there from its beginning again would take as long again.
fn may_go_on(error: &RemoteError) -> bool {
    error.is_broken_line() && !matches!(error, RemoteError::TimedOut { what, .. } if what == "seal")
}

/// How a push goes.
struct Course {
    patience: Patience,
    /// Blocks that the master has said it has.
    arrived: Arc<AtomicU64>,
    /// Bytes a second that the line is known to carry.
    rate: Option<u64>,
    told: bool,
    opening: Opening,
}

impl Course {
    fn new(rate: Option<u64>, opening: Opening) -> Self {
        Self { patience: Patience::default(), arrived: Arc::default(), rate, told: false, opening }
    }
}

/// Lines that are opened before there is something to push.
#[derive(Default)]
pub(in crate::commands) struct Opening(Vec<JoinHandle<Link>>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Opening {
    /// Begins to open those that an archive of so many bytes is pushed over.
    pub(super) async fn begin(host: &Host, link: &mut Link, bytes: u64) -> Self {
        let round_trip = link.round_trip().await;
        let blocks = usize::try_from(bytes.div_ceil(BLOCK)).unwrap_or(usize::MAX);
        let (lines, _) = lines_for(host, streams_worth_it(round_trip, host.bwlimit).min(blocks));
        let open = |mut line: Link| async move {
            // One that isn't let in now is opened, or complained of, when it is used.
            let _ = line.session().await;
            line
        };
        Self((0..lines).map(|_| tokio::spawn(open(link.another()))).collect())
    }

    /// One of them, when it is open, or one that isn't yet.
    fn take(&mut self, link: &Link) -> impl Future<Output = Link> + use<> {
        let (opened, other) = (self.0.pop(), link.another());
        async move {
            match opened {
                Some(opened) => opened.await.unwrap_or(other),
                None => other,
            }
        }
    }
}

/// How many lines for so many streams, and how many streams on each. Several inside one connection through a jump host can wait for each other for
/// ever.
fn lines_for(host: &Host, streams: usize) -> (usize, usize) {
    let on_a_line = if host.jump.is_empty() { STREAMS_ON_A_LINE.min(streams) } else { 1 };
    (streams.div_ceil(on_a_line.max(1)).min(MOST_LINES), on_a_line)
}

/// For how long a line that broke is tried again.
#[derive(Default)]
struct Patience {
    broken: Option<(Instant, Duration)>,
}

impl Patience {
    fn renew(&mut self) {
        self.broken = None;
    }

    /// Waits a little longer each time; not at all where it is over.
    async fn waits(&mut self) -> bool {
        let (since, pause) = *self.broken.get_or_insert_with(|| (Instant::now(), Duration::from_millis(500)));
        if since.elapsed() + pause > PATIENCE {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.broken = Some((since, (pause * 2).min(LONGEST_PAUSE)));
        true
    }
}

async fn push_what_is_missing(
    ctx: &Context,
    host: &Host,
    link: &mut Link,
    cargo: &Arc<Cargo>,
    course: &mut Course,
) -> Result<(), RemoteError> {
    let words = [cargo.job.path().to_owned(), NAME.to_owned(), cargo.bytes.to_string()];
    let offer = Script::offer(words.clone().into_iter().chain([ctx.owner.clone()]));
    let session = link.session().await?;
    let (answer, round_trip) = tokio::try_join!(session.run(&offer, b"", ASKING), session.round_trip())?;
    let frames = parse_frames(&answer).map_err(|e| RemoteError::Answer(e.to_string()))?;
    let have = frames.get("have").map_or("", String::as_str);
    if have == "whole" {
        return Ok(());
    }
    let there = blocks_there(have, &cargo.sums);
    if !there.is_empty() && !std::mem::replace(&mut course.told, true) {
        ctx.note(host, format!("{} of the archive are there already", human_bytes((there.len() as u64 * BLOCK).min(cargo.bytes))));
    }
    let missing: VecDeque<usize> = (0..cargo.sums.len()).filter(|n| !there.contains(n)).collect();
    let streams = streams_worth_it(round_trip, course.rate).min(missing.len());
    let lines = link.another();
    // The master hashes what has arrived while the rest is on its way.
    let seal = Script::seal(words.into_iter().chain([sum_of_sums(&cargo.sums)]));
    let limit = link.step_timeout();
    let present = cargo.bytes - missing.iter().map(|n| length_of(cargo.bytes, *n)).sum::<u64>();
    let queue = Arc::new(Queue {
        left: Mutex::new(missing),
        sent: AtomicU64::new(present),
        arrived: Arc::clone(&course.arrived),
        cargo: Arc::clone(cargo),
        host: host.name.clone(),
        monitor: Arc::clone(&ctx.monitor),
    });
    let began = Instant::now();
    let sending = send(ctx, host, &lines, &queue, streams, &mut course.opening);
    let outcome = tokio::try_join!(sending, async { Ok(sealed(link, &seal, &queue.arrived, limit).await) });
    // What is known of a line that broke: fewer streams at once, and each of their blocks is over sooner.
    let sent = queue.sent.load(Ordering::Relaxed).saturating_sub(present);
    if began.elapsed() >= TELLING {
        course.rate = host.bwlimit.or(Some(sent / began.elapsed().as_secs()));
    }
    outcome?.1.map(drop)
}

/// Waits for the master's word that all of it is there. Its time begins anew with every block that arrives.
async fn sealed(link: &mut Link, seal: &Script, arrived: &AtomicU64, limit: Duration) -> Result<Vec<u8>, RemoteError> {
    let mut sealing = std::pin::pin!(link.run_once(seal, b"", FOR_EVER));
    let (mut seen, mut since) = (arrived.load(Ordering::Relaxed), Instant::now());
    loop {
        tokio::select! {
            done = &mut sealing => return done,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        let now = arrived.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > limit {
            return Err(RemoteError::TimedOut { what: seal.name.to_owned(), seconds: limit.as_secs() });
        }
    }
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

/// As many as the distance is worth; no more than a line of this rate carries a block of in a minute, for half a block is worth nothing.
fn streams_worth_it(round_trip: Duration, rate: Option<u64>) -> usize {
    let far = usize::try_from(round_trip.as_millis() / WORTH_A_STREAM.as_millis()).unwrap_or(MOST_STREAMS);
    let fast = rate.and_then(|rate| usize::try_from(rate.saturating_mul(60) / BLOCK).ok()).unwrap_or(MOST_STREAMS);
    far.min(fast).clamp(1, MOST_STREAMS)
}

/// Sends what is left over several lines. What one that breaks had taken is left for the others; where none is left they begin again, as long as
/// something arrives: the master hashes meanwhile, and need not begin anew.
async fn send(
    ctx: &Context,
    host: &Host,
    link: &Link,
    queue: &Arc<Queue>,
    streams: usize,
    opening: &mut Opening,
) -> Result<(), RemoteError> {
    loop {
        let arrived = queue.arrived.load(Ordering::Relaxed);
        let worst = send_once(host, link, queue, streams, opening).await;
        if queue.is_empty() {
            return Ok(());
        }
        let error = worst.unwrap_or_else(|| RemoteError::Lost("not every block was taken".into()));
        if !error.is_broken_line() || queue.arrived.load(Ordering::Relaxed) == arrived {
            return Err(error);
        }
        ctx.note(host, format!("{error}; going on with the push"));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Each stream takes the next block that nobody has taken; the worst of how they ended.
async fn send_once(host: &Host, link: &Link, queue: &Arc<Queue>, streams: usize, opening: &mut Opening) -> Option<RemoteError> {
    let (lines, on_a_line) = lines_for(host, streams);
    let mut set = JoinSet::new();
    for _ in 0..lines {
        let (line, script) = (opening.take(link), Script::take([queue.cargo.job.path().to_owned(), NAME.to_owned()]));
        let queue = Arc::clone(queue);
        set.spawn(async move {
            let mut line = line.await;
            let limit = line.step_timeout();
            // One that isn't let in is no worse than one that breaks: the others go on.
            let session = line.session().await.map_err(|e| if e.is_unreachable() { RemoteError::Lost(e.to_string()) } else { e })?;
            let all =
                async { futures_util::future::try_join_all((0..on_a_line).map(|_| stream(session, &script, &queue))).await.map(drop) };
            let pushed = Link::within_step(limit, "the push", all).await;
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
    worst
}

/// One stream; what the master has not said that it has goes back into the queue, however it ends.
async fn stream(session: &Session, script: &Script, queue: &Arc<Queue>) -> Result<(), RemoteError> {
    let taken = Taken::of(queue);
    let (frames, mut heard) = (Frames::of(&taken), Vec::new());
    session.push(script, frames, |answer| taken.hear(&mut heard, answer)).await
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
        let streams = [0, 5, 12, 60, 100, 900].map(|ms| streams_worth_it(Duration::from_millis(ms), None));
        assert_eq!(streams, [1, 1, 2, 10, 16, 16]);
        let slow = [1 << 10, 200 << 10, 1 << 20, 1 << 30].map(|rate| streams_worth_it(Duration::from_millis(100), Some(rate)));
        assert_eq!(slow, [1, 2, 15, 16], "half a block is worth nothing");
    }
}
