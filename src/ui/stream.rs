//! What happens as a stream of JSON objects, one a line, on stdout: enough to build another front end. docs/events.md describes it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::commands::check::Checked;
use crate::model::facts::{Container, ContainerState, JobTrace};
use crate::model::id::HostName;
use crate::model::restore_plan::RestorePlan;
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
    told(name, &mut fields, time, host)
}

fn told(name: &str, fields: &mut Value, time: DateTime<Utc>, host: &HostName) -> String {
    if let Value::Object(fields) = fields {
        fields.insert("format".into(), FORMAT.into());
        fields.insert("event".into(), name.into());
        fields.insert("time".into(), time.to_rfc3339_opts(SecondsFormat::Millis, true).into());
        fields.insert("host".into(), host.to_string().into());
    }
    format!("{fields}\n")
}

/// What `check` found on a host.
#[must_use]
pub fn checked_event(time: DateTime<Utc>, host: &HostName, found: &Checked) -> String {
    let facts = &found.facts;
    let container = |c: &Container| {
        let state = match c.state {
            ContainerState::Running => "running",
            ContainerState::Paused => "paused",
            ContainerState::Stopped => "stopped",
        };
        json!({ "service": c.service, "name": c.name, "image": c.image, "state": state })
    };
    let (tasks, unfinished, unreadable) = match &found.tasks {
        Ok((count, unfinished)) => (Some(count), Some(unfinished), None),
        Err(reason) => (None, None, Some(reason)),
    };
    let plan = found.plan.as_ref().ok().map(|plan| {
        json!({
            "freeze": plan.freeze.as_str(), "freeze_reason": plan.freeze_reason, "volumes": plan.volumes.len(),
            "directories": plan.directories, "spool_bytes": plan.spool_bytes, "notes": plan.notes,
        })
    });
    let mut fields = json!({
        "release": facts.release.to_string(), "hostname": facts.hostname, "uuid": facts.uuid, "connection": found.negotiated,
        "docker_version": facts.docker_version, "containers": facts.containers.iter().map(container).collect::<Vec<_>>(),
        "other_containers": facts.other_containers,
        "directories": facts.directories.iter().map(|(path, bytes)| json!({ "path": path, "bytes": bytes })).collect::<Vec<_>>(),
        "spool_free_bytes": facts.spool_free_bytes, "docker_free_bytes": facts.docker_free_bytes, "tools": facts.tools,
        "tasks": { "count": tasks, "unfinished": unfinished, "unreadable": unreadable },
        "plan": plan, "refusals": found.plan.as_ref().err().cloned().unwrap_or_default(),
    });
    told("checked", &mut fields, time, host)
}

/// The jobs on a host.
#[must_use]
pub fn jobs_event(time: DateTime<Utc>, host: &HostName, jobs: &[JobTrace]) -> String {
    let job = |job: &JobTrace| {
        json!({
            "name": job.name, "running": job.alive, "frozen": job.frozen, "half_restored": job.half_restored && !job.alive,
            "packed_bytes": job.packed, "pushed_bytes": job.pushed, "about": job.about,
        })
    };
    told("jobs", &mut json!({ "jobs": jobs.iter().map(job).collect::<Vec<_>>() }), time, host)
}

/// What a restore will do, or would.
#[must_use]
pub fn plan_event(time: DateTime<Utc>, host: &HostName, backup: &str, plan: &RestorePlan) -> String {
    let mut fields = json!({ "backup": backup, "steps": plan.steps, "warnings": plan.warnings, "spool_bytes": plan.spool_bytes });
    told("plan", &mut fields, time, host)
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

    #[test]
    fn half_a_restore_and_a_packed_archive_are_told_of_a_job() {
        let job = JobTrace {
            name: "restore-1".into(),
            alive: false,
            frozen: false,
            half_restored: true,
            packed: Some(7),
            pushed: Some(8),
            about: "somebody".into(),
        };
        let value: Value = serde_json::from_str(&jobs_event(Utc::now(), &"east".parse().unwrap(), &[job])).unwrap();
        assert_eq!((&value["event"], &value["host"], &value["format"]), (&json!("jobs"), &json!("east"), &json!(1)));
        let known = json!({
            "name": "restore-1", "running": false, "frozen": false, "half_restored": true, "packed_bytes": 7, "pushed_bytes": 8,
            "about": "somebody",
        });
        assert_eq!(value["jobs"], json!([known]));
    }
}
