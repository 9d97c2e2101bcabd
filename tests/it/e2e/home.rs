//! A library whose home is a remote, with a real master: killed, full, lost, and restored from.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{Lab, signal, wait_until};

/// A disk in memory, for a remote or a library.
pub(super) struct Disk(pub(super) std::path::PathBuf);

impl Disk {
    pub(super) fn mount(&self, options: &str) {
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tanker-home"]).arg(&self.0).status().unwrap();
        assert!(done.success(), "{} can't be mounted with {options}", self.0.display());
    }

    fn archives(&self) -> usize {
        let found = Command::new("find").arg(&self.0).args(["-name", "*.lrz", "-size", "+0"]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).lines().count()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[ignore = "long: make test-long"]
fn i2_a_backup_whose_home_is_a_remote_is_lost_by_no_kill_no_full_disk_and_no_lost_workstation() {
    let lab = Lab::up("home", "8.0");
    lab.ask("echo precious > /etc/puppet/precious");
    let disk = Disk(lab.path("home"));
    fs::create_dir_all(&disk.0).unwrap();
    disk.mount("size=4m");
    let inventory = lab.inventory_with("lease = 5");
    let text = fs::read_to_string(&inventory).unwrap();
    let own =
        |line: &str| if line.starts_with("library = ") { format!("library = \"file://{}\"", disk.0.display()) } else { line.to_owned() };
    fs::write(&inventory, text.lines().map(own).collect::<Vec<_>>().join("\n")).unwrap();
    let tanker = |args: &[&str]| lab.tanker_with(&inventory, args);

    // Killed while the archive is on its way here: nothing is listed, here or there.
    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    let packs = "grep -q 'step compress' /var/backup/fuel/tanker/*/events";
    wait_until("it packs", Duration::from_secs(120), || lab.sh(packs).code == Some(0));
    signal(&child, "KILL");
    child.wait().unwrap();
    assert_eq!(tanker(&["list"]).expect_code(0).stdout.lines().count(), 1);
    assert_eq!(disk.archives(), 0);
    wait_until("the job has ended", Duration::from_secs(90), || !tanker(&["status"]).stdout.contains(" runs"));

    // A home that is full: the backup is made, listed, and stays here until there is room.
    let said = tanker(&["backup"]).expect_code(1).says("frozen").stderr;
    assert!(said.contains("whatever works with this library next tries again"), "{said}");
    tanker(&["verify", "m@latest", "--deep"]).expect_code(1).says("every member");
    lab.assert_clean();
    disk.mount("remount,size=400m");
    let listed = tanker(&["list"]).expect_code(0).says("m@");
    assert!(listed.stderr.contains(" is at file://"), "{}", listed.stderr);
    assert_eq!(disk.archives(), 1);

    // The workstation is lost, and so is the master.
    fs::remove_dir_all(lab.state().join("tanker/libraries")).unwrap();
    lab.lab(&["rebuild", "m"]).expect_code(0);
    tanker(&["trust", "m", "--rebuilt", "--yes"]).expect_code(0);
    tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(0).says("restored m@");
    lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
    assert_eq!(lab.ask("cat /etc/puppet/precious"), "precious");
    lab.assert_clean();

    // What else looks into an archive works on it as on any library.
    tanker(&["drill", "m@latest", "--on", "m"]).expect_code(0).says("restores: pushed in");
    let out = lab.path("out");
    tanker(&["extract", "m@latest", "/etc/puppet/precious", "--to", out.to_str().unwrap()]).expect_code(0);
    assert_eq!(fs::read_to_string(out.join("etc/puppet/precious")).unwrap(), "precious\n");
    let stock = lab.path("stock");
    tanker(&["export", "m@latest", "--to", stock.to_str().unwrap()]).expect_code(0);
    assert_eq!(fs::read_dir(&stock).unwrap().count(), 1);
    lab.assert_clean();
    assert_eq!(disk.archives(), 1);
    let here = Command::new("find").arg(lab.state()).args(["-name", "*.lrz"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&here.stdout), "", "nothing of it stays on this disk");
}
