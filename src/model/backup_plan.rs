//! What a backup of a master will do, decided from its facts before anything is touched.

use super::facts::{Container, ContainerState, Facts};
use super::manifest::{CapturedContainer, CapturedVolume, Contents, FreezeMethod};
use super::release::{REPOSITORIES, STATE};
use super::room::{backup_takes, leftovers, lists_take, too_little_space};
use super::tasks::{TaskList, UnreadableTasks};
use super::text::first_ten;

/// What the scripts need on a master.
const NEEDED_TOOLS: [&str; 6] = ["tar", "docker", "fuel", "setsid", "flock", "sha256sum"];
/// What packing there needs too, and sending members from a pipe instead.
const TO_PACK: &str = "lrzip";

/// The options of a backup that bear on its plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackupOptions {
    /// Go on with unfinished or unreadable tasks.
    pub ignore_tasks: bool,
    /// How to freeze; none = choose.
    pub freeze: Option<FreezeMethod>,
    /// No package repositories, no images but those that hold state.
    pub light: bool,
    /// Nothing is packed on the master.
    pub no_spool: bool,
}

/// A decided backup.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupPlan {
    /// How containers will be frozen.
    pub freeze: FreezeMethod,
    /// Why that way.
    pub freeze_reason: String,
    /// All containers, in start order, and whether each one's image is taken.
    pub containers: Vec<(CapturedContainer, bool)>,
    /// How much is taken.
    pub contents: Contents,
    /// Volumes and where they lie on the host.
    pub volumes: Vec<(CapturedVolume, String)>,
    /// Host directories.
    pub directories: Vec<String>,
    /// What is mounted below them and taken all the same.
    pub mounts: Vec<String>,
    /// Bytes that the spool must have free.
    pub spool_bytes: u64,
    /// Bytes of the images that are taken, without what the containers have written.
    pub image_bytes: u64,
    /// The same of the largest of them.
    pub largest_image_bytes: u64,
    /// Bytes that packing takes, wherever that is.
    pub packing_bytes: u64,
    /// Whether the archive is packed here, for want of room there.
    pub no_spool: bool,
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
    if !options.no_spool {
        reasons.extend(missing_tools(facts, &[TO_PACK]).into_iter().map(|missing| format!("{missing}: '--no-spool' packs here instead")));
    }
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
        let but = if directory == STATE && !facts.state_mounts.is_empty() { " except the state of containers" } else { "" };
        notes.push(format!("something is mounted at or below {directory}: what is mounted below it is not taken{but}"));
    }
    reasons.extend(jobs_in_the_way(facts));
    let contents = if options.light { Contents::Light } else { Contents::Full };
    let containers: Vec<(CapturedContainer, bool)> =
        facts.containers.iter().map(|c| (captured(c), !options.light || facts.release.holds_state_inside(&c.service))).collect();
    let mut directories: Vec<(String, u64)> = match contents {
        Contents::Full => facts.directories.clone(),
        Contents::Light => facts.directories.iter().filter(|(d, _)| d != REPOSITORIES).chain(&facts.plugins).cloned().collect(),
    };
    let is_taken = |path: &str| directories.iter().any(|(taken, _)| is_at_or_below(path, taken));
    reasons.extend(links_in_the_way(facts, |link| is_taken(link) || directories.iter().any(|(taken, _)| is_at_or_below(taken, link))));
    let mounts: Vec<String> = facts.state_mounts.iter().map(|(path, _)| path.clone()).filter(|path| is_taken(path)).collect();
    reasons.extend(
        facts
            .odd_mounts
            .iter()
            .map(|path| format!("'{path}' is mounted where containers keep their state, at a path that tanker doesn't take")),
    );
    // Their bytes are not among those of the directory around them.
    if let Some((_, bytes)) = directories.iter_mut().find(|(directory, _)| directory == STATE) {
        *bytes = facts.state_mounts.iter().fold(*bytes, |sum, (_, more)| sum.saturating_add(*more));
    }
    let images = facts.containers.iter().zip(&containers).filter(|(_, (_, taken))| *taken).map(|(c, _)| c.image_bytes);
    let image_bytes = images.clone().fold(0, u64::saturating_add);
    let largest_image_bytes = images.clone().max().unwrap_or(0);
    let (packing_bytes, docker_bytes) = backup_takes(&directories, images, facts.release.images_together());
    let spool_bytes = if options.no_spool { lists_take(&directories) } else { packing_bytes };
    let no_room = too_little_space("the spool /var/backup/fuel", facts.spool_free_bytes, spool_bytes, "backup");
    let remedy = if options.no_spool { "" } else { ": '--no-spool' packs here instead" };
    reasons.extend(no_room.map(|reason| format!("{reason}{remedy}{}", leftovers(&facts.jobs))));
    if options.no_spool {
        notes.push("packed on the workstation from what the master sent: it kept no spool".to_owned());
    }
    reasons.extend(too_little_space("/var/lib/docker", facts.docker_free_bytes, docker_bytes, "backup"));
    if !reasons.is_empty() {
        return Err(reasons);
    }
    Ok(BackupPlan {
        freeze,
        freeze_reason,
        containers,
        contents,
        volumes: facts.containers.iter().flat_map(volumes_of).collect(),
        directories: directories.into_iter().map(|(path, _)| path).collect(),
        mounts,
        spool_bytes,
        image_bytes,
        largest_image_bytes,
        packing_bytes,
        no_spool: options.no_spool,
        tasks,
        notes,
    })
}

