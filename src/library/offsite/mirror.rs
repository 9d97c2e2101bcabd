//! The mirror of a library whose home is a remote: an ordinary library on this disk, but that an archive lies in it only from when it
//! was made or fetched until it is at home. Every verb works on a mirror as on any library.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

use super::super::catalog::{FLAW, GONE, HOME, Problem, folders, read_entry};
use super::super::digests::{SEAL, SUMS, replace_private, sync_folder, write_private};
use super::super::records::{FILE as RECORD, is_rotten, lock_records, parse_sheet, write_record};
use super::super::trash::TRASH;
use super::super::verify::hex;
use super::super::writer::remove;
use super::super::{Entry, Library, LibraryError, MANIFEST};
use super::{Away, Offsite};
use crate::model::id::HostName;
use crate::model::record::{Record, merged};
use crate::platform;

/// A record as it is at home: one that differs was changed here, and is on its way.
pub(super) const SEEN: &str = ".record-home";
/// The manifest of an archive that was fetched, or brought home already: it is there, and not to be brought there again.
pub(super) const FETCHED: &str = ".fetched";
/// What an archive is called until it has arrived whole.
pub(super) const FETCHING: &str = "fetching";
/// What an entry is made in: one that is cut off is no entry.
const REFRESHING: &str = ".refreshing";

/// Archives that are here stay here as long as somebody has one of these.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

impl Library {
    /// The mirror of the library at this url, below a folder for all of them.
    ///
    /// # Errors
    /// When it can't be made, or is that of another url.
    pub fn mirror(below: &Path, url: &str) -> Result<Self, LibraryError> {
        let root = Self::mirror_path(below, url);
        platform::make_folders(&root).map_err(LibraryError::file(&root, "can't be made"))?;
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
    fn unused(&self) -> Result<Option<Hold>, LibraryError> {
        let (file, path) = self.use_lock()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Hold { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(LibraryError::file(&path, "can't be locked")(e)),
        }
    }

    /// Lets an archive go from this disk that is at home: not while somebody works with it, and not where another one is in its place.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn let_go(&self, entry: &Entry, owner: &str) -> Result<(), LibraryError> {
        let about = &entry.manifest.description;
        let _writing = match self.lock(&about.host, owner) {
            Err(LibraryError::Locked { .. }) => return Ok(()),
            lock => lock?,
        };
        let Some(_alone) = self.unused()? else { return Ok(()) };
        match read_entry(&about.host, about.id.as_str(), entry.folder.clone()) {
            Ok(now) if now.manifest == entry.manifest => {
                remove(&entry.archive())?;
                remove(&entry.folder.join(FETCHED))?;
                remove(&entry.folder.join(FETCHING))
            }
            _ => Ok(()),
        }
    }

    fn use_lock(&self) -> Result<(File, PathBuf), LibraryError> {
        let path = self.root.join(".use.lock");
        let file = platform::private().read(true).write(true).create(true).truncate(false).open(&path);
        Ok((file.map_err(LibraryError::file(&path, "can't be opened"))?, path))
    }
}

impl Offsite {
    /// Brings a mirror up to what is at home; tells of which hosts it could not, for another tanker is at them.
    ///
    /// # Errors
    /// When the remote can't be read or the mirror can't be written.
    pub async fn refresh(&self, mirror: &Library, owner: &str) -> Result<Vec<HostName>, LibraryError> {
        let (away, flaws) = self.list().await?;
        if away.is_empty() && flaws.is_empty() {
            looks_lost(mirror)?;
        }
        let mut hosts: BTreeSet<HostName> = mirror.host_names()?.into_iter().collect();
        hosts.extend(away.iter().map(|away| away.manifest.description.host.clone()));
        hosts.extend(flaws.iter().filter_map(Problem::host));
        let mut skipped = Vec::new();
        for host in hosts {
            let _home = match mirror.lock_home(&host, owner) {
                Err(LibraryError::Locked { .. }) => {
                    skipped.push(host);
                    continue;
                }
                lock => lock?,
            };
            let mut known = BTreeSet::new();
            let of_host = away.iter().filter(|away| away.manifest.description.host == host);
            let mut records =
                stream::iter(of_host.map(|away| async move { (away, self.small(&away.path(RECORD)).await) })).buffered(self.looks());
            while let Some((away, record)) = records.next().await {
                let id = away.manifest.description.id.to_string();
                let refreshed = match record {
                    Ok(record) => self.refresh_one(mirror, away, record, owner).await,
                    Err(e) => Err(e),
                };
                match refreshed {
                    // One odd object hides no other backup.
                    Err(e @ LibraryError::Damaged { .. }) => mark_flaw(&mirror.root.join(host.as_str()), &id, &e.to_string())?,
                    refreshed => refreshed?,
                }
                known.insert(id);
            }
            for flaw in flaws.iter().filter(|flaw| flaw.host().as_ref() == Some(&host)) {
                let id = flaw.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                mark_flaw(&mirror.root.join(host.as_str()), &id, &flaw.reason)?;
                known.insert(id);
            }
            self.drop_unknown(mirror, &host, &known, owner).await?;
        }
        Ok(skipped)
    }

