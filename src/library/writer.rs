//! A backup on its way into the library: hashed while it is written, published by a rename, or removed.

use std::fs;
use std::path::{Path, PathBuf};

use super::blocks::{BLOCK, Sum};
use super::crypt::Sealed;
use super::digests::{SEAL, SUMS, seal, sums, sync_folder, write_private};
use super::hashed::HashedFile;
use super::resume::{ResumeKey, aside, before, fits_again, go_on};
use super::{Entry, HostLock, Library, LibraryError, MANIFEST, Recipients};
use crate::model::id::{BackupId, HostName};
use crate::model::manifest::{Archive, Encryption, Manifest, Member, encrypted_name};
use crate::model::record::Record;
use crate::model::text::human_bytes;
use crate::platform;

/// What lies beside an archive that has not arrived whole, for a later run that goes on with it.
pub(super) const PENDING: &str = "pending.json";

/// An archive that is to come.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// Its name, before it is encrypted.
    pub name: &'a str,
    /// How large it should be.
    pub bytes: u64,
    /// For a later run that goes on with it: what it is.
    pub note: Option<&'a [u8]>,
    /// To whom it is encrypted.
    pub to: Option<&'a Recipients>,
}

/// An archive being received. Dropped before [`Received::commit`], it leaves nothing behind unless it was told to stay.
pub struct Writer {
    folder: Folder,
    archive: HashedFile,
    recipients: Vec<String>,
    lock: HostLock,
}

/// An archive that has arrived and is on the disk, not yet listed.
#[derive(Debug)]
pub struct Received {
    pub(super) folder: Folder,
    /// The archive file, still under its `.partial` folder.
    pub archive: PathBuf,
    /// Its size, decrypted.
    pub bytes: u64,
    /// Its SHA-256 in hex, of what was written before it was encrypted.
    pub sha256: String,
    /// What it is on the disk, where it is encrypted, and to whom.
    pub(super) sealed: Option<(Sealed, Vec<String>)>,
    pub(super) lock: HostLock,
}

/// The `.partial` folder, removed unless it was published or is to be gone on with.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) partial: PathBuf,
    pub(super) published: PathBuf,
    pub(super) keep: bool,
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

    pub(super) fn room_for(&self, folder: &Path, bytes: u64) -> Result<(), LibraryError> {
        let free = platform::free_space(folder).map_err(LibraryError::file(folder, "can't be read"))?;
        let Some(free) = free.filter(|free| *free < bytes) else { return Ok(()) };
        let (folder, free, needed) = (self.root.display(), human_bytes(free), human_bytes(bytes));
        Err(LibraryError::Missing(format!("the library {folder} has {free} free and the archive needs {needed}")))
    }

    /// Begins to receive an archive.
    ///
    /// # Errors
    /// When the library can't be written or has too little room.
    pub fn begin(&self, lock: HostLock, host: &HostName, id: &BackupId, arrival: &Arrival<'_>) -> Result<Writer, LibraryError> {
        let Arrival { name, bytes, note, to } = *arrival;
        let folder = self.begin_folder(host, id, bytes)?;
        if let Some(note) = note {
            write_private(&folder.partial.join(PENDING), note)?;
        }
        let archive = HashedFile::begin(&folder.partial, name, to)?;
        Ok(Writer { folder, archive, recipients: to.map(|to| to.names.clone()).unwrap_or_default(), lock })
    }

    /// Goes on with an archive that an earlier run began: what has arrived is read again, for nobody knows what of it reached the disk.
    /// One that is encrypted needs the key that [`Writer::key`] told then, and begins anew without.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn reopen(
        &self,
        lock: HostLock,
        host: &HostName,
        id: &BackupId,
        archive_name: &str,
        to: Option<(&Recipients, Option<&ResumeKey>)>,
    ) -> Result<Writer, LibraryError> {
        let host_folder = self.root.join(host.as_str());
        let folder = Folder { published: host_folder.join(id.as_str()), partial: host_folder.join(format!("{id}.partial")), keep: true };
        // Of a run that was ended in the moment of publishing.
        for left in [MANIFEST, SUMS, SEAL] {
            remove(&folder.partial.join(left))?;
        }
        let archive = match to {
            None => {
                for left in [encrypted_name(archive_name), before(archive_name)] {
                    remove(&folder.partial.join(left))?;
                }
                HashedFile::reopen(folder.partial.join(archive_name))?
            }
            Some((to, key)) => {
                remove(&folder.partial.join(archive_name))?;
                go_on(&folder.partial, archive_name, to, key)?
            }
        };
        let recipients = to.map(|(to, _)| to.names.clone()).unwrap_or_default();
        Ok(Writer { folder, archive, recipients, lock })
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

    /// A backup's `.partial` folder. Those of attempts that died are removed first: with the lock held nobody can be writing them.
    pub(super) fn begin_folder(&self, host: &HostName, id: &BackupId, bytes: u64) -> Result<Folder, LibraryError> {
        let host_folder = self.root.join(host.as_str());
        self.put_back_aside(host)?;
        for entry in fs::read_dir(&host_folder).map_err(LibraryError::file(&host_folder, "can't be read"))?.flatten() {
            // What a later run can go on with is given up by name only.
            if entry.file_name().to_string_lossy().ends_with(".partial") && !super::catalog::goes_on(&entry.path()) {
                fs::remove_dir_all(entry.path())
                    .map_err(LibraryError::file(&entry.path(), "is left from an earlier run and can't be removed"))?;
            }
        }
        self.room_for(&host_folder, bytes)?;
        let partial = host_folder.join(format!("{id}.partial"));
        platform::make_folder(&partial).map_err(LibraryError::file(&partial, "can't be made"))?;
        Ok(Folder { published: host_folder.join(id.as_str()), partial, keep: false })
    }
}

