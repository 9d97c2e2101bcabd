//! Questions: only on a terminal, and only before any work.

use std::io::{BufRead, IsTerminal, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

/// Whether a question waits for its answer.
static ASKING: AtomicBool = AtomicBool::new(false);

/// Whether a question waits for its answer.
#[must_use]
pub fn is_asking() -> bool {
    ASKING.load(Ordering::SeqCst)
}

/// What Ctrl-C types where the terminal makes no signal of it.
const CTRL_C: u8 = 3;

/// Asks for a passphrase without showing it; none where nobody can answer.
pub fn ask_passphrase(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    ASKING.store(true, Ordering::SeqCst);
    let answer = hidden(question);
    ASKING.store(false, Ordering::SeqCst);
    answer.ok().flatten()
}

/// The terminal hides what is typed **before** the question is seen: a fast hand would otherwise be read over the shoulder. It
/// still edits the line; Ctrl-C ends the line instead of the process, which gives the terminal back first.
fn hidden(question: &str) -> std::io::Result<Option<String>> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut hiding = before.clone();
    hiding.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    hiding.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
    hiding.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
    tcsetattr(&stdin, OptionalActions::Flush, &hiding)?;
    super::err(question);
    let mut line = Vec::new();
    let mut end = Ok(None);
    for byte in stdin.lock().bytes() {
        match byte {
            Ok(byte @ (b'\n' | CTRL_C)) => {
                end = Ok(Some(byte));
                break;
            }
            Ok(byte) => line.push(byte),
            Err(e) => {
                end = Err(e);
                break;
            }
        }
    }
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    if end? == Some(CTRL_C) {
        super::err("\n");
        kill_process(getpid(), Signal::INT)?;
        return Ok(None);
    }
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
    if !std::io::stdin().is_terminal() {
        return None;
    }
    super::err(question);
    let mut line = String::new();
    ASKING.store(true, Ordering::SeqCst);
    let read = std::io::stdin().lock().read_line(&mut line);
    ASKING.store(false, Ordering::SeqCst);
    read.ok().map(|_| line)
}
