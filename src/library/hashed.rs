//! A file that is hashed while it is written, and encrypted where it must be before it reaches the disk.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::LibraryError;
use super::blocks::{BLOCK, Blocks};
use super::crypt::{Recipients, Sealed, Sealer};
use super::resume::{ResumeKey, what_has_come};
use super::verify::{hex, sha256_of};
use super::writer::remove;
use crate::model::manifest::encrypted_name;
use crate::platform;

/// A file that is hashed, block by block and as a whole, while it is written.
pub struct HashedFile {
    path: PathBuf,
    sink: Sink,
    blocks: Blocks,
}

/// Where its bytes go.
enum Sink {
    Plain(File),
    /// Encrypted before they reach the disk.
    Sealed(Box<Sealer>),
}

fn create_private(path: &Path) -> io::Result<File> {
    platform::private().read(true).write(true).create_new(true).open(path)
}

impl HashedFile {
    pub(super) fn create(path: PathBuf) -> Result<Self, LibraryError> {
        let file = create_private(&path).map_err(LibraryError::file(&path, "can't be made"))?;
        Ok(Self { path, sink: Sink::Plain(file), blocks: Blocks::default() })
    }

    /// An archive of this name, with its ending where it is encrypted.
    pub(super) fn begin(folder: &Path, name: &str, to: Option<&Recipients>) -> Result<Self, LibraryError> {
        let Some(to) = to else { return Self::create(folder.join(name)) };
        Self::seal(folder.join(encrypted_name(name)), to)
    }

    fn seal(path: PathBuf, to: &Recipients) -> Result<Self, LibraryError> {
        let sealer = create_private(&path).and_then(|file| Sealer::new(file, to));
        let sealer = sealer.map_err(LibraryError::file(&path, "can't be encrypted"))?;
        Ok(Self { path, sink: Sink::Sealed(Box::new(sealer)), blocks: Blocks::default() })
    }

    pub(super) fn reopen(path: PathBuf) -> Result<Self, LibraryError> {
        let file = platform::private().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(LibraryError::file(&path, "can't be opened"))?;
        let blocks = Blocks::of(&mut file).map_err(LibraryError::file(&path, "can't be read"))?;
        Ok(Self { path, sink: Sink::Plain(file), blocks })
    }

    /// An encrypted one that goes on with what has come before of another one, which its key opens: decrypted and encrypted again, for one key
    /// never writes twice.
    pub(super) fn go_on(folder: &Path, name: &str, to: &Recipients, before: &Path, key: &ResumeKey) -> Result<Option<Self>, LibraryError> {
        let Some(mut come) = what_has_come(before, key) else { return Ok(None) };
        let mut file = Self::begin(folder, name, Some(to))?;
        let mut piece = vec![0; 64 << 10];
        // Where it was cut off it can't be read any further: the rest is fetched.
        while let Ok(read) = come.read(&mut piece)
            && read > 0
        {
            file.write(&piece[..read])?;
        }
        Ok(Some(file))
    }

    /// An encrypted one again, under a new key, for what is encrypted can't be patched: `exchange` is asked of each block, by its index, and hands
    /// over another one or none. What it is made from stays `aside`.
    pub(super) fn again(
        self,
        to: &Recipients,
        aside: &Path,
        exchange: impl FnMut(usize) -> Result<Option<Vec<u8>>, LibraryError>,
    ) -> Result<Self, LibraryError> {
        let Self { path, sink: Sink::Sealed(sealer), blocks } = self else {
            return Err(LibraryError::Missing("what isn't encrypted need not be written again".into()));
        };
        let key = sealer.end().map_err(LibraryError::file(&path, "can't be written"))?;
        fs::rename(&path, aside).map_err(LibraryError::file(&path, "can't be put aside"))?;
        let mut file = Self::seal(path.clone(), to)?;
        match file.copy_blocks(aside, &key, blocks.bytes(), exchange) {
            Ok(()) => Ok(file),
            Err(e) => {
                drop(file);
                // Its key is kept by nobody, and the disk may be full of it.
                remove(&path)?;
                Err(e)
            }
        }
    }

