// Every parser of outside input, as a function of bytes that must neither panic nor hang: what `cargo fuzz` runs, and a short run of fixed
// seed in the ordinary tests. Each has inputs to begin with.

use tanker::library::walk_tar;
use tanker::model::facts::{parse_facts, parse_frames, parse_jobs};
use tanker::model::id::{BackupId, BackupRef, HostName};
use tanker::model::inventory::{parse_inventory, parse_jump};
use tanker::model::lrzip::parse_lrzip_head;
use tanker::model::manifest::{Description, parse_manifest};
use tanker::model::pattern::{Choice, wildcard};
use tanker::model::ssh_config::{Question, parse_ssh_config, resolve};
use tanker::model::stock::{StockFacts, image_of_member, images_of_listing, stock_id_of_file};
use tanker::model::tasks::parse_tasks;
use tanker::model::text::{printable, printable_path};
use tanker::model::{astute, secret};
use tanker::remote::job::parse_event;
use tanker::remote::ssh::{Certificate, KnownKeys, Others, PublicKey, Verdict, learn};

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: &'static [&'static str],
}

const INVENTORY: &str = "[defaults]\nuser='admin'\nforks=3\npassword='ask'\n[hosts.'web01']\naddress='10.0.0.1'\njump=['me@bastion:2222', 'ssh://[fe80::1]:22/']\nfreeze='none'\nlease=9\n[hosts.b]\nport=22\n[groups]\ng=['web01','b']\n";
const SSH_CONFIG: &str = "Include more\nHost a* !ab \"c d\"\n HostName %h.example\n Port 22\n IdentityFile ~/%r@%h\n ProxyJump a,b@[::1]:2\nMatch host x !user y exec \"z\"\n User u\nMatch final all\n UserKnownHostsFile a b ${HOME}\n";
const KNOWN_HOSTS: &str = "# c\n|1|O33ESRMWPVkMYIwJ1Uw+n877fTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n@revoked *,!a,[b]:22 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ c\n@cert-authority * ssh-rsa AAAA\n@cert-authority b ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAQ+qQPnXimj8f7bH7nwtbfLjZGlDgOXjORoAJ3+TE2s\n[b]:2222,c ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAQ+qQPnXimj8f7bH7nwtbfLjZGlDgOXjORoAJ3+TE2s\n";
/// Of the authority above, for `b`.
const CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIGaBKJm0D5OIUyjkdo3NKOI8b2Mcfatv5dmWMYIWE2fZAAAAIP/OfNQhPtxiPoUWH6FQol4zQKFgHDMsaVxSLciVG/CcAAAAAAAAAAAAAAACAAAABGhvc3QAAAAFAAAAAWIAAAAAAAAAAP//////////AAAAAAAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACAEPqkD514po/H+2x+58LW3y42RpQ4Dl4zkaACd/kxNrAAAAFMAAAALc3NoLWVkMjU1MTkAAABAOKq6Ymq3QtyP6s+Ib7WKCAXqyJQBQgBNmgw6ReEwEIS8e2MJQ/yM01/2NSEIjocHb/RJcv/kuTiRAUNZze0jBg==";
/// The key in it.
const CERTIFIED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/OfNQhPtxiPoUWH6FQol4zQKFgHDMsaVxSLciVG/Cc";
const BOMB: &str = "HOSTNAME: x\nl0: &l0 [x,x,x,x,x,x,x,x,x,x]\nl1: &l1 [*l0,*l0,*l0,*l0,*l0,*l0,*l0,*l0,*l0,*l0]\nl2: &l2 [*l1,*l1,*l1,*l1,*l1,*l1,*l1,*l1,*l1,*l1]\nl3: &l3 [*l2,*l2,*l2,*l2,*l2,*l2,*l2,*l2,*l2,*l2]\nl4: &l4 [*l3,*l3,*l3,*l3,*l3,*l3,*l3,*l3,*l3,*l3]\nl5: &l5 [*l4,*l4,*l4,*l4,*l4,*l4,*l4,*l4,*l4,*l4]\nl6: &l6 [*l5,*l5,*l5,*l5,*l5,*l5,*l5,*l5,*l5,*l5]\nl7: &l7 [*l6,*l6,*l6,*l6,*l6,*l6,*l6,*l6,*l6,*l6]\nl8: &l8 [*l7,*l7,*l7,*l7,*l7,*l7,*l7,*l7,*l7,*l7]\n";
const DEEP: &str = "NTP1: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n";
const ASTUTE: &str = "# made by fuelmenu\n\"HOSTNAME\": \"old\"\nADMIN_NETWORK:\n  cidr: 10.20.0.0/24\nlist: &id001\n- a\nagain: *id001\npostgres:\n  nailgun_password: 's #x'\n";
const FACTS: &str = "@user 1\n0\n@hostname 4\neast\n@release 27\nVERSION:\n  release: \"5.1\"\nx\n@docker 31\nDocker version 0.10.0, build dc\n@spool_free_kib 4\n1000\n@docker_free_kib 4\n2000\n@containers 2\n[]\n@job.backup-1 5\nalive\n";
const TASKS: &str = "[{\"id\": 1, \"cluster\": 1, \"uuid\": \"x\", \"name\": \"deploy\", \"result\": {}, \"message\": null, \"status\": \"running\", \"progress\": 40}]";
const MANIFEST: &str = include_str!("manifest.json");
const CONTAINERS: &str = "[{\"ID\":\"aa\",\"Name\":\"/fuel-core-5.1-nailgun\",\"Image\":\"i1\",\"State\":{\"Running\":true},\"Config\":{\"Image\":\"fuel/nailgun_5.1:x\"},\"Volumes\":{\"/etc/nailgun\":\"/var/lib/docker/vfs/dir/abc\"}}]";

