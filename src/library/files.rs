//! Every file of a backup: those of the host's directories and of the volumes, as both passes left them.

use std::collections::BTreeMap;
use std::io::{self, Read};

use sha2::{Digest, Sha256};
use tar::EntryType;

use super::archive::{LARGEST_LIST, Source, Walked, each_member, read_members};
use super::entries::{Met, each_entry};
use crate::model::manifest::Description;
use crate::model::text::{printable, printable_path};

/// What a file in a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file or a hard link to one.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a pipe.
    Other,
}

/// A file in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// What it is.
    pub kind: FileKind,
    /// Permissions.
    pub mode: u32,
    /// User and group, by their numbers.
    pub owner: (u64, u64),
    /// Size.
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified: u64,
    /// Where a symbolic link leads; printable.
    pub link: Option<String>,
    /// Of a file's content.
    pub sha256: Option<[u8; 32]>,
}

/// Where the trees of an archive stand: host directories at `/`, volumes at `SERVICE:PATH`.
fn tree_prefix(member: &str, description: &Description) -> Option<String> {
    if member == "system-dirs.tar" {
        return Some(String::new());
    }
    let volume = description.volumes.iter().find(|volume| volume.member == member)?;
    Some(format!("{}:{}", volume.service, volume.path.trim_end_matches('/')))
}

/// Every file of a backup by its path: host files absolute, files of volumes as `SERVICE:PATH`. Paths are printable.
///
/// # Errors
/// One sentence, when the archive can't be read.
pub fn list_files(source: Source, description: &Description) -> Result<BTreeMap<String, FileEntry>, String> {
    let mut files = BTreeMap::new();
    each_member(source, |name, entry| list_member(name, entry, description, &mut files))?;
    Ok(files)
}

/// Walks a tar as it comes, every file of its trees included: what [`walk`] and [`list_files`] do behind lrzip. For fuzzers.
///
/// # Errors
/// One sentence, when a tar is not whole.
pub fn walk_tar(tar: &mut dyn Read, description: &Description) -> Result<(Walked, BTreeMap<String, FileEntry>), String> {
    let (mut walked, mut files) = (Walked { members: Vec::new(), description: None }, BTreeMap::new());
    read_members(tar, &mut |name, entry| {
        walked.take(name, entry)?;
        list_member(name, entry, description, &mut files)
    })?;
    Ok((walked, files))
}

fn list_member(name: &str, entry: &mut dyn Read, description: &Description, files: &mut BTreeMap<String, FileEntry>) -> Result<(), String> {
    if let Some(tree) = name.strip_suffix(".deleted") {
        let Some(prefix) = tree_prefix(tree, description) else { return Ok(()) };
        let mut gone = Vec::new();
        entry.take(LARGEST_LIST).read_to_end(&mut gone).map_err(|e| e.to_string())?;
        for path in gone.split(|b| *b == 0).filter(|path| !path.is_empty()) {
            files.remove(&place(&prefix, path));
        }
    } else if let Some(prefix) = tree_prefix(name, description) {
        list_tree(entry, &prefix, files)?;
    }
    Ok(())
}

fn place(prefix: &str, path: &[u8]) -> String {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = printable_path(path.strip_suffix(b"/").unwrap_or(path));
    if path.is_empty() || path == "." { format!("{prefix}/") } else { format!("{prefix}/{path}") }
}

fn list_tree(tar: &mut dyn Read, prefix: &str, files: &mut BTreeMap<String, FileEntry>) -> Result<(), String> {
    each_entry(tar, "a tree in it", &mut |entry| {
        list_file(entry, prefix, files).map_err(|e| format!("a tree in it is no whole tar: {}", printable(&e.to_string())))
    })
}

fn list_file(entry: &mut Met<'_, '_>, prefix: &str, files: &mut BTreeMap<String, FileEntry>) -> io::Result<()> {
    let mut path = entry.path_bytes().into_owned();
    let mut bytes = entry.size();
    // A file with holes carries its real name and size in extensions of GNU tar's.
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions.flatten() {
            match extension.key_bytes() {
                b"GNU.sparse.name" => path = extension.value_bytes().to_vec(),
                b"GNU.sparse.realsize" => bytes = extension.value().ok().and_then(|v| v.parse().ok()).unwrap_or(bytes),
                _ => {}
            }
        }
    }
    let header = entry.header();
    let number = |read: io::Result<u64>| read.unwrap_or(0);
    let (owner, modified) = ((number(header.uid()), number(header.gid())), number(header.mtime()));
    let (mode, what) = (header.mode().unwrap_or(0), header.entry_type());
    let kind = match what {
        EntryType::Directory => FileKind::Directory,
        EntryType::Symlink => FileKind::Symlink,
        EntryType::Regular | EntryType::Continuous | EntryType::Link | EntryType::GNUSparse => FileKind::File,
        _ => FileKind::Other,
    };
    let target = entry.link_name_bytes().map(|target| target.into_owned());
    // Another name of a file stands for what the first one brought.
    let first = target.as_ref().filter(|_| what == EntryType::Link).and_then(|target| files.get(&place(prefix, target)));
    let (bytes, sha256) = match first {
        Some(first) => (first.bytes, first.sha256),
        None => (bytes, if kind == FileKind::File { Some(digest(entry)?) } else { None }),
    };
    let link = target.filter(|_| kind == FileKind::Symlink).map(|target| printable_path(&target));
    files.insert(place(prefix, &path), FileEntry { kind, mode, owner, bytes, modified, link, sha256 });
    Ok(())
}

fn digest(file: &mut impl Read) -> io::Result<[u8; 32]> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum.finalize().into()),
            read => sum.update(&buffer[..read]),
        }
    }
}
