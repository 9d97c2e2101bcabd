//! Questions: only on a terminal, and only before any work.

use std::io::{BufRead, IsTerminal};

use super::screen::asking;
use crate::platform;

/// Whether there is somebody to answer: who sees the question too.
fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a passphrase without showing it; none where nobody can answer.
pub fn ask_passphrase(question: &str) -> Option<String> {
    if !can_ask() {
        return None;
    }
    asking(|| hidden(question)).ok().flatten()
}

fn hidden(question: &str) -> std::io::Result<Option<String>> {
    let Some(line) = platform::hidden_line(|| super::err(question))? else {
        super::err("\n");
        platform::interrupt_this()?;
        // The signal may reach another thread first, and this one would go on and say something else.
        std::thread::sleep(std::time::Duration::from_secs(5));
        return Ok(None);
    };
    Ok(String::from_utf8(line).ok())
}

/// Asks for a host's name typed back. None where nobody can answer.
#[must_use]
pub fn confirm_name(name: &str) -> Option<bool> {
    answer(&format!("Type the name of the host to go on ({name}): ")).map(|line| line.trim() == name)
}

/// Asks for `yes`. None where nobody can answer.
#[must_use]
pub fn confirm_yes(question: &str) -> Option<bool> {
    answer(&format!("{question} (yes/no): ")).map(|line| line.trim() == "yes")
}

fn answer(question: &str) -> Option<String> {
    if !can_ask() {
        return None;
    }
    asking(|| {
        super::err(question);
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        // Ended by Ctrl-D: what comes next would stand behind the question.
        if !line.ends_with('\n') {
            super::err("\n");
        }
        read.ok().map(|_| line)
    })
}
