//! A library whose home is a remote: the same verbs, and nothing of an archive stays on this disk.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{TimeZone, Utc};
use sha2::{Digest, Sha256};
use tanker::library::{Entry, Library};

use crate::library::add_backup;
use crate::offsite::of_others;
use crate::upkeep::Shelf;

/// Where the mirror of a remote lies.
fn mirror(shelf: &Shelf, url: &str) -> PathBuf {
    Library::mirror_path(&shelf.path(".local/state/tanker/libraries"), url)
}

/// The archives on this disk, whole or not.
fn archives(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found.extend(archives(&entry.path()));
        } else if name.contains(".lrz") || name == "fetching" {
            found.push(entry.path());
        }
    }
    found
}

/// What a remote that is a library must do. `remotes`: the tables of the inventory.
pub(crate) fn lives_at_a_remote(shelf: &Shelf, url: &str, remotes: &str, environment: &[(&str, String)]) {
    let inventory = |keep: &str| {
        shelf.inventory(&format!("[defaults]\nlibrary = '{url}'\ntrash_days = 0\n[hosts.east]\naddress = '127.0.0.1'\n{keep}{remotes}"));
    };
    inventory("");
    let tanker = |args: &[&str]| shelf.tanker_with(environment, args);
    let mirror = mirror(shelf, url);
    tanker(&["list"]).code(0);
    // What a backup has written here, and a run that was cut off has not brought home: the next one does.
    for day in [10, 11, 12] {
        let work = tempfile::tempdir().unwrap();
        add_backup(&Library::at(mirror.clone()), work.path(), Utc.with_ymd_and_hms(2026, 11, day, 2, 0, 0).unwrap(), None);
    }
    assert_eq!(archives(&mirror).len(), 3);
    tanker(&["list"]).code(0).says("east@2026-11-12-02_00 is at ");
    assert!(archives(&mirror).is_empty());
    // Another workstation knows nothing of it but the url.
    fs::remove_dir_all(&mirror).unwrap();
    let listed = tanker(&["list"]).code(0).says("east@2026-11-10-02_00").says("east@2026-11-12-02_00");
    assert_eq!(listed.stdout.lines().count(), 4, "{}", listed.stdout);
    tanker(&["stats"]).code(0).says("east");
    tanker(&["verify", "--all"]).code(0).says("east@2026-11-11-02_00");
    tanker(&["verify", "east@latest", "--deep"]).code(0).says("every member");
    tanker(&["diff", "east@2026-11-10", "east@latest"]).code(0);
    assert!(!tanker(&["files", "east@latest"]).code(0).stdout.is_empty());
    let exported = shelf.path("exported");
    tanker(&["export", "east@latest", "--to", exported.to_str().unwrap()]).code(0);
    assert_eq!(archives(&exported).len(), 1);
    fs::remove_dir_all(&exported).unwrap();
    assert!(archives(&mirror).is_empty());
    // Marks and checks are at home, too.
    tanker(&["tag", "east@2026-11-10", "--add", "golden"]).code(0);
    tanker(&["protect", "east@2026-11-10"]).code(0);
    fs::remove_dir_all(&mirror).unwrap();
    tanker(&["list", "--tag", "golden"]).code(0).says("east@2026-11-10-02_00");
    tanker(&["show", "east@latest"]).code(0).says("deep");
    // Forgotten as from any library: the trash first, then for good; never the last one, never a protected one.
    inventory("trash_days = 7\n");
    tanker(&["forget", "--keep-last", "1", "--yes"]).code(0).says("gone  2026-11-11-02_00");
    fs::remove_dir_all(&mirror).unwrap();
    let listed = tanker(&["list"]).code(0);
    assert!(!listed.stdout.contains("east@2026-11-11"), "{}", listed.stdout);
    tanker(&["list", "--trash"]).code(0).says("east@2026-11-11-02_00");
    tanker(&["undelete", "east@2026-11-11-02_00"]).code(0).says("is listed again");
    fs::remove_dir_all(&mirror).unwrap();
    tanker(&["list"]).code(0).says("east@2026-11-11-02_00");
    inventory("");
    tanker(&["unprotect", "east@2026-11-10"]).code(0);
    tanker(&["forget", "--keep-last", "1", "--yes"]).code(0);
    fs::remove_dir_all(&mirror).unwrap();
    let listed = tanker(&["list"]).code(0).says("east@2026-11-12-02_00");
    assert_eq!(listed.stdout.lines().count(), 2, "{}", listed.stdout);
    assert_eq!(tanker(&["list", "--trash"]).code(0).stdout.lines().count(), 1);
    // By its url alone, without an inventory that names it so.
    tanker(&["--library", url, "list"]).code(0).says("east@2026-11-12-02_00");
}

