//! What a backup of a master will do, decided from its facts before anything is touched.

use super::facts::{Container, ContainerState, Facts};
use super::manifest::{CapturedContainer, CapturedVolume, FreezeMethod};
use super::tasks::{TaskList, UnreadableTasks};

/// What the scripts need on a master.
const NEEDED_TOOLS: [&str; 7] = ["tar", "lrzip", "docker", "fuel", "setsid", "flock", "sha256sum"];

/// The options of a backup that bear on its plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackupOptions {
    /// Go on with unfinished or unreadable tasks.
    pub ignore_tasks: bool,
    /// How to freeze; none = choose.
    pub freeze: Option<FreezeMethod>,
}

/// A decided backup.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupPlan {
    /// How containers will be frozen.
    pub freeze: FreezeMethod,
    /// Why that way.
    pub freeze_reason: String,
    /// Containers to commit, in start order.
    pub containers: Vec<CapturedContainer>,
    /// Volumes and where they lie on the host.
    pub volumes: Vec<(CapturedVolume, String)>,
    /// Host directories.
    pub directories: Vec<String>,
    /// Bytes that the spool must have free.
    pub spool_bytes: u64,
    /// The tasks as they were before; none where they couldn't be read and that was to be ignored.
    pub tasks: Option<TaskList>,
    /// Sentences for the manifest and the operator.
    pub notes: Vec<String>,
}

