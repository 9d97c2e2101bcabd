//! What the operator sees: the only place that prints, asks, or names indicatif.
//!
//! Progress goes to stderr, what was asked for goes to stdout.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bars;
mod html;
mod log;
mod plain;
mod progress;
mod prompt;
mod recap;
mod render;
mod report;
mod screen;
mod shelf;
mod stream;
mod upkeep;

use std::collections::BTreeSet;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use html::page;
pub use log::{RunLog, failed_last_time};
pub use progress::Progress;
pub use prompt::{ask_passphrase, confirm_name, confirm_yes};
pub use render::{checked, half_plan, hosts_json, hosts_table, jobs, plan, shown_key};
pub use report::{prometheus, report, report_json};
pub use screen::is_asking;
pub use shelf::{file_line, list_json, list_table, show};
pub use stream::{checked_event, jobs_event, plan_event, recap_event};
pub use upkeep::{
    NOT_MOVED, Plan, away_json, away_table, diff_json, difference, forget_json, forget_plan, marks, stats_json, stats_table, trash_json,
    trash_table, verified, verified_away, verified_away_json, verified_json,
};

use chrono::{DateTime, Utc};

use screen::beside_bars;

use crate::model::id::HostName;
use crate::monitor::{Event, Monitor};

/// How what happens is shown.
#[derive(Clone, Copy)]
pub enum Show {
    /// Not at all.
    Nothing,
    /// Bars on a terminal, lines elsewhere; lines where more is wanted (1), every piece of progress too (2).
    Progress(u8),
    /// As JSON on stdout, with the time from this clock.
    Stream(fn() -> DateTime<Utc>),
}

/// The monitor that fits.
#[must_use]
pub fn monitor(hosts: &[HostName], show: Show) -> Arc<dyn Monitor> {
    match show {
        Show::Nothing => Arc::new(Silent),
        Show::Stream(clock) => Arc::new(stream::Stream::new(clock)),
        Show::Progress(0) if can_draw() => Arc::new(bars::Bars::new(hosts)),
        Show::Progress(verbosity) => Arc::new(plain::Plain::new(verbosity > 1)),
    }
}

/// A terminal that knows how to write over a line. What a CI shows of a terminal is a log.
fn can_draw() -> bool {
    !screen::bars().is_hidden() && std::env::var_os("CI").unwrap_or_default().is_empty()
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on nothing is shown while work goes on.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// From now on what happens is said in lines.
pub fn be_verbose() {
    VERBOSE.store(true, Ordering::Relaxed);
}

fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

struct Silent;

impl Monitor for Silent {
    fn event(&self, _: &HostName, _: Event) {}
}

/// Whether something that was asked for could not be printed.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints what was asked for. A reader that has gone away (`| head`) is no error; a full disk is one.
pub fn out(text: &str) {
    let write = || std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
    // What goes elsewhere disturbs no bar, and its reader may let it wait.
    let written = if std::io::stdout().is_terminal() { beside_bars(write) } else { write() };
    if let Err(e) = written
        && e.kind() != ErrorKind::BrokenPipe
        && !LOST.swap(true, Ordering::Relaxed)
    {
        err(&format!("tanker: the output can't be written: {e}\n"));
    }
}

/// Whether a part of the output is missing where it went.
#[must_use]
pub fn output_was_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// What has been said and would be repeated.
static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// As [`err`], but not what it has said already.
pub fn err_once(text: &str) {
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
        err(text);
    }
}

/// Prints something for the operator beside it.
pub fn err(text: &str) {
    let _ = beside_bars(|| std::io::stderr().write_all(text.as_bytes()));
}
