//! Which host keys are known (I7). russh's own reader lets revoked keys pass and takes another key type for an unknown host,
//! so the file is parsed with ssh_key and matched here.

use std::fs;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

use super::{RemoteError, address_of, expand};
use crate::model::inventory::Target;
use crate::model::pattern::wildcard;
use crate::model::text::printable;

/// The keys of known_hosts files.
#[derive(Clone, Default)]
pub struct KnownKeys {
    entries: Vec<Entry>,
    without_sha1: bool,
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
    /// The host is in the file with RSA keys only, types and fingerprints, and showed a key of another type where it was not allowed to show
    /// those with SHA-1.
    OtherType(Vec<String>),
    /// The key is revoked.
    Revoked,
    /// The host showed a certificate of an authority that the file names, and it can't be taken.
    BadCertificate(String),
}

impl KnownKeys {
    /// Reads the files of a target. One that isn't there knows nobody. Lines that can't be read are passed over, as OpenSSH does.
    ///
    /// # Errors
    /// When a file is there but can't be read.
    pub fn of_target(target: &Target, home: &Path) -> Result<Self, String> {
        let mut all = Self::default();
        for path in &target.known_hosts {
            all.entries.extend(Self::read(&expand(path, home))?.entries);
        }
        Ok(all)
    }

    pub(super) fn read(path: &PathBuf) -> Result<Self, String> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(format!("the known_hosts file {} can't be read: {e}", path.display())),
        }
    }

    /// The entries of a file's text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let entries = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.parse().ok()).collect();
        Self { entries, without_sha1: false }
    }

    /// The same, held against what is shown where SHA-1 is forbidden.
    #[must_use]
    pub(super) fn without_sha1(self) -> Self {
        Self { without_sha1: true, ..self }
    }

    /// The key types known for a host.
    #[must_use]
    pub fn algorithms(&self, target: &Target) -> Vec<Algorithm> {
        self.of(target).filter(|e| e.marker().is_none()).map(|e| e.public_key().algorithm()).collect()
    }

    /// Whether an authority's certificate would do for this host.
    #[must_use]
    pub fn has_authority(&self, target: &Target) -> bool {
        self.of(target).any(|e| e.marker() == Some(&Marker::CertAuthority))
    }

    /// What the files say of this key. Any match accepts; a revoked key refuses whatever else is there.
    #[must_use]
    pub fn judge(&self, target: &Target, shown: &PublicKey) -> Verdict {
        let same = |entry: &&Entry| entry.public_key().key_data() == shown.key_data();
        if self.of(target).filter(same).any(|e| e.marker() == Some(&Marker::Revoked)) {
            return Verdict::Revoked;
        }
        let plain = || self.of(target).filter(|e| e.marker().is_none());
        if plain().any(|entry| same(&entry)) {
            return Verdict::Known;
        }
        let others: Vec<String> = plain().map(|e| describe(e.public_key())).collect();
        // A server of before OpenSSH 7.2 can't show its RSA key without SHA-1.
        let hides_rsa = self.without_sha1 && !is_rsa(shown) && plain().all(|e| is_rsa(e.public_key()));
        match others {
            none if none.is_empty() => Verdict::Unknown,
            others if hides_rsa => Verdict::OtherType(others),
            others => Verdict::Changed(others),
        }
    }

    /// What the files say of a certificate that a host showed at this time. One of an authority that they don't name counts as the bare key
    /// in it, as with OpenSSH.
    #[must_use]
    pub fn judge_certificate(&self, target: &Target, shown: &Certificate, unix_time: u64) -> Verdict {
        let key = PublicKey::new(shown.public_key().clone(), "");
        let revoked = |e: &Entry| {
            let data = e.public_key().key_data();
            e.marker() == Some(&Marker::Revoked) && (data == shown.signature_key() || data == shown.public_key())
        };
        if self.of(target).any(revoked) {
            return Verdict::Revoked;
        }
        let signed_by = |e: &&Entry| e.marker() == Some(&Marker::CertAuthority) && e.public_key().key_data() == shown.signature_key();
        let Some(authority) = self.of(target).find(signed_by) else { return self.judge(target, &key) };
        let name = bare_name_of(target);
        let bad = |why: &str| Verdict::BadCertificate(why.to_owned());
        let named = shown.valid_principals().iter().any(|p| wildcard(p.to_lowercase().as_bytes(), name.as_bytes()));
        if shown.cert_type() != CertType::Host {
            return bad("it is no host's certificate");
        }
        if !named {
            return Verdict::BadCertificate(format!("it is for {}, not for {name}", printable(&shown.valid_principals().join(", "))));
        }
        if !(shown.valid_after()..shown.valid_before()).contains(&unix_time) {
            return bad("it is not valid at this time");
        }
        if shown.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
            return bad("its authority signed it with SHA-1");
        }
        if shown.critical_options().iter().next().is_some() {
            return bad("it has critical options, which tanker doesn't know");
        }
        match shown.validate_at(unix_time, [&authority.public_key().fingerprint(HashAlg::Sha256)]) {
            Ok(()) => Verdict::Known,
            Err(_) => bad("its signature is wrong"),
        }
    }

    /// The keys that are known for a host, as they stand in the files; without this one.
    #[must_use]
    pub fn others(&self, target: &Target, key: &PublicKey) -> Vec<String> {
        let plain = self.of(target).filter(|e| e.marker().is_none() && e.public_key().key_data() != key.key_data());
        plain
            .filter_map(|e| e.public_key().to_openssh().ok())
            .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    fn of<'a>(&'a self, target: &Target) -> impl Iterator<Item = &'a Entry> {
        let (name, bare) = (name_of(target), bare_name_of(target));
        // As in OpenSSH an authority for a name is one for it at every port; a key that is revoked for a name is taken at none.
        let fits = move |entry: &&Entry| {
            let at_every_port = || entry.marker().is_some() && matches(entry.host_patterns(), &bare);
            matches(entry.host_patterns(), &name) || at_every_port()
        };
        self.entries.iter().filter(fits)
    }
}

