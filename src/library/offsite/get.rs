//! From a remote back into a library, and looking whether what is there is whole.

use std::fs;

use sha2::{Digest, Sha256};

use super::super::digests::{SEAL, SUMS, is_seal, sums, sync_folder, write_private};
use super::super::hashed::HashedFile;
use super::super::records::{FILE as RECORD, lock_records, parse_sheet, read_record, write_record};
use super::super::trash::TRASH;
use super::super::verify::hex;
use super::super::writer::{Folder, PENDING, remove};
use super::super::{Depth, Entry, HostLock, Keys, Library, LibraryError, MANIFEST, verify};
use super::{AT_ONCE, Away, Offsite};
use crate::model::record::Record;
use crate::platform;

/// How much of an archive is asked for at a time, and in what pieces.
const WINDOW: u64 = 32 << 20;
const PIECE: usize = 8 << 20;
/// What lies beside an archive that is on its way to a remote or back, for a later run that goes on with it.
pub(in super::super) const COPYING: &str = "copying.json";

impl Offsite {
    /// Reads a copy back and holds it against its manifest.
    ///
    /// # Errors
    /// When anything differs, or the remote can't be read.
    pub async fn verify(&self, away: &Away, seen: &(dyn Fn(u64) + Sync)) -> Result<(), LibraryError> {
        let damaged = |reason: &str| LibraryError::Damaged { name: format!("{} at {}", away.name(), self.name), reason: reason.into() };
        let archive = &away.manifest.archive;
        if archive.encryption.is_some() && !self.small(&away.path(SEAL)).await?.is_some_and(|text| is_seal(&text)) {
            return Err(damaged("it is encrypted and has no seal, or one that was changed"));
        }
        if away.manifest.format >= 2 {
            let expected = sums((&archive.file, &archive.sha256), &away.text);
            if self.small(&away.path(SUMS)).await?.as_deref() != Some(expected.as_bytes()) {
                return Err(damaged("its manifest and its SHA256SUMS don't fit each other"));
            }
        }
        self.read_archive(away, seen).await?.map_err(damaged)
    }

    /// Holds the seal there against the one here: without a key nothing else tells that it rotted.
    ///
    /// # Errors
    /// When it differs, or the remote can't be read.
    pub async fn hold_seal(&self, away: &Away, entry: &Entry) -> Result<(), LibraryError> {
        let ours = fs::read(entry.folder.join(SEAL)).ok().filter(|text| entry.is_encrypted() && is_seal(text));
        if ours.is_none() || self.small(&away.path(SEAL)).await? == ours {
            return Ok(());
        }
        let reason = "its seal is not the one that is here".to_owned();
        Err(LibraryError::Damaged { name: format!("{} at {}", away.name(), self.name), reason })
    }

    /// What the record there says; a sentence where nobody can read it.
    ///
    /// # Errors
    /// When the remote can't be read.
    pub async fn record(&self, away: &Away) -> Result<Result<Record, String>, LibraryError> {
        match self.small(&away.path(RECORD)).await {
            Ok(text) => Ok(text.map_or(Ok(Record::default()), |text| parse_sheet(&text))),
            Err(e @ LibraryError::Damaged { .. }) => Ok(Err(e.to_string())),
            Err(e) => Err(e),
        }
    }