#[test]
fn a_folder_by_url_is_a_library_and_damage_at_home_is_found() {
    let shelf = Shelf::new("");
    let disk = shelf.path("disk");
    fs::create_dir(&disk).unwrap();
    let url = format!("file://{}", disk.display());
    lives_at_a_remote(&shelf, &url, "", &[]);
    assert_eq!(of_others(&disk), [] as [PathBuf; 0], "I6 holds for a home too");
    // Rot at home.
    let archive = archives(&disk).pop().unwrap();
    let good = fs::read(&archive).unwrap();
    let mut rotten = good.clone();
    rotten[good.len() / 2] ^= 1;
    fs::write(&archive, rotten).unwrap();
    shelf.tanker(&["verify", "--all"]).code(5);
    shelf.tanker(&["verify", "--all", "--deep"]).code(5);
    shelf.tanker(&["show", "east@latest"]).code(0).says("hashed: its archive has another SHA-256");
    // An archive that is shorter than it should be is no backup, and `latest` doesn't pass over it in silence.
    fs::write(&archive, &good[1..]).unwrap();
    shelf.tanker(&["list"]).code(5).says("its archive has");
    shelf.tanker(&["show", "east@latest"]).code(5).says("is damaged");
    fs::write(&archive, &good).unwrap();
    shelf.tanker(&["verify", "--all", "--deep"]).code(0);
    // Encrypted anew at home.
    let public = shelf.keygen("key.txt");
    let text = fs::read_to_string(shelf.path("inventory.toml")).unwrap();
    shelf.inventory(&text.replace("[defaults]\n", &format!("[defaults]\nencrypt_to = ['{public}']\ndecrypt_with = ['~/key.txt']\n")));
    shelf.tanker(&["rekey", "east@latest", "--yes"]).code(0).says("is encrypted to").says("is at file://");
    assert!(archives(&mirror(&shelf, &url)).is_empty());
    assert!(archives(&disk).iter().all(|path| path.extension().is_some_and(|end| end == "age")));
    shelf.tanker(&["verify", "--all", "--deep"]).code(0);
}

/// A library in a folder, by its url, and a workstation that has put a backup of each of these days into it.
pub(crate) fn at_a_disk(days: &[u32]) -> (Shelf, PathBuf, String) {
    let shelf = Shelf::new("");
    let disk = shelf.path("disk");
    fs::create_dir(&disk).unwrap();
    let url = format!("file://{}", disk.display());
    at(&shelf, &url, "");
    shelf.tanker(&["list"]).code(0);
    for day in days {
        add(&mirror(&shelf, &url), *day);
    }
    shelf.tanker(&["list"]).code(0);
    (shelf, disk, url)
}

fn at(shelf: &Shelf, url: &str, more: &str) {
    shelf.inventory(&format!("[defaults]\nlibrary = '{url}'\n{more}[hosts.east]\naddress = '127.0.0.1'\nport = 1\n"));
}

fn add(mirror: &Path, day: u32) {
    let work = tempfile::tempdir().unwrap();
    add_backup(&Library::at(mirror.to_owned()), work.path(), Utc.with_ymd_and_hms(2026, 11, day, 2, 0, 0).unwrap(), None);
}

#[test]
fn i5_a_library_that_cannot_be_reached_keeps_nobody_from_working_and_nothing_is_lost() {
    let (shelf, disk, url) = at_a_disk(&[10]);
    let mirror = mirror(&shelf, &url);
    add(&mirror, 11);
    let away = shelf.path("unplugged");
    fs::rename(&disk, &away).unwrap();
    for verb in [&["list"][..], &["stats"], &["verify", "east@2026-11-11"], &["report"]] {
        shelf.tanker(verb).code(1).says("is its disk mounted?").says("what is new stays here").says("east");
    }
    shelf.tanker(&["files", "east@2026-11-10"]).code(1).says("which can't be reached");
    // A backup is as good as before: it is the master that isn't there.
    shelf.tanker(&["backup"]).code(1).says("can't be reached");
    shelf.tanker(&["restore", "--to", "east", "--rollback"]).code(4);
    shelf.tanker(&["protect", "east@2026-11-10"]).code(1);
    assert_eq!(archives(&mirror).len(), 1);
    // The mount point is there, and the disk isn't.
    fs::create_dir(&disk).unwrap();
    shelf.tanker(&["list"]).code(1).says("where 1 backups were");
    assert_eq!(archives(&mirror).len() + archives(&disk).len(), 1, "nothing goes to where the disk should be");
    fs::remove_dir(&disk).unwrap();
    fs::rename(&away, &disk).unwrap();
    shelf.tanker(&["verify", "--all"]).code(0).says("east@2026-11-11-02_00 is at file://");
    assert_eq!((archives(&mirror).len(), archives(&disk).len()), (0, 2));
    fs::remove_dir_all(&mirror).unwrap();
    shelf.tanker(&["list"]).code(0).says("protected");
    shelf.inventory("[defaults]\nlibrary = 'ftp://x/y'\n[hosts.east]\naddress = '127.0.0.1'\n");
    shelf.tanker(&["list"]).code(2).says("inventory.toml:2: 'ftp://x/y' is no remote");
}

