//! What goes wrong around a library and an inventory, met at three in the morning: each is said for what it is, and hides nothing else.

use std::fs;

use tanker::library::Recipients;

use crate::upkeep::{Ran, Shelf, day};

#[test]
fn i2_to_look_deep_without_the_key_is_no_success() {
    let shelf = Shelf::new("[hosts.east]\n");
    let public = shelf.keygen("key.txt");
    shelf.add(day(), Some(&Recipients::parse(&[public], "test").unwrap()));
    shelf.tanker(&["verify", "east@latest"]).code(0).says("no key here opens it");
    shelf.tanker(&["verify", "--all", "--deep"]).code(3).says("east@2026-11-22-02_00 was held from outside only: no key here opens it");
    shelf.inventory("[defaults]\ndecrypt_with = ['~/key.txt']\n[hosts.east]\n");
    shelf.tanker(&["verify", "--all", "--deep"]).code(0).says("every file in it");
    // An inventory that would say which key it is, and can't be read, is not passed over.
    shelf.inventory("[defaults]\ndecrypt_with = ['~/key.txt']\nlibary = '/x'\n");
    shelf.tanker(&["--library", "tanker", "verify", "--all", "--deep"]).code(2).says("unknown key 'libary' (did you mean 'library'?)");
    shelf.tanker(&["--library", "tanker", "list"]).code(0).says("inventory.toml:3: unknown key 'libary'").says("going on without it");
    fs::remove_file(shelf.path("inventory.toml")).unwrap();
    let out = shelf.path("out").display().to_string();
    shelf.tanker(&["--library", "tanker", "export", "east@latest", "--to", &out]).code(3).says("encrypted to");
    assert!(!shelf.path("out").exists());
}

#[test]
fn a_library_that_is_not_there_or_can_not_be_read_is_said_and_hides_no_other() {
    let shelf = Shelf::new("");
    let (nowhere, file) = (shelf.path("nowhere"), shelf.path("afile"));
    shelf.inventory(&format!("[defaults]\nlibrary = '{}'\n[hosts.east]\n", nowhere.display()));
    for verb in [&["list"][..], &["stats"], &["forget"], &["report"]] {
        shelf.tanker(verb).says(&format!("there is no {} yet", nowhere.display())).says("is that mounted?");
    }
    shelf.tanker(&["config", "check"]).code(0).says("is not there yet");
    shelf.days(2);
    fs::write(&file, "").unwrap();
    shelf.inventory(&format!("[hosts.east]\n[hosts.west]\nlibrary = '{}'\n", file.display()));
    let listed = shelf.tanker(&["list"]).code(5).says("afile can't be read");
    assert!(listed.stdout.contains("east@2026-11-21-02_00"), "{}", listed.stdout);
    shelf.tanker(&["config", "check"]).code(2).says("west: the library").says("is no folder");
    shelf.tanker(&["report"]).code(5).says("a library: ").says("afile can't be read");
    // What must not pass over it doesn't.
    shelf.tanker(&["rekey", "--all", "--yes"]).code(2).says("afile can't be read");
}

#[test]
fn what_is_taken_out_overwrites_nothing_and_what_is_damaged_is_called_so() {
    let shelf = Shelf::new("[hosts.east]\n");
    let entry = shelf.add(day(), None);
    let extract = |path: &str| shelf.tanker(&["extract", "east@latest", path, "--to", "out"]);
    for refused in ["nope", "../../etc/passwd", ""] {
        extract(refused).code(3);
        assert!(!shelf.path("out").exists(), "'{refused}' leaves a folder behind");
    }
    extract("etc/fuel/astute.yaml").code(0);
    fs::write(shelf.path("out/etc/fuel/astute.yaml"), "mine").unwrap();
    extract("etc/fuel/astute.yaml").code(3).says("out/etc/fuel/astute.yaml is there already");
    assert_eq!(fs::read_to_string(shelf.path("out/etc/fuel/astute.yaml")).unwrap(), "mine");
    let mut bytes = fs::read(entry.archive()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(entry.archive(), bytes).unwrap();
    shelf.tanker(&["extract", "east@latest", "etc", "--to", "other"]).code(5).says("east@2026-11-22-02_00 is damaged");
    assert!(!shelf.path("other").exists() || fs::read_dir(shelf.path("other")).unwrap().next().is_some());
}

#[test]
fn a_backup_of_a_later_tanker_is_not_called_damaged() {
    let shelf = Shelf::new("[hosts.east]\n");
    let manifest = shelf.add(day(), None).folder.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let newer = text.replacen("\"format\": 2", "\"format\": 9", 1).replacen("\"format\": 1", "\"format\": 9", 1);
    assert_ne!(newer, text);
    fs::write(&manifest, newer).unwrap();
    for verb in [&["list"][..], &["verify", "--all"], &["show", "east@latest"]] {
        let ran = shelf.tanker(verb).code(3).says("a newer one is needed");
        assert!(!ran.stdout.contains("DAMAGED") && !ran.stderr.contains("damaged"), "{}{}", ran.stdout, ran.stderr);
    }
    let document = shelf.tanker(&["verify", "--all", "--json"]).code(3).stdout;
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["problems"][0]["name"], "east@2026-11-22-02_00");
}

