//! A master without room for its own backup.

use std::time::Duration;

use super::{Lab, signal, wait_until};

#[test]
fn a_master_without_room_sends_what_it_has_and_the_archive_is_packed_here() {
    let lab = Lab::up_with("nospool", &["--fuel", "6.0", "--docker", "0.10.0", "--small-disks", "1500M"]);
    lab.ask("echo precious > /etc/puppet/precious");
    // Between the live and the frozen pass files come and go.
    lab.ask("cd /etc/puppet && mkdir -p d && echo 1 > d/goes && echo 1 > d/stays");
    let meanwhile = "cd /etc/puppet/d; rm -f goes; echo 2 > comes; echo 2 > stays";
    // It leaves room for lists of files, and not for a tar.
    lab.ask("dd if=/dev/zero of=/var/backup/fuel/filler bs=1M count=1470 2>/dev/null; df -Pk /var/backup/fuel");
    lab.tanker(&["backup"]).expect_code(3).says("'--no-spool' packs here instead");
    lab.tanker(&["backup", "--no-spool", "--dry-run"]).expect_code(0).says("here, to pack it");

    // A tanker that is killed while the master sends: nothing holds the master, nothing is listed.
    let inventory = lab.inventory_with("spool = false\nlease = 5");
    let mut child = lab.command(&inventory, &["backup"]).spawn().unwrap();
    wait_until("it sends", Duration::from_secs(60), || {
        lab.sh("grep -q ' member system-dirs.tar' /var/backup/fuel/tanker/*/events").code == Some(0)
    });
    signal(&child, "KILL");
    child.wait().unwrap();
    wait_until("the job has ended", Duration::from_secs(90), || lab.tanker(&["status"]).stdout.contains("has ended"));
    assert_eq!(lab.listed(), 0);

    // Asked for between the two passes; beside a commit it would race with the second list.
    lab.break_docker("ps", &format!("case \"$*\" in *\" -s \"*) {meanwhile} ;; esac"));
    lab.tanker_with(&inventory, &["backup"]).expect_code(0).says("frozen");
    lab.heal();
    lab.ask("rm /var/backup/fuel/filler");
    lab.assert_clean();
    lab.sh("pgrep -f '^cat /var/backup'").expect_code(1);
    lab.tanker(&["verify", "--all", "--deep"]).expect_code(0).says("decompressed, every member");
    lab.tanker(&["show", "m@latest"]).expect_code(0).says("packed on the workstation");
    let files = lab.tanker(&["files", "m@latest"]).expect_code(0).says(" /etc/puppet/d/comes\n").says(" /etc/puppet/d/stays\n");
    assert!(!files.stdout.contains("/etc/puppet/d/goes\n"));

    lab.lab(&["rebuild", "m"]).expect_code(0);
    lab.tanker(&["trust", "m", "--rebuilt", "--yes"]).expect_code(0);
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(0).says("restored m@");
    lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
    assert_eq!(
        lab.ask("cat /etc/puppet/precious /etc/puppet/d/comes /etc/puppet/d/stays; ls /etc/puppet/d"),
        "precious\n2\n2\ncomes\nstays"
    );
    lab.assert_clean();
}