/// Removes a file that need not be there.
pub(super) fn remove(path: &Path) -> Result<(), LibraryError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(LibraryError::file(path, "can't be removed")(e)),
        _ => Ok(()),
    }
}

impl Writer {
    /// Its file, still under a `.partial` folder.
    pub fn path(&self) -> &Path {
        self.archive.path()
    }

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
        let ours = self.archive.blocks().sums();
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

    /// What comes now won't all stay as it comes.
    pub fn will_change(&mut self) {
        self.archive.will_change();
    }

    /// Writes an encrypted archive again, under a new key: `exchange` is asked of each block, by its index, and hands over another one of the same size
    /// or none. Where there is no room for both it begins with nothing instead, and all of it has to be fetched. What it was made from goes when the
    /// backup is listed: until then a later run can go on from that.
    ///
    /// # Errors
    /// When the disk doesn't take it or give it back, a block has another size than the one in its place, or what `exchange` says.
    pub fn again(
        self,
        to: &Recipients,
        exchange: impl FnMut(usize) -> Result<Option<Vec<u8>>, LibraryError>,
    ) -> Result<Self, LibraryError> {
        if !fits_again(self.archive.path()) {
            return self.anew(to);
        }
        let Self { folder, archive, recipients, lock } = self;
        let aside = aside(archive.path());
        Ok(Self { archive: archive.again(to, &aside, exchange)?, folder, recipients, lock })
    }

    /// Begins an encrypted archive with nothing, under a new key.
    ///
    /// # Errors
    /// When the disk doesn't take it.
    pub fn anew(self, to: &Recipients) -> Result<Self, LibraryError> {
        let Self { folder, archive, recipients, lock } = self;
        Ok(Self { archive: archive.anew(to)?, folder, recipients, lock })
    }

    /// What has arrived stays where it is even if this is dropped, for a later run to go on with.
    pub fn keep(&mut self) {
        self.folder.keep = true;
    }

    /// Whether it is encrypted, and so can only be written from its beginning to its end.
    #[must_use]
    pub fn is_sealing(&self) -> bool {
        self.archive.is_sealed()
    }