    fn copy_blocks(
        &mut self,
        from: &Path,
        key: &ResumeKey,
        mut left: u64,
        mut exchange: impl FnMut(usize) -> Result<Option<Vec<u8>>, LibraryError>,
    ) -> Result<(), LibraryError> {
        let unreadable = || LibraryError::file(from, "can't be read again");
        let mut come = what_has_come(from, key).ok_or_else(|| unreadable()(io::ErrorKind::InvalidData.into()))?;
        let mut buffer = vec![0; usize::try_from(BLOCK).unwrap_or(usize::MAX)];
        for index in 0.. {
            let block = &mut buffer[..usize::try_from(left.min(BLOCK)).unwrap_or(usize::MAX)];
            if block.is_empty() {
                break;
            }
            come.read_exact(block).map_err(unreadable())?;
            left -= block.len() as u64;
            match exchange(index)? {
                None => self.write(block)?,
                Some(other) if other.len() == block.len() => self.write(&other)?,
                Some(_) => return Err(LibraryError::Missing("a block that was asked for again has another size".into())),
            }
        }
        Ok(())
    }

    /// An encrypted one with nothing in it yet.
    pub(super) fn anew(self, to: &Recipients) -> Result<Self, LibraryError> {
        let Self { path, .. } = self;
        remove(&path)?;
        Self::seal(path, to)
    }

    /// Its blocks won't all stay as they come.
    pub(super) fn will_change(&mut self) {
        // One that is encrypted is written again then, and hashed.
        if !self.is_sealed() {
            self.blocks.will_change();
        }
    }

    /// What a later run needs to go on with it, where it is encrypted.
    pub(super) fn key(&self) -> Option<&ResumeKey> {
        match &self.sink {
            Sink::Plain(_) => None,
            Sink::Sealed(sealer) => Some(&sealer.key),
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.sink, Sink::Sealed(_))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.bytes()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the disk doesn't take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LibraryError> {
        let written = match &mut self.sink {
            Sink::Plain(file) => file.write_all(bytes),
            Sink::Sealed(sealer) => sealer.write(bytes),
        };
        written.map_err(LibraryError::file(&self.path, "can't be written"))?;
        self.blocks.update(bytes);
        Ok(())
    }

    pub(super) fn replace(&mut self, index: usize, bytes: &[u8]) -> Result<(), LibraryError> {
        let Sink::Plain(file) = &mut self.sink else {
            return Err(LibraryError::Missing(
                "what is encrypted can't be changed any more: the master's archive changed under the transfer".into(),
            ));
        };
        platform::write_all_at(file, bytes, index as u64 * BLOCK).map_err(LibraryError::file(&self.path, "can't be written"))?;
        self.blocks.replace(index, bytes);
        Ok(())
    }

    /// All bytes are there: brings them to the disk, and tells their SHA-256 in hex.
    ///
    /// # Errors
    /// When the disk doesn't confirm.
    pub fn finish(self) -> Result<String, LibraryError> {
        self.close().map(|(sum, _)| sum)
    }

    pub(super) fn close(self) -> Result<(String, Option<Sealed>), LibraryError> {
        let unconfirmed = LibraryError::file(&self.path, "can't be brought to the disk");
        let sealed = match self.sink {
            Sink::Plain(file) => file.sync_all().map(|()| None),
            Sink::Sealed(sealer) => sealer.finish().map(Some),
        };
        let sealed = sealed.map_err(unconfirmed)?;
        match self.blocks.whole() {
            Some(sum) => Ok((hex(&sum), sealed)),
            None => sha256_of(&self.path).map(|(_, sum)| (sum, sealed)),
        }
    }
}
