//! Taking files out of a backup. The tar program of this workstation unpacks: it knows holes and links, and refuses paths that lead outside.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::archive::{LARGEST_LIST, LONGEST_SAID, each_member, heard, listen};
use super::{Entry, Keys, LibraryError, Seen, Source};
use crate::model::manifest::{CapturedVolume, Description};
use crate::model::text::printable;

/// Takes a file or a whole directory out of a backup, into a folder, with its path below it; not what vanished between the two passes, which
/// `files` doesn't list either. `seen` is told of the bytes that are read.
///
/// # Errors
/// When there is no such path in the backup or it can't be unpacked.
pub fn extract(entry: &Entry, keys: &Keys, wanted: &str, to: &Path, seen: &Seen) -> Result<(), LibraryError> {
    let (tree, below) = place_of(&entry.manifest.description, wanted).map_err(LibraryError::Missing)?;
    let damaged = |reason| LibraryError::Damaged { name: entry.name(), reason };
    refuse_to_overwrite(to, &below)?;
    let list = format!("{tree}.deleted");
    let mut gone = Vec::new();
    // It stands behind the tree, and tar has to know it before.
    if entry.manifest.archive.members.iter().any(|member| member.name == list) {
        let read = each_member(Source::of(entry, keys)?, |name, member| {
            if name == list {
                member.take(LARGEST_LIST).read_to_end(&mut gone).map_err(|e| e.to_string())?;
            }
            Ok(())
        });
        read.map_err(damaged)?;
    }
    // tar is content with a member that it was told to leave out.
    if gone.split(|b| *b == 0).any(|path| path.strip_suffix(b"/").unwrap_or(path) == below.as_bytes()) {
        return Err(LibraryError::Missing(nothing_at(&below)));
    }
    let was_there = to.exists();
    std::fs::create_dir_all(to).map_err(LibraryError::file(to, "can't be made"))?;
    // What the archive is not to blame for.
    let mut refused = None;
    let mut done = false;
    let unpacked = each_member(Source::of(entry, keys)?.seen_by(Arc::clone(seen)), |name, member| {
        if name == tree {
            untar(member, &below, &gone, to).map_err(|e| {
                let said = e.to_string();
                refused = Some(e);
                said
            })?;
            done = true;
        }
        Ok(())
    });
    let outcome = match (unpacked, refused) {
        // tar is content with nothing that breaks off; what breaks it says why.
        (Err(reason), Some(refused)) if reason != refused.to_string() => Err(damaged(reason)),
        (_, Some(refused)) => Err(refused),
        (Err(reason), None) if done => {
            Err(damaged(format!("{reason}; what was taken out before that lies in {}: don't trust it", to.display())))
        }
        (Err(reason), None) => Err(damaged(reason)),
        (Ok(()), None) if !done => Err(LibraryError::Missing(format!("the backup has no member {tree}"))),
        (Ok(()), None) => Ok(()),
    };
    if outcome.is_err() && !was_there {
        // One that something was unpacked into stays.
        let _ = std::fs::remove_dir(to);
    }
    outcome
}

/// What lies there may have been changed since it was taken out.
fn refuse_to_overwrite(to: &Path, below: &str) -> Result<(), LibraryError> {
    let place = to.join(below.trim_start_matches("./"));
    let is_there = match below {
        "." => std::fs::read_dir(to).is_ok_and(|mut inside| inside.next().is_some()),
        _ => place.symlink_metadata().is_ok(),
    };
    if is_there {
        Err(LibraryError::Missing(format!("{} is there already: name another folder with '--to'", place.display())))
    } else {
        Ok(())
    }
}

/// The member that holds a path as `files` prints it, and the path in there.
fn place_of(description: &Description, wanted: &str) -> Result<(String, String), String> {
    // A host's path begins with a slash, whatever stands in it.
    let (tree, below) = match wanted.split_once(':').filter(|_| !wanted.starts_with('/')) {
        Some((service, below)) => {
            let of = |v: &&CapturedVolume| v.service == service && Path::new(below).starts_with(&v.path);
            let volume = description.volumes.iter().find(of).ok_or(format!("the backup has no volume of {service} at {below}"))?;
            let rest = below.strip_prefix(volume.path.as_str()).unwrap_or_default().trim_matches('/');
            (volume.member.clone(), if rest.is_empty() { ".".to_owned() } else { format!("./{rest}") })
        }
        None => ("system-dirs.tar".to_owned(), wanted.trim_matches('/').to_owned()),
    };
    if below.is_empty() || below.split('/').any(|part| part == "..") {
        return Err(format!("'{wanted}' is no path of a file in a backup: see 'tanker files'"));
    }
    Ok((tree, below))
}

