//! Progress as one bar a master. Masters that are done fold into one line; of very many at once only the first are shown.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::screen;
use crate::model::id::HostName;
use crate::model::text::{human_bytes, human_duration};
use crate::monitor::{Event, Monitor};
use crate::platform;

/// So many bars can be taken in; the others are counted.
const MOST_BARS: usize = 20;

/// So many fit: the line that counts, and one for what is said, stay on the screen.
fn room() -> usize {
    let rows = platform::rows_of_the_terminal().unwrap_or(24);
    usize::from(rows).saturating_sub(2).clamp(1, MOST_BARS)
}

struct Bar {
    /// None where there are too many to show.
    bar: Option<ProgressBar>,
    step: &'static str,
    /// Since when its containers are frozen.
    frozen: Option<Instant>,
    /// When the step's first bytes were seen, and how many they were.
    since: Option<(Instant, u64)>,
}

#[derive(Default)]
struct State {
    bars: HashMap<HostName, Bar>,
    done: usize,
}

pub(super) struct Bars {
    /// How many are done, where there are several.
    sum: Option<ProgressBar>,
    state: Mutex<State>,
    width: usize,
    hosts: usize,
}

impl Bars {
    pub(super) fn new(hosts: &[HostName]) -> Self {
        let width = hosts.iter().map(|host| host.as_str().len()).max().unwrap_or(0);
        let style = ProgressStyle::with_template("{wide_msg:.dim}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let sum = (hosts.len() > 1).then(|| screen::bars().add(ProgressBar::new_spinner().with_style(style)));
        Self { sum, state: Mutex::default(), width, hosts: hosts.len() }
    }

    fn bar(&self, host: &HostName, shown: usize) -> Bar {
        let bar = (shown < room()).then(|| {
            let bar = ProgressBar::new_spinner().with_style(style(false)).with_prefix(format!("{host:<0$}", self.width));
            let bar = match &self.sum {
                Some(sum) => screen::bars().insert_before(sum, bar),
                None => screen::bars().add(bar),
            };
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Bar { bar, step: "", frozen: None, since: None }
    }

    /// One that was only counted gets a bar, if there is room.
    fn show(&self, state: &mut State, host: &HostName) {
        let shown = state.bars.values().filter(|bar| bar.bar.is_some()).count();
        let Some(bar) = state.bars.get_mut(host) else { return };
        let (step, frozen) = (bar.step, bar.frozen);
        *bar = self.bar(host, shown);
        bar.step = step;
        bar.message(step.to_owned());
        bar.freeze(frozen);
    }

    /// A master that is frozen is seen, whoever is only counted for it.
    fn make_room(&self, state: &mut State, host: &HostName) {
        if state.bars.get(host).is_none_or(|bar| bar.bar.is_some()) {
            return;
        }
        if let Some(other) = state.bars.values_mut().find(|bar| bar.bar.is_some() && bar.frozen.is_none())
            && let Some(bar) = other.bar.take()
        {
            bar.finish_and_clear();
        }
        self.show(state, host);
    }

    fn count(&self, state: &State) {
        let Some(sum) = &self.sum else { return };
        let hidden = state.bars.values().filter(|bar| bar.bar.is_none()).count();
        let more = if hidden > 0 { format!(", {hidden} more at work") } else { String::new() };
        sum.set_message(format!("{} of {} done{more}", state.done, self.hosts));
        sum.tick();
    }
}

fn style(frozen: bool) -> ProgressStyle {
    let template = if frozen {
        "{spinner:.red} {prefix} {elapsed_precise:.red.bold} FROZEN {wide_msg:.red}"
    } else {
        "{spinner} {prefix} {elapsed_precise:.dim} {wide_msg}"
    };
    // The template is a constant that is known to be good; its default is only a little plainer.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Bar {
    fn message(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    fn restart(&self) {
        if let Some(bar) = &self.bar {
            bar.reset_elapsed();
        }
    }

    fn freeze(&mut self, since: Option<Instant>) {
        self.frozen = since;
        if let Some(bar) = self.bar.take() {
            bar.set_style(style(since.is_some()));
            bar.reset_elapsed();
            // One that takes another one's place may be frozen for a while already.
            self.bar = Some(bar.with_elapsed(since.map_or(Duration::ZERO, |since| since.elapsed())));
        }
    }

    fn progress(&mut self, bytes: u64, total: Option<u64>) {
        let (since, first) = *self.since.get_or_insert_with(|| (Instant::now(), bytes));
        self.message(format!("{} {}", self.step, moved(bytes, total, bytes.saturating_sub(first), since.elapsed())));
    }
}

/// So many bytes, of how many, at what rate, and how long the rest takes at that rate.
fn moved(bytes: u64, total: Option<u64>, new: u64, took: Duration) -> String {
    let mut text = human_bytes(bytes);
    let total = total.filter(|total| *total > 0);
    if let Some(total) = total {
        text = format!("{text} of {} ({} %)", human_bytes(total), bytes.saturating_mul(100) / total);
    }
    let rate = u64::try_from(u128::from(new) * 1000 / took.as_millis().max(1)).unwrap_or(0);
    if took < Duration::from_secs(1) || rate == 0 {
        return text;
    }
    text = format!("{text}, {}/s", human_bytes(rate));
    match total.map(|total| total.saturating_sub(bytes)) {
        Some(rest) if rest > 0 => format!("{text}, {} left", human_duration(Duration::from_secs(rest.div_ceil(rate)))),
        _ => text,
    }
}

impl Monitor for Bars {
    fn event(&self, host: &HostName, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.bars.contains_key(host) {
            let shown = state.bars.values().filter(|bar| bar.bar.is_some()).count();
            state.bars.insert(host.clone(), self.bar(host, shown));
        }
        if event == Event::Finished {
            if let Some(Bar { bar: Some(bar), .. }) = state.bars.remove(host) {
                bar.finish_and_clear();
            }
            state.done += 1;
            // Its place goes to one that was only counted, to a frozen one first.
            let next = state.bars.iter().filter(|(_, bar)| bar.bar.is_none()).max_by_key(|(_, bar)| bar.frozen.is_some());
            if let Some(next) = next.map(|(next, _)| next.clone()) {
                self.show(&mut state, &next);
            }
            self.count(&state);
            return;
        }
        if event == Event::Frozen {
            self.make_room(&mut state, host);
        }
        self.count(&state);
        let Some(bar) = state.bars.get_mut(host) else { return };
        match event {
            Event::Step(step) => {
                (bar.step, bar.since) = (step.word(), None);
                bar.message(bar.step.to_owned());
                // While containers are frozen the clock shows the freeze, not the step.
                if bar.frozen.is_none() {
                    bar.restart();
                }
            }
            Event::Progress { bytes, total } => bar.progress(bytes, total),
            Event::Part { done, total, what } => bar.message(format!("{} {done} of {total}: {what}", bar.step)),
            Event::Predicted(time) => bar.message(format!("{}: about {}", bar.step, human_duration(time))),
            Event::Frozen => bar.freeze(Some(Instant::now())),
            Event::Thawed(took) => {
                bar.freeze(None);
                // Drawn anew, or what comes back below the line would still say FROZEN.
                bar.message(bar.step.to_owned());
                super::err(&format!("[{host}] thawed after {}\n", human_duration(took)));
            }
            Event::Note(note) => super::err(&format!("[{host}] {note}\n")),
            Event::Finished => {}
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for bar in state.bars.values().filter_map(|bar| bar.bar.as_ref()).chain(&self.sum) {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_moved_is_shown_with_its_rate_and_what_is_left() {
        let (mib, second) = (1 << 20, Duration::from_secs(1));
        assert_eq!(moved(mib, None, mib, Duration::from_millis(10)), "1.0 MiB");
        assert_eq!(moved(10 * mib, Some(100 * mib), 10 * mib, 2 * second), "10.0 MiB of 100.0 MiB (10 %), 5.0 MiB/s, 18.0 s left");
        assert_eq!(moved(100 * mib, Some(100 * mib), 100 * mib, 2 * second), "100.0 MiB of 100.0 MiB (100 %), 50.0 MiB/s");
        assert_eq!(moved(5, Some(0), 0, second), "5 B");
    }
}
