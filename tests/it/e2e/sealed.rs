//! An encrypted backup and a drill, each with the cable pulled in the middle.

use std::time::Duration;

use super::{Lab, signal, wait_until};

#[test]
fn i2_an_encrypted_backup_and_a_drill_that_are_cut_off_leave_nothing_and_are_gone_on_with() {
    let lab = Lab::up("sealed", "8.0");
    let inventory = super::versions::inventory_with_keys(&lab);
    let slow = lab.path("slow.toml");
    let text = std::fs::read_to_string(&inventory).unwrap();
    std::fs::write(&slow, text.replace("[defaults]\n", "[defaults]\nbwlimit = \"2M\"\n")).unwrap();
    let library = text.lines().find_map(|line| line.strip_prefix("library = ")).unwrap().trim_matches('"').to_owned();

    // Killed on the way home: nothing is listed and nothing is frozen; the master has it still, and the key that what has come is opened with.
    let mut child = lab.command(&slow, &["backup"]).spawn().unwrap();
    let arrived = format!("cat '{library}'/m/*.partial/*.age 2>/dev/null | wc -c");
    wait_until("some of it has arrived", Duration::from_secs(120), || {
        let counted = std::process::Command::new("sh").args(["-c", &arrived]).output().unwrap();
        String::from_utf8_lossy(&counted.stdout).trim().parse::<u64>().unwrap() > 4_000_000
    });
    signal(&child, "KILL");
    child.wait().unwrap();
    assert_eq!(lab.listed(), 0);
    assert_eq!(lab.paused(), [""; 0]);
    let ran = lab.tanker_with(&inventory, &["backup", "--resume"]).expect_code(0).says("frozen");
    let here = ran.stderr.lines().find(|line| line.contains("are here already")).expect("it says what is here").to_owned();
    assert!(here.contains(" MiB of"), "{here}");
    lab.assert_clean();
    assert_eq!(lab.listed(), 1);
    let kept = std::process::Command::new("grep").args(["-rlE", "resume.key|^[0-9a-f]{32}$", &library]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "the key stays with the master, and goes with the job");
    lab.tanker_with(&inventory, &["verify", "--all", "--deep"]).expect_code(0).says("every file in it");

    let container = "/usr/bin/docker ps -a --format '{{.Names}}' | grep -c '^tanker-' || true";
    let drilling = || {
        let child = lab.command(&inventory, &["drill", "m@latest", "--on", "m"]).spawn().unwrap();
        wait_until("PostgreSQL is being tried out", Duration::from_secs(120), || lab.ask(container) == "1");
        child
    };
    // tanker gone: the job ends by itself, and takes its container and images along.
    let mut child = drilling();
    signal(&child, "KILL");
    child.wait().unwrap();
    wait_until("the job has ended", Duration::from_secs(120), || lab.tanker(&["status"]).stdout.contains("has ended"));
    assert_eq!(lab.ask(container), "0");
    lab.tanker(&["clean", "m", "--yes", "--running"]).expect_code(0);
    lab.assert_clean();

    // The machine restarted in the middle: what was left goes with the job.
    let mut child = drilling();
    lab.lab(&["reboot", "m"]).expect_code(0);
    signal(&child, "KILL");
    child.wait().unwrap();
    lab.tanker(&["clean", "m", "--yes", "--running"]).expect_code(0);
    assert_eq!(lab.ask(container), "0");
    lab.assert_clean();
    assert!(!lab.tanker(&["list"]).expect_code(0).stdout.contains("DRILL FAILED"), "the backup is not to blame");
    lab.tanker_with(&inventory, &["drill", "m@latest", "--on", "m"]).expect_code(0).says("restores: pushed in");
    lab.assert_clean();

    // A light one has nothing here that could be started: it says so, and is not recorded as a drill.
    lab.tanker(&["backup", "--light"]).expect_code(0);
    lab.tanker(&["drill", "m@latest", "--on", "m"]).expect_code(0).says("NO DATABASE was started");
    let listed: serde_json::Value = serde_json::from_str(&lab.tanker(&["list", "--json"]).expect_code(0).stdout).unwrap();
    let drills: Vec<usize> =
        listed["backups"].as_array().unwrap().iter().map(|backup| backup["record"]["drills"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(drills, [1, 0]);
    lab.assert_clean();
    // It brings back what it holds: from 6.1 on no image, but all state.
    lab.ask("echo later > /etc/puppet/later");
    lab.sql("insert into nodes (uuid, name, mac) values ('later', 'later', 'x')");
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(0).says("not all containers are made anew");
    lab.sh("test -e /etc/puppet/later").expect_code(1);
    assert_eq!(lab.sql("select count(*) from nodes where uuid = 'later'"), "0");
    lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
    lab.assert_clean();
}
