//! A backup on its way into the library: hashed while it is written, published by a rename, or removed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Entry, HostLock, Library, LibraryError, MANIFEST};
use crate::model::id::{BackupId, HostName};
use crate::model::manifest::Manifest;
use crate::model::text::human_bytes;

/// An archive being received. Dropped before [`Received::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    folder: Folder,
    archive: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
    lock: HostLock,
}

/// An archive that has arrived and is on the disk, not yet listed.
#[derive(Debug)]
pub struct Received {
    folder: Folder,
    /// The archive file, still under its `.partial` folder.
    pub archive: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex, of what was written.
    pub sha256: String,
    lock: HostLock,
}

/// The `.partial` folder, removed unless it was published.
#[derive(Debug)]
struct Folder {
    partial: PathBuf,
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

    /// Begins to receive an archive of this name. Folders of earlier attempts that died are removed first: with the lock
    /// held nobody can be writing them. `bytes` is how large it will be.
    ///
    /// # Errors
    /// When the library can't be written or has too little room.
    pub fn begin(&self, lock: HostLock, host: &HostName, id: &BackupId, archive_name: &str, bytes: u64) -> Result<Writer, LibraryError> {
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
        let folder = Folder { published: host_folder.join(id.as_str()), partial, done: false };
        let archive = folder.partial.join(archive_name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&archive);
        let file = file.map_err(LibraryError::file(&archive, "can't be made"))?;
        Ok(Writer { folder, archive, file, hash: Sha256::new(), bytes: 0, lock })
    }
}

impl Writer {
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
        self.file.write_all(bytes).map_err(LibraryError::file(&self.archive, "can't be written"))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// All bytes are there: brings them to the disk.
    ///
    /// # Errors
    /// When the disk doesn't confirm.
    pub fn finish(self) -> Result<Received, LibraryError> {
        self.file.sync_all().map_err(LibraryError::file(&self.archive, "can't be brought to the disk"))?;
        let sha256 = self.hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Received { folder: self.folder, archive: self.archive, bytes: self.bytes, sha256, lock: self.lock })
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
