//! Copies at real remotes: Swift (its own protocol and S3's), OpenSSH's sftp, a WebDAV server, a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{TimeZone, Utc};
use tanker::library::{Entry, Recipients};

use crate::library::add_backup;
use crate::upkeep::Shelf;

/// A server that ends with the test.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It ends those that it has started itself, if it is asked.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

pub(crate) fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(180), "{what} did not come up");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn answers(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn spawn(command: &mut Command) -> Server {
    Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

pub(crate) fn add(shelf: &Shelf, day: u32, to: Option<&Recipients>) -> Entry {
    let work = tempfile::tempdir().unwrap();
    add_backup(&shelf.library(), work.path(), Utc.with_ymd_and_hms(2026, 11, day, 2, 0, 0).unwrap(), to)
}

pub(crate) const MASTER: &str = "[hosts.east]\naddress = '127.0.0.1'\nkeep = { last = 1 }\n";

/// What every remote must do: take, list, prove, give back, forget; and find out what was changed there.
fn a_whole_life(shelf: &Shelf, remote: &str, environment: &[(&str, String)]) {
    let tanker = |args: &[&str]| shelf.tanker_with(environment, args);
    tanker(&["list", "--remote", remote]).code(0);
    tanker(&["copy", "east@2026-11-20", "--to", remote]).code(0).says("east@2026-11-20-02_00  copied");
    tanker(&["copy", "east@2026-11-20", "--to", remote]).code(0).says("was there already");
    tanker(&["sync", "--to", remote, "--dry-run"]).code(0).says("east@2026-11-21-02_00  would be copied");
    tanker(&["sync", "--to", remote]).code(0).says("east@2026-11-21-02_00  copied");
    tanker(&["sync", "--to", remote]).code(0).says("lacks nothing");
    let listed = tanker(&["list", "--remote", remote]).code(0).says("east@2026-11-20-02_00").says("east@2026-11-21-02_00");
    assert_eq!(listed.stdout.lines().count(), 3, "{}", listed.stdout);
    tanker(&["verify", "--remote", remote, "--all"]).code(0).says("read back from");
    for looked in [&["list", "--remote", remote, "--json"][..], &["verify", "--remote", remote, "--all", "--json"]] {
        tanker(looked).code(0).says("\"name\": \"east@2026-11-21-02_00\"");
    }
    tanker(&["list"]).code(0).says(remote);
    // Rebuilt from nothing.
    let entries = shelf.library().list(None).unwrap().0;
    tanker(&["tag", "east@2026-11-20", "--add", "kept"]).code(0);
    tanker(&["copy", "east@2026-11-20", "--to", remote]).code(0).says("was there already");
    fs::rename(shelf.path("tanker"), shelf.path("lost")).unwrap();
    tanker(&["copy", "east", "--from", remote]).code(0);
    tanker(&["list", "--tag", "kept"]).code(0).says("east@2026-11-20-02_00");
    let back = shelf.library().list(None).unwrap().0;
    assert_eq!(back.iter().map(|e| &e.manifest).collect::<Vec<_>>(), entries.iter().map(|e| &e.manifest).collect::<Vec<_>>());
    tanker(&["verify", "--all"]).code(0);
    for (old, new) in entries.iter().zip(&back) {
        let lost = shelf.path("lost").join(old.folder.strip_prefix(shelf.path("tanker")).unwrap());
        assert_eq!(fs::read(lost.join(&old.manifest.archive.file)).unwrap(), fs::read(new.archive()).unwrap());
    }
    fs::remove_dir_all(shelf.path("lost")).unwrap();
    tanker(&["copy", "east", "--from", remote]).code(0).says("was there already");
    // What is protected here is protected there; the last one stays.
    tanker(&["protect", "east@2026-11-20"]).code(0);
    tanker(&["forget", "--remote", remote, "--yes"]).code(0).says("nothing is to be forgotten");
    tanker(&["unprotect", "east@2026-11-20"]).code(0);
    tanker(&["forget", "--remote", remote]).code(0).says("nothing was changed");
    tanker(&["forget", "--remote", remote, "--yes"]).code(0).says("1 removed from");
    let left = tanker(&["list", "--remote", remote]).code(0).says("east@2026-11-21-02_00");
    assert_eq!(left.stdout.lines().count(), 2, "{}", left.stdout);
    // What isn't here may be all that is left of it: forgotten there only where that is said.
    tanker(&["copy", "east", "--to", remote]).code(0);
    fs::rename(shelf.path("tanker/east"), shelf.path("aside")).unwrap();
    tanker(&["forget", "--remote", remote, "--yes"]).code(0).says("protected").says("nothing is to be forgotten");
    tanker(&["forget", "--remote", remote, "--accept-unknown"]).code(0).says("1 would go");
    fs::remove_dir_all(shelf.path("tanker/east")).unwrap_or_default();
    fs::rename(shelf.path("aside"), shelf.path("tanker/east")).unwrap();
    tanker(&["forget", "--remote", remote, "--yes"]).code(0).says("1 removed from");
    tanker(&["copy", "east@2026-11-25", "--from", remote]).code(3).says("there is no backup");
    tanker(&["copy", "east", "--to", "nowher"]).code(2).says("has no remote");
}

/// What of a folder others can read.
pub(crate) fn of_others(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.metadata().unwrap().permissions().mode() & 0o077 != 0 {
            found.push(entry.path());
        }
        if entry.path().is_dir() {
            found.extend(of_others(&entry.path()));
        }
    }
    found
}

#[test]
fn copies_live_a_whole_life_in_a_folder_and_damage_there_is_found() {
    let shelf = Shelf::new("");
    let folder = shelf.path("disk");
    fs::create_dir_all(folder.join("backups")).unwrap();
    shelf.inventory(&format!("{MASTER}[remotes.disk]\nurl = 'file://{}/backups'\n", folder.display()));
    add(&shelf, 20, None);
    let public = shelf.keygen("key.txt");
    add(&shelf, 21, Some(&Recipients::parse(&[public], "test").unwrap()));
    goes_on_there(&shelf, "disk", &folder.join("backups"), &[]);
    fs::remove_dir_all(shelf.path("tanker/east/2026-11-23-02_00")).unwrap();
    a_whole_life(&shelf, "disk", &[]);
    // Made by the test itself.
    fs::set_permissions(folder.join("backups/east"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(of_others(&folder.join("backups")), [] as [PathBuf; 0], "I6 holds for copies too");
    let away = folder.join("backups/east/2026-11-21-02_00");
    let archive = fs::read_dir(&away).unwrap().map(|f| f.unwrap().path()).find(|p| p.to_string_lossy().ends_with(".age")).unwrap();
    for file in [archive.clone(), away.join("manifest.json"), away.join("SHA256SUMS"), away.join("seal")] {
        let good = fs::read(&file).unwrap();
        let mut bytes = good.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        let code = shelf.tanker(&["verify", "--remote", "disk", "--all"]).code;
        assert_eq!(code, Some(5), "{}", file.display());
        fs::write(&file, good).unwrap();
    }
    // A copy that was found rotten is copied again, and not taken for whole before.
    let mut rotten = fs::read(&archive).unwrap();
    rotten[0] ^= 1;
    fs::write(&archive, rotten).unwrap();
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(5).says("DAMAGED");
    shelf.tanker(&["sync", "--to", "disk", "--dry-run"]).code(0).says("would be read back from");
    shelf.tanker(&["sync", "--to", "disk"]).code(0).says("east@2026-11-21-02_00  copied");
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(0);
    // I3 there too: a copy that was found rotten takes no whole one's place.
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0);
    let good = fs::read(&archive).unwrap();
    let mut rotten = good.clone();
    rotten[good.len() / 2] ^= 1;
    fs::write(&archive, rotten).unwrap();
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(5);
    shelf.tanker(&["forget", "--remote", "disk", "--keep-last", "1", "--yes"]).code(0).says("nothing is to be forgotten");
    fs::write(&archive, good).unwrap();
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(0);
    shelf.tanker(&["forget", "--remote", "disk", "--keep-last", "1", "--yes"]).code(0).says("1 removed from");
    // An archive that is gone there is missed by sync, which brings it again.
    fs::remove_file(&archive).unwrap();
    shelf.tanker(&["list", "--remote", "disk"]).code(5).says("its archive is not there");
    shelf.tanker(&["sync", "--to", "disk"]).code(5).says("east@2026-11-21-02_00  copied");
    // Something that is no manifest hides nothing else, and gives way.
    fs::write(away.join("manifest.json"), "").unwrap();
    fs::create_dir_all(folder.join("backups/aaa/2026-01-01-00_00")).unwrap();
    fs::write(folder.join("backups/aaa/2026-01-01-00_00/manifest.json"), vec![b' '; 17 << 20]).unwrap();
    shelf.tanker(&["list", "--remote", "disk"]).code(5).says("far too large");
    // What can't be read is no older one's turn.
    shelf.tanker(&["restore", "east@latest", "--from", "disk", "--to", "east", "--yes"]).code(3).says("east@2026-11-21-02_00 is damaged");
    shelf.tanker(&["copy", "east@2026-11-21", "--to", "disk"]).code(0).says("copied");
    fs::remove_dir_all(folder.join("backups/aaa")).unwrap();
    // Encrypted otherwise, it takes the place of the old copy.
    let other = shelf.keygen("other.txt");
    let text = fs::read_to_string(shelf.path("inventory.toml")).unwrap();
    shelf.inventory(&format!("[defaults]\nencrypt_to = ['{other}']\ndecrypt_with = ['~/key.txt']\n{text}"));
    shelf.tanker(&["rekey", "east@2026-11-21", "--yes"]).code(0);
    shelf.tanker(&["sync", "--to", "disk"]).code(0).says("east@2026-11-21-02_00  copied");
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(0);
    // What is rotten here never takes the place of what is whole there.
    let manifest = shelf.library().list(None).unwrap().0.pop().unwrap().folder.join("manifest.json");
    let good = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, good.replace("\"consistent\": true", "\"consistent\": false")).unwrap();
    shelf.tanker(&["copy", "east@2026-11-21", "--to", "disk"]).code(5).says("SHA256SUMS");
    fs::write(&manifest, good).unwrap();
    shelf.tanker(&["verify", "--remote", "disk", "--all"]).code(0);
    // A copy without what proves it is not taken back.
    let sums = fs::read(away.join("SHA256SUMS")).unwrap();
    fs::remove_file(away.join("SHA256SUMS")).unwrap();
    fs::rename(shelf.path("tanker/east"), shelf.path("aside")).unwrap();
    shelf.tanker(&["copy", "east@2026-11-21", "--from", "disk"]).code(5).says("SHA256SUMS");
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 0);
    fs::write(away.join("SHA256SUMS"), sums).unwrap();
    fs::remove_dir_all(shelf.path("tanker/east")).unwrap();
    fs::rename(shelf.path("aside"), shelf.path("tanker/east")).unwrap();
    // A copy under way is none: the manifest comes last.
    fs::remove_file(away.join("manifest.json")).unwrap();
    let listed = shelf.tanker(&["list", "--remote", "disk"]).code(0);
    assert!(!listed.stdout.contains("2026-11-21"), "{}", listed.stdout);
    shelf.tanker(&["sync", "--to", "disk"]).code(0).says("east@2026-11-21-02_00  copied");
}

