//! Every kind of server that a master may be or stand behind. The servers are real ones: the distribution's sshd and dropbear, on ports of
//! a lab master of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Lab, Ran};

/// What `ssh.md`'s measurements say that these offered and took.
pub(super) const OPENSSH_5_3: &str = "-o KexAlgorithms=diffie-hellman-group-exchange-sha1,diffie-hellman-group14-sha1 -o HostKeyAlgorithms=ssh-rsa \
     -o Ciphers=aes128-ctr,aes192-ctr,aes256-ctr,aes128-cbc,aes256-cbc -o MACs=hmac-sha1 -o PubkeyAcceptedAlgorithms=ssh-rsa";
const OPENSSH_6_6: &str = "-o KexAlgorithms=curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group14-sha1 \
     -o HostKeyAlgorithms=ssh-rsa,ecdsa-sha2-nistp256,ssh-ed25519 -o Ciphers=aes128-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com \
     -o MACs=hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha1 -o PubkeyAcceptedAlgorithms=ssh-rsa,ecdsa-sha2-nistp256,ssh-ed25519";

/// A master with servers of its own making.
pub(super) struct Servers {
    pub(super) lab: Lab,
    inventory: String,
    pub(super) key: String,
    pub(super) address: String,
}

impl Servers {
    pub(super) fn up(instance: &str) -> Self {
        let lab = Lab::up(instance, "5.1");
        let inventory = fs::read_to_string(lab.inventory()).unwrap();
        let key = inventory.lines().find_map(|line| line.strip_prefix("identity = [\"")).unwrap().trim_end_matches("\"]").to_owned();
        let address = lab.address();
        Self { lab, inventory, key, address }
    }

    pub(super) fn sshd(&self, port: u16, options: &str) {
        self.lab.sshd(port, options);
    }

    /// `tanker hosts check` with these lines in the defaults, `identity` taken out where they have one.
    pub(super) fn check(&self, lines: &str) -> Ran {
        self.run(&["hosts", "check"], lines)
    }

    pub(super) fn run(&self, args: &[&str], lines: &str) -> Ran {
        self.lab.tanker_with(&self.with(lines), args)
    }

    pub(super) fn with(&self, lines: &str) -> PathBuf {
        let mut text = self.inventory.clone();
        for line in lines.lines() {
            let key = line.split(" = ").next().unwrap();
            text = text.lines().filter(|old| !old.starts_with(&format!("{key} = "))).map(|old| format!("{old}\n")).collect();
        }
        let path = self.lab.path("own.toml");
        fs::write(&path, text.replace("[defaults]\n", &format!("[defaults]\n{lines}\n"))).unwrap();
        path
    }

    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.path(name);
        fs::write(&path, text).unwrap();
        Command::new("chmod").arg("600").arg(&path).status().unwrap();
        path
    }

    /// A key pair of this type whose public half root on the master accepts.
    pub(super) fn keygen(&self, name: &str, kind: &str, passphrase: &str) -> PathBuf {
        let path = self.lab.path(name);
        let bits: &[&str] = if kind == "rsa" { &["-b", "2048"] } else { &[] };
        let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(&path).args(bits).status().unwrap();
        assert!(made.success());
        path
    }

    pub(super) fn authorize(&self, key: &Path, user: &str) {
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
    // Only the RSA key of a server of CentOS 7 is known, which it can show with SHA-1 only: used and said, until its better key is known too.
    let known = servers.lab.path("rsa-only");
    let keys = servers.lab.ask("cat /etc/ssh/ssh_host_rsa_key.pub");
    fs::write(&known, format!("[{}]:2202 {keys}", servers.address)).unwrap();
    let rsa_only = format!("port = 2202\nknown_hosts = \"{}\"", known.display());
    let weak = servers.check(&rsa_only).expect_code(0).stderr;
    assert!(weak.contains("nothing better than SHA-1 here (ssh-rsa): 'tanker trust m' asks"), "{weak}");
    let strict = format!("{rsa_only}\nlegacy = false");
    servers
        .check(&strict)
        .expect_code(4)
        .says("shows the key ssh-ed25519")
        .says("'tanker trust m' makes this key known beside the RSA one");
    servers.run(&["trust", "m"], &rsa_only).expect_code(3).says("beside its known ssh-rsa");
    servers.run(&["trust", "m", "--yes"], &rsa_only).expect_code(0).says("stays known by the key that it has shown before");
    servers.run(&["trust", "m", "--yes"], &strict).expect_code(3);
    assert_eq!(fs::read_to_string(&known).unwrap().lines().count(), 1, "nobody has looked");
    servers.run(&["trust", "m", "--rebuilt", "--yes"], &rsa_only).expect_code(0).says("trusted m");
    assert_eq!(fs::read_to_string(&known).unwrap().lines().count(), 2, "the proven RSA key stays");
    let better = servers.check(&rsa_only).expect_code(0);
    assert!(!better.stderr.contains("SHA-1"), "{}", better.stderr);
    servers.check(&strict).expect_code(0);
    fs::write(&known, format!("[{}]:2202 {keys}", servers.address)).unwrap();
    let (shown, code) = servers.lab.typed(&servers.with(&strict), &["trust", "m"], &[("Trust this key?", "yes\n")]);
    assert!(code == 0 && fs::read_to_string(&known).unwrap().lines().count() == 2, "{shown}");
    servers.check("port = 2202").expect_code(0).says("curve25519-sha256@libssh.org aes256-gcm@openssh.com");
    reach(2203, "").expect_code(0).says("reached as root");
    let new = servers.check(&identity).expect_code(0).says("256");
    assert!(!new.stderr.contains("SHA-1"), "{}", new.stderr);
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
