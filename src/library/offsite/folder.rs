//! A remote that is a folder of this machine: what lies there is its owner's only, whole or not there, and on the disk before what it is a
//! copy of may go. OpenDAL writes such files in place, with the modes that the shell happens to give.

use std::path::Path;

use super::super::digests::{replace_private, sync_folder};
use super::{LibraryError, Offsite};
use crate::platform;

impl Offsite {
    /// Writes a small file, whole or not at all where this machine can say so.
    pub(super) async fn write_small(&self, path: &str, bytes: Vec<u8>) -> Result<(), LibraryError> {
        let Some(root) = &self.folder else {
            return self.operator.write(path, bytes).await.map(drop).map_err(|e| self.wrong("can't be written", &e));
        };
        tokio::task::block_in_place(|| {
            self.make_folder_of(path)?;
            replace_private(&root.join(path), &bytes).and_then(|()| sync_above(root, path)).map_err(|e| self.refused(&e))
        })
    }

    /// Makes the folders of a file that is to be written.
    pub(super) fn make_folder_of(&self, path: &str) -> Result<(), LibraryError> {
        let Some(parent) = self.folder.as_ref().and_then(|root| root.join(path).parent().map(Path::to_path_buf)) else { return Ok(()) };
        platform::make_folders(&parent).map_err(LibraryError::file(&parent, "can't be made")).map_err(|e| self.refused(&e))
    }

    /// What was written is the owner's only, and its name is on the disk.
    pub(super) fn keep(&self, path: &str) -> Result<(), LibraryError> {
        let Some(root) = &self.folder else { return Ok(()) };
        let file = root.join(path);
        let kept = platform::keep_private(&file).map_err(LibraryError::file(&file, "can't be kept from others"));
        kept.and_then(|()| sync_above(root, path)).map_err(|e| self.refused(&e))
    }

    fn refused(&self, e: &LibraryError) -> LibraryError {
        LibraryError::Offsite { remote: self.name.clone(), reason: e.to_string() }
    }
}

/// A file's name is on the disk when each folder above it is.
fn sync_above(root: &Path, path: &str) -> Result<(), LibraryError> {
    root.join(path).ancestors().skip(1).take_while(|folder| folder.starts_with(root)).try_for_each(sync_folder)
}
