//! Looking after the library through the program: marks, retention, trash, verification, encryption.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chrono::{DateTime, Duration, TimeZone, Utc};
use tanker::library::{Keys, Library, Recipients};
use tempfile::TempDir;

use crate::library::{add_backup, add_bytes};

/// A home folder with an inventory and a library.
pub(crate) struct Shelf {
    pub(crate) home: TempDir,
}

pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Self {
        assert!(self.stdout.contains(what) || self.stderr.contains(what), "'{what}' is not in:\n{}\n{}", self.stdout, self.stderr);
        self
    }
}

impl Shelf {
    pub(crate) fn new(inventory: &str) -> Self {
        let shelf = Self { home: tempfile::tempdir().unwrap() };
        shelf.inventory(inventory);
        shelf
    }

    pub(crate) fn inventory(&self, text: &str) {
        fs::write(self.path("inventory.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn library(&self) -> Library {
        Library::at(self.path("tanker"))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tanker"));
        command.args(args).current_dir(self.home.path()).env("HOME", self.home.path()).env_remove("TANKER_INVENTORY");
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        command
    }

    pub(crate) fn tanker(&self, args: &[&str]) -> Ran {
        self.tanker_with(&[], args)
    }

    /// With more of an environment.
    pub(crate) fn tanker_with(&self, environment: &[(&str, String)], args: &[&str]) -> Ran {
        let ran = Ran::of(&self.command(args).envs(environment.iter().map(|(k, v)| (*k, v.as_str()))).output().unwrap());
        crate::schema::hold(args, &ran.stdout);
        ran
    }

    pub(crate) fn add(&self, started: DateTime<Utc>, to: Option<&Recipients>) -> tanker::library::Entry {
        let work = tempfile::tempdir().unwrap();
        add_backup(&self.library(), work.path(), started, to)
    }

    /// Backups of the last so many days, at 02:00, the last one on 2026-11-22.
    pub(crate) fn days(&self, count: i64) -> Vec<tanker::library::Entry> {
        (0..count).rev().map(|n| self.add(day() - Duration::days(n), None)).collect()
    }

    pub(crate) fn keygen(&self, name: &str) -> String {
        let output = Command::new("age-keygen").arg("-o").arg(self.path(name)).output().unwrap();
        assert!(output.status.success());
        let text = fs::read_to_string(self.path(name)).unwrap();
        text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned()
    }
}

pub(crate) fn day() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 22, 2, 0, 0).unwrap()
}

#[test]
fn i2_a_thousand_flipped_bits_are_each_found() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    let plain = shelf.add(day(), None);
    let sealed = shelf.add(day() + Duration::seconds(1), Some(&Recipients::parse(&[public], "test").unwrap()));
    let mut keys = Keys::default();
    keys.add_file(&shelf.path("key.txt"), &mut |_| None).unwrap();
    for id in ["east@2026-11-22-02_00", "east@2026-11-22-02_01"] {
        shelf.tanker(&["--library", "tanker", "protect", id]).code(0);
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in [&plain, &sealed] {
        files.extend(fs::read_dir(&entry.folder).unwrap().map(|file| file.unwrap().path()));
    }
    assert_eq!(files.len(), 4 + 5, "{files:?}");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let library = shelf.library();
    let found = |keys: &Keys| {
        let (entries, problems) = library.list(None).unwrap();
        let whole =
            |entry: &tanker::library::Entry| tanker::library::verify(entry, keys, tanker::library::Depth::Hashed, &mut |_| {}).is_ok();
        problems.len() + entries.iter().filter(|entry| !whole(entry) || entry.unreadable_record.is_some()).count()
    };
    assert_eq!(found(&keys), 0);
    for n in 0..1000 {
        // The small ones as often as the large ones.
        let file = &files[n % files.len()];
        let mut bytes = fs::read(file).unwrap();
        let (at, bit) = (random(bytes.len()), random(8));
        bytes[at] ^= 1 << bit;
        fs::write(file, &bytes).unwrap();
        assert_eq!(found(&keys), 1, "bit {bit} of byte {at} of {}", file.display());
        bytes[at] ^= 1 << bit;
        fs::write(file, &bytes).unwrap();
    }
    assert_eq!(found(&keys), 0);
}