/// The name without a port.
fn bare_name_of(target: &Target) -> String {
    target.key_name.as_deref().unwrap_or(&target.endpoint.address).to_lowercase()
}

/// As OpenSSH names a host in the file: the port only where it isn't 22; an alias as it is.
pub(super) fn name_of(target: &Target) -> String {
    if let Some(alias) = &target.key_name {
        return alias.to_lowercase();
    }
    let address = target.endpoint.address.to_lowercase();
    if target.endpoint.port == 22 { address } else { format!("[{address}]:{}", target.endpoint.port) }
}

pub(super) fn matches(patterns: &HostPatterns, name: &str) -> bool {
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

pub(super) fn is_rsa(key: &PublicKey) -> bool {
    matches!(key.algorithm(), Algorithm::Rsa { .. })
}

/// `ssh-ed25519 SHA256:…`
pub(super) fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

impl Verdict {
    pub(super) fn into_refusal(self, target: &Target, shown: &PublicKey) -> Option<RemoteError> {
        let address = address_of(&target.endpoint);
        let algorithm = shown.algorithm().to_string();
        let fingerprint = shown.fingerprint(HashAlg::Sha256).to_string();
        match self {
            Self::Known => None,
            Self::Unknown => Some(RemoteError::UnknownKey { address, algorithm, fingerprint }),
            Self::Changed(known) => Some(RemoteError::ChangedKey { address, algorithm, fingerprint, known: known.join(", "), jump: false }),
            Self::OtherType(known) => Some(RemoteError::OtherTypeOfKey { address, algorithm, fingerprint, known: known.join(", ") }),
            Self::Revoked => Some(RemoteError::RevokedKey { address, fingerprint }),
            Self::BadCertificate(reason) => Some(RemoteError::BadCertificate { address, reason }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn at(address: &str, port: u16) -> Target {
        target(&format!("[hosts.x]\naddress='{address}'\nport={port}\n"))
    }
    fn target(inventory: &str) -> Target {
        crate::model::inventory::parse_inventory("i", inventory).unwrap().hosts.remove(0).target
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
    fn i7_what_is_said_of_a_name_by_a_marker_holds_at_every_port_and_a_plain_key_only_at_its_own() {
        let known = KnownKeys::parse(&format!("@cert-authority *.example.net {A}\nold.example.net {B}\n@revoked old.example.net {A}\n"));
        assert!(known.has_authority(&at("web.example.net", 2222)) && known.has_authority(&at("web.example.net", 22)));
        assert!(!known.has_authority(&at("web.example.org", 2222)));
        assert_eq!(known.judge(&at("old.example.net", 2222), &key(A)), Verdict::Revoked);
        assert_eq!(known.judge(&at("old.example.net", 2222), &key(B)), Verdict::Unknown);
        assert!(known.algorithms(&at("old.example.net", 2222)).is_empty());
        let mut other = at("web.example.net", 2222);
        other.key_name = Some("web".into());
        assert!(!known.has_authority(&other), "an alias stands for the name");
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
    fn an_alias_stands_for_address_and_port() {
        let mut target = at("10.0.0.1", 2222);
        target.key_name = Some("East".into());
        assert_eq!(KnownKeys::parse(&format!("east {A}\n")).judge(&target, &key(A)), Verdict::Known);
        assert_eq!(KnownKeys::parse(&format!("[10.0.0.1]:2222 {A}\n")).judge(&target, &key(A)), Verdict::Unknown);
    }
}