/// A copy that was killed on its way to a remote whose folder lies here: gone on with in its place, or begun anew where what has arrived
/// is not what it should be.
fn goes_on_there(shelf: &Shelf, remote: &str, folder: &Path, environment: &[(&str, String)]) {
    let entry = crate::library::add_bytes(&shelf.library(), Utc.with_ymd_and_hms(2026, 11, 23, 2, 0, 0).unwrap(), 40 << 20);
    let run = |args: &[&str]| shelf.tanker_with(environment, args);
    let (bytes, manifest) = (fs::read(entry.archive()).unwrap(), fs::read(entry.folder.join("manifest.json")).unwrap());
    let there = folder.join("east").join(entry.manifest.description.id.as_str());
    let (archive, aside) = (there.join(&entry.manifest.archive.file), shelf.path("aside"));
    for whole in [true, false] {
        fs::create_dir_all(&there).unwrap();
        let mut begun = bytes[..bytes.len() / 2].to_vec();
        if !whole {
            *begun.last_mut().unwrap() ^= 1;
        }
        fs::write(&archive, &begun).unwrap();
        fs::write(there.join("copying.json"), &manifest).unwrap();
        fs::hard_link(&archive, &aside).unwrap();
        run(&["list", "--remote", remote]).code(0);
        run(&["copy", "east@2026-11-23", "--to", remote]).code(0).says("copied");
        // One that is begun anew is another file.
        assert_eq!(fs::read(&aside).unwrap().len() == bytes.len(), whole, "gone on with in its place");
        assert!(fs::read(&archive).unwrap() == bytes);
        assert!(!there.join("copying.json").exists());
        run(&["verify", "--remote", remote, "east@2026-11-23"]).code(0);
        fs::remove_file(&aside).unwrap();
        fs::remove_dir_all(&there).unwrap();
    }
}