#[test]
fn diff_and_stats_tell_what_is_there_and_what_changed() {
    let shelf = Shelf::new("");
    shelf.days(2);
    let same = shelf.tanker(&["--library", "tanker", "diff", "east@2026-11-21", "east@latest"]).code(0);
    assert!(same.stdout.contains("0 files added, ") && same.stdout.contains(" 0 gone"), "{}", same.stdout);
    shelf.tanker(&["--library", "tanker", "diff", "east@2026-11-21", "east@latest", "--json"]).code(0).says("\"gone\": []");
    shelf.tanker(&["--library", "tanker", "stats"]).code(0).says("east").says("2");
    shelf.tanker(&["--library", "tanker", "stats", "--json"]).code(0).says("\"backups\": 2");
    shelf.tanker(&["--library", "tanker", "show", "east@2026-11"]).code(3).says("names 2 backups");
    shelf.tanker(&["--library", "tanker", "show", "eats@latest"]).code(3).says("did you mean 'east'?");
}

#[test]
fn a_sample_takes_what_was_looked_at_longest_ago_and_the_record_remembers() {
    let shelf = Shelf::new("");
    shelf.days(4);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let ran = shelf.tanker(&["--library", "tanker", "verify", "--sample", "20%"]).code(0);
        assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
        seen.push(ran.stdout);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "each one had its turn");
    shelf.tanker(&["--library", "tanker", "show", "east@latest"]).code(0).says("hashed: whole");
    shelf.tanker(&["--library", "tanker", "verify", "--sample", "0%"]).code(2);
    // Whoever looks at all of them every night has not looked deep.
    let mut seen = Vec::new();
    for _ in 0..4 {
        shelf.tanker(&["--library", "tanker", "verify", "--all", "--jobs", "3"]).code(0);
        seen.push(shelf.tanker(&["--library", "tanker", "verify", "--sample", "20%", "--deep"]).code(0).stdout);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "each one had its turn");
}

#[test]
fn what_the_defaults_say_counts_for_hosts_of_the_library_that_the_inventory_no_longer_names() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    let retired = |more: &str| shelf.inventory(&format!("[defaults]\nkeep = {{ last = 1 }}\n{more}[hosts.west]\n"));
    retired("");
    shelf.days(2);
    shelf.tanker(&["rekey", "--all"]).code(0).says("has no 'encrypt_to' for it");
    retired(&format!("encrypt_to = ['{public}']\ndecrypt_with = ['~/key.txt']\n"));
    shelf.tanker(&["rekey", "--all", "--yes"]).code(0).says("is encrypted to");
    shelf.tanker(&["forget"]).code(0).says("1 would go");
    retired("trash_days = 0\n");
    shelf.tanker(&["forget", "--yes"]).code(0);
    let trash = shelf.tanker(&["list", "--trash"]).code(0);
    assert!(!trash.stdout.contains("east@"), "{}", trash.stdout);
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 1);
}

#[test]
fn what_is_wrong_with_one_hosts_backups_is_no_matter_of_anothers() {
    let shelf = Shelf::new("[hosts.east]\n[hosts.west]\naddress = '10.0.0.2'\n");
    shelf.days(1);
    fs::create_dir_all(shelf.path("tanker/west/2026-01-01-00_00")).unwrap();
    for verb in ["list", "stats", "report"] {
        let code = shelf.tanker(&[verb, "east"]).code;
        assert!(code != Some(5), "{verb}: {code:?}");
        shelf.tanker(&[verb, "west"]).code(5).says("west@2026-01-01-00_00");
    }
    // Nor does a pattern need a host to be in the inventory, or to have a whole backup.
    shelf.inventory("[hosts.east]\n");
    let ran = shelf.tanker(&["report", "all", "!west"]);
    assert!(ran.code != Some(2) && !ran.stdout.lines().any(|line| line.starts_with("west")), "{}\n{}", ran.stdout, ran.stderr);
    shelf.tanker(&["report", "west"]).code(5).says("west@2026-01-01-00_00");
}

#[test]
fn an_unreadable_record_hides_nothing_and_counts_as_protected() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 1 }\n");
    let entries = shelf.days(2);
    fs::write(entries[0].folder.join("record.json"), "{").unwrap();
    shelf.tanker(&["list"]).code(0).says("east@2026-11-21-02_00").says("as if it were protected");
    shelf.tanker(&["forget", "--yes"]).code(0).says("protected");
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 2);
    let verified = shelf.tanker(&["verify", "--all"]).code(5).says("east@2026-11-21-02_00  DAMAGED  its record.json can't be read");
    assert_eq!(verified.stdout.matches("  ok  ").count(), 2, "{}", verified.stdout);
    let json: serde_json::Value = serde_json::from_str(&shelf.tanker(&["verify", "--all", "--json"]).code(5).stdout).unwrap();
    assert_eq!(json["problems"][0]["name"], "east@2026-11-21-02_00");
    shelf.tanker(&["tag", "east@2026-11-21", "--add", "x"]).code(3).says("'tanker protect --renew' begins it anew");
    let asked = shelf.tanker(&["protect", "--renew", "east@2026-11-21"]).code(3);
    assert!(asked.stderr.contains("begun anew") && asked.stderr.contains("  {\n"), "{}", asked.stderr);
    assert_eq!(fs::read_to_string(entries[0].folder.join("record.json")).unwrap(), "{");
    shelf.tanker(&["protect", "--renew", "--yes", "east@2026-11-21"]).code(0);
    shelf.tanker(&["unprotect", "east@2026-11-21"]).code(0);
    shelf.tanker(&["forget", "--yes"]).code(0).says("1 moved");
}

