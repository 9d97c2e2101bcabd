//! What a power cut may find: every name in the library is given only to what is on the disk, and is on the disk itself before tanker
//! ends. Held by the system calls of the program, as strace sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{TimeZone, Utc};
use tanker::library::Recipients;

use crate::upkeep::Shelf;

const CALLS: &str = "openat,write,writev,pwrite64,copy_file_range,sendfile,fsync,fdatasync,rename,renameat,renameat2,mkdir";

/// The calls in order, each whole: what another thread's call cut in two is joined again.
fn calls(log: &str) -> Vec<String> {
    let (mut begun, mut whole) = (BTreeMap::<&str, String>::new(), Vec::new());
    for line in log.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some((start, _)) = call.split_once(" <unfinished ...>") {
            begun.insert(process, start.to_owned());
        } else if let Some((_, rest)) = call.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            whole.push(begun.remove(process).unwrap_or_default() + rest);
        } else {
            whole.push(call.to_owned());
        }
    }
    // Results stand in a column of their own.
    for call in &mut whole {
        *call = call.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    whole.retain(|call| !call.contains(") = -1 ") && call.contains(") = "));
    whole
}

/// The files that a call names by their descriptors, as `3</path>`.
fn descriptors(call: &str) -> Vec<PathBuf> {
    call.split('<').skip(1).filter_map(|part| Some(PathBuf::from(part.split_once('>')?.0))).filter(|path| path.is_absolute()).collect()
}

/// The files that it names in quotes.
fn names(call: &str) -> Vec<PathBuf> {
    call.split('"').skip(1).step_by(2).map(PathBuf::from).collect()
}

/// What is wrong with the order of a program's calls below a folder.
fn faults(log: &str, below: &Path) -> Vec<String> {
    // Files with bytes, and folders with names, that are not on the disk.
    let (mut dirty, mut loose, mut faults, mut renames) = (BTreeSet::<PathBuf>::new(), BTreeSet::<PathBuf>::new(), Vec::new(), 0);
    for call in calls(log) {
        let name = call.split('(').next().unwrap_or_default();
        match name {
            "write" | "writev" | "pwrite64" => dirty.extend(descriptors(&call).into_iter().take(1).filter(|path| path.starts_with(below))),
            "copy_file_range" | "sendfile" => dirty.extend(descriptors(&call).into_iter().take(2).filter(|path| path.starts_with(below))),
            "openat" if call.contains("O_CREAT") => {
                let made = names(&call).into_iter().find(|path| path.starts_with(below) && !path.to_string_lossy().ends_with(".lock"));
                loose.extend(made.as_deref().and_then(Path::parent).map(Path::to_owned));
            }
            "mkdir" => loose
                .extend(names(&call).iter().filter(|path| path.starts_with(below)).filter_map(|path| path.parent()).map(Path::to_owned)),
            "fsync" | "fdatasync" => {
                for path in descriptors(&call) {
                    dirty.remove(&path);
                    loose.remove(&path);
                }
            }
            "rename" | "renameat" | "renameat2" => {
                let paths = names(&call);
                let [from, to] = paths.as_slice() else { continue };
                if !to.starts_with(below) {
                    continue;
                }
                renames += 1;
                let unwritten = dirty.iter().filter(|path| path.starts_with(from)).map(|path| path.display().to_string());
                let unnamed = loose.iter().filter(|path| path.starts_with(from)).map(|path| path.display().to_string());
                faults.extend(unwritten.chain(unnamed).map(|path| format!("{path} was not on the disk at {call}")));
                loose.extend([from, to].iter().filter_map(|path| path.parent()).map(Path::to_owned));
            }
            _ => {}
        }
        // A lock says only who holds it.
        dirty.retain(|path| !path.to_string_lossy().ends_with(".lock"));
    }
    // What a folder lost by a rename may come back after a power cut, but not in the place of what was named.
    faults.extend(
        loose.iter().filter(|path| path.exists() && renames > 0).map(|path| format!("the names in {} are not on the disk", path.display())),
    );
    assert!(renames > 0, "nothing was renamed");
    faults
}