#[test]
fn i2_a_copy_that_was_cut_off_on_its_way_back_goes_on_and_is_listed_only_whole() {
    let shelf = Shelf::new("");
    shelf.inventory(&format!("{MASTER}[remotes.disk]\nurl = 'file://{}'\n", shelf.path("disk").display()));
    let entry = add(&shelf, 20, None);
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(2).says("is its disk mounted?");
    assert!(!shelf.path("disk").exists());
    fs::create_dir(shelf.path("disk")).unwrap();
    shelf.tanker(&["copy", "east", "--to", "disk"]).code(0);
    let archive = fs::read(entry.archive()).unwrap();
    let partial = entry.folder.with_extension("partial");
    fs::rename(&entry.folder, &partial).unwrap();
    for left in ["SHA256SUMS", "record.json"] {
        fs::remove_file(partial.join(left)).unwrap();
    }
    fs::rename(partial.join("manifest.json"), partial.join("copying.json")).unwrap();
    fs::write(partial.join(&entry.manifest.archive.file), &archive[..archive.len() / 3]).unwrap();
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 0);
    shelf.tanker(&["copy", "east", "--from", "disk"]).code(0);
    assert_eq!(fs::read(entry.archive()).unwrap(), archive);
    shelf.tanker(&["verify", "--all", "--deep"]).code(0);
    // What had arrived was not what it should be: found out, and begun anew the next time.
    fs::rename(&entry.folder, &partial).unwrap();
    fs::rename(partial.join("manifest.json"), partial.join("copying.json")).unwrap();
    fs::write(partial.join(&entry.manifest.archive.file), vec![7; archive.len() / 3]).unwrap();
    shelf.tanker(&["copy", "east", "--from", "disk"]).code(5).says("not what the manifest says");
    assert_eq!(shelf.library().list(None).unwrap().0.len(), 0);
    shelf.tanker(&["copy", "east", "--from", "disk"]).code(0);
    shelf.tanker(&["verify", "--all", "--deep"]).code(0);
    // What comes in meanwhile leaves what it goes on from alone.
    fs::rename(&entry.folder, &partial).unwrap();
    fs::rename(partial.join("manifest.json"), partial.join("copying.json")).unwrap();
    add(&shelf, 25, None);
    assert!(partial.join("copying.json").exists());
    shelf.tanker(&["copy", "east@2026-11-20", "--from", "disk"]).code(0);
    shelf.tanker(&["verify", "--all", "--deep"]).code(0);
    // What belongs to a copy that is another one there by now is begun anew; what nobody came back for goes in the end.
    fs::rename(&entry.folder, &partial).unwrap();
    fs::rename(partial.join("manifest.json"), partial.join("copying.json")).unwrap();
    fs::write(partial.join("copying.json"), "{}").unwrap();
    shelf.tanker(&["copy", "east@2026-11-20", "--from", "disk"]).code(0);
    fs::rename(&entry.folder, &partial).unwrap();
    fs::rename(partial.join("manifest.json"), partial.join("copying.json")).unwrap();
    Command::new("touch").args(["-d", "40 days ago"]).arg(partial.join("copying.json")).status().unwrap();
    add(&shelf, 26, None);
    assert!(!partial.exists());
}

