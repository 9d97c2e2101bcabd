//! A file as blocks with a digest each: what is compared, sent again and resumed by.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

use super::verify::hex;

/// The size of a block; the last one may be shorter. The same as in `src/scripts/base.sh`.
pub const BLOCK: u64 = 4 << 20;

/// A SHA-256.
pub type Sum = [u8; 32];

/// Digests of a file's blocks and of the whole, made in one pass as its bytes come.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    done: Vec<Sum>,
    current: Sha256,
    in_current: u64,
    /// Gone where a block is exchanged, or is going to be: it would be of what was there before.
    whole: Whole,
}

#[derive(Debug, Clone)]
struct Whole(Option<Sha256>);

impl Default for Whole {
    fn default() -> Self {
        Self(Some(Sha256::new()))
    }
}

impl Blocks {
    /// The next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if let Some(whole) = &mut self.whole.0 {
            whole.update(bytes);
        }
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.in_current).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.current.update(now);
            self.in_current += room as u64;
            if self.in_current == BLOCK {
                self.done.push(self.current.finalize_reset().into());
                self.in_current = 0;
            }
            bytes = later;
        }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.done.len() as u64 * BLOCK + self.in_current
    }

    /// The digests, that of the unfinished last block included.
    #[must_use]
    pub fn sums(&self) -> Vec<Sum> {
        let last = (self.in_current > 0).then(|| self.current.clone().finalize().into());
        self.done.iter().copied().chain(last).collect()
    }

    /// Some of its blocks won't stay as they come: the whole can only be hashed when they are there.
    pub(super) fn will_change(&mut self) {
        self.whole = Whole(None);
    }

    /// A block was replaced by one with this digest.
    pub(super) fn replace(&mut self, index: usize, bytes: &[u8]) {
        self.will_change();
        if let Some(sum) = self.done.get_mut(index) {
            *sum = Sha256::digest(bytes).into();
        } else {
            self.current = Sha256::new();
            self.current.update(bytes);
        }
    }

    /// The whole's digest; none where a block was replaced and the file must be read again.
    pub(super) fn whole(&self) -> Option<Sum> {
        self.whole.0.clone().map(|whole| whole.finalize().into())
    }

    /// Reads a file from where it stands to its end.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn of(file: &mut File) -> io::Result<Self> {
        let mut blocks = Self::default();
        let mut buffer = vec![0; 1 << 20];
        file.seek(SeekFrom::Start(0))?;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(blocks);
            }
            blocks.update(&buffer[..read]);
        }
    }
}

/// Reads digests as `sha256sum` prints them, one a line. `bytes` says how many there must be, and `sha256` is that of the list.
///
/// # Errors
/// When there are more or fewer, or one is none (I8), or the list is another one.
pub fn parse_sums(text: &str, bytes: u64, sha256: &str) -> Result<Vec<Sum>, String> {
    if parse_sum(sha256) != Some(Sha256::digest(text).into()) {
        return Err("the master's list of blocks is not the one that it announced".to_owned());
    }
    let sums: Option<Vec<Sum>> = text.lines().map(parse_sum).collect();
    match sums {
        Some(sums) if sums.len() as u64 == bytes.div_ceil(BLOCK) => Ok(sums),
        _ => Err("the master's list of blocks can't be read".to_owned()),
    }
}

/// The SHA-256, in hex, of the digests of blocks as such a list has them: what holds for all of them holds for the whole.
#[must_use]
pub fn sum_of_sums(sums: &[Sum]) -> String {
    let mut list = Sha256::new();
    for sum in sums {
        list.update(hex(sum) + "\n");
    }
    hex(&list.finalize())
}

/// A SHA-256 in hex.
#[must_use]
pub fn parse_sum(hex: &str) -> Option<Sum> {
    let mut sum = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return None;
    }
    for (n, byte) in sum.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_same_however_the_bytes_come() {
        let data: Vec<u8> = (0..BLOCK * 2 + 777).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let of = |chunk: usize| {
            let mut blocks = Blocks::default();
            data.chunks(chunk).for_each(|part| blocks.update(part));
            (blocks.bytes(), blocks.sums(), blocks.whole())
        };
        let (bytes, sums, whole) = of(32_768);
        assert_eq!((bytes, sums.len()), (data.len() as u64, 3));
        assert_eq!(whole, Some(Sha256::digest(&data).into()));
        assert_eq!(sums[2], <Sum>::from(Sha256::digest(&data[BLOCK as usize * 2..])));
        assert_eq!(of(1_000_003), (bytes, sums, whole));
    }

    #[test]
    fn i8_a_list_of_blocks_that_is_no_such_list_is_refused() {
        let line = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
        let sum = |text: &str| super::super::verify::hex(&Sha256::digest(text));
        assert_eq!(parse_sums(&line.repeat(2), BLOCK + 1, &sum(&line.repeat(2))).unwrap().len(), 2);
        for bad in [line.to_owned(), line.repeat(3), "x\ny\n".into(), line.to_uppercase().repeat(2)] {
            assert!(parse_sums(&bad, BLOCK + 1, &sum(&bad)).is_err(), "{bad}");
        }
        assert!(parse_sums(&line.repeat(2), BLOCK + 1, &sum(line)).unwrap_err().contains("announced"));
    }
}
