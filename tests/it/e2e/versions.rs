//! Every release from 5.1 to 8.0, its state where that release keeps it, its Docker played by the wrapper: backed up, lost,
//! restored. 6.0 is the one without room (no_spool), 8.0 among the journeys, which also run 5.1 on a Docker of today.

use std::fs;
use std::path::Path;

use super::Lab;

fn comes_back(instance: &str, release: &str, docker: &str, method: &str, encrypted: bool) {
    let lab = Lab::up_with(instance, &["--fuel", release, "--docker", docker]);
    if ["1.4.1", "1.5.0"].contains(&docker) {
        has_its_traps(&lab, release);
    }
    lab.ask("echo precious > /etc/puppet/precious; /usr/bin/docker exec $(/usr/bin/docker ps --format '{{.Names}}' | grep -- -cobbler$) sh -c 'mkdir -p /var/lib/cobbler; echo system > /var/lib/cobbler/systems; echo settings > /etc/cobbler/settings'");
    lab.sql("insert into nodes (uuid, name, mac) values ('before', 'before', 'x')");
    lab.tanker(&["check"]).expect_code(0).says(&format!("Fuel {release}")).says(&format!("with {method}"));
    let inventory = if encrypted { inventory_with_keys(&lab) } else { lab.inventory() };
    lab.tanker_with(&inventory, &["backup"]).expect_code(0);
    if encrypted {
        lab.tanker(&["show", "m@latest"]).expect_code(0).says("encrypted").says(".tar.lrz.age");
        lab.tanker(&["restore", "m@latest", "--to", "m", "--dry-run"]).expect_code(3).says("none of the keys here opens it");
        lab.tanker_with(&inventory, &["verify", "m@latest", "--deep"]).expect_code(0).says("every file in it");
        lab.tanker_with(&inventory, &["backup", "--no-spool"]).expect_code(3).says("before it can be encrypted");
    }
    lab.assert_clean();
    lab.tanker(&["show", "m@latest", "--json"])
        .expect_code(0)
        .says(&format!("\"method\": \"{method}\""))
        .says(&format!("\"docker_version\": \"{docker}\""));
    assert_eq!(lab.paused(), [""; 0]);
    lab.sql("insert into nodes (uuid, name, mac) values ('after', 'after', 'x')");
    lab.lab(&["rebuild", "m"]).expect_code(0);
    lab.tanker(&["trust", "m", "--rebuilt", "--yes"]).expect_code(0);
    let mut restore = vec!["restore", "m@latest", "--to", "m", "--yes"];
    if encrypted {
        lies_only_at_a_remote(&lab, &inventory);
        restore.extend(["--from", "disk"]);
    }
    lab.tanker_with(&inventory, &restore).expect_code(0).says("restored m@");
    lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
    assert_eq!(lab.ask("cat /etc/puppet/precious"), "precious");
    assert_eq!(
        lab.ask("/usr/bin/docker exec $(/usr/bin/docker ps --format '{{.Names}}' | grep -- -cobbler$) cat /var/lib/cobbler/systems /etc/cobbler/settings"),
        "system\nsettings"
    );
    assert_eq!(lab.sql("select name from nodes where uuid in ('before', 'after')"), "before");
    assert_eq!(lab.ask("supervisorctl status | grep -c RUNNING"), "11");
    lab.assert_clean();
}

#[test]
#[ignore = "long: make test-long"]
fn fuel_5_1_with_docker_0_10_comes_back() {
    comes_back("v51", "5.1", "0.10.0", "cgroup", false);
}

#[test]
#[ignore = "long: make test-long"]
fn fuel_5_1_1_with_docker_0_12_comes_back() {
    comes_back("v511", "5.1.1", "0.12.0", "pause", false);
}

#[test]
#[ignore = "long: make test-long"]
fn i1_fuel_6_1_whose_docker_1_4_thaws_what_it_commits_comes_back() {
    comes_back("v61", "6.1", "1.4.1", "pause", false);
}

#[test]
fn i1_fuel_7_0_whose_docker_1_5_thaws_what_it_commits_comes_back() {
    comes_back("v70", "7.0", "1.5.0", "pause", true);
}

/// The library is lost, and what was copied is all there is.
fn lies_only_at_a_remote(lab: &Lab, inventory: &Path) {
    let disk = lab.path("disk");
    fs::create_dir(&disk).unwrap();
    let text = fs::read_to_string(inventory).unwrap();
    let library = text.lines().find_map(|line| line.strip_prefix("library = ")).unwrap().trim_matches('"').to_owned();
    fs::write(inventory, format!("{text}[remotes.disk]\nurl = \"file://{}\"\n", disk.display())).unwrap();
    lab.tanker_with(inventory, &["copy", "m", "--to", "disk"]).expect_code(0).says("copied");
    fs::remove_dir_all(Path::new(&library).join("m")).unwrap();
}

/// Archives are encrypted to a key that lies beside the inventory.
pub(super) fn inventory_with_keys(lab: &Lab) -> std::path::PathBuf {
    let key = lab.path("key.txt");
    assert!(std::process::Command::new("age-keygen").arg("-o").arg(&key).status().unwrap().success());
    let text = std::fs::read_to_string(&key).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    lab.inventory_with(&format!("encrypt_to = ['{public}']\ndecrypt_with = ['{}']", key.display()))
}

/// What the wrapper plays is what those versions do, or the tests above would show nothing.
fn has_its_traps(lab: &Lab, release: &str) {
    let (one, other) = (format!("fuel-core-{release}-rsyslog"), format!("fuel-core-{release}-rsync"));
    let state = format!("docker inspect -f '{{{{.State.Paused}}}}' {one}");
    if release == "6.1" {
        lab.sh(&format!("docker pause {one} {other}")).expect_code(0);
        assert_eq!(lab.ask(&state), "false", "two containers in one call: usage, exit code 0, nothing paused");
    }
    lab.ask(&format!("docker pause {one}"));
    lab.sh(&format!("docker exec {one} true")).expect_code(1);
    lab.sh(&format!("docker stop {one}")).expect_code(1);
    lab.ask(&format!("docker commit --pause=false {one} kept"));
    assert_eq!(lab.ask(&state), "true", "told not to pause, a commit leaves it paused");
    lab.ask(&format!("docker commit {one} kept"));
    assert_eq!(lab.ask(&state), "false", "a commit thaws what was paused");
    lab.ask("docker rmi kept");
}