pub const TARGETS: &[Target] = &[
    Target { name: "inventory", run: inventory, seeds: &[INVENTORY] },
    Target { name: "patterns", run: patterns, seeds: &["all,!web*,&g", "web[01:20]", "g[0:-1]", "@failed", "a[b-d]?*"] },
    Target { name: "ssh_config", run: ssh_config, seeds: &[SSH_CONFIG] },
    Target { name: "known_hosts", run: known_hosts, seeds: &[KNOWN_HOSTS] },
    Target { name: "astute", run: astute, seeds: &[ASTUTE, BOMB, DEEP] },
    Target { name: "facts", run: facts, seeds: &[FACTS] },
    Target { name: "containers", run: containers, seeds: &[CONTAINERS] },
    Target { name: "tasks", run: tasks, seeds: &[TASKS, "id | status\n---|---\n1 | ready\n"] },
    Target { name: "events", run: events, seeds: &["17 archive 12 abc fuel.lrz", "17 checked 1 2 x", "17 member a", "17 failed save no"] },
    Target { name: "manifest", run: manifest, seeds: &[MANIFEST] },
    Target { name: "archive", run: archive, seeds: &["LRZI\0\u{6}\0\u{1}\0\0\0\0\0\0\0\0\0\0\0\0\0\u{1}\0\0"] },
    Target {
        name: "names",
        run: names,
        seeds: &["east@2026-11-22-14_07-2", "fuel_backup_2026-11-22_1407.tar.lrz", "fuel__nailgun_5.1_2026-11-22_1407.tar"],
    },
];

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn inventory(data: &[u8]) {
    if let Ok(inventory) = parse_inventory("fuzz.toml", &text(data)) {
        for mut host in inventory.hosts {
            host.complete("me", &|_, _, _, _| tanker::model::ssh_config::Answer { proxy_jump: Some("a,b".into()), ..Default::default() });
        }
    }
}

fn patterns(data: &[u8]) {
    let Ok(inventory) = parse_inventory("i", "[hosts.web01]\n[hosts.web02]\n[hosts.db]\n[groups]\ng=['db','web02']\n") else { return };
    let failed = [];
    let pattern = text(data);
    let _ = Choice { inventory: &inventory, failed: Some(&failed) }.select(std::slice::from_ref(&pattern), &[]);
    let (pattern, name) = pattern.split_at(pattern.char_indices().nth(pattern.chars().count() / 2).map_or(0, |(at, _)| at));
    let _ = wildcard(pattern.as_bytes(), name.as_bytes());
    let _ = parse_jump(name);
    let _ = secret::parse_secret_source(name);
}