/// A sentence for each job that must end first: another tanker's, or a restore that came to no end.
#[must_use]
pub fn jobs_in_the_way(facts: &Facts) -> Vec<String> {
    let busy = facts.jobs.iter().filter(|job| job.alive).map(|job| format!("another tanker works on it: {}", job.about));
    let half = facts.jobs.iter().filter(|job| !job.alive && job.half_restored).map(|job| {
        format!(
            "a restore of it came to no end ({}): 'tanker restore --to HOST --rollback', with its name here for HOST, puts it back, '--resume' instead does it again",
            job.name
        )
    });
    busy.chain(half).collect()
}

fn is_at_or_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A sentence for each directory that is only a link: what lies behind it would be neither saved nor swapped.
#[must_use]
pub fn links_in_the_way(facts: &Facts, concerns: impl Fn(&str) -> bool) -> Vec<String> {
    let sentence = |(directory, to): &(String, String)| {
        format!("{directory} is a symbolic link to {to}, and what lies there would not be saved: mount it there instead (mount --bind)")
    };
    facts.links.iter().filter(|(directory, _)| concerns(directory)).map(sentence).collect()
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
            (!unfinished.is_empty()).then(|| format!("unfinished: {}", first_ten(&unfinished, ", ")))
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
        Some(FreezeMethod::Cgroup) if !facts.freezer => {
            reasons.push("the kernel's freezer is not mounted on it: '--freeze stop' does without".to_owned());
            (FreezeMethod::Cgroup, String::new())
        }
        Some(FreezeMethod::Cgroup) => (FreezeMethod::Cgroup, "told to".into()),
        Some(FreezeMethod::Stop) => {
            reasons.extend(tools_to_stop(facts));
            (FreezeMethod::Stop, "told to: containers start slowly".into())
        }
        Some(FreezeMethod::Pause) if !can_pause => {
            reasons.push(format!("its Docker {version} can't pause containers (0.12 on can): '--freeze cgroup' does the same without it"));
            (FreezeMethod::Pause, String::new())
        }
        Some(FreezeMethod::Pause) => (FreezeMethod::Pause, "told to".into()),
        None if can_pause => (FreezeMethod::Pause, format!("Docker {version} can pause")),
        None if facts.freezer => (FreezeMethod::Cgroup, format!("Docker {version} can't pause, the kernel's freezer can")),
        None => {
            reasons.extend(tools_to_stop(facts));
            (FreezeMethod::Stop, format!("Docker {version} can't pause, and the kernel's freezer is not mounted"))
        }
    }
}

