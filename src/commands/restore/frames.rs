//! What is pushed: blocks that nobody has taken yet, those that a stream has sent and the master has not confirmed, and how a stream frames them.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::library::{BLOCK, Plain, Sum};
use crate::model::id::HostName;
use crate::monitor::{Event, Monitor};
use crate::remote::job::Job;

/// What is looked at of an answer of `take.sh`.
const LONGEST_ANSWER: usize = 32;

/// An archive on its way.
pub(super) struct Cargo {
    /// One reader for all streams: what it takes to open an archive is paid once.
    pub(super) plain: Mutex<Plain>,
    pub(super) bytes: u64,
    pub(super) sums: Vec<Sum>,
    pub(super) job: Job,
}

pub(super) fn length_of(bytes: u64, index: usize) -> u64 {
    bytes.saturating_sub(index as u64 * BLOCK).min(BLOCK)
}

/// What is left to send, by all streams.
pub(super) struct Queue {
    pub(super) left: Mutex<VecDeque<usize>>,
    /// Bytes that are there or on their way.
    pub(super) sent: AtomicU64,
    pub(super) arrived: Arc<AtomicU64>,
    pub(super) cargo: Arc<Cargo>,
    pub(super) host: HostName,
    pub(super) monitor: Arc<dyn Monitor>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// What a stream has sent or is sending and the master has not confirmed: each block and how much of it is gone.
pub(super) struct Taken<'a> {
    blocks: Mutex<VecDeque<(usize, u64)>>,
    queue: &'a Queue,
}

impl<'a> Taken<'a> {
    pub(super) fn of(queue: &'a Queue) -> Self {
        Self { blocks: Mutex::default(), queue }
    }

    fn blocks(&self) -> std::sync::MutexGuard<'_, VecDeque<(usize, u64)>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `ok INDEX`, a line each. Anything else confirms nothing (I8).
    pub(super) fn hear(&self, heard: &mut Vec<u8>, answer: &[u8]) {
        for byte in answer {
            if *byte != b'\n' {
                if heard.len() < LONGEST_ANSWER {
                    heard.push(*byte);
                }
                continue;
            }
            let index = std::str::from_utf8(heard).ok().and_then(|line| line.strip_prefix("ok ")?.parse::<usize>().ok());
            heard.clear();
            let mut blocks = self.blocks();
            if let Some(at) = blocks.iter().position(|(block, _)| Some(*block) == index) {
                blocks.remove(at);
                self.queue.arrived.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let blocks = std::mem::take(&mut *self.blocks());
        let mut left = self.queue.left.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, gone) in blocks.into_iter().rev() {
            left.push_front(index);
            self.queue.sent.fetch_sub(gone, Ordering::Relaxed);
        }
    }
}

/// The blocks that one stream sends: a header, the bytes, the next header, and in the end the end.
pub(super) struct Frames<'a> {
    taken: &'a Taken<'a>,
    header: Vec<u8>,
    block: Vec<u8>,
    /// How many bytes of the current block have gone.
    gone: usize,
    ended: bool,
}

impl<'a> Frames<'a> {
    pub(super) fn of(taken: &'a Taken<'a>) -> Self {
        Self { taken, header: Vec::new(), block: Vec::new(), gone: 0, ended: false }
    }
}

impl Read for Frames<'_> {
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
        if let Some((_, gone)) = self.taken.blocks().back_mut() {
            *gone += read as u64;
        }
        let queue = self.taken.queue;
        let bytes = queue.sent.fetch_add(read as u64, Ordering::Relaxed) + read as u64;
        // That all of it is there says the master, when it has looked at it.
        if bytes < queue.cargo.bytes {
            queue.monitor.event(&queue.host, Event::Progress { bytes, total: Some(queue.cargo.bytes) });
        }
        Ok(read)
    }
}

impl Frames<'_> {
    fn next_block(&mut self) -> io::Result<()> {
        let (queue, cargo) = (self.taken.queue, &self.taken.queue.cargo);
        let next = queue.left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(index) = next else {
            self.ended = true;
            (self.gone, self.block) = (0, Vec::new());
            return writeln!(self.header, ". 0 -");
        };
        self.taken.blocks().push_back((index, 0));
        let length = length_of(cargo.bytes, index);
        self.block.resize(usize::try_from(length).unwrap_or(0), 0);
        self.gone = 0;
        let mut plain = cargo.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.seek(SeekFrom::Start(index as u64 * BLOCK))?;
        plain.read_exact(&mut self.block)?;
        drop(plain);
        let sum: String = cargo.sums[index].iter().map(|b| format!("{b:02x}")).collect();
        writeln!(self.header, "{index} {length} {sum}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;
    impl Monitor for Silent {
        fn event(&self, _: &HostName, _: Event) {}
    }

    #[test]
    fn i8_what_a_stream_did_not_bring_over_is_left_for_the_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(2 * BLOCK + 5).unwrap();
        let plain = Mutex::new(std::fs::File::open(file.path()).unwrap().into());
        let cargo = Cargo { plain, bytes: 2 * BLOCK + 5, sums: vec![[0; 32]; 3], job: Job::new("restore-x") };
        let queue = Queue {
            left: Mutex::new((0..3).collect()),
            sent: AtomicU64::new(0),
            arrived: Arc::default(),
            cargo: Arc::new(cargo),
            host: "east".parse().unwrap(),
            monitor: Arc::new(Silent),
        };
        let (taken, mut heard) = (Taken::of(&queue), Vec::new());
        let mut sent = Vec::new();
        Frames::of(&taken).read_to_end(&mut sent).unwrap();
        assert!(sent.ends_with(b". 0 -\n") && sent.starts_with(b"0 4194304 0000") && queue.is_empty());
        // In pieces, with one that was never sent, one twice, and what is no answer.
        for answer in [&b"ok"[..], b" 1\nok 7\nok 1\n", &[b'x'; 4096], b"\nok -1\n\nko 0\n"] {
            taken.hear(&mut heard, answer);
        }
        drop(taken);
        assert_eq!(queue.arrived.load(Ordering::Relaxed), 1);
        assert_eq!(*queue.left.lock().unwrap(), [0, 2]);
        assert_eq!(queue.sent.load(Ordering::Relaxed), BLOCK);
    }
}
