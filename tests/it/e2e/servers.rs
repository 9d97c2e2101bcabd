//! Every kind of server and login that a master may have. The servers are real ones: the distribution's sshd and dropbear, on ports of
//! a lab master of their own.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Lab, Ran, wait_until};

/// What `ssh.md`'s measurements say that these offered and took.
const OPENSSH_5_3: &str = "-o KexAlgorithms=diffie-hellman-group-exchange-sha1,diffie-hellman-group14-sha1 -o HostKeyAlgorithms=ssh-rsa \
     -o Ciphers=aes128-ctr,aes192-ctr,aes256-ctr,aes128-cbc,aes256-cbc -o MACs=hmac-sha1 -o PubkeyAcceptedAlgorithms=ssh-rsa";
const OPENSSH_6_6: &str = "-o KexAlgorithms=curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group14-sha1 \
     -o HostKeyAlgorithms=ssh-rsa,ecdsa-sha2-nistp256,ssh-ed25519 -o Ciphers=aes128-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com \
     -o MACs=hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha1 -o PubkeyAcceptedAlgorithms=ssh-rsa,ecdsa-sha2-nistp256,ssh-ed25519";

struct Servers {
    lab: Lab,
    inventory: String,
    key: String,
    address: String,
}

impl Servers {
    fn up(instance: &str) -> Self {
        let lab = Lab::up(instance, "5.1");
        let inventory = fs::read_to_string(lab.inventory()).unwrap();
        let key = inventory.lines().find_map(|line| line.strip_prefix("identity = [\"")).unwrap().trim_end_matches("\"]").to_owned();
        let address = lab.address();
        Self { lab, inventory, key, address }
    }

    fn sshd(&self, port: u16, options: &str) {
        self.lab.sshd(port, options);
    }

    /// `tanker hosts check` with these lines in the defaults, `identity` taken out where they have one.
    fn check(&self, lines: &str) -> Ran {
        self.run(&["hosts", "check"], lines)
    }

    fn run(&self, args: &[&str], lines: &str) -> Ran {
        self.lab.tanker_with(&self.with(lines), args)
    }

    fn with(&self, lines: &str) -> PathBuf {
        let mut text = self.inventory.clone();
        for line in lines.lines() {
            let key = line.split(" = ").next().unwrap();
            text = text.lines().filter(|old| !old.starts_with(&format!("{key} = "))).map(|old| format!("{old}\n")).collect();
        }
        let path = self.lab.path("own.toml");
        fs::write(&path, text.replace("[defaults]\n", &format!("[defaults]\n{lines}\n"))).unwrap();
        path
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.path(name);
        fs::write(&path, text).unwrap();
        Command::new("chmod").arg("600").arg(&path).status().unwrap();
        path
    }

    /// A key pair of this type whose public half root on the master accepts.
    fn keygen(&self, name: &str, kind: &str, passphrase: &str) -> PathBuf {
        let path = self.lab.path(name);
        let bits: &[&str] = if kind == "rsa" { &["-b", "2048"] } else { &[] };
        let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(&path).args(bits).status().unwrap();
        assert!(made.success());
        path
    }

    fn authorize(&self, key: &Path, user: &str) {
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let home = if user == "root" { "/root".to_owned() } else { format!("/home/{user}") };
        self.lab.ask(&format!(
            "mkdir -p {home}/.ssh; echo '{}' >> {home}/.ssh/authorized_keys; chown -R {user} {home}/.ssh; chmod 700 {home}/.ssh",
            public.trim()
        ));
    }
}

