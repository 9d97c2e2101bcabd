//! A backup on its way into the library: hashed while it is written, published by a rename, or removed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::blocks::{BLOCK, Blocks, Sum};
use super::verify::{hex, sha256_of};
use super::{Entry, HostLock, Library, LibraryError, MANIFEST};
use crate::model::id::{BackupId, HostName};
use crate::model::manifest::Manifest;
use crate::model::text::human_bytes;

/// What lies beside an archive that has not arrived whole, for a later run that goes on with it.
const PENDING: &str = "pending.json";

/// A file that is hashed, block by block and as a whole, while it is written.
#[derive(Debug)]
pub struct HashedFile {
    path: PathBuf,
    file: File,
    blocks: Blocks,
}

/// An archive being received. Dropped before [`Received::commit`], it leaves nothing behind unless it was told to stay.
#[derive(Debug)]
pub struct Writer {
    folder: Folder,
    archive: HashedFile,
    lock: HostLock,
}

/// An archive that has arrived and is on the disk, not yet listed.
#[derive(Debug)]
pub struct Received {
    pub(super) folder: Folder,
    /// The archive file, still under its `.partial` folder.
    pub archive: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex, of what was written.
    pub sha256: String,
    pub(super) lock: HostLock,
}

/// The `.partial` folder, removed unless it was published or is to be gone on with.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) partial: PathBuf,
    published: PathBuf,
    keep: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // If this fails the folder keeps its `.partial` name, which nothing lists.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

impl Library {
    /// Whether the library has room for an archive as large as this host's newest one. How large the next will be nobody
    /// knows before it is packed; but a full disk is better found before a freeze than after it.
    ///
    /// # Errors
    /// When it hasn't, or can't be read.
    pub fn room_for_another(&self, host: &HostName) -> Result<(), LibraryError> {
        let (entries, _) = self.list(Some(host))?;
        self.room_for(&self.root.join(host.as_str()), entries.last().map_or(0, |entry| entry.manifest.archive.bytes))
    }

    fn room_for(&self, folder: &Path, bytes: u64) -> Result<(), LibraryError> {
        let disk = rustix::fs::statvfs(folder).map_err(|e| LibraryError::file(folder, "can't be read")(e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= bytes {
            return Ok(());
        }
        let (folder, free, needed) = (self.root.display(), human_bytes(free), human_bytes(bytes));
        Err(LibraryError::Missing(format!("the library {folder} has {free} free and the archive needs {needed}")))
    }

    /// Begins to receive an archive of this name. `bytes` is how large it should be; `note` says, for a later run that goes on with it, what
    /// it is.
    ///
    /// # Errors
    /// When the library can't be written or has too little room.
    pub fn begin(
        &self,
        lock: HostLock,
        host: &HostName,
        id: &BackupId,
        archive_name: &str,
        bytes: u64,
        note: Option<&[u8]>,
    ) -> Result<Writer, LibraryError> {
        let folder = self.begin_folder(host, id, bytes)?;
        if let Some(note) = note {
            let path = folder.partial.join(PENDING);
            let written = create_private(&path).and_then(|mut file| file.write_all(note).and_then(|()| file.sync_all()));
            written.map_err(LibraryError::file(&path, "can't be written"))?;
        }
        let archive = HashedFile::create(folder.partial.join(archive_name))?;
        Ok(Writer { folder, archive, lock })
    }

    /// Goes on with an archive that an earlier run began: what has arrived is read again, for nobody knows what of it reached the disk.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn reopen(&self, lock: HostLock, host: &HostName, id: &BackupId, archive_name: &str) -> Result<Writer, LibraryError> {
        let host_folder = self.root.join(host.as_str());
        let folder = Folder { published: host_folder.join(id.as_str()), partial: host_folder.join(format!("{id}.partial")), keep: true };
        // Of a run that was ended in the moment of publishing.
        match fs::remove_file(folder.partial.join(MANIFEST)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(LibraryError::file(&folder.partial, "can't be written")(e)),
            _ => {}
        }
        let archive = HashedFile::reopen(folder.partial.join(archive_name))?;
        Ok(Writer { folder, archive, lock })
    }

    /// What an earlier run of a host did not bring to its end, as it described it: its id and the note of [`Self::begin`].
    ///
    /// # Errors
    /// When the library can't be read.
    pub fn pending(&self, host: &HostName) -> Result<Option<(BackupId, Vec<u8>)>, LibraryError> {
        let found = super::catalog::folders(&self.root.join(host.as_str()))?;
        for (name, folder) in found {
            let id = name.strip_suffix(".partial").and_then(|id| id.parse().ok());
            if let (Some(id), Ok(note)) = (id, fs::read(folder.join(PENDING))) {
                return Ok(Some((id, note)));
            }
        }
        Ok(None)
    }

    /// Gives up what an earlier run did not bring to its end.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn give_up(&self, _lock: &HostLock, host: &HostName, id: &BackupId) -> Result<(), LibraryError> {
        let partial = self.root.join(host.as_str()).join(format!("{id}.partial"));
        match fs::remove_dir_all(&partial) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(LibraryError::file(&partial, "can't be removed")(e)),
            _ => Ok(()),
        }
    }

    /// A backup's folder under its `.partial` name. Folders of earlier attempts that died are removed first: with the lock held
    /// nobody can be writing them.
    pub(super) fn begin_folder(&self, host: &HostName, id: &BackupId, bytes: u64) -> Result<Folder, LibraryError> {
        let host_folder = self.root.join(host.as_str());
        for entry in fs::read_dir(&host_folder).map_err(LibraryError::file(&host_folder, "can't be read"))?.flatten() {
            // What a later run can go on with is given up by name only.
            if entry.file_name().to_string_lossy().ends_with(".partial") && !entry.path().join(PENDING).exists() {
                fs::remove_dir_all(entry.path())
                    .map_err(LibraryError::file(&entry.path(), "is left from an earlier run and can't be removed"))?;
            }
        }
        self.room_for(&host_folder, bytes)?;
        let partial = host_folder.join(format!("{id}.partial"));
        fs::DirBuilder::new().mode(0o700).create(&partial).map_err(LibraryError::file(&partial, "can't be made"))?;
        Ok(Folder { published: host_folder.join(id.as_str()), partial, keep: false })
    }
}

