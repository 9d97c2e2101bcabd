//! The restore by hand that docs/archive-format.md shows, run as it stands there.

use std::fs;

use super::Lab;

/// The commands of the page.
fn commands() -> String {
    let page = include_str!("../../../docs/archive-format.md");
    let (_, section) = page.split_once("## Restoring by hand").unwrap();
    let (_, block) = section.split_once("```bash\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

fn by_hand(instance: &str, release: &str) {
    let lab = Lab::up(instance, release);
    lab.ask("cd /etc/puppet && mkdir d && echo precious > d/stays && echo 1 > d/goes && echo linked > d/one && ln d/one d/two && echo 1 > 'd/stays '");
    lab.sql("insert into nodes (uuid, name, mac) values ('before', 'before', 'x')");
    lab.break_docker("pause", "rm -f /etc/puppet/d/goes /etc/puppet/d/one /etc/puppet/d/s*\\ ");
    lab.tanker(&["backup"]).expect_code(0);
    lab.heal();
    let in_volume = "/usr/bin/docker exec $(/usr/bin/docker ps --format '{{.Names}}' | grep -- -nailgun$) cat /etc/nailgun/settings.yaml";
    let settings = lab.ask(in_volume);
    lab.sql("insert into nodes (uuid, name, mac) values ('after', 'after', 'x')");

    lab.lab(&["rebuild", "m"]).expect_code(0);
    assert_ne!(lab.ask(in_volume), settings, "a rebuilt master has secrets of its own");
    lab.ask("mkdir -p /var/backup/fuel; echo local > /etc/puppet/only-here");
    let listed: serde_json::Value = serde_json::from_str(&lab.tanker(&["list", "--json"]).expect_code(0).stdout).unwrap();
    let folder = listed["backups"][0]["folder"].as_str().unwrap().to_owned();
    for file in fs::read_dir(folder).unwrap().flatten() {
        lab.put(&file.path(), &format!("/var/backup/fuel/{}", file.file_name().to_str().unwrap()));
    }
    let script = lab.path("by-hand");
    fs::write(&script, commands()).unwrap();
    lab.put(&script, "/root/by-hand");
    lab.ask("bash /root/by-hand");

    assert_eq!(lab.ask("cd /etc/puppet/d && ls && cat stays two"), "stays\ntwo\nprecious\nlinked");
    lab.sh("test -e /etc/puppet/only-here").expect_code(1);
    assert_eq!(lab.ask("cat /etc/puppet.old/only-here"), "local", "what was there is kept");
    assert_eq!(lab.ask(in_volume), settings);
    assert_eq!(lab.sql("select name from nodes where uuid in ('before', 'after')"), "before");
    lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
    assert_eq!(lab.ask("supervisorctl status | grep -c RUNNING"), "11");
    assert_eq!(lab.ask("/usr/bin/docker images | grep -c -- _20 || true"), "0", "no second name of an image is left");
}

#[test]
#[ignore = "long: make test-long"]
fn an_archive_of_5_1_is_restored_by_hand_as_the_page_says() {
    by_hand("hand-old", "5.1");
}

#[test]
#[ignore = "long: make test-long"]
fn an_archive_of_8_0_is_restored_by_hand_as_the_page_says() {
    by_hand("hand-new", "8.0");
}
