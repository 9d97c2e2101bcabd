//! The way of an archive: followed while it is made, gone on with where it stopped, limited, and never taken for whole before it is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::home::Disk;
use super::{Lab, end, signal, wait_until};

fn library(lab: &Lab) -> PathBuf {
    let text = fs::read_to_string(lab.inventory()).unwrap();
    PathBuf::from(text.lines().find_map(|l| l.strip_prefix("library = ")).unwrap().trim_matches('"'))
}

/// The files of an archive that is still on its way, and which they are on their disk.
fn coming(lab: &Lab) -> Vec<(PathBuf, u64)> {
    let Ok(folders) = fs::read_dir(library(lab).join("m")) else { return Vec::new() };
    let partial = folders.flatten().find(|e| e.file_name().to_string_lossy().ends_with(".partial"));
    let files = partial.and_then(|folder| fs::read_dir(folder.path()).ok()).into_iter().flatten().flatten();
    let archives = files.filter(|f| f.file_name().to_string_lossy().contains(".lrz"));
    archives.filter_map(|f| Some((f.path(), f.metadata().ok()?.ino()))).collect()
}

fn is_aside(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".before")
}

/// The bytes of an archive that is still on its way.
fn arrived(lab: &Lab) -> u64 {
    coming(lab).iter().filter(|(path, _)| !is_aside(path)).filter_map(|(path, _)| fs::metadata(path).ok()).map(|found| found.len()).sum()
}

#[test]
fn i2_a_backup_whose_tanker_was_killed_on_the_way_home_is_gone_on_with() {
    let lab = Lab::up("resume", "8.0");
    let inventory = lab.inventory_with("bwlimit = \"2M\"");
    let ended_by = |name: &str, verb: &[&str], bytes: u64| {
        let child = lab.command(&inventory, verb).spawn().unwrap();
        wait_until("some of it has arrived", Duration::from_secs(90), || arrived(&lab) > bytes);
        signal(&child, name);
        end(child)
    };
    // The workstation goes down in good order: nobody has thought better of it. Then without any.
    ended_by("TERM", &["backup"], 3_000_000).expect_code(130).says("the master goes on packing").says("'tanker backup --resume m' goes on");
    assert_eq!(lab.listed(), 0);
    ended_by("KILL", &["backup", "--resume"], 7_000_000);
    assert_eq!(lab.listed(), 0);
    wait_until("the master has packed", Duration::from_secs(90), || lab.tanker(&["status"]).stdout.contains("PACKED: "));
    let ran = lab.tanker(&["backup", "--resume"]).expect_code(0).says("frozen");
    let here = ran.stderr.lines().find(|line| line.contains("are here already")).expect("it says what is here").to_owned();
    assert!(!here.contains(" 0 B of"), "{here}");
    lab.assert_clean();
    assert_eq!(lab.listed(), 1);
    lab.tanker(&["verify", "--all", "--deep"]).expect_code(0).says("decompressed, every member");
    lab.tanker(&["show", "m@latest"]).expect_code(0).says("none unfinished, none began meanwhile");
    lab.tanker(&["backup", "--resume"]).expect_code(3).says("there is nothing to go on with");

    // A disk here that is too small costs no backup: the master keeps what it has packed until there is room.
    let small = Disk(lab.path("small"));
    fs::create_dir_all(&small.0).unwrap();
    small.mount("size=8m");
    let there = |args: &[&str]| lab.tanker(&[&["--library", small.0.to_str().unwrap()], args].concat());
    there(&["backup"]).expect_code(3).says("and the archive needs").says("'tanker backup --resume m' goes on");
    lab.tanker(&["status"]).expect_code(0).says("PACKED: ");
    assert_eq!(there(&["list"]).expect_code(0).stdout.lines().count(), 1, "nothing is listed");
    small.mount("remount,size=200m");
    there(&["backup", "--resume"]).expect_code(0).says("frozen");
    there(&["verify", "--all", "--deep"]).expect_code(0);
    lab.assert_clean();

    // A new backup takes the place of one that was not gone on with, and the master was restarted meanwhile.
    ended_by("KILL", &["backup"], 1_000_000);
    lab.lab(&["reboot", "m"]).expect_code(0);
    lab.tanker(&["backup"]).expect_code(0);
    lab.assert_clean();

    // Restarted while it packed: it says that the job is gone.
    lab.ask("mv /var/lab/bin/lrzip /var/lab/bin/lrzip.real; printf '%s\\n' '#!/bin/sh' 'case \"$*\" in *-o*) sleep 60 ;; esac; exec /var/lab/bin/lrzip.real \"$@\"' > /var/lab/bin/lrzip; chmod 755 /var/lab/bin/lrzip");
    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("it packs", Duration::from_secs(90), || lab.sh("grep -q ' step compress' /var/backup/fuel/tanker/*/events").code == Some(0));
    // One at a time: the other one hears who, from where and since when.
    let elsewhere = lab.path("another-library");
    let busy = lab.tanker(&["--library", elsewhere.to_str().unwrap(), "backup"]).expect_code(3);
    busy.says("another tanker works on it: ").says(&format!(" process {} since 20", child.id()));
    signal(&child, "KILL");
    child.wait().unwrap();
    lab.lab(&["reboot", "m"]).expect_code(0);
    lab.ask("mv /var/lab/bin/lrzip.real /var/lab/bin/lrzip");
    lab.tanker(&["backup", "--resume"]).expect_code(1).says("the job on the master ended without a word");
    lab.assert_clean();
    lab.tanker(&["backup", "--resume"]).expect_code(3).says("there is nothing to go on with");
}

