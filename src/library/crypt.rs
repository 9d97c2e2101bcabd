//! Encryption at rest, in age's format (age-encryption.org/v1): with resume.rs the only place that names age. What is written is encrypted before it
//! reaches the disk; `age -d` and lrzip read it without tanker.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::iter;
use std::path::Path;
use std::str::FromStr;

use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{Decryptor, Encryptor};
use sha2::{Digest, Sha256};

use super::resume::{Overheard, ResumeKey};
use super::verify::hex;
use super::{Entry, LibraryError};
use crate::model::manifest::Encryption;
use crate::model::record::Check;
use crate::model::text::printable;

/// What stands in a manifest for a passphrase.
pub const PASSPHRASE: &str = "passphrase";
/// A key file larger than this is none.
const LARGEST_KEY: u64 = 1 << 20;
/// scrypt's work as a power of two; 2^22 takes a quarter of a minute and four gigabytes.
const HARDEST: u8 = 22;

/// Whom archives are encrypted to.
pub struct Recipients {
    list: Vec<Box<dyn age::Recipient + Send + Sync>>,
    /// As they stand in the manifest: public keys, or [`PASSPHRASE`].
    pub names: Vec<String>,
    /// What opens an archive again; only of a passphrase.
    own: Keys,
}

/// What opens archives. No `Debug` (I6).
#[derive(Default)]
pub struct Keys {
    identities: Vec<Box<dyn age::Identity + Send + Sync>>,
    /// Each is tried for itself: a wrong one ends the attempt.
    passphrases: Vec<SecretString>,
}

/// Asks the operator without showing the answer; none where nobody can answer.
pub type Ask<'a> = &'a mut dyn FnMut(&str) -> Option<String>;

impl Recipients {
    /// Reads recipients: `age1…`, `ssh-ed25519 …`, `ssh-rsa …`. `name` says where they stand.
    ///
    /// # Errors
    /// With a sentence, when one is none.
    pub fn parse(texts: &[String], name: &str) -> Result<Self, String> {
        let mut found = Self { list: vec![], names: vec![], own: Keys::default() };
        for text in texts {
            // A comment after an SSH key is no part of it.
            let text = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            let recipient: Box<dyn age::Recipient + Send + Sync> = if let Ok(key) = age::x25519::Recipient::from_str(&text) {
                Box::new(key)
            } else if let Ok(key) = age::ssh::Recipient::from_str(&text) {
                Box::new(key)
            } else {
                let what = if text.starts_with("AGE-SECRET-KEY-") { "a secret key" } else { &text };
                return Err(format!("{name}: '{}' is no age recipient: age1…, ssh-ed25519 … or ssh-rsa …", printable(what)));
            };
            found.list.push(recipient);
            found.names.push(text);
        }
        Ok(found)
    }

    /// Whoever knows this passphrase.
    #[must_use]
    pub fn passphrase(passphrase: &str) -> Self {
        let recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
        let mut own = Keys::default();
        own.add_passphrase(passphrase);
        Self { list: vec![Box::new(recipient)], names: vec![PASSPHRASE.to_owned()], own }
    }

    /// Whether this is the very passphrase that a backup is encrypted with; its archive must be here. Recipients stand in the manifest.
    #[must_use]
    pub fn open(&self, entry: &Entry) -> bool {
        let by_passphrase = |encryption: &Encryption| encryption.recipients == [PASSPHRASE] && self.own.has_passphrase();
        entry.manifest.archive.encryption.as_ref().is_some_and(by_passphrase) && entry.open(&self.own).is_ok()
    }

    /// And the key that the one file hangs on which is encrypted by it.
    fn encryptor(&self) -> io::Result<(Encryptor, ResumeKey)> {
        let none = || io::Error::other("there is nobody to encrypt to");
        let (first, others) = self.list.split_first().ok_or_else(none)?;
        let first = Overheard::of(first.as_ref());
        let all = iter::once(&first as &dyn age::Recipient).chain(others.iter().map(|r| r.as_ref() as &dyn age::Recipient));
        let encryptor = Encryptor::with_recipients(all).map_err(io::Error::other)?;
        Ok((encryptor, first.key().ok_or_else(none)?))
    }
}

