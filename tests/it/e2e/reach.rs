//! Reaching a master: keys, agent, sudo, jump hosts, and hosts that can't be reached at all.

use std::fs;
use std::process::Command;

use super::Lab;

#[test]
fn i5_masters_are_reached_through_agent_sudo_and_jump_hosts_and_an_unreachable_one_hides_nothing() {
    let lab = Lab::up("reach", "5.1");
    let inventory = fs::read_to_string(lab.inventory()).unwrap();
    let address = lab.address();
    let key = inventory.lines().find_map(|line| line.strip_prefix("identity = [\"")).unwrap().trim_end_matches("\"]").to_owned();
    let file = lab.path("own.toml");
    let with = |text: &str| {
        fs::write(&file, text).unwrap();
        lab.tanker_with(&file, &["check"])
    };

    // One that nobody answers at, one that is fine.
    let ghost = inventory.clone() + "\n[hosts.ghost]\naddress = \"127.0.0.1\"\nport = 1\n";
    with(&ghost).expect_code(4).says("ghost  unreachable").says("m      ok");

    // A key that the server doesn't know, and one that is encrypted while nobody can be asked.
    let other = lab.path("other");
    let keygen = |path: &str, passphrase: &str| {
        assert!(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", passphrase, "-f", path]).status().unwrap().success())
    };
    keygen(other.to_str().unwrap(), "");
    with(&inventory.replace(&key, other.to_str().unwrap()))
        .expect_code(4)
        .says("accepts none of what tanker can show: ssh-ed25519 SHA256:");
    let locked = lab.path("locked");
    keygen(locked.to_str().unwrap(), "s3cret");
    let ran = with(&inventory.replace(&key, locked.to_str().unwrap())).expect_code(2);
    assert!(ran.stderr.contains("is encrypted and there is no terminal"), "{}", ran.stderr);

    // The agent has the key; the inventory names none.
    let socket = lab.path("agent");
    let mut agent = Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).spawn().unwrap();
    super::wait_until("the agent is there", std::time::Duration::from_secs(30), || socket.exists());
    assert!(Command::new("ssh-add").args(["-q", &key]).env("SSH_AUTH_SOCK", &socket).status().unwrap().success());
    fs::write(&file, inventory.replace(&format!("identity = [\"{key}\"]\n"), "")).unwrap();
    let output = lab.command(&file, &["check"]).env("HOME", lab.path("")).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));

    // A user who isn't root: told what to do, then with sudo.
    lab.ask("useradd -m -s /bin/bash ops; mkdir -p ~ops/.ssh; cp /root/.ssh/authorized_keys ~ops/.ssh/; chown -R ops ~ops/.ssh; chmod 700 ~ops/.ssh");
    let ops = inventory.replace("user = \"root\"", "user = \"ops\"");
    with(&ops).expect_code(3).says("sudo = true");
    with(&ops.replace("[defaults]", "[defaults]\nsudo = true")).expect_code(3).says("sudo: a password is required");
    lab.ask("echo 'ops ALL=(root) NOPASSWD: ALL' > /etc/sudoers.d/ops; chmod 440 /etc/sudoers.d/ops");
    with(&ops.replace("[defaults]", "[defaults]\nsudo = true")).expect_code(0);
    let backup = lab.tanker_with(&file, &["backup"]).expect_code(0);
    assert!(backup.stdout.contains("frozen"));
    lab.assert_clean();

    // A server that offers what stock OpenSSH 5.3 does: taken where that is allowed, and explained where it isn't.
    let old = "-o MACs=hmac-sha1 -o KexAlgorithms=diffie-hellman-group14-sha1 -o HostKeyAlgorithms=ssh-rsa -o Ciphers=aes128-ctr -o PubkeyAcceptedAlgorithms=ssh-ed25519";
    lab.sshd(2222, old);
    let legacy = inventory.replace("[defaults]", "[defaults]\nport = 2222");
    fs::write(&file, &legacy).unwrap();
    lab.tanker_with(&file, &["trust", "m", "--yes"]).expect_code(0).says("ssh-rsa SHA256:");
    with(&legacy).expect_code(0).says("diffie-hellman-group14-sha1 aes128-ctr hmac-sha1");
    with(&legacy.replace("[defaults]", "[defaults]\nlegacy = false")).expect_code(4).says("'legacy = true' in the inventory allows SHA-1");

    // Through a jump host: the master behind it has a key of its own, which is checked of its own (I7).
    let behind = inventory.replace(&format!("address = \"{address}\""), &format!("address = \"127.0.0.1\"\njump = [\"{address}\"]"));
    with(&behind).expect_code(4).says("the host key of 127.0.0.1:22 is unknown");
    lab.tanker_with(&file, &["trust", "m"]).expect_code(3).says("not known yet");
    lab.tanker_with(&file, &["trust", "m", "--yes"]).expect_code(0);
    with(&behind).expect_code(0);

    // What a master prints is data (I8), its uuid for one.
    lab.ask("printf 'evil\\033[2Jname' > /etc/fuel/fuel-uuid");
    let ran = lab.tanker(&["check"]).expect_code(0).says("evil?[2Jname");
    assert!(!ran.stdout.contains('\u{1b}'));
}