/// Before its end lrzip goes back to its beginning; this one waits with that for a word.
const LRZIP_THAT_WAITS: &str = r#"#!/bin/bash
case "$*" in *'-L 2'*) ;; *) exec /var/lab/bin/lrzip.real "$@" ;; esac
/var/lab/bin/lrzip.real "$@" || exit
while [ "$1" != -o ]; do shift; done
head -c 24 "$2" > /var/lab/head && dd if=/dev/zero of="$2" bs=24 count=1 conv=notrunc 2>/dev/null && touch /var/lab/written
until [ -e /var/lab/word ]; do sleep 0.1; done
dd if=/var/lab/head of="$2" bs=24 conv=notrunc 2>/dev/null && rm -f /var/lab/written /var/lab/word
"#;

#[test]
fn i2_an_archive_is_on_its_way_while_lrzip_writes_and_what_it_goes_back_to_is_fetched_again() {
    let lab = Lab::up("follow", "8.0");
    lab.ask(&format!(
        "mv /var/lab/bin/lrzip /var/lab/bin/lrzip.real; printf '%s' '{}' > /var/lab/bin/lrzip; chmod 755 /var/lab/bin/lrzip",
        LRZIP_THAT_WAITS.replace('\'', "'\\''")
    ));
    let comes_early = |inventory: &Path, verb: &[&str]| {
        let before = coming(&lab);
        let child = lab.command(inventory, verb).spawn().unwrap();
        wait_until("a file of its own is here", Duration::from_secs(120), || {
            let now = coming(&lab);
            !now.is_empty() && now != before && !now.iter().any(|(path, _)| is_aside(path))
        });
        wait_until("lrzip has to go back once more", Duration::from_secs(120), || lab.sh("test -e /var/lab/written").code == Some(0));
        wait_until("much of it is here all the same", Duration::from_secs(60), || arrived(&lab) > 8_000_000);
        child
    };
    let openssl = |does: &str| {
        let path = "/usr/local/bin/openssl";
        lab.ask(&format!("printf '%s\\n' '#!/bin/sh' '{does}' > {path}; chmod 755 {path}"));
    };
    let comes_home = |child| {
        lab.ask("touch /var/lab/word");
        end(child).expect_code(0).says("frozen")
    };
    openssl("echo >> /var/lab/asked; exec /usr/bin/openssl \"$@\"");
    comes_home(comes_early(&lab.inventory(), &["backup"]));
    assert_ne!(lab.ask("wc -l < /var/lab/asked"), "1", "OpenSSL was asked of nothing, and then of each block");
    // A master whose OpenSSL says nothing of use hashes all the same.
    openssl("echo none");
    let sealing = super::versions::inventory_with_keys(&lab);
    comes_home(comes_early(&sealing, &["backup"]));
    assert!(arrived(&lab) == 0 && lab.listed() == 2);

    // What has come of an encrypted one is gone on with, while lrzip writes and behind its end.
    let child = comes_early(&sealing, &["backup"]);
    signal(&child, "KILL");
    end(child);
    let child = comes_early(&sealing, &["backup", "--resume"]);
    signal(&child, "KILL");
    end(child);
    lab.ask("touch /var/lab/word");
    wait_until("the master has packed", Duration::from_secs(90), || lab.tanker(&["status"]).stdout.contains("PACKED: "));
    let ran = lab.tanker_with(&sealing, &["backup", "--resume"]).expect_code(0);
    let here = ran.stderr.lines().find(|line| line.contains("are here already")).expect("it says what is here").to_owned();
    assert!(!here.contains(" 0 B of"), "{here}");
    lab.tanker_with(&sealing, &["verify", "--all", "--deep"]).expect_code(0).says("every file in it");
    let left =
        std::process::Command::new("find").arg(library(&lab)).args(["-name", "*.before", "-o", "-name", "*.partial"]).output().unwrap();
    assert_eq!((String::from_utf8_lossy(&left.stdout).as_ref(), lab.listed()), ("", 3));
    lab.assert_clean();
}