fn create_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

impl HashedFile {
    pub(super) fn create(path: PathBuf) -> Result<Self, LibraryError> {
        let file = create_private(&path).map_err(LibraryError::file(&path, "can't be made"))?;
        Ok(Self { path, file, blocks: Blocks::default() })
    }

    fn reopen(path: PathBuf) -> Result<Self, LibraryError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = file.map_err(LibraryError::file(&path, "can't be opened"))?;
        let blocks = Blocks::of(&mut file).map_err(LibraryError::file(&path, "can't be read"))?;
        Ok(Self { path, file, blocks })
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
        self.file.write_all(bytes).map_err(LibraryError::file(&self.path, "can't be written"))?;
        self.blocks.update(bytes);
        Ok(())
    }

    fn replace(&mut self, index: usize, bytes: &[u8]) -> Result<(), LibraryError> {
        self.file.write_all_at(bytes, index as u64 * BLOCK).map_err(LibraryError::file(&self.path, "can't be written"))?;
        self.blocks.replace(index, bytes);
        Ok(())
    }

    /// All bytes are there: brings them to the disk, and tells their SHA-256 in hex.
    ///
    /// # Errors
    /// When the disk doesn't confirm.
    pub fn finish(self) -> Result<String, LibraryError> {
        self.file.sync_all().map_err(LibraryError::file(&self.path, "can't be brought to the disk"))?;
        match self.blocks.whole() {
            Some(sum) => Ok(hex(&sum)),
            None => sha256_of(&self.path).map(|(_, sum)| sum),
        }
    }
}

impl Writer {
    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.archive.bytes()
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the disk doesn't take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LibraryError> {
        self.archive.write(bytes)
    }

    /// Whether the rest of an archive of this size has room.
    ///
    /// # Errors
    /// When it hasn't.
    pub fn room_for(&self, library: &Library, bytes: u64) -> Result<(), LibraryError> {
        library.room_for(&self.folder.partial, bytes.saturating_sub(self.bytes()))
    }

    /// Which blocks are not as they should be.
    #[must_use]
    pub fn differing(&self, sums: &[Sum]) -> Vec<usize> {
        let ours = self.archive.blocks.sums();
        (0..sums.len()).filter(|n| ours.get(*n) != sums.get(*n)).collect()
    }

    /// Puts a block in the place of another one of the same size.
    ///
    /// # Errors
    /// When the disk doesn't take it, or it has another size than the one in its place.
    pub fn replace(&mut self, index: usize, bytes: &[u8]) -> Result<(), LibraryError> {
        let at = index as u64 * BLOCK;
        if bytes.len() as u64 != self.bytes().saturating_sub(at).min(BLOCK) {
            return Err(LibraryError::Missing("a block that was asked for again has another size".into()));
        }
        self.archive.replace(index, bytes)
    }

    /// What has arrived stays where it is even if this is dropped, for a later run to go on with.
    pub fn keep(&mut self) {
        self.folder.keep = true;
    }

    /// All bytes are there: brings them to the disk.
    ///
    /// # Errors
    /// When the disk doesn't confirm.
    pub fn finish(self) -> Result<Received, LibraryError> {
        let (archive, bytes) = (self.archive.path.clone(), self.archive.bytes());
        let sha256 = self.archive.finish()?;
        Ok(Received { folder: self.folder, archive, bytes, sha256, lock: self.lock })
    }
}

impl Received {
    /// Writes the manifest and publishes the backup: from here on it is listed (I2).
    ///
    /// # Errors
    /// When the manifest can't be brought to the disk; nothing is listed then.
    pub fn commit(mut self, manifest: &Manifest) -> Result<Entry, LibraryError> {
        let path = self.folder.partial.join(MANIFEST);
        let mut text = serde_json::to_string_pretty(manifest).map_err(|e| LibraryError::file(&path, "can't be written")(e.into()))?;
        text.push('\n');
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(LibraryError::file(&path, "can't be made"))?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(LibraryError::file(&path, "can't be written"))?;
        // What a later run would have needed to go on is no part of a backup.
        match fs::remove_file(self.folder.partial.join(PENDING)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(LibraryError::file(&self.folder.partial, "can't be written")(e));
            }
            _ => {}
        }
        sync_folder(&self.folder.partial)?;
        fs::rename(&self.folder.partial, &self.folder.published)
            .map_err(LibraryError::file(&self.folder.published, "can't be published"))?;
        self.folder.keep = true;
        if let Some(parent) = self.folder.published.parent() {
            sync_folder(parent)?;
        }
        drop(self.lock);
        Ok(Entry { folder: self.folder.published.clone(), manifest: manifest.clone() })
    }
}

/// A rename is on the disk only when its folder is.
fn sync_folder(path: &Path) -> Result<(), LibraryError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(LibraryError::file(path, "can't be brought to the disk"))
}