/// Decides a backup.
///
/// # Errors
/// With every reason that forbids it, a sentence each; nothing has been touched then.
pub fn plan_backup(facts: &Facts, tasks: Result<TaskList, UnreadableTasks>, options: BackupOptions) -> Result<BackupPlan, Vec<String>> {
    let mut reasons = Vec::new();
    let mut notes = Vec::new();
    reasons.extend(missing_tools(facts, &NEEDED_TOOLS));
    if facts.containers.is_empty() {
        reasons.push(format!("no container of Fuel {} was found on it", facts.release));
    }
    let tasks = judge_tasks(tasks, options.ignore_tasks, &mut reasons, &mut notes);
    let (freeze, freeze_reason) = choose_freeze(facts, options.freeze, &mut reasons);
    for container in &facts.containers {
        match container.state {
            ContainerState::Paused => notes.push(format!("{} was paused before and stays paused", container.name)),
            ContainerState::Stopped => notes.push(format!("{} does not run: it is saved as it is", container.name)),
            ContainerState::Running => {}
        }
    }
    for directory in &facts.mountpoints {
        notes.push(format!("something is mounted at or below {directory}: what is mounted below it is not taken"));
    }
    if let Some(job) = facts.jobs.iter().find(|job| job.alive) {
        reasons.push(format!("another tanker works on it: {}", job.about));
    }
    let spool_bytes = spool_needed(facts);
    if facts.spool_free_bytes < spool_bytes {
        reasons.push(format!(
            "the spool /var/backup/fuel has {} free and the backup needs about {}",
            super::text::human_bytes(facts.spool_free_bytes),
            super::text::human_bytes(spool_bytes)
        ));
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    Ok(BackupPlan {
        freeze,
        freeze_reason,
        containers: facts.containers.iter().map(captured).collect(),
        volumes: facts.containers.iter().flat_map(volumes_of).collect(),
        directories: facts.directories.iter().map(|(path, _)| path.clone()).collect(),
        spool_bytes,
        tasks,
        notes,
    })
}

/// A sentence for each tool that isn't there.
#[must_use]
pub fn missing_tools(facts: &Facts, needed: &[&str]) -> Vec<String> {
    let missing = needed.iter().filter(|tool| !facts.tools.contains_key(**tool));
    missing.map(|tool| format!("{tool} is not installed on it")).collect()
}

/// Unfinished or unreadable tasks forbid, unless they are to be ignored; then they become notes.
pub fn judge_tasks(
    tasks: Result<TaskList, UnreadableTasks>,
    ignore: bool,
    reasons: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Option<TaskList> {
    let objection = match &tasks {
        Err(e) => Some(format!("its tasks can't be read: {e}")),
        Ok(list) => {
            let unfinished: Vec<String> = list.unfinished().iter().map(|task| task.describe()).collect();
            (!unfinished.is_empty()).then(|| format!("unfinished: {}", unfinished.join(", ")))
        }
    };
    match objection {
        Some(objection) if ignore => notes.push(format!("tasks ignored as told to: {objection}")),
        Some(objection) => reasons.push(objection),
        None => {}
    }
    tasks.ok()
}

fn choose_freeze(facts: &Facts, asked: Option<FreezeMethod>, reasons: &mut Vec<String>) -> (FreezeMethod, String) {
    let version = &facts.docker_version;
    let can_pause = version_at_least(version, &[0, 12]);
    match asked {
        Some(FreezeMethod::None) => (FreezeMethod::None, "told to: the capture may be inconsistent".into()),
        Some(FreezeMethod::Cgroup) => (FreezeMethod::Cgroup, "told to".into()),
        Some(FreezeMethod::Pause) if !can_pause => {
            reasons.push(format!("its Docker {version} can't pause containers (0.12 on can): '--freeze cgroup' does the same without it"));
            (FreezeMethod::Pause, String::new())
        }
        Some(FreezeMethod::Pause) => (FreezeMethod::Pause, "told to".into()),
        None if can_pause => (FreezeMethod::Pause, format!("Docker {version} can pause")),
        None => (FreezeMethod::Cgroup, format!("Docker {version} can't pause, the kernel's freezer can")),
    }
}

/// Whether a dotted version is this one or later.
#[must_use]
pub fn version_at_least(version: &str, least: &[u64]) -> bool {
    let parts: Vec<u64> = version.split('.').map_while(|part| part.parse().ok()).collect();
    (0..least.len()).map(|n| parts.get(n).copied().unwrap_or(0)).collect::<Vec<_>>().as_slice() >= least
}

fn captured(container: &Container) -> CapturedContainer {
    CapturedContainer {
        service: container.service.clone(),
        name: container.name.clone(),
        image: container.image.clone(),
        running: container.state == ContainerState::Running,
    }
}

fn volumes_of(container: &Container) -> impl Iterator<Item = (CapturedVolume, String)> + '_ {
    container.volumes.iter().enumerate().map(|(n, (path, from))| {
        let member = format!("tanker.volume.{}.{n}", container.service);
        (CapturedVolume { member, service: container.service.clone(), path: path.clone() }, from.clone())
    })
}

/// What will lie in the spool at most: the outer tar with everything in it, and then beside it either the largest image
/// while it is appended, or the archive, which is taken to be no smaller than the tar.
fn spool_needed(facts: &Facts) -> u64 {
    let directories: u64 = facts.directories.iter().map(|(_, bytes)| bytes).sum();
    let images: u64 = facts.containers.iter().map(|c| c.image_bytes).sum();
    let content = directories.saturating_add(images);
    content.saturating_mul(2).saturating_add(content / 10).saturating_add(64 << 20)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::tasks::parse_tasks;

    fn facts() -> Facts {
        let container = |service: &str, state| Container {
            service: service.into(),
            name: format!("fuel-core-5.1-{service}"),
            image: format!("fuel/{service}_5.1"),
            state,
            volumes: vec![],
            image_bytes: 1 << 20,
        };
        Facts {
            hostname: "east".into(),
            release: "5.1".parse().unwrap(),
            uuid: String::new(),
            time: 0,
            docker_version: "1.4.1".into(),
            containers: vec![container("postgres", ContainerState::Running), container("nailgun", ContainerState::Paused)],
            other_containers: 0,
            directories: vec![("/etc/fuel".into(), 4096)],
            mountpoints: vec![],
            spool_free_bytes: 1 << 40,
            docker_free_bytes: 1 << 40,
            tools: NEEDED_TOOLS.iter().map(|t| ((*t).to_owned(), String::new())).collect::<BTreeMap<_, _>>(),
            astute: String::new(),
            jobs: vec![],
        }
    }

    #[test]
    fn i1_a_container_that_somebody_else_paused_is_saved_but_never_thawed() {
        let plan = plan_backup(&facts(), parse_tasks(0, "[]", ""), BackupOptions::default()).unwrap();
        let running: Vec<bool> = plan.containers.iter().map(|c| c.running).collect();
        assert_eq!(running, [true, false]);
        assert!(plan.notes[0].contains("stays paused"));
    }

    #[test]
    fn unreadable_tasks_refuse_and_only_the_operator_overrules() {
        let unreadable = || parse_tasks(1, "", "Unauthorized: need authentication!");
        let refused = plan_backup(&facts(), unreadable(), BackupOptions::default()).unwrap_err();
        assert!(refused[0].contains("Unauthorized"));
        let plan = plan_backup(&facts(), unreadable(), BackupOptions { ignore_tasks: true, freeze: None }).unwrap();
        assert!(plan.notes.iter().any(|note| note.contains("ignored as told to")));
    }

    #[test]
    fn every_reason_is_given_at_once() {
        let mut poor = facts();
        poor.spool_free_bytes = 0;
        poor.tools.remove("lrzip");
        poor.docker_version = "0.10.0".into();
        let pause = BackupOptions { freeze: Some(FreezeMethod::Pause), ..BackupOptions::default() };
        assert_eq!(plan_backup(&poor, parse_tasks(0, "[]", ""), pause).unwrap_err().len(), 3);
    }

    #[test]
    fn a_docker_that_can_not_pause_is_frozen_by_the_kernel() {
        let mut old = facts();
        old.docker_version = "0.10.0".into();
        let plan = plan_backup(&old, parse_tasks(0, "[]", ""), BackupOptions::default()).unwrap();
        assert_eq!(plan.freeze, FreezeMethod::Cgroup);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version_at_least("1.10.2", &[1, 8]));
        assert!(!version_at_least("1.4.1", &[1, 8]));
        assert!(version_at_least("0.12", &[0, 12]));
    }
}
