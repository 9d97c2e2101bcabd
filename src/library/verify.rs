//! Holding an archive against its manifest.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Entry, LibraryError, lrzip_is_here, walk};
use crate::model::manifest::{Member, Origin};

/// How far a verification went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Size and SHA-256.
    Hashed,
    /// Also decompressed and walked, member by member.
    Decompressed,
}

/// Holds an archive against its manifest: size and SHA-256, and where lrzip is here, every member and the description inside.
///
/// # Errors
/// When anything differs, or the archive can't be read.
pub fn verify(entry: &Entry) -> Result<Depth, LibraryError> {
    let damaged = |reason: String| LibraryError::Damaged { name: entry.name(), reason };
    let path = entry.archive();
    let (bytes, sha256) = sha256_of(&path)?;
    let expected = &entry.manifest.archive;
    if bytes != expected.bytes {
        return Err(damaged(format!("its archive has {bytes} bytes and the manifest says {}", expected.bytes)));
    }
    if sha256 != expected.sha256 {
        return Err(damaged("its archive has another SHA-256 than the manifest says".into()));
    }
    if !lrzip_is_here() {
        return Ok(Depth::Hashed);
    }
    let walked = walk(&path).map_err(damaged)?;
    check_members(&walked.members, &expected.members).map_err(damaged)?;
    if entry.manifest.description.origin == Origin::Stock {
        return Ok(Depth::Decompressed);
    }
    match walked.description {
        Some(description) if description == entry.manifest.description => Ok(Depth::Decompressed),
        Some(other) => Err(damaged(format!("the archive is of {}@{}: its manifest doesn't belong to it", other.host, other.id))),
        None => Err(damaged("the archive holds no description of itself".into())),
    }
}

/// A file's size and SHA-256 in hex.
pub(super) fn sha256_of(path: &Path) -> Result<(u64, String), LibraryError> {
    let mut file = File::open(path).map_err(LibraryError::file(path, "can't be read"))?;
    let mut hash = Sha256::new();
    let mut bytes = 0_u64;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(LibraryError::file(path, "can't be read"))?;
        if read == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        bytes += read as u64;
        hash.update(&buffer[..read]);
    }
}

pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn check_members(found: &[Member], expected: &[Member]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    match expected.iter().find(|member| !found.contains(member)) {
        Some(member) => Err(format!("its member {} is not as the manifest says", member.name)),
        None => Err("it holds members that the manifest doesn't name".into()),
    }
}
