//! What a backup's job on the master is given, and its beginning.

use std::path::Path;

use super::Context;
use crate::model::backup_plan::BackupPlan;
use crate::model::inventory::Host;
use crate::model::manifest::{CapturedContainer, Description};
use crate::model::release::REPOSITORIES;
use crate::remote::RemoteError;
use crate::remote::job::Job;
use crate::remote::link::Link;

pub(super) async fn start(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    description: &Description,
    plan: &BackupPlan,
) -> Result<(), RemoteError> {
    let state = |running| if running { "freeze" } else { "keep" };
    let save = |taken| if taken { "image" } else { "no-image" };
    let line = |(c, taken): &(CapturedContainer, bool)| format!("{} {} {} {}\n", c.name, c.image, state(c.running), save(*taken));
    let containers: String = plan.containers.iter().map(line).collect();
    // Packages first: lrzip hands on at once what it can't pack, and what it can pack holds up all that is behind it.
    let mut paths: Vec<&str> = plan.directories.iter().chain(&plan.mounts).map(|d| d.trim_start_matches('/')).collect();
    paths.sort_by_key(|path| !Path::new(path).starts_with(REPOSITORIES.trim_start_matches('/')));
    let directories: String = paths.iter().map(|path| format!(" {path}")).collect();
    let volumes: String = plan.volumes.iter().map(|(volume, from)| format!("{} {from} .\n", volume.member)).collect();
    let json = serde_json::to_vec_pretty(description).map_err(|e| RemoteError::Answer(e.to_string()))?;
    let files = [
        ("containers", containers.into_bytes()),
        ("trees", format!("system-dirs.tar /{directories}\n{volumes}").into_bytes()),
        ("dump.name", description.release.dump_member().as_bytes().to_vec()),
        ("description.json", json),
        ("images.bytes", format!("{} {}\n", plan.image_bytes, plan.largest_image_bytes).into_bytes()),
    ];
    let form = if description.release.images_together() { "together" } else { "separate" };
    let args = [
        description.stock_id.clone(),
        "backup".to_owned(),
        plan.freeze.as_str().to_owned(),
        host.freeze_timeout.unwrap_or(plan.freeze.default_timeout()).as_secs().to_string(),
        host.lease.as_secs().to_string(),
        form.to_owned(),
        description.release.supervisor().as_str().to_owned(),
        if plan.no_spool { "pipe" } else { "spool" }.to_owned(),
    ];
    job.start(link, "backup", &ctx.owner_now(), &args, &files).await
}
