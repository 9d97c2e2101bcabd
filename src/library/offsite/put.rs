//! From the library to a remote.

use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use opendal::Writer;
use sha2::{Digest, Sha256};

use super::super::digests::{SEAL, SUMS, check_seal_shape, check_sums};
use super::super::records::{FILE as RECORD, is_rotten, parse_sheet};
use super::super::verify::hex;
use super::super::{Depth, Entry, Keys, LibraryError, MANIFEST, verify};
use super::dav::Dav;
use super::get::COPYING;
use super::parts::What;
use super::{AT_ONCE, Away, Copied, Offsite, path_of};
use crate::model::manifest::{BadManifest, parse_manifest};
use crate::platform;

/// Parts of an upload: at least this large, and never more than S3 takes, or Swift.
const LEAST_PART: u64 = 16 << 20;
const MOST_PARTS: u64 = 9_000;
const MOST_SEGMENTS: u64 = 900;
/// How long a write may take before something is let go that it may wait for.
const A_MOMENT: Duration = Duration::from_millis(20);
/// What is appended at once: it must be there within the remote's patience.
const APPENDED: usize = 4 << 20;
/// So much of what an earlier run has brought is held against what is here, before it is gone on with.
const TAIL: u64 = 8 << 20;

impl Offsite {
    /// Copies a backup there: read once more and held against its manifest on the way, and the manifest last, when what has arrived is known
    /// to be what was sent: a manifest that is there says so. One that is there already and `doubted` is read back, and gives way where it
    /// isn't whole.
    ///
    /// # Errors
    /// When it is damaged here, another one of its name is there, or the remote doesn't take it; nothing is listed there then.
    pub async fn put(&self, entry: &Entry, doubted: bool, seen: &(dyn Fn(u64) + Sync)) -> Result<Copied, LibraryError> {
        self.put_with(entry, doubted, true, seen).await
    }

