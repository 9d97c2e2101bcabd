//! Everything secret that opens doors: private keys, certificates, passwords, gathered before any work begins, so that nothing
//! asks half an hour in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use russh::keys::{Certificate, PrivateKey, PublicKey, decode_secret_key, load_openssh_certificate, load_public_key};

use super::agent::identities;
use super::expand;
use super::gate::Gates;
use super::throttle::Throttle;
use crate::model::id::HostName;
use crate::model::inventory::{Agent, Host, Password, Target};
use crate::model::secret::{SecretSource, first_line};
use crate::platform;

/// Tried where a host names no identity, as OpenSSH does.
const DEFAULT_IDENTITIES: [&str; 3] = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"];

/// A password. No `Debug` (I6).
#[derive(Clone)]
pub struct Secret(pub(super) Arc<str>);

/// What an identity file holds.
#[derive(Clone)]
pub(super) enum Identity {
    /// A private key, and its certificate where one lies beside it.
    Key(Arc<PrivateKey>, Option<Box<Certificate>>),
    /// A key whose private half only the agent has.
    InAgent(PublicKey, Option<Box<Certificate>>),
}

impl Identity {
    pub(super) fn public(&self) -> &PublicKey {
        match self {
            Self::Key(key, _) => key.public_key(),
            Self::InAgent(key, _) => key,
        }
    }

    pub(super) fn certificate(&self) -> Option<Box<Certificate>> {
        match self {
            Self::Key(_, certificate) | Self::InAgent(_, certificate) => certificate.clone(),
        }
    }
}

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
            if self.identities.contains_key(&slot(path)) || (!named && !there) {
                continue;
            }
            match read_identity(path, in_agent) {
                Ok(Some(identity)) => drop(self.identities.insert(slot(path), identity)),
                Ok(None) => locked.push(path),
                Err(e) if named => return Err(e),
                Err(KeyringError(why)) if path.is_file() && !self.notes.contains(&why) => self.notes.push(why),
                Err(_) => {}
            }
        }
        let nothing_else = in_agent.is_empty() && !paths.iter().any(|path| self.identities.contains_key(&slot(path)));
        for path in locked {
            if self.locked.contains(path) || (usual && !nothing_else) {
                continue;
            }
            match unlock(path, ask) {
                Ok(identity) => drop(self.identities.insert(slot(path), identity)),
                Err(e) if named => return Err(e),
                Err(KeyringError(why)) => {
                    self.locked.insert(path.clone());
                    self.notes.push(why);
                }
            }
        }
        for path in target.certificates.iter().map(|path| expand(path, &self.home)) {
            if let Ok(certificate) = load_openssh_certificate(&path) {
                self.certificates.insert(path, certificate);
            }
        }
        Ok(())
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

/// Reads an identity file; none where it is encrypted and the agent doesn't hold it.
fn read_identity(path: &Path, in_agent: &[PublicKey]) -> Result<Option<Identity>, KeyringError> {
    let shown = path.display();
    let in_the_agent = |key: PublicKey| Identity::InAgent(key, certificate_beside(path));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // Only the public half lies here: it names one that the agent holds.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && beside(path, ".pub").exists() => {
            return Ok(load_public_key(beside(path, ".pub")).ok().map(in_the_agent));
        }
        Err(e) => return Err(KeyringError(format!("the identity {shown} can't be read: {e}"))),
    };
    if let Ok(key) = PublicKey::from_openssh(text.trim()) {
        return Ok(Some(in_the_agent(key)));
    }
    is_private(path)?;
    match decode_secret_key(&text, None) {
        Ok(key) => Ok(Some(with_certificate(path, key))),
        Err(russh::keys::Error::KeyIsEncrypted) => {
            let public = PrivateKey::from_openssh(&text).map(|key| key.public_key().clone()).ok();
            let public = public.or_else(|| load_public_key(beside(path, ".pub")).ok());
            let held = public.filter(|key| in_agent.iter().any(|other| other.key_data() == key.key_data()));
            Ok(held.map(in_the_agent))
        }
        Err(e) => Err(KeyringError(format!("{shown} is no private key that tanker can use: {e}"))),
    }
}

fn unlock(path: &Path, ask: Ask<'_>) -> Result<Identity, KeyringError> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|e| KeyringError(format!("the identity {shown} can't be read: {e}")))?;
    for _ in 0..3 {
        let passphrase = ask(&format!("Passphrase for {shown}: ")).ok_or_else(|| {
            KeyringError(format!("{shown} is encrypted and there is no terminal to ask for its passphrase: load it into your SSH agent"))
        })?;
        if let Ok(key) = decode_secret_key(&text, Some(&passphrase)) {
            return Ok(with_certificate(path, key));
        }
    }
    Err(KeyringError(format!("three wrong passphrases for {shown}")))
}

fn with_certificate(path: &Path, key: PrivateKey) -> Identity {
    let certificate = certificate_beside(path).filter(|certificate| certificate.public_key() == key.public_key().key_data());
    Identity::Key(Arc::new(key), certificate)
}

fn certificate_beside(path: &Path) -> Option<Box<Certificate>> {
    load_openssh_certificate(beside(path, "-cert.pub")).ok().map(Box::new)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A secret that others on this workstation can read is none: refused, as by OpenSSH.
fn is_private(path: &Path) -> Result<(), KeyringError> {
    let shown = path.display();
    let others = platform::others(path).map_err(|e| KeyringError(format!("{shown} can't be read: {e}")))?;
    if !others.any {
        return Ok(());
    }
    Err(KeyringError(format!("others can read {shown}: 'chmod 600 {shown}' mends that")))
}
