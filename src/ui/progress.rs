//! The progress of work on this machine: one bar of bytes, or a line now and then where lines are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::screen;
use crate::model::text::{human_bytes, human_duration};

/// A bar on a terminal; with `-v` lines, here and elsewhere.
pub struct Progress {
    bar: ProgressBar,
    lines: Option<Arc<Lines>>,
}

/// A line at the beginning, for each tenth, and at the end.
struct Lines {
    what: &'static str,
    bytes: u64,
    done: AtomicU64,
    began: Instant,
}

impl Lines {
    fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let tenth = |done: u64| done.saturating_mul(10) / self.bytes.max(1);
        let (reached, last) = (tenth(before.saturating_add(bytes)), tenth(before));
        if reached > last && reached < 10 {
            super::err(&format!("{}: {} %\n", self.what, reached * 10));
        }
    }
}

impl Progress {
    /// Begins one of so many bytes.
    #[must_use]
    pub fn begin(what: &'static str, bytes: u64) -> Self {
        if super::is_quiet() {
            return Self { bar: ProgressBar::hidden(), lines: None };
        }
        if super::is_verbose() {
            super::err(&format!("{what}: {}\n", human_bytes(bytes)));
            let lines = Lines { what, bytes, done: AtomicU64::new(0), began: Instant::now() };
            return Self { bar: ProgressBar::hidden(), lines: Some(Arc::new(lines)) };
        }
        if !super::can_draw() {
            return Self { bar: ProgressBar::hidden(), lines: None };
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}");
        // The template is a constant that is known to be good; the default is only a little plainer.
        let bar = ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar: screen::bars().add(bar.with_message(what)), lines: None }
    }

    /// So many more are done.
    pub fn add(&self, bytes: u64) {
        match &self.lines {
            Some(lines) => lines.add(bytes),
            None => self.bar.inc(bytes),
        }
    }

    /// The same, for whoever reads somewhere else.
    #[must_use]
    pub fn adder(&self) -> Arc<dyn Fn(u64) + Send + Sync> {
        let (bar, lines) = (self.bar.clone(), self.lines.clone());
        Arc::new(move |bytes| match &lines {
            Some(lines) => lines.add(bytes),
            None => bar.inc(bytes),
        })
    }

    /// It is over.
    pub fn end(&self) {
        self.bar.finish_and_clear();
        if let Some(lines) = &self.lines {
            super::err(&format!(
                "{}: {} in {}\n",
                lines.what,
                human_bytes(lines.done.load(Ordering::Relaxed)),
                human_duration(lines.began.elapsed())
            ));
        }
    }
}
