//! The terminal that bars share with lines and questions: whoever writes takes the bars away first, and they come back behind it.

use std::io::IsTerminal;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;

/// Every bar of the process: two that don't know of each other would write over each other's lines.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
/// Whether a question waits for its answer.
static ASKING: AtomicBool = AtomicBool::new(false);

/// Where bars are drawn.
pub(super) fn bars() -> &'static MultiProgress {
    &BARS
}

/// Whether a question waits for its answer.
#[must_use]
pub fn is_asking() -> bool {
    ASKING.load(Ordering::SeqCst)
}

/// Writes while no bar is on the screen.
pub(super) fn beside_bars<T>(write: impl FnOnce() -> T) -> T {
    // A question keeps the bars away until it is answered, and whoever has a word meanwhile must not wait for that. Where the terminal has
    // gone there are no bars, and taking them away would panic.
    if is_asking() || !std::io::stderr().is_terminal() { write() } else { BARS.suspend(write) }
}

/// Asks while no bar is on the screen, and none is drawn until the answer is there.
pub(super) fn asking<T>(ask: impl FnOnce() -> T) -> T {
    ASKING.store(true, Ordering::SeqCst);
    let answer = BARS.suspend(ask);
    ASKING.store(false, Ordering::SeqCst);
    answer
}
