//! Copies that are not what they should be, or whose marks tell more than this library knows.

use std::fs;
use std::path::Path;
use std::process::Command;

use chrono::{TimeZone, Utc};
use tanker::library::Recipients;

use crate::offsite::{MASTER, add};
use crate::upkeep::Shelf;

/// A library and a folder by the name of `disk` that is a remote.
fn with_a_disk(days: &[u32], to: Option<&Recipients>) -> (Shelf, std::path::PathBuf) {
    let shelf = Shelf::new("");
    let disk = shelf.path("disk");
    fs::create_dir(&disk).unwrap();
    shelf.inventory(&format!("{MASTER}[remotes.disk]\nurl = 'file://{}'\n", disk.display()));
    days.iter().for_each(|day| drop(add(&shelf, *day, to)));
    (shelf, disk.join("east"))
}

#[test]
fn i2_what_arrives_as_something_else_gets_no_manifest_at_the_remote() {
    let (shelf, disk) = with_a_disk(&[], None);
    let entry = crate::library::add_bytes(&shelf.library(), Utc.with_ymd_and_hms(2026, 11, 23, 2, 0, 0).unwrap(), 10 << 20);
    let there = disk.join("2026-11-23-02_00");
    fs::create_dir_all(&there).unwrap();
    let mut rotten = fs::read(entry.archive()).unwrap();
    rotten[0] ^= 1;
    fs::write(there.join(&entry.manifest.archive.file), rotten).unwrap();
    fs::copy(entry.folder.join("manifest.json"), there.join("copying.json")).unwrap();
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(5).says("is not what was sent");
    assert!(!there.join("manifest.json").exists());
    assert!(shelf.library().list(None).unwrap().0[0].record.copies.is_empty(), "nobody has seen it whole");
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0).says("copied");
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(0);
}

#[test]
fn i3_a_copy_that_only_the_record_beside_it_protects_is_not_forgotten() {
    let (shelf, disk) = with_a_disk(&[19, 20, 21, 22, 23], None);
    shelf.tanker(&["protect", "east@2026-11-20"]).code(0);
    shelf.tanker(&["tag", "east@2026-11-21", "--add", "golden"]).code(0);
    shelf.tanker(&["sync", "--to", "disk"]).code(0);
    fs::remove_dir_all(shelf.path("tanker/east")).unwrap();
    fs::write(disk.join("2026-11-22-02_00/record.json"), "{").unwrap();
    let forget = ["forget", "--remote", "disk", "--keep-last", "1", "--keep-tag", "golden", "--accept-unknown"];
    shelf.tanker(&forget).code(0).says("1 would go").says("keep  2026-11-20").says("tag golden").says("can't be read");
    shelf.tanker(&[&forget[..], &["--yes"]].concat()).code(0).says("1 removed from").says("gone  2026-11-19");
    let mut left: Vec<_> = fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["2026-11-20-02_00", "2026-11-21-02_00", "2026-11-22-02_00", "2026-11-23-02_00"]);
}

#[test]
fn i3_a_copy_of_what_is_damaged_here_takes_no_older_ones_place() {
    let (shelf, disk) = with_a_disk(&[20, 21], None);
    shelf.tanker(&["sync", "--to", "disk"]).code(0);
    let newest = shelf.library().list(None).unwrap().0.pop().unwrap();
    let mut rotten = fs::read(newest.archive()).unwrap();
    rotten[0] ^= 1;
    fs::write(newest.archive(), rotten).unwrap();
    shelf.tanker(&["verify", "--all"]).code(5);
    for unknown in [&[][..], &["--accept-unknown"]] {
        let forget = [&["forget", "--remote", "disk", "--yes"], unknown].concat();
        shelf.tanker(&forget).code(0).says("nothing is to be forgotten");
    }
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 2);
}

#[test]
fn a_seal_that_rots_at_a_remote_or_here_is_found_without_a_key_and_brought_there_anew() {
    let (shelf, disk) = with_a_disk(&[], None);
    let public = shelf.keygen("key.txt");
    let entry = add(&shelf, 20, Some(&Recipients::parse(&[public], "test").unwrap()));
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0);
    let seal = disk.join("2026-11-20-02_00/seal");
    let good = fs::read(&seal).unwrap();
    let flip = |path: &Path, bit: u8| {
        let mut bytes = fs::read(path).unwrap();
        bytes[7] ^= bit;
        fs::write(path, bytes).unwrap();
    };
    // Still hex or not: the one here tells.
    flip(&seal, 1);
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(5).says("seal");
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0).says("was there already");
    assert_eq!(fs::read(&seal).unwrap(), good);
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(0);
    flip(&entry.folder.join("seal"), 0x40);
    shelf.tanker(&["verify", "--all"]).code(5).says("seal");
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(5).says("seal");
    assert_eq!(fs::read(&seal).unwrap(), good, "what rotted here doesn't go there");
    // Where it isn't here, its shape is all there is.
    fs::remove_dir_all(shelf.path("tanker/east")).unwrap();
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(0);
    flip(&seal, 0x40);
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(5).says("seal");
}

