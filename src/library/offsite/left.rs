//! Folders at a remote that hold no manifest: copies on their way, or what is left of those that nobody went on with.

use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::super::{LibraryError, MANIFEST};
use super::Offsite;
use crate::model::id::{BackupId, HostName};

/// What lies at a remote and is listed nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Whose backup it would have become.
    pub host: HostName,
    /// Under which id.
    pub id: BackupId,
    /// What its files take.
    pub bytes: u64,
    /// When the last of them was written; none where the remote doesn't tell.
    pub written: Option<DateTime<Utc>>,
}

impl Offsite {
    /// What lies there without a manifest; `known` tells which folders need no look.
    ///
    /// # Errors
    /// When the remote can't be read.
    pub async fn leftovers(&self, known: impl Fn(&HostName, &BackupId) -> bool) -> Result<Vec<Leftover>, LibraryError> {
        let mut found = Vec::new();
        for host in self.folders("/").await? {
            let Ok(host) = host.parse::<HostName>() else { continue };
            for id in self.folders(&format!("{host}/")).await? {
                let Ok(id) = id.parse::<BackupId>() else { continue };
                if !known(&host, &id) {
                    found.extend(self.left_in(&host, id).await?);
                }
            }
        }
        Ok(found)
    }

    async fn left_in(&self, host: &HostName, id: BackupId) -> Result<Option<Leftover>, LibraryError> {
        let unreadable = |e: &opendal::Error| self.wrong("can't be listed", e);
        let files = self.operator.list(&format!("{host}/{id}/")).await.map_err(|e| unreadable(&e))?;
        let files: Vec<_> = files.iter().filter(|file| !file.path().ends_with('/')).collect();
        // One that has become whole meanwhile, or of which nothing is left.
        if files.is_empty() || files.iter().any(|file| file.name() == MANIFEST) {
            return Ok(None);
        }
        let mut left = Leftover { host: host.clone(), id, bytes: 0, written: None };
        let mut untold = false;
        for file in files {
            // Not every remote says it all in its list.
            let Ok(about) = self.operator.stat(file.path()).await else { continue };
            left.bytes += about.content_length();
            let written = about.last_modified().map(|time| DateTime::<Utc>::from(SystemTime::from(time)));
            untold |= written.is_none();
            left.written = left.written.max(written);
        }
        left.written = left.written.filter(|_| !untold);
        Ok(Some(left))
    }
}