    /// Reads an archive there and holds it against its manifest; what is wrong with it, where something is.
    pub(super) async fn read_archive(&self, away: &Away, seen: &(dyn Fn(u64) + Sync)) -> Result<Result<(), &'static str>, LibraryError> {
        let archive = &away.manifest.archive;
        let mut sum = Sha256::new();
        let mut bytes = 0;
        self.download(away, 0, &mut |chunk| {
            sum.update(chunk);
            bytes += chunk.len() as u64;
            seen(chunk.len() as u64);
            Ok(())
        })
        .await?;
        Ok(match (bytes == archive.bytes, hex(&sum.finalize()) == archive.sha256) {
            (true, true) => Ok(()),
            (false, _) => Err("its archive has another size than the manifest says"),
            (_, false) => Err("its archive has another SHA-256 than the manifest says"),
        })
    }

    pub(super) async fn download(
        &self,
        away: &Away,
        from: u64,
        take: &mut (dyn FnMut(&[u8]) -> Result<(), LibraryError> + Send),
    ) -> Result<(), LibraryError> {
        let path = away.path(&away.manifest.archive.file);
        let unreadable = |e: &opendal::Error| self.wrong("can't be read", e);
        let reader = self.operator.reader_with(&path).chunk(PIECE).concurrent(AT_ONCE).await.map_err(|e| unreadable(&e))?;
        let end = self.size(&path).await?.unwrap_or(0).min(away.manifest.archive.bytes);
        let mut at = from;
        while at < end {
            let to = (at + WINDOW).min(end);
            let window = reader.read(at..to).await.map_err(|e| unreadable(&e))?;
            for chunk in window {
                tokio::task::block_in_place(|| take(&chunk))?;
            }
            at = to;
        }
        Ok(())
    }

    /// Copies a backup from there into a library, where it is listed once it is whole. One that was cut off goes on where it stopped. Where what
    /// is listed under its name is known to be damaged, it takes its place in one step, marks and all.
    ///
    /// # Errors
    /// When it isn't whole, or the library can't take it; what was listed before is then listed still.
    pub async fn get(
        &self,
        away: &Away,
        library: &Library,
        lock: HostLock,
        instead: bool,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<Entry, LibraryError> {
        let archive = &away.manifest.archive;
        let (folder, mut file) = library.begin_copy(away, instead)?;
        seen(file.bytes());
        let from = file.bytes();
        self.download(away, from, &mut |chunk| {
            seen(chunk.len() as u64);
            file.write(chunk)
        })
        .await?;
        let damaged = |reason: &str| LibraryError::Damaged { name: format!("{} at {}", away.name(), self.name), reason: reason.into() };
        let bytes = file.bytes();
        let sha256 = tokio::task::block_in_place(|| file.finish())?;
        if bytes != archive.bytes || sha256 != archive.sha256 {
            // Nothing to go on with: what is there is not what it should be.
            remove(&folder.partial.join(COPYING))?;
            return Err(damaged("its archive is not what the manifest says"));
        }
        let mut folder = folder;
        for name in [SUMS, SEAL] {
            remove(&folder.partial.join(name))?;
            if let Some(text) = self.small(&away.path(name)).await? {
                write_private(&folder.partial.join(name), &text)?;
            } else if name == SEAL && archive.encryption.is_some() {
                return Err(damaged("it is encrypted and has no seal"));
            }
        }
        remove(&folder.partial.join(MANIFEST))?;
        write_private(&folder.partial.join(MANIFEST), &away.text)?;
        let entry =
            Entry { folder: folder.partial.clone(), manifest: away.manifest.clone(), record: Record::default(), unreadable_record: None };
        let proven = tokio::task::block_in_place(|| verify(&entry, &Keys::default(), Depth::Decompressed, &mut |_| {}));
        if let Err(e) = proven {
            remove(&folder.partial.join(COPYING))?;
            return Err(match e {
                LibraryError::Damaged { reason, .. } => damaged(&reason),
                e => e,
            });
        }
        remove(&folder.partial.join(RECORD))?;
        if let Some(text) = self.small(&away.path(RECORD)).await? {
            write_private(&folder.partial.join(RECORD), &text)?;
        }
        remove(&folder.partial.join(COPYING))?;
        sync_folder(&folder.partial)?;
        if folder.published.exists() {
            let marks = lock_records(folder.published.parent().unwrap_or(&folder.published))?;
            if let Ok(mut record) = read_record(&folder.published) {
                // What was found of it is of bytes that go.
                record.checks.retain(|check| check.damage.is_none());
                write_record(&folder.partial, &record)?;
            }
            platform::exchange(&folder.partial, &folder.published)
                .map_err(LibraryError::file(&folder.published, "can't be exchanged for the one that is whole"))?;
            drop(marks);
            folder.published.parent().map_or(Ok(()), sync_folder)?;
            fs::remove_dir_all(&folder.partial).map_err(LibraryError::file(&folder.partial, "is the damaged one, and can't be removed"))?;
        } else {
            fs::rename(&folder.partial, &folder.published).map_err(LibraryError::file(&folder.published, "can't be published"))?;
        }
        folder.keep = true;
        folder.published.parent().map_or(Ok(()), sync_folder)?;
        drop(lock);
        let (record, unreadable_record) = match read_record(&folder.published) {
            Ok(record) => (record, None),
            Err(why) => (Record::default(), Some(why)),
        };
        Ok(Entry { folder: folder.published.clone(), record, unreadable_record, ..entry })
    }
}

impl Library {
    /// Begins, or goes on, to take a copy back.
    fn begin_copy(&self, away: &Away, instead: bool) -> Result<(Folder, HashedFile), LibraryError> {
        let about = &away.manifest.description;
        let (host, id) = (&about.host, &about.id);
        let host_folder = self.root.join(host.as_str());
        let (partial, published) = (host_folder.join(format!("{id}.partial")), host_folder.join(id.as_str()));
        if published.exists() && !instead {
            return Err(LibraryError::Missing(format!("{} is in the library already", away.name())));
        }
        // Nobody reads there which backup it is; ids hold no minutes, and it may be another one.
        let sums = || fs::read_to_string(published.join(SUMS)).is_ok_and(|sums| sums.contains(&away.manifest.archive.sha256));
        if published.symlink_metadata().is_ok() && fs::read(published.join(MANIFEST)).ok().as_ref() != Some(&away.text) && !sums() {
            let why = "what lies there under its name can't be read, and may be another backup: move it out of the library first";
            return Err(LibraryError::Missing(format!("{}: {why}: {}", away.name(), published.display())));
        }
        if fs::read(host_folder.join(TRASH).join(id.as_str()).join(MANIFEST)).is_ok_and(|text| text == away.text) {
            return Err(LibraryError::Missing(format!("{0} lies in the trash: 'tanker undelete {0}' puts it back", away.name())));
        }
        let archive = partial.join(&away.manifest.archive.file);
        if fs::read(partial.join(COPYING)).is_ok_and(|text| text == away.text) {
            return Ok((Folder { partial, published, keep: true }, HashedFile::reopen(archive)?));
        }
        // Of what is there no more as it was.
        if partial.join(COPYING).exists() && !partial.join(PENDING).exists() {
            fs::remove_dir_all(&partial).map_err(LibraryError::file(&partial, "is left from an earlier run and can't be removed"))?;
        }
        let mut folder = self.begin_folder(host, id, away.manifest.archive.bytes)?;
        write_private(&folder.partial.join(COPYING), &away.text)?;
        let file = HashedFile::create(archive)?;
        folder.keep = true;
        Ok((folder, file))
    }
}
