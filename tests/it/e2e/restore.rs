//! I4: a restore changes nothing before the archive is proven and unpacked, and rolls back if the cutover fails.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Lab, end, signal, wait_until};

/// The library's only backup: archive and manifest.
fn backup_of(lab: &Lab) -> (PathBuf, PathBuf) {
    let json: serde_json::Value = serde_json::from_str(&lab.tanker(&["list", "--json"]).expect_code(0).stdout).unwrap();
    let backup = &json["backups"][0];
    let folder = PathBuf::from(backup["folder"].as_str().unwrap());
    (folder.join(backup["manifest"]["archive"]["file"].as_str().unwrap()), folder.join("manifest.json"))
}

#[test]
fn i4_a_damaged_archive_is_refused_before_the_master_is_touched_and_a_failed_cutover_is_undone() {
    let lab = Lab::up("undo", "5.1");
    lab.tanker(&["backup"]).expect_code(0);
    // What is not Fuel's, or another release's, is left alone to the end.
    lab.ask("for name in foreign fuel-core-6.0-ostf; do /usr/bin/docker run -d --name $name --entrypoint /start.sh fuel/rsyslog_5.1; done");
    let foreign =
        || lab.ask("/usr/bin/docker inspect -f '{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Status}}' foreign fuel-core-6.0-ostf");
    let foreign_were = foreign();
    let (archive, manifest) = backup_of(&lab);
    let (archive_was, manifest_was) = (fs::read(&archive).unwrap(), fs::read_to_string(&manifest).unwrap());
    // The address that its containers are published at isn't the backup's any more.
    lab.ask("sed -i 's/^ADMIN_IP=.*/ADMIN_IP=\"127.0.0.1\"/' /etc/dockerctl/config");
    let before = lab.snapshot();
    let damages: [(&str, Box<dyn Fn()>); 3] = [
        ("cut short", Box::new(|| fs::write(&archive, &archive_was[..archive_was.len() - 4096]).unwrap())),
        (
            "one bit flipped",
            Box::new(|| {
                let mut bytes = archive_was.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&archive, bytes).unwrap();
            }),
        ),
        (
            "a manifest that doesn't fit",
            Box::new(|| {
                let other = manifest_was.replace("\"uuid\": \"", "\"uuid\": \"0");
                assert_ne!(other, manifest_was);
                fs::write(&manifest, other).unwrap();
            }),
        ),
    ];
    for (name, damage) in &damages {
        damage();
        assert_eq!(lab.tanker(&["verify", "m@latest"]).code, Some(5), "{name}");
        assert_eq!(lab.tanker(&["verify", "--all"]).code, Some(5), "{name}");
        assert_eq!(lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).code, Some(5), "{name}");
        assert_eq!(lab.snapshot(), before, "{name}: nothing on the master was touched");
        fs::write(&archive, &archive_was).unwrap();
        fs::write(&manifest, &manifest_was).unwrap();
    }
    lab.tanker(&["verify", "m@latest"]).expect_code(0);

    // Whoever makes the digests fit as well is found when the master has unpacked it: by then nothing in use has changed.
    let relabelled = manifest_was.replace("\"uuid\": \"", "\"uuid\": \"0");
    let sums = manifest.with_file_name("SHA256SUMS");
    let sums_were = fs::read_to_string(&sums).unwrap();
    let sum = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    fs::write(&manifest, &relabelled).unwrap();
    fs::write(&sums, sums_were.replace(&sum(&manifest_was), &sum(&relabelled))).unwrap();
    lab.tanker(&["verify", "m@latest"]).expect_code(0);
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(5).says("of another backup than its manifest says");
    assert_eq!(strip_folder_times(&lab.snapshot()), strip_folder_times(&before));
    fs::write(&manifest, &manifest_was).unwrap();
    fs::write(&sums, &sums_were).unwrap();

    // The last check of the cutover fails once: everything must be put back, what came after the backup included.
    lab.ask("echo later > /etc/puppet/later");
    lab.ask(FAILS_ONCE);
    lab.sql("insert into nodes (uuid, name, mac) values ('later', 'later', 'x')");
    let volume = lab.ask("/usr/bin/docker exec fuel-core-5.1-nailgun cat /etc/nailgun/settings.yaml");
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(1).says("put back as it was");
    assert_eq!(lab.ask("cat /etc/puppet/later"), "later");
    assert_eq!(lab.sql("select name from nodes where uuid = 'later'"), "later");
    assert_eq!(lab.ask("/usr/bin/docker exec fuel-core-5.1-nailgun cat /etc/nailgun/settings.yaml"), volume);
    lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
    assert_eq!(lab.ask("supervisorctl status | grep -c RUNNING"), "11");
    lab.ask("fuel task --list");
    lab.assert_clean();
    lab.heal();

    // The same restore again, with tanker killed in the middle of the cutover: the master needs nobody.
    let mut child = lab.command(&lab.inventory(), &["restore", "m@latest", "--to", "m", "--yes"]).spawn().unwrap();
    wait_until("the cutover runs", Duration::from_secs(120), || {
        lab.sh("grep -q ' step keep' /var/backup/fuel/tanker/*/events").code == Some(0)
    });
    signal(&child, "KILL");
    child.wait().unwrap();
    wait_until("the cutover ends by itself", Duration::from_secs(180), || {
        lab.sh("grep -q ' finished$' <(tail -n 1 /var/backup/fuel/tanker/*/events)").code == Some(0)
    });
    lab.sh("test -e /etc/puppet/later").expect_code(1);
    lab.lab(&["oracle", "m"]).expect_code(0);
    assert_eq!(lab.ask("grep ^ADMIN_IP= /etc/dockerctl/config"), "ADMIN_IP=\"127.0.0.1\"", "it stays the target's");
    // What the master's own tools have started lives on, without the job's lock.
    lab.ask("pgrep -f ^dhcrelay-of-the-lab && flock -n /var/backup/fuel/tanker true");
    lab.tanker(&["status"]).expect_code(0).says("has ended");

    // Nobody cleaned up behind that one, and work went on. The same restore once more, which fails before it has replaced anything,
    // must not take the marks of the first for its own: what came since stays.
    lab.sql("insert into nodes (uuid, name, mac) values ('since', 'since', 'x')");
    lab.ask("/usr/bin/docker exec fuel-core-5.1-nailgun sh -c 'echo since > /etc/nailgun/since'");
    lab.ask("rm -f /var/lab/bin/dockerctl; printf '%s\\n' '#!/bin/bash' 'if [ \"$1\" = stop ] && [ -e /run/fail-once ]; then rm /run/fail-once; echo it does not stop >&2; exit 1; fi' 'exec /var/lab/bin/dockerctl-of-the-lab \"$@\"' > /var/lab/bin/dockerctl; chmod 755 /var/lab/bin/dockerctl; touch /run/fail-once");
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(1).says("put back as it was");
    assert_eq!(foreign(), foreign_were);
    assert_eq!(lab.sql("select name from nodes where uuid = 'since'"), "since");
    assert_eq!(lab.ask("/usr/bin/docker exec fuel-core-5.1-nailgun cat /etc/nailgun/since"), "since");
    assert_eq!(lab.ask("supervisorctl status | grep -c RUNNING"), "11");
    lab.assert_clean();
}

