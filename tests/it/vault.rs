//! Encryption at rest through the program: keys, passphrases, the seal, encrypting anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use chrono::Duration;
use sha2::Digest;
use tanker::library::{Arrival, Library, LibraryError, Recipients, ResumeKey};

use crate::upkeep::{Shelf, day};

#[test]
fn i6_an_encrypted_archive_is_opened_by_any_of_its_keys_and_by_age_itself() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    let ssh = |name: &str, kind: &str, passphrase: &str| {
        let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(shelf.path(name)).status().unwrap();
        assert!(made.success());
        fs::read_to_string(shelf.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    };
    let (ed25519, rsa) = (ssh("id_ed25519", "ed25519", ""), ssh("id_rsa", "rsa", ""));
    let entry = shelf.add(day(), Some(&Recipients::parse(&[public.clone(), ed25519, rsa], "test").unwrap()));
    assert!(entry.archive().to_string_lossy().ends_with(".tar.lrz.age"));
    let with = |key: &str, args: &[&str]| {
        let key = shelf.path(key).display().to_string();
        let args: Vec<&str> = ["--library", "tanker", "--key", &key].iter().chain(args).copied().collect();
        shelf.tanker(&args)
    };
    for key in ["key.txt", "id_ed25519", "id_rsa"] {
        with(key, &["verify", "east@latest", "--deep"]).code(0).says("every file in it");
    }
    let out = shelf.path("out").display().to_string();
    with("key.txt", &["files", "east@latest"]).code(0).says("/etc/fuel/astute.yaml");
    with("key.txt", &["extract", "east@latest", "/etc/fuel/astute.yaml", "--to", &out]).code(0);
    assert_eq!(fs::read_to_string(shelf.path("out/etc/fuel/astute.yaml")).unwrap(), "HOSTNAME: east\n");
    with("key.txt", &["export", "east@latest", "--to", &out]).code(0).says(".tar.lrz\n");

    // Without a key the encrypted form is held against the manifest, and what needs more says which keys would do.
    shelf.tanker(&["--library", "tanker", "verify", "east@latest"]).code(0).says("no key here opens it");
    shelf.tanker(&["--library", "tanker", "files", "east@latest"]).code(3).says(&public);
    shelf.keygen("other.txt");
    with("other.txt", &["files", "east@latest"]).code(3).says("none of the keys here opens it");
    with("nowhere.txt", &["files", "east@latest"]).code(2).says("can't be used");

    // By hand, without tanker.
    let by_hand = "cd tanker/east/* && sha256sum -c SHA256SUMS && age -d -i ../../../key.txt *.age | lrzip -q -d -o - - | tar -tf -";
    let listed = Command::new("sh").args(["-c", by_hand]).current_dir(shelf.home.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("system-dirs.tar"), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[test]
fn i2_a_manifest_of_another_encrypted_archive_is_found_out_by_who_has_a_key() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    let to = Recipients::parse(&[public], "test").unwrap();
    let entry = shelf.add(day(), Some(&to));
    // Whoever relabels it can make the digests fit, but not the seal.
    let manifest = entry.folder.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"consistent\": true", "\"consistent\": false")).unwrap();
    let sums = "sha256sum *.age manifest.json > SHA256SUMS";
    assert!(Command::new("sh").args(["-c", sums]).current_dir(&entry.folder).status().unwrap().success());
    shelf.tanker(&["--library", "tanker", "verify", "--all"]).code(0);
    let key = shelf.path("key.txt").display().to_string();
    shelf.tanker(&["--library", "tanker", "--key", &key, "verify", "--all"]).code(5).says("not the one that was written with this archive");
    // Whoever only reads in it hears the same.
    let other = shelf.add(day() + Duration::days(1), Some(&to));
    let out = shelf.path("out").display().to_string();
    let read: [&[&str]; 3] =
        [&["files", &entry.name()], &["diff", &entry.name(), &other.name()], &["extract", &entry.name(), "etc/fuel", "--to", &out]];
    for words in read {
        let all = [&["--library", "tanker", "--key", &key], words].concat();
        shelf.tanker(&all).code(5).says("not the one that was written with this archive");
    }
    assert!(!shelf.tanker(&["--library", "tanker", "--key", &key, "files", &other.name()]).code(0).stdout.is_empty());
}