/// What stopping containers needs besides Docker.
fn tools_to_stop(facts: &Facts) -> Vec<String> {
    missing_tools(facts, &["dockerctl", facts.release.supervisor().tool()])
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::facts::JobTrace;
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
            docker_version: "1.4.1".into(),
            containers: vec![container("postgres", ContainerState::Running), container("nailgun", ContainerState::Paused)],
            other_containers: 0,
            directories: vec![("/etc/fuel".into(), 4096)],
            plugins: None,
            mountpoints: vec![],
            state_mounts: vec![],
            odd_mounts: vec![],
            links: vec![],
            spool_free_bytes: 1 << 40,
            docker_free_bytes: 1 << 40,
            freezer: true,
            tools: NEEDED_TOOLS.iter().chain(&[TO_PACK]).map(|t| ((*t).to_owned(), String::new())).collect::<BTreeMap<_, _>>(),
            astute: String::new(),
            jobs: vec![],
        }
    }

    #[test]
    fn i1_a_container_that_somebody_else_paused_is_saved_but_never_thawed() {
        let plan = plan_backup(&facts(), parse_tasks(0, "[]", ""), BackupOptions::default()).unwrap();
        let running: Vec<bool> = plan.containers.iter().map(|(c, _)| c.running).collect();
        assert_eq!(running, [true, false]);
        assert!(plan.notes[0].contains("stays paused"));
    }

    #[test]
    fn unreadable_tasks_refuse_and_only_the_operator_overrules() {
        let unreadable = || parse_tasks(1, "", "Unauthorized: need authentication!");
        let refused = plan_backup(&facts(), unreadable(), BackupOptions::default()).unwrap_err();
        assert!(refused[0].contains("Unauthorized"));
        let plan = plan_backup(&facts(), unreadable(), BackupOptions { ignore_tasks: true, ..BackupOptions::default() }).unwrap();
        assert!(plan.notes.iter().any(|note| note.contains("ignored as told to")));
    }

    #[test]
    fn every_reason_is_given_at_once() {
        let mut poor = facts();
        poor.spool_free_bytes = 0;
        poor.tools.remove("lrzip");
        poor.docker_version = "0.10.0".into();
        poor.links = vec![("/etc/fuel".into(), "/srv/fuel".into()), ("/var/www/nailgun".into(), "/srv/nailgun".into())];
        let pause = BackupOptions { freeze: Some(FreezeMethod::Pause), ..BackupOptions::default() };
        assert_eq!(plan_backup(&poor, parse_tasks(0, "[]", ""), pause).unwrap_err().len(), 4);
    }

    #[test]
    fn state_behind_a_link_forbids_and_what_is_mounted_there_is_taken() {
        let mut facts = facts();
        facts.directories.push((STATE.into(), 4096));
        facts.state_mounts = vec![("/var/lib/fuel/container_data".into(), 1 << 30)];
        let plan = plan_backup(&facts, parse_tasks(0, "[]", ""), BackupOptions::default()).unwrap();
        assert_eq!(plan.mounts, ["/var/lib/fuel/container_data"]);
        assert!(plan.packing_bytes > 2 << 30);
        facts.links = vec![("/var/lib/fuel/container_data".into(), "/data".into())];
        let refused = plan_backup(&facts, parse_tasks(0, "[]", ""), BackupOptions::default()).unwrap_err();
        assert!(refused[0].contains("symbolic link to /data"), "{refused:?}");
    }

    #[test]
    fn a_docker_that_can_not_pause_is_frozen_by_the_kernel() {
        let mut old = facts();
        old.docker_version = "0.10.0".into();
        let plan = plan_backup(&old, parse_tasks(0, "[]", ""), BackupOptions::default()).unwrap();
        assert_eq!(plan.freeze, FreezeMethod::Cgroup);
        old.freezer = false;
        old.tools.extend(["dockerctl", "supervisorctl"].map(|tool| (tool.to_owned(), String::new())));
        let plan = plan_backup(&old, parse_tasks(0, "[]", ""), BackupOptions::default()).unwrap();
        assert_eq!((plan.freeze, plan.freeze_reason.contains("not mounted")), (FreezeMethod::Stop, true));
    }

    #[test]
    fn a_light_backup_takes_only_the_images_that_hold_state_and_no_packages_but_plugins() {
        let mut facts = facts();
        facts.directories.push((REPOSITORIES.into(), 1 << 50));
        facts.plugins = Some(("/var/www/nailgun/plugins".into(), 4096));
        let light = BackupOptions { light: true, ..BackupOptions::default() };
        let plan = plan_backup(&facts, parse_tasks(0, "[]", ""), light).unwrap();
        assert_eq!(plan.containers.iter().map(|(_, taken)| *taken).collect::<Vec<_>>(), [true, false]);
        assert_eq!(plan.directories, ["/etc/fuel", "/var/www/nailgun/plugins"]);
    }

    #[test]
    fn i4_a_restore_that_came_to_no_end_is_in_the_way_of_everything_else() {
        let mut facts = facts();
        facts.jobs.push(JobTrace {
            name: "restore-x".into(),
            alive: false,
            frozen: false,
            half_restored: true,
            packed: None,
            pushed: None,
            about: String::new(),
        });
        let why = plan_backup(&facts, parse_tasks(0, "[]", ""), BackupOptions::default()).unwrap_err();
        assert!(why[0].contains("--rollback"), "{why:?}");
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version_at_least("1.10.2", &[1, 8]));
        assert!(!version_at_least("1.4.1", &[1, 8]));
        assert!(version_at_least("0.12", &[0, 12]));
    }
}