#[test]
fn a_line_that_breaks_on_the_way_home_is_made_again_and_goes_on_at_the_next_byte() {
    let lab = Lab::up("broken", "5.1");
    let inventory = lab.inventory_with("bwlimit = \"2M\"");
    let child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("it begins to arrive", Duration::from_secs(90), || arrived(&lab) > 100_000);
    let (from, began) = (arrived(&lab), Instant::now());
    wait_until("some of it has arrived", Duration::from_secs(90), || arrived(&lab) > 4_000_000);
    // However slow this machine is, no more comes in a second than the host's limit.
    let least = Duration::from_millis(4_000_000u64.saturating_sub(from) / 2_200);
    assert!(began.elapsed() >= least, "{} bytes came in {:?}", 4_000_000 - from, began.elapsed());
    // The lid is closed, and its line is dead when it is opened again.
    signal(&child, "STOP");
    lab.sh("pkill -KILL -f '^sshd: root'");
    std::thread::sleep(Duration::from_secs(8));
    signal(&child, "CONT");
    let ran = end(child).expect_code(0).says("frozen");
    let again = ran.stderr.lines().find_map(|line| line.split("trying again from byte ").nth(1)).expect("it tried again");
    assert!(again.parse::<u64>().unwrap() > 4_000_000, "{again}");
    lab.assert_clean();

    // What the master has changed meanwhile is found by its digest: no archive is listed that is another than the master's.
    let inventory = lab.inventory_with("bwlimit = \"1M\"");
    let child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("it is packed", Duration::from_secs(120), || lab.sh("grep -q ' archive ' /var/backup/fuel/tanker/*/events").code == Some(0));
    let size = lab.ask(
        "f=$(ls /var/backup/fuel/tanker/backup-*/fuel_backup_*.lrz) && s=$(stat -c %s $f) && printf x | dd of=$f bs=1 seek=$((s - 100000)) conv=notrunc 2>/dev/null; echo $s",
    );
    assert!(arrived(&lab) + 200_000 < size.parse().unwrap());
    let ran = end(child);
    ran.expect_code(1).says("blocks of the archive arrive otherwise than the master lists them");
    assert_eq!(lab.listed(), 1);

    // A push is cut, and goes on with the blocks that are missing.
    let inventory = lab.inventory_with("bwlimit = \"800K\"");
    let blocks = |count: usize| {
        let there = format!("[ $(cat /var/backup/fuel/tanker/restore-*/archive.tar.lrz.part.blocks | wc -l) -ge {count} ]");
        wait_until("blocks have arrived", Duration::from_secs(90), || lab.sh(&there).code == Some(0));
    };
    let listed: serde_json::Value = serde_json::from_str(&lab.tanker(&["list", "--json"]).expect_code(0).stdout).unwrap();
    let first = listed["backups"][0]["name"].as_str().unwrap();
    let restore = || lab.command(&inventory, &["restore", first, "--to", "m", "--yes"]).spawn().unwrap();
    let mut child = restore();
    blocks(1);
    // Killed, and run again at once: what hashes for the dead one is nobody's push.
    signal(&child, "KILL");
    child.wait().unwrap();
    let mut child = restore();
    blocks(2);
    // What nobody goes on with for a while waits for its days: another job of this master removes none of it.
    signal(&child, "KILL");
    child.wait().unwrap();
    std::thread::sleep(Duration::from_secs(21));
    lab.tanker(&["backup"]).expect_code(0);
    lab.tanker(&["status"]).expect_code(0).says("restore-").says(", pushed: ");
    let child = restore();
    blocks(3);
    // Another one's push of the same backup is let be.
    lab.tanker(&["restore", first, "--to", "m", "--yes"]).expect_code(3).says("another tanker pushes the same backup to this master");
    lab.sh("pkill -KILL -f '^sshd: root'");
    let ran = end(child).expect_code(0).says("restored m@");
    assert!(ran.stderr.contains("of the archive are there already"), "{}", ran.stderr);
    lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
    lab.assert_clean();
}

