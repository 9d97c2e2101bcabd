//! Every way to log in and to become root. The servers are real ones, on ports of a lab master of their own.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::servers::{OPENSSH_5_3, Servers};
use super::{Ran, wait_until};

#[test]
fn i6_logins_are_those_that_openssh_users_expect_and_no_password_is_seen() {
    let servers = Servers::up("logins");
    let lab = &servers.lab;
    lab.ask("echo root:s3cret-login | chpasswd");
    servers
        .sshd(2201, "-o PasswordAuthentication=yes -o KbdInteractiveAuthentication=no -o PubkeyAuthentication=no -o PermitRootLogin=yes");
    servers.sshd(
        2202,
        "-o PasswordAuthentication=no -o KbdInteractiveAuthentication=yes -o UsePAM=yes -o PubkeyAuthentication=no -o PermitRootLogin=yes",
    );
    servers.sshd(2203, "-o AuthenticationMethods=publickey,password -o PasswordAuthentication=yes -o PermitRootLogin=yes");
    for port in [2201, 2202, 2203] {
        servers.run(&["trust", "m", "--yes"], &format!("port = {port}")).expect_code(0);
    }
    let file = servers.file("password", "s3cret-login\nsecond line\n");
    let from_file = format!("password = \"file:{}\"", file.display());
    for port in [2201, 2202, 2203] {
        servers.check(&format!("port = {port}\n{from_file}")).expect_code(0).says("reached as root");
        servers.check(&format!("port = {port}\npassword = \"command:echo s3cret-login\"")).expect_code(0);
        let wrong = servers.check(&format!("port = {port}\npassword = \"command:echo wrong-one\"")).expect_code(4).says("the password");
        assert!(!wrong.stdout.contains("wrong-one") && !wrong.stderr.contains("wrong-one"));
    }
    servers.check("port = 2203").expect_code(4).says("accepted, but not enough");
    servers.check("port = 2201\npassword = \"command:exit 3\"").expect_code(2);
    Command::new("chmod").arg("644").arg(&file).status().unwrap();
    let open = servers.check(&format!("port = 2201\n{from_file}")).expect_code(2);
    assert!(open.stderr.contains("others can read"), "{}", open.stderr);
    // Nobody to ask: told so before anything is done. On a terminal: asked, and the answer is not shown.
    let nobody = servers.run(&["hosts", "check", "--ask-pass"], "port = 2201").expect_code(2);
    assert!(nobody.stderr.contains("there is no terminal to ask for the SSH password"), "{}", nobody.stderr);
    let inventory = servers.with("port = 2201");
    let line = format!("{} -i {} hosts check --ask-pass", env!("CARGO_BIN_EXE_tanker"), inventory.display());
    let mut child = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The prompt drops what was typed before it.
    let (mut shown, mut byte) = (Vec::new(), [0]);
    let mut terminal = child.stdout.take().unwrap();
    while !shown.ends_with(b"SSH password: ") {
        assert_eq!(terminal.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    child.stdin.as_ref().unwrap().write_all(b"s3cret-login\n").unwrap();
    terminal.read_to_end(&mut shown).unwrap();
    let (status, shown) = (child.wait().unwrap(), String::from_utf8_lossy(&shown));
    assert!(status.success() && !shown.contains("s3cret-login"), "{shown}");

    // A server that closes the connection after two wrong keys is not asked again: each time would be one more failed login.
    servers.sshd(2205, "-o MaxAuthTries=2 -o LogLevel=VERBOSE -E /tmp/sshd-2205.log");
    servers.run(&["trust", "m", "--yes"], "port = 2205").expect_code(0);
    lab.ask(": > /tmp/sshd-2205.log");
    let wrong: Vec<String> = (0..4).map(|n| format!("\"{}\"", servers.keygen(&format!("wrong{n}"), "ed25519", "").display())).collect();
    servers.check(&format!("port = 2205\nidentity = [{}]", wrong.join(", "))).expect_code(4).says("then it closed the connection");
    assert_eq!(lab.ask("grep -c '^Connection from' /tmp/sshd-2205.log"), "1");

    // An agent: RSA, and a key that is encrypted on the disk, which nobody is asked for then.
    let (rsa, locked) = (servers.keygen("id_rsa", "rsa", ""), servers.keygen("locked", "ed25519", "p4ssphrase"));
    servers.authorize(&rsa, "root");
    servers.authorize(&locked, "root");
    let socket = lab.path("agent");
    let mut agent = Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).spawn().unwrap();
    wait_until("the agent is there", Duration::from_secs(30), || socket.exists());
    let add = |key: &Path| {
        let helper = servers.file("askpass", "#!/bin/sh\necho p4ssphrase\n");
        Command::new("chmod").arg("700").arg(&helper).status().unwrap();
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &socket)
            .env("SSH_ASKPASS", &helper)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .status();
        assert!(added.unwrap().success());
    };
    let with_agent = |lines: &str| {
        let mut command = lab.command(&servers.with(lines), &["hosts", "check"]);
        Ran::of(&command.env("SSH_AUTH_SOCK", &socket).env("HOME", lab.path("")).output().unwrap())
    };
    add(&rsa);
    with_agent("identity = []").expect_code(0);
    with_agent("identity = []\nagent = false").expect_code(4).says("there is no key to show");
    Command::new("ssh-add").arg("-qD").env("SSH_AUTH_SOCK", &socket).status().unwrap();
    let identity = format!("identity = [\"{}\"]", locked.display());
    assert!(with_agent(&identity).expect_code(2).stderr.contains("is encrypted and there is no terminal"));
    add(&locked);
    with_agent(&identity).expect_code(0);
    // A server of old that says it knows better than it takes: with SHA-1 then, as from a file.
    servers.sshd(2206, OPENSSH_5_3);
    servers.run(&["trust", "m", "--yes"], "port = 2206").expect_code(0);
    with_agent("port = 2206\nidentity = []").expect_code(4);
    add(&rsa);
    let old = with_agent("port = 2206\nidentity = []").expect_code(0);
    assert!(old.stderr.contains("ssh-rsa user key"), "{}", old.stderr);
    with_agent("port = 2206\nidentity = []\nlegacy = false").expect_code(4);
    // What the SSH configuration wants kept back is kept back.
    fs::create_dir_all(lab.path(".ssh")).unwrap();
    let only = |more: &str| fs::write(lab.path(".ssh/config"), format!("Host {}\n  IdentitiesOnly yes\n{more}", servers.address)).unwrap();
    let configured = || {
        let inventory = fs::read_to_string(servers.with("")).unwrap();
        let kept = inventory.lines().filter(|line| !line.starts_with("ssh_config") && !line.starts_with("identity"));
        let file = servers.file("configured.toml", &kept.map(|line| format!("{line}\n")).collect::<String>());
        let mut command = lab.command(&file, &["hosts", "check"]);
        Ran::of(&command.env("SSH_AUTH_SOCK", &socket).env("HOME", lab.path("")).output().unwrap())
    };
    only(&format!("  IdentityFile {}\n", lab.path("none").display()));
    configured().expect_code(4);
    only(&format!("  IdentityFile {}\n", rsa.with_extension("pub").display()));
    configured().expect_code(0);
    agent.kill().unwrap();
    agent.wait().unwrap();

    // Certificates: the server trusts an authority, and no key of its own.
    let authority = servers.keygen("authority", "ed25519", "");
    let public = fs::read_to_string(authority.with_extension("pub")).unwrap();
    lab.ask(&format!("echo '{}' > /etc/ssh/authority.pub", public.trim()));
    servers.sshd(2204, "-o TrustedUserCAKeys=/etc/ssh/authority.pub -o AuthorizedKeysFile=none");
    servers.run(&["trust", "m", "--yes"], "port = 2204").expect_code(0);
    for kind in ["ed25519", "rsa", "ecdsa"] {
        let key = servers.keygen(&format!("signed_{kind}"), kind, "");
        let identity = format!("port = 2204\nidentity = [\"{}\"]", key.display());
        servers.check(&identity).expect_code(4);
        let signed =
            Command::new("ssh-keygen").args(["-q", "-I", "me", "-n", "root", "-s"]).arg(&authority).arg(key.with_extension("pub")).status();
        assert!(signed.unwrap().success());
        servers.check(&identity).expect_code(0);
    }
}