#[test]
fn servers_of_every_age_are_reached_with_the_strongest_that_both_sides_have() {
    let servers = Servers::up("ages");
    let rsa = servers.keygen("id_rsa", "rsa", "");
    servers.authorize(&rsa, "root");
    servers.sshd(2201, OPENSSH_5_3);
    servers.sshd(2202, OPENSSH_6_6);
    servers.lab.ask("mkdir -p /etc/dropbear && dropbear -R -p 2203");
    let identity = format!("identity = [\"{}\"]", rsa.display());
    let reach = |port: u16, more: &str| servers.check(&format!("port = {port}\n{identity}{more}"));
    for port in [2201, 2202, 2203] {
        servers.run(&["trust", "m", "--yes"], &format!("port = {port}\n{identity}")).expect_code(0).says("trusted m");
    }
    let old = reach(2201, "").expect_code(0).says("diffie-hellman-group14-sha1 aes256-ctr hmac-sha1");
    let told = old.stderr.matches("nothing better than SHA-1").count();
    assert_eq!(told, 1, "said once a host: {}", old.stderr);
    assert!(old.stderr.contains("ssh-rsa user key"), "{}", old.stderr);
    reach(2201, "\nlegacy = false").expect_code(4).says("'legacy = true' in the inventory allows SHA-1");
    servers.check("port = 2202").expect_code(0).says("curve25519-sha256@libssh.org aes256-gcm@openssh.com");
    reach(2203, "").expect_code(0).says("reached as root");
    let new = servers.check(&identity).expect_code(0).says("256");
    assert!(!new.stderr.contains("SHA-1"), "{}", new.stderr);
}

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
fn i7_host_certificates_are_taken_only_as_their_authority_meant_them() {
    let servers = Servers::up("hostcerts");
    let lab = &servers.lab;
    let authority = servers.keygen("authority", "ed25519", "");
    let public = fs::read_to_string(authority.with_extension("pub")).unwrap();
    let public: Vec<&str> = public.split_whitespace().take(2).collect();
    let certify = |port: u16, options: &[&str]| {
        let key = servers.keygen(&format!("host{port}"), "ed25519", "");
        let signed = Command::new("ssh-keygen")
            .args(["-q", "-h", "-I", "host", "-s"])
            .arg(&authority)
            .args(options)
            .arg(key.with_extension("pub"))
            .status();
        assert!(signed.unwrap().success());
        for (ending, text) in
            [("", fs::read_to_string(&key).unwrap()), ("-cert.pub", fs::read_to_string(format!("{}-cert.pub", key.display())).unwrap())]
        {
            lab.ask(&format!("printf '%s' '{text}' > /etc/ssh/host{port}{ending}; chmod 600 /etc/ssh/host{port}{ending}"));
        }
        servers.sshd(port, &format!("-o HostKey=/etc/ssh/host{port} -o HostCertificate=/etc/ssh/host{port}-cert.pub"));
    };
    let address = &servers.address;
    certify(2201, &["-n", address]);
    certify(2202, &["-n", "another.example.net"]);
    certify(2203, &["-n", address, "-V", "20200101:20200102"]);
    let known = |text: &str| format!("known_hosts = \"{}\"", servers.file("known", text).display());
    let trusting = known(&format!("@cert-authority * {}\n", public.join(" ")));
    servers.check(&format!("port = 2201\n{trusting}")).expect_code(0);
    servers.check(&format!("port = 2202\n{trusting}")).expect_code(4).says("it is for another.example.net");
    servers.check(&format!("port = 2203\n{trusting}")).expect_code(4).says("not valid at this time");
    servers.run(&["trust", "m", "--yes"], &format!("port = 2202\n{trusting}")).expect_code(3);
    let revoking = known(&format!("@cert-authority * {0}\n@revoked * {0}\n", public.join(" ")));
    servers.check(&format!("port = 2201\n{revoking}")).expect_code(4).says("is revoked");
    // Without the authority it is a bare key like any other.
    let empty = known("");
    servers.check(&format!("port = 2201\n{empty}")).expect_code(4).says("is unknown: ssh-ed25519 SHA256:").says("'tanker trust m'");

    // A rebuilt host's old key stays in the host's record, and hidden names stay hidden.
    let mut trust = lab.command(&servers.with(&format!("port = 2201\n{empty}")), &["trust", "m", "--yes"]);
    assert!(trust.status().unwrap().success());
    Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(lab.path("known")).status().unwrap();
    lab.ask("pkill -f '[s]shd.*2201'; sleep 0.3");
    servers.sshd(2201, "-o HostKey=/etc/ssh/host2202");
    servers
        .check("port = 2201\nknown_hosts = \"KNOWN\"".replace("KNOWN", lab.path("known").to_str().unwrap()).as_str())
        .expect_code(4)
        .says("HAS CHANGED: known is ssh-ed25519 SHA256:")
        .says("it showed ssh-ed25519 SHA256:");
    let inventory = servers.with(&format!("port = 2201\nknown_hosts = \"{}\"", lab.path("known").display()));
    lab.tanker_with(&inventory, &["trust", "m", "--rebuilt", "--yes"]).expect_code(0);
    lab.tanker_with(&inventory, &["hosts", "check"]).expect_code(0);
    let text = fs::read_to_string(lab.path("known")).unwrap();
    assert!(text.lines().filter(|line| !line.is_empty()).all(|line| line.starts_with("|1|")), "{text}");
    let record = fs::read_to_string(lab.state().join("tanker/hosts/m/host-keys.log")).unwrap();
    assert!(record.contains("rebuilt: ssh-ed25519 SHA256:") && record.contains("instead of ssh-ed25519 AAAA"), "{record}");
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

#[test]
fn i7_a_chain_of_jump_hosts_from_the_ssh_configuration_is_followed_and_each_key_checked() {
    let servers = Servers::up("chain");
    let lab = &servers.lab;
    servers.sshd(2201, "-o HostKey=/etc/ssh/ssh_host_ecdsa_key");
    servers.sshd(2202, "-o HostKey=/etc/ssh/ssh_host_rsa_key");
    fs::create_dir_all(lab.path("home/.ssh/more.d")).unwrap();
    let (address, key) = (&servers.address, &servers.key);
    let write = |name: &str, text: &str| {
        let path = lab.path(&format!("home/.ssh/{name}"));
        fs::write(&path, text).unwrap();
        Command::new("chmod").arg("600").arg(&path).status().unwrap();
    };
    write(
        "config",
        &format!(
            "Include more.d/*\nHost inside\n  HostName 127.0.0.1\n  User root\n  ProxyJump inner\nMatch host 127.0.0.1 user root\n  IdentityFile {key}\nHost *\n  UserKnownHostsFile ~/.ssh/known\n  ServerAliveInterval 5\n"
        ),
    );
    write(
        "more.d/jumps",
        &format!(
            "Host inner\n  HostName 127.0.0.1\n  Port 2202\n  User root\n  IdentityFile {key}\n  ProxyJump root@outer:2201\nHost outer\n  HostName {address}\n  IdentityFile {key}\n"
        ),
    );
    let inventory = lab.path("chain.toml");
    fs::write(&inventory, "[hosts.m]\naddress = \"inside\"\n").unwrap();
    let tanker =
        |args: &[&str]| Ran::of(&lab.command(&inventory, args).env("HOME", lab.path("home")).env("USER", "nobody-here").output().unwrap());
    tanker(&["hosts", "list"]).expect_code(0).says(&format!("root@127.0.0.1:22  root@{address}:2201 root@127.0.0.1:2202"));
    tanker(&["hosts", "check"]).expect_code(4).says(&format!("the host key of {address}:2201 is unknown: ecdsa"));
    let trusted = tanker(&["trust", "m", "--yes"]).expect_code(0).says("trusted the jump host 127.0.0.1:2202").says("trusted m");
    assert_eq!(trusted.stdout.matches("trusted the jump host").count(), 2);
    tanker(&["hosts", "check"]).expect_code(0).says("reached as root");
    tanker(&["check"]).expect_code(0).says("ready for a backup");
    // What isn't understood is said; what would lead elsewhere is refused.
    write("more.d/odd", "Host inside\n  FancyNewThing yes\n");
    let odd = tanker(&["hosts", "check"]).expect_code(0);
    assert!(odd.stderr.contains("odd:2: fancynewthing is passed over"), "{}", odd.stderr);
    write("more.d/odd", "Host inside\n  ProxyCommand nc %h %p\n");
    tanker(&["hosts", "check"]).expect_code(4).says("says ProxyCommand, which tanker can't run");
    write("more.d/odd", "Host inside\n  User\n");
    let broken = tanker(&["hosts", "check"]).expect_code(2);
    assert!(broken.stderr.contains("odd:2: 'User' has no argument"), "{}", broken.stderr);
    // The inventory leaves it out.
    fs::write(&inventory, "[defaults]\nssh_config = \"none\"\n[hosts.m]\naddress = \"inside\"\n").unwrap();
    tanker(&["hosts", "list"]).expect_code(0).says("root@inside:22");
}
