//! Masters at the other end of a line: the scripts that run there, and the one way to run them.
//!
//! Owns: quoting, the embedded scripts, what can go wrong on the way. Only `ssh` names russh.
//! Must never: put a secret into an argument (I6), trust a length or a text that came back (I8).

pub mod bulk;
pub mod job;
pub mod link;
mod script;
pub mod ssh;

pub use script::{Form, LONGEST_OUTPUT, Script, job_script, quote};

/// Where jobs of tanker's lie on a master.
pub const TANKER_ROOT: &str = "/var/backup/fuel/tanker";

/// The exit code of `start.sh` where another tanker works on the master.
pub const BUSY: u32 = 9;

/// What a script left when it ended with code 0.
pub type Stdout = Vec<u8>;

/// Why something on a master could not be done. Texts of the master's are printable already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// No connection could be made.
    #[error("{address} can't be reached: {reason}")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// The system's word for it.
        reason: String,
    },
    /// A host key nobody has vouched for (I7).
    #[error("the host key of {address} is unknown: {algorithm} {fingerprint}")]
    UnknownKey {
        /// `host:port`.
        address: String,
        /// `ssh-ed25519`.
        algorithm: String,
        /// `SHA256:…`.
        fingerprint: String,
    },
    /// Another host key than the known one (I7).
    #[error("the host key of {address} HAS CHANGED: known is {known}, it showed {algorithm} {fingerprint}")]
    ChangedKey {
        /// `host:port`.
        address: String,
        /// Type of the key it showed.
        algorithm: String,
        /// Its fingerprint.
        fingerprint: String,
        /// Types and fingerprints of the known ones.
        known: String,
        /// Whether it is a jump host on the way.
        jump: bool,
    },
    /// A key that known_hosts revokes (I7).
    #[error("the host key of {address} is revoked: {fingerprint}")]
    RevokedKey {
        /// `host:port`.
        address: String,
        /// The fingerprint it showed.
        fingerprint: String,
    },
    /// Its RSA key is known, which it was not allowed to show with SHA-1, and it showed another one (I7).
    #[error(
        "{address} shows the key {algorithm} {fingerprint}, which isn't known; its RSA key is ({known}), and a server of old can show that only with SHA-1, which 'legacy = false' forbids"
    )]
    OtherTypeOfKey {
        /// `host:port`.
        address: String,
        /// `ssh-ed25519`.
        algorithm: String,
        /// The fingerprint it showed.
        fingerprint: String,
        /// What is known of it: types and fingerprints.
        known: String,
    },
    /// A certificate of an authority that known_hosts names, which can't be taken (I7).
    #[error("the host certificate of {address} can't be taken: {reason}")]
    BadCertificate {
        /// `host:port`.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Which host keys are known can't be read.
    #[error("{0}")]
    KnownHosts(String),
    /// sudo doesn't let the scripts run.
    #[error("{user}@{address} can't become root: {reason}")]
    Sudo {
        /// User.
        user: String,
        /// `host:port`.
        address: String,
        /// What sudo said, in a sentence.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// The SSH configuration of this host can't be followed.
    #[error("{0}")]
    Configuration(String),
    /// The server takes none of what we have to show.
    #[error("{user}@{address} accepts none of what tanker can show: {tried}")]
    Login {
        /// User.
        user: String,
        /// `host:port`.
        address: String,
        /// What was tried.
        tried: String,
    },
    /// Connected once, and then not any more.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// It did not end in the time it had.
    #[error("{} did not end within {seconds} s", in_words(what))]
    TimedOut {
        /// Which step.
        what: String,
        /// Its limit.
        seconds: u64,
    },
    /// The script said no.
    #[error("{reason}")]
    Script {
        /// Which.
        name: &'static str,
        /// Its exit code.
        code: u32,
        /// Its last words on stderr.
        reason: String,
        /// What it printed before.
        stdout: Stdout,
    },
    /// It answered something that can't be understood.
    #[error("{0}")]
    Answer(String),
}

impl RemoteError {
    /// The same, said of a server on the way.
    #[must_use]
    fn of_a_jump_host(mut self) -> Self {
        if let Self::ChangedKey { jump, .. } = &mut self {
            *jump = true;
        }
        self
    }

    /// Whether it never came as far as running something.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::UnknownKey { .. }
                | Self::ChangedKey { .. }
                | Self::OtherTypeOfKey { .. }
                | Self::RevokedKey { .. }
                | Self::BadCertificate { .. }
                | Self::KnownHosts(_)
                | Self::Configuration(_)
                | Self::Login { .. }
        )
    }

    /// Whether the line is to blame: the same may work on another one.
    #[must_use]
    pub fn is_broken_line(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::TimedOut { .. } | Self::Unreachable { .. })
    }

    /// What to do now, for the host of this name in the inventory.
    #[must_use]
    pub fn hint(&self, host: &str) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("is it up, and is its address right in the inventory?".into()),
            Self::UnknownKey { address, .. } => {
                Some(format!("compare the fingerprint with the console of {address}, then run 'tanker trust {host}'"))
            }
            Self::ChangedKey { address, jump: true, .. } => Some(format!(
                "this is a jump host on the way: if it was rebuilt, 'ssh-keygen -R' with {address} as known_hosts names it forgets its old key, and 'tanker trust {host}' asks about the new one; if not, somebody may be between you and it"
            )),
            Self::OtherTypeOfKey { address, .. } => Some(format!(
                "compare the fingerprint with the console of {address}, then 'tanker trust {host}' makes this key known beside the RSA one"
            )),
            Self::ChangedKey { .. } => {
                Some(format!("if {host} was rebuilt, run 'tanker trust {host} --rebuilt'; if not, somebody may be between you and it"))
            }
            Self::RevokedKey { .. } => Some("this key must not be used any more: the host needs a new one".into()),
            Self::BadCertificate { .. } => Some("the host needs a new certificate of its authority".into()),
            Self::KnownHosts(_) => {
                Some("no key can be held against it: make it readable, or name another file with 'known_hosts' in the inventory".into())
            }
            Self::Sudo { hint, .. } => Some(hint.clone()),
            Self::Configuration(_) => {
                Some("the inventory's own keys outrank the SSH configuration; 'ssh_config = \"none\"' leaves it out".into())
            }
            Self::Login { .. } => {
                Some("name its key with 'identity' in the inventory, load it into your SSH agent, or name a password's source".into())
            }
            Self::Script { code: BUSY, .. } => Some(format!("wait until that has ended: 'tanker status {host}' shows it")),
            Self::Script { .. } => Some(format!("'tanker status {host}' shows what is left of it there")),
            Self::Lost(_) => Some(format!("run it again; 'tanker status {host}' shows what still runs there")),
            Self::TimedOut { .. } => {
                Some(format!("it is slow or hangs: run it again when it answers; 'tanker status {host}' shows what still runs there"))
            }
            // Its sentence is all there is to say: whoever asked knows more.
            Self::Answer(_) => None,
        }
    }
}