#[test]
fn i3_two_workstations_undo_nothing_of_each_others_at_one_home() {
    let (shelf, disk, url) = at_a_disk(&[10, 11, 12]);
    let mirror = mirror(&shelf, &url);
    let other = Shelf::new("");
    at(&other, &url, "trash_days = 0\n");
    other.tanker(&["list"]).code(0).says("east@2026-11-12");
    // Both mark one backup, the first while it can't reach its home.
    let away = shelf.path("unplugged");
    fs::rename(&disk, &away).unwrap();
    shelf.tanker(&["tag", "east@2026-11-10", "--add", "ours"]).code(1);
    fs::rename(&away, &disk).unwrap();
    other.tanker(&["tag", "east@2026-11-10", "--add", "theirs"]).code(0);
    other.tanker(&["protect", "east@2026-11-10"]).code(0);
    shelf.tanker(&["list"]).code(0);
    for tag in ["ours", "theirs"] {
        other.tanker(&["list", "--tag", tag]).code(0).says("east@2026-11-10").says("protected");
    }
    // One forgets for good what the other takes back meanwhile: it stays.
    let forgotten = mirror.join("east/2026-11-11-02_00");
    fs::create_dir_all(mirror.join("east/.gone")).unwrap();
    fs::rename(&forgotten, mirror.join("east/.gone/2026-11-11-02_00")).unwrap();
    other.tanker(&["protect", "east@2026-11-11"]).code(0);
    shelf.tanker(&["list"]).code(0);
    shelf.tanker(&["list"]).code(0).says("east@2026-11-11-02_00");
    other.tanker(&["verify", "--all"]).code(0).says("east@2026-11-11-02_00");
    // What was fetched, and left by a run that was killed, doesn't take the place of what was encrypted anew since.
    let entry = Library::at(mirror.clone()).list(None).unwrap().0.pop().unwrap();
    let home = disk.join("east/2026-11-12-02_00");
    fs::copy(home.join(&entry.manifest.archive.file), entry.archive()).unwrap();
    fs::copy(home.join("manifest.json"), entry.folder.join(".fetched")).unwrap();
    let public = other.keygen("key.txt");
    at(&other, &url, &format!("encrypt_to = ['{public}']\ndecrypt_with = ['~/key.txt']\n"));
    other.tanker(&["rekey", "east@2026-11-12", "--yes"]).code(0);
    shelf.tanker(&["list"]).code(0);
    assert!(archives(&home).iter().all(|path| path.extension().is_some_and(|end| end == "age")));
    assert!(archives(&mirror).is_empty());
    // What is damaged at home gives way to what is whole here.
    let rotten = archives(&disk.join("east/2026-11-10-02_00")).pop().unwrap();
    let good = fs::read(&rotten).unwrap();
    fs::write(&rotten, vec![0; good.len()]).unwrap();
    shelf.tanker(&["verify", "east@2026-11-10"]).code(5);
    fs::write(mirror.join("east/2026-11-10-02_00").join(rotten.file_name().unwrap()), &good).unwrap();
    shelf.tanker(&["list"]).code(0).says("east@2026-11-10-02_00 is at");
    assert!(fs::read(&rotten).unwrap() == good);
    shelf.tanker(&["verify", "east@2026-11-10"]).code(0);
    // The home is no second place.
    at(&shelf, &url, &format!("[remotes.disk]\nurl = '{url}'\n"));
    for verb in [&["forget", "--remote", "disk", "--yes"][..], &["sync", "--to", "disk"], &["copy", "east", "--to", "disk"]] {
        shelf.tanker(verb).code(2).says("is the library itself");
    }
}

