//! Between a mirror and its home: archives that are fetched, and what is new, marked or forgotten here brought home.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use super::super::catalog::{GONE, folders, read_entry};
use super::super::digests::sync_folder;
use super::super::hashed::HashedFile;
use super::super::records::{FILE as RECORD, is_later, lock_records, parse_sheet, write_record};
use super::super::writer::remove;
use super::super::{Entry, Library, LibraryError, MANIFEST};
use super::mirror::{FETCHED, FETCHING, SEEN, heal_record, put_file};
use super::{Away, Copied, Offsite};
use crate::model::id::HostName;
use crate::model::record::{Record, merged};
use crate::platform;

/// So often marks are written that others have written over meanwhile, which takes a remote that is slower than it may be.
const TURNS: usize = 3;

/// What there was to do for one backup.
#[derive(Default)]
struct Found {
    /// Its archive was brought home, and was not there.
    sent: bool,
    /// Its marks are to be joined to those at home.
    marked: bool,
}

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
        let gone = folders(&mirror.root.join(host.as_str()).join(GONE))?;
        let mut marked = Vec::new();
        let mut entries = mirror.list(Some(host))?.0;
        entries.extend(mirror.trashed(host)?.0.into_iter().map(|trashed| trashed.entry));
        // First: what was taken back since, under the same name, comes after it.
        if !gone.is_empty()
            && let Err(e) = self.settle_gone(host, &gone, owner, settled).await
        {
            settled.failed.push(e);
        }
        for entry in &entries {
            match self.settle_one(mirror, entry, owner, seen).await {
                Ok(found) => {
                    settled.sent.extend(found.sent.then(|| entry.name()));
                    marked.extend(found.marked.then_some(entry));
                }
                Err(e) => settled.failed.push(e),
            }
        }
        if marked.is_empty() { Ok(()) } else { self.settle_marks(host, &marked, owner, settled).await }
    }

    async fn settle_gone(
        &self,
        host: &HostName,
        gone: &[(String, PathBuf)],
        owner: &str,
        settled: &mut Settled,
    ) -> Result<(), LibraryError> {
        let mut turn = self.take_turn(host, owner).await?;
        for (name, folder) in gone {
            match read_entry(host, name, folder.clone()) {
                // One that can't be removed there keeps no other from going home.
                Ok(entry) => {
                    if let Err(e) = self.remove_forgotten(&entry).await {
                        settled.failed.push(e);
                        continue;
                    }
                }
                Err(reason) => settled.failed.push(LibraryError::Damaged { name: format!("{host}@{name}"), reason }),
            }
            fs::remove_dir_all(folder).map_err(LibraryError::file(folder, "can't be removed"))?;
            turn.renew().await?;
        }
        turn.end().await.map(drop)
    }

    /// Joins what was marked here to what was marked there, one workstation after the other.
    async fn settle_marks(&self, host: &HostName, marked: &[&Entry], owner: &str, settled: &mut Settled) -> Result<(), LibraryError> {
        for _ in 0..TURNS {
            let (mut turn, mut joined) = (self.take_turn(host, owner).await?, Vec::new());
            let mut failed = Vec::new();
            for entry in marked {
                match self.settle_record(entry).await {
                    Ok(record) => joined.push((entry, record)),
                    Err(e) => failed.push(e),
                }
                turn.renew().await?;
            }
            // What was seen there is remembered when it is sure to stand there: until then it is joined to again.
            if turn.end().await? {
                settled.failed.extend(failed);
                for (entry, record) in joined {
                    put_file(&entry.folder, SEEN, record.as_deref())?;
                }
                return Ok(());
            }
        }
        Err(LibraryError::Missing(format!(
            "what was marked of {host} could not be written at {}: other workstations write there all the time",
            self.name
        )))
    }

    async fn settle_record(&self, entry: &Entry) -> Result<Option<Vec<u8>>, LibraryError> {
        self.join_marks(entry).await?;
        let record = fs::read(entry.folder.join(RECORD)).ok();
        self.put_record(entry).await?;
        Ok(record)
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

    /// Brings an archive home that isn't there; its marks with it, unless it was there before.
    async fn settle_one(&self, mirror: &Library, entry: &Entry, owner: &str, seen: &(dyn Fn(u64) + Sync)) -> Result<Found, LibraryError> {
        let marked = || fs::read(entry.folder.join(RECORD)).ok() != fs::read(entry.folder.join(SEEN)).ok();
        if marked() {
            heal_record(&entry.folder, &lock_records(entry.folder.parent().unwrap_or(&entry.folder))?)?;
        }
        if !entry.is_here() && !marked() {
            return Ok(Found::default());
        }
        let there = self.now_at_home(entry).await?;
        let ours = Away::of(entry)?;
        let same = there.as_ref() == Some(&ours);
        let was_there = fs::read(entry.folder.join(FETCHED)).is_ok_and(|text| text == ours.text);
        // What was forgotten for good elsewhere gets no record back, and what was encrypted anew there is not undone.
        if !same && (!entry.is_here() || (was_there && there.is_some())) {
            return Ok(Found::default());
        }
        if !entry.is_here() {
            return Ok(Found { sent: false, marked: true });
        }
        let record = fs::read(entry.folder.join(RECORD)).ok();
        // The last one here goes only when the one at home is known to be whole: one that this mirror has neither brought there nor
        // fetched, or that a check has found damaged, is read there first.
        let doubted = !was_there || entry.record.damage().is_some();
        let sent = self.put_with(entry, doubted, there.is_none(), seen).await? == Copied::Now;
        // It may stay for now, and must not be brought there again over what was encrypted anew there meanwhile.
        put_file(&entry.folder, FETCHED, Some(&ours.text))?;
        mirror.let_go(entry, owner)?;
        if there.is_none() {
            put_file(&entry.folder, SEEN, record.as_deref())?;
        }
        Ok(Found { sent, marked: there.is_some() && marked() })
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
