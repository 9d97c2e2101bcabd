//! What the library holds, read from its folders. A damaged entry is a problem of its own and never hides the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::offsite::COPYING;
use super::records::read_record;
use super::writer::PENDING;
use super::{Library, LibraryError, MANIFEST};
use crate::model::id::{BackupId, HostName, Which};
use crate::model::manifest::{Manifest, NEEDS_NEWER, parse_manifest};
use crate::model::record::Record;
use crate::model::report::Severity;

/// In a mirror's folder: the url of its home.
pub(super) const HOME: &str = ".home";
/// Instead of a mirror's manifest: why there can't be one.
pub(super) const FLAW: &str = ".flaw";
/// What of a mirror was forgotten for good, and is to be removed at home.
pub(super) const GONE: &str = ".gone";
/// A manifest larger than this is none.
const LARGEST_MANIFEST: u64 = 16 << 20;

/// A listed backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its folder.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// What became of it since.
    pub record: Record,
    /// Why its record can't be read: then nobody knows whether it is protected.
    pub unreadable_record: Option<String>,
}

/// Something in the library that should be a backup and isn't one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub path: PathBuf,
    /// What is wrong, one sentence.
    pub reason: String,
}

impl Problem {
    /// Whose backup it should be.
    #[must_use]
    pub fn host(&self) -> Option<HostName> {
        self.host_folder()?.file_name()?.to_str()?.parse().ok()
    }

    fn host_folder(&self) -> Option<&std::path::Path> {
        let above = self.path.parent()?;
        if above.ends_with(super::trash::TRASH) { above.parent() } else { Some(above) }
    }

    /// Whether it is a whole library that can't be read.
    #[must_use]
    pub fn is_of_a_library(&self) -> bool {
        self.path.ends_with("*/*")
    }

    /// Whether it is no fault of its own: a later tanker wrote it.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        self.reason.ends_with(NEEDS_NEWER)
    }

    /// How serious these are.
    #[must_use]
    pub fn severity_of(problems: &[Self]) -> Severity {
        let each = |problem: &Self| if problem.is_newer() { Severity::Refused } else { Severity::Damaged };
        problems.iter().map(each).max().unwrap_or(Severity::Ok)
    }

    /// `HOST@ID`, as the folders are named.
    #[must_use]
    pub fn name(&self) -> String {
        if self.is_of_a_library() {
            return "a library".to_owned();
        }
        let part = |path: Option<&std::path::Path>| {
            let name = path.and_then(std::path::Path::file_name).unwrap_or_default();
            crate::model::text::printable(&name.to_string_lossy())
        };
        format!("{}@{}", part(self.host_folder()), part(Some(&self.path)))
    }
}

/// The damaged backup of one host that may be the one that was meant, or newer than the one that was found: an older one is not taken for it
/// in silence. Ids hold no minutes, so within an hour nobody knows.
pub fn in_the_way<'a>(mut problems: impl Iterator<Item = &'a Problem>, which: &Which, found: Option<&BackupId>) -> Option<&'a Problem> {
    problems.find(|problem| {
        let Some(damaged) = problem.path.file_name().and_then(|name| name.to_str()?.parse::<BackupId>().ok()) else { return false };
        let may_be_newer = || found.is_none_or(|found| damaged.hour() >= found.hour());
        match which {
            Which::Id(id) => damaged == *id,
            Which::Beginning(beginning) => damaged.as_str().starts_with(beginning) && may_be_newer(),
            Which::Latest => may_be_newer(),
        }
    })
}

impl Entry {
    /// `HOST@ID`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.manifest.description.host, self.manifest.description.id)
    }

    /// Its archive file.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.folder.join(&self.manifest.archive.file)
    }

    /// Whether its archive is on this disk: where the library's home is a remote it need not be.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.archive().exists()
    }
}

impl Library {
    /// The backups of one host or of all, oldest first by their manifests' time, and what is wrong with the rest. Backups
    /// under way (`.partial`) and hidden files are neither.
    ///
    /// # Errors
    /// When the library's folder can't be read; one that isn't there is empty.
    pub fn list(&self, only: Option<&HostName>) -> Result<(Vec<Entry>, Vec<Problem>), LibraryError> {
        let mut entries = Vec::new();
        let mut problems = Vec::new();
        for (host, host_folder) in self.hosts()? {
            if only.is_some_and(|only| *only != host) {
                continue;
            }
            let inside = match fs::metadata(&host_folder)
                .map_err(LibraryError::file(&host_folder, "can't be looked at"))
                .and_then(|_| folders(&host_folder))
            {
                Ok(inside) => inside,
                // One host's folder hides no other's.
                Err(e) if only.is_some() => return Err(e),
                Err(e) => {
                    problems.push(Problem { path: host_folder.join("*"), reason: e.to_string() });
                    continue;
                }
            };
            for (name, folder) in inside {
                if name.ends_with(".partial") {
                    continue;
                }
                // One that can't be looked at may be the newest.
                if let Err(e) = fs::metadata(&folder) {
                    problems.push(Problem { path: folder, reason: format!("it can't be looked at: {e}") });
                    continue;
                }
                match read_entry(&host, &name, folder.clone()) {
                    Ok(entry) => entries.push(entry),
                    Err(reason) => problems.push(Problem { path: folder, reason }),
                }
            }
        }
        if only.is_none() {
            problems.extend(self.misnamed()?);
        }
        entries.sort_by(|a, b| {
            let key = |e: &Entry| (e.manifest.description.started, e.manifest.description.host.clone(), e.manifest.description.id.clone());
            key(a).cmp(&key(b))
        });
        Ok((entries, problems))
    }

