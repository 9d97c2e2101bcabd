//! Where a password comes from. The password itself never stands in an inventory or an argument (I6).

use std::path::PathBuf;

use super::text::printable;

/// Where a password comes from, before any work begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretSource {
    /// The operator is asked; once for all hosts that have this from the defaults.
    Ask,
    /// The first line of a file that only its owner can read.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
    /// The first line that a command of the workstation's shell prints.
    Command(String),
}

/// Reads `ask`, `env:NAME`, `file:PATH` or `command:COMMAND`.
///
/// # Errors
/// With a sentence that doesn't repeat the text, for it may be a password.
pub fn parse_secret_source(text: &str) -> Result<SecretSource, String> {
    match text.split_once(':') {
        _ if text == "ask" => Ok(SecretSource::Ask),
        Some(("env", name)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            Ok(SecretSource::Env(name.to_owned()))
        }
        Some(("file", path)) if !path.is_empty() => Ok(SecretSource::File(path.into())),
        Some(("command", command)) if !command.trim().is_empty() => Ok(SecretSource::Command(command.to_owned())),
        _ => Err("a password itself never stands here: say 'ask', 'env:NAME', 'file:PATH' or 'command:COMMAND'".to_owned()),
    }
}

/// The password in what a file or a command gave: its first line.
///
/// # Errors
/// When there is none.
pub fn first_line(text: &str, source: &str) -> Result<String, String> {
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("{} gives no password: its first line is empty", printable(source))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_a_password_that_stands_in_an_inventory_is_refused_and_not_repeated() {
        assert_eq!(parse_secret_source("ask"), Ok(SecretSource::Ask));
        assert_eq!(parse_secret_source("file:~/.pw"), Ok(SecretSource::File("~/.pw".into())));
        assert_eq!(parse_secret_source("command:pass show fuel"), Ok(SecretSource::Command("pass show fuel".into())));
        for bad in ["hunter2", "", "file:", "command: ", "hunter2:x"] {
            let why = parse_secret_source(bad).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