/// A backup in a mirror that is not at home yet, large enough that its beginning is not looked at again where an upload is gone on with.
fn add_large(mirror: &Path, day: u32) -> Entry {
    crate::library::add_bytes(&Library::at(mirror.to_owned()), Utc.with_ymd_and_hms(2026, 11, day, 2, 0, 0).unwrap(), 10 << 20)
}

#[test]
fn i2_an_archive_leaves_this_disk_only_when_what_is_at_home_was_proven_there() {
    let (shelf, disk, url) = at_a_disk(&[]);
    let mirror = mirror(&shelf, &url);
    let entry = add_large(&mirror, 13);
    let good = fs::read(entry.archive()).unwrap();
    let home = disk.join("east/2026-11-13-02_00");
    let there = home.join(&entry.manifest.archive.file);
    let mut rotten = good.clone();
    rotten[0] ^= 1;
    // A run that was killed between archive and manifest: what has arrived is as large as it should be, and another one.
    fs::create_dir_all(&home).unwrap();
    fs::write(&there, &rotten).unwrap();
    fs::copy(entry.folder.join("manifest.json"), home.join("copying.json")).unwrap();
    shelf.tanker(&["list"]).code(5).says("is not what was sent").says("stays in");
    assert!(fs::read(entry.archive()).unwrap() == good, "the only whole one is still here");
    assert!(!home.join("manifest.json").exists() && !there.exists());
    shelf.tanker(&["list"]).code(0).says("east@2026-11-13-02_00 is at");
    assert!(fs::read(&there).unwrap() == good && archives(&mirror).is_empty());
    // The same with a manifest, as a tanker that read back afterwards has left it.
    let entry = add_large(&mirror, 14);
    let good = fs::read(entry.archive()).unwrap();
    let home = disk.join("east/2026-11-14-02_00");
    let there = home.join(&entry.manifest.archive.file);
    fs::create_dir_all(&home).unwrap();
    fs::write(&there, &rotten[..good.len()]).unwrap();
    for file in ["manifest.json", "SHA256SUMS"] {
        fs::copy(entry.folder.join(file), home.join(file)).unwrap();
    }
    shelf.tanker(&["list"]).code(0).says("east@2026-11-14-02_00 is at");
    assert!(fs::read(&there).unwrap() == good && archives(&mirror).is_empty());
    shelf.tanker(&["verify", "--all"]).code(0);
}

/// Another workstation at the same home, and the key that it encrypts to.
pub(crate) fn another(url: &str) -> Shelf {
    let other = Shelf::new("");
    let public = other.keygen("key.txt");
    at(&other, url, &format!("encrypt_to = ['{public}']\ndecrypt_with = ['~/key.txt']\n"));
    other
}

fn all_encrypted(folder: &Path) -> bool {
    let found = archives(folder);
    !found.is_empty() && found.iter().all(|path| path.extension().is_some_and(|end| end == "age"))
}

#[test]
fn i6_what_was_encrypted_at_home_is_not_overwritten_by_what_lies_here_in_the_clear() {
    let (shelf, disk, url) = at_a_disk(&[]);
    let (mirror, other) = (mirror(&shelf, &url), another(&url));
    let (home, library) = (disk.join("east/2026-11-10-02_00"), Library::at(mirror.clone()));
    add(&mirror, 10);
    // A backup that is under way keeps the archive here after it was brought home.
    let writing = library.lock(&"east".parse().unwrap(), "a test").unwrap();
    shelf.tanker(&["list"]).code(0).says("is at file://");
    assert_eq!((archives(&mirror).len(), archives(&home).len()), (1, 1));
    let entry = library.list(None).unwrap().0.remove(0);
    let kept: Vec<_> =
        ["manifest.json", "SHA256SUMS", &entry.manifest.archive.file].map(|name| (name, fs::read(entry.folder.join(name)).unwrap())).into();
    drop(writing);
    other.tanker(&["rekey", "east@latest", "--yes"]).code(0);
    // Somebody works with it: it stays as long, and is not brought home.
    let held = library.hold().unwrap();
    shelf.tanker(&["list"]).code(0);
    assert!(all_encrypted(&home));
    assert_eq!(archives(&mirror), [entry.archive()]);
    drop(held);
    shelf.tanker(&["list"]).code(0);
    assert!(all_encrypted(&home) && archives(&mirror).is_empty());
    // The same of a tanker that has left no word of having brought it home.
    fs::remove_dir_all(&entry.folder).unwrap();
    fs::create_dir(&entry.folder).unwrap();
    for (name, bytes) in &kept {
        fs::write(entry.folder.join(name), bytes).unwrap();
    }
    shelf.tanker(&["list"]).code(3).says("has east@2026-11-10-02_00 encrypted, and here it is not");
    assert!(all_encrypted(&home));
    other.tanker(&["verify", "--all", "--deep"]).code(0);
}

