//! The key of one encrypted archive that is still on its way, so that a later run can go on with it. It opens that file and no other one; who keeps
//! it meanwhile is the master that the archive comes from, which has all of it in the clear.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use age::secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};
use age::{DecryptError, Decryptor, EncryptError, Identity, Recipient};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};

use super::hashed::HashedFile;
use super::verify::hex;
use super::writer::remove;
use super::{LibraryError, Recipients};
use crate::model::manifest::encrypted_name;
use crate::platform;

/// What is behind the name of an encrypted archive that an earlier run began, while it is written again.
const ASIDE: &str = ".before";

/// The key that everything in one encrypted file hangs on. No `Debug` (I6).
pub struct ResumeKey(SecretBox<[u8; FILE_KEY_BYTES]>);

impl ResumeKey {
    fn of(key: &FileKey) -> Self {
        Self(SecretBox::new(Box::new(*key.expose_secret())))
    }

    /// As text of one line, to be kept where nobody else reads it.
    #[must_use]
    pub fn to_text(&self) -> String {
        hex(self.0.expose_secret())
    }

    /// Reads it back. None where it isn't one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() != 2 * FILE_KEY_BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut key = SecretBox::new(Box::new([0; FILE_KEY_BYTES]));
        for (n, byte) in key.expose_secret_mut().iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
        }
        Some(Self(key))
    }

    fn file_key(&self) -> FileKey {
        FileKey::new(Box::new(*self.0.expose_secret()))
    }
}

impl Identity for ResumeKey {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        // Whether it is this file's the header's own checksum tells.
        Some(Ok(self.file_key()))
    }
}

/// Hands the key of a file on to a recipient, and keeps it.
pub(super) struct Overheard<'a> {
    recipient: &'a dyn Recipient,
    key: Mutex<Option<ResumeKey>>,
}

impl<'a> Overheard<'a> {
    pub(super) fn of(recipient: &'a dyn Recipient) -> Self {
        Self { recipient, key: Mutex::default() }
    }

    pub(super) fn key(self) -> Option<ResumeKey> {
        self.key.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recipient for Overheard<'_> {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(ResumeKey::of(key));
        self.recipient.wrap_file_key(key)
    }
}

/// What has come of an encrypted file, decrypted, as far as it is whole. None where the key is not its own.
pub(super) fn what_has_come(path: &Path, key: &ResumeKey) -> Option<impl Read + use<>> {
    let file = BufReader::with_capacity(256 << 10, File::open(path).ok()?);
    Decryptor::new_buffered(file).ok()?.decrypt(iter::once(key as &dyn Identity)).ok()
}

/// What an earlier run left of an encrypted archive, while a later one writes it again.
pub(super) fn before(archive_name: &str) -> String {
    encrypted_name(archive_name) + ASIDE
}

/// What was aside already is what an earlier attempt at this went on from: it may have got less far than that, or all the way.
pub(super) fn go_on(partial: &Path, name: &str, to: &Recipients, key: Option<&ResumeKey>) -> Result<HashedFile, LibraryError> {
    let (came, aside) = (partial.join(encrypted_name(name)), partial.join(before(name)));
    let opens = |path: &Path| key.is_some_and(|key| what_has_come(path, key).is_some());
    if opens(&came) || !opens(&aside) {
        remove(&aside)?;
        if came.exists() {
            fs::rename(&came, &aside).map_err(LibraryError::file(&came, "can't be put aside"))?;
        }
    } else {
        remove(&came)?;
    }
    // A disk without room for both has room for what is fetched from its beginning.
    if let Some(key) = key.filter(|_| fits_again(&aside))
        && let Some(file) = HashedFile::go_on(partial, name, to, &aside, key)?
    {
        return Ok(file);
    }
    remove(&aside)?;
    HashedFile::begin(partial, name, Some(to))
}

/// The same of a file.
pub(super) fn aside(archive: &Path) -> PathBuf {
    let mut aside = archive.as_os_str().to_owned();
    aside.push(ASIDE);
    aside.into()
}

/// Whether there is room to write this file once more beside it.
pub(super) fn fits_again(file: &Path) -> bool {
    let size = fs::metadata(file).map_or(0, |found| found.len());
    platform::free_space(file.parent().unwrap_or(file)).is_ok_and(|free| free.is_none_or(|free| free > size))
}
