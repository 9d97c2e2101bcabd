//! Progress as lines: one for each step and each remark.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::model::id::HostName;
use crate::model::text::{human_bytes, human_duration};
use crate::monitor::{Event, Monitor, Step};

/// Remembers the current step so that it is told once.
pub(super) struct Plain {
    steps: Mutex<HashMap<HostName, Step>>,
    every_piece: bool,
}

impl Plain {
    pub(super) fn new(every_piece: bool) -> Self {
        Self { steps: Mutex::default(), every_piece }
    }
}

impl Plain {
    fn line(&self, host: &HostName, event: Event) -> Option<String> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Step(step) = event
            && steps.insert(host.clone(), step) == Some(step)
        {
            return None;
        }
        if let (Event::Progress { bytes, total }, true) = (&event, self.every_piece) {
            let of = total.map(|total| format!(" of {}", human_bytes(total))).unwrap_or_default();
            return Some(format!("{}{of}", human_bytes(*bytes)));
        }
        line_of(event)
    }
}

impl Monitor for Plain {
    fn event(&self, host: &HostName, event: Event) {
        if let Some(line) = self.line(host, event) {
            super::err(&format!("[{host}] {line}\n"));
        }
    }
}

/// An event as a line; none where it isn't worth one.
pub(super) fn line_of(event: Event) -> Option<String> {
    Some(match event {
        Event::Step(step) => step.word().to_owned(),
        Event::Frozen => "containers are being frozen".to_owned(),
        Event::Thawed(took) => format!("thawed after {}", human_duration(took)),
        Event::Note(note) => note,
        Event::Predicted(time) => format!("the freeze should take about {}", human_duration(time)),
        Event::Part { done, total, what } => format!("{done} of {total}: {what}"),
        // A line for every chunk would drown the rest; its end is worth one.
        Event::Progress { bytes, total: Some(total) } if bytes == total => format!("{} done", human_bytes(bytes)),
        Event::Progress { .. } | Event::Finished => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_verbose_shows_every_piece_and_once_only_its_end() {
        let host: HostName = "east".parse().unwrap();
        let shown = |plain: &Plain| -> Vec<String> {
            let pieces = [512, 1024].map(|bytes| Event::Progress { bytes, total: Some(1024) });
            let events = [Event::Step(Step::Transfer), Event::Step(Step::Transfer)].into_iter().chain(pieces);
            events.filter_map(|event| plain.line(&host, event)).collect()
        };
        assert_eq!(shown(&Plain::new(false)), ["transfer", "1.0 KiB done"]);
        assert_eq!(shown(&Plain::new(true)), ["transfer", "512 B of 1.0 KiB", "1.0 KiB of 1.0 KiB"]);
    }
}
