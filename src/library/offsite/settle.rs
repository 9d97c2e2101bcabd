//! Between a mirror and its home: archives that are fetched, and what is new, marked or forgotten here brought home.

use std::fs::{self, File, TryLockError};

use super::super::catalog::{GONE, folders, read_entry};
use super::super::digests::sync_folder;
use super::super::records::{FILE as RECORD, is_later, lock_records, parse_sheet, write_record};
use super::super::writer::{HashedFile, remove};
use super::super::{Entry, Library, LibraryError, MANIFEST};
use super::mirror::{FETCHED, FETCHING, SEEN, heal_record, put_file};
use super::{Away, Copied, Offsite};
use crate::model::id::HostName;
use crate::model::record::{Record, merged};
use crate::platform;

/// What was brought home.
#[derive(Debug, Default)]
pub struct Settled {
    /// `HOST@ID` of those whose archives are at home now.
    pub sent: Vec<String>,
    /// What could not be.
    pub failed: Vec<LibraryError>,
}

impl Away {
    /// The same backup as it is at home.
    ///
    /// # Errors
    /// When its manifest here can't be read.
    pub fn of(entry: &Entry) -> Result<Self, LibraryError> {
        let manifest = entry.folder.join(MANIFEST);
        let text = fs::read(&manifest).map_err(LibraryError::file(&manifest, "can't be read"))?;
        Ok(Self { text, manifest: entry.manifest.clone() })
    }
}

impl Offsite {
    /// Fetches the archive of a mirror's backup, unless it is here; one that was cut off goes on where it stopped.
    ///
    /// # Errors
    /// When it isn't what the manifest says, or the disk can't take it.
    pub async fn fetch(&self, mirror: &Library, entry: &Entry, seen: &(dyn Fn(u64) + Sync)) -> Result<(), LibraryError> {
        if entry.is_here() {
            return Ok(());
        }
        let alone = fetch_lock(entry)?;
        let archive = &entry.manifest.archive;
        let away = Away::of(entry)?;
        let path = entry.folder.join(FETCHING);
        let mut file = HashedFile::reopen(path.clone())?;
        mirror.room_for(&entry.folder, archive.bytes.saturating_sub(file.bytes()))?;
        seen(file.bytes());
        let from = file.bytes();
        self.download(&away, from, &mut |chunk| {
            seen(chunk.len() as u64);
            file.write(chunk)
        })
        .await?;
        let bytes = file.bytes();
        let sha256 = tokio::task::block_in_place(|| file.finish())?;
        if bytes != archive.bytes || sha256 != archive.sha256 {
            remove(&path)?;
            // What an earlier run left here may be what is wrong.
            if from > 0 {
                drop(alone);
                return Box::pin(self.fetch(mirror, entry, seen)).await;
            }
            let reason = "its archive is not what the manifest says".to_owned();
            return Err(LibraryError::Damaged { name: format!("{} at {}", entry.name(), self.name), reason });
        }
        put_file(&entry.folder, FETCHED, Some(&away.text))?;
        fs::rename(&path, entry.archive()).map_err(LibraryError::file(&path, "can't be renamed"))?;
        sync_folder(&entry.folder)
    }

    /// Brings home what a mirror has that isn't there: archives, which then leave this disk, marks, and what was forgotten.
    pub async fn settle(&self, mirror: &Library, owner: &str, seen: &(dyn Fn(u64) + Sync)) -> Settled {
        let mut settled = Settled::default();
        let hosts = mirror.host_names().unwrap_or_else(|e| {
            settled.failed.push(e);
            Vec::new()
        });
        for host in hosts {
            match mirror.lock_home(&host, owner) {
                // Who holds it brings these home.
                Err(LibraryError::Locked { .. }) => {}
                Err(e) => settled.failed.push(e),
                Ok(_home) => {
                    if let Err(e) = self.settle_host(mirror, &host, owner, seen, &mut settled).await {
                        settled.failed.push(e);
                    }
                }
            }
        }
        settled
    }

    async fn settle_host(
        &self,
        mirror: &Library,
        host: &HostName,
        owner: &str,
        seen: &(dyn Fn(u64) + Sync),
        settled: &mut Settled,
    ) -> Result<(), LibraryError> {
        // First: what was taken back since, under the same name, comes after it.
        for (name, folder) in folders(&mirror.root.join(host.as_str()).join(GONE))? {
            match read_entry(host, &name, folder.clone()) {
                // One that can't be removed there keeps no other from going home.
                Ok(entry) => {
                    if let Err(e) = self.remove_forgotten(&entry).await {
                        settled.failed.push(e);
                        continue;
                    }
                }
                Err(reason) => settled.failed.push(LibraryError::Damaged { name: format!("{host}@{name}"), reason }),
            }
            fs::remove_dir_all(&folder).map_err(LibraryError::file(&folder, "can't be removed"))?;
        }
        let mut entries = mirror.list(Some(host))?.0;
        entries.extend(mirror.trashed(host)?.0.into_iter().map(|trashed| trashed.entry));
        for entry in &entries {
            match self.settle_one(mirror, entry, owner, seen).await {
                Ok(true) => settled.sent.push(entry.name()),
                Ok(false) => {}
                Err(e) => settled.failed.push(e),
            }
        }
        Ok(())
    }

