//! The manifest: what an archive is, written last and beside it (I2). docs/archive-format.md describes every key.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::id::{BackupId, BackupRef, HostName, Which};
use super::release::Release;
use super::tasks::Task;

/// The format's version; a reader refuses a later one. From 2 on `SHA256SUMS` lies beside a manifest, and an archive can be encrypted.
pub const FORMAT: u32 = 2;

/// A backup, described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// What was captured, also inside the archive as `tanker.json`: an archive under a wrong name is found out by it.
    pub description: Description,
    /// When the backup was finished.
    pub finished: DateTime<Utc>,
    /// The archive file.
    pub archive: Archive,
    /// How consistent the capture is.
    pub freeze: Freeze,
    /// Whether tasks were looked at.
    pub tasks: TaskRecord,
    /// How the archive was proven.
    pub proof: Proof,
    /// Anything worth knowing, a sentence each.
    pub notes: Vec<String>,
}

/// What was captured: the part of the manifest that travels inside the archive too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The host's name in the inventory.
    pub host: HostName,
    /// The backup's id.
    pub id: BackupId,
    /// The id inside the archive: the suffix of its images.
    pub stock_id: String,
    /// When the backup began.
    pub started: DateTime<Utc>,
    /// The tanker that made it.
    pub tanker: String,
    /// The Fuel release.
    pub release: Release,
    /// The master's own host name.
    pub hostname: String,
    /// `/etc/fuel/fuel-uuid`.
    pub uuid: String,
    /// Docker's version.
    pub docker_version: String,
    /// The containers, in start order.
    pub containers: Vec<CapturedContainer>,
    /// Host directories, absolute.
    pub directories: Vec<String>,
    /// Volumes.
    pub volumes: Vec<CapturedVolume>,
    /// The network settings of its astute.yaml, flattened; no secrets.
    pub network: Vec<(String, String)>,
    /// How much of the master it holds.
    #[serde(default)]
    pub contents: Contents,
    /// Who made the archive.
    #[serde(default)]
    pub origin: Origin,
}

impl Manifest {
    /// The name of the job that restores it. Two hosts' backups can have one id: the archive's own digest tells them apart.
    #[must_use]
    pub fn restore_job(&self) -> String {
        format!("restore-{}-{}", self.description.id, self.archive.sha256.get(..8).unwrap_or_default())
    }
}

impl Description {
    /// The backup by its name.
    #[must_use]
    pub fn named(&self) -> BackupRef {
        BackupRef { host: self.host.clone(), which: Which::Id(self.id.clone()) }
    }
}

/// Who made an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// tanker; it describes itself inside.
    #[default]
    Tanker,
    /// `dockerctl backup`; its description was read from its members.
    Stock,
}

/// How much of a master a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contents {
    /// Everything.
    #[default]
    Full,
    /// State, configuration and the database dump; no package repositories, and only those images that hold state.
    Light,
}

/// A container whose rw layer was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedContainer {
    /// `nailgun`.
    pub service: String,
    /// `fuel-core-5.1-nailgun`.
    pub name: String,
    /// `fuel/nailgun_5.1`; in the archive it is called that, `_` and the stock id.
    pub image: String,
    /// Whether it ran (and was frozen).
    pub running: bool,
}

/// A volume, which stock never has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedVolume {
    /// The archive's member: a tar of the volume's contents.
    pub member: String,
    /// Whose.
    pub service: String,
    /// Where it is mounted in the container.
    pub path: String,
}

/// The archive file beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in hex, of the file.
    pub sha256: String,
    /// Size of the tar inside.
    pub tar_bytes: u64,
    /// The tar's members, in order.
    pub members: Vec<Member>,
    /// How it is encrypted; file, size and SHA-256 are those of the encrypted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// How an archive is encrypted: in age's format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// Whose keys open it: age's recipients, or `passphrase`.
    pub recipients: Vec<String>,
    /// Its size when it is decrypted.
    pub plain_bytes: u64,
}

/// A member of the tar inside the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// How the capture was kept consistent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// `pause`, `cgroup`, `stop` or `none`.
    pub method: FreezeMethod,
    /// From before the first container was frozen until the last was seen thawed, measured on the master, in milliseconds.
    pub milliseconds: u64,
    /// Whether the capture is of one instant; false without a freeze.
    pub consistent: bool,
    /// Where that time went: step, milliseconds.
    #[serde(default)]
    pub steps: Vec<(String, u64)>,
    /// What it was predicted to take, before it began.
    #[serde(default)]
    pub predicted_milliseconds: Option<u64>,
}

