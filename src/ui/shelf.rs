//! What the library holds and what became of it, as text and as JSON.

use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::render::table;
use crate::library::{Entry, FileEntry, FileKind, Problem};
use crate::model::manifest::{Contents, FreezeMethod, ProofPlace, TaskRecord};
use crate::model::text::{age_since, human_bytes, human_duration, printable};

/// The library as a table, oldest first.
#[must_use]
pub fn list_table(entries: &[Entry], now: DateTime<Utc>) -> String {
    let mut rows = vec![["BACKUP", "TAKEN (UTC)", "AGE", "SIZE", "FREEZE", "FUEL", "PROVEN", "TAGS", "COPIES"].map(str::to_owned)];
    for entry in entries {
        let manifest = &entry.manifest;
        let freeze = match manifest.freeze.method {
            FreezeMethod::None => "none".to_owned(),
            FreezeMethod::Pause | FreezeMethod::Cgroup | FreezeMethod::Stop => {
                human_duration(Duration::from_millis(manifest.freeze.milliseconds))
            }
        };
        rows.push([
            entry.name(),
            manifest.description.started.format("%Y-%m-%d %H:%M:%S").to_string(),
            age_since(manifest.description.started, now),
            human_bytes(manifest.archive.bytes),
            freeze,
            manifest.description.release.to_string(),
            proven(entry, now),
            marks_of(entry),
            entry.record.copies.iter().map(|copy| copy.remote.as_str()).collect::<Vec<_>>().join(" "),
        ]);
    }
    table(&rows)
}

/// How, when and how well a backup was proven, and when it was last drilled.
fn proven(entry: &Entry, now: DateTime<Utc>) -> String {
    let ago = |time: DateTime<Utc>| age_since(time, now);
    let mut text = match (entry.record.damaging_check(), entry.record.closest_check()) {
        (Some(check), _) => format!("DAMAGED ({})", ago(check.at)),
        (None, Some(check)) => format!("{} ({})", check.depth, ago(check.at)),
        (None, None) => format!("{} ({})", place(entry.manifest.proof.place), ago(entry.manifest.proof.at)),
    };
    if let Some(drill) = entry.record.drills.last() {
        let _ = write!(text, ", {} ({})", if drill.failure.is_none() { "drilled" } else { "DRILL FAILED" }, ago(drill.at));
    }
    text
}

