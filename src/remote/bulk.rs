//! Much of a file over as many lines as its distance is worth: block by block over one after another, and put together again as it comes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::mpsc;

use super::link::Link;
use super::ssh::window_for;
use super::{RemoteError, Script};

/// What goes over one line in one go: as in `base.sh`.
const BLOCK: u64 = 4 << 20;
/// A kernel keeps a few MiB for a connection where nobody has told it otherwise, so one carries that much a round trip: for each of these a
/// line more ...
const WORTH_A_LINE: Duration = Duration::from_millis(12);
/// ... up to what an sshd of old lets in at once.
const MOST_LINES: u32 = 8;
/// Less than this for each line isn't worth a login.
const WORTH_A_LOGIN: u64 = 2 * BLOCK;
/// What went for so long tells how fast a line is.
const TELLING: Duration = Duration::from_secs(5);
/// How many chunks of at most 32 KiB each line holds for whoever puts them together.
const HELD: usize = 32;

/// What is sent begins at a multiple of this, but for its very beginning.
const PIECE: u64 = 64 << 10;

/// Lines to one master, connected when they are first used.
pub struct Bulk {
    /// There for anything else that is large, too.
    pub first: Link,
    others: Vec<Link>,
    /// Bytes a second that came over all of them.
    rate: Option<u64>,
}

impl Bulk {
    /// As many as are worth it. `link`, which is open, tells how long a question takes: so how much has to be on its way to fill the distance. One
    /// that doesn't answer is taken for a long one.
    pub async fn beside(link: &mut Link) -> Self {
        let round_trip = link.round_trip().await;
        let number = if link.is_limited() { 1 } else { lines_worth_it(round_trip) };
        let window = window_for(round_trip / number);
        Self { first: link.another_with(window), others: (1..number).map(|_| link.another_with(window)).collect(), rate: None }
    }

    /// Sends the bytes of a file on the master from `from` to `to` into `sink`, in order; a sink that is slow throttles the lines.
    ///
    /// # Errors
    /// The line's or the script's, of any of them; or that a master sent another number of bytes than it was asked for.
    pub async fn pull(&mut self, file: &str, from: u64, to: u64, sink: mpsc::Sender<Bytes>) -> Result<(), RemoteError> {
        let even = from.next_multiple_of(PIECE).min(to);
        let worth = self.lines_for(to - even);
        let number = if worth > 1 { self.open(worth).await? } else { 1 };
        if number == 1 {
            return self.pull_over_one(file, from, to, sink).await;
        }
        if even > from {
            self.pull_over_one(file, from, even, sink.clone()).await?;
        }
        let (began, mut came) = (Instant::now(), Came::default());
        let step = number as u64 * BLOCK;
        let (mut pulls, mut sources) = (Vec::new(), Vec::new());
        for (n, line) in (0..).zip([&mut self.first].into_iter().chain(&mut self.others).take(number)) {
            let (own, source) = mpsc::channel::<Bytes>(HELD);
            sources.push(source);
            let words = [file.to_owned(), (even + n * BLOCK).to_string(), to.to_string(), step.to_string()];
            let script = Script::stripe(words.into_iter().chain((n == 0).then(|| "reader".to_owned())));
            pulls.push(async move { line.session().await?.pull(&script, own).await });
        }
        // The line's own word comes first: what is missing behind it says less.
        let pulled = tokio::try_join!(biased; try_join_all(pulls), put_together(sources, to - even, &sink, &mut came)).map(drop);
        self.learn(came.bytes, came.last.map_or(Duration::ZERO, |last| last - began), pulled.is_ok());
        pulled
    }

    /// No more than carry a block each in a minute: what of it has come when a line breaks is lost.
    fn lines_for(&self, bytes: u64) -> usize {
        let fast = self.rate.map_or(u64::MAX, |rate| rate.saturating_mul(60) / BLOCK);
        let worth = usize::try_from((bytes / WORTH_A_LOGIN).min(fast)).unwrap_or(usize::MAX);
        worth.clamp(1, self.others.len() + 1)
    }

    /// Logs in over so many lines at once. Others that aren't let in are no reason to do without the first: they aren't asked for again. Returns how
    /// many are open; they come first.
    async fn open(&mut self, number: usize) -> Result<usize, RemoteError> {
        let later = self.others.split_off((number - 1).min(self.others.len()));
        let asked = join_all(self.others.drain(..).map(async |mut line| line.session().await.is_ok().then_some(line)));
        let (first, asked) = tokio::join!(self.first.session(), asked);
        self.others = asked.into_iter().flatten().collect();
        let open = self.others.len() + 1;
        self.others.extend(later);
        first.map(|_| open)
    }

