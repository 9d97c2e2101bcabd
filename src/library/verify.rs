//! Holding an archive against its manifest.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::archive::walk_deep;
use super::blocks::{Blocks, Sum};
use super::digests::{check_seal, check_seal_shape, check_sums};
use super::{Entry, Keys, LibraryError, Source, lrzip_is_here, walk};
use crate::model::manifest::{Member, Origin};
use crate::model::record::SEALED;
use crate::platform;

/// How far a verification goes, or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Size and SHA-256 of the archive, and the digest of the manifest.
    Hashed,
    /// Also decompressed, the members held against the manifest, the description inside against the one beside it.
    Decompressed,
    /// Also every file inside the members.
    Deep,
}

impl Depth {
    /// Its name in records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::Decompressed => "decompressed",
            Self::Deep => "deep",
        }
    }
}

impl Verified {
    /// How far it looked, for records.
    #[must_use]
    pub fn word(&self, entry: &Entry) -> &'static str {
        if entry.is_encrypted() && !self.decrypted { SEALED } else { self.depth.word() }
    }
}

/// An archive that is as its manifest says.
#[derive(Debug, Clone)]
pub struct Verified {
    /// How far that was looked at.
    pub depth: Depth,
    /// Whether it was decrypted: without a key only its encrypted form can be held against the manifest.
    pub decrypted: bool,
    /// The digests of its blocks, decrypted.
    pub sums: Vec<Sum>,
    /// Its size, decrypted.
    pub bytes: u64,
    /// Its SHA-256 in hex, decrypted.
    pub sha256: String,
}

/// Holds an archive against its manifest, as deep as was asked for and as lrzip and the keys here allow. `seen` is told how many bytes
/// were read.
///
/// # Errors
/// When anything differs, or the archive can't be read.
pub fn verify(entry: &Entry, keys: &Keys, depth: Depth, seen: &mut dyn FnMut(u64)) -> Result<Verified, LibraryError> {
    let damaged = |reason: String| LibraryError::Damaged { name: entry.name(), reason };
    let expected = &entry.manifest.archive;
    entry.keeps_its_encryption()?;
    if entry.manifest.format >= 2 {
        check_sums(entry)?;
    }
    let path = entry.archive();
    let mut file = File::open(&path).map_err(LibraryError::file(&path, "can't be read"))?;
    // With a key the archive is read once more, decrypted: what is on the disk is held first.
    let mut blocks = Blocks::default();
    let (bytes, sha256) = match entry.is_encrypted() {
        true => hash(&mut file, seen),
        false => read_all(&mut file, |bytes| {
            blocks.update(bytes);
            seen(bytes.len() as u64);
        })
        .map(|()| (blocks.bytes(), blocks.whole().map(|sum| hex(&sum)).unwrap_or_default())),
    }
    // A disk that was pulled out says the same of every file.
    .map_err(|e| match platform::is_of_the_medium(&e) && std::fs::read(entry.folder.join(super::MANIFEST)).is_ok() {
        true => damaged(format!("its archive can't be read: {e}")),
        false => LibraryError::file(&path, "can't be read")(e),
    })?;
    if bytes != expected.bytes {
        return Err(damaged(format!("its archive has {bytes} bytes and the manifest says {}", expected.bytes)));
    }
    if sha256 != expected.sha256 {
        return Err(damaged("its archive has another SHA-256 than the manifest says".into()));
    }
    let mut plain = None;
    if entry.is_encrypted() && !keys.is_empty() {
        plain = match entry.open(keys) {
            // Keys of others are no reason not to hold what can be held without.
            Err(LibraryError::Missing(_)) => None,
            opened => Some(opened?),
        };
    }
    let decrypted = plain.is_some();
    if entry.is_encrypted() && !decrypted {
        check_seal_shape(entry)?;
        return Ok(Verified { depth: Depth::Hashed, decrypted, sums: vec![], bytes, sha256 });
    }
    if let Some(mut plain) = plain {
        read_all(&mut plain, |bytes| blocks.update(bytes)).map_err(|e| damaged(format!("it can't be decrypted: {e}")))?;
    }
    let (bytes, sha256) = (blocks.bytes(), blocks.whole().map(|sum| hex(&sum)).unwrap_or_default());
    if let (true, Some(encryption)) = (decrypted, &expected.encryption) {
        check_seal(entry, &sha256)?;
        if bytes != encryption.plain_bytes {
            return Err(damaged(format!("it has {bytes} bytes decrypted and the manifest says {}", encryption.plain_bytes)));
        }
    }
    let done = |depth| Ok(Verified { depth, decrypted, sums: blocks.sums(), bytes, sha256 });
    if depth == Depth::Hashed || !lrzip_is_here() {
        return done(Depth::Hashed);
    }
    let source = Source::of(entry, keys)?;
    let walked = if depth == Depth::Deep { walk_deep(source) } else { walk(source) }.map_err(damaged)?;
    check_members(&walked.members, &expected.members).map_err(damaged)?;
    if entry.manifest.description.origin == Origin::Stock {
        return done(depth);
    }
    match walked.description {
        Some(description) if description == entry.manifest.description => done(depth),
        Some(other) => Err(damaged(format!("the archive is of {}@{}: its manifest doesn't belong to it", other.host, other.id))),
        None => Err(damaged("the archive holds no description of itself".into())),
    }
}

fn read_all(from: &mut dyn Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => take(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn hash(file: &mut File, seen: &mut dyn FnMut(u64)) -> io::Result<(u64, String)> {
    let (mut sum, mut count) = (Sha256::new(), 0);
    read_all(file, |bytes| {
        sum.update(bytes);
        count += bytes.len() as u64;
        seen(bytes.len() as u64);
    })?;
    Ok((count, hex(&sum.finalize())))
}

/// A file's size and SHA-256 in hex.
pub(super) fn sha256_of(path: &Path) -> Result<(u64, String), LibraryError> {
    let mut file = File::open(path).map_err(LibraryError::file(path, "can't be read"))?;
    hash(&mut file, &mut |_| {}).map_err(LibraryError::file(path, "can't be read"))
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
