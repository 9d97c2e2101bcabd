//! The inventory: which masters there are and how to reach them. `inventory.example.toml` documents every key.

mod names;
mod parse;
mod reach;
mod remotes;
mod upkeep;
mod wrong;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use parse::{BadInventory, parse_inventory};
pub use reach::{AskConfig, BadJump, parse_jump};
pub use remotes::{ObjectLock, Remote, RemoteKind, is_remote};
pub use upkeep::{EncryptTo, Upkeep, recipient_file};

use super::id::HostName;
use super::manifest::{FreezeMethod, Manifest};
use super::secret::SecretSource;

/// A whole inventory: hosts in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The groups: name, members.
    pub groups: BTreeMap<String, Vec<HostName>>,
    /// Where archives are kept.
    pub library: PathBuf,
    /// How many masters are worked on at once.
    pub forks: usize,
    /// OpenSSH's client configuration, which fills in what the inventory leaves open; none where it is not to be read.
    pub ssh_config: Option<PathBuf>,
    /// Key files that open encrypted archives.
    pub decrypt_with: Vec<PathBuf>,
    /// Places for copies.
    pub remotes: Vec<Remote>,
    /// A command that is told what a run came to: the recap as JSON on its stdin.
    pub notify: Option<String>,
    /// How the archives of hosts are looked after that are in the library and not here: retired ones, imported ones.
    pub upkeep: Upkeep,
}

/// Commands of the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Must end with code 0 before the host is touched.
    pub before: Option<String>,
    /// Runs when it is over, however it went.
    pub after: Option<String>,
    /// How long each may take.
    pub limit: Duration,
}

/// One master and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name here and in the library.
    pub name: HostName,
    /// Where it is and what opens its door.
    pub target: Target,
    /// Hosts to go through, first one first.
    pub jump: Vec<Target>,
    /// Whether SHA-1 key exchange, MACs and signatures may be used with a server that has nothing better.
    pub legacy: bool,
    /// Where the password comes from, for a login that keys don't open.
    pub password: Option<Password>,
    /// Whether the scripts run under `sudo`.
    pub sudo: bool,
    /// Where sudo's password comes from, where it wants one.
    pub sudo_password: Option<Password>,
    /// How containers are frozen; none = tanker chooses.
    pub freeze: Option<FreezeMethod>,
    /// Whether archives are packed on it; where it has no room for that, they are packed here.
    pub spool: bool,
    /// The master thaws by itself after this; none = what suits the way it is frozen.
    pub freeze_timeout: Option<Duration>,
    /// The master thaws by itself when tanker has not been heard of for this long.
    pub lease: Duration,
    /// How long the services have to become ready after a restore.
    pub ready_timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// A line that has been silent for this long is lost.
    pub silence_timeout: Duration,
    /// How long a single step may take.
    pub step_timeout: Duration,
    /// How long an archive that was packed on it and that nobody fetched stays there.
    pub keep_jobs: Duration,
    /// Archives travel at no more than so many bytes a second.
    pub bwlimit: Option<u64>,
    /// Where this host's archives are kept.
    pub library: PathBuf,
    /// How they are looked after.
    pub upkeep: Upkeep,
    /// Commands of this workstation that run before and after a backup of it.
    pub hooks: Hooks,
    /// What the inventory says itself, which the SSH configuration doesn't outrank.
    pub given: Given,
    /// What is worth knowing of its SSH configuration, a sentence each.
    pub notes: Vec<String>,
    /// Why it must not be reached as its SSH configuration has it.
    pub refusal: Option<String>,
}

/// A password's source, and whether several hosts share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Password {
    /// Where it comes from.
    pub source: SecretSource,
    /// It stands in the defaults: one for all hosts that have no other.
    pub shared: bool,
}

/// A server and what opens its door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Key files to try, in order; none = the usual ones.
    pub identity: Vec<PathBuf>,
    /// Certificate files, beside those that lie next to key files.
    pub certificates: Vec<PathBuf>,
    /// Whether keys of the agent that no identity file names are left out.
    pub identities_only: bool,
    /// Which agent.
    pub agent: Agent,
    /// The files of known host keys; the first is the one that is written.
    pub known_hosts: Vec<PathBuf>,
    /// The name that its key is known by, where that is another one.
    pub key_name: Option<String>,
    /// Whether names are hashed when a key is learnt.
    pub hash_names: bool,
}

impl Target {
    /// Takes away what opens its door: nobody will log in there.
    pub fn take_keys(&mut self) {
        (self.identity, self.certificates, self.agent) = (vec![reach::NO_IDENTITY.into()], Vec::new(), Agent::Off);
    }
}

/// An SSH agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agent {
    /// The one of `SSH_AUTH_SOCK`.
    Environment,
    /// The one at this socket.
    Socket(PathBuf),
    /// None.
    Off,
}

/// Keys of the inventory that stand in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one a key
pub struct Given {
    /// `user`
    pub user: bool,
    /// `port`
    pub port: bool,
    /// `identity`
    pub identity: bool,
    /// `agent`
    pub agent: bool,
    /// `known_hosts`
    pub known_hosts: bool,
    /// `jump`
    pub jump: bool,
    /// `connect_timeout`
    pub connect_timeout: bool,
}

/// A user at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// User to log in as.
    pub user: String,
}

impl Inventory {
    /// The host of this name.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// What is odd about a backup that isn't encrypted; none where it is, or the inventory doesn't say that it should be.
    #[must_use]
    pub fn unsealed(&self, manifest: &Manifest) -> Option<String> {
        let host = &manifest.description.host;
        (manifest.archive.encryption.is_none() && self.upkeep(host).encryption.is_some()).then(|| {
            format!(
                "{} is NOT ENCRYPTED though the inventory encrypts backups of {host}: it was made before that ('tanker rekey' encrypts it), or somebody who can write where it lies has put it in the place of another one, and nothing proves what is in it",
                manifest.description.named()
            )
        })
    }

    /// How the archives of a host are looked after, in the inventory or not.
    #[must_use]
    pub fn upkeep(&self, name: &HostName) -> &Upkeep {
        self.host(name).map_or(&self.upkeep, |host| &host.upkeep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::{Encryption, parse_manifest};

    #[test]
    fn a_plain_backup_is_odd_where_the_inventory_encrypts_those_of_its_host() {
        let text = include_str!("../../../tests/fixtures/format-1/east/2026-11-22-14_07/manifest.json");
        let mut manifest = parse_manifest(text).unwrap();
        let unsealed = |inventory: &str, manifest: &Manifest| parse_inventory("test", inventory).unwrap().unsealed(manifest);
        let (encrypts, doesnt) = ("[hosts.east]\nencrypt_passphrase = 'ask'\n", "[hosts.east]\n[hosts.west]\nencrypt_passphrase = 'ask'\n");
        assert!(unsealed(encrypts, &manifest).unwrap().contains("east@2026-11-22-14_07 is NOT ENCRYPTED"));
        assert_eq!(unsealed(doesnt, &manifest), None);
        manifest.archive.encryption = Some(Encryption { recipients: vec!["passphrase".into()], plain_bytes: 1 });
        assert_eq!(unsealed(encrypts, &manifest), None);
    }
}
