//! Packing an archive on the workstation: members into a tar, the tar through lrzip.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::hashed::HashedFile;
use super::verify::sha256_of;
use super::writer::Folder;
use super::{HostLock, Library, LibraryError, Received};
use crate::model::id::{BackupId, HostName};
use crate::model::manifest::Member;
use crate::model::text::printable;

/// Packs these files of a folder, in this order, into `archive`, and tells the tar's size. Each file is removed once it is in the
/// tar, so that nothing lies on the disk twice for longer than it must.
pub(super) fn pack(folder: &Path, order: &[String], archive: &Path) -> Result<u64, String> {
    let outer = archive.with_extension("");
    for name in order {
        let mut tar = Command::new("tar");
        tar.args(["--format=gnu", "--numeric-owner", "--owner=0", "--group=0", "-rf"])
            .arg(&outer)
            .arg("-C")
            .arg(folder)
            .arg("--")
            .arg(name);
        run(&mut tar)?;
        fs::remove_file(folder.join(name)).map_err(|e| e.to_string())?;
    }
    let bytes = fs::metadata(&outer).map_err(|e| e.to_string())?.len();
    // As on a master: more blocks than cores, or one that is hard to pack leaves a core idle.
    let threads = std::thread::available_parallelism().map_or(8, |cores| (4 * cores.get()).clamp(8, 32)).to_string();
    run(Command::new("lrzip").args(["-q", "-L", "2", "-p", &threads, "-o"]).arg(archive).arg(&outer))?;
    fs::remove_file(&outer).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{program} can't be run: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} failed: {}", printable(&said)))
}

/// A backup that arrives member by member, to be packed here. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Parcel {
    folder: Folder,
    lock: HostLock,
    order: Vec<String>,
}

/// A packed one.
#[derive(Debug)]
pub struct Packed {
    /// The archive, not yet listed.
    pub received: Received,
    /// The tar's members, in order.
    pub members: Vec<Member>,
    /// The tar's size.
    pub tar_bytes: u64,
}

impl Library {
    /// Begins to receive a backup member by member. `bytes` is what that and the packing may need.
    ///
    /// # Errors
    /// When the library can't be written or has too little room.
    pub fn begin_parcel(&self, lock: HostLock, host: &HostName, id: &BackupId, bytes: u64) -> Result<Parcel, LibraryError> {
        let folder = self.begin_folder(host, id, bytes)?;
        Ok(Parcel { folder, lock, order: Vec::new() })
    }
}

impl Parcel {
    /// The next member's file.
    ///
    /// # Errors
    /// When it has an impossible name or came already (I8), or the file can't be made.
    pub fn member(&mut self, name: &str) -> Result<HashedFile, LibraryError> {
        let plain = !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && name.len() <= 200;
        if !plain || name.is_empty() || self.order.iter().any(|known| known == name) {
            return Err(LibraryError::Missing(format!("the master sent a member called '{}'", printable(name))));
        }
        let file = HashedFile::create(self.path(name))?;
        self.order.push(name.to_owned());
        Ok(file)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.partial.join(name)
    }

    /// Joins second passes (`NAME.delta`) with their first ones and packs everything under this name.
    ///
    /// # Errors
    /// When a member is no whole tar, or packing fails.
    pub fn pack(mut self, archive_name: &str) -> Result<Packed, LibraryError> {
        let failed = |reason: String| LibraryError::Missing(format!("it could not be packed: {reason}"));
        for name in self.order.clone() {
            let Some(first) = name.strip_suffix(".delta") else { continue };
            join(&self.path(first), &self.path(&name)).map_err(|e| failed(format!("{first} and its second pass can't be joined: {e}")))?;
            fs::remove_file(self.path(&name)).map_err(LibraryError::file(&self.path(&name), "can't be removed"))?;
        }
        // What it is stands first, as in archives that the master packs; images last, behind the lists of what was deleted.
        self.order.retain(|name| !name.ends_with(".delta"));
        self.order.sort_by_key(|name| (name != "tanker.json", is_image(name)));
        let size = |name: &String| fs::metadata(self.path(name)).map(|meta| Member { name: name.clone(), bytes: meta.len() });
        let members = self
            .order
            .iter()
            .map(size)
            .collect::<Result<Vec<_>, _>>()
            .map_err(LibraryError::file(&self.folder.partial, "can't be read"))?;
        let archive = self.path(archive_name);
        let tar_bytes = pack(&self.folder.partial, &self.order, &archive).map_err(failed)?;
        super::keep_private(&archive)?;
        let (bytes, sha256) = sha256_of(&archive)?;
        Ok(Packed { received: Received { folder: self.folder, archive, bytes, sha256, sealed: None, lock: self.lock }, members, tar_bytes })
    }
}

fn is_image(name: &str) -> bool {
    name == "docker-images.tar" || name.contains("__")
}

/// Puts the second pass behind the first, in place of the zero blocks that end the first.
fn join(first: &Path, second: &Path) -> io::Result<()> {
    let mut end = 0;
    let mut archive = tar::Archive::new(BufReader::new(File::open(first)?));
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        end = entry.raw_file_position() + entry.size().next_multiple_of(512);
    }
    let mut file = OpenOptions::new().write(true).open(first)?;
    file.set_len(end)?;
    file.seek(SeekFrom::End(0))?;
    io::copy(&mut File::open(second)?, &mut file)?;
    file.sync_all()
}