#[test]
fn copies_live_a_whole_life_in_swift_by_its_own_protocol_and_by_s3() {
    let shelf = Shelf::new("");
    add(&shelf, 20, None);
    add(&shelf, 21, None);
    let (folder, (_server, port)) = (shelf.path("swift"), remote_of_ours(&shelf, "swift"));
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap().trim().to_owned();
    shelf.inventory(&format!(
        "{MASTER}[remotes.swift]\nurl = 'swift://backups/one'\nendpoint = '{}'\ntoken = 'env:SWIFT_TOKEN'\n\
         [remotes.s3]\nurl = 's3://backups/two'\nendpoint = 'http://127.0.0.1:{port}'\naccess_key = 'env:S3_KEY'\nsecret_key = 'command:echo s3cret'\n",
        read("storage")
    ));
    let environment = [("SWIFT_TOKEN", read("token")), ("S3_KEY", "admin:admin".to_owned())];
    a_whole_life(&shelf, "swift", &environment);
    a_whole_life(&shelf, "s3", &environment);
    let (before, text) = (shelf.path("inventory.toml"), fs::read_to_string(shelf.path("inventory.toml")).unwrap());
    let own = format!(
        "[remotes.whole]\nurl = 's3://backups/library'\nendpoint = 'http://127.0.0.1:{port}'\naccess_key = 'env:S3_KEY'\nsecret_key = 'command:echo s3cret'\n"
    );
    crate::homes::lives_at_a_remote(&shelf, "s3://backups/library", &own, &environment);
    fs::write(before, text).unwrap();
    let refused = shelf.command(&["list", "--remote", "swift"]).env("SWIFT_TOKEN", "no").env("S3_KEY", "x").output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    shelf.tanker(&["list", "--remote", "swift"]).code(2).says("SWIFT_TOKEN, which is not set");
}

