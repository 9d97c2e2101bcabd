//! Giving an archive the form that a bare master's `dockerctl restore` takes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};

use super::archive::{each_member, walk};
use super::pack::pack;
use super::{Depth, Entry, Keys, LibraryError, Source, verify};
use crate::model::manifest::archive_name;
use crate::model::text::printable;

/// Writes a backup into `to` under its stock name. Its archive is one that stock takes already, except for the lists of what
/// was deleted between the two passes, which stock doesn't know: where there are any, it is packed anew without those files. `seen` is told
/// how much of the archive was held against its manifest.
///
/// # Errors
/// When the archive is damaged or none of the keys opens it, the file is there already, or it can't be written.
pub fn export(entry: &Entry, keys: &Keys, to: &Path, seen: &mut dyn FnMut(u64)) -> Result<PathBuf, LibraryError> {
    if entry.is_encrypted() {
        entry.open(keys)?;
    }
    verify(entry, keys, Depth::Decompressed, seen)?;
    let name = archive_name(&entry.manifest.description.stock_id);
    let file = to.join(&name);
    if file.exists() {
        return Err(LibraryError::Missing(format!("{} is there already", file.display())));
    }
    fs::create_dir_all(to).map_err(LibraryError::file(to, "can't be made"))?;
    let failed = |reason: String| LibraryError::Missing(format!("{} could not be exported: {reason}", entry.name()));
    // In the folder itself: it is the one place known to have room, and the last step is a rename.
    let work = tempfile::Builder::new().prefix(".tanker-export-").tempdir_in(to).map_err(LibraryError::file(to, "can't be written"))?;
    let part = work.path().join(&name);
    if entry.manifest.archive.members.iter().any(|member| member.name.ends_with(".deleted")) {
        pack_anew(entry, keys, work.path(), &part).map_err(failed)?;
        walk(Source::file(&part)).map_err(failed)?;
    } else {
        let copied = File::create(&part).and_then(|mut file| io::copy(&mut entry.open(keys).map_err(io::Error::other)?, &mut file));
        copied.map_err(LibraryError::file(&part, "can't be written"))?;
    }
    super::keep_private(&part)?;
    fs::rename(&part, &file).map_err(LibraryError::file(&file, "can't be written"))?;
    Ok(file)
}

/// Unpacks the members, takes the deleted files out of each tree, and packs again in the same order.
fn pack_anew(entry: &Entry, keys: &Keys, work: &Path, part: &Path) -> Result<(), String> {
    let members = work.join("members");
    fs::create_dir(&members).map_err(|e| e.to_string())?;
    let mut order = Vec::new();
    let mut deleted = Vec::new();
    each_member(Source::of(entry, keys).map_err(|e| e.to_string())?, |name, member| {
        if name.contains('/') {
            return Err(format!("a member is called {}", printable(name)));
        }
        if let Some(tree) = name.strip_suffix(".deleted") {
            let mut list = Vec::new();
            member.read_to_end(&mut list).map_err(|e| e.to_string())?;
            deleted.push((tree.to_owned(), list));
            return Ok(());
        }
        let mut file = File::create(members.join(name)).map_err(|e| e.to_string())?;
        io::copy(member, &mut file).map_err(|e| e.to_string())?;
        order.push(name.to_owned());
        Ok(())
    })?;
    for (tree, list) in deleted {
        let gone: HashSet<&[u8]> = list.split(|b| *b == 0).filter(|path| !path.is_empty()).collect();
        let (old, new) = (members.join(&tree), members.join("new"));
        without(&old, &new, &gone).map_err(|e| format!("{tree} can't be packed anew: {e}"))?;
        fs::rename(&new, &old).map_err(|e| e.to_string())?;
    }
    pack(&members, &order, part).map(drop)
}

/// Copies a tar without these paths. GNU tar's own `--delete` stumbles over files with holes.
fn without(from: &Path, to: &Path, gone: &HashSet<&[u8]>) -> io::Result<()> {
    let mut source = tar::Archive::new(BufReader::new(File::open(from)?));
    let mut builder = tar::Builder::new(BufWriter::new(File::create(to)?));
    for entry in source.entries()? {
        let mut entry = entry?;
        let mut path = entry.path_bytes().into_owned();
        let mut extensions = Vec::new();
        if let Some(found) = entry.pax_extensions()? {
            for extension in found {
                let extension = extension?;
                let key = extension.key().map_err(io::Error::other)?;
                if key == "GNU.sparse.name" {
                    path = extension.value_bytes().to_vec();
                }
                extensions.push((key.to_owned(), extension.value_bytes().to_vec()));
            }
        }
        if gone.contains(path.strip_suffix(b"/").unwrap_or(&path)) {
            continue;
        }
        // Another name of a deleted file: the second pass, which comes behind, brings it whole.
        let link = entry.header().entry_type().is_hard_link().then(|| entry.link_name_bytes().map(|to| to.into_owned())).flatten();
        if link.is_some_and(|to| gone.contains(to.as_slice())) {
            continue;
        }
        builder.append_pax_extensions(extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        let header = entry.header().clone();
        builder.append(&header, &mut entry)?;
    }
    builder.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
