//! What a run came to: one line a host, or JSON.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::exit::code;
use crate::model::id::HostName;
use crate::model::report::{Outcome, RunReport, Severity};
use crate::model::text::human_duration;
use crate::monitor::Step;

/// One line a host, the reasons and hints of the bad ones below it.
pub(super) fn recap(report: &RunReport, steps: &HashMap<HostName, Step>) -> String {
    let width = report.outcomes.iter().map(|o| o.host.as_str().len()).max().unwrap_or(0);
    let words = report.outcomes.iter().map(|o| o.severity.word().len()).max().unwrap_or(0);
    let mut text = String::new();
    // What outranks everything stands on top.
    let mut order: Vec<_> = report.outcomes.iter().collect();
    order.sort_by_key(|o| std::cmp::Reverse(o.severity == Severity::Frozen));
    for outcome in order {
        let took = if outcome.took > Duration::ZERO { format!("  ({})", human_duration(outcome.took)) } else { String::new() };
        let summary = summary(outcome, steps);
        let _ = writeln!(text, "{:<width$}  {:<words$}  {summary}{took}", outcome.host, outcome.severity.word());
        if let Some(hint) = &outcome.hint {
            let _ = writeln!(text, "{:<width$}  {:<words$}  -> {hint}", "", "");
        }
    }
    text
}

/// What happened, and in which step where that isn't clear: nothing was begun where a host was refused or not reached.
pub(super) fn summary(outcome: &Outcome, steps: &HashMap<HostName, Step>) -> String {
    let begun = !matches!(outcome.severity, Severity::Ok | Severity::Skipped | Severity::Refused | Severity::Unreachable);
    match steps.get(&outcome.host).map(|step| step.word()).filter(|_| begun) {
        // A job says it itself.
        Some(step) if !outcome.summary.starts_with(&format!("{step}: ")) => format!("{step}: {}", outcome.summary),
        _ => outcome.summary.clone(),
    }
}

/// The same as JSON: `docs/cli.md` describes it.
pub(super) fn recap_json(
    verb: &str,
    (began, ended): (DateTime<Utc>, DateTime<Utc>),
    report: &RunReport,
    steps: &HashMap<HostName, Step>,
) -> String {
    let hosts: Vec<_> = report
        .outcomes
        .iter()
        .map(|o| {
            serde_json::json!({
                "host": o.host, "outcome": o.severity.word().to_lowercase(), "exit_code": code(o.severity), "summary": o.summary, "hint": o.hint,
                "step": steps.get(&o.host).map(|step| step.word()),
                "seconds": (o.took.as_secs_f64() * 1000.0).round() / 1000.0,
            })
        })
        .collect();
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
    let recap = serde_json::json!({
        "format": 1, "verb": verb, "began": time(began), "ended": time(ended), "exit_code": code(report.worst()), "hosts": hosts,
    });
    format!("{recap:#}\n")
}
