//! The library: `<library>/<host>/<id>/{fuel_backup_….tar.lrz, manifest.json}`, plain files that need no tanker to be read.
//!
//! Owns every archive file. Must never: list what isn't whole and proven (I2), overwrite an archive, make a file that others
//! can read (I6). A backup under way is a folder `<id>.partial`; the rename that drops the suffix is what publishes it.

mod archive;
mod blocks;
mod catalog;
mod crypt;
mod diff;
mod digests;
mod entries;
mod export;
mod extract;
mod files;
mod hashed;
mod import;
mod lock;
mod offsite;
mod pack;
mod records;
mod rekey;
mod resume;
mod stock;
mod trash;
mod verify;
mod writer;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

pub use archive::{LRZIP_REFUSES, Seen, Source, Walked, lrzip_is_here, walk, walk_deep};
pub use blocks::{BLOCK, Blocks, Sum, parse_sum, parse_sums, sum_of_sums};
pub use catalog::{Entry, Problem, in_the_way};
pub use crypt::{Ask, Keys, PASSPHRASE, Plain, Recipients};
pub use diff::{Difference, diff};
pub use export::export;
pub use extract::extract;
pub use files::{FileEntry, FileKind, list_files, walk_tar};
pub use hashed::HashedFile;
pub use lock::HostLock;
pub use offsite::{Away, Copied, Hold, Leftover, Offsite, Settled};
pub use pack::{Packed, Parcel};
pub use rekey::rekey;
pub use resume::ResumeKey;
pub use stock::{Stock, read_stock};
pub use trash::Trashed;
pub use verify::{Depth, Verified, verify};
pub use writer::{Arrival, Received, Writer};

use crate::model::id::{BackupId, BackupRef, HostName, Which, is_day};
use crate::model::pattern::closest;
use crate::model::report::Severity;
use crate::model::text::{is_ahead, printable_path};
use crate::platform;

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";

/// A library on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    root: PathBuf,
}

/// Why something in the library could not be done.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A file operation failed.
    #[error("{} {what}: {cause}", printable_path(path.as_os_str().as_encoded_bytes()))]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// `can't be read`, …
        what: &'static str,
        /// The system's word for it.
        cause: std::io::Error,
    },
    /// Another tanker writes this host's archives.
    #[error("another tanker writes backups of {host} into this library: {owner}")]
    Locked {
        /// Whose archives.
        host: HostName,
        /// Who: what it wrote of itself.
        owner: String,
    },
    /// There is no such backup.
    #[error("there is no backup {name}{hint}")]
    NoSuchBackup {
        /// As it was named.
        name: String,
        /// What there is instead.
        hint: String,
    },
    /// The archive isn't what it should be.
    #[error("{name} is damaged: {reason}")]
    Damaged {
        /// Which backup.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A remote doesn't do what it should.
    #[error("the remote {remote} {reason}")]
    Offsite {
        /// Its name in the inventory.
        remote: String,
        /// What, and its own words for it.
        reason: String,
    },
    /// Something that is needed here isn't.
    #[error("{0}")]
    Missing(String),
}

impl LibraryError {
    /// How serious it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Damaged { .. } => Severity::Damaged,
            Self::File { .. } | Self::Offsite { .. } => Severity::Failed,
            Self::Locked { .. } | Self::NoSuchBackup { .. } | Self::Missing(_) => Severity::Refused,
        }
    }

    /// What to do now.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { .. } => Some("wait until that has ended: it lets go by itself, even if it is killed".to_owned()),
            Self::File { cause, .. } => match cause.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    Some("make room on this disk: 'tanker stats' shows what backups take, 'tanker forget' which of them may go".to_owned())
                }
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    Some("this user must be able to read and write there: look who owns it and how it is mounted".to_owned())
                }
                _ => None,
            },
            Self::Damaged { name, .. } => {
                let host = name.split('@').next().unwrap_or_default();
                Some(format!("'tanker list {host}' shows which others there are, and when each was seen whole"))
            }
            Self::NoSuchBackup { .. } | Self::Offsite { .. } | Self::Missing(_) => None,
        }
    }

    fn file(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { path, what, cause }
    }
}

impl Library {
    /// The library in this folder, which need not be there yet.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The listed backup of this name.
    ///
    /// # Errors
    /// When there is none, or its entry is damaged.
    pub fn find(&self, name: &BackupRef) -> Result<Entry, LibraryError> {
        let (entries, problems) = self.list(Some(&name.host))?;
        let missing = || LibraryError::NoSuchBackup { name: name.to_string(), hint: self.hint(name, &entries) };
        named(name, &entries, &problems)?.cloned().ok_or_else(missing)
    }

