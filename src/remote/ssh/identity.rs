//! Identity files: a private key, the public half of one that the agent holds, the certificate beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::ssh_key::Cipher;
use russh::keys::{Certificate, PrivateKey, PublicKey, decode_secret_key, load_openssh_certificate, load_public_key};

use super::keyring::{Ask, KeyringError};
use crate::model::text::printable;
use crate::platform;

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

/// Reads an identity file; none where it is encrypted and the agent doesn't hold it.
pub(super) fn read_identity(path: &Path, in_agent: &[PublicKey]) -> Result<Option<Identity>, KeyringError> {
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
        if !in_agent.iter().any(|other| other.key_data() == key.key_data()) {
            return Err(KeyringError(format!("{shown} is only the public half of a key, and no agent here holds the other")));
        }
        return Ok(Some(in_the_agent(key)));
    }
    is_private(path)?;
    let public = PrivateKey::from_openssh(&text).map(|key| key.public_key().clone()).ok();
    let public = public.or_else(|| load_public_key(beside(path, ".pub")).ok());
    let held = public.filter(|key| in_agent.iter().any(|other| other.key_data() == key.key_data()));
    if let (Some(cipher), None) = (foreign_cipher(&text), &held) {
        let anew = format!("'ssh-keygen -p -f {shown}' writes it anew, or load it into your SSH agent");
        return Err(KeyringError(format!("{shown} is encrypted with {cipher}, which tanker can't open: {anew}")));
    }
    match decode_secret_key(&text, None) {
        Ok(key) => Ok(Some(with_certificate(path, key))),
        Err(e) if held.is_some() || matches!(e, russh::keys::Error::KeyIsEncrypted) || text.contains(ENCRYPTED_PKCS8) => {
            Ok(held.map(in_the_agent))
        }
        Err(e) => Err(KeyringError(format!("{shown} is no private key that tanker can use: {e}"))),
    }
}

const ENCRYPTED_PKCS8: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// The cipher of a key that russh opens with no passphrase, right or wrong.
fn foreign_cipher(text: &str) -> Option<String> {
    let pem = text.lines().find_map(|line| line.strip_prefix("DEK-Info: ")).and_then(|info| info.split(',').next());
    if let Some(cipher) = pem {
        return Some(printable(cipher)).filter(|cipher| cipher != "AES-128-CBC");
    }
    PrivateKey::from_openssh(text).ok().map(|key| key.cipher()).filter(|cipher| *cipher == Cipher::TdesCbc).map(|cipher| cipher.to_string())
}

/// Whether an identity file could be used: without a question, and whatever an agent holds.
///
/// # Errors
/// When others can read it, or nothing in it is a key.
pub fn look_at_identity(path: &Path) -> Result<(), KeyringError> {
    let text = fs::read_to_string(path).map_err(|e| KeyringError(format!("the identity {} can't be read: {e}", path.display())))?;
    if PublicKey::from_openssh(text.trim()).is_ok() {
        return Ok(());
    }
    read_identity(path, &[]).map(drop)
}

pub(super) fn unlock(path: &Path, ask: Ask<'_>) -> Result<Identity, KeyringError> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|e| KeyringError(format!("the identity {shown} can't be read: {e}")))?;
    for _ in 0..3 {
        let passphrase = ask(&format!("Passphrase for {shown}: ")).ok_or_else(|| {
            KeyringError(format!("{shown} is encrypted and there is no terminal to ask for its passphrase: load it into your SSH agent"))
        })?;
        match decode_secret_key(&text, Some(&passphrase)) {
            Ok(key) => return Ok(with_certificate(path, key)),
            Err(e) if is_unsupported(&e) => {
                let why = printable(&e.to_string());
                return Err(KeyringError(format!("{shown} is no private key that tanker can use: {why}: load it into your SSH agent")));
            }
            Err(_) => {}
        }
    }
    Err(KeyringError(format!("three wrong passphrases for {shown}")))
}

/// Whether no passphrase would open it. What is deciphered with a wrong one is noise, so most errors say nothing of the form.
fn is_unsupported(error: &russh::keys::Error) -> bool {
    use russh::keys::{Error, ssh_key};
    match error {
        Error::UnsupportedKeyType { .. } | Error::UnknownAlgorithm(_) | Error::CouldNotReadKey => true,
        Error::SshKey(e) => {
            matches!(e, ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } | ssh_key::Error::Version { .. })
        }
        _ => false,
    }
}

fn with_certificate(path: &Path, key: PrivateKey) -> Identity {
    let certificate = certificate_beside(path).filter(|certificate| certificate.public_key() == key.public_key().key_data());
    Identity::Key(Arc::new(key), certificate)
}

fn certificate_beside(path: &Path) -> Option<Box<Certificate>> {
    load_openssh_certificate(beside(path, "-cert.pub")).ok().map(Box::new)
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A secret that others on this workstation can read is none: refused, as by OpenSSH.
pub(super) fn is_private(path: &Path) -> Result<(), KeyringError> {
    let shown = path.display();
    let others = platform::others(path).map_err(|e| KeyringError(format!("{shown} can't be read: {e}")))?;
    if !others.any {
        return Ok(());
    }
    Err(KeyringError(format!("others can read {shown}: 'chmod 600 {shown}' mends that")))
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;

    use super::*;

    /// A key that `ssh-keygen` makes, as an operator would.
    pub(in super::super) fn key(path: &Path, passphrase: &str) {
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-a", "1", "-N", passphrase, "-f"]).arg(path).status();
        assert!(made.unwrap().success());
    }

    #[test]
    fn a_wrong_passphrase_is_told_from_a_key_that_none_would_open() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        key(&path, "right");
        let mut times = 0;
        let why = unlock(&path, &mut |_| {
            times += 1;
            Some("wrong".to_owned())
        })
        .err()
        .unwrap();
        assert!(why.0.starts_with("three wrong passphrases") && times == 3, "{why}");
        // A key of OpenSSL's form asks as well.
        let pkcs8 = home.path().join("pkcs8");
        let genpkey = ["genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:right", "-out"];
        assert!(Command::new("openssl").args(genpkey).arg(&pkcs8).status().unwrap().success());
        assert!(read_identity(&pkcs8, &[]).unwrap().is_none());
        assert!(unlock(&pkcs8, &mut |_| Some("right".to_owned())).is_ok());
        let why = unlock(&pkcs8, &mut |_| Some("wrong".to_owned())).err().unwrap();
        assert!(why.0.starts_with("three wrong passphrases"), "{why}");
        // Ciphers that russh doesn't know are no wrong passphrases, and are found before anybody is asked.
        let old = home.path().join("3des");
        let keygen = ["-q", "-t", "ed25519", "-Z", "3des-cbc", "-N", "right", "-f"];
        assert!(Command::new("ssh-keygen").args(keygen).arg(&old).status().unwrap().success());
        let why = read_identity(&old, &[]).err().unwrap();
        assert!(why.0.contains("encrypted with 3des-cbc, which tanker can't open: 'ssh-keygen -p -f "), "{why}");
        fs::write(&old, "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,00\n\nAAAA\n").unwrap();
        let why = read_identity(&old, &[]).err().unwrap();
        assert!(why.0.contains("encrypted with DES-EDE3-CBC"), "{why}");
        fs::write(&path, "-----BEGIN DSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n").unwrap();
        let why = unlock(&path, &mut |_| {
            times += 1;
            Some("right".to_owned())
        })
        .err()
        .unwrap();
        assert!(why.0.contains("no private key that tanker can use") && times == 4, "{why}");
    }
}
