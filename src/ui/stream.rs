//! What happens as a stream of JSON objects, one a line, on stdout: enough to build another front end. docs/events.md describes it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::model::id::HostName;
use crate::monitor::{Event, Monitor};

/// The stream's version.
const FORMAT: u32 = 1;
/// Progress is told no more often than this for each host, and when it is complete.
const EVERY: Duration = Duration::from_millis(500);

/// Writes each event as a line.
pub(super) struct Stream {
    told: Mutex<HashMap<HostName, Instant>>,
    clock: fn() -> DateTime<Utc>,
}

impl Stream {
    pub(super) fn new(clock: fn() -> DateTime<Utc>) -> Self {
        Self { told: Mutex::default(), clock }
    }

    fn is_due(&self, host: &HostName, complete: bool) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = complete || told.get(host).is_none_or(|last| last.elapsed() >= EVERY);
        if due {
            told.insert(host.clone(), Instant::now());
        }
        due
    }
}

impl Monitor for Stream {
    fn event(&self, host: &HostName, event: Event) {
        if let Event::Progress { bytes, total } = event
            && !self.is_due(host, total == Some(bytes))
        {
            return;
        }
        super::out(&line((self.clock)(), host, event));
    }
}

fn line(time: DateTime<Utc>, host: &HostName, event: Event) -> String {
    let (name, mut fields) = match event {
        Event::Step(step) => ("step", json!({ "step": step.word() })),
        Event::Progress { bytes, total } => ("progress", json!({ "bytes": bytes, "total": total })),
        Event::Predicted(time) => ("predicted", json!({ "seconds": seconds(time) })),
        Event::Part { done, total, what } => ("part", json!({ "done": done, "total": total, "what": what })),
        Event::Frozen => ("frozen", json!({})),
        Event::Thawed(took) => ("thawed", json!({ "seconds": seconds(took) })),
        Event::Note(text) => ("note", json!({ "text": text })),
        Event::Finished => ("finished", json!({})),
    };
    if let Value::Object(fields) = &mut fields {
        fields.insert("format".into(), FORMAT.into());
        fields.insert("event".into(), name.into());
        fields.insert("time".into(), time.to_rfc3339_opts(SecondsFormat::Millis, true).into());
        fields.insert("host".into(), host.to_string().into());
    }
    format!("{fields}\n")
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The last line of a stream: the recap, on one line.
#[must_use]
pub fn recap_event(recap: &str) -> String {
    let mut value: Value = serde_json::from_str(recap).unwrap_or_else(|_| json!({}));
    if let Value::Object(fields) = &mut value {
        fields.insert("event".into(), "recap".into());
    }
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_one_line_that_says_what_when_and_whose() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let host: HostName = "east".parse().unwrap();
        let text = line(at, &host, Event::Note("two\nlines".into()));
        assert_eq!(text.lines().count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["event"], &value["host"], &value["text"]), (&json!("note"), &json!("east"), &json!("two\nlines")));
        assert_eq!(value["time"], "2027-01-15T08:00:00.000Z");
    }

    #[test]
    fn progress_does_not_flood_and_its_end_is_always_told() {
        let (stream, host) = (Stream::new(Utc::now), "east".parse().unwrap());
        assert!(stream.is_due(&host, false));
        assert!(!stream.is_due(&host, false));
        assert!(stream.is_due(&host, true));
    }
}