/// One of tests/remotes, ready, its folder beside the library under its name; and its port.
pub(crate) fn remote_of_ours(shelf: &Shelf, name: &str) -> (Server, u16) {
    let (folder, port) = (shelf.path(name), free_port_of_five());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/remotes").join(name);
    let server = spawn(Command::new(script).arg(&folder).arg(port.to_string()));
    wait_for(name, || folder.join("ready").exists());
    (server, port)
}

/// The first of five that are free, for servers that listen side by side.
fn free_port_of_five() -> u16 {
    (0..100).map(|_| free_port()).find(|port| (0..5).all(|n| std::net::TcpListener::bind(("127.0.0.1", port + n)).is_ok())).unwrap()
}

#[test]
fn copies_live_a_whole_life_on_a_webdav_server() {
    let shelf = Shelf::new("");
    add(&shelf, 20, None);
    add(&shelf, 21, None);
    let port = free_port();
    fs::create_dir(shelf.path("dav")).unwrap();
    let _server = spawn(
        Command::new("rclone")
            .args(["serve", "webdav", "--addr", &format!("127.0.0.1:{port}"), "--user", "ops", "--pass", "s3cret", "--config", "/dev/null"])
            .arg(shelf.path("dav")),
    );
    wait_for("WebDAV", || answers(port));
    shelf.inventory(&format!(
        "{MASTER}[remotes.dav]\nurl = 'webdav://127.0.0.1:{port}/backups'\nuser = 'ops'\npassword = 'env:DAV_PASSWORD'\n"
    ));
    a_whole_life(&shelf, "dav", &[("DAV_PASSWORD", "s3cret".to_owned())]);
}

#[test]
fn i7_copies_live_a_whole_life_behind_sftp_whose_key_must_be_known() {
    let shelf = Shelf::new("");
    add(&shelf, 20, None);
    add(&shelf, 21, None);
    let port = free_port();
    for name in ["host", "user"] {
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(shelf.path(name)).status().unwrap();
        assert!(made.success());
    }
    fs::copy(shelf.path("user.pub"), shelf.path("authorized")).unwrap();
    fs::create_dir_all("/run/sshd").unwrap();
    let option = |text: String| ["-o".to_owned(), text];
    let mut sshd = Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string()]).arg("-h").arg(shelf.path("host"));
    sshd.args(option("ListenAddress=127.0.0.1".into())).args(option("StrictModes=no".into())).args(option("PermitRootLogin=yes".into()));
    sshd.args(option("Subsystem=sftp internal-sftp".into())).args(option("UsePAM=no".into()));
    sshd.args(option(format!("AuthorizedKeysFile={}", shelf.path("authorized").display())));
    let _server = spawn(&mut sshd);
    wait_for("sshd", || answers(port));
    // OpenSSH looks for its files in the home folder of the user's entry, not in $HOME: a client of the test's own says where they are.
    let bin = shelf.path("bin");
    fs::create_dir(&bin).unwrap();
    let known = shelf.path("known_hosts");
    fs::write(bin.join("ssh"), format!("#!/bin/sh\nexec /usr/bin/ssh -F /dev/null -o UserKnownHostsFile={} \"$@\"\n", known.display()))
        .unwrap();
    Command::new("chmod").arg("755").arg(bin.join("ssh")).status().unwrap();
    let path = [("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))];
    shelf.inventory(&format!(
        "{MASTER}[remotes.box]\nurl = 'sftp://root@127.0.0.1:{port}{}'\nidentity = '~/user'\n",
        shelf.path("box").display()
    ));
    let unknown = shelf.command(&["list", "--remote", "box"]).env(path[0].0, &path[0].1).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{}", String::from_utf8_lossy(&unknown.stderr));
    let key = fs::read_to_string(shelf.path("host.pub")).unwrap();
    fs::write(known, format!("[127.0.0.1]:{port} {key}")).unwrap();
    a_whole_life(&shelf, "box", &path);
    goes_on_there(&shelf, "box", &shelf.path("box"), &path);
}
