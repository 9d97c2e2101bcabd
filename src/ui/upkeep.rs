//! What looking after the library came to, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::render::table;
use crate::library::{Away, Depth, Difference, Entry, LibraryError, Problem, Trashed, Verified};
use crate::model::id::HostName;
use crate::model::manifest::Manifest;
use crate::model::text::{age_since, human_bytes, printable};

/// A host, its backups with why they are kept, and why nothing of it goes at all.
pub type Plan<'a> = (&'a HostName, &'a [(Manifest, Vec<String>)], Option<&'a str>);

/// A backup's marks, in a line.
#[must_use]
pub fn marks(entry: &Entry) -> String {
    let record = &entry.record;
    let protected = if record.protected { "protected" } else { "not protected" };
    let tags = if record.tags.is_empty() { "no tags".to_owned() } else { format!("tags {}", record.tags.join(" ")) };
    let note = record.note.as_ref().map(|note| format!(", note: {}", printable(note))).unwrap_or_default();
    format!("{}  {protected}, {tags}{note}\n", entry.name())
}

/// What verifications found, a line each.
#[must_use]
pub fn verified(results: &[(&Entry, &Result<Verified, LibraryError>)]) -> String {
    let mut text = String::new();
    for (entry, result) in results {
        match result {
            Ok(found) => {
                let what = match found.depth {
                    Depth::Hashed => "SHA-256",
                    Depth::Decompressed => "SHA-256, decompressed, every member",
                    Depth::Deep => "SHA-256, decompressed, every member and every file in it",
                };
                let locked = if entry.is_encrypted() && !found.decrypted { "; encrypted, and no key here opens it" } else { "" };
                let _ = writeln!(text, "{}  ok  {what}{locked}", entry.name());
            }
            Err(LibraryError::Damaged { name, reason }) => {
                let _ = writeln!(text, "{name}  DAMAGED  {}", printable(reason));
            }
            // Told already.
            Err(_) => {}
        }
    }
    text
}

/// The same as JSON.
#[must_use]
pub fn verified_json(results: &[(&Entry, &Result<Verified, LibraryError>)], broken: &[Problem]) -> String {
    let list: Vec<Value> = results
        .iter()
        .map(|(entry, result)| match result {
            Ok(found) => json!({ "name": entry.name(), "ok": true, "depth": found.depth.word(), "decrypted": found.decrypted }),
            Err(e) => {
                json!({ "name": entry.name(), "ok": false, "damaged": matches!(e, LibraryError::Damaged { .. }), "reason": e.to_string() })
            }
        })
        .collect();
    let problems: Vec<Value> = broken.iter().map(|problem| json!({ "name": problem.name(), "reason": problem.reason })).collect();
    format!("{:#}\n", json!({ "format": 1, "backups": list, "problems": problems }))
}

/// How many there are of each host and what they take; what lies in the trash takes as much.
#[must_use]
pub fn stats_table(entries: &[Entry], trashed: &[Trashed], now: DateTime<Utc>) -> String {
    let mut rows = vec![["HOST", "BACKUPS", "SIZE", "UNPACKED", "OLDEST", "NEWEST", "LAST ONE", "COPIES", "DRILLED"].map(str::to_owned)];
    let age = |entry: Option<&&Entry>| entry.map_or("-".into(), |e| age_since(e.manifest.description.started, now));
    let mut all = (0, 0, 0);
    for (host, of) in by_host(entries) {
        let (bytes, unpacked) = sums(&of);
        all = (all.0 + of.len(), all.1 + bytes, all.2 + unpacked);
        let newest = of.iter().max_by_key(|e| e.manifest.description.started);
        let oldest = of.iter().min_by_key(|e| e.manifest.description.started);
        let last = newest.map_or(0, |entry| entry.manifest.archive.bytes);
        let copied = of.iter().filter(|e| !e.record.copies.is_empty()).count();
        let drilled = of.iter().filter(|e| e.record.drills.last().is_some_and(|drill| drill.failure.is_none())).count();
        rows.push([
            host.to_string(),
            of.len().to_string(),
            human_bytes(bytes),
            human_bytes(unpacked),
            age(oldest),
            age(newest),
            human_bytes(last),
            copied.to_string(),
            drilled.to_string(),
        ]);
    }
    rows.push([
        "all".into(),
        all.0.to_string(),
        human_bytes(all.1),
        human_bytes(all.2),
        "".into(),
        "".into(),
        "".into(),
        "".into(),
        "".into(),
    ]);
    let trash = match trashed {
        [] => String::new(),
        some => format!("and {} in the trash, {}: 'tanker list --trash'\n", some.len(), human_bytes(trashed_bytes(some))),
    };
    table(&rows) + &trash
}