#[test]
fn an_archive_that_nobody_fetched_is_listed_kept_for_its_days_and_removed_by_clean() {
    let lab = Lab::up("fetched", "5.1");
    let inventory = lab.inventory_with("bwlimit = \"1M\"");
    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("some of it has arrived", Duration::from_secs(90), || arrived(&lab) > 1_000_000);
    wait_until("the master has packed", Duration::from_secs(90), || lab.tanker(&["status"]).stdout.contains("PACKED: "));
    wait_until("its job has ended", Duration::from_secs(30), || lab.tanker(&["status"]).stdout.contains("has ended"));
    // While somebody fetches it, it is nobody's to remove.
    lab.tanker(&["clean", "--yes"]).expect_code(1).says("somebody is at work with");
    signal(&child, "KILL");
    child.wait().unwrap();
    // Another workstation, which knows nothing of it, leaves it alone, for three days unless told otherwise.
    let other = fs::read_to_string(&inventory)
        .unwrap()
        .replace("bwlimit = \"1M\"", "")
        .replace(library(&lab).to_str().unwrap(), lab.path("other").to_str().unwrap());
    let write = |text: &str| {
        let path = lab.path("other.toml");
        fs::write(&path, text).unwrap();
        path
    };
    lab.tanker_with(&write(&other), &["backup"]).expect_code(0);
    lab.tanker(&["status"]).expect_code(0).says("PACKED: ");
    lab.tanker(&["clean"]).expect_code(0).says("1 job to remove: say --yes");
    lab.tanker(&["status"]).expect_code(0).says("PACKED: ");
    // I1: what an operator has paused since the thaw is not tanker's to undo, neither on request nor by cleaning up.
    let pause = |verb: &str| drop(lab.ask(&format!("/usr/bin/docker {verb} fuel-core-5.1-ostf")));
    pause("pause");
    lab.tanker(&["thaw"]).expect_code(0).says("nothing was frozen by tanker");
    lab.tanker_with(&write(&other.replace("[defaults]", "[defaults]\njob_days = 0")), &["backup"]).expect_code(0);
    assert_eq!(lab.paused(), ["fuel-core-5.1-ostf"]);
    pause("unpause");
    lab.assert_clean();
    lab.tanker(&["backup", "--resume"]).expect_code(1).says("the master has nothing left of");

    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("some of it has arrived", Duration::from_secs(90), || arrived(&lab) > 1_000_000);
    signal(&child, "KILL");
    child.wait().unwrap();
    pause("pause");
    let refused = lab.tanker(&["clean", "--yes"]);
    if refused.code == Some(3) {
        assert!(refused.stdout.contains("still runs"), "{}", refused.stdout);
    }
    lab.tanker(&["clean", "--yes", "--running"]).expect_code(0);
    assert_eq!(lab.paused(), ["fuel-core-5.1-ostf"]);
    lab.assert_clean();
}

/// One of the examples, built if `cargo test` was told to build no more than the tests.
fn example(name: &str) -> std::process::Command {
    let built = std::process::Command::new(env!("CARGO")).args(["build", "--quiet", "--locked", "--example", name]).status().unwrap();
    assert!(built.success());
    std::process::Command::new(PathBuf::from(env!("CARGO_BIN_EXE_tanker")).with_file_name("examples").join(name))
}

/// A line of a hundred milliseconds to a port of the lab's master; ended when it is dropped.
struct Line(std::process::Child, u16);