#[test]
fn i3_marks_that_are_not_at_home_yet_outlive_that_the_backup_is_encrypted_anew_there() {
    let (shelf, disk, url) = at_a_disk(&[10]);
    let (other, away) = (another(&url), shelf.path("unplugged"));
    fs::rename(&disk, &away).unwrap();
    shelf.tanker(&["protect", "east@2026-11-10"]).code(1);
    shelf.tanker(&["tag", "east@2026-11-10", "--add", "ours"]).code(1);
    fs::rename(&away, &disk).unwrap();
    other.tanker(&["tag", "east@2026-11-10", "--add", "theirs"]).code(0);
    other.tanker(&["rekey", "east@latest", "--yes"]).code(0);
    shelf.tanker(&["list"]).code(0);
    for tag in ["ours", "theirs"] {
        other.tanker(&["list", "--tag", tag]).code(0).says("east@2026-11-10").says("protected");
    }
    other.tanker(&["verify", "--all", "--deep"]).code(0);
}

#[test]
fn one_odd_file_at_home_is_that_backups_flaw_and_hides_no_other() {
    let (shelf, disk, url) = at_a_disk(&[10, 11]);
    let mirror = mirror(&shelf, &url);
    for name in ["record.json", "SHA256SUMS"] {
        let path = disk.join("east/2026-11-10-02_00").join(name);
        let good = fs::read(&path).ok();
        fs::write(&path, vec![b' '; 17 << 20]).unwrap();
        fs::remove_dir_all(&mirror).unwrap();
        shelf.tanker(&["list"]).code(5).says("far too large").says("east@2026-11-11-02_00");
        assert!(!shelf.tanker(&["files", "east@2026-11-11"]).code(0).stdout.is_empty());
        match good {
            Some(good) => fs::write(&path, good).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        shelf.tanker(&["list"]).code(0).says("east@2026-11-10-02_00");
    }
}

#[test]
fn i3_a_record_that_rots_here_or_that_a_later_tanker_wrote_loses_no_marks_at_home() {
    let (shelf, disk, url) = at_a_disk(&[10]);
    let (ours, home) = (mirror(&shelf, &url).join("east/2026-11-10-02_00/record.json"), disk.join("east/2026-11-10-02_00/record.json"));
    shelf.tanker(&["protect", "east@2026-11-10"]).code(0);
    let good = fs::read(&home).unwrap();
    for rotten in [Some("{"), Some(""), None] {
        match rotten {
            Some(text) => fs::write(&ours, text).unwrap(),
            None => fs::remove_file(&ours).unwrap(),
        }
        shelf.tanker(&["list"]).code(0);
        assert!(fs::read(&home).unwrap() == good && fs::read(&ours).unwrap() == good, "{rotten:?}");
    }
    // Nor one that rots there, or is lost there.
    for rotten in [Some("{"), Some(""), None] {
        match rotten {
            Some(text) => fs::write(&home, text).unwrap(),
            None => fs::remove_file(&home).unwrap(),
        }
        shelf.tanker(&["list"]).code(0).says("protected");
        assert!(fs::read(&home).unwrap() == good && fs::read(&ours).unwrap() == good, "{rotten:?}");
    }
    let away = shelf.path("unplugged");
    fs::rename(&disk, &away).unwrap();
    shelf.tanker(&["tag", "east@2026-11-10", "--add", "ours"]).code(1);
    fs::rename(&away, &disk).unwrap();
    let record = r#"{"format":9,"more":true}"#;
    let digest: String = Sha256::digest(record).iter().map(|b| format!("{b:02x}")).collect();
    let later = format!("{{\"sha256\":\"{digest}\",\"record\":{record}}}\n");
    fs::write(&home, &later).unwrap();
    shelf.tanker(&["list"]).code(3).says("written by a newer tanker");
    assert_eq!(fs::read_to_string(&home).unwrap(), later);
    fs::write(&home, &good).unwrap();
    shelf.tanker(&["list"]).code(0);
    assert!(fs::read_to_string(&home).unwrap().contains("ours"));
}
