//! What a restore will do to a master, decided from the manifest and the target's facts before anything is touched (I4).

use super::astute::{merge, network_settings};
use super::backup_plan::{jobs_in_the_way, judge_tasks, links_in_the_way, missing_tools};
use super::facts::{ContainerState, Facts};
use super::manifest::Manifest;
use super::release::REPOSITORIES;
use super::restore_parts::{Part, Selection, choose};
use super::room::{leftovers, too_little_space};
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
    /// What will be replaced.
    pub selection: Selection,
}

/// What the operator asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions<'a> {
    /// Go on with unfinished or unreadable tasks.
    pub ignore_tasks: bool,
    /// Only these parts; none means all.
    pub only: &'a [Part],
}

/// Decides a restore onto the target.
///
/// # Errors
/// With every reason that forbids it, a sentence each.
pub fn plan_restore(
    manifest: &Manifest,
    facts: &Facts,
    tasks: Result<TaskList, UnreadableTasks>,
    options: RestoreOptions<'_>,
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
    reasons.extend(missing_tools(facts, &[backup.release.supervisor().tool()]));
    judge_tasks(tasks, options.ignore_tasks, &mut reasons, &mut warnings);
    reasons.extend(jobs_in_the_way(facts));
    reasons.extend(paused(facts));
    let selection = choose(backup, options.only).unwrap_or_else(|missing| {
        reasons.extend(missing);
        Selection::default()
    });
    reasons.extend(links_in_the_way(facts, |link| selection.directories.iter().any(|directory| directory == link)));
    for directory in facts.mountpoints.iter().filter(|d| selection.directories.contains(d)) {
        reasons.push(format!("{directory} is a mount point or holds one: tanker can't swap it for the restored one"));
    }
    if selection.directories.iter().any(|d| d == "/etc/fuel") {
        reasons.extend(unusable_settings(&facts.astute));
    }
    let (spool_bytes, docker_bytes) = space_needed(manifest, &selection);
    // What the same restore has pushed already lies where it is counted.
    let own = manifest.restore_job();
    let pushed = facts.jobs.iter().find(|job| job.name == own).and_then(|job| job.pushed).unwrap_or(0);
    let to_come = spool_bytes.saturating_sub(pushed.min(manifest.archive.bytes));
    let no_room = too_little_space("the spool /var/backup/fuel", facts.spool_free_bytes, to_come, "restore");
    reasons.extend(no_room.map(|reason| reason + &leftovers(&facts.jobs)));
    reasons.extend(too_little_space("/var/lib/docker", facts.docker_free_bytes, docker_bytes, "restore"));
    if !reasons.is_empty() {
        return Err(reasons);
    }
    warnings.extend(network_warnings(manifest, facts));
    if !manifest.freeze.consistent {
        warnings.push("the backup was taken without a freeze: it may not be of one instant".into());
    }
    if selection.directories.iter().any(|d| d == "/root/.ssh") && !selection.directories.iter().any(|d| d == REPOSITORIES) {
        warnings.push(
            "/root/.ssh comes from the backup and the bootstrap image stays: where it holds another key, nodes that boot from it refuse the \
             master until the image is made anew (8.0: fuel-bootstrap build --activate)"
                .into(),
        );
    }
    if selection.containers.len() < facts.containers.len() {
        warnings.push("not all containers are made anew: those that stay keep their own layer, and are only restarted".into());
    }
    Ok(RestorePlan { steps: steps(manifest, facts, &selection), warnings, spool_bytes, selection })
}

