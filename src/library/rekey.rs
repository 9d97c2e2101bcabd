//! Encrypting a listed archive anew, to other recipients: the new one takes the old one's place in one step.

use std::fs;
use std::io::Read;

use super::catalog::{folders, goes_on};
use super::digests::{sync_folder, write_private};
use super::hashed::HashedFile;
use super::records::{FILE as RECORD, lock_records, read_record, write_record};
use super::verify::Depth;
use super::writer::write_manifest;
use super::{Entry, HostLock, Keys, Library, LibraryError, Recipients, verify};
use crate::model::id::HostName;
use crate::model::manifest::{Encryption, FORMAT, archive_name, encrypted_name};
use crate::platform;

/// Encrypts a backup to these recipients, whether it was encrypted before or not.
///
/// # Errors
/// When it is damaged, none of the keys opens it, or there is no room for a second one; it is as it was then.
pub fn rekey(library: &Library, _lock: &HostLock, entry: &Entry, keys: &Keys, to: &Recipients) -> Result<(), LibraryError> {
    let verified = verify(entry, keys, Depth::Hashed, &mut |_| {})?;
    if entry.is_encrypted() && !verified.decrypted {
        return Err(LibraryError::Missing(format!("{} can't be encrypted anew without a key that opens it", entry.name())));
    }
    let about = &entry.manifest.description;
    let folder = library.begin_folder(&about.host, &about.id, entry.manifest.archive.bytes)?;
    let name = archive_name(&about.stock_id);
    let mut file = HashedFile::begin(&folder.partial, &name, Some(to))?;
    let mut plain = entry.open(keys)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = plain.read(&mut buffer).map_err(LibraryError::file(&entry.archive(), "can't be read"))?;
        if read == 0 {
            break;
        }
        file.write(&buffer[..read])?;
    }
    let plain_bytes = file.bytes();
    let (sha256, sealed) = file.close()?;
    let sealed = sealed.filter(|_| sha256 == verified.sha256).ok_or_else(|| LibraryError::Damaged {
        name: entry.name(),
        reason: "it was read differently the second time: the disk is not to be trusted".into(),
    })?;
    let mut manifest = entry.manifest.clone();
    manifest.format = FORMAT;
    manifest.archive.file = encrypted_name(&name);
    (manifest.archive.bytes, manifest.archive.sha256) = (sealed.bytes, sealed.sha256);
    manifest.archive.encryption = Some(Encryption { recipients: to.names.clone(), plain_bytes });
    write_manifest(&folder.partial, &manifest, Some(&sha256))?;
    // Nobody marks the old one from here on until the new one stands in its place.
    let marks = lock_records(entry.folder.parent().unwrap_or(&entry.folder))?;
    // As it is now, not as it was when the list was made; one that nobody can read is kept as it is, for it counts as protected.
    match read_record(&entry.folder) {
        Ok(mut record) => {
            // Copies elsewhere are of the old one.
            record.copies.clear();
            write_record(&folder.partial, &record)?;
        }
        Err(_) => {
            let bytes = fs::read(entry.folder.join(RECORD)).map_err(LibraryError::file(&entry.folder, "can't be read"))?;
            write_private(&folder.partial.join(RECORD), &bytes)?;
        }
    }
    sync_folder(&folder.partial)?;
    // Both names stand all the time; afterwards the old one is the partial one, which goes with `folder`.
    platform::exchange(&folder.partial, &entry.folder)
        .map_err(LibraryError::file(&entry.folder, "can't be exchanged for the one that is encrypted anew"))?;
    drop(marks);
    entry.folder.parent().map_or(Ok(()), sync_folder)?;
    fs::remove_dir_all(&folder.partial).map_err(LibraryError::file(&folder.partial, "is the old one, and can't be removed"))
}

impl Library {
    /// Where two folders could not change names in one step, one that was killed between the steps has left the listed one aside.
    ///
    /// # Errors
    /// When it can't be put back.
    pub(super) fn put_back_aside(&self, host: &HostName) -> Result<(), LibraryError> {
        for (name, folder) in folders(&self.root.join(host.as_str()))? {
            let Some(id) = name.strip_suffix(&format!(".{}", platform::ASIDE)) else { continue };
            let listed = folder.with_file_name(id);
            if listed.exists() {
                // The other one has come into its place.
                fs::remove_dir_all(&folder).map_err(LibraryError::file(&folder, "is the old one, and can't be removed"))?;
            } else {
                fs::rename(&folder, &listed).map_err(LibraryError::file(&folder, "can't be put back"))?;
            }
        }
        Ok(())
    }

    /// Removes what of a host nothing goes on with: an encryption that was cut off can leave an archive in the clear so.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn sweep_partial(&self, _lock: &HostLock, host: &HostName) -> Result<(), LibraryError> {
        self.put_back_aside(host)?;
        for (name, folder) in folders(&self.root.join(host.as_str()))? {
            if name.ends_with(".partial") && !goes_on(&folder) {
                fs::remove_dir_all(&folder).map_err(LibraryError::file(&folder, "is left from an earlier run and can't be removed"))?;
            }
        }
        Ok(())
    }
}
