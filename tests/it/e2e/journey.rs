//! The whole way: back up, lose the master, bring its rebuilt successor back.

use super::Lab;

/// What must come back as it was: contents, links, holes, owners, modes, odd names, the volume, who the master is.
const STATE: &str = r#"
cd /var/www/nailgun/odd
find . -printf '%p %y %s %m %U %G %T@ %l\n' | LC_ALL=C sort | od -c | md5sum
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 cat | md5sum
[ "$(stat -c %i 'a name with spaces')" = "$(stat -c %i 'hard link')" ] && echo hard link kept
[ "$(stat -c %b sparse)" -lt 1000 ] && echo holes kept
getfattr -n user.lab --only-values owned 2>/dev/null; echo
getcap capable
getfacl -cn shared 2>/dev/null
cat /etc/fuel/fuel-uuid /etc/puppet/modules/nailgun/manifests/init.pp /root/.ssh/id_rsa
grep -A 3 -e postgres -e FUEL_ACCESS /etc/fuel/astute.yaml
n=$(/usr/bin/docker ps --format '{{.Names}}' | grep -- -nailgun$)
/usr/bin/docker exec $n cat /etc/nailgun/settings.yaml
/usr/bin/docker exec $(/usr/bin/docker ps --format '{{.Names}}' | grep -- -rsyslog$) cat /var/lib/service/born
"#;

