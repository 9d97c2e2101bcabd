//! One writer a host: an advisory lock on `<library>/<host>/.lock`. The kernel lets go of it when its owner dies, so a stale
//! one can't be left behind; the file's text only says who holds it.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};

use super::{Library, LibraryError};
use crate::model::id::HostName;
use crate::model::text::printable;
use crate::platform;

/// Held as long as it lives.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

impl Library {
    /// Takes the lock of a host's archives; `owner` says who we are.
    ///
    /// # Errors
    /// When another tanker holds it, or the library can't be written.
    pub fn lock(&self, host: &HostName, owner: &str) -> Result<HostLock, LibraryError> {
        self.lock_file(host, ".lock", owner)
    }

    /// Held by who brings a host's archives home or learns what is there, for as long as the network takes: it hinders no backup.
    pub(super) fn lock_home(&self, host: &HostName, owner: &str) -> Result<HostLock, LibraryError> {
        self.lock_file(host, ".home.lock", owner)
    }

    fn lock_file(&self, host: &HostName, name: &str, owner: &str) -> Result<HostLock, LibraryError> {
        let folder = self.root.join(host.as_str());
        platform::make_folders(&folder).map_err(LibraryError::file(&folder, "can't be made"))?;
        let path = folder.join(name);
        let mut file = platform::private()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(LibraryError::file(&path, "can't be opened"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Who it is is a courtesy; that it is held is what counts.
                let _ = file.read_to_string(&mut owner);
                return Err(LibraryError::Locked { host: host.clone(), owner: printable(&owner) });
            }
            Err(TryLockError::Error(e)) => return Err(LibraryError::file(&path, "can't be locked")(e)),
        }
        let written = file.set_len(0).and_then(|()| file.write_all(owner.as_bytes())).and_then(|()| file.flush());
        written.map_err(LibraryError::file(&path, "can't be written"))?;
        Ok(HostLock { _file: file })
    }
}