#[test]
fn what_could_not_be_forgotten_is_not_passed_over() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 1 }\n");
    shelf.days(3);
    // In the way of the trash.
    fs::write(shelf.path("tanker/east/.trash"), "").unwrap();
    let ran = shelf.tanker(&["forget", "--yes"]);
    assert!(ran.code != Some(0) && !ran.stdout.contains("nothing is to be forgotten"), "{:?} {}{}", ran.code, ran.stdout, ran.stderr);
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 3);
}

#[test]
fn what_is_named_wrong_is_refused_before_anything_is_done() {
    let shelf = Shelf::new("[hosts.east]\naddress = '127.0.0.1'\nport = 1\n[remotes.vault]\nurl = 'file:///REMOTE'\n");
    fs::create_dir(shelf.path("remote")).unwrap();
    let inventory = fs::read_to_string(shelf.path("inventory.toml")).unwrap();
    shelf.inventory(&inventory.replace("/REMOTE", &shelf.path("remote").display().to_string()));
    shelf.tanker(&["import", "/nope.tar.lrz", "--host", "old"]).code(3).says("/nope.tar.lrz can't be read");
    shelf.tanker(&["import", "/tmp", "--host", "old"]).code(3).says("is no file");
    shelf.tanker(&["trust", "all"]).code(2).says("name one");
    shelf.tanker(&["copy", "east", "--from", "vault"]).code(3).says("the remote vault has no backup of east");
    shelf.tanker(&["check", "--serial", "0"]).code(2).says("one host at least");
    for (hosts, said) in [(&["h:2222", "h:2223"][..], "'h' is named twice"), (&["a\"b"], "is no host")] {
        let args = [&["init", "--to", "new.toml"][..], hosts].concat();
        shelf.tanker(&args).code(2).says(said);
        assert!(!shelf.path("new.toml").exists());
    }
    shelf.tanker(&["--library", "sftp://b@vault/t", "init", "x", "--to", "far.toml"]).code(0);
    assert!(fs::read_to_string(shelf.path("far.toml")).unwrap().contains("library = \"sftp://b@vault/t\""));
    shelf.tanker(&["--library", "else", "init", "x", "--to", "new.toml"]).code(0);
    assert!(fs::read_to_string(shelf.path("new.toml")).unwrap().contains(&format!("library = \"{}\"", shelf.path("else").display())));
    shelf.days(1);
    let undelete = shelf.tanker(&["undelete", "east@latest"]).code(3);
    assert!(!undelete.stderr.contains("did you mean"), "{}", undelete.stderr);
}

#[test]
fn i5_a_host_whose_encryption_is_wrong_keeps_no_other_from_its_backup() {
    let host = |name: &str, more: &str| format!("[hosts.{name}]\naddress = '127.0.0.{}'\nport = 1\n{more}", name.len());
    let shelf = Shelf::new(&(host("a", "encrypt_to = ['~/nope.txt']\n") + &host("bb", "")));
    let ran = shelf.tanker(&["backup"]);
    assert_eq!(ran.code, Some(4), "{}{}", ran.stdout, ran.stderr);
    let ran = ran.says("nope.txt can't be read").says("bb  unreachable");
    assert!(ran.stdout.lines().any(|line| line.starts_with("a ") && line.contains("refused")), "{}", ran.stdout);
    // I6: nor is what was begun encrypted gone on with in the clear.
    let ran = shelf.tanker(&["backup", "--resume"]).code(3);
    assert!(ran.stdout.lines().any(|line| line.starts_with("a ") && line.contains("nope.txt can't be read")), "{}", ran.stdout);
    shelf.tanker(&["backup", "a"]).code(2).says("a: the recipients in ");
    shelf.tanker(&["config", "check"]).code(2).says("a: the recipients in ").says("No such file");
}

#[test]
fn a_service_without_an_environment_writes_nothing_where_it_stands() {
    let shelf = Shelf::new("[hosts.east]\naddress = '127.0.0.1'\nport = 1\n");
    let inventory = shelf.path("inventory.toml").display().to_string();
    let stands = shelf.path("stands");
    fs::create_dir(&stands).unwrap();
    let mut command = shelf.command(&["-i", &inventory, "list"]);
    command.env_remove("HOME").current_dir(&stands);
    let ran = Ran::of(&command.output().unwrap());
    assert!([Some(0), Some(5)].contains(&ran.code), "{}", ran.stderr);
    let mut command = shelf.command(&["-i", &inventory, "check"]);
    command.env("XDG_STATE_HOME", "").env("XDG_CONFIG_HOME", "").current_dir(&stands);
    Ran::of(&command.output().unwrap()).code(4);
    assert_eq!(fs::read_dir(&stands).unwrap().count(), 0);
    assert!(shelf.path(".local/state/tanker").is_dir());
}