    async fn refresh_one(&self, mirror: &Library, away: &Away, mut record: Option<Vec<u8>>, owner: &str) -> Result<(), LibraryError> {
        let about = &away.manifest.description;
        let host = mirror.root.join(about.host.as_str());
        let (listed, trashed) = (host.join(about.id.as_str()), host.join(TRASH).join(about.id.as_str()));
        if host.join(GONE).join(about.id.as_str()).exists() {
            return Ok(());
        }
        // Another workstation's of the same id: one that is on its way here must not find its place taken when it has come.
        if host.join(format!("{}.partial", about.id)).exists() {
            return Ok(());
        }
        // Where records are written in place, half of one is no rot.
        let was_seen = [&listed, &trashed].into_iter().any(|folder| folder.join(SEEN).exists());
        if was_seen && record.as_deref().is_none_or(is_rotten) {
            tokio::time::sleep(Duration::from_millis(300)).await;
            record = self.small(&away.path(RECORD)).await?;
        }
        let deleted = record.as_deref().is_some_and(|text| parse_sheet(text).is_ok_and(|record| record.deleted.is_some()));
        let wanted = if deleted { &trashed } else { &listed };
        let in_place = || [&listed, &trashed].into_iter().find(|folder| folder.exists());
        if let Some(there) = in_place() {
            let _writing = match mirror.lock(&about.host, owner) {
                // Who writes this host's backups changes none that is there.
                Err(LibraryError::Locked { .. }) => return Ok(()),
                lock => lock?,
            };
            if is_kept(there, away) {
                return take_record(&host, there, wanted, away, record.as_deref());
            }
        }
        let folder = host.join(REFRESHING);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(LibraryError::file(&folder, "can't be removed"))?;
        }
        platform::make_folder(&folder).map_err(LibraryError::file(&folder, "can't be made"))?;
        for name in [SUMS, SEAL] {
            if let Some(text) = self.small(&away.path(name)).await? {
                write_private(&folder.join(name), &text)?;
            }
        }
        put_file(&folder, RECORD, record.as_deref())?;
        put_file(&folder, SEEN, record.as_deref())?;
        write_private(&folder.join(MANIFEST), &away.text)?;
        sync_folder(&folder)?;
        // Not held while the remote was asked: what is there may be another one by now.
        let Some(there) = in_place() else { return place(&folder, wanted) };
        match mirror.lock(&about.host, owner) {
            Err(LibraryError::Locked { .. }) => Ok(()),
            Err(e) => Err(e),
            Ok(_writing) if is_kept(there, away) => Ok(()),
            Ok(_writing) => take_the_place(mirror, &host, &folder, there, wanted),
        }
    }

    /// What is not at home any more goes; an archive that is not there yet stays, and so does what has come there since it was listed.
    async fn drop_unknown(&self, mirror: &Library, host: &HostName, known: &BTreeSet<String>, owner: &str) -> Result<(), LibraryError> {
        let below = mirror.root.join(host.as_str());
        for (name, folder) in [folders(&below)?, folders(&below.join(TRASH))?].concat() {
            let Ok(id) = name.parse() else { continue };
            if known.contains(&name) || has_archive(&folder) || !matches!(self.look(host, &id).await?, Ok(None)) {
                continue;
            }
            match mirror.lock(host, owner) {
                Err(LibraryError::Locked { .. }) => return Ok(()),
                Err(e) => return Err(e),
                Ok(_writing) => fs::remove_dir_all(&folder).map_err(LibraryError::file(&folder, "can't be removed"))?,
            }
        }
        Ok(())
    }
}

/// A home that is empty all at once is more likely a disk that isn't mounted.
fn looks_lost(mirror: &Library) -> Result<(), LibraryError> {
    let known = mirror.list(None)?.0.iter().filter(|entry| !entry.is_here()).count();
    if known == 0 {
        return Ok(());
    }
    let root = mirror.root.display();
    Err(LibraryError::Missing(format!(
        "nothing is at the library's home, where {known} backups were: is its disk mounted? If they were removed on purpose, remove {root} too"
    )))
}

/// Whether what lies in a mirror's folder is what is at home, or one that isn't there yet.
fn is_kept(there: &Path, away: &Away) -> bool {
    let own = fs::read(there.join(MANIFEST)).ok();
    let was_fetched = own.is_some() && fs::read(there.join(FETCHED)).ok() == own;
    own.as_ref() == Some(&away.text) || (has_archive(there) && !was_fetched)
}

