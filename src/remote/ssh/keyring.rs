//! Everything secret that opens doors: private keys, certificates, passwords, gathered before any work begins, so that nothing
//! asks half an hour in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use russh::keys::{Certificate, PublicKey, load_openssh_certificate};

use super::agent::identities;
use super::expand;
use super::gate::Gates;
use super::identity::{Identity, beside, is_private, read_identity, unlock};
use super::throttle::Throttle;
use crate::model::id::HostName;
use crate::model::inventory::{Agent, Host, Password, Target};
use crate::model::secret::{SecretSource, first_line};
use crate::model::text::printable;

/// Tried where a host names no identity, as OpenSSH does.
const DEFAULT_IDENTITIES: [&str; 3] = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"];

/// What OpenSSH tries by itself: a configuration that names one of these says nothing by it.
const USUAL: [&str; 7] = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"];

/// A password. No `Debug` (I6).
#[derive(Clone)]
pub struct Secret(pub(super) Arc<str>);

/// The keys and passwords of some hosts. No `Debug` (I6).
#[derive(Default)]
pub struct Keyring {
    /// By file, and the agent that was asked for it.
    identities: BTreeMap<(PathBuf, Agent), Identity>,
    /// Keys that could not be used and that nobody named, a sentence each.
    pub notes: Vec<String>,
    /// Encrypted keys whose passphrase nobody knew.
    locked: BTreeSet<PathBuf>,
    certificates: BTreeMap<PathBuf, Certificate>,
    passwords: BTreeMap<HostName, Secret>,
    sudo_passwords: BTreeMap<HostName, Secret>,
    unusable: BTreeMap<HostName, String>,
    home: PathBuf,
    /// Shared by all connections of a run.
    pub(super) gates: Gates,
    /// So are the limits of what bulk data may take.
    pub(super) throttle: Throttle,
}

/// Why a named key or password can't be used: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyringError(pub String);

/// Asks the operator without showing the answer; none where nobody can answer.
pub type Ask<'a> = &'a mut (dyn FnMut(&str) -> Option<String> + Send);

impl Keyring {
    /// Whether a host's bulk data may not come as fast as it can.
    pub(in crate::remote) fn is_limited(&self, host: &Host) -> bool {
        self.throttle.limits(host).any()
    }

