//! What a restore will do to a master, decided from the manifest and the target's facts before anything is touched (I4).

use super::astute::network_settings;
use super::backup_plan::{judge_tasks, missing_tools};
use super::facts::Facts;
use super::manifest::Manifest;
use super::release::Supervisor;
use super::tasks::{TaskList, UnreadableTasks};
use super::text::{human_bytes, printable};

/// What the scripts need on a target.
const NEEDED_TOOLS: [&str; 7] = ["tar", "lrzip", "docker", "dockerctl", "setsid", "flock", "sha256sum"];

/// A decided restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// What will be replaced, kept and restarted: a sentence each, in order.
    pub steps: Vec<String>,
    /// What the operator should look at twice.
    pub warnings: Vec<String>,
    /// Bytes that the target's spool must have free.
    pub spool_bytes: u64,
}

/// Decides a restore onto the target.
///
/// # Errors
/// With every reason that forbids it, a sentence each.
pub fn plan_restore(
    manifest: &Manifest,
    facts: &Facts,
    tasks: Result<TaskList, UnreadableTasks>,
    ignore_tasks: bool,
) -> Result<RestorePlan, Vec<String>> {
    let backup = &manifest.description;
    let mut reasons = missing_tools(facts, &NEEDED_TOOLS);
    let mut warnings = Vec::new();
    if facts.release != backup.release {
        reasons.push(format!(
            "it runs Fuel {} and the backup is of Fuel {}: only the same release can be restored",
            facts.release, backup.release
        ));
    }
    let supervisor = match backup.release.supervisor() {
        Supervisor::Supervisor => "supervisorctl",
        Supervisor::Systemd => "systemctl",
    };
    reasons.extend(missing_tools(facts, &[supervisor]));
    judge_tasks(tasks, ignore_tasks, &mut reasons, &mut warnings);
    if let Some(job) = facts.jobs.iter().find(|job| job.alive) {
        reasons.push(format!("another tanker works on it: {}", job.about));
    }
    for directory in facts.mountpoints.iter().filter(|d| backup.directories.contains(d)) {
        reasons.push(format!("{directory} is a mount point: tanker can't swap it for the restored one"));
    }
    let (spool_bytes, docker_bytes) = space_needed(manifest);
    space(&mut reasons, "the spool /var/backup/fuel", facts.spool_free_bytes, spool_bytes);
    space(&mut reasons, "/var/lib/docker", facts.docker_free_bytes, docker_bytes);
    if !reasons.is_empty() {
        return Err(reasons);
    }
    warnings.extend(network_warnings(manifest, facts));
    if !manifest.freeze.consistent {
        warnings.push("the backup was taken without a freeze: it may not be of one instant".into());
    }
    Ok(RestorePlan { steps: steps(manifest, facts), warnings, spool_bytes })
}

fn space(reasons: &mut Vec<String>, place: &str, free: u64, needed: u64) {
    if free < needed {
        reasons.push(format!("{place} has {} free and the restore needs about {}", human_bytes(free), human_bytes(needed)));
    }
}

/// On the spool: the archive, the tar and what is unpacked from it. For Docker: the images, once in its temporary folder
/// and once loaded, and what is committed of the containers that are replaced.
fn space_needed(manifest: &Manifest) -> (u64, u64) {
    let images: u64 =
        manifest.archive.members.iter().filter(|m| m.name.ends_with(".tar") && m.name != "system-dirs.tar").map(|m| m.bytes).sum();
    let spool = manifest.archive.bytes.saturating_add(manifest.archive.tar_bytes.saturating_mul(2)).saturating_add(64 << 20);
    (spool, images.saturating_mul(2).saturating_add(64 << 20))
}

fn steps(manifest: &Manifest, facts: &Facts) -> Vec<String> {
    let backup = &manifest.description;
    let services: Vec<&str> = backup.containers.iter().map(|c| c.service.as_str()).collect();
    let mut steps = vec![
        format!("push {} and prove it there; unpack it to the side; load {} images", human_bytes(manifest.archive.bytes), services.len()),
        format!("stop {} containers of Fuel {}", facts.containers.len(), facts.release),
        format!("replace {}", backup.directories.join(" ")),
        "keep the target's network settings of astute.yaml; everything else in it comes from the backup".to_owned(),
        "keep the key tanker came in with in /root/.ssh/authorized_keys".to_owned(),
        format!("recreate and start {}", services.join(" ")),
    ];
    if !backup.volumes.is_empty() {
        let volumes: Vec<String> = backup.volumes.iter().map(|v| format!("{}:{}", v.service, v.path)).collect();
        steps.push(format!("fill the volumes {}", volumes.join(" ")));
    }
    steps.push("check every container and nailgun's API; put everything back if any of this fails".to_owned());
    steps
}

fn network_warnings(manifest: &Manifest, facts: &Facts) -> Vec<String> {
    let backup = &manifest.description.network;
    let target = network_settings(&facts.astute);
    let of = |settings: &[(String, String)], key: &str| settings.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let mut warnings = Vec::new();
    for (key, theirs) in backup {
        let ours = of(&target, key);
        if ours.as_ref() == Some(theirs) {
            continue;
        }
        let ours = ours.unwrap_or_else(|| "not set".into());
        let loud = if key.starts_with("ADMIN_NETWORK.") { "THE ADMIN NETWORK DIFFERS: " } else { "" };
        warnings.push(printable(&format!("{loud}{key} is {theirs} in the backup and {ours} here; it stays {ours}")));
    }
    warnings
}
