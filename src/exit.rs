//! From what a run came to, the process's exit code: one table, documented in docs/cli.md.

use std::process::ExitCode;

use crate::model::report::Severity;

/// Bad input: command line, inventory, names.
pub const USAGE: u8 = 2;

/// The exit code of a run that ended with this as its most serious outcome.
#[must_use]
pub fn code(severity: Severity) -> u8 {
    match severity {
        Severity::Ok => 0,
        Severity::Failed | Severity::Skipped => 1,
        Severity::Refused => 3,
        Severity::Unreachable => 4,
        Severity::Damaged => 5,
        Severity::HalfRestored => 6,
        Severity::Frozen => 7,
        Severity::Interrupted => 130,
    }
}

/// The same as the standard library wants it.
#[must_use]
pub fn exit_code(severity: Severity) -> ExitCode {
    ExitCode::from(code(severity))
}