/// How containers are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FreezeMethod {
    /// `docker pause`.
    Pause,
    /// The freezer cgroup, written to directly: what `docker pause` does, for a Docker that has no such command.
    Cgroup,
    /// Stopped in order and started again: minutes on a real master, whose containers run puppet at every start.
    Stop,
    /// Not at all: the capture may be inconsistent.
    None,
}

impl FreezeMethod {
    /// The longest freeze unless somebody says otherwise.
    #[must_use]
    pub fn default_timeout(self) -> Duration {
        Duration::from_secs(if self == Self::Stop { 3600 } else { 120 })
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Cgroup => "cgroup",
            Self::Stop => "stop",
            Self::None => "none",
        }
    }
}

/// What was known of nailgun's tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "check")]
pub enum TaskRecord {
    /// None was unfinished before, and none began meanwhile.
    Clean,
    /// The operator said `--ignore-tasks`.
    Ignored {
        /// The unfinished ones, where they could be read.
        unfinished: Vec<Task>,
        /// Why they couldn't be read, where they couldn't.
        reason: Option<String>,
    },
}

/// How an archive was proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Where it was decompressed.
    pub place: ProofPlace,
    /// When.
    pub at: DateTime<Utc>,
}

/// Where an archive was decompressed to prove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofPlace {
    /// On the workstation, after the transfer, member by member.
    Workstation,
    /// On the master, before the transfer; the transfer is then held by the SHA-256.
    Master,
}

/// What a manifest of a later tanker's ends with.
pub const NEEDS_NEWER: &str = "a newer one is needed";

/// Why a manifest was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// Not the JSON that it should be.
    #[error("the manifest can't be read: {0}")]
    Unreadable(String),
    /// Written by a later tanker.
    #[error("the manifest has format {0}: this tanker reads up to {FORMAT}, {NEEDS_NEWER}")]
    TooNew(u32),
    /// A value that can't be.
    #[error("the manifest is wrong: {0}")]
    Wrong(String),
}

/// Reads a manifest.
///
/// # Errors
/// When it is no manifest of this format, or a value of it can't be.
pub fn parse_manifest(json: &str) -> Result<Manifest, BadManifest> {
    #[derive(Deserialize)]
    struct Probe {
        format: u32,
    }
    let unreadable = |e: serde_json::Error| BadManifest::Unreadable(super::text::printable(&e.to_string()));
    let probe: Probe = serde_json::from_str(json).map_err(unreadable)?;
    if probe.format > FORMAT {
        return Err(BadManifest::TooNew(probe.format));
    }
    let manifest: Manifest = serde_json::from_str(json).map_err(unreadable)?;
    let archive = &manifest.archive;
    let wrong = |what: &str| Err(BadManifest::Wrong(what.to_owned()));
    let name = archive_name(&manifest.description.stock_id);
    let expected = if archive.encryption.is_some() { encrypted_name(&name) } else { name };
    if archive.file != expected {
        return wrong("the archive's file name is not that of its id");
    }
    if archive.sha256.len() != 64 || !archive.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return wrong("the archive's SHA-256 is none");
    }
    let about = &manifest.description;
    if !super::stock::is_stock_id(&about.stock_id) {
        return wrong("its stock id is none");
    }
    let word = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace());
    let path = |text: &str| text.starts_with('/') && !text.contains(char::is_control) && !text.split('/').any(|part| part == "..");
    if !about.containers.iter().all(|c| word(&c.service) && word(&c.name) && word(&c.image)) {
        return wrong("a container has an impossible name");
    }
    if !about.volumes.iter().all(|v| word(&v.service) && word(&v.member) && path(&v.path)) || !about.directories.iter().all(|d| path(d)) {
        return wrong("a volume or directory has an impossible name");
    }
    if archive.members.iter().any(|m| !word(&m.name) || m.name.contains('/') || m.name.starts_with('.')) {
        return wrong("a member has an impossible name");
    }
    Ok(manifest)
}

/// The name of an archive file: the stock one.
#[must_use]
pub fn archive_name(stock_id: &str) -> String {
    format!("fuel_backup_{stock_id}.tar.lrz")
}

/// The name of an encrypted archive file.
#[must_use]
pub fn encrypted_name(archive_name: &str) -> String {
    format!("{archive_name}.age")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_a_later_format_is_refused_by_its_number() {
        let error = parse_manifest(r#"{"format": 99, "anything": true}"#).unwrap_err();
        assert!(error.to_string().contains("format 99"));
        assert!(matches!(parse_manifest("{"), Err(BadManifest::Unreadable(_))));
    }
}
