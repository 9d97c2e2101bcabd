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

impl Monitor for Plain {
    fn event(&self, host: &HostName, event: Event) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Step(step) = event
            && steps.insert(host.clone(), step) == Some(step)
        {
            return;
        }
        if let (Event::Progress { bytes, total }, true) = (&event, self.every_piece) {
            let of = total.map(|total| format!(" of {}", human_bytes(total))).unwrap_or_default();
            super::err(&format!("[{host}] {}{of}\n", human_bytes(*bytes)));
            return;
        }
        if let Some(line) = line_of(event) {
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
