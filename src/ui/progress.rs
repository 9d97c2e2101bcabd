//! The progress of work on this machine: one bar of bytes.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use super::screen;

/// A bar on a terminal, nothing elsewhere.
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins one of so many bytes.
    #[must_use]
    pub fn begin(what: &'static str, bytes: u64) -> Self {
        if !super::can_draw() || super::is_quiet() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {binary_bytes} of {binary_total_bytes} {binary_bytes_per_sec} {eta}");
        // The template is a constant that is known to be good; the default is only a little plainer.
        let bar = ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(screen::bars().add(bar.with_message(what)))
    }

    /// So many more are done.
    pub fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// The same, for whoever reads somewhere else.
    #[must_use]
    pub fn adder(&self) -> Arc<dyn Fn(u64) + Send + Sync> {
        let bar = self.0.clone();
        Arc::new(move |bytes| bar.inc(bytes))
    }

    /// It is over.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
