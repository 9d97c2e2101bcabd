//! A remote that is a folder of this machine: what is written there is its owner's only, whole or not there, and on the disk before what it is
//! a copy of may go. OpenDAL writes such files in place, with the modes that the shell happens to give.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::{LibraryError, Offsite};
use crate::platform;

/// What is not whole yet begins so; two that write one file have a name each.
const UNDER_WAY: &str = ".tanker-new-";

impl Offsite {
    /// Writes a small file, whole or not at all where this machine can say so.
    pub(super) async fn write_small(&self, path: &str, bytes: Vec<u8>) -> Result<(), LibraryError> {
        let Some(root) = &self.folder else {
            return self.operator.write(path, bytes).await.map(drop).map_err(|e| self.wrong("can't be written", &e));
        };
        tokio::task::block_in_place(|| replace(root, path, &bytes)).map_err(|e| self.refused(path, &e))
    }

    /// Makes a large file's place: others must not read it while it arrives.
    pub(super) fn begin_file(&self, path: &str) -> Result<(), LibraryError> {
        let Some(root) = &self.folder else { return Ok(()) };
        let begun = make_folder_of(&root.join(path))
            .and_then(|()| platform::private().append(true).create(true).open(root.join(path)))
            .and_then(|_| keep_private(&root.join(path)));
        begun.map_err(|e| self.refused(path, &e))
    }

    /// Its name is on the disk.
    pub(super) fn keep(&self, path: &str) -> Result<(), LibraryError> {
        let Some(root) = &self.folder else { return Ok(()) };
        sync_above(root, path).map_err(|e| self.refused(path, &e))
    }

    /// What was being written when its tanker died.
    pub(super) fn sweep(&self, folder: &str) {
        let Some(root) = &self.folder else { return };
        for file in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with(UNDER_WAY) {
                // What stays only keeps an empty folder there.
                let _ = fs::remove_file(file.path());
            }
        }
    }

    fn refused(&self, path: &str, e: &io::Error) -> LibraryError {
        LibraryError::Offsite { remote: self.name.clone(), reason: format!("{path} can't be written: {e}") }
    }
}

fn make_folder_of(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), platform::make_folders)
}

fn replace(root: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let file = root.join(path);
    make_folder_of(&file)?;
    let mut new = tempfile::Builder::new().prefix(UNDER_WAY).tempfile_in(file.parent().unwrap_or(root))?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(&file).map_err(|e| e.error)?;
    sync_above(root, path)
}

/// Not every file system knows whom a file belongs to.
fn keep_private(file: &Path) -> io::Result<()> {
    match platform::keep_private(file) {
        Err(e) if [ErrorKind::PermissionDenied, ErrorKind::Unsupported, ErrorKind::InvalidInput].contains(&e.kind()) => Ok(()),
        kept => kept,
    }
}

/// A file's name is on the disk when each folder above it is, where the file system can say so.
fn sync_above(root: &Path, path: &str) -> io::Result<()> {
    let file = root.join(path);
    let above = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    for folder in above {
        match platform::sync_folder(folder) {
            Err(e) if [ErrorKind::Unsupported, ErrorKind::InvalidInput].contains(&e.kind()) => {}
            synced => synced?,
        }
    }
    Ok(())
}
