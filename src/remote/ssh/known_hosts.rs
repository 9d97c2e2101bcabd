//! Which host keys are known (I7). russh's own reader lets revoked keys pass and takes another key type for an unknown host,
//! so the file is parsed with ssh_key and matched here.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};

use super::{RemoteError, address_of};
use crate::model::inventory::Endpoint;

/// The keys of a known_hosts file.
#[derive(Clone, Default)]
pub struct KnownKeys {
    entries: Vec<Entry>,
}

/// What a file says of a key that a host showed.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Known.
    Known,
    /// The host is not in the file.
    Unknown,
    /// The host is in the file with other keys: types and fingerprints.
    Changed(Vec<String>),
    /// The key is revoked.
    Revoked,
}

impl KnownKeys {
    /// Reads a file; one that isn't there knows nobody. Lines that can't be read are passed over, as OpenSSH does.
    ///
    /// # Errors
    /// When the file is there but can't be read.
    pub fn read(path: &Path) -> Result<Self, String> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(format!("the known_hosts file {} can't be read: {e}", path.display())),
        }
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        Self { entries: lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.parse().ok()).collect() }
    }

    /// The key types known for a host.
    #[must_use]
    pub fn algorithms(&self, endpoint: &Endpoint) -> Vec<Algorithm> {
        self.of(endpoint).filter(|e| e.marker().is_none()).map(|e| e.public_key().algorithm()).collect()
    }

    /// What the file says of this key. Any match accepts; a revoked key refuses whatever else is there.
    #[must_use]
    pub fn judge(&self, endpoint: &Endpoint, shown: &PublicKey) -> Verdict {
        let same = |entry: &&Entry| entry.public_key().key_data() == shown.key_data();
        if self.of(endpoint).filter(same).any(|e| e.marker() == Some(&Marker::Revoked)) {
            return Verdict::Revoked;
        }
        let plain = || self.of(endpoint).filter(|e| e.marker().is_none());
        if plain().any(|entry| same(&entry)) {
            return Verdict::Known;
        }
        let others: Vec<String> = plain().map(|e| describe(e.public_key())).collect();
        if others.is_empty() { Verdict::Unknown } else { Verdict::Changed(others) }
    }

    fn of<'a>(&'a self, endpoint: &Endpoint) -> impl Iterator<Item = &'a Entry> {
        let name = name_of(endpoint);
        self.entries.iter().filter(move |entry| matches(entry.host_patterns(), &name))
    }
}

/// As OpenSSH names a host in the file: the port only where it isn't 22.
fn name_of(endpoint: &Endpoint) -> String {
    let address = endpoint.address.to_lowercase();
    if endpoint.port == 22 { address } else { format!("[{address}]:{}", endpoint.port) }
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let Ok(mut mac) = Hmac::<sha1::Sha1>::new_from_slice(salt) else { return false };
            mac.update(name.as_bytes());
            mac.verify_slice(hash).is_ok()
        }
        HostPatterns::Patterns(list) => {
            let hit = |pattern: &str| wildcard(pattern.to_lowercase().as_bytes(), name.as_bytes());
            let denied = list.iter().any(|p| p.strip_prefix('!').is_some_and(hit));
            !denied && list.iter().any(|p| !p.starts_with('!') && hit(p))
        }
    }
}

fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|n| wildcard(rest, &text[n..])),
        [b'?', rest @ ..] => !text.is_empty() && wildcard(rest, &text[1..]),
        [c, rest @ ..] => text.first() == Some(c) && wildcard(rest, &text[1..]),
    }
}

/// `ssh-ed25519 SHA256:…`
pub(super) fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

impl Verdict {
    pub(super) fn into_refusal(self, endpoint: &Endpoint, shown: &PublicKey) -> Option<RemoteError> {
        let address = address_of(endpoint);
        let algorithm = shown.algorithm().to_string();
        let fingerprint = shown.fingerprint(HashAlg::Sha256).to_string();
        match self {
            Self::Known => None,
            Self::Unknown => Some(RemoteError::UnknownKey { address, algorithm, fingerprint }),
            Self::Changed(known) => Some(RemoteError::ChangedKey { address, algorithm, fingerprint, known: known.join(", ") }),
            Self::Revoked => Some(RemoteError::RevokedKey { address, fingerprint }),
        }
    }
}

/// What learning a key did.
#[derive(Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was added.
    Added,
    /// It was there already.
    AlreadyKnown,
    /// It took the place of these.
    Replaced(Vec<String>),
    /// Other keys are known, and replacing them was not asked for.
    Refused(Vec<String>),
}