#[test]
fn i2_what_the_library_names_is_on_the_disk_before_it_is_named() {
    let shelf = Shelf::new("");
    fs::create_dir(shelf.path("disk")).unwrap();
    let public = shelf.keygen("key.txt");
    shelf.inventory(&format!(
        "[defaults]\nencrypt_to = ['{public}']\ndecrypt_with = ['~/key.txt']\n[hosts.east]\naddress = '127.0.0.1'\n[remotes.disk]\nurl = 'file://{}'\n",
        shelf.path("disk").display()
    ));
    for day in [20, 21] {
        shelf.add(
            Utc.with_ymd_and_hms(2026, 11, day, 2, 0, 0).unwrap(),
            Some(&Recipients::parse(std::slice::from_ref(&public), "test").unwrap()),
        );
    }
    let other = shelf.keygen("other.txt");
    let steps: &[&[&str]] = &[
        &["tag", "east@latest", "--add", "gold"],
        &["forget", "--keep-last", "1", "--yes"],
        &["undelete", "east@2026-11-20-02_00"],
        &["copy", "east@latest", "--to", "disk"],
        &["rekey", "east@latest", "--yes"],
        &["copy", "east@latest", "--from", "disk"],
    ];
    for step in steps {
        match step[0] {
            "rekey" => {
                let text = fs::read_to_string(shelf.path("inventory.toml")).unwrap();
                shelf.inventory(&text.replace(&public, &other));
            }
            // The first backup of a host.
            "copy" if step.contains(&"--from") => fs::remove_dir_all(shelf.path("tanker/east")).unwrap(),
            _ => {}
        }
        let log = shelf.path("calls");
        let tanker = shelf.command(step);
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-qq", "-y", "-s", "0", "-e", &format!("trace={CALLS}"), "-e", "signal=none", "-o"])
            .arg(&log)
            .arg(tanker.get_program())
            .args(tanker.get_args());
        traced.current_dir(shelf.home.path()).env("HOME", shelf.home.path()).env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME");
        let output = traced.output().unwrap();
        assert!(output.status.success(), "{step:?}: {}", String::from_utf8_lossy(&output.stderr));
        // At a remote nobody knows of folders and disks.
        if step.contains(&"--to") {
            continue;
        }
        let found = faults(&fs::read_to_string(&log).unwrap(), &shelf.path("tanker"));
        assert!(found.is_empty(), "{step:?}:\n{}", found.join("\n"));
    }
}

#[test]
fn i2_a_name_that_is_given_too_early_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display();
    let order = |synced: &str, after: &str| {
        format!(
            "7 openat(AT_FDCWD, \"{root}/a.partial/x\", O_WRONLY|O_CREAT, 0600) = 3<{root}/a.partial/x>\n7 write(3<{root}/a.partial/x>, \"\"..., 5) = 5\n\
             {synced}7 rename(\"{root}/a.partial\", \"{root}/a\") = 0\n{after}7 exit\n"
        )
    };
    let file = format!(
        "8 fsync(3<{root}/a.partial/x> <unfinished ...>\n7 write(1</dev/pts/0>, \"\"..., 1) = 1\n8 <... fsync resumed>)              = 0\n"
    );
    let (inside, outside) = (format!("7 fsync(4<{root}/a.partial>) = 0\n"), format!("7 fsync(4<{root}>) = 0\n"));
    assert_eq!(faults(&order(&format!("{file}{inside}"), &outside), folder.path()), [""; 0]);
    assert_eq!(faults(&order(&inside, &outside), folder.path()).len(), 1, "the bytes were not there");
    assert_eq!(faults(&order(&file, &outside), folder.path()).len(), 1, "the name of the file was not there");
    assert_eq!(faults(&order(&format!("{file}{inside}"), ""), folder.path()).len(), 1, "the new name was not there");
}
