//! The library through its public interface, with real archives that lrzip packs here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use sha2::{Digest, Sha256};
use tanker::library::{
    Arrival, Depth, Entry, Keys, Library, LibraryError, Received, Recipients, Source, Verified, export, extract, list_files, walk,
};
use tanker::model::id::{BackupId, HostName, stock_id};
use tanker::model::manifest::{Description, Freeze, FreezeMethod, Manifest, Member, Proof, ProofPlace, TaskRecord, archive_name};

/// As deep as a restore looks.
fn verify(entry: &Entry) -> Result<Verified, LibraryError> {
    tanker::library::verify(entry, &Keys::default(), Depth::Decompressed, &mut |_| {})
}

fn source(entry: &Entry) -> Source {
    Source::of(entry, &Keys::default()).unwrap()
}

fn arrival<'a>(name: &'a str, bytes: u64, note: Option<&'a [u8]>) -> Arrival<'a> {
    Arrival { name, bytes, note, to: None }
}

fn host() -> HostName {
    "east".parse().unwrap()
}

fn description(started: DateTime<Utc>) -> Description {
    Description {
        host: host(),
        id: BackupId::at(started, |_| false),
        stock_id: stock_id(started),
        started,
        tanker: "test".into(),
        release: "5.1".parse().unwrap(),
        hostname: "east".into(),
        uuid: String::new(),
        docker_version: "1.4.1".into(),
        containers: vec![],
        directories: vec!["/etc/fuel".into()],
        volumes: vec![],
        network: vec![],
        contents: tanker::model::manifest::Contents::Full,
        origin: tanker::model::manifest::Origin::Tanker,
    }
}

/// A real archive: a tree that is packed with tar and lrzip, with a deletion list as a frozen pass leaves one.
fn pack(folder: &Path, about: &Description) -> Vec<u8> {
    let tree = folder.join("tree/etc/fuel");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("astute.yaml"), "HOSTNAME: east\n").unwrap();
    fs::write(tree.join("gone"), "deleted between the passes").unwrap();
    fs::write(tree.join("a:b"), "a path that looks like a service's").unwrap();
    fs::write(tree.join("noise"), (0..900_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    fs::write(folder.join("tanker.json"), serde_json::to_vec_pretty(about).unwrap()).unwrap();
    fs::write(folder.join("system-dirs.tar.deleted"), b"etc/fuel/gone\0").unwrap();
    let script = "truncate -s 8M tree/etc/fuel/holes && echo end >> tree/etc/fuel/holes && tar -C tree --format=posix --sparse -cf system-dirs.tar etc && tar -cf a.tar tanker.json system-dirs.tar system-dirs.tar.deleted && rm -f a.lrz && lrzip -q -L 2 -o a.lrz a.tar";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(folder.join("a.lrz")).unwrap()
}

/// A library with one backup in it.
fn library_with_a_backup(folder: &Path) -> (Library, Entry) {
    let library = Library::at(folder.join("library"));
    let started = Utc.with_ymd_and_hms(2026, 11, 22, 14, 33, 7).unwrap();
    let entry = add_backup(&library, folder, started, None);
    (library, entry)
}

/// Adds a real backup to a library; `folder` is where it is packed.
pub(crate) fn add_backup(library: &Library, folder: &Path, started: DateTime<Utc>, to: Option<&Recipients>) -> Entry {
    add_described(library, folder, description(started), to)
}

/// The same of a master that is described otherwise.
fn add_described(library: &Library, folder: &Path, about: Description, to: Option<&Recipients>) -> Entry {
    let bytes = pack(folder, &about);
    fs::write(folder.join("probe.lrz"), &bytes).unwrap();
    let members = walk(Source::file(&folder.join("probe.lrz"))).unwrap().members;
    let file = archive_name(&about.stock_id);
    let lock = library.lock(&host(), "a test").unwrap();
    let mut writer = library.begin(lock, &host(), &about.id, &Arrival { name: &file, bytes: bytes.len() as u64, note: None, to }).unwrap();
    bytes.chunks(100_000).for_each(|chunk| writer.write(chunk).unwrap());
    let received = writer.finish().unwrap();
    assert_eq!(received.sha256, Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect::<String>());
    commit(received, about, &file, members)
}

/// Adds a backup whose archive is only bytes, for what doesn't look into it.
pub(crate) fn add_bytes(library: &Library, started: DateTime<Utc>, bytes: u64) -> Entry {
    let about = description(started);
    let file = archive_name(&about.stock_id);
    let lock = library.lock(&host(), "a test").unwrap();
    let mut writer = library.begin(lock, &host(), &about.id, &arrival(&file, bytes, None)).unwrap();
    let mut state = 7_u64;
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        writer.write(&state.to_le_bytes()).unwrap();
    }
    commit(writer.finish().unwrap(), about, &file, vec![])
}