fn ssh_config(data: &[u8]) {
    let all = text(data);
    let mut includes = 0;
    let mut include = |_: &str| {
        includes += 1;
        if includes < 4 { vec![("more".to_owned(), all.chars().rev().collect())] } else { Vec::new() }
    };
    let Ok(config) = parse_ssh_config("config", &all, &mut include) else { return };
    for alias in ["a", "east", "10.0.0.1"] {
        let _ = resolve(
            std::slice::from_ref(&config),
            &Question {
                alias,
                user: None,
                port: None,
                default_user: "root",
                local_user: "me",
                workstation: "here",
                home: "/home/me",
                variable: &|_| Some("x".into()),
            },
        );
    }
}

fn known_hosts(data: &[u8]) {
    let known = KnownKeys::parse(&text(data));
    let key: PublicKey = CERTIFIED.parse().unwrap();
    let certificate = Certificate::from_openssh(CERTIFICATE).unwrap();
    let inventory = parse_inventory("i", "[hosts.a]\naddress='b'\n[hosts.c]\naddress='b'\nport=2222\n").unwrap();
    for target in inventory.hosts.iter().map(|host| &host.target) {
        let _ = (known.algorithms(target), known.has_authority(target), known.judge_certificate(target, &certificate, 1_800_000_000));
        if known.judge(target, &key) == Verdict::Revoked {
            assert_eq!(known.judge_certificate(target, &certificate, 1_800_000_000), Verdict::Revoked);
        }
    }
    // A disk is slow: not every input is written to one.
    if data.len().is_multiple_of(16) {
        learn_into(data, &inventory.hosts[data.len() / 16 % 2].target, &key);
    }
}

/// What was learnt is known, whatever else the file holds.
fn learn_into(data: &[u8], target: &tanker::model::inventory::Target, key: &PublicKey) {
    let folder = std::env::temp_dir().join(format!("tanker-fuzz-{}", std::process::id()));
    let file = folder.join("known_hosts");
    if std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, data)).is_ok() {
        if learn(&file, target, key, Others::Replace, [7; 20]).is_ok() {
            let known = KnownKeys::parse(&text(&std::fs::read(&file).unwrap()));
            assert_eq!(known.judge(target, key), Verdict::Known);
        }
        let _ = std::fs::remove_dir_all(&folder);
    }
}

fn astute(data: &[u8]) {
    let all = text(data);
    let _ = astute::network_settings(&all);
    let _ = astute::merge(&all, ASTUTE);
    let _ = astute::merge(ASTUTE, &all);
}

fn facts(data: &[u8]) {
    let _ = parse_facts(data);
    if let Ok(frames) = parse_frames(data) {
        let _ = parse_jobs(&frames);
    }
}

fn containers(data: &[u8]) {
    let body = text(data);
    let frame = |name: &str, value: &str| format!("@{name} {}\n{value}\n", value.len());
    let all = frame("user", "0")
        + &frame("release", "release: \"5.1\"")
        + &frame("docker", "Docker version 1.8.0, build x")
        + &frame("spool_free_kib", "1");
    let _ = parse_facts((all + &frame("docker_free_kib", "1") + &frame("docker_objects", &body)).as_bytes());
}

fn tasks(data: &[u8]) {
    let all = text(data);
    if let Ok(list) = parse_tasks(0, &all, "") {
        list.unfinished().iter().for_each(|task| drop(task.describe()));
    }
    let _ = parse_tasks(1, &all, &all);
}

fn events(data: &[u8]) {
    text(data).lines().for_each(|line| drop(parse_event(line)));
}

fn manifest(data: &[u8]) {
    let _ = parse_manifest(&text(data));
    let _ = images_of_listing(data);
}

fn archive(data: &[u8]) {
    let _ = parse_lrzip_head(data);
    let Ok(known) = parse_manifest(MANIFEST) else { return };
    let description: Description = known.description;
    let _ = walk_tar(&mut &data[..], &description);
}

fn names(data: &[u8]) {
    let all = text(data);
    let _ = (all.parse::<BackupRef>(), all.parse::<BackupId>(), all.parse::<HostName>(), stock_id_of_file(&all), image_of_member(&all));
    assert!(!printable(&all).contains('\u{1b}') && !printable_path(data).contains('\u{1b}'));
    let _ = astute::network_settings(&all);
    let _ = astute::merge(&all, "HOSTNAME: x\n");
    let mut facts = StockFacts { version_link: all.clone(), astute: all.clone(), ..StockFacts::default() };
    facts.take_version(&all);
    facts.take_paths(&Default::default());
    let _ = facts.release(None);
}