#[test]
#[ignore = "long: make test-long"]
fn i4_what_was_ill_before_a_restore_stays_so_where_that_is_put_back_and_hinders_nothing() {
    let lab = Lab::up("ill", "5.1");
    lab.tanker(&["backup"]).expect_code(0);
    lab.sql("insert into nodes (uuid, name, mac) values ('later', 'later', 'x')");
    // A master that is ill, which is why one restores: of its containers one is stopped, one is gone, one is up and does nothing, which the
    // tool of 5.1 only says. The restore fails for the last one, and the rest is put back as it was.
    lab.ask("supervisorctl stop docker-mcollective docker-ostf >/dev/null; /usr/bin/docker stop -t 1 fuel-core-5.1-mcollective; dockerctl destroy ostf");
    lab.ask("rm -f /var/lab/bin/dockerctl; printf '%s\\n' '#!/bin/bash' 'if [ \"$1 $2\" = \"check rsyslog\" ]; then echo \"ERROR: rsyslog failed to start.\"; exit 0; fi' 'exec /var/lab/bin/dockerctl-of-the-lab \"$@\"' > /var/lab/bin/dockerctl; chmod 755 /var/lab/bin/dockerctl");
    let states = || {
        lab.ask("/usr/bin/docker ps -a --filter name=fuel-core-5.1 --format '{{.Names}} {{.State}}' | sort; supervisorctl status | awk '{ print $1, $2 }' | sort")
    };
    let ill = states();
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"])
        .expect_code(1)
        .says("dockerctl check rsyslog failed")
        .says("put back as it was");
    assert_eq!(states(), ill);
    assert_eq!(lab.sql("select name from nodes where uuid = 'later'"), "later");
    lab.assert_clean();
    lab.heal();
    lab.ask("dockerctl start all && supervisorctl start docker-mcollective docker-ostf >/dev/null; dockerctl check all");
}