fn untar(tar: &mut impl Read, member: &str, gone: &[u8], to: &Path) -> Result<(), LibraryError> {
    let failed = LibraryError::Missing;
    let mut without = tempfile::NamedTempFile::new().map_err(|e| failed(format!("no temporary file can be made: {e}")))?;
    // tar wants a path on each line: a name that is none would be two others.
    let names = gone.split(|b| *b == 0).filter(|name| !name.is_empty() && !name.contains(&b'\n'));
    let lines: Vec<u8> = names.flat_map(|name| name.iter().copied().chain([b'\n'])).collect();
    without.write_all(&lines).map_err(LibraryError::file(without.path(), "can't be written"))?;
    let mut child = Command::new("tar")
        .args(["-x", "--no-same-owner", "--anchored", "--no-wildcards", "-X"])
        .arg(without.path())
        .args(["-f", "-", "-C"])
        .arg(to)
        .arg("--")
        .arg(member)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("tar can't be run here: {e}")))?;
    let listening = listen(child.stderr.take());
    let fed = child.stdin.take().map_or(Ok(()), |mut input| io::copy(tar, &mut input).and_then(|_| input.flush()));
    let status = child.wait().map_err(|e| failed(format!("tar can't be waited for: {e}")))?;
    let said = heard(listening);
    // tar stops reading where it has all it was asked for; its exit code tells whether it had.
    if let Err(e) = fed
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(failed(format!("the archive can't be read: {e}")));
    }
    if status.success() || only_misses_links(&said, gone) {
        return Ok(());
    }
    if said.contains("Not found in archive") {
        return Err(failed(nothing_at(member)));
    }
    Err(failed(format!("it could not be unpacked: {}", printable(&said))))
}

fn nothing_at(member: &str) -> String {
    format!("the backup holds nothing at '{}': see 'tanker files'", printable(member))
}

/// Another name of a file that vanished between the passes can't be linked to it; the second pass, which comes behind, brings it whole.
fn only_misses_links(said: &str, gone: &[u8]) -> bool {
    let gone: Vec<&[u8]> = gone.split(|b| *b == 0).filter(|path| !path.is_empty()).collect();
    let complaints: Vec<&str> = said.lines().filter(|line| !line.contains("Exiting with failure status")).collect();
    let to =
        |line: &&str| line.split_once(": Cannot hard link to '").and_then(|(_, rest)| rest.rsplit_once("': ")).map(|(to, _)| to.to_owned());
    // What was cut off may have been anything.
    said.len() < LONGEST_SAID
        && !complaints.is_empty()
        && complaints.iter().all(|line| to(line).is_some_and(|to| gone.contains(&to.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_to_what_vanished_may_be_missing() {
        let last = "tar: Exiting with failure status due to previous errors\n";
        let link = |to: &str| format!("tar: etc/fuel/b: Cannot hard link to '{to}': No such file or directory\n");
        let gone = b"etc/fuel/a\0etc/fuel/it's\0";
        assert!(only_misses_links(&(link("etc/fuel/a") + &link("etc/fuel/it's") + last), gone));
        for bad in [link("etc/fuel/c") + last, link("etc/fuel/a") + "tar: etc: Cannot open: Permission denied\n" + last, last.to_owned()] {
            assert!(!only_misses_links(&bad, gone), "{bad}");
        }
        assert!(!only_misses_links(&link("etc/fuel/a").repeat(100), gone), "what comes behind nobody has heard");
    }

    #[test]
    fn a_host_path_is_one_whatever_stands_in_it() {
        let text = include_str!("../../tests/fixtures/format-1/east/2026-11-22-14_07/manifest.json");
        let mut about = crate::model::manifest::parse_manifest(text).unwrap().description;
        about.volumes =
            vec![CapturedVolume { member: "tanker.volume.nailgun.0".into(), service: "nailgun".into(), path: "/var/www".into() }];
        let host = place_of(&about, "/etc/nailgun:/var/www/x").unwrap();
        assert_eq!(host, ("system-dirs.tar".into(), "etc/nailgun:/var/www/x".into()));
        assert_eq!(place_of(&about, "nailgun:/var/www/x").unwrap(), ("tanker.volume.nailgun.0".into(), "./x".into()));
        assert!(place_of(&about, "cobbler:/var/www").unwrap_err().contains("no volume of cobbler"));
    }
}