fn commit(received: Received, about: Description, file: &str, members: Vec<Member>) -> Entry {
    let started = about.started;
    let manifest = Manifest {
        format: 2,
        description: about,
        finished: started,
        archive: received.describe(file, 0, members),
        freeze: Freeze { method: FreezeMethod::Pause, milliseconds: 900, consistent: true, steps: vec![], predicted_milliseconds: None },
        tasks: TaskRecord::Clean,
        proof: Proof { place: ProofPlace::Workstation, at: started },
        notes: vec![],
    };
    received.commit(&manifest).unwrap()
}

#[test]
fn a_committed_backup_is_listed_verified_and_its_files_come_out() {
    let folder = tempfile::tempdir().unwrap();
    let (library, entry) = library_with_a_backup(folder.path());
    assert_eq!(library.list(None).unwrap().0, std::slice::from_ref(&entry));
    assert_eq!(library.find(&"east@latest".parse().unwrap()).unwrap(), entry);
    assert_eq!(verify(&entry).unwrap().depth, Depth::Decompressed);
    let files = list_files(source(&entry), &entry.manifest.description).unwrap();
    assert_eq!(files["/etc/fuel/astute.yaml"].bytes, 15);
    assert!(!files.contains_key("/etc/fuel/gone"), "what went between the passes is not in the backup");
    let to = folder.path().join("out");
    fs::create_dir(&to).unwrap();
    let extract = |path: &str| extract(&entry, &Keys::default(), path, &to, &unseen());
    extract("/etc/fuel/astute.yaml").unwrap();
    assert_eq!(fs::read_to_string(to.join("etc/fuel/astute.yaml")).unwrap(), "HOSTNAME: east\n");
    for missing in ["/etc/nothing", "/etc/fuel/gone"] {
        let why = extract(missing).unwrap_err().to_string();
        assert!(why.contains("holds nothing at"), "{missing}: {why}");
    }
    assert!(extract("/etc/../../x").is_err());
    extract("/etc/fuel/a:b").unwrap();
    assert!(extract("/etc/fuel").unwrap_err().to_string().contains("is there already"));
    fs::remove_dir_all(to.join("etc")).unwrap();
    extract("/etc/fuel").unwrap();
    let mut found: Vec<String> =
        fs::read_dir(to.join("etc/fuel")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, ["a:b", "astute.yaml", "holes", "noise"], "what 'files' lists and nothing else");
}