#[test]
fn rekey_encrypts_anew_to_those_that_the_inventory_names_and_keeps_the_marks() {
    let shelf = Shelf::new("");
    let (old, new) = (shelf.keygen("old.txt"), shelf.keygen("new.txt"));
    let inventory = |to: &str| format!("[defaults]\nencrypt_to = ['{to}']\ndecrypt_with = ['~/old.txt', '~/new.txt']\n[hosts.east]\n");
    shelf.inventory(&inventory(&old));
    let plain = shelf.add(day(), None);
    shelf.tanker(&["protect", "east@latest"]).code(0);
    shelf.tanker(&["rekey", "--all"]).code(0).says("would be encrypted").says("say --yes");
    assert!(plain.archive().exists());
    shelf.tanker(&["rekey", "--all", "--yes"]).code(0).says(&old);
    assert!(!plain.archive().exists(), "what lay there in the clear is gone");
    shelf.tanker(&["show", "east@latest"]).code(0).says(&old).says("never takes it");
    shelf.tanker(&["verify", "--all", "--deep"]).code(0).says("every file in it");
    shelf.inventory(&inventory(&new));
    shelf.tanker(&["rekey", "--all", "--yes"]).code(0).says(&new);
    shelf.tanker(&["rekey", "--all", "--yes"]).code(0);
    fs::remove_file(shelf.path("old.txt")).unwrap();
    shelf.inventory(&inventory(&new).replace("'~/old.txt', ", ""));
    shelf.tanker(&["verify", "--all", "--deep"]).code(0).says("every file in it");
    assert_eq!(fs::read_dir(shelf.path("tanker/east")).unwrap().count(), 3, "the backup and two locks");
}

#[test]
fn i6_a_passphrase_comes_from_a_file_and_a_wrong_one_opens_nothing() {
    let shelf = Shelf::new("[hosts.east]\nencrypt_passphrase = 'file:~/passphrase'\n");
    private(&shelf.path("passphrase"), "correct horse\n");
    shelf.add(day(), Some(&Recipients::passphrase("correct horse")));
    shelf.tanker(&["verify", "--all", "--deep"]).code(0).says("every file in it");
    private(&shelf.path("passphrase"), "wrong horse\n");
    let wrong = shelf.tanker(&["files", "east@latest"]).code(3).says("the passphrase is another one");
    assert!(!wrong.stderr.contains("horse"));
    fs::remove_file(shelf.path("passphrase")).unwrap();
    shelf.tanker(&["files", "east@latest"]).code(2).says("can't be read");
}

#[test]
fn rekey_passes_over_what_the_new_passphrase_opens_already() {
    let shelf = Shelf::new("[hosts.east]\nencrypt_passphrase = 'file:~/passphrase'\n");
    private(&shelf.path("passphrase"), "correct horse\n");
    shelf.add(day(), None);
    shelf.tanker(&["rekey", "--all", "--yes"]).code(0).says("is encrypted to passphrase");
    let again = shelf.tanker(&["rekey", "--all", "--yes"]).code(0);
    assert!(again.stdout.is_empty(), "{}", again.stdout);
    private(&shelf.path("passphrase"), "another horse\n");
    shelf.tanker(&["rekey", "--all"]).code(0).says("east@2026-11-22-02_00  would be encrypted to passphrase");
}

#[test]
fn what_is_protected_or_unreadable_stays_so_when_it_is_encrypted_anew() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    shelf.inventory(&format!("[defaults]\nencrypt_to = ['{public}']\ndecrypt_with = ['~/key.txt']\n[hosts.east]\nkeep = {{ last = 1 }}\n"));
    let entries = shelf.days(2);
    fs::write(entries[0].folder.join("record.json"), "{").unwrap();
    shelf.tanker(&["rekey", "--all", "--yes"]).code(0);
    shelf.tanker(&["forget", "--yes"]).code(0).says("nothing is to be forgotten");
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 2);
}