    /// What a later run needs to go on with it, where it is encrypted: to be kept by who has the archive in the clear.
    #[must_use]
    pub fn key(&self) -> Option<&ResumeKey> {
        self.archive.key()
    }

    /// That key is kept: what an earlier run had left, under another one, is not needed any more.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn is_kept(&self) -> Result<(), LibraryError> {
        if self.aside().exists() {
            // What has been written again must be on the disk before what it was read from goes.
            let path = self.archive.path();
            let synced = fs::OpenOptions::new().write(true).open(path).and_then(|file| file.sync_all());
            synced.map_err(LibraryError::file(path, "can't be brought to the disk"))?;
        }
        remove(&self.aside())
    }

    fn aside(&self) -> PathBuf {
        aside(self.archive.path())
    }

    /// All bytes are there: brings them to the disk.
    ///
    /// # Errors
    /// When the disk doesn't confirm.
    pub fn finish(self) -> Result<Received, LibraryError> {
        let (archive, bytes) = (self.archive.path().to_owned(), self.archive.bytes());
        let (sha256, sealed) = self.archive.close()?;
        let sealed = sealed.map(|sealed| (sealed, self.recipients));
        Ok(Received { folder: self.folder, archive, bytes, sha256, sealed, lock: self.lock })
    }
}

impl Received {
    /// What the manifest says of it. `name` is the archive's name before it was encrypted.
    #[must_use]
    pub fn describe(&self, name: &str, tar_bytes: u64, members: Vec<Member>) -> Archive {
        let (file, bytes, sha256, encryption) = match &self.sealed {
            None => (name.to_owned(), self.bytes, self.sha256.clone(), None),
            Some((sealed, recipients)) => {
                let encryption = Encryption { recipients: recipients.clone(), plain_bytes: self.bytes };
                (encrypted_name(name), sealed.bytes, sealed.sha256.clone(), Some(encryption))
            }
        };
        Archive { file, bytes, sha256, tar_bytes, members, encryption }
    }

    /// Writes the manifest and publishes the backup: from here on it is listed (I2).
    ///
    /// # Errors
    /// When the manifest can't be brought to the disk; nothing is listed then.
    pub fn commit(mut self, manifest: &Manifest) -> Result<Entry, LibraryError> {
        write_manifest(&self.folder.partial, manifest, self.sealed.is_some().then_some(self.sha256.as_str()))?;
        // What a later run would have needed to go on is no part of a backup.
        remove(&self.folder.partial.join(PENDING))?;
        remove(&aside(&self.archive))?;
        sync_folder(&self.folder.partial)?;
        fs::rename(&self.folder.partial, &self.folder.published)
            .map_err(LibraryError::file(&self.folder.published, "can't be published"))?;
        self.folder.keep = true;
        if let Some(parent) = self.folder.published.parent() {
            sync_folder(parent)?;
        }
        drop(self.lock);
        Ok(Entry { folder: self.folder.published.clone(), manifest: manifest.clone(), record: Record::default(), unreadable_record: None })
    }
}

/// Writes what lies beside an archive; where it is encrypted, `plain_sha256` keys the manifest's seal.
pub(super) fn write_manifest(folder: &Path, manifest: &Manifest, plain_sha256: Option<&str>) -> Result<(), LibraryError> {
    let path = folder.join(MANIFEST);
    let mut text = serde_json::to_string_pretty(manifest).map_err(|e| LibraryError::file(&path, "can't be written")(e.into()))?;
    text.push('\n');
    let archive = (manifest.archive.file.as_str(), manifest.archive.sha256.as_str());
    write_private(&folder.join(SUMS), sums(archive, text.as_bytes()).as_bytes())?;
    if let Some(sha256) = plain_sha256 {
        write_private(&folder.join(SEAL), seal(sha256, text.as_bytes()).as_bytes())?;
    }
    write_private(&path, text.as_bytes())
}