#[test]
fn two_backups_differ_in_containers_members_and_files() {
    let library = tempfile::tempdir().unwrap();
    let library = Library::at(library.path().to_owned());
    let container = |service: &str, running| tanker::model::manifest::CapturedContainer {
        service: service.into(),
        name: format!("fuel-core-5.1-{service}"),
        image: format!("fuel/{service}_5.1"),
        running,
    };
    let mut entries = Vec::new();
    for (day, own, containers) in
        [(21, "before", vec![container("nailgun", true)]), (22, "after", vec![container("nailgun", false), container("ostf", true)])]
    {
        let work = tempfile::tempdir().unwrap();
        let tree = work.path().join("tree/etc/fuel");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join(format!("only-{own}")), vec![0; day * 1_000_000]).unwrap();
        fs::write(tree.join("both"), own).unwrap();
        let about = description(Utc.with_ymd_and_hms(2026, 11, u32::try_from(day).unwrap(), 2, 0, 0).unwrap());
        entries.push(add_described(&library, work.path(), Description { containers, ..about }, None));
    }
    let found = tanker::library::diff(&entries[0], &entries[1], &Keys::default(), &unseen()).unwrap();
    let nailgun = "nailgun: fuel-core-5.1-nailgun of fuel/nailgun_5.1 (running) -> fuel-core-5.1-nailgun of fuel/nailgun_5.1 (stopped)";
    assert_eq!(found.facts, [nailgun, "ostf: none -> fuel-core-5.1-ostf of fuel/ostf_5.1 (running)"]);
    assert_eq!((found.added, found.gone), (vec!["/etc/fuel/only-after".to_owned()], vec!["/etc/fuel/only-before".to_owned()]));
    assert!(found.changed.contains(&("/etc/fuel/both".to_owned(), 6, 5)), "{:?}", found.changed);
    let (name, before, after) = found.members.iter().find(|(name, ..)| name == "system-dirs.tar").unwrap();
    assert!(before.is_some() && before < after, "{name}: {before:?} -> {after:?}");
    let back = tanker::library::diff(&entries[1], &entries[0], &Keys::default(), &unseen()).unwrap();
    assert_eq!((back.added, back.gone), (vec!["/etc/fuel/only-before".to_owned()], vec!["/etc/fuel/only-after".to_owned()]));
}

#[test]
fn files_differ_by_what_stands_in_them_who_owns_them_and_where_links_lead() {
    let folder = tempfile::tempdir().unwrap();
    let listed = |script: &str| {
        let script = format!(
            "rm -rf t && mkdir t && cd t && {script} && touch -h -d @1 * && cd .. && tar -C t -cf system-dirs.tar . && tar -cf outer.tar system-dirs.tar"
        );
        assert!(Command::new("sh").args(["-c", &script]).current_dir(folder.path()).status().unwrap().success());
        let about = description(Utc.with_ymd_and_hms(2026, 11, 22, 14, 33, 7).unwrap());
        tanker::library::walk_tar(&mut fs::File::open(folder.path().join("outer.tar")).unwrap(), &about).unwrap().1
    };
    let base = listed("echo one > a && ln a b && ln -s /etc/one c");
    assert_eq!(base, listed("echo one > b && ln b a && ln -s /etc/one c"), "which name of a file comes first is no difference");
    for (script, path) in [
        ("echo two > a && ln a b && ln -s /etc/one c", "/a"),
        ("echo one > a && ln a b && ln -s /etc/two c", "/c"),
        ("echo one > a && ln a b && ln -s /etc/one c && chown 1000 a", "/b"),
    ] {
        assert_ne!(base[path], listed(script)[path], "{script}");
    }
}

#[test]
fn an_export_is_what_stock_takes_without_what_was_deleted_between_the_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (_, entry) = library_with_a_backup(folder.path());
    let to = folder.path().join("exported");
    let file = export(&entry, &Keys::default(), &to, &mut |_| {}).unwrap();
    assert_eq!(file.file_name().unwrap(), entry.manifest.archive.file.as_str());
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1, "nothing but the file");
    let members: Vec<String> = walk(Source::file(&file)).unwrap().members.into_iter().map(|member| member.name).collect();
    assert_eq!(members, ["tanker.json", "system-dirs.tar"]);
    let list = "lrzip -q -d -o - \"$1\" | tar -xO -f - system-dirs.tar | tar -tvf -";
    let listed = Command::new("sh").args(["-c", list, "sh"]).arg(&file).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("etc/fuel/astute.yaml") && !listed.contains("etc/fuel/gone"), "{listed}");
    assert!(listed.lines().any(|line| line.contains("8388612") && line.ends_with("etc/fuel/holes")), "{listed}");
    assert!(export(&entry, &Keys::default(), &to, &mut |_| {}).unwrap_err().to_string().contains("is there already"));
}

