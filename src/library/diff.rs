//! What differs between two backups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Entry, FileEntry, Keys, LibraryError, Seen, Source, list_files};
use crate::model::manifest::Description;

/// What is in one and not in the other, or not the same in both. Lines are printable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Release, host name, Docker, containers, images, volumes, directories: `what: before -> after`.
    pub facts: Vec<String>,
    /// Members whose size differs, with both sizes; none = not there.
    pub members: Vec<(String, Option<u64>, Option<u64>)>,
    /// Files only in the later one.
    pub added: Vec<String>,
    /// Files of both that are not the same, with both sizes.
    pub changed: Vec<(String, u64, u64)>,
    /// Files only in the earlier one.
    pub gone: Vec<String>,
}

/// Compares two backups; files by kind, permissions, owner, size, time, where a link leads and what stands in them. `seen` is told of the bytes of both, decompressed.
///
/// # Errors
/// When one of them can't be read.
pub fn diff(a: &Entry, b: &Entry, keys: &Keys, seen: &Seen) -> Result<Difference, LibraryError> {
    let files = |entry: &Entry| -> Result<BTreeMap<String, FileEntry>, LibraryError> {
        let damaged = |reason| LibraryError::Damaged { name: entry.name(), reason };
        list_files(Source::of(entry, keys)?.seen_by(Arc::clone(seen)), &entry.manifest.description).map_err(damaged)
    };
    let (before, after) = (files(a)?, files(b)?);
    let sizes = |entry: &Entry| -> BTreeMap<String, u64> {
        let id = entry.manifest.description.stock_id.as_str();
        entry.manifest.archive.members.iter().map(|member| (member.name.replace(id, "ID"), member.bytes)).collect()
    };
    let (old, new) = (sizes(a), sizes(b));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    Ok(Difference {
        facts: facts(&a.manifest.description, &b.manifest.description),
        members: names
            .into_iter()
            .map(|name| (name.clone(), old.get(name).copied(), new.get(name).copied()))
            .filter(|(_, old, new)| old != new)
            .collect(),
        added: after.keys().filter(|path| !before.contains_key(*path)).cloned().collect(),
        changed: before
            .iter()
            .filter_map(|(path, old)| after.get(path).filter(|new| *new != old).map(|new| (path.clone(), old.bytes, new.bytes)))
            .collect(),
        gone: before.keys().filter(|path| !after.contains_key(*path)).cloned().collect(),
    })
}

fn facts(a: &Description, b: &Description) -> Vec<String> {
    let mut lines = Vec::new();
    let mut hold = |what: &str, before: String, after: String| {
        if before != after {
            lines.push(format!("{what}: {before} -> {after}"));
        }
    };
    hold("host", a.host.to_string(), b.host.to_string());
    hold("release", a.release.to_string(), b.release.to_string());
    hold("host name", a.hostname.clone(), b.hostname.clone());
    hold("uuid", a.uuid.clone(), b.uuid.clone());
    hold("docker", a.docker_version.clone(), b.docker_version.clone());
    hold("contents", format!("{:?}", a.contents).to_lowercase(), format!("{:?}", b.contents).to_lowercase());
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".into());
    let container = |of: &Description, service: &str| {
        let found = of.containers.iter().find(|c| c.service == service);
        or_none(found.map(|c| format!("{} of {} ({})", c.name, c.image, if c.running { "running" } else { "stopped" })))
    };
    let services: BTreeSet<&str> = a.containers.iter().chain(&b.containers).map(|c| c.service.as_str()).collect();
    for service in services {
        hold(service, container(a, service), container(b, service));
    }
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(" ") };
    hold("directories", list(a.directories.clone()), list(b.directories.clone()));
    let volumes = |of: &Description| list(of.volumes.iter().map(|v| format!("{}:{}", v.service, v.path)).collect());
    hold("volumes", volumes(a), volumes(b));
    let network: BTreeSet<&str> = a.network.iter().chain(&b.network).map(|(key, _)| key.as_str()).collect();
    let setting = |of: &Description, key: &str| or_none(of.network.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone()));
    for key in network {
        hold(key, setting(a, key), setting(b, key));
    }
    lines
}
