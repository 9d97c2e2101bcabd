//! What was forgotten lies in `<library>/<host>/.trash/<id>` for some days, and can be taken back until then.

use std::fs::{self};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::catalog::{GONE, folders, read_entry};
use super::digests::sync_folder;
use super::records::{read_record, write_record};
use super::{Entry, HostLock, Library, LibraryError};
use crate::model::id::{BackupId, HostName};
use crate::platform;

pub(super) const TRASH: &str = ".trash";

/// A forgotten backup that is still there.
#[derive(Debug, Clone, PartialEq)]
pub struct Trashed {
    /// It, as it was.
    pub entry: Entry,
    /// When it was forgotten; none where that can't be read any more.
    pub deleted: Option<DateTime<Utc>>,
}

impl Library {
    fn trash(&self, host: &HostName) -> PathBuf {
        self.root.join(host.as_str()).join(TRASH)
    }

    /// Moves a backup into the trash; not one that has been protected meanwhile (then it tells so with `false`).
    ///
    /// # Errors
    /// When that can't be done; it is listed as before then.
    pub fn discard(&self, _lock: &HostLock, entry: &mut Entry, now: DateTime<Utc>) -> Result<bool, LibraryError> {
        let description = &entry.manifest.description;
        let trash = self.trash(&description.host);
        platform::make_folders(&trash).map_err(LibraryError::file(&trash, "can't be made"))?;
        let to = trash.join(description.id.as_str());
        if to.exists() {
            return Err(LibraryError::Missing(format!("{} is in the trash already: {}", entry.name(), to.display())));
        }
        let from = entry.folder.clone();
        let still = entry.update_if(false, |record| {
            record.deleted = Some(now);
            !record.protected
        })?;
        if still {
            move_folder(&from, &to)?;
            entry.folder = to;
        }
        Ok(still)
    }

    /// What lies in a host's trash, oldest first, and folders in it that can't be read as backups.
    ///
    /// # Errors
    /// When the trash can't be read.
    pub fn trashed(&self, host: &HostName) -> Result<(Vec<Trashed>, Vec<super::Problem>), LibraryError> {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for (name, folder) in folders(&self.trash(host))? {
            match read_entry(host, &name, folder.clone()) {
                Ok(entry) => found.push(Trashed { deleted: entry.record.deleted, entry }),
                Err(reason) => problems.push(super::Problem { path: folder, reason }),
            }
        }
        found.sort_by_key(|trashed| trashed.entry.manifest.description.started);
        Ok((found, problems))
    }

    /// Takes a backup out of the trash again.
    ///
    /// # Errors
    /// When there is none, or another one has taken its place.
    pub fn undelete(&self, _lock: &HostLock, host: &HostName, id: &BackupId) -> Result<Entry, LibraryError> {
        let from = self.trash(host).join(id.as_str());
        let name = format!("{host}@{id}");
        if !from.is_dir() {
            return Err(LibraryError::NoSuchBackup { name, hint: " in the trash".into() });
        }
        if self.root.join(host.as_str()).join(id.as_str()).exists() {
            return Err(LibraryError::Missing(format!("{name} is listed: another backup has taken its place")));
        }
        let to = self.root.join(host.as_str()).join(id.as_str());
        // One that nobody can read stays as it is, or its tags, notes and damage would be gone.
        if let Ok(mut record) = read_record(&from) {
            record.deleted = None;
            write_record(&from, &record)?;
        }
        move_folder(&from, &to)?;
        read_entry(host, id.as_str(), to).map_err(|reason| LibraryError::Damaged { name, reason })
    }

    /// Removes a backup from the trash for good.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn purge(&self, _lock: &HostLock, trashed: &Trashed) -> Result<(), LibraryError> {
        let folder = &trashed.entry.folder;
        // Under a name of its own first: a removal that is cut off must not leave half a backup to be taken back.
        if self.is_mirror() {
            return move_folder(folder, &self.gone(&trashed.entry)?);
        }
        let going = folder.with_extension("partial");
        fs::rename(folder, &going).map_err(LibraryError::file(folder, "can't be removed"))?;
        fs::remove_dir_all(&going).map_err(LibraryError::file(&going, "can't be removed"))
    }

    /// Where a mirror keeps what is to be removed at home.
    fn gone(&self, entry: &Entry) -> Result<PathBuf, LibraryError> {
        let description = &entry.manifest.description;
        let gone = self.root.join(description.host.as_str()).join(GONE);
        platform::make_folders(&gone).map_err(LibraryError::file(&gone, "can't be made"))?;
        Ok(gone.join(description.id.as_str()))
    }

    /// Removes what removals that were cut off have left.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn sweep_trash(&self, _lock: &HostLock, host: &HostName) -> Result<(), LibraryError> {
        for (name, folder) in folders(&self.trash(host))? {
            if name.ends_with(".partial") {
                fs::remove_dir_all(&folder).map_err(LibraryError::file(&folder, "can't be removed"))?;
            }
        }
        Ok(())
    }
}

fn move_folder(from: &Path, to: &Path) -> Result<(), LibraryError> {
    fs::rename(from, to).map_err(LibraryError::file(from, "can't be moved"))?;
    for folder in [from.parent(), to.parent()].into_iter().flatten() {
        sync_folder(folder)?;
    }
    Ok(())
}