#[test]
fn libraries_of_earlier_formats_are_read() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for format in ["format-1", "format-2"] {
        // Copied: verifying writes into the record.
        let shelf = Shelf::new("");
        let copied = Command::new("cp").arg("-r").arg(fixtures.join(format)).arg(shelf.path("tanker")).status().unwrap();
        assert!(copied.success());
        let key = fixtures.join("format-2/key.txt").display().to_string();
        let tanker = |args: &[&str]| shelf.tanker(&[&["--library", "tanker", "--key", &key], args].concat());
        tanker(&["list"]).code(0).says("east@2026-11-22-14_07");
        tanker(&["verify", "--all", "--deep"]).code(0).says("every file in it");
        tanker(&["files", "east@latest"]).code(0).says("/etc/fuel/astute.yaml");
        if format == "format-2" {
            tanker(&["list", "--tag", "first"]).code(0).says("protected");
        }
    }
}

#[test]
fn i3_a_glance_doesnt_clear_what_a_closer_look_found() {
    let shelf = Shelf::new("[hosts.east]\nkeep = { last = 1 }\n");
    let entries = shelf.days(2);
    // Whole by its digests, and not what its manifest says inside.
    let folder = &entries[1].folder;
    let text = fs::read_to_string(folder.join("manifest.json")).unwrap();
    fs::write(folder.join("manifest.json"), text.replace("\"uuid\": \"\"", "\"uuid\": \"another\"")).unwrap();
    let sums = "sha256sum *.lrz manifest.json > SHA256SUMS";
    assert!(Command::new("sh").args(["-c", sums]).current_dir(folder).status().unwrap().success());
    shelf.tanker(&["verify", "--all", "--deep"]).code(5).says("doesn't belong to it");
    shelf.tanker(&["verify", "--all"]).code(0);
    shelf.tanker(&["list"]).code(0).says("DAMAGED");
    shelf.tanker(&["forget", "--yes"]).code(0);
    assert_eq!(shelf.library().list(None).unwrap().0[0].manifest, entries[0].manifest);
}

/// A bit of its archive rots, which nobody has noticed yet.
pub(crate) fn rot(entry: &tanker::library::Entry) {
    let mut bytes = fs::read(entry.archive()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(entry.archive(), bytes).unwrap();
}

#[test]
fn a_misspelt_backup_is_answered_with_what_there_is() {
    let shelf = Shelf::new("[hosts.east]\n");
    shelf.days(1);
    shelf.tanker(&["show", "eats@2026-11-22-02_00"]).code(3).says("did you mean 'east'?");
    shelf.tanker(&["show", "east@2026-11-22-02_01"]).code(3).says("did you mean east@2026-11-22-02_00?");
    shelf.tanker(&["show", "east@2025-01-01-13_13"]).code(3).says("'tanker list east' shows the 1 there are");
    shelf.inventory(&format!("[remotes.disk]\nurl = 'file://{}'\n[hosts.east]\n", shelf.path("disk").display()));
    fs::create_dir(shelf.path("disk")).unwrap();
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0);
    shelf.tanker(&["copy", "eats@latest", "--from", "disk"]).code(3).says("did you mean 'east'?");
    shelf.tanker(&["copy", "east@2026-11-22-02_01", "--from", "disk"]).code(3).says("did you mean east@2026-11-22-02_00?");
}

#[test]
fn i2_a_plain_backup_in_an_encrypted_ones_place_is_named_and_refused_where_that_is_known() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    shelf.inventory(&format!("[hosts.east]\nencrypt_to = ['{public}']\n"));
    let sealed = shelf.add(day(), Some(&Recipients::parse(&[public], "test").unwrap()));
    let quiet = shelf.tanker(&["verify", "--all"]).code(0);
    assert!(!quiet.stderr.contains("not encrypted"), "{}", quiet.stderr);
    // Whoever can write to the library puts another archive there, whole and with all that belongs to it.
    let (other, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plain = add_backup(&Library::at(other.path().to_owned()), work.path(), day(), None);
    for old in [sealed.archive(), sealed.folder.join("seal")] {
        fs::remove_file(old).unwrap();
    }
    for file in fs::read_dir(&plain.folder).unwrap().flatten() {
        fs::copy(file.path(), sealed.folder.join(file.file_name())).unwrap();
    }
    shelf.tanker(&["list"]).code(0).says("east: not encrypted though the inventory says so: 2026-11-22-02_00");
    let found = shelf.tanker(&["verify", "--all"]).code(5).says("not encrypted though the inventory says so");
    found.says("it was encrypted when it was looked at before");
    // Where nobody has seen the other one that is all that can be said.
    fs::remove_file(sealed.folder.join("record.json")).unwrap();
    shelf.tanker(&["verify", "--all"]).code(0).says("not encrypted though the inventory says so: 2026-11-22-02_00");
}

