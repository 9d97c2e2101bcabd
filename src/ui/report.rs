//! How well masters are looked after: in the terminal, as JSON, for node_exporter.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::render::table;
use crate::model::outlook::{Outlook, Weight};
use crate::model::text::{age_since, human_bytes, printable};

/// When a restore was last tried out with success.
fn last_drill(outlook: &Outlook<'_>) -> Option<DateTime<Utc>> {
    let drills = outlook.backups.iter().flat_map(|seen| &seen.record.drills);
    drills.filter(|drill| drill.failure.is_none()).map(|drill| drill.at).max()
}

/// The report in the terminal.
#[must_use]
pub fn report(outlooks: &[Outlook<'_>], now: DateTime<Utc>) -> String {
    let mut rows = vec![["HOST", "STATE", "NEWEST", "SIZE", "BACKUPS", "COPIES", "DRILLED"].map(str::to_owned)];
    let ago = |time: DateTime<Utc>| age_since(time, now);
    for outlook in outlooks {
        let newest = outlook.backups.last();
        let drilled = last_drill(outlook);
        rows.push([
            outlook.host.to_string(),
            word(outlook.worst()).to_owned(),
            newest.map_or_else(|| "-".into(), |seen| ago(seen.manifest.description.started)),
            newest.map_or_else(|| "-".into(), |seen| human_bytes(seen.manifest.archive.bytes)),
            outlook.backups.len().to_string(),
            newest.map_or_else(|| "-".into(), |seen| seen.record.copies.len().to_string()),
            drilled.map_or_else(|| "never".into(), ago),
        ]);
    }
    let mut text = table(&rows);
    for outlook in outlooks {
        for concern in &outlook.concerns {
            let mark = if concern.weight == Weight::Risk { "!!" } else { "->" };
            let _ = writeln!(text, "{mark} {}: {}", outlook.host, printable(&concern.text));
        }
    }
    text
}

/// A word for how a master stands.
pub(super) fn word(worst: Option<Weight>) -> &'static str {
    match worst {
        None => "good",
        Some(Weight::Advice) => "fair",
        Some(Weight::Risk) => "AT RISK",
    }
}

/// The same as JSON.
#[must_use]
pub fn report_json(outlooks: &[Outlook<'_>], now: DateTime<Utc>) -> String {
    let hosts: Vec<Value> = outlooks
        .iter()
        .map(|outlook| {
            let newest = outlook.backups.last().map(|seen| seen.manifest.description.started);
            json!({ "host": outlook.host, "state": word(outlook.worst()).to_lowercase(), "backups": outlook.backups.len(), "newest": newest, "concerns": outlook.concerns })
        })
        .collect();
    format!("{:#}\n", json!({ "format": 1, "at": now, "hosts": hosts }))
}

/// The same for node_exporter's textfile collector.
#[must_use]
pub fn prometheus(outlooks: &[Outlook<'_>], now: DateTime<Utc>) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, values: Vec<(String, String)>| {
        let _ = writeln!(text, "# HELP tanker_{name} {help}\n# TYPE tanker_{name} gauge");
        for (labels, value) in values {
            let _ = writeln!(text, "tanker_{name}{{{labels}}} {value}");
        }
    };
    let of_newest = |value: &dyn Fn(&crate::model::outlook::Seen<'_>) -> String| -> Vec<(String, String)> {
        outlooks.iter().filter_map(|o| o.backups.last().map(|seen| (format!("host=\"{}\"", o.host), value(seen)))).collect()
    };
    let of_host = |value: &dyn Fn(&Outlook<'_>) -> String| -> Vec<(String, String)> {
        outlooks.iter().map(|o| (format!("host=\"{}\"", o.host), value(o))).collect()
    };
    metric("report_timestamp_seconds", "When this was written.", vec![(String::new(), now.timestamp().to_string())]);
    metric("backups", "Backups in the library.", of_host(&|o| o.backups.len().to_string()));
    metric(
        "at_risk",
        "1 where something would be lost if the master died now.",
        of_host(&|o| u8::from(o.worst() == Some(Weight::Risk)).to_string()),
    );
    metric(
        "backup_timestamp_seconds",
        "When the newest backup began.",
        of_newest(&|seen| seen.manifest.description.started.timestamp().to_string()),
    );
    metric("backup_size_bytes", "Size of the newest archive.", of_newest(&|seen| seen.manifest.archive.bytes.to_string()));
    metric(
        "backup_freeze_seconds",
        "How long containers were frozen for the newest backup.",
        of_newest(&|seen| format!("{}.{:03}", seen.manifest.freeze.milliseconds / 1000, seen.manifest.freeze.milliseconds % 1000)),
    );
    metric("backup_copies", "Remotes that have the newest backup.", of_newest(&|seen| seen.record.copies.len().to_string()));
    let drilled =
        outlooks.iter().filter_map(|o| last_drill(o).map(|at| (format!("host=\"{}\"", o.host), at.timestamp().to_string()))).collect();
    metric("drill_timestamp_seconds", "When a restore was last tried out with success.", drilled);
    let concerns = outlooks.iter().flat_map(|o| {
        let mut kinds: Vec<&str> = o.concerns.iter().map(|concern| concern.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.into_iter().map(|kind| (format!("host=\"{}\",kind=\"{kind}\"", o.host), "1".to_owned())).collect::<Vec<_>>()
    });
    metric("concern", "Something to do about a master, by kind.", concerns.collect());
    text.replace("{} ", " ")
}