#[test]
fn i4_an_interrupt_before_the_cutover_leaves_the_master_as_it_was() {
    let lab = Lab::up("before", "8.0");
    lab.tanker(&["backup"]).expect_code(0);
    lab.break_docker("load", "sleep 30");
    let before = lab.snapshot();
    let child = lab.command(&lab.inventory(), &["restore", "m@latest", "--to", "m", "--yes"]).spawn().unwrap();
    wait_until("images are loaded", Duration::from_secs(120), || {
        lab.sh("grep -q ' step load' /var/backup/fuel/tanker/*/events").code == Some(0)
    });
    signal(&child, "INT");
    end(child).expect_code(130).says("nothing was changed");
    lab.heal();
    let (was, is) = (strip_folder_times(&before), strip_folder_times(&lab.snapshot()));
    assert_eq!(was, is);
    lab.assert_clean();

    // A deployment that begins while the archive is brought over is not cut down.
    lab.break_docker("load", "sleep 10");
    let child = lab.command(&lab.inventory(), &["restore", "m@latest", "--to", "m", "--yes"]).spawn().unwrap();
    wait_until("images are loaded", Duration::from_secs(120), || {
        lab.sh("grep -q ' step load' /var/backup/fuel/tanker/*/events").code == Some(0)
    });
    lab.lab(&["tasks", "m", "running"]).expect_code(0);
    end(child).expect_code(3).says("m  refused  ").says("running");
    lab.lab(&["tasks", "m", "none"]).expect_code(0);
    lab.heal();
    assert_eq!(strip_folder_times(&before), strip_folder_times(&lab.snapshot()));

    // A workstation without lrzip: the master proves, the manifest says so, verify says what it did not do.
    let bin = lab.path("bin");
    fs::create_dir(&bin).unwrap();
    for tool in ["tar", "sh"] {
        let real = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        std::os::unix::fs::symlink(String::from_utf8_lossy(&real.stdout).trim(), bin.join(tool)).unwrap();
    }
    let output = lab.command(&lab.inventory(), &["backup"]).env("PATH", &bin).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    lab.tanker(&["show", "m@latest"]).expect_code(0).says("on the master");
    let output = lab.command(&lab.inventory(), &["verify", "m@latest"]).env("PATH", &bin).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("ok  SHA-256\n"));
    let output = lab.command(&lab.inventory(), &["verify", "m@latest", "--deep"]).env("PATH", &bin).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    lab.tanker(&["verify", "m@latest", "--deep"]).expect_code(0).says("every member");
}

