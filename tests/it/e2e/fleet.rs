//! Many hosts at once, and hosts that mean harm. The many are one lab master under many loopback addresses, reached through its own sshd as a
//! jump host, which lets in no more than an sshd of old did.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{Lab, end, signal, wait_until};

/// The lab's key and known hosts, a jump host at port 2201, and what `hosts` adds.
fn fleet(lab: &Lab, hosts: &str) -> PathBuf {
    let text = fs::read_to_string(lab.inventory()).unwrap();
    let defaults = text.split("[hosts.").next().unwrap().to_owned();
    let known = lab.path("known");
    let keys = lab.ask("cat /etc/ssh/ssh_host_ed25519_key.pub");
    let key: Vec<&str> = keys.split_whitespace().take(2).collect();
    fs::write(&known, format!("* {}\n[*]:* {}\n", key.join(" "), key.join(" "))).unwrap();
    let defaults: String = defaults.lines().filter(|line| !line.starts_with("known_hosts")).map(|line| format!("{line}\n")).collect();
    let path = lab.path("fleet.toml");
    fs::write(
        &path,
        format!("{defaults}known_hosts = \"{}\"\njump = [\"{}:2201\"]\nconnect_timeout = 30\n{hosts}", known.display(), lab.address()),
    )
    .unwrap();
    path
}

fn many(count: usize) -> String {
    (1..=count).map(|n| format!("[hosts.web{n:02}]\naddress = \"127.0.0.{n}\"\n")).collect()
}

#[test]
fn i5_forty_hosts_behind_a_jump_host_that_lets_in_few_at_a_time_are_all_reached() {
    let lab = Lab::up("many", "5.1");
    lab.sshd(2201, "-o MaxStartups=4:100:4");
    let inventory = fleet(&lab, &many(40));
    let ran = lab.tanker_with(&inventory, &["hosts", "check", "--forks", "40", "--json"]).expect_code(0);
    let (recap, _) = crate::events::held(&ran.stdout);
    assert_eq!(recap["hosts"].as_array().unwrap().iter().filter(|host| host["outcome"] == "ok").count(), 40);
    assert_eq!((recap["verb"].as_str(), recap["exit_code"].as_u64()), (Some("hosts-check"), Some(0)));

    // Some can't be reached: who failed is known to the next run, and the rest is not done again.
    let broken = format!(
        "{}[hosts.gone01]\naddress = \"127.0.0.9\"\nport = 1\n[hosts.gone02]\naddress = \"127.0.0.9\"\nport = 2\n[groups]\nfront = [\"web01\", \"web02\", \"gone01\"]\n",
        many(4)
    );
    let inventory = fleet(&lab, &broken);
    let tanker = |args: &[&str]| lab.tanker_with(&inventory, &[&["hosts", "check"], args].concat());
    tanker(&[]).expect_code(4).says("gone01  unreachable").says("gone02  unreachable").says("web04   ok");
    let again = tanker(&["@failed"]).expect_code(4);
    assert!(!again.stdout.contains("web"), "{}", again.stdout);
    tanker(&["all", "--limit", "front,!gone*"]).expect_code(0).says("web01  ok").says("web02  ok");
    let none = tanker(&["@failed"]).expect_code(2);
    assert!(none.stderr.contains("no host failed in the last run"), "{}", none.stderr);
    tanker(&["gone*,web[03:04]", "--forks", "1", "--fail-fast"])
        .expect_code(4)
        .says("web03   ok")
        .says("gone02  not begun")
        .says("1 host failed before its turn");
    tanker(&["front", "--serial", "50%", "--max-fail", "1"]).expect_code(4).says("web01   ok");
    lab.tanker_with(&inventory, &["hosts", "list", "front[0:1]"]).expect_code(0).says("web01  root@127.0.0.1:22").says("front");

    // A log of the run, a file a host.
    let runs: Vec<PathBuf> = fs::read_dir(lab.state().join("tanker/runs")).unwrap().map(|e| e.unwrap().path()).collect();
    // In one of them its turn did not come.
    let told: Vec<String> = runs.iter().filter_map(|run| fs::read_to_string(run.join("gone02.log")).ok()).collect();
    assert!(told.iter().any(|told| told.contains("Z connect\n") && told.contains("unreachable: ")), "{told:?}");
    assert!(runs.iter().all(|run| run.join("recap.json").exists()));

    // One that is stuck holds nobody up: it is given up by its own time limit.
    lab.ask("python3 -c 'import socket, time; s = socket.socket(); s.bind((\"127.0.0.1\", 2299)); s.listen(); time.sleep(600)' >/dev/null 2>&1 &");
    let stuck = format!("{}[hosts.stuck]\naddress = \"127.0.0.1\"\nport = 2299\nconnect_timeout = 3\n", many(3));
    let inventory = fleet(&lab, &stuck);
    lab.tanker_with(&inventory, &["hosts", "check"]).expect_code(4).says("stuck  unreachable").says("web03  ok");
}