#[test]
fn i6_archives_and_manifests_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let (_, entry) = library_with_a_backup(folder.path());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&entry.folder), 0o700);
    assert_eq!(mode(entry.folder.parent().unwrap()), 0o700);
    assert_eq!(mode(&entry.archive()), 0o600);
    assert_eq!(mode(&entry.folder.join("manifest.json")), 0o600);
}

#[test]
fn i2_an_archive_that_was_not_committed_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().to_owned());
    let about = description(Utc.with_ymd_and_hms(2026, 11, 22, 14, 33, 7).unwrap());
    let mut writer = library.begin(library.lock(&host(), "a test").unwrap(), &host(), &about.id, &arrival("x.lrz", 4, None)).unwrap();
    writer.write(b"half").unwrap();
    let partial = folder.path().join(format!("east/{}.partial", about.id));
    assert!(partial.exists());
    assert!(library.is_taken(&host(), &about.id), "an id under way is taken");
    assert_eq!(library.list(None).unwrap(), (vec![], vec![]));
    drop(writer);
    assert!(!partial.exists());
}

#[test]
fn i2_what_a_killed_tanker_left_is_not_listed_and_the_next_run_removes_it() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().to_owned());
    let left = folder.path().join("east/2026-11-22-14_07.partial");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("fuel_backup_2026-11-22_1407.tar.lrz"), b"half").unwrap();
    assert_eq!(library.list(None).unwrap(), (vec![], vec![]));
    let id: BackupId = "2026-11-23-14_07".parse().unwrap();
    let _writer = library.begin(library.lock(&host(), "a test").unwrap(), &host(), &id, &arrival("x.lrz", 4, None)).unwrap();
    assert!(!left.exists());
}

#[test]
fn an_archive_that_does_not_fit_on_the_disk_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().to_owned());
    let id: BackupId = "2026-11-23-14_07".parse().unwrap();
    let error = library.begin(library.lock(&host(), "a test").unwrap(), &host(), &id, &arrival("x.lrz", u64::MAX, None)).err().unwrap();
    assert!(error.to_string().contains("the archive needs 16384.0 PiB"), "{error}");
    assert_eq!(library.list(None).unwrap(), (vec![], vec![]));
    assert!(!library.is_taken(&host(), &id));
}

#[test]
fn two_tankers_do_not_write_one_hosts_archives_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().to_owned());
    let held = library.lock(&host(), "ann@laptop").unwrap();
    match library.lock(&host(), "bob") {
        Err(LibraryError::Locked { owner, .. }) => assert_eq!(owner, "ann@laptop"),
        other => panic!("{other:?}"),
    }
    drop(held);
    library.lock(&host(), "bob").unwrap();
}

