//! A library whose home is a remote: what lies on this disk, the mirror, are its manifests and records, and an archive only from when
//! it was made or fetched until it is at home. Marks, the trash and what is forgotten go home the same way, so every verb works on a
//! mirror as on any library.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::super::catalog::{FLAW, GONE, HOME, Problem, folders, read_entry};
use super::super::digests::{SEAL, SUMS, replace_private, sync_folder, write_private};
use super::super::records::{FILE as RECORD, lock_records, parse_sheet};
use super::super::trash::TRASH;
use super::super::verify::hex;
use super::super::writer::{HashedFile, remove};
use super::super::{Entry, HostLock, Library, LibraryError, MANIFEST};
use super::{Away, Offsite};
use crate::model::id::HostName;

/// A record as it is at home: one that differs was changed here, and is on its way.
const SEEN: &str = ".record-home";
/// The manifest of an archive that was fetched: it is at home, and not to be brought there.
const FETCHED: &str = ".fetched";
/// What an archive is called until it has arrived whole.
const FETCHING: &str = "fetching";

/// Archives that are here stay here as long as somebody has one of these.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

/// What was brought home.
#[derive(Debug, Default)]
pub struct Settled {
    /// `HOST@ID` of those whose archives are at home now.
    pub sent: Vec<String>,
    /// What could not be.
    pub failed: Vec<LibraryError>,
}

impl Library {
    /// The mirror of the library at this url, below a folder for all of them.
    ///
    /// # Errors
    /// When it can't be made, or is that of another url.
    pub fn mirror(below: &Path, url: &str) -> Result<Self, LibraryError> {
        let root = Self::mirror_path(below, url);
        DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(LibraryError::file(&root, "can't be made"))?;
        let mark = root.join(HOME);
        match fs::read_to_string(&mark) {
            Ok(text) if text.trim_end() == url => {}
            Ok(text) => {
                return Err(LibraryError::Missing(format!("{} is the mirror of {}, not of {url}", root.display(), text.trim_end())));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => replace_private(&mark, format!("{url}\n").as_bytes())?,
            Err(e) => return Err(LibraryError::file(&mark, "can't be read")(e)),
        }
        Ok(Self::at(root))
    }

    /// Where that is: a name that people can read, and a part that no two urls share.
    #[must_use]
    pub fn mirror_path(below: &Path, url: &str) -> PathBuf {
        let plain: String = url.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(80).collect();
        below.join(format!("{plain}-{}", &hex(&Sha256::digest(url.as_bytes()))[..8]))
    }

    /// Whether its home is a remote.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.root.join(HOME).exists()
    }