/// Adds a host's key to the file; with `replace`, in the place of the host's other keys. The file is rewritten beside itself
/// and renamed.
///
/// # Errors
/// When the file can't be written.
pub fn learn(path: &Path, endpoint: &Endpoint, key: &PublicKey, replace: bool) -> Result<Learned, String> {
    let fault = |e: std::io::Error| format!("the known_hosts file {} can't be written: {e}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    let lock_path = path.with_extension("tanker-lock");
    let lock = fs::File::create(&lock_path).map_err(fault)?;
    lock.lock().map_err(fault)?;
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(fault(e)),
    };
    let name = name_of(endpoint);
    let result = match KnownKeys::parse(&text).judge(endpoint, key) {
        Verdict::Known => Learned::AlreadyKnown,
        Verdict::Revoked => return Err(format!("this key is revoked in {}", path.display())),
        Verdict::Changed(others) if !replace => Learned::Refused(others),
        Verdict::Changed(others) => Learned::Replaced(others),
        Verdict::Unknown => Learned::Added,
    };
    if matches!(result, Learned::Added | Learned::Replaced(_)) {
        let mut kept: String =
            text.lines().filter(|line| !replace || !is_plain_entry_of(line, &name)).map(|line| format!("{line}\n")).collect();
        let shown = key.to_openssh().map_err(|e| e.to_string())?;
        let words: Vec<&str> = shown.split_whitespace().take(2).collect();
        kept.push_str(&format!("{name} {}\n", words.join(" ")));
        let new = path.with_extension("tanker-new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(fault)?;
        file.write_all(kept.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
        fs::rename(&new, path).map_err(fault)?;
    }
    fs::remove_file(&lock_path).map_err(fault)?;
    Ok(result)
}

/// An entry for this host alone, by its plain or hashed name; one that covers others too is left for the operator.
fn is_plain_entry_of(line: &str, name: &str) -> bool {
    let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let Ok(entry) = words.parse::<Entry>() else { return false };
    let alone = match entry.host_patterns() {
        HostPatterns::HashedName { .. } => true,
        HostPatterns::Patterns(list) => list.len() == 1 && !list[0].contains(['*', '?', '!']),
    };
    alone && entry.marker().is_none() && matches(entry.host_patterns(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn at(address: &str, port: u16) -> Endpoint {
        Endpoint { address: address.into(), port, user: "root".into() }
    }
    fn key(text: &str) -> PublicKey {
        text.parse().unwrap()
    }

    #[test]
    fn i7_a_changed_or_unknown_key_is_never_accepted() {
        let known = KnownKeys::parse(&format!("# comment\ngarbage line\nmaster,10.0.0.1 {A}\n[master]:2222\t{B}\n"));
        assert_eq!(known.judge(&at("master", 22), &key(A)), Verdict::Known);
        assert_eq!(known.judge(&at("MASTER", 22), &key(A)), Verdict::Known);
        assert!(matches!(known.judge(&at("master", 22), &key(B)), Verdict::Changed(_)));
        assert_eq!(known.judge(&at("master", 2222), &key(B)), Verdict::Known);
        assert_eq!(known.judge(&at("other", 22), &key(A)), Verdict::Unknown);
    }

    #[test]
    fn i7_a_revoked_key_is_refused_even_where_it_is_also_known() {
        let known = KnownKeys::parse(&format!("master {A}\n@revoked * {A}\n@cert-authority * {B}\n"));
        assert_eq!(known.judge(&at("master", 22), &key(A)), Verdict::Revoked);
        assert_eq!(known.judge(&at("other", 22), &key(B)), Verdict::Unknown);
    }

    #[test]
    fn hashed_names_are_recognised() {
        // ssh-keyscan -H of "localhost"
        let line = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877fTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {A}");
        assert_eq!(KnownKeys::parse(&line).judge(&at("localhost", 22), &key(A)), Verdict::Unknown);
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"salt").unwrap();
        mac.update(b"master");
        let hash: [u8; 20] = mac.finalize().into_bytes().into();
        let patterns = HostPatterns::HashedName { salt: b"salt".to_vec(), hash };
        let line = format!("{} {A}", patterns.to_string());
        assert_eq!(KnownKeys::parse(&line).judge(&at("master", 22), &key(A)), Verdict::Known);
    }

    #[test]
    fn i7_a_rebuilt_hosts_key_replaces_only_its_own_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        fs::write(&path, format!("master {A}\nother {A}\n@revoked master {B}\n# kept\n")).unwrap();
        assert!(learn(&path, &at("master", 22), &key(B), true).is_err(), "a revoked key is not learnt");
        fs::write(&path, format!("master {A}\nother {A}\n# kept\n")).unwrap();
        assert!(matches!(learn(&path, &at("master", 22), &key(B), false), Ok(Learned::Refused(_))));
        assert!(matches!(learn(&path, &at("master", 22), &key(B), true), Ok(Learned::Replaced(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("other {A}\n# kept\nmaster {B}\n"));
        assert_eq!(learn(&path, &at("master", 22), &key(B), false), Ok(Learned::AlreadyKnown));
    }
}