impl Line {
    /// `rate`: bytes a second; 0 is as fast as it goes.
    fn to(target: &str, round_trip_ms: u32, rate: u32) -> Self {
        let words = ["127.0.0.1:0", target, &round_trip_ms.to_string(), &rate.to_string()];
        let mut child = example("line").args(words).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut address).unwrap();
        let port = address.trim().rsplit(':').next().unwrap().parse().unwrap();
        Self(child, port)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An inventory that leads to the lab's master through a line.
fn inventory_through(lab: &Lab, line: &Line, name: &str) -> PathBuf {
    let text = fs::read_to_string(lab.inventory()).unwrap();
    let (known, inventory) = (lab.path("known"), lab.path(name));
    let key = lab.ask("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub");
    fs::write(&known, format!("* {key}\n[*]:* {key}\n")).unwrap();
    let defaults: String =
        text.split("[hosts.").next().unwrap().lines().filter(|l| !l.starts_with("known_hosts")).map(|l| format!("{l}\n")).collect();
    let host = format!("[hosts.m]\naddress = \"127.0.0.1\"\nport = {}\n", line.1);
    fs::write(&inventory, format!("{defaults}known_hosts = \"{}\"\n{host}", known.display())).unwrap();
    inventory
}

#[test]
fn i2_an_archive_comes_over_several_connections_and_one_that_breaks_loses_nothing() {
    let lab = Lab::up("several", "6.1");
    let line = Line::to(&format!("{}:22", lab.address()), 80, 3_000_000);
    let inventory = inventory_through(&lab, &line, "far.toml");
    // More than comes while it is packed, of bytes that can't be made smaller.
    lab.ask("mkdir /var/www/nailgun/more && head -c 90M /dev/urandom | split -b 900000 - /var/www/nailgun/more/package-");
    let child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    // One that only looks, and what more than a few blocks come over.
    let sessions = "pgrep -f '^sshd: root' | wc -l";
    wait_until("several are open", Duration::from_secs(120), || lab.sh(sessions).stdout.trim().parse::<u32>().is_ok_and(|n| n >= 4));
    let before = arrived(&lab);
    lab.ask("kill -KILL $(pgrep -n -f '^sshd: root')");
    let ran = end(child).expect_code(0).says("frozen");
    let again = ran.stderr.lines().find_map(|line| line.split("trying again from byte ").nth(1)).expect("it tried again");
    assert!(again.parse::<u64>().unwrap() >= before, "{again}");
    lab.assert_clean();
    lab.tanker(&["verify", "--all", "--deep"]).expect_code(0).says("every file in it");
}

#[test]
#[ignore = "long: make test-long"]
fn a_long_line_through_a_jump_host_is_filled_by_several_connections_and_outlives_a_change_of_keys() {
    let lab = Lab::up("long-line", "6.1");
    let line = Line::to(&format!("{}:22", lab.address()), 100, 0);
    // The line leads to a jump host, which is the master itself.
    let inventory = inventory_through(&lab, &line, "long.toml");
    let text = fs::read_to_string(&inventory).unwrap();
    let jump = format!("[hosts.m]\njump = [\"127.0.0.1:{}\"]\naddress = \"127.0.0.1\"\n", line.1);
    fs::write(&inventory, text.split("[hosts.m]").next().unwrap().to_owned() + &jump).unwrap();
    // Enough blocks for all lines, of bytes that can't be made smaller.
    lab.ask("head -c 60M /dev/urandom > /var/www/nailgun/random");
    lab.tanker_with(&inventory, &["backup"]).expect_code(0).says("frozen");
    let child = lab.command(&inventory, &["restore", "m@latest", "--to", "m", "--yes", "--only", "repositories"]).spawn().unwrap();
    let receivers = "ls /var/backup/fuel/tanker/restore-*/receiver.* 2>/dev/null | wc -l";
    wait_until("several lines push", Duration::from_secs(60), || lab.sh(receivers).stdout.trim().parse::<u32>().is_ok_and(|n| n >= 6));
    end(child).expect_code(0).says("restored m@");
    lab.assert_clean();

    // More than a GiB on one connection: keys are renewed on the way, with all of a long line's window in flight.
    lab.ask("truncate -s 1300M /var/www/nailgun/holes");
    let fetched = example("fetch").arg(&inventory).args(["m", "/var/www/nailgun/holes", "1363148800", "/dev/null"]).output().unwrap();
    let said = String::from_utf8_lossy(&fetched.stderr);
    assert!(fetched.status.success() && said.starts_with("1363148800 bytes"), "{said}");
}

#[test]
fn a_push_that_the_master_can_not_take_any_more_ends_with_its_reason_and_hangs_nowhere() {
    let lab = Lab::up_with("full", &["--fuel", "8.0", "--small-disks", "1500M"]);
    lab.ask("head -c 40M /dev/urandom > /var/www/nailgun/random");
    lab.tanker(&["backup"]).expect_code(0);
    let inventory = lab.inventory_with("bwlimit = \"8M\"");
    let child = lab.command(&inventory, &["restore", "m@latest", "--to", "m", "--yes"]).spawn().unwrap();
    wait_until("blocks arrive", Duration::from_secs(60), || {
        lab.sh("[ -s /var/backup/fuel/tanker/restore-*/archive.tar.lrz.part.blocks ]").code == Some(0)
    });
    lab.sh("dd if=/dev/zero of=/var/backup/fuel/filler bs=64k");
    let began = std::time::Instant::now();
    end(child).expect_code(1).says("is the disk full?");
    assert!(began.elapsed() < Duration::from_secs(60));
    lab.ask("rm /var/backup/fuel/filler");
    lab.assert_clean();
}
