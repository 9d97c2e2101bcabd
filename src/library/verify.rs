//! Holding an archive against its manifest.

use std::fs::File;
use std::path::Path;

use super::blocks::{Blocks, Sum};
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

/// An archive that is as its manifest says.
#[derive(Debug, Clone)]
pub struct Verified {
    /// How far that was looked at.
    pub depth: Depth,
    /// The digests of its blocks.
    pub sums: Vec<Sum>,
}

/// Holds an archive against its manifest: size and SHA-256, and where lrzip is here, every member and the description inside.
///
/// # Errors
/// When anything differs, or the archive can't be read.
pub fn verify(entry: &Entry) -> Result<Verified, LibraryError> {
    let damaged = |reason: String| LibraryError::Damaged { name: entry.name(), reason };
    let path = entry.archive();
    let mut file = File::open(&path).map_err(LibraryError::file(&path, "can't be read"))?;
    let blocks = Blocks::of(&mut file).map_err(LibraryError::file(&path, "can't be read"))?;
    let (bytes, sums) = (blocks.bytes(), blocks.sums());
    let sha256 = blocks.whole().map(|sum| hex(&sum)).unwrap_or_default();
    let expected = &entry.manifest.archive;
    if bytes != expected.bytes {
        return Err(damaged(format!("its archive has {bytes} bytes and the manifest says {}", expected.bytes)));
    }
    if sha256 != expected.sha256 {
        return Err(damaged("its archive has another SHA-256 than the manifest says".into()));
    }
    if !lrzip_is_here() {
        return Ok(Verified { depth: Depth::Hashed, sums });
    }
    let walked = walk(&path).map_err(damaged)?;
    check_members(&walked.members, &expected.members).map_err(damaged)?;
    if entry.manifest.description.origin == Origin::Stock {
        return Ok(Verified { depth: Depth::Decompressed, sums });
    }
    match walked.description {
        Some(description) if description == entry.manifest.description => Ok(Verified { depth: Depth::Decompressed, sums }),
        Some(other) => Err(damaged(format!("the archive is of {}@{}: its manifest doesn't belong to it", other.host, other.id))),
        None => Err(damaged("the archive holds no description of itself".into())),
    }
}

/// A file's size and SHA-256 in hex.
pub(super) fn sha256_of(path: &Path) -> Result<(u64, String), LibraryError> {
    let mut file = File::open(path).map_err(LibraryError::file(path, "can't be read"))?;
    let blocks = Blocks::of(&mut file).map_err(LibraryError::file(path, "can't be read"))?;
    Ok((blocks.bytes(), blocks.whole().map(|sum| hex(&sum)).unwrap_or_default()))
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
