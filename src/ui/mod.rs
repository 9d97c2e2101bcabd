//! What the operator sees: the only place that prints, asks, or names indicatif.
//!
//! Progress goes to stderr, what was asked for goes to stdout.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bars;
mod plain;
mod prompt;
mod render;

use std::io::{IsTerminal, Write};
use std::sync::Arc;

pub use prompt::{ask_passphrase, confirm_name, confirm_yes};
pub use render::{checked, file_line, jobs, list_json, list_table, plan, recap, show, shown_key};

use crate::model::id::HostName;
use crate::monitor::{Event, Monitor};

/// The monitor that fits: bars on a terminal, lines elsewhere, nothing where quiet is wanted.
#[must_use]
pub fn monitor(hosts: &[HostName], quiet: bool) -> Arc<dyn Monitor> {
    if quiet {
        Arc::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Arc::new(bars::Bars::new(hosts))
    } else {
        Arc::new(plain::Plain::default())
    }
}

struct Silent;

impl Monitor for Silent {
    fn event(&self, _: &HostName, _: Event) {}
}

/// Prints what was asked for. A reader that has gone away (`| head`) is no error.
pub fn out(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
}

/// Prints something for the operator beside it.
pub fn err(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