    /// Removes at home what was forgotten here, unless it is another one by now, or somebody has taken it back or marked it since.
    async fn remove_forgotten(&self, entry: &Entry) -> Result<(), LibraryError> {
        let forgotten = Away::of(entry)?;
        if self.now_at_home(entry).await?.as_ref() != Some(&forgotten) {
            return Ok(());
        }
        let record = self.small(&forgotten.path(RECORD)).await?;
        let unmarked = record == fs::read(entry.folder.join(SEEN)).ok();
        let deleted = |text: &[u8]| parse_sheet(text).is_ok_and(|record| record.deleted.is_some() && !record.protected);
        if unmarked || record.as_deref().is_some_and(deleted) { self.remove(&forgotten).await } else { Ok(()) }
    }

    async fn now_at_home(&self, entry: &Entry) -> Result<Option<Away>, LibraryError> {
        let about = &entry.manifest.description;
        Ok(self.look(&about.host, &about.id).await?.ok().flatten())
    }

    /// Tells whether an archive was brought home that was not there.
    async fn settle_one(&self, mirror: &Library, entry: &Entry, owner: &str, seen: &(dyn Fn(u64) + Sync)) -> Result<bool, LibraryError> {
        let marked = || fs::read(entry.folder.join(RECORD)).ok() != fs::read(entry.folder.join(SEEN)).ok();
        if marked() {
            heal_record(&entry.folder, &lock_records(entry.folder.parent().unwrap_or(&entry.folder))?)?;
        }
        if !entry.is_here() && !marked() {
            return Ok(false);
        }
        let there = self.now_at_home(entry).await?;
        let ours = Away::of(entry)?;
        let same = there.as_ref() == Some(&ours);
        let was_there = fs::read(entry.folder.join(FETCHED)).is_ok_and(|text| text == ours.text);
        // What was forgotten for good elsewhere gets no record back, and what was encrypted anew there is not undone.
        if !same && (!entry.is_here() || (was_there && there.is_some())) {
            return Ok(false);
        }
        if there.is_some() {
            self.join_marks(entry).await?;
        }
        let record = fs::read(entry.folder.join(RECORD)).ok();
        let mut sent = false;
        if entry.is_here() {
            // The last one here goes only when the one at home is known to be whole: one that this mirror has neither brought there nor
            // fetched, or that a check has found damaged, is read there first.
            let doubted = !was_there || entry.record.damage().is_some();
            sent = self.put(entry, doubted, seen).await? == Copied::Now;
            // It may stay for now, and must not be brought there again over what was encrypted anew there meanwhile.
            put_file(&entry.folder, FETCHED, Some(&ours.text))?;
            mirror.let_go(entry, owner)?;
        } else {
            self.put_record(entry).await?;
        }
        put_file(&entry.folder, SEEN, record.as_deref())?;
        Ok(sent)
    }

    /// Joins what was marked at home since this mirror saw it to what was marked here. A record there that can't be read gives way.
    async fn join_marks(&self, entry: &Entry) -> Result<(), LibraryError> {
        let there = self.small(&Away::of(entry)?.path(RECORD)).await?;
        let _records = lock_records(entry.folder.parent().unwrap_or(&entry.folder))?;
        let base = fs::read(entry.folder.join(SEEN)).ok();
        let own = fs::read(entry.folder.join(RECORD)).ok();
        if there != own && there.as_deref().is_some_and(is_later) {
            let why = format!(
                "the record of {} at the remote {} was written by a newer tanker, which is needed here: what was marked here stays here",
                entry.name(),
                self.name
            );
            return Err(LibraryError::Missing(why));
        }
        if there == base {
            return Ok(());
        }
        let read = |text: Option<Vec<u8>>| text.map_or(Ok(Record::default()), |text| parse_sheet(&text));
        let ours = read(own);
        let (Ok(ours), Ok(theirs)) = (ours, read(there)) else { return Ok(()) };
        let Ok(base) = read(base) else {
            // What was seen there was rotten, and somebody has mended it since: that counts, but nothing is left without protection for it.
            return write_record(&entry.folder, &Record { protected: ours.protected || theirs.protected, ..theirs });
        };
        write_record(&entry.folder, &merged(&base, &ours, &theirs))
    }
}

fn fetch_lock(entry: &Entry) -> Result<File, LibraryError> {
    let path = entry.folder.join(".fetch.lock");
    let file = platform::private().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(LibraryError::file(&path, "can't be opened"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LibraryError::Missing(format!("another tanker fetches {} right now", entry.name()))),
        Err(TryLockError::Error(e)) => Err(LibraryError::file(&path, "can't be locked")(e)),
    }
}