#[test]
fn i2_any_damage_is_found_whether_the_archive_or_its_manifest_has_it() {
    let damages: [(&str, fn(&Entry)); 6] = [
        ("cut short", |e| fs::OpenOptions::new().write(true).open(e.archive()).unwrap().set_len(e.manifest.archive.bytes - 1000).unwrap()),
        ("one bit flipped", |e| {
            let mut bytes = fs::read(e.archive()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(e.archive(), bytes).unwrap();
        }),
        ("the archive gone", |e| fs::remove_file(e.archive()).unwrap()),
        ("the manifest gone", |e| fs::remove_file(e.folder.join("manifest.json")).unwrap()),
        ("another digest in the manifest", |e| edit(e, &e.manifest.archive.sha256, &"0".repeat(64))),
        ("another host in the manifest", |e| edit(e, "\"host\": \"east\"", "\"host\": \"west\"")),
    ];
    for (name, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let (library, entry) = library_with_a_backup(folder.path());
        damage(&entry);
        let found = library.find(&"east@2026-11-22-14_07".parse().unwrap());
        let verdict = found.and_then(|entry| verify(&entry));
        assert!(matches!(verdict, Err(LibraryError::Damaged { .. })), "{name}: {verdict:?}");
    }
}

#[test]
fn i2_a_whole_archive_under_another_backups_manifest_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let (library, entry) = library_with_a_backup(folder.path());
    // The manifest and its digest are made to fit the file in size and digest; only what stands inside the archive tells.
    edit(&entry, "\"uuid\": \"\"", "\"uuid\": \"another master\"");
    assert!(matches!(verify(&entry), Err(LibraryError::Damaged { reason, .. }) if reason.contains("SHA256SUMS")));
    let sums = "sha256sum *.lrz manifest.json > SHA256SUMS";
    assert!(Command::new("sh").args(["-c", sums]).current_dir(&entry.folder).status().unwrap().success());
    let entry = library.find(&"east@latest".parse().unwrap()).unwrap();
    match verify(&entry) {
        Err(LibraryError::Damaged { reason, .. }) => assert!(reason.contains("doesn't belong"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_or_foreign_entry_never_hides_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (library, entry) = library_with_a_backup(folder.path());
    let host_folder = entry.folder.parent().unwrap();
    fs::create_dir(host_folder.join("2026-01-01-00_00")).unwrap();
    fs::create_dir(host_folder.join("holiday photos")).unwrap();
    fs::write(folder.path().join("library/a file"), "x").unwrap();
    let (entries, problems) = library.list(None).unwrap();
    assert_eq!(entries, std::slice::from_ref(&entry));
    assert_eq!(problems.len(), 2);
    // The newest that is whole is meant by `latest`, unless a damaged one may be newer: ids hold no minutes.
    let find = |name: &str| library.find(&name.parse().unwrap());
    assert_eq!(find("east@latest").unwrap(), entry);
    let hour = entry.manifest.description.id.hour().to_owned();
    fs::create_dir(host_folder.join(format!("{hour}_00"))).unwrap();
    assert!(matches!(find("east@latest"), Err(LibraryError::Damaged { .. })));
    assert!(matches!(find(&format!("east@{}", &hour[..10])), Err(LibraryError::Damaged { .. })));
    assert_eq!(find(&entry.name()).unwrap(), entry);
}

fn unseen() -> tanker::library::Seen {
    std::sync::Arc::new(|_| {})
}

fn edit(entry: &Entry, from: &str, to: &str) {
    let path = entry.folder.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in the manifest");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn what_a_later_run_can_go_on_with_is_given_up_by_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let library = Library::at(folder.path().to_owned());
    let (one, other): (BackupId, BackupId) = ("2026-11-22-14_07".parse().unwrap(), "2026-11-22-15_07".parse().unwrap());
    // What another test starts meanwhile holds it until it has become the program that was to be started.
    let lock = || (0..100).find_map(|_| library.lock(&host(), "a test").inspect_err(|_| sleep(Duration::from_millis(20))).ok()).unwrap();
    let mut writer = library.begin(lock(), &host(), &one, &arrival("x.lrz", 4, Some(b"note"))).unwrap();
    writer.keep();
    writer.write(b"ab").unwrap();
    drop(writer);
    assert_eq!(library.pending(&host()).unwrap(), Some((one.clone(), b"note".to_vec())));
    assert!(library.list(None).unwrap().0.is_empty(), "nothing of it is listed");
    // Another archive that begins and ends meanwhile, an import for one, doesn't touch it.
    drop(library.begin(lock(), &host(), &other, &arrival("y.lrz", 4, None)).unwrap());
    let mut writer = library.reopen(lock(), &host(), &one, "x.lrz", None).unwrap();
    assert_eq!(writer.bytes(), 2, "it goes on where it stopped");
    writer.write(b"cd").unwrap();
    drop(writer);
    library.give_up(&lock(), &host(), &one).unwrap();
    assert_eq!(library.pending(&host()).unwrap(), None);
}
