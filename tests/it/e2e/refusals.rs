//! Backups that must not begin: refused with the reason, and nothing on the master has changed.

use super::Lab;

#[test]
fn a_backup_that_may_not_be_is_refused_and_changes_nothing() {
    let lab = Lab::up("refuse", "5.1");
    // The first words a client of 8.0 would say on stdout are behind us.
    lab.ask("fuel task --list");
    let refused = |why: &str| {
        let before = lab.snapshot();
        lab.tanker(&["backup"]).expect_code(3).says("m  refused").says(why);
        assert_eq!(lab.snapshot(), before, "{why}");
        assert_eq!(lab.listed(), 0);
    };
    for status in ["running", "pending", "zombie"] {
        lab.lab(&["tasks", "m", "ready", status]).expect_code(0);
        refused(&format!("unfinished: task 2 deploy ({status})"));
    }
    lab.lab(&["tasks", "m"]).expect_code(0);

    lab.ask("cp /etc/fuel/client/config.yaml /root/kept; sed -i 's/^KEYSTONE_PASS.*/KEYSTONE_PASS: wrong/' /etc/fuel/client/config.yaml");
    refused("Unauthorized");
    lab.ask("cp /root/kept /etc/fuel/client/config.yaml");

    lab.ask("supervisorctl stop docker-nailgun && /usr/bin/docker stop -t 1 fuel-core-5.1-nailgun");
    refused("can't be read");
    lab.ask("dockerctl start nailgun && supervisorctl start docker-nailgun && dockerctl check nailgun");

    lab.ask("mv /var/lab/bin/lrzip /var/lab/bin/lrzip.away");
    refused("lrzip is not installed");
    lab.ask("mv /var/lab/bin/lrzip.away /var/lab/bin/lrzip");
    lab.ask("mv /etc/fuel/version.yaml /root/; echo 'VERSION: {release: nothing}' > /etc/fuel/version.yaml; printf 'VERSION:\\n  release: \"9.0\"\\n' > /etc/fuel/version.yaml");
    refused("no containers");
    lab.ask("mv /root/version.yaml /etc/fuel/version.yaml");
    lab.tanker(&["backup", "--dry-run"]).expect_code(0);

    // Another tanker's job has ended, but its archive is still on its way home: something reads it, and it moves.
    lab.ask("mkdir -p /var/backup/fuel/tanker/backup-other && cd /var/backup/fuel/tanker/backup-other && echo somebody@else > owner && echo x > archive");
    let reader = "cd /var/backup/fuel/tanker/backup-other; {COMMAND} >/dev/null 2>&1 & p=$!; sleep 0.2; echo $p $(sed 's/^.*) //' /proc/$p/stat | cut -d' ' -f20) > reader";
    lab.ask(&reader.replace("{COMMAND}", "cat /dev/zero"));
    lab.tanker(&["backup"]).expect_code(3).says("another tanker works on this master: somebody@else");
    assert_eq!(lab.ask("cat /var/backup/fuel/tanker/backup-other/archive"), "x");
    // One that hangs in a dead line holds nothing.
    lab.ask(&format!("pkill -x cat; {}", reader.replace("{COMMAND}", "sleep 600")));
    lab.tanker(&["backup"]).expect_code(0);
    lab.ask("pkill -x sleep; true");
    lab.assert_clean();

    // What the operator overrules stands in the manifest.
    lab.lab(&["tasks", "m", "running"]).expect_code(0);
    lab.tanker(&["backup", "--ignore-tasks"]).expect_code(0);
    lab.tanker(&["show", "m@latest"]).expect_code(0).says("IGNORED: task 1 deploy (running)");
}