/// The record that is at home counts, but where there is one here that is on its way.
fn take_record(host: &Path, there: &Path, wanted: &Path, away: &Away, record: Option<&[u8]>) -> Result<(), LibraryError> {
    remove(&there.join(FLAW))?;
    let records = lock_records(host)?;
    heal_record(there, &records)?;
    let same = fs::read(there.join(MANIFEST)).is_ok_and(|text| text == away.text);
    if !same || fs::read(there.join(RECORD)).ok() != fs::read(there.join(SEEN)).ok() {
        return Ok(());
    }
    // One that rotted at home, or is lost there, doesn't take the marks here with it: they go there again.
    let is_lost = record.is_none_or(is_rotten) && fs::read(there.join(RECORD)).is_ok_and(|ours| !is_rotten(&ours));
    if is_lost {
        return put_file(there, SEEN, record);
    }
    put_file(there, RECORD, record)?;
    put_file(there, SEEN, record)?;
    if there == wanted { Ok(()) } else { place(there, wanted) }
}

/// Puts what is at home into the place of another one of its name, with what was marked here and is not at home yet. Not while somebody
/// works with the other one's archive: a later refresh does it then.
fn take_the_place(mirror: &Library, host: &Path, new: &Path, there: &Path, wanted: &Path) -> Result<(), LibraryError> {
    let in_use = has_archive(there) || there.join(FETCHING).exists();
    let _alone = match in_use.then(|| mirror.unused()).transpose()? {
        Some(None) => return Ok(()),
        alone => alone.flatten(),
    };
    let records = lock_records(host)?;
    heal_record(there, &records)?;
    let read = |folder: &Path, name: &str| fs::read(folder.join(name)).ok();
    let (ours, base, theirs) = (read(there, RECORD), read(there, SEEN), read(new, RECORD));
    let parse = |text: &Option<Vec<u8>>| text.as_ref().map_or(Ok(Record::default()), |text| parse_sheet(text));
    if ours != base
        && let Ok(own) = parse(&ours)
    {
        match parse(&theirs) {
            Ok(theirs) => write_record(new, &merged(&parse(&base).unwrap_or_default(), &own, &theirs))?,
            Err(_) => put_file(new, RECORD, ours.as_deref())?,
        }
    }
    if there == wanted {
        platform::exchange(new, there).map_err(LibraryError::file(there, "can't be exchanged for what is at home"))?;
        there.parent().map_or(Ok(()), sync_folder)?;
        return fs::remove_dir_all(new).map_err(LibraryError::file(new, "can't be removed"));
    }
    fs::remove_dir_all(there).map_err(LibraryError::file(there, "can't be removed"))?;
    place(new, wanted)
}

/// A record that rotted here, or is lost, is not one that was marked here: what was seen at home takes its place.
pub(super) fn heal_record(folder: &Path, _records: &File) -> Result<(), LibraryError> {
    let Ok(seen) = fs::read(folder.join(SEEN)) else { return Ok(()) };
    let rotten = match fs::read(folder.join(RECORD)) {
        Ok(text) => is_rotten(&text),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    };
    if rotten && parse_sheet(&seen).is_ok() { replace_private(&folder.join(RECORD), &seen) } else { Ok(()) }
}

fn place(from: &Path, to: &Path) -> Result<(), LibraryError> {
    if let Some(parent) = to.parent() {
        platform::make_folders(parent).map_err(LibraryError::file(parent, "can't be made"))?;
    }
    fs::rename(from, to).map_err(LibraryError::file(from, "can't be moved"))?;
    to.parent().map_or(Ok(()), sync_folder)
}

pub(super) fn put_file(folder: &Path, name: &str, text: Option<&[u8]>) -> Result<(), LibraryError> {
    let path = folder.join(name);
    match text {
        Some(text) if fs::read(&path).is_ok_and(|there| there == text) => Ok(()),
        Some(text) => replace_private(&path, text),
        None => remove(&path),
    }
}

/// Why something at home can't be taken for a backup, where the library's list finds it. A whole one that is here takes its place.
fn mark_flaw(host: &Path, id: &str, reason: &str) -> Result<(), LibraryError> {
    let trashed = host.join(TRASH).join(id);
    let folder = &if trashed.exists() { trashed } else { host.join(id) };
    if has_archive(folder) {
        return remove(&folder.join(FLAW));
    }
    platform::make_folders(folder).map_err(LibraryError::file(folder, "can't be made"))?;
    replace_private(&folder.join(FLAW), reason.as_bytes())
}

fn has_archive(folder: &Path) -> bool {
    let Ok(files) = fs::read_dir(folder) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().contains(".lrz"))
}