fn trashed_bytes(trashed: &[Trashed]) -> u64 {
    trashed.iter().map(|trashed| trashed.entry.manifest.archive.bytes).sum()
}

/// The same as JSON: `hosts` (host, backups, bytes, unpacked_bytes, oldest, newest, newest_bytes) and `trash` (backups, bytes).
#[must_use]
pub fn stats_json(entries: &[Entry], trashed: &[Trashed]) -> String {
    let hosts: Vec<Value> = by_host(entries)
        .into_iter()
        .map(|(host, of)| {
            let (bytes, unpacked) = sums(&of);
            let newest = of.iter().max_by_key(|e| e.manifest.description.started);
            json!({
                "host": host, "backups": of.len(), "bytes": bytes, "unpacked_bytes": unpacked,
                "oldest": of.iter().map(|e| e.manifest.description.started).min(),
                "newest": newest.map(|e| e.manifest.description.started), "newest_bytes": newest.map(|e| e.manifest.archive.bytes),
            })
        })
        .collect();
    format!("{:#}\n", json!({ "format": 1, "hosts": hosts, "trash": { "backups": trashed.len(), "bytes": trashed_bytes(trashed) } }))
}

fn by_host(entries: &[Entry]) -> BTreeMap<&HostName, Vec<&Entry>> {
    let mut found: BTreeMap<&HostName, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        found.entry(&entry.manifest.description.host).or_default().push(entry);
    }
    found
}

fn sums(of: &[&Entry]) -> (u64, u64) {
    (of.iter().map(|e| e.manifest.archive.bytes).sum(), of.iter().map(|e| e.manifest.archive.tar_bytes).sum())
}

/// What differs between two backups.
#[must_use]
pub fn difference(before: &Entry, after: &Entry, found: &Difference) -> String {
    let mut text = format!("{} -> {}\n", before.name(), after.name());
    for fact in &found.facts {
        let _ = writeln!(text, "  {}", printable(fact));
    }
    let size = |bytes: &Option<u64>| bytes.map_or_else(|| "not there".to_owned(), human_bytes);
    for (name, old, new) in &found.members {
        let _ = writeln!(text, "  member {}: {} -> {}", printable(name), size(old), size(new));
    }
    for path in &found.gone {
        let _ = writeln!(text, "- {path}");
    }
    for path in &found.added {
        let _ = writeln!(text, "+ {path}");
    }
    for (path, old, new) in &found.changed {
        let sizes = if old == new { String::new() } else { format!("  {old} -> {new} bytes") };
        let _ = writeln!(text, "~ {path}{sizes}");
    }
    let (added, changed, gone) = (found.added.len(), found.changed.len(), found.gone.len());
    let _ = writeln!(text, "{added} files added, {changed} changed, {gone} gone");
    text
}

/// The same as JSON.
#[must_use]
pub fn diff_json(before: &Entry, after: &Entry, found: &Difference) -> String {
    let members: Vec<Value> = found.members.iter().map(|(name, old, new)| json!({ "name": name, "before": old, "after": new })).collect();
    let changed: Vec<Value> = found.changed.iter().map(|(path, old, new)| json!({ "path": path, "before": old, "after": new })).collect();
    let value = json!({
        "format": 1, "before": before.name(), "after": after.name(), "facts": found.facts, "members": members,
        "added": found.added, "changed": changed, "gone": found.gone,
    });
    format!("{value:#}\n")
}

/// Why one stays that should have gone.
pub const NOT_MOVED: &str = "could not be moved";