/// What a script does, as the operator calls it; anything else is called so already.
fn in_words(what: &str) -> &str {
    match what {
        "facts" => "the look at the master",
        "root" => "the look who one is on the master",
        "start" => "starting the job",
        "poll" => "the question how far the job is",
        "clean" => "cleaning up on the master",
        "thaw" => "thawing",
        "read" | "files" => "reading a file on the master",
        "pull" | "stripe" => "the transfer",
        "keep" => "leaving a key on the master",
        "prove" => "proving the archive on the master",
        "offer" => "the look at what was pushed before",
        "take" => "the push",
        "seal" => "hashing what was pushed",
        named => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_or_a_master_does_is_said_in_words_with_what_to_do_now() {
        let late = RemoteError::TimedOut { what: "facts".into(), seconds: 720 };
        assert_eq!(late.to_string(), "the look at the master did not end within 720 s");
        let said = RemoteError::Script { name: "start", code: BUSY, reason: "another tanker works on it".into(), stdout: vec![] };
        for error in [late, said, RemoteError::Lost("eof".into())] {
            assert!(error.hint("east").is_some_and(|hint| hint.contains("'tanker status east'")), "{error}");
        }
    }

    #[test]
    fn every_script_has_a_name_that_is_no_files() {
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/scripts")).unwrap().flatten() {
            let name = file.path().file_stem().unwrap().to_string_lossy().into_owned();
            let is_run = include_str!("script.rs").contains(&format!("=> \"{name}\";"));
            assert!(!is_run || in_words(&name) != name, "{name}.sh can time out, and has no name for the operator");
        }
    }
}
