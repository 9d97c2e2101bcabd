//! Becoming root with sudo: without a terminal, with or without a password, and what is said where sudoers forbids it.

use std::time::Duration;

use super::keyring::Secret;
use super::{RemoteError, Session};
use crate::model::inventory::Endpoint;
use crate::remote::quote;
use crate::remote::script::{SUDO_WITH_PASSWORD, Script};

/// sudo may ask a directory service.
const ASKING: Duration = Duration::from_secs(60);

/// How the scripts get root's rights.
#[derive(Clone)]
pub enum Sudo {
    /// They have them.
    No,
    /// sudo asks for nothing.
    Free,
    /// sudo wants this password.
    Password(Secret),
}

impl Sudo {
    pub(super) fn password(&self) -> Option<&str> {
        match self {
            Self::Password(Secret(text)) => Some(text),
            Self::No | Self::Free => None,
        }
    }
}

/// Finds out how sudo is to be asked. A wrong password is offered once, not as often as sudo would take it.
pub(super) async fn find_out(session: &mut Session, endpoint: &Endpoint, password: Option<&Secret>) -> Result<(), RemoteError> {
    let probe = Script::root([""; 0]);
    session.sudo = Sudo::Free;
    let said = match session.run(&probe, b"", ASKING).await {
        Ok(_) => return Ok(()),
        Err(RemoteError::Script { reason, .. }) => reason,
        Err(e) => return Err(e),
    };
    let wanted = said.contains("password is required");
    if let (true, Some(password)) = (wanted, password) {
        // With nothing behind the password sudo takes it for the one try that it is.
        let words = SUDO_WITH_PASSWORD.into_iter().chain(["true"]).map(quote).collect::<Vec<_>>().join(" ");
        if let Some(said) = session.offer(&words, format!("{}\n", password.0).into_bytes(), ASKING).await? {
            return Err(refusal(endpoint, &said, true));
        }
        session.sudo = Sudo::Password(password.clone());
        return match session.run(&probe, b"", ASKING).await {
            Ok(_) => Ok(()),
            Err(RemoteError::Script { reason, .. }) => Err(refusal(endpoint, &reason, true)),
            Err(e) => Err(e),
        };
    }
    Err(refusal(endpoint, &said, false))
}

fn refusal(endpoint: &Endpoint, said: &str, with_password: bool) -> RemoteError {
    let user = endpoint.user.clone();
    let (reason, hint) = if said.contains("not in the sudoers") || said.contains("not allowed") || said.contains("may not run") {
        (
            "sudoers doesn't let this user run commands as root".to_owned(),
            format!("'visudo' on it: {user} ALL=(root) ALL, or log in as root"),
        )
    } else if said.contains("must have a tty") || said.contains("no tty present") {
        ("sudoers wants a terminal, and tanker has none".to_owned(), format!("'visudo' on it: Defaults:{user} !requiretty"))
    } else if said.contains("command not found") || said.contains("No such file") {
        ("sudo is not installed on it".to_owned(), "log in as root instead".to_owned())
    } else if with_password && (said.contains("incorrect password") || said.contains("try again") || said.contains("no password")) {
        ("sudo doesn't take this password".to_owned(), "is 'sudo_password' that of this user, on this host?".to_owned())
    } else if said.contains("password is required") {
        (
            "sudo wants a password (sudo: a password is required)".to_owned(),
            format!(
                "name its source with 'sudo_password' in the inventory, say --ask-sudo-pass, or 'visudo' on it: {user} ALL=(root) NOPASSWD: ALL"
            ),
        )
    } else {
        (format!("sudo says: {said}"), "look at it with 'sudo -l' on the host".to_owned())
    };
    RemoteError::Sudo { user, address: super::address_of(endpoint), reason, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sudo_says_becomes_a_sentence_and_what_to_do() {
        let endpoint = Endpoint { address: "a".into(), port: 22, user: "ops".into() };
        let say = |said: &str| match refusal(&endpoint, said, true) {
            RemoteError::Sudo { reason, hint, .. } => format!("{reason} -> {hint}"),
            other => other.to_string(),
        };
        assert!(say("sudo: sorry, you must have a tty to run sudo").contains("!requiretty"));
        assert!(say("ops is not in the sudoers file. This incident will be reported.").starts_with("sudoers doesn't let"));
        assert!(say("Sorry, user ops is not allowed to execute '/usr/bin/env' as root on m.").starts_with("sudoers doesn't let"));
        assert!(
            say("Sorry, try again. sudo: no password was provided sudo: 1 incorrect password attempt")
                .contains("doesn't take this password")
        );
        assert!(say("sudo: a password is required").contains("sudo_password"));
    }
}
