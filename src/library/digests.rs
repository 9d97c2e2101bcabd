//! `SHA256SUMS` beside an archive: `sha256sum -c` holds it and its manifest against it without tanker. For an encrypted archive also
//! `seal`: who can't decrypt the archive can't make one, so a manifest that was changed or belongs to another archive is found out.

use std::fs;
use std::io::Write;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::verify::hex;
use super::{Entry, LibraryError, MANIFEST};
use crate::platform;

/// The digests' file.
pub(super) const SUMS: &str = "SHA256SUMS";
/// The file of an encrypted archive's seal.
pub(super) const SEAL: &str = "seal";
/// A digest file larger than this is none.
const LARGEST: u64 = 16 << 20;

/// Writes a new file of the owner's only, and brings it to the disk.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), LibraryError> {
    let file = platform::private().write(true).create_new(true).open(path);
    let mut file = file.map_err(LibraryError::file(path, "can't be made"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(LibraryError::file(path, "can't be written"))
}

/// Replaces a file of the owner's only by another one, whole or not at all.
pub(super) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), LibraryError> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(LibraryError::file(&new, "can't be removed")(e)),
        _ => {}
    }
    write_private(&new, bytes)?;
    fs::rename(&new, path).map_err(LibraryError::file(path, "can't be replaced"))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A rename is on the disk only when its folder is.
pub(super) fn sync_folder(path: &Path) -> Result<(), LibraryError> {
    platform::sync_folder(path).map_err(LibraryError::file(path, "can't be brought to the disk"))
}

/// The text of `SHA256SUMS`.
pub(super) fn sums(archive: (&str, &str), manifest: &[u8]) -> String {
    format!("{}  {}\n{}  {MANIFEST}\n", archive.1, archive.0, hex(&Sha256::digest(manifest)))
}

/// The text of `seal`: keyed by what only a reader of the archive knows.
pub(super) fn seal(plain_sha256: &str, manifest: &[u8]) -> String {
    let mut key = [0; 64];
    key[..32].copy_from_slice(&Sha256::new().chain_update(b"tanker seal 1\n").chain_update(plain_sha256.as_bytes()).finalize());
    let mac = Hmac::<Sha256>::new(&key.into()).chain_update(manifest);
    format!("{}\n", hex(&mac.finalize().into_bytes()))
}

/// What is wrong with an entry's manifest and digest file; the archive itself is not read.
pub(super) fn check_sums(entry: &Entry) -> Result<(), LibraryError> {
    let archive = (entry.manifest.archive.file.as_str(), entry.manifest.archive.sha256.as_str());
    let manifest = read_small(entry, MANIFEST)?;
    if read_small(entry, SUMS)? == sums(archive, &manifest).as_bytes() {
        return Ok(());
    }
    Err(damaged(entry, format!("its manifest or its {SUMS} was changed: they don't fit each other")))
}

/// An encrypted backup's seal and manifest as they stood when it was opened.
pub(super) struct Seal {
    text: Vec<u8>,
    manifest: Vec<u8>,
}

impl Seal {
    pub(super) fn of(entry: &Entry) -> Result<Self, LibraryError> {
        Ok(Self { text: read_small(entry, SEAL)?, manifest: read_small(entry, MANIFEST)? })
    }

    /// Whether it is that of this manifest and this archive, decrypted.
    pub(super) fn hold(&self, plain_sha256: &str) -> Result<(), String> {
        if self.text == seal(plain_sha256, &self.manifest).as_bytes() {
            return Ok(());
        }
        Err("its manifest is not the one that was written with this archive".into())
    }
}

/// Whether a seal is that of this manifest and this archive.
pub(super) fn check_seal(entry: &Entry, plain_sha256: &str) -> Result<(), LibraryError> {
    Seal::of(entry)?.hold(plain_sha256).map_err(|reason| damaged(entry, reason))
}

/// Whether this can be a seal: without a key nobody knows more of it.
pub(super) fn is_seal(text: &[u8]) -> bool {
    matches!(text, [hex @ .., b'\n'] if hex.len() == 64 && hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Whether an encrypted backup's seal can be one, for who has no key.
pub(super) fn check_seal_shape(entry: &Entry) -> Result<(), LibraryError> {
    if is_seal(&read_small(entry, SEAL)?) { Ok(()) } else { Err(damaged(entry, format!("its {SEAL} was changed: it is none"))) }
}

fn damaged(entry: &Entry, reason: String) -> LibraryError {
    LibraryError::Damaged { name: entry.name(), reason }
}

/// A file that isn't there, or is none, is damage; one that can't be read for another reason is not.
fn read_small(entry: &Entry, name: &str) -> Result<Vec<u8>, LibraryError> {
    let path = entry.folder.join(name);
    match fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(damaged(entry, format!("its {name} is not there"))),
        Ok(found) if found.len() > LARGEST => return Err(damaged(entry, format!("its {name} is far too large"))),
        _ => {}
    }
    fs::read(&path).map_err(LibraryError::file(&path, "can't be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_told_by_its_shape_and_what_rotted_in_it_is_none() {
        let good = seal("00", b"a manifest").into_bytes();
        assert!(is_seal(&good));
        for at in [0, 63, 64] {
            let mut rotten = good.clone();
            rotten[at] ^= 0x40;
            assert!(!is_seal(&rotten), "{at}");
        }
        assert!(!is_seal(&good[1..]) && !is_seal(&good[..64]) && !is_seal(b""));
    }
}