    /// Gathers what these hosts need. `ask` is asked for the passphrase of an encrypted key that no agent holds (three times at most)
    /// and for passwords. `bwlimit` is for all hosts together, in bytes a second.
    ///
    /// # Errors
    /// When for every host a key that the inventory names isn't there, can't be read or stays encrypted, or a password can't be had. Where
    /// only some hosts lack something the others go on: [`Self::unusable`] says why those can't.
    pub async fn load<'a>(
        hosts: impl IntoIterator<Item = &'a Host>,
        home: &Path,
        bwlimit: Option<u64>,
        ask: Ask<'_>,
    ) -> Result<Self, KeyringError> {
        let mut ring = Self { home: home.to_owned(), throttle: Throttle::of(bwlimit), ..Self::default() };
        let mut shared = BTreeMap::new();
        let mut agents: BTreeMap<Agent, Vec<PublicKey>> = BTreeMap::new();
        let (mut usable, mut first) = (0, None);
        for host in hosts {
            for target in host.jump.iter().chain([&host.target]) {
                if !agents.contains_key(&target.agent) {
                    agents.insert(target.agent.clone(), identities(&target.agent, home).await);
                }
            }
            match ring.load_host(host, &agents, &mut shared, ask) {
                Ok(()) => usable += 1,
                Err(e) => {
                    ring.unusable.insert(host.name.clone(), e.0.clone());
                    first = first.or(Some(e));
                }
            }
        }
        match first {
            Some(e) if usable == 0 => Err(e),
            _ => Ok(ring),
        }
    }

    fn load_host(
        &mut self,
        host: &Host,
        agents: &BTreeMap<Agent, Vec<PublicKey>>,
        shared: &mut BTreeMap<(SecretSource, &'static str), Secret>,
        ask: Ask<'_>,
    ) -> Result<(), KeyringError> {
        for (n, target) in host.jump.iter().chain([&host.target]).enumerate() {
            let in_agent = agents.get(&target.agent).map(Vec::as_slice).unwrap_or_default();
            // Jump hosts are offered the inventory's keys as well.
            let named = host.given.identity && n == host.jump.len();
            self.load_identities(target, named, in_agent, ask)?;
        }
        let who = format!("{}@{}", host.target.endpoint.user, host.target.endpoint.address);
        if let Some(source) = &host.password {
            self.passwords.insert(host.name.clone(), self.secret(source, "SSH password", &who, shared, ask)?);
        }
        if let (Some(source), true) = (&host.sudo_password, host.sudo) {
            self.sudo_passwords.insert(host.name.clone(), self.secret(source, "sudo password", &who, shared, ask)?);
        }
        Ok(())
    }

    /// Why nobody can log in to a host: a key or password of its own can't be had.
    #[must_use]
    pub fn unusable(&self, host: &HostName) -> Option<&str> {
        self.unusable.get(host).map(String::as_str)
    }

    fn load_identities(&mut self, target: &Target, named: bool, in_agent: &[PublicKey], ask: Ask<'_>) -> Result<(), KeyringError> {
        let usual = target.identity.is_empty();
        let paths: Vec<PathBuf> = if usual { DEFAULT_IDENTITIES.iter().map(PathBuf::from).collect() } else { target.identity.clone() };
        let slot = |path: &PathBuf| (path.clone(), target.agent.clone());
        let paths: Vec<PathBuf> = paths.iter().map(|path| expand(path, &self.home)).collect();
        // Keys that nobody named are asked for only where there is nothing else to show.
        let mut locked = Vec::new();
        for path in &paths {
            let there = path.exists() || beside(path, ".pub").exists();
            if !usual && !named && !there && !self.is_usual(path) {
                self.note(format!("the identity {}, which the configuration names, isn't there", path.display()));
            }
            if self.identities.contains_key(&slot(path)) || (!named && !there) {
                continue;
            }
            match read_identity(path, in_agent) {
                Ok(Some(identity)) => drop(self.identities.insert(slot(path), identity)),
                Ok(None) => locked.push(path),
                Err(e) if named => return Err(e),
                Err(KeyringError(why)) if path.is_file() => self.note(why),
                Err(_) => {}
            }
        }
        let nothing_else = in_agent.is_empty() && !paths.iter().any(|path| self.identities.contains_key(&slot(path)));
        for path in locked {
            if self.locked.contains(path) {
                continue;
            }
            if usual && !nothing_else {
                self.note(format!("{} is encrypted and was not tried: name it with 'identity'", path.display()));
                continue;
            }
            match unlock(path, ask) {
                Ok(identity) => drop(self.identities.insert(slot(path), identity)),
                Err(e) if named => return Err(e),
                Err(KeyringError(why)) => {
                    self.locked.insert(path.clone());
                    self.note(why);
                }
            }
        }
        for path in &target.certificates {
            let path = expand(path, &self.home);
            match load_openssh_certificate(&path) {
                Ok(certificate) => drop(self.certificates.insert(path, certificate)),
                Err(e) => {
                    let why = printable(&e.to_string());
                    self.note(format!("the certificate {}, which the SSH configuration names, can't be used: {why}", path.display()));
                }
            }
        }
        Ok(())
    }

    fn is_usual(&self, path: &Path) -> bool {
        USUAL.iter().any(|name| path == self.home.join(".ssh").join(name))
    }

    /// Said once, however many hosts it concerns.
    fn note(&mut self, why: String) {
        if !self.notes.contains(&why) {
            self.notes.push(why);
        }
    }

    fn secret(
        &self,
        password: &Password,
        what: &str,
        who: &str,
        shared: &mut BTreeMap<(SecretSource, &'static str), Secret>,
        ask: Ask<'_>,
    ) -> Result<Secret, KeyringError> {
        let kind = if what.starts_with("sudo") { "sudo" } else { "ssh" };
        let key = (password.source.clone(), kind);
        if let Some(known) = shared.get(&key).filter(|_| password.shared) {
            return Ok(known.clone());
        }
        let question = if password.shared { format!("{what}: ") } else { format!("{what} of {who}: ") };
        let text = read_secret(&password.source, &format!("the {what} of {who}"), &question, &self.home, ask)?;
        let secret = Secret(text.into());
        if password.shared {
            shared.insert(key, secret.clone());
        }
        Ok(secret)
    }

    /// The identities to try for a target, in order.
    pub(super) fn of(&self, target: &Target) -> Vec<Identity> {
        let usual: Vec<PathBuf> = DEFAULT_IDENTITIES.iter().map(PathBuf::from).collect();
        let paths = if target.identity.is_empty() { &usual } else { &target.identity };
        let mut seen = BTreeSet::new();
        let found = paths.iter().map(|path| expand(path, &self.home)).filter(|path| seen.insert(path.clone()));
        found.filter_map(|path| self.identities.get(&(path, target.agent.clone())).cloned()).collect()
    }

    /// Certificates that the SSH configuration names for a target.
    pub(super) fn certificates_of(&self, target: &Target) -> Vec<Certificate> {
        target.certificates.iter().filter_map(|path| self.certificates.get(&expand(path, &self.home)).cloned()).collect()
    }

    pub(super) fn password_of(&self, host: &HostName) -> Option<&Secret> {
        self.passwords.get(host)
    }

    pub(super) fn sudo_password_of(&self, host: &HostName) -> Option<&Secret> {
        self.sudo_passwords.get(host)
    }
}

/// Reads a secret where it comes from. `what` names it in errors.
///
/// # Errors
/// When it can't be had.
pub fn read_secret(source: &SecretSource, what: &str, question: &str, home: &Path, ask: Ask<'_>) -> Result<String, KeyringError> {
    match source {
        SecretSource::Ask => ask(question).ok_or_else(|| KeyringError(format!("there is no terminal to ask for {what}"))),
        SecretSource::Env(name) => {
            std::env::var(name).map_err(|_| KeyringError(format!("{what} should be in the environment's {name}, which is not set")))
        }
        SecretSource::File(path) => {
            let path = expand(path, home);
            let shown = path.display().to_string();
            is_private(&path)?;
            let text = fs::read_to_string(&path).map_err(|e| KeyringError(format!("the password file {shown} can't be read: {e}")))?;
            first_line(&text, &shown).map_err(KeyringError)
        }
        SecretSource::Command(command) => {
            let output = Command::new("sh").arg("-c").arg(command).stderr(std::process::Stdio::inherit()).output();
            let output = output.map_err(|e| KeyringError(format!("the command for {what} can't be run: {e}")))?;
            if !output.status.success() {
                return Err(KeyringError(format!("the command for {what} failed ({})", output.status)));
            }
            first_line(&String::from_utf8_lossy(&output.stdout), &format!("the command for {what}")).map_err(KeyringError)
        }
    }
}

#[cfg(test)]
mod tests {
    use russh::keys::load_public_key;

    use super::super::identity::{beside, tests::key};
    use super::*;

    fn target(home: &Path) -> Target {
        fs::create_dir(home.join(".ssh")).unwrap();
        crate::model::inventory::parse_inventory("i", "[hosts.x]\n").unwrap().hosts.remove(0).target
    }
    fn ring(home: &Path) -> Keyring {
        Keyring { home: home.to_owned(), ..Keyring::default() }
    }

    #[test]
    fn what_the_ssh_configuration_names_and_can_not_be_had_is_said_once() {
        let home = tempfile::tempdir().unwrap();
        let mut target = target(home.path());
        target.identity = ["~/.ssh/id_rsa", "~/.ssh/gone"].map(PathBuf::from).to_vec();
        target.certificates = vec!["~/.ssh/gone-cert.pub".into()];
        let mut ring = ring(home.path());
        for _ in 0..2 {
            ring.load_identities(&target, false, &[], &mut |_| None).unwrap();
        }
        let said: Vec<&str> = ring.notes.iter().map(|note| note.split(", which").next().unwrap()).collect();
        let [identity, certificate] = ["gone", "gone-cert.pub"].map(|name| home.path().join(".ssh").join(name).display().to_string());
        assert_eq!(
            said,
            [format!("the identity {identity}"), format!("the certificate {certificate}")],
            "the usual ones need not be there"
        );
        assert!(ring.load_identities(&target, true, &[], &mut |_| None).is_err(), "the inventory means what it says");
    }

    #[test]
    fn an_encrypted_key_of_the_usual_names_that_was_passed_over_is_said() {
        let home = tempfile::tempdir().unwrap();
        let target = target(home.path());
        let path = home.path().join(".ssh/id_ed25519");
        key(&path, "right");
        let other = home.path().join("other");
        key(&other, "");
        let in_agent = [load_public_key(beside(&other, ".pub")).unwrap()];
        let mut passed_over = ring(home.path());
        passed_over.load_identities(&target, false, &in_agent, &mut |_| panic!("nobody is asked")).unwrap();
        assert_eq!(passed_over.notes, [format!("{} is encrypted and was not tried: name it with 'identity'", path.display())]);
        let mut asked = ring(home.path());
        asked.load_identities(&target, false, &[], &mut |_| Some("right".to_owned())).unwrap();
        assert_eq!((asked.notes.len(), asked.of(&target).len()), (0, 1));
    }
}