#[test]
fn i4_a_reboot_in_the_middle_of_the_cutover_is_put_back_or_done_again() {
    let lab = Lab::up("reboot", "8.0");
    lab.tanker(&["backup"]).expect_code(0);
    lab.ask("echo later > /etc/puppet/later");
    lab.sql("insert into nodes (uuid, name, mac) values ('later', 'later', 'x')");
    let cut_down_at = |step: &str| {
        let child = lab.command(&lab.inventory(), &["restore", "m@latest", "--to", "m", "--yes"]).spawn().unwrap();
        wait_until(step, Duration::from_secs(120), || {
            lab.sh(&format!("grep -q ' step {step}' /var/backup/fuel/tanker/*/events")).code == Some(0)
        });
        lab.lab(&["reboot", "m"]).expect_code(0);
        end(child).expect_code(6).says("--rollback");
        lab.tanker(&["status"]).expect_code(0).says("HALF RESTORED");
        let told = lab.tanker(&["status", "--json"]).expect_code(0).says("\"half_restored\":true");
        crate::events::held(&told.stdout);
    };
    cut_down_at("swap");
    lab.tanker(&["backup"]).expect_code(3).says("came to no end");
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(3).says("came to no end");
    let rollback = ["restore", "--to", "m", "--rollback"];
    lab.tanker(&rollback).expect_code(3).says("End the restore that came to no end on m (restore-").says("say --yes if you mean it");
    lab.tanker(&[&rollback[..], &["--dry-run"]].concat()).expect_code(0).says("that is what would happen");
    lab.tanker(&["status"]).expect_code(0).says("HALF RESTORED");
    lab.tanker(&[&rollback[..], &["--yes"]].concat()).expect_code(0).says("put back as it was");
    assert_eq!(lab.ask("cat /etc/puppet/later"), "later");
    assert_eq!(lab.sql("select name from nodes where uuid = 'later'"), "later");
    lab.assert_clean();
    lab.tanker(&rollback).expect_code(3).says("nothing to do");

    // Tanker comes in with a key that the backup doesn't know: it must still be let in afterwards.
    let key = lab.path("new-key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "new", "-f"]).arg(&key).status().unwrap();
    assert!(made.success());
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    lab.ask(&format!("echo '{}' > /root/.ssh/authorized_keys", public.trim()));
    let with_key = lab.path("with-key.toml");
    let inventory = fs::read_to_string(lab.inventory()).unwrap();
    let old_key = inventory.lines().find(|line| line.starts_with("identity = ")).unwrap();
    fs::write(&with_key, inventory.replace(old_key, &format!("identity = [\"{}\"]", key.display()))).unwrap();
    lab.tanker_with(&with_key, &["restore", "m@latest", "--to", "m", "--yes"]).expect_code(0);
    assert_eq!(lab.ask("grep -c . /root/.ssh/authorized_keys; grep -c ' new$' /root/.ssh/authorized_keys"), "2\n1");
    lab.tanker_with(&with_key, &["check"]).expect_code(0);
    lab.ask("echo later > /etc/puppet/later");
    lab.sql("insert into nodes (uuid, name, mac) values ('later', 'later', 'x')");

    cut_down_at("start");
    // What is in use by now has been worked on: it is not what is restored in the end.
    lab.ask("echo used > /etc/puppet/used");
    // Killed, and its line cut, while it is done again: the master needs nobody for that either.
    let mut child = lab.command(&lab.inventory_with(""), &["restore", "--to", "m", "--resume", "--yes"]).spawn().unwrap();
    wait_until("it is put back first", Duration::from_secs(90), || {
        lab.sh("grep -q ' step rollback' /var/backup/fuel/tanker/*/events").code == Some(0)
    });
    signal(&child, "KILL");
    child.wait().unwrap();
    lab.sh("pkill -KILL -f '^sshd: root'");
    wait_until("it is restored", Duration::from_secs(240), || {
        lab.sh("grep -q ' finished$' <(tail -n 1 /var/backup/fuel/tanker/*/events)").code == Some(0)
    });
    lab.tanker(&["restore", "--to", "m", "--resume", "--yes"]).expect_code(3).says("nothing to do");
    lab.tanker(&["clean", "--yes"]).expect_code(0);
    lab.sh("test -e /etc/puppet/later || test -e /etc/puppet/used").expect_code(1);
    assert_eq!(lab.sql("select count(*) from nodes where uuid = 'later'"), "0");
    lab.lab(&["oracle", "m"]).expect_code(0);
    lab.assert_clean();
}

#[test]
fn a_part_is_restored_alone_and_a_light_backup_has_only_some_of_them() {
    drop(parts("parts", &[("config", "was is 1"), ("database", "is is 0")]));
}

#[test]
#[ignore = "long: make test-long"]
fn repositories_and_images_are_restored_alone() {
    let lab = parts("other-parts", &[("repositories", "is was 1"), ("images", "is is 0")]);

    // One whose cutover fails is put back, what it doesn't bring included.
    lab.tanker(&["backup"]).expect_code(0);
    lab.ask("echo is > /etc/puppet/mark; echo is > /var/www/nailgun/mark");
    for (part, later) in [("database", "one"), ("config", "two"), ("images", "three")] {
        lab.sql(&format!("delete from nodes; insert into nodes (uuid, name, mac) values ('{later}', '{later}', 'x')"));
        lab.ask(FAILS_ONCE);
        lab.tanker(&["restore", "m@latest", "--to", "m", "--yes", "--only", part]).expect_code(1).says("put back as it was");
        assert_eq!(lab.ask("cat /etc/puppet/mark /var/www/nailgun/mark"), "is\nis", "--only {part}");
        assert_eq!(lab.sql("select uuid from nodes"), later, "--only {part}");
        lab.heal();
        lab.assert_clean();
    }
}

/// The last check of a cutover fails once.
const FAILS_ONCE: &str = r#"rm -f /var/lab/bin/dockerctl; printf '%s\n' '#!/bin/bash' 'if [ "$1 $2" = "check cobbler" ] && [ -e /run/fail-once ] && grep -q " step check" /var/backup/fuel/tanker/*/events; then rm /run/fail-once; echo cobbler is NOT ready >&2; exit 1; fi' 'exec /var/lab/bin/dockerctl-of-the-lab "$@"' > /var/lab/bin/dockerctl; chmod 755 /var/lab/bin/dockerctl; touch /run/fail-once"#;

fn parts(instance: &str, each: &[(&str, &str)]) -> Lab {
    let lab = Lab::up(instance, "5.1");
    lab.ask("echo was > /etc/puppet/mark; echo was > /var/www/nailgun/mark");
    lab.tanker(&["backup"]).expect_code(0);
    let change = || {
        lab.ask("echo is > /etc/puppet/mark; echo is > /var/www/nailgun/mark");
        lab.sql("delete from nodes; insert into nodes (uuid, name, mac) values ('is', 'is', 'x')");
    };
    let state = || {
        format!(
            "{} {}",
            lab.ask("cat /etc/puppet/mark /var/www/nailgun/mark").replace('\n', " "),
            lab.sql("select count(*) from nodes where uuid = 'is'")
        )
    };
    let only = |part: &str, expected: &str| {
        change();
        lab.tanker(&["restore", "m@latest", "--to", "m", "--yes", "--only", part]).expect_code(0).says("restored");
        assert_eq!(state(), expected, "--only {part}");
        lab.assert_clean();
    };
    for (part, expected) in each {
        only(part, expected);
    }

    lab.ask("echo light > /etc/puppet/mark");
    let ran = lab.tanker(&["backup", "--light", "--freeze", "none", "--json"]).expect_code(0);
    assert!(!ran.stdout.contains(r#""event":"frozen""#), "nothing is frozen, and nothing says so: {}", ran.stdout);
    lab.tanker(&["show", "m@latest"]).expect_code(0).says("light");
    lab.tanker(&["show", "m@latest", "--json"]).expect_code(0).says("\"method\": \"none\"").says("\"consistent\": false");
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes", "--only", "repositories"]).expect_code(3).says("it is a light one");
    change();
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(0);
    assert_eq!(state(), "light is 0", "state and configuration come back, packages stay as they are");
    assert_eq!(lab.ask("supervisorctl status | grep -c RUNNING"), "11");
    lab.assert_clean();
    lab
}

#[test]
#[ignore = "long: make test-long"]
fn a_master_of_another_network_keeps_it_and_one_whose_services_never_get_ready_is_put_back() {
    let lab = Lab::of("other", &[("m", &["--fuel", "5.1"]), ("n", &["--fuel", "5.1"])]);
    let on_n = |script: &str| lab.lab(&["exec", "n", "bash", "-c", script]).expect_code(0).stdout.trim().to_owned();
    let network = "sed -n '/^\"ADMIN_NETWORK/,/^\"[a-z]/p' /etc/fuel/astute.yaml; grep HOSTNAME /etc/fuel/astute.yaml";
    let secrets = "sed -n '/^\"FUEL_ACCESS/,/^\"[A-Z]/p; /^\"astute/,/^\"cobbler/p' /etc/fuel/astute.yaml";
    lab.tanker(&["backup", "m"]).expect_code(0);
    let (own, theirs) = (on_n(network), lab.ask(secrets));
    assert_ne!(on_n(secrets), theirs);

    // It never answers within its time: everything is put back.
    let patient = lab.inventory_with("ready_timeout = 10");
    on_n(
        "rm /var/lab/bin/fuel.real 2>/dev/null; mv /var/lab/bin/fuel /var/lab/bin/fuel.real; printf '#!/bin/sh\necho no answer >&2; exit 1\n' > /var/lab/bin/fuel; chmod 755 /var/lab/bin/fuel",
    );
    let restore = ["restore", "m@latest", "--to", "n", "--yes"];
    let ran = lab.tanker_with(&patient, &[&restore[..], &["--ignore-tasks"]].concat()).expect_code(1);
    ran.says("nailgun was not ready within 10 s")
        .says("everything was put back as it was")
        .says("THE ADMIN NETWORK DIFFERS: ADMIN_NETWORK.ipaddress");
    on_n("mv /var/lab/bin/fuel.real /var/lab/bin/fuel");
    assert_eq!(on_n(network), own);
    assert_ne!(on_n(secrets), theirs);

    lab.tanker(&restore).expect_code(0).says("THE ADMIN NETWORK DIFFERS");
    assert_eq!(on_n(network), own, "its network stays the target's");
    assert_eq!(on_n(secrets), theirs, "everything else is the backup's");
    lab.lab(&["oracle", "n"]).expect_code(0).says("\nconsistent");
}

/// A spool that was made and removed leaves its parent with another time, and nothing else.
fn strip_folder_times(snapshot: &str) -> String {
    snapshot.lines().filter(|line| !line.starts_with("/var/backup/fuel ")).collect::<Vec<_>>().join("\n")
}
