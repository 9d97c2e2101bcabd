//! Logging in, as OpenSSH's users expect: identity files with their certificates, then the agent, then a password.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::{Certificate, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyBase64};
use russh::{AgentAuthError, MethodKind};

use super::identity::Identity;
use super::keyring::Secret;
use super::signer::{AgentSigner, FileSigner};
use super::{Client, Keyring, RemoteError, address_of, agent};
use crate::model::inventory::Target;

/// A server that asks more often than this wants something else than a password.
const MOST_QUESTIONS: usize = 6;
/// So many things a server may want one after the other.
const MOST_STEPS: usize = 4;

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

/// Which ways a server leaves open.
#[derive(Clone, Copy)]
struct Ways {
    keys: bool,
    password: bool,
    questions: bool,
}

struct Course {
    tried: Vec<String>,
    /// Public keys and certificates that were shown, in base64: none twice.
    shown: BTreeSet<String>,
    left: Ways,
    /// Steps that were accepted and were not enough.
    steps: usize,
    password_shown: bool,
    rsa_hash: Option<Option<HashAlg>>,
}

impl Login<'_> {
    /// Logs in and tells what opened the door. A server may want several things, one after the other.
    ///
    /// `Lost` only where nothing has been shown yet: the same may work in a moment. Afterwards it would be one more failed login.
    pub(super) async fn run(mut self) -> Result<Entered, RemoteError> {
        let left = Ways { keys: true, password: true, questions: true };
        let mut course = Course { tried: Vec::new(), shown: BTreeSet::new(), left, steps: 0, password_shown: false, rsa_hash: None };
        let outcome = self.try_everything(&mut course).await;
        let closed = self.handle.is_closed();
        match outcome {
            Ok(Some(entered)) => return Ok(entered),
            Err(e @ RemoteError::Lost(_)) if course.tried.is_empty() => return Err(e),
            Err(RemoteError::Lost(_)) | Ok(None) => {}
            Err(e) => return Err(e),
        }
        let mut tried = if course.tried.is_empty() { "there is no key to show".to_owned() } else { course.tried.join(", ") };
        if closed {
            tried.push_str("; then it closed the connection");
        }
        Err(RemoteError::Login { user: self.target.endpoint.user.clone(), address: address_of(&self.target.endpoint), tried })
    }

    async fn try_everything(&mut self, course: &mut Course) -> Result<Option<Entered>, RemoteError> {
        for _ in 0..MOST_STEPS {
            let steps = course.steps;
            if let Some(entered) = self.with_files(course).await? {
                return Ok(Some(entered));
            }
            if course.steps == steps
                && let Some(entered) = self.with_agent(course).await?
            {
                return Ok(Some(entered));
            }
            if course.steps == steps
                && let Some(password) = self.password
                && self.with_password(password, course).await?
            {
                return Ok(Some(Entered { key: None, sha1: false }));
            }
            if course.steps == steps {
                break;
            }
        }
        Ok(None)
    }

    async fn with_files(&mut self, course: &mut Course) -> Result<Option<Entered>, RemoteError> {
        let steps = course.steps;
        for identity in self.keyring.of(self.target) {
            let Identity::Key(key, beside) = identity else { continue };
            if !course.left.keys || course.steps > steps {
                break;
            }
            let rsa = key.algorithm().is_rsa();
            let Some(hash) = self.hash_for(rsa, course).await? else { continue };
            let entered =
                |hash: Option<HashAlg>| Some(Entered { key: Some(key.public_key().public_key_base64()), sha1: rsa && hash.is_none() });
            for certificate in self.certificates_for(key.public_key(), beside) {
                let mut signer = FileSigner(Arc::clone(&key));
                if self.show_certificate(certificate, key.public_key(), hash, &mut signer, course).await? {
                    return Ok(entered(hash));
                }
            }
            if !course.shown.insert(key.public_key().public_key_base64()) || !course.left.keys || course.steps > steps {
                continue;
            }
            for hash in [Some(hash), self.again_with_sha1(hash)].into_iter().flatten() {
                let with_hash = PrivateKeyWithHashAlg::new(Arc::clone(&key), hash);
                let result = self.handle.authenticate_publickey(self.user(), with_hash).await.map_err(lost)?;
                if course.note(self.handle, describe(key.public_key()), result)? {
                    return Ok(entered(hash));
                }
                if course.steps > steps {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// A server of old may say what it knows, and take less.
    fn again_with_sha1(&self, hash: Option<HashAlg>) -> Option<Option<HashAlg>> {
        (hash.is_some() && self.old && self.legacy).then_some(None)
    }

    async fn with_agent(&mut self, course: &mut Course) -> Result<Option<Entered>, RemoteError> {
        let Some(mut client) = agent::connect(&self.target.agent, self.home).await else { return Ok(None) };
        let files = self.keyring.of(self.target);
        let named = |key: &PublicKey| files.iter().find(|file| file.public().key_data() == key.key_data());
        let mut held = agent::held(&mut client).await;
        // Those that the operator named come first: a server takes few attempts.
        held.sort_by_key(|identity| named(&identity.public_key()).is_none());
        let steps = course.steps;
        for identity in held {
            if !course.left.keys || course.steps > steps {
                break;
            }
            let key = identity.public_key().into_owned();
            let file = named(&key);
            if self.target.identities_only && file.is_none() {
                continue;
            }
            let rsa = key.algorithm().is_rsa();
            let Some(hash) = self.hash_for(rsa, course).await? else { continue };
            let entered = |hash: Option<HashAlg>| Some(Entered { key: Some(key.public_key_base64()), sha1: rsa && hash.is_none() });
            let certificates = match identity {
                AgentIdentity::Certificate { certificate, .. } => {
                    if self.show_certificate(certificate, &key, hash, &mut client, course).await? {
                        return Ok(entered(hash));
                    }
                    continue;
                }
                // A certificate on the disk for a key that the agent holds.
                AgentIdentity::PublicKey { .. } => self.certificates_for(&key, file.and_then(Identity::certificate)),
            };
            for certificate in certificates {
                let mut signer = AgentSigner { client: &mut client, key: key.clone() };
                if self.show_certificate(certificate, &key, hash, &mut signer, course).await? {
                    return Ok(entered(hash));
                }
            }
            if !course.left.keys || course.steps > steps || !course.shown.insert(key.public_key_base64()) {
                continue;
            }
            let name = format!("{} (agent)", describe(&key));
            for hash in [Some(hash), self.again_with_sha1(hash)].into_iter().flatten() {
                match self.handle.authenticate_publickey_with(self.user(), key.clone(), hash, &mut client).await {
                    Ok(result) => {
                        if course.note(self.handle, name.clone(), result)? {
                            return Ok(entered(hash));
                        }
                    }
                    // Who said no is not asked for less.
                    Err(e) => {
                        course.tried.push(format!("{name} ({e})"));
                        break;
                    }
                }
                if course.steps > steps || !course.left.keys {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Certificates for a key: the one beside its file, and those that the SSH configuration names.
    fn certificates_for(&self, key: &PublicKey, beside: Option<Box<Certificate>>) -> Vec<Certificate> {
        let configured = self.keyring.certificates_of(self.target).into_iter().filter(|c| c.public_key() == key.key_data());
        beside.map(|certificate| *certificate).into_iter().chain(configured).collect()
    }

    async fn show_certificate<S>(
        &mut self,
        certificate: Certificate,
        key: &PublicKey,
        hash: Option<HashAlg>,
        signer: &mut S,
        course: &mut Course,
    ) -> Result<bool, RemoteError>
    where
        S: russh::Signer<Error = AgentAuthError>,
    {
        let once = certificate.to_openssh().unwrap_or_default();
        if !course.left.keys || !course.shown.insert(once) {
            return Ok(false);
        }
        let name = format!("certificate {}", describe(key));
        match self.handle.authenticate_certificate_with(self.user(), certificate, hash, signer).await {
            Ok(result) => course.note(self.handle, name, result),
            Err(e) => {
                course.tried.push(format!("{name} ({e})"));
                Ok(false)
            }
        }
    }

    async fn with_password(&mut self, password: &Secret, course: &mut Course) -> Result<bool, RemoteError> {
        if course.tried.is_empty() {
            // Nothing was tried yet: ask which ways there are.
            let result = self.handle.authenticate_none(self.user()).await.map_err(lost)?;
            if course.note(self.handle, "no secret".to_owned(), result)? {
                return Ok(true);
            }
            course.tried.clear();
        }
        if course.password_shown {
            // The same word twice only locks an account.
            return Ok(false);
        }
        course.password_shown = true;
        if course.left.password {
            let result = self.handle.authenticate_password(self.user(), &*password.0).await.map_err(lost)?;
            return course.note(self.handle, "the password".to_owned(), result);
        }
        if course.left.questions {
            return self.answer_questions(password, course).await;
        }
        course.tried.push("a password, which it doesn't take".to_owned());
        Ok(false)
    }

    /// One hidden question is the password's. A second one, or one that is shown while it is typed, is for something else.
    async fn answer_questions(&mut self, password: &Secret, course: &mut Course) -> Result<bool, RemoteError> {
        let mut reply = self.handle.authenticate_keyboard_interactive_start(self.user(), None).await.map_err(lost)?;
        let mut answered = false;
        for _ in 0..MOST_QUESTIONS {
            let answers = match reply {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success } => {
                    let result = AuthResult::Failure { remaining_methods, partial_success };
                    return course.note(self.handle, "the password".to_owned(), result);
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => match prompts.as_slice() {
                    [] => Vec::new(),
                    [one] if !one.echo && !answered => {
                        answered = true;
                        vec![password.0.to_string()]
                    }
                    _ => {
                        course.tried.push("a password, but it asks for more than that".to_owned());
                        return Ok(false);
                    }
                },
            };
            reply = self.handle.authenticate_keyboard_interactive_respond(answers).await.map_err(lost)?;
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
    /// Whether it was the last step. A connection that is gone is an error: what is left of it says nothing.
    fn note(&mut self, handle: &Handle<Client>, name: String, result: AuthResult) -> Result<bool, RemoteError> {
        let AuthResult::Failure { remaining_methods, partial_success } = result else { return Ok(true) };
        self.tried.push(if partial_success { format!("{name} (accepted, but not enough)") } else { name });
        if handle.is_closed() {
            return Err(RemoteError::Lost("it closed the connection".into()));
        }
        self.steps += usize::from(partial_success);
        self.left = Ways {
            keys: remaining_methods.contains(&MethodKind::PublicKey),
            password: remaining_methods.contains(&MethodKind::Password),
            questions: remaining_methods.contains(&MethodKind::KeyboardInteractive),
        };
        Ok(false)
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