#[test]
fn i6_what_a_killed_rekey_left_in_the_clear_goes_and_what_stays_in_the_trash_is_said() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    shelf.inventory(&format!("[defaults]\nencrypt_to = ['{public}']\ndecrypt_with = ['~/key.txt']\n[hosts.east]\nkeep = {{ last = 1 }}\n"));
    shelf.days(2);
    shelf.tanker(&["forget", "--yes"]).code(0).says("1 moved into the trash");
    shelf.tanker(&["rekey", "--all", "--yes"]).code(0).says("backups of east in the trash that stay as they are: 1");
    let (plain, goes_on) = (shelf.path("tanker/east/2026-11-22-02_00.partial"), shelf.path("tanker/east/2026-11-20-02_00.partial"));
    for verb in [&["rekey", "--all", "--yes"][..], &["forget", "--yes"]] {
        for (folder, file) in [(&plain, "a.tar.lrz"), (&goes_on, "copying.json")] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(file), "in the clear").unwrap();
        }
        shelf.tanker(verb).code(0);
        assert!(!plain.exists() && goes_on.exists(), "{verb:?}");
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn i2_an_encrypted_archive_that_was_cut_off_goes_on_with_the_key_that_was_kept_and_begins_anew_without() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    let to = Recipients::parse(&[public], "test").unwrap();
    let library = Library::at(shelf.path("tanker"));
    let (host, id, name) = ("east".parse().unwrap(), "2026-11-27-15_00".parse().unwrap(), "fuel_backup_x.tar.lrz");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    let lock = || library.lock(&host, "test").unwrap();
    let arrival = Arrival { name, bytes: 0, note: Some(b"note"), to: Some(&to) };
    let folder = shelf.path("tanker/east/2026-11-27-15_00.partial");
    let came = folder.join(format!("{name}.age"));
    let aside = folder.join(format!("{name}.age.before"));

    let mut writer = library.begin(lock(), &host, &id, &arrival).unwrap();
    writer.keep();
    writer.write(&bytes[..2_000_000]).unwrap();
    let first = ResumeKey::parse(&writer.key().unwrap().to_text()).unwrap();
    drop(writer);
    // As a power cut leaves it.
    let length = fs::metadata(&came).unwrap().len();
    fs::OpenOptions::new().write(true).open(&came).unwrap().set_len(length - 100_000).unwrap();

    let reopen = |key| library.reopen(lock(), &host, &id, name, Some((&to, key))).unwrap();
    let writer = reopen(Some(&first));
    let have = writer.bytes();
    assert!(have > 1_700_000 && have < 2_000_000 && have % 65536 == 0, "{have}");
    assert!(aside.exists(), "what it goes on from stays until the new key is kept");
    let second = writer.key().unwrap().to_text();
    assert!(second != first.to_text(), "no key writes twice");
    drop(writer);

    // Killed before the new key was kept, and after: both times it goes on.
    let mut writer = reopen(Some(&first));
    assert_eq!(writer.bytes(), have);
    let third = ResumeKey::parse(&writer.key().unwrap().to_text()).unwrap();
    writer.write(&bytes[usize::try_from(have).unwrap()..2_500_000]).unwrap();
    drop(writer);
    let mut writer = reopen(Some(&third));
    let have = writer.bytes();
    assert!(have > 2_400_000, "{have}");
    writer.is_kept().unwrap();
    assert!(!aside.exists());
    writer.write(&bytes[usize::try_from(have).unwrap()..]).unwrap();
    let key = shelf.path("key.txt").display().to_string();
    let received = writer.finish().unwrap();
    let opened = Command::new("age").args(["-d", "-i", &key]).arg(&received.archive).output().unwrap();
    assert!(opened.status.success() && opened.stdout == bytes);
    drop(received);

    // Another file's key opens nothing, and neither does what is none.
    let writer = reopen(Some(&first));
    assert_eq!((writer.bytes(), aside.exists()), (0, false));
    drop(writer);
    assert_eq!(reopen(None).bytes(), 0);
    assert!(["", "xyz", &"0".repeat(31), &"g".repeat(32), &"é".repeat(16)].iter().all(|text| ResumeKey::parse(text).is_none()));
}

#[test]
fn i2_an_encrypted_archive_is_patched_by_writing_it_again_and_what_it_is_made_from_stays_until_it_is_listed() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    let to = Recipients::parse(&[public], "test").unwrap();
    let library = Library::at(shelf.path("tanker"));
    let (host, id, name) = ("east".parse().unwrap(), "2026-11-27-15_00".parse().unwrap(), "fuel_backup_x.tar.lrz");
    let lock = || library.lock(&host, "test").unwrap();
    let arrival = Arrival { name, bytes: 0, note: Some(b"note"), to: Some(&to) };
    let folder = shelf.path("tanker/east/2026-11-27-15_00.partial");
    let (came, aside) = (folder.join(format!("{name}.age")), folder.join(format!("{name}.age.before")));
    let block = 4 << 20;
    let before: Vec<u8> = (0..10_000_000_u32).map(|n| (n / 7) as u8).collect();
    let mut after = before.clone();
    after[..24].fill(b'x');
    after[2 * block..2 * block + 9].fill(b'y');
    let patch = |index| match index {
        0 => Ok(Some(after[..block].to_vec())),
        2 => Ok(Some(after[2 * block..].to_vec())),
        _ => Ok(None),
    };

    let mut writer = library.begin(lock(), &host, &id, &arrival).unwrap();
    writer.keep();
    writer.write(&before).unwrap();
    let first = ResumeKey::parse(&writer.key().unwrap().to_text()).unwrap();

    // Cut off in the middle, it is gone on with from what there was.
    let cut = |index| if index == 1 { Err(LibraryError::Missing("cut".into())) } else { patch(index) };
    assert_eq!(writer.again(&to, cut).err().unwrap().to_string(), "cut");
    assert!(!came.exists() && aside.exists());
    let writer = library.reopen(lock(), &host, &id, name, Some((&to, Some(&first)))).unwrap();
    assert_eq!(writer.bytes(), before.len() as u64);
    let second = ResumeKey::parse(&writer.key().unwrap().to_text()).unwrap();
    writer.is_kept().unwrap();

    let wrong = |_| Ok(Some(vec![0]));
    assert!(writer.again(&to, wrong).err().unwrap().to_string().contains("another size"));
    let writer = library.reopen(lock(), &host, &id, name, Some((&to, Some(&second)))).unwrap();
    let received = writer.again(&to, patch).unwrap().finish().unwrap();
    assert!(aside.exists());
    let key = shelf.path("key.txt").display().to_string();
    let opened = Command::new("age").args(["-d", "-i", &key]).arg(&received.archive).output().unwrap();
    assert!(opened.status.success() && opened.stdout == after);
    let sum: String = sha2::Sha256::digest(&after).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(received.sha256, sum);
}