fn journey(instance: &str, release: &str, options: &[&str]) {
    let lab = Lab::up_with(instance, &[&["--fuel", release], options].concat());
    let address = lab.address();
    lab.ask("echo precious > /etc/puppet/precious; cd /var/www/nailgun/odd && echo x > shared && setfacl -m u:1234:rw shared");
    lab.sql("insert into nodes (uuid, name, mac) values ('before', 'before', 'x')");
    lab.tanker(&["check"]).expect_code(0).says(&format!("Fuel {release}")).says("11 of 11 Fuel containers run").says("none unfinished");
    let (_, names) = crate::events::held(&lab.tanker(&["check", "--json"]).expect_code(0).stdout);
    assert!(names.contains(&"checked".to_owned()), "{names:?}");
    lab.assert_clean();
    lab.tanker(&["backup", "--dry-run"]).expect_code(0).says("would freeze 11 of 11 containers");
    lab.assert_clean();

    // Between the live and the frozen pass files come and go, in directories that hold others: what counts is the frozen instant.
    lab.ask("cd /etc/puppet && mkdir -p d/gone d/turns && echo 1 > d/stays && echo 1 > d/goes && echo 1 > d/gone/x && echo 1 > d/turns/x && mkdir d/linked && echo 1 > d/linked/x && echo 1 > d/one && ln d/one d/uno && echo 2 > d/two && ln d/two d/due && echo 1 > 'd/stays ' && echo 1 > 'd/[s]tays' && printf 'd/a\nb' | xargs -0 touch");
    // A socket is a process's, and means nothing without it: it is left out, and nothing stumbles over it.
    lab.ask("cd /etc/puppet && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")' && test -S socket");
    let meanwhile = "cd /etc/puppet/d; if [ -e goes ]; then echo 2 > comes; rm -rf goes gone turns linked one due [[]s]tays s*\\  a*b; echo 2 > turns; ln -s /etc/fuel linked; fi";
    lab.break_docker("pause", meanwhile);
    lab.tanker(&["backup"]).expect_code(0).says("m  ok").says("frozen");
    lab.heal();
    let listing = "cd /etc/puppet/d && find . -printf '%p %y %l\\n' | LC_ALL=C sort && cat stays comes turns uno two";
    let changed = lab.ask(listing);
    let state = lab.ask(STATE);
    assert!(state.contains("user:1234:rw-"), "{state}");
    let boot = lab.ask("cat /var/log/lab-boot.log");
    for (what, kept) in [("user xattrs", "\nkept\n"), ("capabilities", "cap_net_raw")] {
        assert_ne!(state.contains(kept), boot.contains(&format!("no {what} on this disk")), "{what}: {state}");
    }
    let manifest: serde_json::Value = serde_json::from_str(&lab.tanker(&["show", "m@latest", "--json"]).expect_code(0).stdout).unwrap();
    let freeze = &manifest["freeze"];
    let steps: u64 = freeze["steps"].as_array().unwrap().iter().map(|step| step[1].as_u64().unwrap()).sum();
    assert!(steps > 0 && steps.abs_diff(freeze["milliseconds"].as_u64().unwrap()) < 1000, "{freeze}");
    assert!(freeze["predicted_milliseconds"].as_u64().unwrap() > 0, "{freeze}");
    lab.assert_clean();
    assert_eq!(lab.paused(), [""; 0]);
    assert_eq!(lab.listed(), 1);
    lab.tanker(&["verify", "--all", "--deep"]).expect_code(0).says("decompressed, every member");
    lab.tanker(&["files", "m@latest"]).expect_code(0).says(" /etc/puppet/precious\n").says(" nailgun:/etc/nailgun/settings.yaml\n");
    lab.sql("insert into nodes (uuid, name, mac) values ('after', 'after', 'x')");
    lab.ask("rm /etc/puppet/precious; echo new > /var/www/nailgun/made-after");

    lab.lab(&["rebuild", "m"]).expect_code(0);
    assert_ne!(lab.ask(STATE), state, "a rebuilt master is another one");
    lab.ask("echo local > /etc/puppet/only-here");
    lab.tanker(&["check"]).expect_code(4).says("HAS CHANGED").says("tanker trust m --rebuilt");
    lab.tanker(&["trust", "m", "--yes"]).expect_code(3);
    lab.tanker(&["check"]).expect_code(4);
    lab.tanker(&["trust", "m", "--rebuilt", "--yes"]).expect_code(0).says("trusted m");
    // The spool's own folder tells that a job's folder was in it.
    let in_use = || lab.snapshot().lines().filter(|line| !line.starts_with("/var/backup/fuel ")).collect::<Vec<_>>().join("\n");
    let before = in_use();
    lab.break_docker("run", "exit 7");
    lab.tanker(&["drill", "m@latest", "--on", "m"]).expect_code(1).says("start: ");
    lab.heal();
    lab.tanker(&["list"]).expect_code(0).says("DRILL FAILED");
    let drilled = lab.tanker(&["drill", "m@latest", "--on", "m"]).expect_code(0).says("restores: pushed in");
    assert!(drilled.stderr.contains("every table was read: clusters "), "{}", drilled.stderr);
    assert_eq!(in_use(), before, "a drill leaves everything as it was");
    lab.tanker(&["list"]).expect_code(0).says("drilled");
    let before = lab.snapshot();
    lab.tanker(&["restore", "m@latest", "--to", "m", "--dry-run"]).expect_code(0).says("Restore m@");
    lab.tanker(&["restore", "m@latest", "--to", "m"]).expect_code(3).says("there is no terminal to ask on");
    let planned = lab.tanker(&["restore", "m@latest", "--to", "m", "--dry-run", "--json"]).expect_code(0);
    let (_, names) = crate::events::held(&planned.stdout);
    assert!(names.contains(&"plan".to_owned()), "{names:?}");
    assert_eq!(lab.snapshot(), before, "a plan changes nothing");

    let rules = "iptables-save | sed -e '/^#/d' -e 's/\\[[0-9:]*\\]//' -e 's/172\\.17\\.[0-9.]*/CONTAINER/g' | sort";
    let rules_before = lab.ask(rules);
    lab.tanker(&["restore", "m@latest", "--to", "m", "--yes"]).expect_code(0).says("restored m@");
    assert_eq!(lab.ask(rules), rules_before, "iptables rules");
    assert_eq!(lab.ask("cat /etc/puppet/precious"), "precious");
    lab.sh("test -e /etc/puppet/socket").expect_code(1);
    lab.sh("test -e /etc/puppet/only-here || test -e /var/www/nailgun/made-after").expect_code(1);
    assert_eq!(lab.ask(STATE), state, "everything is as it was backed up");
    assert_eq!(lab.ask(listing), changed, "both passes");
    assert_eq!(lab.sql("select name from nodes where uuid in ('before', 'after')"), "before");
    lab.lab(&["oracle", "m"]).expect_code(0).says("\nconsistent");
    lab.ask("fuel task --list");
    assert_eq!(lab.ask("/usr/bin/docker ps --filter status=running --format x | wc -l"), "11");
    assert_eq!(lab.ask("supervisorctl status | grep -c RUNNING"), "11");
    assert!(lab.ask("cat /etc/fuel/astute.yaml").contains(&format!("\"ipaddress\": \"{address}\"")));
    lab.assert_clean();
    lab.tanker(&["backup"]).expect_code(0);
    assert_eq!(lab.listed(), 2);
}

#[test]
#[ignore = "long: make test-long"]
fn a_rebuilt_master_of_5_1_comes_back_from_the_library() {
    journey("five", "5.1", &[]);
}

#[test]
fn a_rebuilt_master_of_8_0_with_docker_1_8_comes_back_from_the_library() {
    journey("eight", "8.0", &["--docker", "1.8.0"]);
}