#[test]
fn i6_a_user_who_is_not_root_works_with_sudo_with_and_without_a_password() {
    let servers = Servers::up("sudo");
    let lab = &servers.lab;
    lab.ask("useradd -m -s /bin/bash ops; echo ops:s3cret-sudo | chpasswd");
    servers.authorize(Path::new(&servers.key), "ops");
    let ops = "user = \"ops\"\nsudo = true";
    let sudoers = |text: &str| drop(lab.ask(&format!("printf '%s\\n' '{text}' > /etc/sudoers.d/ops; chmod 440 /etc/sudoers.d/ops")));
    servers.check("user = \"ops\"").expect_code(3).says("as ops").says("sudo = true");
    servers.check(&format!("{ops}\nsudo_password = \"command:echo s3cret-sudo\"")).expect_code(3).says("sudoers doesn't let this user");
    sudoers("ops ALL=(root) ALL");
    servers.check(ops).expect_code(3).says("sudo wants a password").says("sudo_password");
    let wrong =
        servers.check(&format!("{ops}\nsudo_password = \"command:echo wrong-one\"")).expect_code(3).says("doesn't take this password");
    assert!(!wrong.stdout.contains("wrong-one") && !wrong.stderr.contains("wrong-one"));
    let file = servers.file("sudo", "s3cret-sudo\n");
    let right = format!("{ops}\nsudo_password = \"file:{}\"", file.display());
    servers.check(&right).expect_code(0).says("root by sudo");
    // Everything works under it, and the password stands nowhere on the master.
    lab.ask("(until [ -e /tmp/enough ]; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' ' | grep -o 's3cret-[s]udo' >> /tmp/seen; sleep 0.1; done; touch /tmp/ended) >/dev/null 2>&1 & true");
    servers.run(&["backup"], &right).expect_code(0).says("frozen");
    servers.run(&["restore", "m@latest", "--to", "m", "--yes"], &right).expect_code(0).says("restored");
    servers.run(&["drill", "m@latest", "--on", "m"], &right).expect_code(0).says("restores");
    for verb in ["status", "thaw", "clean"] {
        servers.run(&[verb], &right).expect_code(0);
    }
    lab.assert_clean();
    // Asking for the word shows it: whoever looks for it has to have ended before.
    lab.ask("touch /tmp/enough; until [ -e /tmp/ended ]; do sleep 0.1; done");
    assert_eq!(lab.ask("wc -l < /tmp/seen"), "0");
    assert_eq!(lab.sh("grep -rl s3cret-sudo /var/backup /tmp /var/log 2>/dev/null").stdout, "");
    sudoers("ops ALL=(root) NOPASSWD: ALL");
    servers.check(ops).expect_code(0);
    servers.run(&["backup", "--no-spool"], ops).expect_code(0);
    servers.check(&right).expect_code(0);
    // A password that sudo doesn't ask for goes nowhere: a script is not begun by it.
    servers.run(&["check"], &right).expect_code(0).says("ready for a backup");
    sudoers("Defaults:ops requiretty\nops ALL=(root) NOPASSWD: ALL");
    servers.check(ops).expect_code(3).says("wants a terminal").says("!requiretty");
}