    /// The backup of this name that lies in the trash. One that can't be read is found by its whole id only.
    ///
    /// # Errors
    /// When there is none, or its entry is damaged.
    pub fn find_trashed(&self, name: &BackupRef) -> Result<BackupId, LibraryError> {
        let (trashed, problems) = self.trashed(&name.host)?;
        let is_it = |problem: &&Problem| matches!(&name.which, Which::Id(id) if problem.path.ends_with(id.as_str()));
        if let (Which::Id(id), Some(_)) = (&name.which, problems.iter().find(is_it)) {
            return Ok(id.clone());
        }
        let entries: Vec<Entry> = trashed.into_iter().map(|trashed| trashed.entry).collect();
        let missing = || {
            let is_known = self.hosts().unwrap_or_default().iter().any(|(host, _)| *host == name.host);
            let near = if entries.is_empty() && is_known { String::new() } else { self.meant_of(name, &entries) };
            let hint = match entries.is_empty() {
                true => format!(" in the trash{near}: nothing of {} lies there", name.host),
                false => format!(" in the trash{near}: 'tanker list --trash {}' shows what lies there", name.host),
            };
            LibraryError::NoSuchBackup { name: name.to_string(), hint }
        };
        named(name, &entries, &problems)?.map(|entry| entry.manifest.description.id.clone()).ok_or_else(missing)
    }

    fn hint(&self, name: &BackupRef, entries: &[Entry]) -> String {
        let near = self.meant_of(name, entries);
        if entries.is_empty() {
            return format!(": {} has none of {}{near}", self.root.display(), name.host);
        }
        format!("{near}: 'tanker list {}' shows the {} there are of {0}", name.host, entries.len())
    }

    fn meant_of(&self, name: &BackupRef, of_host: &[Entry]) -> String {
        let ids = of_host.iter().map(|entry| &entry.manifest.description.id);
        meant(name, ids, self.hosts().unwrap_or_default().iter().map(|(host, _)| host))
    }
}

/// The one of a host's backups, oldest first, that is named so.
fn named<'a>(name: &BackupRef, entries: &'a [Entry], problems: &[Problem]) -> Result<Option<&'a Entry>, LibraryError> {
    let wanted = |entry: &&Entry| match &name.which {
        Which::Latest => true,
        Which::Id(id) => entry.manifest.description.id == *id,
        Which::Beginning(beginning) => entry.manifest.description.id.as_str().starts_with(beginning),
    };
    if let Which::Beginning(beginning) = &name.which
        && !is_day(beginning)
    {
        let fitting: Vec<String> = entries.iter().filter(wanted).map(Entry::name).collect();
        if fitting.len() > 1 {
            let shown = fitting.iter().rev().take(5).cloned().collect::<Vec<_>>().join(", ");
            return Err(LibraryError::Missing(format!("{name} names {} backups: {shown}; say more of the id", fitting.len())));
        }
    }
    let found = entries.iter().rev().find(wanted);
    match in_the_way(problems.iter(), &name.which, found.map(|found| &found.manifest.description.id)) {
        Some(problem) if problem.is_newer() => Err(LibraryError::Missing(format!("{}: {}", problem.name(), problem.reason))),
        Some(problem) => Err(LibraryError::Damaged { name: problem.name(), reason: problem.reason.clone() }),
        None => Ok(found),
    }
}

/// Which of a host's backups is the latest nobody can tell while one of them was begun by a clock that was ahead: it would be that one for years.
/// Each with its beginning, oldest first.
///
/// # Errors
/// With the sentence that says so.
pub fn none_ahead<'a>(
    host: &HostName,
    begun: impl Iterator<Item = (DateTime<Utc>, &'a BackupId)>,
    now: DateTime<Utc>,
) -> Result<(), String> {
    let (ahead, past): (Vec<_>, Vec<_>) = begun.partition(|(started, _)| is_ahead(*started, now));
    let Some((_, ahead)) = ahead.first() else { return Ok(()) };
    let instead = past.last().map(|(_, id)| format!(", as {host}@{id}")).unwrap_or_default();
    Err(format!(
        "{host}@{ahead} was begun in the future, when a clock was wrong, so nobody can tell which one is the latest: name one by its id{instead}"
    ))
}

/// What was meant by a backup that isn't there, with the ids there are of its host and the hosts there are: ` (did you mean …?)`, or nothing.
#[must_use]
pub fn meant<'a>(name: &BackupRef, ids: impl Iterator<Item = &'a BackupId>, hosts: impl Iterator<Item = &'a HostName>) -> String {
    let mut ids = ids.peekable();
    if ids.peek().is_none() {
        let others = hosts.filter(|host| **host != name.host).map(HostName::as_str);
        return closest(name.host.as_str(), others).map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
    }
    let Which::Id(id) = &name.which else { return String::new() };
    closest(id.as_str(), ids.map(BackupId::as_str)).map(|near| format!(" (did you mean {}@{near}?)", name.host)).unwrap_or_default()
}

/// lrzip gives a file the mode of what it packed (I6); and a file that is about to be renamed must be on the disk.
fn keep_private(path: &Path) -> Result<(), LibraryError> {
    platform::keep_private(path).map_err(LibraryError::file(path, "can't be kept private"))?;
    platform::private()
        .write(true)
        .open(path)
        .and_then(|file| file.sync_all())
        .map_err(LibraryError::file(path, "can't be brought to the disk"))
}
