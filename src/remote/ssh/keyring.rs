//! Private keys, loaded and deciphered before any work begins: nothing asks for a passphrase half an hour in.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{PrivateKey, load_secret_key};

use super::expand;
use crate::model::inventory::Host;

/// Tried where a host names no identity, as OpenSSH does.
const DEFAULT_IDENTITIES: [&str; 3] = ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"];

/// The deciphered keys by their path. Holds secrets: no `Debug` (I6).
#[derive(Default)]
pub struct Keyring {
    keys: BTreeMap<PathBuf, Arc<PrivateKey>>,
    home: PathBuf,
}

/// Why a named key can't be used: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyringError(pub String);

impl Keyring {
    /// Loads the keys of these hosts. `ask` is asked for the passphrase of an encrypted one, three times at most; none means
    /// that nobody can answer.
    ///
    /// # Errors
    /// When a key that the inventory names isn't there, can't be read or stays encrypted.
    pub fn load<'a>(
        hosts: impl IntoIterator<Item = &'a Host>,
        home: &Path,
        ask: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<Self, KeyringError> {
        let mut ring = Self { keys: BTreeMap::new(), home: home.to_owned() };
        for host in hosts {
            for path in &host.identity {
                let path = expand(path, home);
                if let Entry::Vacant(place) = ring.keys.entry(path) {
                    let key = load_one(place.key(), ask)?;
                    place.insert(Arc::new(key));
                }
            }
            if host.identity.is_empty() {
                for path in DEFAULT_IDENTITIES.map(|p| expand(Path::new(p), home)) {
                    // Keys that nobody named are taken along only where they need no question.
                    if let Ok(key) = load_secret_key(&path, None) {
                        ring.keys.insert(path, Arc::new(key));
                    }
                }
            }
        }
        Ok(ring)
    }

    /// The keys to try for a host, in order.
    pub(super) fn of(&self, host: &Host) -> Vec<Arc<PrivateKey>> {
        let defaults: Vec<PathBuf> = DEFAULT_IDENTITIES.iter().map(PathBuf::from).collect();
        let paths = if host.identity.is_empty() { &defaults } else { &host.identity };
        paths.iter().filter_map(|path| self.keys.get(&expand(path, &self.home)).cloned()).collect()
    }
}

fn load_one(path: &Path, ask: &mut dyn FnMut(&str) -> Option<String>) -> Result<PrivateKey, KeyringError> {
    let shown = path.display();
    if let Err(e) = std::fs::metadata(path) {
        return Err(KeyringError(format!("the identity {shown} can't be read: {e}")));
    }
    match load_secret_key(path, None) {
        Ok(key) => return Ok(key),
        Err(russh::keys::Error::KeyIsEncrypted) => {}
        Err(e) => return Err(KeyringError(format!("{shown} is no private key that tanker can use: {e}"))),
    }
    for _ in 0..3 {
        let question = format!("Passphrase for {shown}: ");
        let passphrase = ask(&question).ok_or_else(|| {
            KeyringError(format!("{shown} is encrypted and there is no terminal to ask for its passphrase: load it into your SSH agent"))
        })?;
        if let Ok(key) = load_secret_key(path, Some(&passphrase)) {
            return Ok(key);
        }
    }
    Err(KeyringError(format!("three wrong passphrases for {shown}")))
}