/// What forbids the cutover now, at its very edge: pushing may have taken hours since the plan was made.
///
/// # Errors
/// With a sentence for each reason.
pub fn may_cut_over(facts: &Facts, tasks: Result<TaskList, UnreadableTasks>, ignore_tasks: bool) -> Result<(), Vec<String>> {
    let mut reasons = paused(facts);
    judge_tasks(tasks, ignore_tasks, &mut reasons, &mut Vec::new());
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// The target's own network settings are needed to restore its configuration: that they can't be read is said before hours of pushing.
fn unusable_settings(astute: &str) -> Option<String> {
    let why = match merge(astute, astute) {
        _ if astute.trim().is_empty() => "is not there, or empty".to_owned(),
        Ok(_) => return None,
        Err(unmergeable) => format!("can't be read ({})", unmergeable.reason()),
    };
    Some(format!(
        "its /etc/fuel/astute.yaml {why}, and this master's network settings, which it keeps, stand there: put one there that is whole \
         ('tanker extract' takes the backup's out of the archive), or restore other parts with --only"
    ))
}

fn paused(facts: &Facts) -> Vec<String> {
    let paused = facts.containers.iter().filter(|container| container.state == ContainerState::Paused);
    paused.map(|container| format!("{} is paused, and can't be stopped so: unpause it first", container.name)).collect()
}

/// On the spool: the archive, the tar and what is unpacked from it. For Docker: the images that are loaded, once in its temporary folder
/// and once loaded, and what is committed of the containers that are replaced.
fn space_needed(manifest: &Manifest, selection: &Selection) -> (u64, u64) {
    let own = |image: &str| format!("{}_{}.tar", image.replace('/', "__"), manifest.description.stock_id);
    let is_loaded = |member: &str| match member {
        "docker-images.tar" => !selection.containers.is_empty(),
        _ => selection.containers.iter().any(|container| own(&container.image) == member),
    };
    let images: u64 = manifest.archive.members.iter().filter(|m| is_loaded(&m.name)).map(|m| m.bytes).sum();
    let spool = manifest.archive.bytes.saturating_add(manifest.archive.tar_bytes.saturating_mul(2)).saturating_add(64 << 20);
    (spool, images.saturating_mul(2).saturating_add(64 << 20))
}

fn steps(manifest: &Manifest, facts: &Facts, selection: &Selection) -> Vec<String> {
    let services: Vec<&str> = selection.containers.iter().map(|c| c.service.as_str()).collect();
    let mut steps = vec![
        format!("push {} and prove it there; unpack it to the side; load {} images", human_bytes(manifest.archive.bytes), services.len()),
        format!("stop {} containers of Fuel {}", facts.containers.len(), facts.release),
    ];
    if !selection.directories.is_empty() {
        steps.push(format!("replace {}", selection.directories.join(" ")));
    }
    if selection.directories.iter().any(|d| d == "/etc/fuel") {
        steps.push("keep the target's network settings of astute.yaml; everything else in it comes from the backup".to_owned());
    }
    if selection.directories.iter().any(|d| d == "/root/.ssh") {
        steps.push("keep the key tanker came in with in /root/.ssh/authorized_keys".to_owned());
    }
    if selection.directories.iter().any(|d| d == "/etc/dockerctl") {
        steps.push("keep the address that the target publishes its containers at (ADMIN_IP in /etc/dockerctl/config)".to_owned());
    }
    if !services.is_empty() {
        steps.push(format!("recreate {}", services.join(" ")));
    }
    steps.push("start every container in order".to_owned());
    if !selection.volumes.is_empty() {
        let volumes: Vec<String> = selection.volumes.iter().map(|v| format!("{}:{}", v.service, v.path)).collect();
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, Utc};

    use super::*;
    use crate::model::facts::JobTrace;
    use crate::model::manifest::{Archive, Description, FORMAT, Freeze, FreezeMethod, Member, Proof, ProofPlace, TaskRecord};
    use crate::model::tasks::parse_tasks;

    fn manifest() -> Manifest {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        Manifest {
            format: FORMAT,
            description: Description {
                host: "east".parse().unwrap(),
                id: "2026-11-22-14_07".parse().unwrap(),
                stock_id: "2026-11-22_1407".into(),
                started: at,
                tanker: "0.1.0".into(),
                release: "5.1".parse().unwrap(),
                hostname: "east".into(),
                uuid: String::new(),
                docker_version: "0.10.0".into(),
                containers: vec![],
                directories: vec!["/etc/fuel".into()],
                volumes: vec![],
                network: network_settings("ADMIN_NETWORK:\n  cidr: 10.20.0.0/24\nNTP1: a\n"),
                contents: crate::model::manifest::Contents::Full,
                origin: crate::model::manifest::Origin::Tanker,
            },
            finished: at,
            archive: Archive {
                file: "fuel_backup_2026-11-22_1407.tar.lrz".into(),
                bytes: 1 << 20,
                sha256: "0".repeat(64),
                tar_bytes: 10 << 20,
                members: vec![Member { name: "fuel__nailgun_5.1_2026-11-22_1407.tar".into(), bytes: 5 << 20 }],
                encryption: None,
            },
            freeze: Freeze { method: FreezeMethod::Pause, milliseconds: 1, consistent: true, steps: vec![], predicted_milliseconds: None },
            tasks: TaskRecord::Clean,
            proof: Proof { place: ProofPlace::Workstation, at },
            notes: vec![],
        }
    }

    fn target() -> Facts {
        Facts {
            hostname: "east".into(),
            release: "5.1".parse().unwrap(),
            uuid: String::new(),
            docker_version: "0.10.0".into(),
            containers: vec![],
            other_containers: 0,
            directories: vec![],
            plugins: None,
            mountpoints: vec![],
            state_mounts: vec![],
            odd_mounts: vec![],
            links: vec![],
            spool_free_bytes: 1 << 40,
            docker_free_bytes: 1 << 40,
            freezer: true,
            tools: NEEDED_TOOLS.iter().chain(&["supervisorctl"]).map(|t| ((*t).to_owned(), String::new())).collect::<BTreeMap<_, _>>(),
            astute: "ADMIN_NETWORK:\n  cidr: 10.30.0.0/24\nNTP1: a\n".into(),
            jobs: vec![],
        }
    }

    fn refusal(facts: &Facts) -> String {
        plan_restore(&manifest(), facts, parse_tasks(0, "[]", ""), RestoreOptions::default()).unwrap_err().join("; ")
    }

    #[test]
    fn i4_another_release_too_little_space_or_a_mount_point_is_refused_by_the_plan() {
        let mut other = target();
        other.release = "5.1.1".parse().unwrap();
        assert!(refusal(&other).contains("runs Fuel 5.1.1 and the backup is of Fuel 5.1"));
        let mut full = target();
        (full.spool_free_bytes, full.docker_free_bytes) = (20 << 20, 8 << 20);
        let why = refusal(&full);
        assert!(why.contains("/var/backup/fuel has 20.0 MiB free") && why.contains("/var/lib/docker has 8.0 MiB free"), "{why}");
        // What was pushed before isn't asked for again, and what else lies there is named.
        let job = |name: &str, packed, pushed| JobTrace {
            name: name.into(),
            alive: false,
            frozen: false,
            half_restored: false,
            packed,
            pushed,
            about: String::new(),
        };
        let mut again = target();
        let (whole, _) = space_needed(&manifest(), &choose(&manifest().description, &[]).unwrap());
        again.spool_free_bytes = whole - manifest().archive.bytes;
        again.jobs = vec![job("backup-1", Some(7 << 20), None)];
        assert!(refusal(&again).contains("; 'tanker clean' removes what lies there of earlier runs: backup-1 (7.0 MiB)"));
        again.jobs.push(job(&manifest().restore_job(), None, Some(manifest().archive.bytes)));
        assert!(plan_restore(&manifest(), &again, parse_tasks(0, "[]", ""), RestoreOptions::default()).is_ok());
        let mut mounted = target();
        mounted.mountpoints = vec!["/etc/fuel".into()];
        assert!(refusal(&mounted).contains("mount point"));
        let running = parse_tasks(0, r#"[{"id":1,"name":"deploy","status":"running"}]"#, "");
        assert!(
            plan_restore(&manifest(), &target(), running, RestoreOptions::default()).unwrap_err()[0].contains("task 1 deploy (running)")
        );
    }

    #[test]
    fn a_differing_admin_network_is_said_loudly_and_what_is_the_same_is_not_said() {
        let plan = plan_restore(&manifest(), &target(), parse_tasks(0, "[]", ""), RestoreOptions::default()).unwrap();
        let loud =
            "THE ADMIN NETWORK DIFFERS: ADMIN_NETWORK.cidr is 10.20.0.0/24 in the backup and 10.30.0.0/24 here; it stays 10.30.0.0/24";
        assert_eq!(plan.warnings, [loud]);
    }
}
