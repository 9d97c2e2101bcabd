//! A backup on its way into the library: hashed while it is written, published by a rename, or removed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::verify::hex;
use super::{Entry, HostLock, Library, LibraryError, MANIFEST};
use crate::model::id::{BackupId, HostName};
use crate::model::manifest::Manifest;
use crate::model::text::human_bytes;

/// A file that is hashed while it is written.
#[derive(Debug)]
pub struct HashedFile {
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

/// An archive being received. Dropped before [`Received::commit`], it leaves nothing behind.
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

/// The `.partial` folder, removed unless it was published.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) partial: PathBuf,
    published: PathBuf,
    done: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.done {
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

    /// Begins to receive an archive of this name. `bytes` is how large it will be.
    ///
    /// # Errors
    /// When the library can't be written or has too little room.
    pub fn begin(&self, lock: HostLock, host: &HostName, id: &BackupId, archive_name: &str, bytes: u64) -> Result<Writer, LibraryError> {
        let folder = self.begin_folder(host, id, bytes)?;
        let archive = HashedFile::create(folder.partial.join(archive_name))?;
        Ok(Writer { folder, archive, lock })
    }

    /// A backup's folder under its `.partial` name. Folders of earlier attempts that died are removed first: with the lock held
    /// nobody can be writing them.
    pub(super) fn begin_folder(&self, host: &HostName, id: &BackupId, bytes: u64) -> Result<Folder, LibraryError> {
        let host_folder = self.root.join(host.as_str());
        for entry in fs::read_dir(&host_folder).map_err(LibraryError::file(&host_folder, "can't be read"))?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(".partial") {
                fs::remove_dir_all(entry.path())
                    .map_err(LibraryError::file(&entry.path(), "is left from an earlier run and can't be removed"))?;
            }
        }
        self.room_for(&host_folder, bytes)?;
        let partial = host_folder.join(format!("{id}.partial"));
        fs::DirBuilder::new().mode(0o700).create(&partial).map_err(LibraryError::file(&partial, "can't be made"))?;
        Ok(Folder { published: host_folder.join(id.as_str()), partial, done: false })
    }
}

impl HashedFile {
    pub(super) fn create(path: PathBuf) -> Result<Self, LibraryError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(LibraryError::file(&path, "can't be made"))?;
        Ok(Self { path, file, hash: Sha256::new(), bytes: 0 })
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the disk doesn't take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LibraryError> {
        self.file.write_all(bytes).map_err(LibraryError::file(&self.path, "can't be written"))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// All bytes are there: brings them to the disk, and tells their SHA-256 in hex.
    ///
    /// # Errors
    /// When the disk doesn't confirm.
    pub fn finish(self) -> Result<String, LibraryError> {
        self.file.sync_all().map_err(LibraryError::file(&self.path, "can't be brought to the disk"))?;
        Ok(hex(&self.hash.finalize()))
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

    /// All bytes are there: brings them to the disk.
    ///
    /// # Errors
    /// When the disk doesn't confirm.
    pub fn finish(self) -> Result<Received, LibraryError> {
        let (archive, bytes) = (self.archive.path.clone(), self.archive.bytes);
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
        sync_folder(&self.folder.partial)?;
        fs::rename(&self.folder.partial, &self.folder.published)
            .map_err(LibraryError::file(&self.folder.published, "can't be published"))?;
        self.folder.done = true;
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
