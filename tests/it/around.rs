//! What stands around the daily work: report, init, config check, completions, man pages, hooks.

use std::fs;
use std::process::{Command, Stdio};

use chrono::{Duration, Utc};
use tanker::model::record::{Check, Drill};

use crate::library::add_bytes;
use crate::offsite::wait_for;
use crate::upkeep::Shelf;

#[test]
fn a_report_says_what_is_at_risk_by_its_exit_code_too() {
    let shelf = Shelf::new("[hosts.east]\n[hosts.west]\n");
    add_bytes(&shelf.library(), Utc::now() - Duration::days(2), 64);
    shelf.tanker(&["report"]).code(1).says("AT RISK").says("!! west: there is no backup of it").says("-> east: no restore of it was ever");
    shelf.tanker(&["report", "east"]).code(0).says("fair");
    shelf.tanker(&["report", "east", "--max-age", "1d"]).code(1).says("2 d old");
    let json: serde_json::Value = serde_json::from_str(&shelf.tanker(&["report", "--json"]).code(1).stdout).unwrap();
    assert_eq!(json["hosts"][1]["concerns"][0]["kind"], "none");
    // What can't be read is no backup, and at risk for that.
    fs::create_dir_all(shelf.path("tanker/north/2026-01-01-00_00")).unwrap();
    shelf.tanker(&["report"]).code(5).says("!! north: north@2026-01-01-00_00: it has no readable manifest");
    fs::remove_dir_all(shelf.path("tanker/north")).unwrap();
    let file = shelf.path("tanker.prom");
    shelf.tanker(&["report", "--prometheus", "tanker.prom"]).code(1);
    let text = fs::read_to_string(file).unwrap();
    for line in [
        "tanker_at_risk{host=\"east\"} 0",
        "tanker_at_risk{host=\"west\"} 1",
        "tanker_backups{host=\"east\"} 1",
        "tanker_concern{host=\"west\",kind=\"none\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    assert!(text.lines().all(|line| line.starts_with("# ") || line.split(' ').count() == 2), "{text}");
}

/// A real browser without a window, at a page of the shelf's home.
fn chromium(shelf: &Shelf, args: &[&str], page: &str) -> std::process::Output {
    Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--virtual-time-budget=3000"])
        .args(args)
        .arg(format!("--user-data-dir={}", shelf.path("browser").display()))
        .arg(format!("file://{}", shelf.path(page).display()))
        .current_dir(shelf.home.path())
        .output()
        .unwrap()
}

#[test]
fn the_page_is_dark_where_the_reader_wants_it_dark_and_fits_on_paper() {
    let shelf = Shelf::new("[hosts.east]\n[hosts.west]\n");
    for n in 0..40 {
        add_bytes(&shelf.library(), Utc::now() - Duration::days(n), 64 + 8 * n.unsigned_abs());
    }
    shelf.tanker(&["report", "--html", "report.html"]).code(1);
    for (scheme, file) in [("0", "dark.png"), ("1", "light.png")] {
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        chromium(&shelf, &[&scheme, "--hide-scrollbars", "--window-size=900,700", &format!("--screenshot={file}")], "report.html");
    }
    // Nothing here reads pictures but the browser itself: the mean of all pixels of each, from 0 to 255.
    let probe = "<img id=dark src=dark.png><img id=light src=light.png><pre id=out></pre><script>onload=()=>{out.textContent=['dark','light'].map(name=>{const i=document.getElementById(name),c=document.createElement('canvas');c.width=i.width;c.height=i.height;const x=c.getContext('2d');x.drawImage(i,0,0);const d=x.getImageData(0,0,c.width,c.height).data;let sum=0;for(let n=0;n<d.length;n+=4)sum+=d[n]+d[n+1]+d[n+2];return name+' mean '+Math.round(sum/(d.length/4*3))}).join(', ')}</script>";
    fs::write(shelf.path("probe.html"), probe).unwrap();
    let dom = String::from_utf8_lossy(&chromium(&shelf, &["--dump-dom"], "probe.html").stdout).into_owned();
    let mean = |name: &str| -> u32 {
        let value = dom.split(&format!("{name} mean ")).nth(1).unwrap_or_else(|| panic!("{dom}"));
        value.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_else(|_| panic!("{dom}"))
    };
    assert!(mean("dark") < 80 && mean("light") > 180, "{dom}");

    chromium(&shelf, &["--no-pdf-header-footer", "--print-to-pdf=report.pdf"], "report.html");
    let pdf = fs::read(shelf.path("report.pdf")).unwrap();
    let text = String::from_utf8_lossy(&pdf);
    let pages = text.matches("/Type /Page").count() - text.matches("/Type /Pages").count();
    assert!(text.starts_with("%PDF") && text.contains("/Type /Font"), "{} bytes", pdf.len());
    assert!((1..=4).contains(&pages), "{pages} pages for 40 backups");
}

#[test]
fn the_page_needs_no_script_no_other_place_and_fits_a_phone_in_a_real_browser() {
    let shelf = Shelf::new("[hosts.east]\n[hosts.west]\n[hosts.a-host-with-a-name-that-is-as-long-as-a-host-name-can-be-for-it]\n");
    for n in 0..40 {
        add_bytes(&shelf.library(), Utc::now() - Duration::days(n), 64 + 8 * n.unsigned_abs());
    }
    shelf.tanker(&["report", "--html", "report.html"]).code(1);
    let page = fs::read_to_string(shelf.path("report.html")).unwrap();
    for word in ["<script", "http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    // A frame as wide as a phone, and what the page makes of it.
    let probe = "<iframe id=f src=report.html style='width:WIDTHpx;height:700px;border:0'></iframe><pre id=out></pre><script>onload=()=>{const d=f.contentDocument;const wide=d.documentElement.scrollWidth-d.documentElement.clientWidth;const h=d.querySelectorAll('section h2').length;out.textContent='over='+wide+' sections='+h+' bars='+d.querySelectorAll('svg rect').length}</script>";
    for width in [360, 1200] {
        fs::write(shelf.path("probe.html"), probe.replace("WIDTH", &width.to_string())).unwrap();
        let output = chromium(&shelf, &["--dump-dom"], "probe.html");
        let dom = String::from_utf8_lossy(&output.stdout);
        assert!(dom.contains("over=0 sections=3 bars=40"), "at {width}: {dom}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn init_writes_an_inventory_that_is_read_and_overwrites_none() {
    let shelf = Shelf::new("");
    fs::remove_file(shelf.path("inventory.toml")).unwrap();
    fs::create_dir(shelf.path(".ssh")).unwrap();
    fs::write(shelf.path(".ssh/config"), "Host fuel-a fuel-b\n  User root\nHost *.example.net\n  User ops\nHost fuel-a\nInclude more/*\n")
        .unwrap();
    fs::create_dir(shelf.path(".ssh/more")).unwrap();
    fs::write(shelf.path(".ssh/more/masters"), "Host fuel-c\n").unwrap();
    shelf.tanker(&["init", "--to", "inventory.toml"]).code(0).says("tanker trust");
    shelf.tanker(&["config", "check"]).code(0).says("3 hosts");
    shelf.tanker(&["hosts", "list"]).code(0).says("fuel-a").says("fuel-b").says("fuel-c");
    shelf.tanker(&["init", "--to", "inventory.toml"]).code(2).says("is there already");
    shelf.tanker(&["init", "--to", "other.toml", "ops@10.20.0.2:2222", "10.20.0.3"]).code(0);
    shelf.tanker(&["-i", "other.toml", "hosts", "list"]).code(0).says("ops@10.20.0.2:2222").says("root@10.20.0.3:22");
    shelf.tanker(&["init", "--to", "bad.toml", "a b"]).code(2).says("is no host");
    assert!(!shelf.path("bad.toml").exists());
    shelf.tanker(&["init"]).code(0).says(".config/tanker/inventory.toml");
}

#[test]
fn config_check_finds_what_is_named_and_not_there() {
    let shelf = Shelf::new("[defaults]\ndecrypt_with = ['~/nowhere.txt']\n[hosts.east]\nidentity = ['~/no_key']\n");
    shelf.tanker(&["config", "check"]).code(2).says("nowhere.txt is not there").says("no_key is not there");
    shelf.inventory("[hosts.east]\nencrypt_to = ['age1no']\n");
    shelf.tanker(&["config", "check"]).code(2).says("is no age recipient");
    shelf.inventory("[remotes.s3]\nurl = 's3://b/x'\naccess_key = 'env:NOT_SET_ANYWHERE'\nsecret_key = 'command:true'\n[hosts.east]\npassword = 'file:/nowhere'\n");
    shelf.tanker(&["config", "check"]).code(2).says("/nowhere is not there").says("NOT_SET_ANYWHERE");
    shelf.inventory("[remotes.vault]\nurl = 'sftp://vault/x'\nidentity = '~/no_such_key'\n[hosts.east]\n");
    shelf.tanker(&["config", "check"]).code(2).says("no_such_key of the remote vault is not there");
    for (line, remote, why) in [
        (3, "url = 'sftp://vault/x'\nregion = 'us-east-1'\n", "'region' says nothing of a remote by sftp://: that knows user, identity"),
        (3, "url = 'file:///x'\npassword = 'env:X'\n", "'password' says nothing of a remote by file://: it needs only its url"),
        (2, "url = 's3://b/x'\nsecret_key = 'env:X'\n", "a remote by s3:// needs 'access_key' too"),
        (2, "url = 'swift://c/x'\ntoken = 'env:X'\n", "a remote by swift:// needs 'endpoint' too"),
        (3, "url = 'webdav://h/x'\nobject_lock = true\n", "'object_lock' says nothing of a remote by webdav://"),
        (3, "url = 's3://b/x'\nobject_lock = 'compliance'\n", "object_lock = \"compliance\" needs 'object_lock_days' too"),
        (3, "url = 's3://b/x'\nobject_lock = 'for ever'\n", "\"governance\" or \"compliance\", not 'for ever'"),
        (3, "url = 's3://b/x'\nobject_lock = 5\n", "true, false, \"governance\" or \"compliance\""),
        (4, "url = 's3://b/x'\nobject_lock = true\nobject_lock_days = 3\n", "a bucket's own lock has its own days"),
        (4, "url = 's3://b/x'\nobject_lock = 'governance'\nobject_lock_days = 0\n", "'object_lock_days' is 1 to 3650, not 0"),
    ] {
        shelf.inventory(&format!("[remotes.a]\n{remote}[hosts.east]\n"));
        shelf.tanker(&["config", "check"]).code(2).says(why).says(&format!("inventory.toml:{line}:"));
    }
    shelf.inventory("[remotes.s3]\nurl = 's3://bucket/x'\n[hosts.east]\nkeep = { daily = 7 }\n");
    shelf.tanker(&["config", "check"]).code(0).says("1 remotes").says("1 with a retention policy");
}

#[test]
fn config_check_finds_hosts_that_no_verb_would_reach() {
    let shelf = Shelf::new("[hosts.east]\n[hosts.west]\n[hosts.ring]\n[hosts.north]\n");
    fs::create_dir(shelf.path(".ssh")).unwrap();
    let config = "Host east\n  ProxyCommand nc %h %p\nHost west\n  RevokedHostKeys /etc/revoked\nHost ring\n  ProxyJump ring\n";
    fs::write(shelf.path(".ssh/config"), config).unwrap();
    let ran = shelf.tanker(&["config", "check"]).code(2);
    for (host, why) in [("east", "says ProxyCommand"), ("west", "says RevokedHostKeys"), ("ring", "jump hosts")] {
        let said = ran.stderr.lines().any(|line| line.contains(&format!("{host}: no verb reaches it: ")) && line.contains(why));
        assert!(said, "{host}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("north") && !ran.stdout.contains("  ok\n"), "{}\n{}", ran.stdout, ran.stderr);
    // Two names of one master.
    shelf.inventory("[hosts.east]\n[hosts.fuel]\n");
    fs::write(shelf.path(".ssh/config"), "Host east fuel\n  HostName 10.20.0.2\n").unwrap();
    shelf.tanker(&["config", "check"]).code(2).says("fuel: it is east by another name, for both are 10.20.0.2:22");
    fs::write(shelf.path(".ssh/config"), config).unwrap();
    fs::create_dir(shelf.path("folder")).unwrap();
    shelf.inventory("[defaults]\nssh_config = 'none'\n[hosts.east]\naddress = '127.0.0.1'\nport = 1\nknown_hosts = '~/folder'\n");
    shelf.tanker(&["config", "check"]).code(2).says("folder can't be read");
    shelf.tanker(&["hosts", "check", "east"]).code(4).says("folder can't be read").says("name another file with 'known_hosts'");
    shelf.inventory("[hosts.east]\n[hosts.west]\n[hosts.ring]\n[hosts.north]\n");
    // They are refused indeed, one by one.
    for host in ["east", "west", "ring"] {
        shelf.tanker(&["hosts", "check", host]).code(4).says("unreachable");
    }
}

#[test]
fn config_check_finds_encryption_that_no_backup_without_a_spool_can_have() {
    let shelf = Shelf::new("");
    let public = shelf.keygen("key.txt");
    let text = format!("[defaults]\nencrypt_to = ['{public}']\n[hosts.east]\nspool = false\n[hosts.west]\n");
    shelf.inventory(&text);
    let ran = shelf.tanker(&["config", "check"]).code(2).says("east: every backup of it would be refused").says("encrypt_to = []");
    assert!(!ran.stderr.contains("west"), "{}", ran.stderr);
    shelf.inventory(&text.replace("spool = false", "spool = false\nencrypt_to = []"));
    shelf.tanker(&["config", "check"]).code(0).says("ok");
}

#[test]
fn completions_and_man_pages_come_from_the_program_itself() {
    let shelf = Shelf::new("");
    for shell in ["bash", "zsh", "fish"] {
        shelf.tanker(&["completions", shell]).code(0).says("undelete");
    }
    let script = shelf.tanker(&["completions", "bash"]).stdout;
    fs::write(shelf.path("completions"), script).unwrap();
    let sourced =
        Command::new("bash").args(["-c", "set -e; . ./completions; complete -p tanker"]).current_dir(shelf.home.path()).output().unwrap();
    assert!(sourced.status.success(), "{}", String::from_utf8_lossy(&sourced.stderr));
    shelf.tanker(&["man"]).code(0).says(".TH tanker 1");
    shelf.tanker(&["man", "--to", "man"]).code(0);
    for page in ["tanker.1", "tanker-backup.1", "tanker-hosts-check.1"] {
        assert!(shelf.path("man").join(page).exists(), "{page}");
    }
}

#[test]
fn a_command_before_a_backup_that_fails_leaves_the_master_alone_and_one_after_it_is_told() {
    let shelf = Shelf::new(
        "[defaults]\nnotify = 'cat > recap.json'\n[hosts.east]\naddress = '127.0.0.1'\nport = 1\nbefore = 'echo not now >&2; exit 7'\nafter = 'false'\n",
    );
    let ran = shelf.tanker(&["backup"]).code(3).says("not now").says("the master was not touched");
    assert!(!ran.stderr.contains("connect"), "{}", ran.stderr);
    let recap: serde_json::Value = serde_json::from_str(&fs::read_to_string(shelf.path("recap.json")).unwrap()).unwrap();
    assert_eq!(recap["hosts"][0]["outcome"], "refused");
    shelf.inventory("[hosts.east]\naddress = '127.0.0.1'\nport = 1\nafter = 'echo \"$TANKER_HOST $TANKER_OUTCOME\" > after; exit 3'\n");
    shelf.tanker(&["backup"]).code(1).says("but the command that the inventory names as 'after' ended with");
    assert_eq!(fs::read_to_string(shelf.path("after")).unwrap(), "east unreachable\n");
    // An inventory that names commands and that others can write is not trusted.
    Command::new("chmod").arg("666").arg(shelf.path("inventory.toml")).status().unwrap();
    shelf.tanker(&["backup"]).code(2).says("others own it or can write it");
}

#[test]
fn a_command_before_a_backup_that_outlives_its_time_is_ended_and_the_master_is_left_alone() {
    let hosts = "[hosts.east]\naddress = '127.0.0.1'\nport = 1\nhook_timeout = 1\n";
    let shelf = Shelf::new(&format!("{hosts}before = 'touch begun; sleep 30; touch ended'\n"));
    let began = std::time::Instant::now();
    let ran = shelf
        .tanker(&["backup"])
        .code(3)
        .says("the command that the inventory names as 'before' took longer than 1.0 s and was ended; the master was not touched");
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(shelf.path("begun").exists() && !shelf.path("ended").exists());
    assert!(!ran.stdout.contains("unreachable") && !ran.stderr.contains("connect"), "{}\n{}", ran.stdout, ran.stderr);
    // One after it is ended too; that the master could not be reached still counts.
    shelf.inventory(&format!("{hosts}after = 'sleep 30'\n"));
    shelf
        .tanker(&["backup"])
        .code(1)
        .says("can't be reached")
        .says("but the command that the inventory names as 'after' took longer than 1.0 s and was ended");
}

#[test]
fn a_command_after_a_backup_outlives_one_interrupt_and_not_a_second() {
    let shelf = Shelf::new("[hosts.east]\naddress = '127.0.0.1'\nport = 1\nafter = 'touch begun; sleep 300; touch ended'\n");
    let child = shelf.command(&["backup"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let interrupt = || assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    wait_for("the command", || shelf.path("begun").exists());
    interrupt();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(Command::new("kill").args(["-0", &child.id().to_string()]).status().unwrap().success(), "it waits for its command");
    interrupt();
    let ran = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("but the command that the inventory names as 'after' was ended as told to"), "{said}");
    assert!(!shelf.path("ended").exists());
}

#[test]
fn sleep_is_held_off_while_archives_may_travel() {
    let shelf = Shelf::new("[hosts.east]\naddress = '127.0.0.1'\nport = 1\nbefore = 'sleep 0.5'\n");
    fs::create_dir(shelf.path("bin")).unwrap();
    let fake =
        "#!/bin/sh\necho \"$@\" > \"$HOME/held\"\n[ \"$(ps -o pgid= -p $$ | tr -d ' ')\" = $$ ] && touch \"$HOME/apart\"\nexec cat\n";
    fs::write(shelf.path("bin/systemd-inhibit"), fake).unwrap();
    Command::new("chmod").arg("755").arg(shelf.path("bin/systemd-inhibit")).status().unwrap();
    let path = format!("{}:{}", shelf.path("bin").display(), std::env::var("PATH").unwrap());
    assert_eq!(shelf.command(&["backup"]).env("PATH", path).output().unwrap().status.code(), Some(4));
    assert!(fs::read_to_string(shelf.path("held")).unwrap().contains("--what=sleep:idle --who=tanker"));
    assert!(shelf.path("apart").exists(), "a Ctrl-C on the terminal would reach it, and tanker goes on for a while after one");
}

#[test]
fn a_plan_is_no_run_whose_failures_count_or_are_told_of() {
    let shelf = Shelf::new(
        "[defaults]\nnotify = 'cat > recap.json'\n[hosts.east]\naddress = '127.0.0.1'\nport = 1\n[hosts.west]\naddress = '127.0.0.1'\nport = 2\n",
    );
    let failed = || shelf.tanker(&["hosts", "list", "@failed"]);
    shelf.tanker(&["backup", "east"]).code(4);
    fs::remove_file(shelf.path("recap.json")).unwrap();
    let only_east = |what: &str| {
        let ran = failed().code(0).says("east");
        assert!(!ran.stdout.contains("west") && !shelf.path("recap.json").exists(), "{what}: {}", ran.stdout);
    };
    only_east("backup");
    shelf.tanker(&["hosts", "list", "all,!@failed"]).code(0).says("west");
    shelf.tanker(&["report", "@failed"]).code(1).says("east");
    shelf.tanker(&["backup", "west", "--dry-run"]).code(4);
    only_east("backup --dry-run");
    add_bytes(&shelf.library(), Utc::now(), 64);
    shelf.tanker(&["restore", "east@latest", "--to", "west", "--dry-run"]);
    only_east("restore --dry-run");
    // A drill's machine is no master that anybody wants a backup of; who is told of runs is told of it.
    shelf.tanker(&["drill", "east@latest", "--on", "west"]);
    fs::remove_file(shelf.path("recap.json")).unwrap();
    only_east("drill");
}

#[test]
fn damage_is_dated_by_the_check_that_found_it_and_a_failed_drill_is_no_drill() {
    let shelf = Shelf::new("[hosts.east]\n");
    let mut entry = shelf.add(Utc::now() - Duration::days(1), None);
    let ago = |days: i64| Utc::now() - Duration::days(days);
    entry
        .update(false, |record| {
            record.add_check(Check { at: ago(26), depth: "deep".into(), damage: None, encrypted: false });
            record.add_check(Check { at: ago(3), depth: "deep".into(), damage: Some("a bit".into()), encrypted: false });
            record.add_check(Check { at: ago(1), depth: "hashed".into(), damage: None, encrypted: false });
            record.drills.push(Drill { at: ago(9), on: "lab".into(), seconds: 60, failure: None });
            record.drills.push(Drill { at: ago(2), on: "lab".into(), seconds: 60, failure: Some("no".into()) });
        })
        .unwrap();
    shelf.tanker(&["list"]).code(0).says("DAMAGED (3 d)");
    let report = shelf.tanker(&["report"]).code(1).says("the last drill failed");
    let line = report.stdout.lines().find(|line| line.starts_with("east")).unwrap();
    assert!(line.trim_end().ends_with("9 d"), "{line}");
    shelf.tanker(&["report", "--html", "page.html"]).code(1);
    let page = fs::read_to_string(shelf.path("page.html")).unwrap();
    for shown in ["<b class=\"risk\">damaged</b>", "<b class=\"risk\">failed</b>", "<rect class=\"risk\"", "class=\"legend\""] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
}