fn marks_of(entry: &Entry) -> String {
    let protected = entry.record.protected.then_some("protected");
    let locked = entry.is_encrypted().then_some("encrypted");
    protected.into_iter().chain(locked).chain(entry.record.tags.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn place(place: ProofPlace) -> &'static str {
    match place {
        ProofPlace::Workstation => "here",
        ProofPlace::Master => "on the master",
    }
}

/// The library as JSON: `docs/events.md` describes it.
#[must_use]
pub fn list_json(entries: &[Entry], problems: &[Problem]) -> String {
    let backups: Vec<_> = entries.iter().map(entry_json).collect();
    let problems: Vec<_> = problems.iter().map(|p| serde_json::json!({ "path": p.path, "reason": p.reason })).collect();
    format!("{:#}\n", serde_json::json!({ "format": 1, "backups": backups, "problems": problems }))
}

fn entry_json(entry: &Entry) -> serde_json::Value {
    serde_json::json!({
        "name": entry.name(), "folder": entry.folder, "manifest": entry.manifest, "record": entry.record,
        "unreadable_record": entry.unreadable_record,
    })
}

/// One backup in full.
#[must_use]
pub fn show(entry: &Entry, now: DateTime<Utc>) -> String {
    let manifest = &entry.manifest;
    let about = &manifest.description;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<11} {value}");
    };
    line(
        "taken",
        format!(
            "{} (age: {}), by tanker {}",
            about.started.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            age_since(about.started, now),
            printable(&about.tanker)
        ),
    );
    line(
        "master",
        format!(
            "Fuel {}, host name {}, uuid {}, Docker {}",
            about.release,
            printable(&about.hostname),
            printable(&about.uuid),
            printable(&about.docker_version)
        ),
    );
    line(
        "archive",
        format!(
            "{} ({}, {} unpacked)",
            if entry.is_here() {
                printable(&entry.archive().display().to_string())
            } else {
                format!("{}, which is at the library's home, not on this disk", printable(&manifest.archive.file))
            },
            human_bytes(manifest.archive.bytes),
            human_bytes(manifest.archive.tar_bytes)
        ),
    );
    line("sha256", manifest.archive.sha256.clone());
    let steps: Vec<String> =
        manifest.freeze.steps.iter().map(|(step, ms)| format!("{step} {}", human_duration(Duration::from_millis(*ms)))).collect();
    line(
        "freeze",
        match manifest.freeze.method {
            FreezeMethod::None => "none: it may not be of one instant".to_owned(),
            method => {
                let predicted = manifest.freeze.predicted_milliseconds.map(Duration::from_millis).map(human_duration);
                format!(
                    "{} by {} ({}){}",
                    human_duration(Duration::from_millis(manifest.freeze.milliseconds)),
                    method.as_str(),
                    steps.join(", "),
                    predicted.map(|time| format!(", predicted {time}")).unwrap_or_default()
                )
            }
        },
    );
    line(
        "tasks",
        match &manifest.tasks {
            TaskRecord::Clean => "none unfinished, none began meanwhile".to_owned(),
            TaskRecord::Ignored { unfinished, reason } => {
                let names: Vec<String> = unfinished.iter().map(crate::model::tasks::Task::describe).collect();
                format!("IGNORED: {}", reason.clone().unwrap_or_else(|| names.join(", ")))
            }
        },
    );
    line("proven", format!("{}, {}", place(manifest.proof.place), manifest.proof.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
    line(
        "containers",
        about
            .containers
            .iter()
            .map(|c| if c.running { c.service.clone() } else { format!("{} (stopped)", c.service) })
            .collect::<Vec<_>>()
            .join(" "),
    );
    if about.contents == Contents::Light {
        line("contents", "light: no package repositories, only the images that hold state".to_owned());
    }
    line("directories", about.directories.join(" "));
    line("volumes", about.volumes.iter().map(|v| format!("{}:{}", v.service, v.path)).collect::<Vec<_>>().join(" "));
    if let Some(encryption) = &manifest.archive.encryption {
        line("encrypted", format!("to {}", printable(&encryption.recipients.join(", "))));
    }
    let record = &entry.record;
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    if let Some(why) = &entry.unreadable_record {
        line("record", why.clone());
    }
    if record.protected {
        line("protected", "'tanker forget' never takes it".to_owned());
    }
    if !record.tags.is_empty() {
        line("tags", record.tags.join(" "));
    }
    if let Some(note) = &record.note {
        line("your note", printable(note));
    }
    for check in &record.checks {
        line("checked", format!("{} {}: {}", time(check.at), check.depth, printable(check.damage.as_deref().unwrap_or("whole"))));
    }
    for drill in &record.drills {
        let came = drill.failure.as_deref().map_or_else(|| "went well".to_owned(), |why| format!("FAILED: {}", printable(why)));
        line(
            "drilled",
            format!("{} on {} in {}: {came}", time(drill.at), printable(&drill.on), human_duration(Duration::from_secs(drill.seconds))),
        );
    }
    for copy in &record.copies {
        line("copy", format!("at {}, seen whole {}", printable(&copy.remote), time(copy.at)));
    }
    for member in &manifest.archive.members {
        line("member", format!("{:>10}  {}", human_bytes(member.bytes), member.name));
    }
    for note in &manifest.notes {
        line("note", note.clone());
    }
    format!("{}\n{text}", entry.name())
}

/// A file of a backup: kind and permissions, size, time, path.
#[must_use]
pub fn file_line(path: &str, file: &FileEntry) -> String {
    let kind = match file.kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Other => '?',
    };
    let time = i64::try_from(file.modified).ok().and_then(|s| DateTime::from_timestamp(s, 0)).unwrap_or_default();
    format!("{kind}{:04o} {:>12} {} {path}\n", file.mode & 0o7777, file.bytes, time.format("%Y-%m-%d %H:%M"))
}