impl Keys {
    /// Takes the keys of a file: age identities, such a file that a passphrase encrypts, or an SSH private key. `ask` is asked for
    /// passphrases, three times at most.
    ///
    /// # Errors
    /// With a sentence, when the file can't be read or holds no key that opens anything.
    pub fn add_file(&mut self, path: &Path, ask: Ask<'_>) -> Result<(), String> {
        let bad = |why: &str| format!("the key {} can't be used: {}", path.display(), printable(why));
        let size = fs::metadata(path).map_err(|e| bad(&e.to_string()))?.len();
        if size > LARGEST_KEY {
            return Err(bad("it is far too large"));
        }
        let text = fs::read(path).map_err(|e| bad(&e.to_string()))?;
        if text.starts_with(b"age-encryption.org/") {
            let plain = unlock(path, ask, |answer| {
                let identity = passphrase(answer);
                let decryptor = Decryptor::new(text.as_slice()).map_err(|e| e.to_string())?;
                let mut reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|e| e.to_string())?;
                let mut plain = Vec::new();
                reader.read_to_end(&mut plain).map_err(|e| e.to_string())?;
                Ok(plain)
            })?;
            return self.add_identities(&plain).map_err(|e| bad(&e));
        }
        if !text.starts_with(b"-----BEGIN") {
            return self.add_identities(&text).map_err(|e| bad(&e));
        }
        match age::ssh::Identity::from_buffer(BufReader::new(text.as_slice()), None).map_err(|e| bad(&e.to_string()))? {
            age::ssh::Identity::Encrypted(key) => {
                let key = unlock(path, ask, |answer| key.decrypt(answer).map_err(|e| e.to_string()))?;
                self.identities.push(Box::new(age::ssh::Identity::from(key)));
            }
            age::ssh::Identity::Unsupported(_) => return Err(bad("age opens nothing with SSH keys of this kind: Ed25519 or RSA")),
            key @ age::ssh::Identity::Unencrypted(_) => self.identities.push(Box::new(key)),
        }
        Ok(())
    }

    fn add_identities(&mut self, text: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is no text")?;
        let before = self.identities.len();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let key = age::x25519::Identity::from_str(line);
            self.identities.push(Box::new(key.map_err(|_| "it holds neither an age identity nor an SSH private key")?));
        }
        if self.identities.len() == before { Err("no key is in it".into()) } else { Ok(()) }
    }

    /// Takes a passphrase.
    pub fn add_passphrase(&mut self, passphrase: &str) {
        self.passphrases.push(SecretString::from(passphrase.to_owned()));
    }

    /// Whether there is a passphrase among them.
    #[must_use]
    pub fn has_passphrase(&self) -> bool {
        !self.passphrases.is_empty()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty() && self.passphrases.is_empty()
    }
}

/// A passphrase as age takes it, however slow this machine was when it was measured.
fn passphrase(secret: SecretString) -> age::scrypt::Identity {
    let mut identity = age::scrypt::Identity::new(secret);
    identity.set_max_work_factor(HARDEST);
    identity
}

fn unlock<T>(path: &Path, ask: Ask<'_>, open: impl Fn(SecretString) -> Result<T, String>) -> Result<T, String> {
    let mut why = "it is encrypted, and there is no terminal to ask for its passphrase".to_owned();
    for _ in 0..3 {
        let Some(answer) = ask(&format!("Passphrase of {}: ", path.display())) else { break };
        match open(SecretString::from(answer)) {
            Ok(opened) => return Ok(opened),
            Err(_) => "that is not its passphrase".clone_into(&mut why),
        }
    }
    Err(format!("the key {} can't be used: {why}", path.display()))
}