    /// The same, `marked` or without its record: that of one which is there is joined to what stands there.
    pub(super) async fn put_with(
        &self,
        entry: &Entry,
        doubted: bool,
        marked: bool,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<Copied, LibraryError> {
        let path = |file: &str| path_of(&entry.manifest, file);
        let read = |file: &str| fs::read(entry.folder.join(file)).map_err(LibraryError::file(&entry.folder.join(file), "can't be read"));
        let text = read(MANIFEST)?;
        let archive = &entry.manifest.archive;
        if entry.manifest.format >= 2 {
            check_sums(entry)?;
        }
        if entry.folder.join(SEAL).exists() {
            check_seal_shape(entry)?;
        }
        // S3 and Swift hold what comes against its digest; the others are told none.
        let mut trusted = self.parts.is_some();
        if let Some(there) = self.small(&path(MANIFEST)).await? {
            if there != text {
                self.make_way(entry, &there).await?;
            } else {
                self.put_sums(entry).await?;
                if doubted && !self.is_whole_there(entry).await? {
                    self.make_way(entry, &there).await?;
                    trusted = false;
                } else if self.size(&path(&archive.file)).await? == Some(archive.bytes) {
                    if marked {
                        self.put_record(entry).await?;
                    }
                    self.lock(entry).await?;
                    return Ok(Copied::Before);
                } else {
                    // What is on its way is not listed.
                    self.operator.delete(&path(MANIFEST)).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
                }
            }
        }
        self.may_lock(entry).await?;
        self.upload(entry, &path(&archive.file), &text, seen).await?;
        let found = self.size(&path(&archive.file)).await?;
        if found != Some(archive.bytes) {
            let why = format!("the remote {} has {found:?} bytes of {} after the copy, not {}", self.name, entry.name(), archive.bytes);
            return Err(LibraryError::Missing(why));
        }
        if !trusted {
            self.read_back(entry).await?;
        }
        self.put_sums(entry).await?;
        if marked {
            self.put_record(entry).await?;
        }
        if marked && !entry.folder.join(RECORD).exists() {
            // One of an earlier backup of this name, which was forgotten.
            self.operator.delete(&path(RECORD)).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
        }
        if read(MANIFEST)? != text {
            return Err(LibraryError::Missing(format!("{} was changed here while it was copied: copy it again", entry.name())));
        }
        self.write_small(&path(MANIFEST), text).await?;
        // Another tanker that sent the same at the same time may have taken what it found for the leavings of a dead one.
        let left = self.size(&path(&archive.file)).await?;
        if left != Some(archive.bytes) {
            self.operator.delete(&path(MANIFEST)).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
            let why = format!(
                "the archive of {} is gone from the remote {} again: does another tanker copy there? Copy it again",
                entry.name(),
                self.name
            );
            return Err(LibraryError::Missing(why));
        }
        if self.appends() {
            self.operator.delete(&path(COPYING)).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
        }
        self.lock(entry).await?;
        Ok(Copied::Now)
    }

    async fn is_whole_there(&self, entry: &Entry) -> Result<bool, LibraryError> {
        match self.verify(&Away::of(entry)?, &|_| {}).await {
            Ok(()) => Ok(true),
            Err(LibraryError::Damaged { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What has arrived, before it gets its manifest; what is anything else goes.
    async fn read_back(&self, entry: &Entry) -> Result<(), LibraryError> {
        let away = Away::of(entry)?;
        if self.read_archive(&away, &|_| {}).await?.is_ok() {
            return Ok(());
        }
        self.remove_archive(&away.path(&away.manifest.archive.file)).await?;
        self.operator.delete(&away.path(COPYING)).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
        let reason =
            "what has arrived there is not what was sent: it was removed there, and the next time all of it is sent anew".to_owned();
        Err(LibraryError::Damaged { name: format!("{} at {}", entry.name(), self.name), reason })
    }

    /// What proves a backup, where it isn't there as it is here.
    async fn put_sums(&self, entry: &Entry) -> Result<(), LibraryError> {
        for file in [SUMS, SEAL].iter().filter(|file| entry.folder.join(file).exists()) {
            let (own, path) = (entry.folder.join(file), path_of(&entry.manifest, file));
            let ours = fs::read(&own).map_err(LibraryError::file(&own, "can't be read"))?;
            match self.small(&path).await {
                Ok(Some(there)) if there == ours => continue,
                Ok(_) | Err(LibraryError::Damaged { .. }) => {}
                Err(e) => return Err(e),
            }
            self.write_small(&path, ours).await?;
        }
        Ok(())
    }

    /// Tags, protection and what checks found travel with a copy. One that rotted here is not brought over one that can be read.
    ///
    /// # Errors
    /// When it can't be read here, or the remote doesn't take it.
    pub async fn put_record(&self, entry: &Entry) -> Result<(), LibraryError> {
        match fs::read(entry.folder.join(RECORD)) {
            Ok(text) => {
                let path = path_of(&entry.manifest, RECORD);
                if is_rotten(&text) && self.small(&path).await?.is_some_and(|there| parse_sheet(&there).is_ok()) {
                    return Ok(());
                }
                self.write_small(&path, text).await
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(LibraryError::file(&entry.folder, "can't be read")(e)),
        }
    }

    /// An earlier copy of the same backup, encrypted otherwise, or what is left of one goes; a copy of another one stays.
    async fn make_way(&self, entry: &Entry, there: &[u8]) -> Result<(), LibraryError> {
        let old = match parse_manifest(&String::from_utf8_lossy(there)) {
            Err(e @ BadManifest::TooNew(_)) => {
                return Err(LibraryError::Missing(format!("the remote {} has a backup of the name {}: {e}", self.name, entry.name())));
            }
            Ok(manifest) if manifest.description != entry.manifest.description => {
                let why = format!("the remote {} has another backup of the name {}: its manifest differs", self.name, entry.name());
                return Err(LibraryError::Missing(why));
            }
            // What somebody has encrypted doesn't lie there in the clear again.
            Ok(manifest) if manifest.archive.encryption.is_some() && !entry.is_encrypted() => {
                let why = format!(
                    "the remote {} has {} encrypted, and here it is not: encrypt it here ('tanker rekey'), or remove the one there first",
                    self.name,
                    entry.name()
                );
                return Err(LibraryError::Missing(why));
            }
            Ok(manifest) => Some(manifest.archive.file),
            Err(_) => None,
        };
        // What is there may be the only good one: it gives way to one that is whole.
        tokio::task::block_in_place(|| verify(entry, &Keys::default(), Depth::Hashed, &mut |_| {}))?;
        for file in [MANIFEST, SUMS, SEAL] {
            self.operator.delete(&path_of(&entry.manifest, file)).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
        }
        match old {
            Some(file) => self.remove_archive(&path_of(&entry.manifest, &file)).await,
            None => Ok(()),
        }
    }

    /// Whether an archive there can be gone on with: the others only take it whole.
    pub(super) fn appends(&self) -> bool {
        ["fs", "sftp"].contains(&self.operator.info().scheme()) && self.operator.info().full_capability().write_can_append
    }

    /// How much of the archive an earlier run has brought there: its last bytes there are those that it has here. What is anything else
    /// is removed, and what it is from now on is written beside it.
    async fn arrived(&self, entry: &Entry, path: &str, manifest: &[u8]) -> Result<u64, LibraryError> {
        let marker = path_of(&entry.manifest, COPYING);
        let there = self.size(path).await?.unwrap_or(0);
        if (1..=entry.manifest.archive.bytes).contains(&there) && self.small(&marker).await?.as_deref() == Some(manifest) {
            let from = there.saturating_sub(TAIL);
            let tail = self.operator.read_with(path).range(from..there).await.map_err(|e| self.wrong("can't be read", &e))?.to_vec();
            let source = entry.archive();
            let mut ours = vec![0; tail.len()];
            let read = File::open(&source).and_then(|file| platform::read_exact_at(&file, &mut ours, from));
            read.map_err(LibraryError::file(&source, "can't be read"))?;
            if ours == tail {
                return Ok(there);
            }
        }
        self.operator.delete(path).await.map_err(|e| self.wrong("doesn't let it go", &e))?;
        self.write_small(&marker, manifest.to_vec()).await?;
        Ok(0)
    }

    async fn upload(&self, entry: &Entry, path: &str, manifest: &[u8], seen: &(dyn Fn(u64) + Sync)) -> Result<(), LibraryError> {
        let archive = &entry.manifest.archive;
        let part_bytes = bytes_of_a_part(archive.bytes, if self.segments.is_some() { MOST_SEGMENTS } else { MOST_PARTS });
        if let Some(dav) = &self.dav {
            return self.upload_to_dav(dav, entry, path, seen).await;
        }
        let Some((parts, ledger)) = &self.parts else { return self.upload_once(entry, path, manifest, part_bytes, seen).await };
        loop {
            let goes_on = parts.open(path, &entry.folder.join(ledger), What { sha256: archive.sha256.clone(), part_bytes });
            if !goes_on && self.segments.is_some() {
                // What an upload that was never ended has left, which nobody else would remove.
                self.remove_archive(path).await?;
            }
            let done = self.upload_once(entry, path, manifest, part_bytes, seen).await;
            // Gone on with, and given up by the remote meanwhile: begun anew, which happens once.
            if !parts.close(path, done.is_ok()) || !matches!(done, Err(LibraryError::Offsite { .. })) {
                return done;
            }
        }
    }

    /// Writes, and lets go what OpenDAL waits for.
    async fn send(&self, writer: &mut Writer, bytes: Vec<u8>) -> opendal::Result<()> {
        let Some((parts, _)) = &self.parts else { return writer.write(bytes).await };
        let write = writer.write(bytes);
        tokio::pin!(write);
        loop {
            tokio::select! {
                biased;
                done = &mut write => return done,
                () = tokio::time::sleep(A_MOMENT) => parts.valve.let_one_pass(),
            }
        }
    }

    async fn upload_once(
        &self,
        entry: &Entry,
        path: &str,
        manifest: &[u8],
        part_bytes: u64,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(), LibraryError> {
        let archive = &entry.manifest.archive;
        let part = usize::try_from(part_bytes).unwrap_or(usize::MAX);
        let can_multi = self.operator.info().full_capability().write_can_multi;
        let appends = self.appends();
        let arrived = if appends { self.arrived(entry, path, manifest).await? } else { 0 };
        self.begin_file(path)?;
        let begun = match self.operator.writer_with(path) {
            // One piece behind the other: what is there has no holes.
            in_order if appends => in_order.chunk(APPENDED).append(true).await,
            _ if can_multi => self.patient.writer_with(path).chunk(part).concurrent(AT_ONCE).await,
            whole => whole.await,
        };
        if let Some((parts, _)) = &self.parts {
            parts.valve.shut();
        }
        let mut writer = begun.map_err(|e| self.wrong("can't be written", &e))?;
        let source = entry.archive();
        let mut file = File::open(&source).map_err(LibraryError::file(&source, "can't be read"))?;
        let mut sum = Sha256::new();
        let mut at = 0;
        loop {
            let mut buffer = vec![0; 1 << 20];
            let read = tokio::task::block_in_place(|| file.read(&mut buffer)).map_err(LibraryError::file(&source, "can't be read"))?;
            if read == 0 {
                break;
            }
            buffer.truncate(read);
            sum.update(&buffer);
            let known = usize::try_from(arrived.saturating_sub(at)).unwrap_or(usize::MAX).min(read);
            at += read as u64;
            let written = if known < read { self.send(&mut writer, buffer.split_off(known)).await } else { Ok(()) };
            if let Err(e) = written {
                // What has arrived is no copy, but to go on with; a remote that can't be told keeps it as parts that nothing lists.
                let _ = match self.parts {
                    _ if appends => writer.close().await.map(drop),
                    Some(_) => Ok(()),
                    _ => writer.abort().await,
                };
                return Err(self.wrong("doesn't take the archive", &e));
            }
            seen(read as u64);
        }
        if hex(&sum.finalize()) != archive.sha256 {
            let _ = writer.abort().await;
            if let Some((parts, _)) = &self.parts {
                parts.forget(path);
            }
            if appends || self.segments.is_some() {
                self.remove_archive(path).await?;
            }
            return Err(LibraryError::Damaged {
                name: entry.name(),
                reason: "its archive has another SHA-256 than the manifest says".into(),
            });
        }
        if let Some((parts, _)) = &self.parts {
            parts.valve.open();
        }
        writer.close().await.map(drop).map_err(|e| self.wrong("doesn't take the archive", &e))?;
        self.keep(path)
    }

    /// Hashed first: what has arrived in one piece can't be taken back on the way.
    async fn upload_to_dav(&self, dav: &Dav, entry: &Entry, path: &str, seen: &(dyn Fn(u64) + Sync)) -> Result<(), LibraryError> {
        tokio::task::block_in_place(|| verify(entry, &Keys::default(), Depth::Hashed, &mut |bytes| seen(bytes)))?;
        // It makes the folder.
        self.operator.write(path, Vec::<u8>::new()).await.map_err(|e| self.wrong("can't be written", &e))?;
        self.stream(dav, &entry.archive(), path).await
    }
}

fn bytes_of_a_part(archive: u64, most: u64) -> u64 {
    archive.div_ceil(most).next_multiple_of(1 << 20).max(LEAST_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_archive_has_more_parts_than_the_remote_takes() {
        for most in [MOST_PARTS, MOST_SEGMENTS] {
            for bytes in [0, 1, LEAST_PART * most, LEAST_PART * most + 1, (most << 24) + most, 3 << 40] {
                let part = bytes_of_a_part(bytes, most);
                assert!(part >= LEAST_PART && bytes.div_ceil(part) <= most, "{bytes} bytes in parts of {part}");
            }
        }
    }
}