    /// Folders with backups in them whose name is no host's.
    fn misnamed(&self) -> Result<Vec<Problem>, LibraryError> {
        let mut problems = Vec::new();
        for (_, path) in folders(&self.root)?.into_iter().filter(|(name, _)| name.parse::<HostName>().is_err()) {
            // What else lies in one that nobody may read is no matter of ours.
            let inside = folders(&path).unwrap_or_default();
            let backups = inside.iter().filter(|(name, _)| name.parse::<BackupId>().is_ok());
            problems.extend(backups.map(|(_, folder)| Problem {
                path: folder.clone(),
                reason: "the name of the folder it lies in is no host's, so it is listed nowhere: give that its name again".into(),
            }));
        }
        Ok(problems)
    }

    /// The hosts that have a folder here.
    ///
    /// # Errors
    /// When the library's folder can't be read; one that isn't there is empty.
    pub fn host_names(&self) -> Result<Vec<HostName>, LibraryError> {
        Ok(self.hosts()?.into_iter().map(|(host, _)| host).collect())
    }

    pub(super) fn hosts(&self) -> Result<Vec<(HostName, PathBuf)>, LibraryError> {
        let found = folders(&self.root)?;
        Ok(found.into_iter().filter_map(|(name, path)| name.parse().ok().map(|host| (host, path))).collect())
    }

    /// Whether this id is taken, by a listed backup, by one under way, by one in the trash, or by one that is to be removed at home.
    #[must_use]
    pub fn is_taken(&self, host: &HostName, id: &BackupId) -> bool {
        let folder = self.root.join(host.as_str());
        let trash = folder.join(super::trash::TRASH);
        [
            folder.join(GONE).join(id.as_str()),
            folder.join(id.as_str()),
            folder.join(format!("{id}.partial")),
            trash.join(id.as_str()),
            trash.join(format!("{id}.partial")),
        ]
        .iter()
        .any(|path| path.exists())
    }
}

/// So long a copy that was cut off is kept for whoever goes on with it.
const COPIES_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether a later run can go on with what lies in a folder.
pub(super) fn goes_on(partial: &Path) -> bool {
    let note = partial.join(COPYING);
    let age = || fs::metadata(&note).and_then(|found| found.modified()).ok()?.elapsed().ok();
    // A clock that was set back makes it no older.
    partial.join(PENDING).exists() || (note.exists() && age().is_none_or(|age| age < COPIES_WAIT))
}

pub(super) fn folders(path: &Path) -> Result<Vec<(String, PathBuf)>, LibraryError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(LibraryError::file(path, "can't be read")(e)),
    };
    for entry in entries {
        let entry = entry.map_err(LibraryError::file(path, "can't be read"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What can't be looked at, a link into a disk that isn't there among it, is not taken for nothing.
        let is_one = match fs::metadata(entry.path()) {
            Ok(about) => about.is_dir(),
            // Unless it has gone since the folder was read.
            Err(_) => entry.path().symlink_metadata().is_ok(),
        };
        if !name.starts_with('.') && is_one {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn read_entry(host: &HostName, name: &str, folder: PathBuf) -> Result<Entry, String> {
    let id: BackupId = name.parse().map_err(|_| "its name is no backup id".to_owned())?;
    if let Ok(flaw) = fs::read_to_string(folder.join(FLAW)) {
        return Err(flaw);
    }
    let path = folder.join(MANIFEST);
    let size = fs::metadata(&path).map_err(|e| format!("it has no readable manifest: {e}"))?.len();
    if size > LARGEST_MANIFEST {
        return Err("its manifest is far too large".into());
    }
    let text = fs::read_to_string(&path).map_err(|e| format!("its manifest can't be read: {e}"))?;
    let manifest = parse_manifest(&text).map_err(|e| e.to_string())?;
    if manifest.description.host != *host || manifest.description.id != id {
        return Err(format!("its manifest is of {}@{}", manifest.description.host, manifest.description.id));
    }
    let archive = folder.join(&manifest.archive.file);
    match fs::metadata(&archive) {
        Ok(found) if found.len() != manifest.archive.bytes => {
            return Err(format!("its archive has {} bytes and the manifest says {}", found.len(), manifest.archive.bytes));
        }
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && is_in_mirror(&folder) => {}
        Err(e) => return Err(format!("its archive {} can't be read: {e}", manifest.archive.file)),
    }
    let (record, unreadable_record) = match read_record(&folder) {
        Ok(record) => (record, None),
        Err(why) => (Record::default(), Some(why)),
    };
    Ok(Entry { folder, manifest, record, unreadable_record })
}

/// Of a backup's folder, listed or in the trash.
fn is_in_mirror(folder: &std::path::Path) -> bool {
    folder.ancestors().skip(2).take(2).any(|above| above.join(HOME).exists())
}
