//! Whether a master has room for what will be written there.

use super::facts::JobTrace;
use super::text::human_bytes;

/// A sentence where there is less space than needed.
#[must_use]
pub fn too_little_space(place: &str, free: u64, needed: u64, purpose: &str) -> Option<String> {
    (free < needed).then(|| format!("{place} has {} free and the {purpose} needs about {}", human_bytes(free), human_bytes(needed)))
}

/// What earlier runs left in the spool, and what removes it.
#[must_use]
pub fn leftovers(jobs: &[JobTrace]) -> String {
    let left: Vec<String> = jobs.iter().filter(|job| !job.alive && !job.half_restored).map(named).collect();
    if left.is_empty() { String::new() } else { format!("; 'tanker clean' removes what lies there of earlier runs: {}", left.join(", ")) }
}

fn named(job: &JobTrace) -> String {
    job.packed.or(job.pushed).map_or_else(|| job.name.clone(), |bytes| format!("{} ({})", job.name, human_bytes(bytes)))
}

/// What will lie in the spool at most: the outer tar with everything in it, and then beside it either the largest image
/// while it is appended, or the archive, which is taken to be no smaller than the tar. And what `docker save` lays out in
/// Docker's own folder: one image, or all that are saved together.
pub(super) fn backup_takes(directories: &[(String, u64)], images: impl Iterator<Item = u64> + Clone, together: bool) -> (u64, u64) {
    let all_images: u64 = images.clone().fold(0, u64::saturating_add);
    let content = directories.iter().map(|(_, bytes)| *bytes).fold(all_images, u64::saturating_add);
    let spool = content.saturating_mul(2).saturating_add(content / 10).saturating_add(64 << 20);
    let docker = if together { all_images } else { images.max().unwrap_or(0) };
    (spool, docker.saturating_add(64 << 20))
}

/// Without a spool there are still the lists of files, and what changes during the live pass.
pub(super) fn lists_take(directories: &[(String, u64)]) -> u64 {
    let content = directories.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
    (content / 50).saturating_add(16 << 20)
}