#[test]
fn what_is_typed_opens_the_door_and_every_question_comes_before_any_work() {
    let servers = Servers::up("typed");
    let lab = &servers.lab;
    let (one, other) = (servers.keygen("one", "ed25519", "typed-1"), servers.keygen("other", "rsa", "typed-2"));
    servers.authorize(&one, "root");
    servers.authorize(&other, "root");
    let inventory = lab.path("typed.toml");
    servers.sshd(2203, "");
    let host = |name: &str, port: u16, key: &Path| {
        format!("[hosts.{name}]\naddress = \"{}\"\nport = {port}\nidentity = [\"{}\"]\n", servers.address, key.display())
    };
    let known = lab.path("known-typed");
    let defaults = format!("[defaults]\nssh_config = \"none\"\nagent = false\nuser = \"root\"\nknown_hosts = \"{}\"\n", known.display());
    fs::write(&inventory, defaults + &host("a", 22, &one) + &host("b", 2203, &other)).unwrap();

    let (shown, code) = lab.typed(&inventory, &["trust", "a"], &[("Trust this key?", "no\n")]);
    assert!(code == 3 && shown.contains("not trusted; nothing was changed") && !known.exists(), "{code}: {shown}");
    let (shown, code) = lab.typed(&inventory, &["trust", "a"], &[("Trust this key?", "yes\n")]);
    assert!(code == 0 && shown.contains("trusted a"), "{code}: {shown}");
    let (shown, code) = lab.typed(&inventory, &["trust", "b"], &[("Trust this key?", "yes\n")]);
    assert!(code == 0 && shown.contains("trusted b"), "{code}: {shown}");

    let (for_one, for_other) = (format!("Passphrase for {}: ", one.display()), format!("Passphrase for {}: ", other.display()));
    let answers = [(for_one.as_str(), "wrong\n"), (for_one.as_str(), "typed-1\n"), (for_other.as_str(), "typed-2\n")];
    let (shown, code) = lab.typed(&inventory, &["hosts", "check", "-v"], &answers);
    assert!(code == 0 && shown.matches("reached as root").count() == 2, "{code}: {shown}");
    assert!(shown.find("] connect").unwrap() > shown.rfind(&for_other).unwrap(), "{shown}");
    assert!(!shown.contains("typed-1") && !shown.contains("typed-2"), "{shown}");
}
