//! Logging in, as OpenSSH's users expect: identity files with their certificates, then the agent, then a password.

use std::path::Path;
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyBase64};
use russh::{AgentAuthError, MethodKind};

use super::keyring::{Identity, Secret};
use super::{Client, Keyring, RemoteError, address_of, agent};
use crate::model::inventory::Target;

/// A server that asks more often than this wants something else than a password.
const MOST_QUESTIONS: usize = 4;

/// A login under way.
pub(super) struct Login<'a> {
    pub handle: &'a mut Handle<Client>,
    pub target: &'a Target,
    /// What the server calls itself.
    pub server: &'a str,
    pub keyring: &'a Keyring,
    pub password: Option<&'a Secret>,
    /// Whether signatures with SHA-1 may be made.
    pub legacy: bool,
    /// Whether the server had nothing better than SHA-1 to agree on: it may not mean the signatures that it says it takes.
    pub old: bool,
    pub home: &'a Path,
}

/// Who opened the door.
pub(super) struct Entered {
    /// Its public key in base64; none where it was a password.
    pub key: Option<String>,
    /// Whether the signature was made with SHA-1.
    pub sha1: bool,
}

/// What is known after an attempt.
enum Attempt {
    In,
    /// Refused, or accepted as one of several steps; these ways are left.
    Left {
        password: bool,
        questions: bool,
        partly: bool,
    },
}

impl From<AuthResult> for Attempt {
    fn from(result: AuthResult) -> Self {
        match result {
            AuthResult::Success => Self::In,
            AuthResult::Failure { remaining_methods, partial_success } => Self::Left {
                password: remaining_methods.contains(&MethodKind::Password),
                questions: remaining_methods.contains(&MethodKind::KeyboardInteractive),
                partly: partial_success,
            },
        }
    }
}

struct Course {
    tried: Vec<String>,
    left: Option<(bool, bool)>,
    rsa_hash: Option<Option<HashAlg>>,
}

impl Login<'_> {
    /// Logs in and tells what opened the door.
    pub(super) async fn run(mut self) -> Result<Entered, RemoteError> {
        let mut course = Course { tried: Vec::new(), left: None, rsa_hash: None };
        if let Some(entered) = self.with_files(&mut course).await? {
            return Ok(entered);
        }
        if let Some(entered) = self.with_agent(&mut course).await? {
            return Ok(entered);
        }
        if let Some(password) = self.password
            && self.with_password(password, &mut course).await?
        {
            return Ok(Entered { key: None, sha1: false });
        }
        let tried = if course.tried.is_empty() { "it has no key at all".to_owned() } else { course.tried.join(", ") };
        Err(RemoteError::Login { user: self.target.endpoint.user.clone(), address: address_of(&self.target.endpoint), tried })
    }

    async fn with_files(&mut self, course: &mut Course) -> Result<Option<Entered>, RemoteError> {
        for identity in self.keyring.of(self.target) {
            let Identity::Key(key, beside) = identity else { continue };
            let mut certificates: Vec<Certificate> = beside.map(|certificate| *certificate).into_iter().collect();
            certificates
                .extend(self.keyring.certificates_of(self.target).into_iter().filter(|c| c.public_key() == key.public_key().key_data()));
            let Some(hash) = self.hash_for(key.algorithm().is_rsa(), course).await? else { continue };
            let entered =
                || Some(Entered { key: Some(key.public_key().public_key_base64()), sha1: key.algorithm().is_rsa() && hash.is_none() });
            for certificate in certificates {
                let name = format!("certificate {}", describe(key.public_key()));
                let mut signer = FileSigner(Arc::clone(&key));
                match self.handle.authenticate_certificate_with(self.user(), certificate, hash, &mut signer).await {
                    Ok(result) => {
                        if course.note(name, result.into()) {
                            return Ok(entered());
                        }
                    }
                    Err(e) => course.tried.push(format!("{name} ({e})")),
                }
            }
            // A server of old may say what it knows, and take less.
            let again = (hash.is_some() && self.old && self.legacy).then_some(None);
            for hash in [Some(hash), again].into_iter().flatten() {
                let with_hash = PrivateKeyWithHashAlg::new(Arc::clone(&key), hash);
                let result = self.handle.authenticate_publickey(self.user(), with_hash).await.map_err(lost)?;
                if course.note(describe(key.public_key()), result.into()) {
                    let sha1 = key.algorithm().is_rsa() && hash.is_none();
                    return Ok(Some(Entered { key: Some(key.public_key().public_key_base64()), sha1 }));
                }
            }
        }
        Ok(None)
    }

    async fn with_agent(&mut self, course: &mut Course) -> Result<Option<Entered>, RemoteError> {
        let Some(mut client) = agent::connect(&self.target.agent, self.home).await else { return Ok(None) };
        let files = self.keyring.of(self.target);
        let offered = |key: &PublicKey| {
            files.iter().any(|file| matches!(file, Identity::Key(own, _) if own.public_key().key_data() == key.key_data()))
        };
        let named = |key: &PublicKey| files.iter().any(|file| matches!(file, Identity::InAgent(own) if own.key_data() == key.key_data()));
        let mut held = agent::held(&mut client).await;
        // Those that the operator named come first: a server takes few attempts.
        held.sort_by_key(|identity| !named(&identity.public_key()));
        for identity in held {
            let key = identity.public_key().into_owned();
            let certificate = matches!(identity, AgentIdentity::Certificate { .. });
            if (offered(&key) && !certificate) || (self.target.identities_only && !named(&key) && !offered(&key)) {
                continue;
            }
            let Some(hash) = self.hash_for(key.algorithm().is_rsa(), course).await? else { continue };
            let result = match identity {
                AgentIdentity::PublicKey { key, .. } => self.handle.authenticate_publickey_with(self.user(), key, hash, &mut client).await,
                AgentIdentity::Certificate { certificate, .. } => {
                    self.handle.authenticate_certificate_with(self.user(), certificate, hash, &mut client).await
                }
            };
            match result {
                Ok(result) => {
                    if course.note(format!("{} (agent)", describe(&key)), result.into()) {
                        return Ok(Some(Entered { key: Some(key.public_key_base64()), sha1: key.algorithm().is_rsa() && hash.is_none() }));
                    }
                }
                Err(e) => course.tried.push(format!("{} (agent: {e})", describe(&key))),
            }
        }
        Ok(None)
    }

    async fn with_password(&mut self, password: &Secret, course: &mut Course) -> Result<bool, RemoteError> {
        if course.left.is_none() {
            // Nothing was tried yet: ask which ways there are.
            let result = self.handle.authenticate_none(self.user()).await.map_err(lost)?;
            if course.note("no secret".to_owned(), result.into()) {
                return Ok(true);
            }
            course.tried.clear();
        }
        let (by_password, by_questions) = course.left.unwrap_or((true, true));
        if !by_password && !by_questions {
            course.tried.push("a password, which it doesn't take".to_owned());
            return Ok(false);
        }
        if by_password {
            let result = self.handle.authenticate_password(self.user(), &*password.0).await.map_err(lost)?;
            if course.note("the password".to_owned(), result.into()) {
                return Ok(true);
            }
            // The same wrong word twice only locks an account.
            return Ok(false);
        }
        self.answer_questions(password, course).await
    }

    async fn answer_questions(&mut self, password: &Secret, course: &mut Course) -> Result<bool, RemoteError> {
        let mut reply = self.handle.authenticate_keyboard_interactive_start(self.user(), None).await.map_err(lost)?;
        for _ in 0..MOST_QUESTIONS {
            let answers = match reply {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { .. } => break,
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    // One that is shown while it is typed is no password.
                    if prompts.len() > 1 || prompts.iter().any(|prompt| prompt.echo) {
                        course.tried.push("a password, but it asks for more than that".to_owned());
                        return Ok(false);
                    }
                    vec![password.0.to_string(); prompts.len()]
                }
            };
            reply = self.handle.authenticate_keyboard_interactive_respond(answers).await.map_err(lost)?;
        }
        if matches!(reply, KeyboardInteractiveAuthResponse::Success) {
            return Ok(true);
        }
        course.tried.push("the password".to_owned());
        Ok(false)
    }

    fn user(&self) -> String {
        self.target.endpoint.user.clone()
    }

    /// Which hash RSA signatures need: SHA-1 before OpenSSH 7.2, which rejects the others and would make us wait a second to
    /// find out; else what the server says. None where only SHA-1 would do and that is forbidden.
    async fn hash_for(&self, rsa: bool, course: &mut Course) -> Result<Option<Option<HashAlg>>, RemoteError> {
        if !rsa {
            return Ok(Some(None));
        }
        let hash = match course.rsa_hash {
            Some(hash) => hash,
            None if openssh_before(self.server, (7, 2)) => None,
            None => self.handle.best_supported_rsa_hash().await.map_err(lost)?.flatten(),
        };
        course.rsa_hash = Some(hash);
        if hash.is_none() && !self.legacy {
            course.tried.push("an RSA key, which it takes only with SHA-1 ('legacy = true' allows that)".to_owned());
            return Ok(None);
        }
        Ok(Some(hash))
    }
}