#[test]
fn backups_are_listed_by_their_time_which_ids_dont_tell() {
    let shelf = Shelf::new("[hosts.east]\n");
    let at = |minute, second| Utc.with_ymd_and_hms(2026, 11, 22, 14, minute, second).unwrap();
    for (minute, second) in [(33, 7), (20, 50), (59, 3)] {
        add_bytes(&shelf.library(), at(minute, second), 64);
    }
    let listed = shelf.tanker(&["list"]).code(0).stdout;
    let ids: Vec<&str> = listed.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(ids, ["east@2026-11-22-14_50", "east@2026-11-22-14_07", "east@2026-11-22-14_03"]);
    shelf.tanker(&["show", "east@latest"]).code(0).says("east@2026-11-22-14_03");
}

#[test]
fn the_page_says_of_freeze_and_proof_what_the_list_says() {
    let shelf = Shelf::new("[hosts.east]\n");
    let mut entry = shelf.add(day(), None);
    let check = |depth: &str| tanker::model::record::Check { at: Utc::now(), depth: depth.into(), damage: None, encrypted: false };
    entry.update(false, |record| ["deep", "hashed"].iter().for_each(|depth| record.add_check(check(depth)))).unwrap();
    let path = entry.folder.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"method\": \"pause\""));
    fs::write(&path, text.replace("\"method\": \"pause\"", "\"method\": \"none\"").replace("\"milliseconds\": 900", "\"milliseconds\": 0"))
        .unwrap();
    shelf.tanker(&["list"]).code(0).says(" none ").says("deep (just now)");
    shelf.tanker(&["report", "--html", "page.html"]);
    let page = fs::read_to_string(shelf.path("page.html")).unwrap();
    assert!(page.contains("<td>none</td>") && page.contains("deep just now"), "{page}");
}

#[test]
fn files_from_the_future_come_out_without_a_word_too_many() {
    let shelf = Shelf::new("");
    let work = tempfile::tempdir().unwrap();
    let many = "mkdir -p tree/etc/fuel/many && cd tree/etc/fuel/many && for i in $(seq 2000); do : > file-with-a-long-name-$i; done && touch -d 2040-01-01 *";
    assert!(Command::new("sh").args(["-c", many]).current_dir(work.path()).status().unwrap().success());
    add_backup(&shelf.library(), work.path(), day(), None);
    let out = shelf.path("out").display().to_string();
    let mut child = shelf.command(&["--library", "tanker", "extract", "east@latest", "/etc/fuel", "--to", &out]).spawn().unwrap();
    let began = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed().as_secs() < 60, "it waits for ever");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(fs::read_dir(shelf.path("out/etc/fuel/many")).unwrap().count(), 2000);
}

#[test]
fn i8_a_manifest_from_elsewhere_puts_nothing_on_the_terminal_and_leads_nowhere() {
    let shelf = Shelf::new("");
    let entry = shelf.add(day(), None);
    let path = entry.folder.join("manifest.json");
    let good = fs::read_to_string(&path).unwrap();
    for (old, new) in [
        ("\"stock_id\": \"2026-11-22_0200\"", "\"stock_id\": \"../../x\""),
        ("\"stock_id\": \"2026-11-22_0200\"", "\"stock_id\": \"2026-11-22_0200\\u001b[2J\""),
        ("\"/etc/fuel\"", "\"/etc/../root\""),
        ("\"name\": \"tanker.json\"", "\"name\": \"a b\""),
    ] {
        assert!(good.contains(old), "{old}");
        fs::write(&path, good.replace(old, new)).unwrap();
        let listed = shelf.tanker(&["--library", "tanker", "list"]).code(5);
        assert!(!listed.stderr.contains('\u{1b}'), "{}", listed.stderr);
    }
    fs::write(&path, good.replace("\"hostname\": \"east\"", "\"hostname\": \"\\u001b]0;owned\\u0007\"")).unwrap();
    let shown = shelf.tanker(&["--library", "tanker", "show", "east@latest"]).code(0);
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.stdout);
}