    /// Keeps the archives that are here from going, until it is dropped.
    ///
    /// # Errors
    /// When another tanker brings them home right now.
    pub fn hold(&self) -> Result<Hold, LibraryError> {
        let (file, path) = self.use_lock()?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Hold { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(LibraryError::Missing(format!("another tanker brings archives home from {}: try again", self.root.display())))
            }
            Err(TryLockError::Error(e)) => Err(LibraryError::file(&path, "can't be locked")(e)),
        }
    }

    /// Held alone where nobody works with archives that are here.
    ///
    /// # Errors
    /// When the lock can't be taken for another reason.
    pub fn unused(&self) -> Result<Option<Hold>, LibraryError> {
        let (file, path) = self.use_lock()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Hold { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(LibraryError::file(&path, "can't be locked")(e)),
        }
    }

    fn use_lock(&self) -> Result<(File, PathBuf), LibraryError> {
        let path = self.root.join(".use.lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        Ok((file.map_err(LibraryError::file(&path, "can't be opened"))?, path))
    }
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
    /// Brings a mirror up to what is at home. A host that another tanker writes is left to that one.
    ///
    /// # Errors
    /// When the remote can't be read or the mirror can't be written.
    pub async fn refresh(&self, mirror: &Library, owner: &str) -> Result<(), LibraryError> {
        let (away, flaws) = self.list().await?;
        let mut hosts: BTreeSet<HostName> = mirror.host_names()?.into_iter().collect();
        hosts.extend(away.iter().map(|away| away.manifest.description.host.clone()));
        hosts.extend(flaws.iter().filter_map(Problem::host));
        for host in hosts {
            let lock = match mirror.lock(&host, owner) {
                Err(LibraryError::Locked { .. }) => continue,
                lock => lock?,
            };
            let mut known = BTreeSet::new();
            for away in away.iter().filter(|away| away.manifest.description.host == host) {
                known.insert(away.manifest.description.id.to_string());
                self.refresh_one(mirror, &lock, away).await?;
            }
            for flaw in flaws.iter().filter(|flaw| flaw.host().as_ref() == Some(&host)) {
                let id = flaw.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                mark_flaw(&mirror.root.join(host.as_str()).join(&id), &flaw.reason)?;
                known.insert(id);
            }
            drop_unknown(mirror, &host, &known)?;
        }
        Ok(())
    }

    async fn refresh_one(&self, mirror: &Library, _lock: &HostLock, away: &Away) -> Result<(), LibraryError> {
        let about = &away.manifest.description;
        let host = mirror.root.join(about.host.as_str());
        let (listed, trashed) = (host.join(about.id.as_str()), host.join(TRASH).join(about.id.as_str()));
        let gone = host.join(GONE).join(about.id.as_str());
        if gone.exists() {
            return Ok(());
        }
        let record = self.small(&away.path(RECORD)).await?;
        let deleted = record.as_deref().is_some_and(|text| parse_sheet(text).is_ok_and(|record| record.deleted.is_some()));
        let wanted = if deleted { &trashed } else { &listed };
        let there = [&listed, &trashed].into_iter().find(|folder| folder.exists());
        if let Some(there) = there {
            let _records = lock_records(&host)?;
            let same = fs::read(there.join(MANIFEST)).is_ok_and(|text| text == away.text);
            let stale =
                !same && fs::read(there.join(FETCHED)).is_ok_and(|text| fs::read(there.join(MANIFEST)).is_ok_and(|own| own == text));
            if same || (has_archive(there) && !stale) {
                remove(&there.join(FLAW))?;
                // What was marked here and is not at home yet counts.
                if same && fs::read(there.join(RECORD)).ok() == fs::read(there.join(SEEN)).ok() {
                    put_file(there, RECORD, record.as_deref())?;
                    put_file(there, SEEN, record.as_deref())?;
                    if there != wanted {
                        place(there, wanted)?;
                    }
                }
                return Ok(());
            }
            fs::remove_dir_all(there).map_err(LibraryError::file(there, "can't be removed"))?;
        }
        let mut folder = mirror.begin_folder(&about.host, &about.id, 0)?;
        for name in [SUMS, SEAL] {
            if let Some(text) = self.small(&away.path(name)).await? {
                write_private(&folder.partial.join(name), &text)?;
            }
        }
        put_file(&folder.partial, RECORD, record.as_deref())?;
        put_file(&folder.partial, SEEN, record.as_deref())?;
        write_private(&folder.partial.join(MANIFEST), &away.text)?;
        sync_folder(&folder.partial)?;
        place(&folder.partial, wanted)?;
        folder.keep = true;
        Ok(())
    }

    /// Fetches the archive of a mirror's backup, unless it is here; one that was cut off goes on where it stopped.
    ///
    /// # Errors
    /// When it isn't what the manifest says, or the disk can't take it.
    pub async fn fetch(&self, mirror: &Library, entry: &Entry, seen: &(dyn Fn(u64) + Sync)) -> Result<(), LibraryError> {
        if entry.is_here() {
            return Ok(());
        }
        let _alone = fetch_lock(entry)?;
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
            match mirror.lock(&host, owner) {
                // Who holds it brings its own home.
                Err(LibraryError::Locked { .. }) => {}
                Err(e) => settled.failed.push(e),
                Ok(_lock) => {
                    if let Err(e) = self.settle_host(mirror, &host, seen, &mut settled).await {
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
        seen: &(dyn Fn(u64) + Sync),
        settled: &mut Settled,
    ) -> Result<(), LibraryError> {
        let unused = mirror.unused()?;
        let mut entries = mirror.list(Some(host))?.0;
        entries.extend(mirror.trashed(host)?.0.into_iter().map(|trashed| trashed.entry));
        for entry in &entries {
            match self.settle_one(entry, unused.is_some(), seen).await {
                Ok(true) => settled.sent.push(entry.name()),
                Ok(false) => {}
                Err(e) => settled.failed.push(e),
            }
        }
        let gone = mirror.root.join(host.as_str()).join(GONE);
        for (name, folder) in folders(&gone)? {
            match read_entry(host, &name, folder.clone()) {
                Ok(entry) => self.remove_forgotten(&entry).await?,
                Err(reason) => settled.failed.push(LibraryError::Damaged { name: format!("{host}@{name}"), reason }),
            }
            fs::remove_dir_all(&folder).map_err(LibraryError::file(&folder, "can't be removed"))?;
        }
        Ok(())
    }

    /// Removes at home what was forgotten here, unless it is another one by now, or somebody has taken it back or marked it since.
    async fn remove_forgotten(&self, entry: &Entry) -> Result<(), LibraryError> {
        let forgotten = Away::of(entry)?;
        let about = &entry.manifest.description;
        if !self.look(&about.host, &about.id).await?.is_ok_and(|there| there.is_some_and(|there| there == forgotten)) {
            return Ok(());
        }
        let record = self.small(&forgotten.path(RECORD)).await?;
        let unmarked = record == fs::read(entry.folder.join(SEEN)).ok();
        let deleted = |text: &[u8]| parse_sheet(text).is_ok_and(|record| record.deleted.is_some() && !record.protected);
        if unmarked || record.as_deref().is_some_and(deleted) { self.remove(&forgotten).await } else { Ok(()) }
    }

    /// Tells whether an archive was brought home that was not there.
    async fn settle_one(&self, entry: &Entry, may_go: bool, seen: &(dyn Fn(u64) + Sync)) -> Result<bool, LibraryError> {
        let record = fs::read(entry.folder.join(RECORD)).ok();
        let marked = record != fs::read(entry.folder.join(SEEN)).ok();
        let mut sent = false;
        if entry.is_here() {
            sent = self.put(entry, seen).await? == super::Copied::Now;
            // The last copy here goes only when the one at home was read: what was appended there nobody has hashed as a whole.
            if sent && may_go && self.appends() {
                self.verify(&Away::of(entry)?, &|_| {}).await?;
            }
            if may_go && entry.record.damage().is_none() {
                remove(&entry.archive())?;
            }
        } else if marked {
            let about = &entry.manifest.description;
            // What was forgotten for good elsewhere gets no record back.
            if self.look(&about.host, &about.id).await?.is_ok_and(|there| there.is_some()) {
                self.put_record(entry).await?;
            }
        }
        if marked {
            put_file(&entry.folder, SEEN, record.as_deref())?;
        }
        Ok(sent)
    }
}

fn place(from: &Path, to: &Path) -> Result<(), LibraryError> {
    if let Some(parent) = to.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(LibraryError::file(parent, "can't be made"))?;
    }
    fs::rename(from, to).map_err(LibraryError::file(from, "can't be moved"))?;
    to.parent().map_or(Ok(()), sync_folder)
}

fn put_file(folder: &Path, name: &str, text: Option<&[u8]>) -> Result<(), LibraryError> {
    let path = folder.join(name);
    match text {
        Some(text) if fs::read(&path).is_ok_and(|there| there == text) => Ok(()),
        Some(text) => replace_private(&path, text),
        None => remove(&path),
    }
}

/// Why something at home can't be taken for a backup, where the library's list finds it. A whole one that is here takes its place.
fn mark_flaw(folder: &Path, reason: &str) -> Result<(), LibraryError> {
    if has_archive(folder) {
        return remove(&folder.join(FLAW));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(LibraryError::file(folder, "can't be made"))?;
    replace_private(&folder.join(FLAW), reason.as_bytes())
}

/// What is not at home any more goes; an archive that is not there yet stays.
fn drop_unknown(mirror: &Library, host: &HostName, known: &BTreeSet<String>) -> Result<(), LibraryError> {
    let host = mirror.root.join(host.as_str());
    for (name, folder) in [folders(&host)?, folders(&host.join(TRASH))?].concat() {
        if !name.ends_with(".partial") && !known.contains(&name) && !has_archive(&folder) {
            fs::remove_dir_all(&folder).map_err(LibraryError::file(&folder, "can't be removed"))?;
        }
    }
    Ok(())
}

fn has_archive(folder: &Path) -> bool {
    let Ok(files) = fs::read_dir(folder) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().contains(".lrz"))
}

fn fetch_lock(entry: &Entry) -> Result<File, LibraryError> {
    let path = entry.folder.join(".fetch.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(LibraryError::file(&path, "can't be opened"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LibraryError::Missing(format!("another tanker fetches {} right now", entry.name()))),
        Err(TryLockError::Error(e)) => Err(LibraryError::file(&path, "can't be locked")(e)),
    }
}