/// What `forget` keeps and why, and what goes.
#[must_use]
pub fn forget_plan(plan: &[Plan<'_>], done: bool, remote: Option<&str>) -> String {
    let (mut text, mut going, mut bytes) = (String::new(), 0, 0);
    for (host, verdicts, withheld) in plan {
        let _ = writeln!(text, "{host}");
        if let Some(why) = withheld {
            let _ = writeln!(text, "  nothing goes: {why}");
        }
        for (manifest, kept_for) in *verdicts {
            let size = human_bytes(manifest.archive.bytes);
            let id = &manifest.description.id;
            if kept_for.is_empty() {
                (going, bytes) = (going + 1, bytes + manifest.archive.bytes);
                let _ = writeln!(text, "  {}  {id}  {size:>10}", if done { "gone" } else { "goes" });
            } else {
                let _ = writeln!(text, "  keep  {id}  {size:>10}  {}", kept_for.join(", "));
            }
        }
    }
    let stuck =
        plan.iter().flat_map(|(_, verdicts, _)| *verdicts).filter(|(_, kept_for)| kept_for.iter().any(|why| why == NOT_MOVED)).count();
    if stuck > 0 {
        let _ = writeln!(text, "{stuck} should have gone and could not be moved");
    }
    let _ = match (going, done) {
        (0, _) if stuck > 0 => Ok(()),
        (0, _) => writeln!(text, "nothing is to be forgotten"),
        (_, true) if remote.is_some() => writeln!(text, "{going} removed from {} ({})", remote.unwrap_or_default(), human_bytes(bytes)),
        (_, true) => writeln!(text, "{going} moved into the trash ({}): 'tanker undelete' takes them back", human_bytes(bytes)),
        (_, false) => writeln!(text, "{going} would go ({}); nothing was changed: say --yes", human_bytes(bytes)),
    };
    text
}

/// The same as JSON.
#[must_use]
pub fn forget_json(plan: &[Plan<'_>], done: bool) -> String {
    let hosts: Vec<Value> = plan
        .iter()
        .map(|(host, verdicts, withheld)| {
            let backups: Vec<Value> = verdicts
                .iter()
                .map(|(manifest, kept_for)| {
                    let name = format!("{}@{}", manifest.description.host, manifest.description.id);
                    json!({ "name": name, "keep": !kept_for.is_empty(), "reasons": kept_for, "bytes": manifest.archive.bytes })
                })
                .collect();
            json!({ "host": host, "withheld": withheld, "backups": backups })
        })
        .collect();
    format!("{:#}\n", json!({ "format": 1, "done": done, "hosts": hosts }))
}

/// What lies in the trash.
#[must_use]
pub fn trash_table(found: &[Trashed], now: DateTime<Utc>) -> String {
    let mut rows = vec![["BACKUP", "TAKEN (UTC)", "SIZE", "FORGOTTEN"].map(str::to_owned)];
    for trashed in found {
        let manifest = &trashed.entry.manifest;
        rows.push([
            trashed.entry.name(),
            manifest.description.started.format("%Y-%m-%d %H:%M:%S").to_string(),
            human_bytes(manifest.archive.bytes),
            trashed.deleted.map_or("nobody knows when".into(), |at| age_since(at, now)),
        ]);
    }
    table(&rows)
}

/// The same as JSON.
#[must_use]
pub fn trash_json(found: &[Trashed]) -> String {
    let list: Vec<Value> = found
        .iter()
        .map(|trashed| json!({ "name": trashed.entry.name(), "folder": trashed.entry.folder, "deleted": trashed.deleted, "bytes": trashed.entry.manifest.archive.bytes }))
        .collect();
    format!("{:#}\n", json!({ "format": 1, "backups": list }))
}

/// What a remote has.
#[must_use]
pub fn away_table(away: &[Away], now: DateTime<Utc>) -> String {
    let mut rows = vec![["BACKUP", "TAKEN (UTC)", "AGE", "SIZE", "FUEL", ""].map(str::to_owned)];
    for found in away {
        let manifest = &found.manifest;
        rows.push([
            found.name(),
            manifest.description.started.format("%Y-%m-%d %H:%M:%S").to_string(),
            age_since(manifest.description.started, now),
            human_bytes(manifest.archive.bytes),
            manifest.description.release.to_string(),
            if manifest.archive.encryption.is_some() { "encrypted".into() } else { String::new() },
        ]);
    }
    table(&rows)
}

/// The same as JSON.
#[must_use]
pub fn away_json(away: &[Away], problems: &[Problem]) -> String {
    let problems: Vec<String> = problems.iter().map(|problem| format!("{}: {}", problem.name(), problem.reason)).collect();
    let list: Vec<Value> = away.iter().map(|found| json!({ "name": found.name(), "manifest": found.manifest })).collect();
    format!("{:#}\n", json!({ "format": 1, "backups": list, "problems": problems }))
}

/// What looking at copies found: a backup, and what is wrong with it.
#[must_use]
pub fn verified_away(remote: &str, results: &[(String, Result<(), LibraryError>)]) -> String {
    let mut text = String::new();
    for (name, result) in results {
        let _ = match result {
            Ok(()) => writeln!(text, "{name}  ok  SHA-256, read back from {remote}"),
            Err(LibraryError::Damaged { reason, .. }) => writeln!(text, "{name}  DAMAGED  {}", printable(reason)),
            Err(e) => writeln!(text, "{name}  not looked at  {}", printable(&e.to_string())),
        };
    }
    text
}

/// The same as JSON.
#[must_use]
pub fn verified_away_json(remote: &str, results: &[(String, Result<(), LibraryError>)]) -> String {
    let list: Vec<Value> = results
        .iter()
        .map(|(name, result)| {
            let damaged = matches!(result, Err(LibraryError::Damaged { .. }));
            let reason = result.as_ref().err().map(ToString::to_string);
            json!({ "name": name, "ok": result.is_ok(), "damaged": damaged, "reason": reason })
        })
        .collect();
    format!("{:#}\n", json!({ "format": 1, "remote": remote, "backups": list }))
}