    /// `took`: until the last byte came, for a line that dies is silent for a while before that is noticed.
    fn learn(&mut self, came: u64, took: Duration, whole: bool) {
        if came == 0 && !whole {
            // Whatever the reason, one line would have brought something.
            self.others.clear();
        } else if took >= TELLING {
            self.rate = Some(came / took.as_secs().max(1));
        }
    }

    async fn pull_over_one(&mut self, file: &str, from: u64, to: u64, sink: mpsc::Sender<Bytes>) -> Result<(), RemoteError> {
        let script = Script::read([file.to_owned(), from.to_string(), (to - from).to_string()]);
        self.first.session().await?.pull(&script, sink).await
    }

    /// Forgets sessions that broke.
    pub fn drop_sessions(&mut self) {
        [&mut self.first].into_iter().chain(&mut self.others).for_each(Link::drop_session);
    }

    /// Says goodbye.
    pub async fn close(self) {
        join_all([self.first].into_iter().chain(self.others).map(Link::close)).await;
    }
}

/// As many as the distance is worth.
fn lines_worth_it(round_trip: Duration) -> u32 {
    u32::try_from(round_trip.as_millis() / WORTH_A_LINE.as_millis()).unwrap_or(MOST_LINES).clamp(1, MOST_LINES)
}

/// What has been put together.
#[derive(Default)]
struct Came {
    bytes: u64,
    last: Option<Instant>,
}

/// Takes a block from each source in turn.
async fn put_together(
    mut sources: Vec<mpsc::Receiver<Bytes>>,
    bytes: u64,
    sink: &mpsc::Sender<Bytes>,
    came: &mut Came,
) -> Result<(), RemoteError> {
    let mut held: Vec<Bytes> = vec![Bytes::new(); sources.len()];
    let (mut left, mut turn) = (bytes, 0);
    while left > 0 {
        let mut block = left.min(BLOCK);
        left -= block;
        while block > 0 {
            if held[turn].is_empty() {
                // Why it ended says the line itself, or its script ended well and too early.
                held[turn] =
                    sources[turn].recv().await.ok_or_else(|| RemoteError::Answer("the master sent less than it was asked for".into()))?;
            }
            let room = usize::try_from(block).unwrap_or(usize::MAX);
            let length = held[turn].len().min(room);
            let piece = held[turn].split_to(length);
            block -= piece.len() as u64;
            *came = Came { bytes: came.bytes + piece.len() as u64, last: Some(Instant::now()) };
            sink.send(piece).await.map_err(|_| RemoteError::Answer("what came from the master could not be taken any more".into()))?;
        }
        turn = (turn + 1) % sources.len();
    }
    for (source, held) in sources.iter_mut().zip(&held) {
        if !held.is_empty() || source.recv().await.is_some() {
            return Err(RemoteError::Answer("the master sent more than it was asked for".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_worth_several_connections_and_a_short_one_is_not() {
        let lines = [0, 5, 20, 30, 100, 900].map(|ms| lines_worth_it(Duration::from_millis(ms)));
        assert_eq!(lines, [1, 1, 1, 2, 8, 8]);
        assert_eq!(lines_worth_it(Duration::MAX), MOST_LINES);
    }

    #[tokio::test]
    async fn i8_blocks_are_put_together_in_their_order_and_only_as_many_bytes_as_were_asked_for() {
        let bytes: Vec<u8> = (0..10_000_000_u32).map(|n| (n / 1000) as u8).collect();
        for (cut, more) in [(0, 0), (1, 0), (0, 1)] {
            let (ends, sources): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel::<Bytes>(1000)).unzip();
            for (n, block) in bytes.chunks(4 << 20).enumerate() {
                let last = if n == 2 { cut } else { 0 };
                for chunk in block[..block.len() - last].chunks(30_000) {
                    ends[n].send(Bytes::copy_from_slice(chunk)).await.unwrap();
                }
            }
            if more > 0 {
                ends[1].send(Bytes::from_static(b"x")).await.unwrap();
            }
            drop(ends);
            let (sink, mut source) = mpsc::channel::<Bytes>(1000);
            let mut came = Came::default();
            let put = put_together(sources, bytes.len() as u64, &sink, &mut came).await;
            assert_eq!(came.bytes, bytes.len() as u64 - cut as u64);
            drop(sink);
            let mut got = Vec::new();
            while let Some(piece) = source.recv().await {
                got.extend_from_slice(&piece);
            }
            match (cut, more) {
                (0, 0) => assert!(put.is_ok() && got == bytes),
                (1, _) => assert!(put.unwrap_err().to_string().contains("less than it was asked for")),
                _ => assert!(put.unwrap_err().to_string().contains("more than it was asked for")),
            }
        }
    }
}