/// Counts and hashes what goes through.
struct Hashing {
    file: File,
    bytes: u64,
    sum: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is encrypted while it is written, from its beginning to its end.
pub(super) struct Sealer {
    stream: StreamWriter<Hashing>,
    /// For a later run, should this one not come to its end.
    pub(super) key: ResumeKey,
}

/// What a sealed file is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Sealer {
    pub(super) fn new(file: File, to: &Recipients) -> io::Result<Self> {
        let (encryptor, key) = to.encryptor()?;
        let stream = encryptor.wrap_output(Hashing { file, bytes: 0, sum: Sha256::new() })?;
        Ok(Self { stream, key })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// What was written can be read with this key.
    pub(super) fn end(self) -> io::Result<ResumeKey> {
        self.stream.finish()?;
        Ok(self.key)
    }

    pub(super) fn finish(self) -> io::Result<Sealed> {
        let Hashing { file, bytes, sum } = self.stream.finish()?;
        file.sync_all()?;
        Ok(Sealed { bytes, sha256: hex(&sum.finalize()) })
    }
}

/// An archive's bytes as lrzip made them, decrypted where they must be.
pub struct Plain(Inner);

enum Inner {
    File(File),
    Age(Box<StreamReader<BufReader<File>>>),
}

impl From<File> for Plain {
    fn from(file: File) -> Self {
        Self(Inner::File(file))
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::File(file) => file.read(buffer),
            Inner::Age(stream) => stream.read(buffer),
        }
    }
}

impl Seek for Plain {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.0 {
            Inner::File(file) => file.seek(to),
            Inner::Age(stream) => stream.seek(to),
        }
    }
}

impl Entry {
    /// Whether a key is needed to read it.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.manifest.archive.encryption.is_some()
    }

    /// Tanker takes no encryption away: what was seen encrypted is so, or it is another archive.
    ///
    /// # Errors
    /// When it isn't any more.
    pub fn keeps_its_encryption(&self) -> Result<(), LibraryError> {
        if self.is_encrypted() || !self.record.checks.iter().any(Check::saw_it_encrypted) {
            return Ok(());
        }
        let reason = "it was encrypted when it was looked at before, and isn't now: another archive was put in its place".to_owned();
        Err(LibraryError::Damaged { name: self.name(), reason })
    }

    /// The archive, to be read.
    ///
    /// # Errors
    /// When it can't be read, or none of the keys opens it.
    pub fn open(&self, keys: &Keys) -> Result<Plain, LibraryError> {
        let path = self.archive();
        let file = || File::open(&path).map_err(LibraryError::file(&path, "can't be read"));
        let Some(encryption) = &self.manifest.archive.encryption else { return Ok(file()?.into()) };
        let passphrases: Vec<_> = keys.passphrases.iter().map(|secret| passphrase(secret.clone())).collect();
        let attempts: Vec<Vec<&dyn age::Identity>> = if encryption.recipients == [PASSPHRASE] {
            passphrases.iter().map(|identity| vec![identity as &dyn age::Identity]).collect()
        } else {
            vec![keys.identities.iter().map(|key| key.as_ref() as &dyn age::Identity).collect()]
        };
        let damaged = |e: &dyn std::fmt::Display| LibraryError::Damaged {
            name: self.name(),
            reason: format!("its encryption can't be read: {}", printable(&e.to_string())),
        };
        for identities in attempts {
            let decryptor = Decryptor::new_buffered(BufReader::with_capacity(256 << 10, file()?)).map_err(|e| damaged(&e))?;
            match decryptor.decrypt(identities.into_iter()) {
                Ok(stream) => return Ok(Plain(Inner::Age(Box::new(stream)))),
                // A wrong passphrase fails to decrypt; so does a header that rotted, which `verify` tells apart.
                Err(
                    age::DecryptError::NoMatchingKeys
                    | age::DecryptError::KeyDecryptionFailed
                    | age::DecryptError::DecryptionFailed
                    | age::DecryptError::ExcessiveWork { .. },
                ) => {}
                Err(e) => return Err(damaged(&e)),
            }
        }
        if encryption.recipients == [PASSPHRASE] {
            let why = if keys.passphrases.is_empty() { "no passphrase was given" } else { "the passphrase is another one" };
            return Err(LibraryError::Missing(format!(
                "{} is encrypted with a passphrase, and {why}: 'encrypt_passphrase' in the inventory, or a terminal to ask on",
                self.name()
            )));
        }
        Err(LibraryError::Missing(format!(
            "{} is encrypted to {} and none of the keys here opens it: name one with 'decrypt_with' in the inventory or --key",
            self.name(),
            printable(&encryption.recipients.join(", "))
        )))
    }
}