#[test]
fn i5_an_interrupted_run_says_of_each_host_what_became_of_it() {
    let lab = Lab::up("stopped", "5.1");
    lab.sshd(2201, "");
    let inventory = fleet(&lab, &many(3));
    lab.break_docker("commit", "sleep 30");
    let child = lab.command(&inventory, &["backup", "--forks", "1", "--json"]).spawn().unwrap();
    wait_until("containers are frozen", Duration::from_secs(60), || lab.paused().len() == 11);
    signal(&child, "INT");
    let ran = end(child).expect_code(130);
    let (recap, names) = crate::events::held(&ran.stdout);
    assert!(names.contains(&"frozen".to_owned()), "{names:?}");
    let said: Vec<&str> = recap["hosts"].as_array().unwrap().iter().map(|host| host["summary"].as_str().unwrap()).collect();
    assert_eq!(said, ["stopped as told to", "not begun", "not begun"]);
    assert_eq!(lab.paused(), [""; 0]);
    lab.assert_clean();
}

#[test]
fn i8_a_hostile_master_reaches_neither_the_terminal_nor_the_disk_nor_the_memory() {
    let lab = Lab::up("hostile", "5.1");
    let inventory = fleet(&lab, "[hosts.m]\naddress = \"127.0.0.1\"\nport = 2222\njump = []\n");
    let text = fs::read_to_string(&inventory).unwrap().replace("127.0.0.1", &lab.address());
    fs::write(&inventory, &text).unwrap();
    // Whatever is asked, this is what it says.
    let says = |script: &str| {
        // The port is free only when the one before is gone.
        lab.ask("pkill -f '[s]shd.*2222'; while pgrep -f '[s]shd.*-p 2222' >/dev/null; do sleep 0.1; done");
        lab.ask(&format!("printf '%s\\n' '#!/bin/bash' '{script}' > /root/evil; chmod 755 /root/evil"));
        lab.sshd(2222, "-o ForceCommand=/root/evil");
    };
    let cases = [
        ("yes", "printed more than"),
        ("yes >&2", "complains without end"),
        ("echo \"@user 99999999999999999999\"; echo x", "a frame"),
        ("printf \"@a 5\\\\nab\\\\033[2Jc\"; exit 0", "a frame"),
        ("printf \"@tool.\\\\033[2J 1\\\\nx\\\\n\"; exit 0", "no frame.s name"),
        ("head -c 3000000 /dev/urandom", "can.t be read"),
        ("printf \"\\\\033]0;owned\\\\007\\\\033[2J\" >&2; exit 3", "?]0;owned??[2J"),
        ("exec sleep 1000", ""),
    ];
    let marked = lab.path("before");
    fs::write(&marked, "").unwrap();
    for (script, sentence) in cases {
        says(script);
        if sentence.is_empty() {
            let hasty = lab.path("hasty.toml");
            fs::write(&hasty, text.replace("port = 2222", "port = 2222\nstep_timeout = 10")).unwrap();
            lab.tanker_with(&hasty, &["check"]).expect_code(1).says("the look at the master did not end within 10 s");
            let child = lab.command(&inventory, &["check"]).spawn().unwrap();
            std::thread::sleep(Duration::from_secs(3));
            // One that says nothing at all is waited for until somebody says otherwise, or its step's time is over.
            let began = std::time::Instant::now();
            signal(&child, "INT");
            end(child).expect_code(130).says("stopped as told to");
            assert!(began.elapsed() < Duration::from_secs(20));
            continue;
        }
        for verb in [&["check"][..], &["backup"], &["status"]] {
            let memory = lab.path("memory");
            let measured =
                [&["-f", "%M", "-o", memory.to_str().unwrap(), env!("CARGO_BIN_EXE_tanker"), "-i", inventory.to_str().unwrap()], verb]
                    .concat();
            let output = std::process::Command::new("/usr/bin/time").args(measured).env("XDG_STATE_HOME", lab.state()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!([Some(1), Some(3)].contains(&output.status.code()), "{script}: {:?} {said}", output.status.code());
            let fits = sentence.split('.').all(|part| said.contains(part));
            assert!(fits && !said.contains('\u{1b}') && !said.contains('\u{7}') && !said.contains("panicked"), "{script} {verb:?}: {said}");
            let memory: u64 = fs::read_to_string(&memory).unwrap().lines().last().unwrap().parse().unwrap();
            assert!(memory < 150_000, "{script}: {memory} KiB");
        }
    }
    let library =
        fs::read_to_string(&inventory).unwrap().lines().find_map(|l| l.strip_prefix("library = ")).unwrap().trim_matches('"').to_owned();
    let made = std::process::Command::new("find")
        .args([library.as_str(), "-newer", marked.to_str().unwrap(), "-type", "f", "!", "-name", ".lock"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&made.stdout), "", "nothing was written");
}