#[test]
fn what_is_marked_right_after_a_copy_is_brought_there_by_sync() {
    let (shelf, disk) = with_a_disk(&[20], None);
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0);
    shelf.tanker(&["tag", "east@latest", "--add", "soon"]).code(0);
    let record = disk.join("2026-11-20-02_00/record.json");
    assert!(!fs::read_to_string(&record).unwrap_or_default().contains("soon"));
    shelf.tanker(&["sync", "--to", "disk"]).code(0).says("lacks nothing");
    assert!(fs::read_to_string(&record).unwrap().contains("soon"));
    // Nothing was marked since: nothing is sent.
    fs::write(&record, "as it was left").unwrap();
    shelf.tanker(&["sync", "--to", "disk"]).code(0);
    assert_eq!(fs::read_to_string(&record).unwrap(), "as it was left");
    // A copy of a tanker that kept no account of it is sent once more.
    let mut entry = shelf.library().list(None).unwrap().0.remove(0);
    entry.update(false, |record| record.copies.iter_mut().for_each(|copy| copy.marks = None)).unwrap();
    shelf.tanker(&["sync", "--to", "disk"]).code(0);
    assert!(fs::read_to_string(&record).unwrap().contains("soon"));
}

#[test]
fn what_a_copy_left_that_nobody_went_on_with_is_told_of_and_never_removed() {
    let (shelf, disk) = with_a_disk(&[20], None);
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0);
    let left = disk.join("2026-11-19-02_00");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("fuel_backup_2026-11-19_0200.tar.lrz"), vec![7; 5000]).unwrap();
    let forget = ["forget", "--remote", "disk", "--yes"];
    let fresh = shelf.tanker(&forget).code(0);
    assert!(!fresh.stderr.contains("no manifest"), "it may be under way: {}", fresh.stderr);
    let aged = Command::new("touch").args(["-d", "3 days ago"]).arg(left.join("fuel_backup_2026-11-19_0200.tar.lrz")).status().unwrap();
    assert!(aged.success());
    shelf.tanker(&forget).code(0).says("east@2026-11-19-02_00 holds 4.9 KiB and no manifest, written 3 d ago");
    assert_eq!(fs::read_dir(&left).unwrap().count(), 1);
}

#[test]
fn i2_what_is_damaged_here_is_exchanged_for_the_whole_one_from_a_remote() {
    let (shelf, _) = with_a_disk(&[20], None);
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0);
    shelf.tanker(&["tag", "east@latest", "--add", "golden"]).code(0);
    let entry = shelf.library().list(None).unwrap().0.remove(0);
    let whole = fs::read(entry.archive()).unwrap();
    crate::upkeep::rot(&entry);
    // Nobody knows yet.
    shelf.tanker(&["copy", "east@2026-11-20", "--from", "disk"]).code(0).says("was there already");
    shelf.tanker(&["verify", "--all"]).code(5);
    shelf.tanker(&["copy", "east@2026-11-20", "--from", "disk"]).code(0).says("copied");
    assert_eq!(fs::read(entry.archive()).unwrap(), whole);
    shelf.tanker(&["verify", "--all", "--deep"]).code(0);
    let back = shelf.library().list(None).unwrap().0.remove(0);
    assert_eq!((back.record.damage(), back.record.tags.as_slice()), (None, &["golden".to_owned()][..]));
    // One whose manifest rotted is no backup any more.
    fs::write(entry.folder.join("manifest.json"), "{").unwrap();
    shelf.tanker(&["copy", "east@2026-11-20", "--from", "disk"]).code(0).says("copied");
    shelf.tanker(&["verify", "--all", "--deep"]).code(0);
    shelf.tanker(&["list", "--tag", "golden"]).code(0).says("east@2026-11-20-02_00");
    let left: Vec<_> = fs::read_dir(shelf.path("tanker/east")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| name.starts_with('.') || name == "2026-11-20-02_00"), "{left:?}");
}

#[test]
fn what_lies_in_the_trash_is_put_back_from_there_and_not_fetched_beside_it() {
    let (shelf, _) = with_a_disk(&[20, 21], None);
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0);
    shelf.tanker(&["forget", "--keep-last", "1", "--yes"]).code(0);
    shelf.tanker(&["copy", "east@2026-11-20", "--from", "disk"]).code(3).says("'tanker undelete east@2026-11-20-02_00'");
    shelf.tanker(&["stats"]).code(0).says("and 1 in the trash");
    shelf.tanker(&["stats", "--json"]).code(0).says("\"trash\"");
    shelf.tanker(&["undelete", "east@2026-11-20"]).code(0);
    shelf.tanker(&["copy", "east@2026-11-20", "--from", "disk"]).code(0).says("was there already");
}