impl Course {
    /// Whether it was the last step.
    fn note(&mut self, name: String, attempt: Attempt) -> bool {
        match attempt {
            Attempt::In => true,
            Attempt::Left { password, questions, partly } => {
                self.left = Some((password, questions));
                self.tried.push(if partly { format!("{name} (accepted, but not enough)") } else { name });
                false
            }
        }
    }
}

struct FileSigner(Arc<PrivateKey>);

impl russh::Signer for FileSigner {
    type Error = AgentAuthError;

    async fn auth_sign(&mut self, _: &AgentIdentity, hash: Option<HashAlg>, to_sign: Vec<u8>) -> Result<Vec<u8>, Self::Error> {
        let signature: Result<Signature, _> = match self.0.key_data() {
            KeypairData::Rsa(pair) => (pair, hash).try_sign(&to_sign),
            _ => self.0.try_sign(&to_sign),
        };
        let unable = |e: russh::keys::ssh_key::Error| AgentAuthError::Key(e.into());
        let signature = Vec::try_from(signature.map_err(|e| unable(e.into()))?).map_err(unable)?;
        // What the server gets is what was signed, and the signature as a string behind it.
        let length = u32::try_from(signature.len()).unwrap_or(u32::MAX);
        Ok([to_sign, length.to_be_bytes().to_vec(), signature].concat())
    }
}

fn lost(error: russh::Error) -> RemoteError {
    RemoteError::Lost(super::algorithms::reason(&error))
}

fn describe(key: &PublicKey) -> String {
    super::known_hosts::describe(key)
}

fn openssh_before(server: &str, version: (u32, u32)) -> bool {
    let Some((_, rest)) = server.split_once("OpenSSH_") else { return false };
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < version,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_told_by_their_banner() {
        assert!(openssh_before("SSH-2.0-OpenSSH_5.3", (7, 2)));
        assert!(openssh_before("SSH-2.0-OpenSSH_6.6.1p1", (7, 2)));
        assert!(!openssh_before("SSH-2.0-OpenSSH_9.2p1 Debian-2", (7, 2)));
        assert!(!openssh_before("SSH-2.0-dropbear_2022.83", (7, 2)));
    }
}
