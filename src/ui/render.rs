//! Results as text. Whatever a master said is printable already (I8).

use std::fmt::Write;

use crate::commands::check::Checked;
use crate::commands::restore::Way;
use crate::commands::trust::Shown;
use crate::model::facts::{ContainerState, JobTrace};
use crate::model::id::HostName;
use crate::model::inventory::{Inventory, Target};
use crate::model::restore_plan::RestorePlan;
use crate::model::text::{first_ten, human_bytes, printable};
use crate::remote::ssh::Verdict;

/// What `check` found on one master.
#[must_use]
pub fn checked(host: &HostName, found: &Checked) -> String {
    let facts = &found.facts;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<11} {value}");
    };
    line("release", format!("Fuel {}, host name {}, uuid {}", facts.release, facts.hostname, facts.uuid));
    line("connection", found.negotiated.clone());
    let running = facts.containers.iter().filter(|c| c.state == ContainerState::Running).count();
    line(
        "docker",
        format!(
            "{}; {running} of {} Fuel containers run, {} others are left alone",
            facts.docker_version,
            facts.containers.len(),
            facts.other_containers
        ),
    );
    for container in facts.containers.iter().filter(|c| c.state != ContainerState::Running) {
        let state = if container.state == ContainerState::Paused { "paused" } else { "stopped" };
        line("", format!("{} is {state}", container.name));
    }
    let size: u64 = facts.directories.iter().map(|(_, bytes)| bytes).sum();
    line(
        "directories",
        format!("{} in {}", human_bytes(size), facts.directories.iter().map(|(d, _)| d.as_str()).collect::<Vec<_>>().join(" ")),
    );
    line(
        "space",
        format!("{} free for the spool, {} for Docker", human_bytes(facts.spool_free_bytes), human_bytes(facts.docker_free_bytes)),
    );
    for (tool, path) in &facts.tools {
        line("tool", format!("{tool}: {path}"));
    }
    line(
        "tasks",
        match &found.tasks {
            Ok((count, unfinished)) if unfinished.is_empty() => format!("{count}, none unfinished"),
            Ok((count, unfinished)) => format!("{count}, unfinished: {}", first_ten(unfinished, ", ")),
            Err(reason) => format!("can't be read: {reason}"),
        },
    );
    match &found.plan {
        Ok(plan) => {
            let count = plan.containers.iter().filter(|(c, _)| c.running).count();
            line("a backup", format!("would freeze {count} containers with {} ({})", plan.freeze.as_str(), plan.freeze_reason));
            line("", format!("would take {} volumes and needs {} of spool", plan.volumes.len(), human_bytes(plan.spool_bytes)));
            for note in &plan.notes {
                line("", note.clone());
            }
        }
        Err(reasons) => line("a backup", format!("would be refused: {}", reasons.join("; "))),
    }
    format!("{host}\n{text}")
}

/// What a restore will do.
#[must_use]
pub fn plan(backup: &str, to: &HostName, plan: &RestorePlan) -> String {
    let mut text = format!("Restore {backup} onto {to}:\n");
    for (n, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "  {}. {step}", n + 1);
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "  !! {warning}");
    }
    text
}

/// How a restore that came to no end is going to be ended.
#[must_use]
pub fn half_plan(to: &HostName, about: &str, way: Way) -> String {
    let mut text = format!("End the restore that came to no end on {to} ({about}):\n");
    text.push_str("  1. stop what runs of Fuel's containers; put directories, images and volumes back as they were before it\n");
    text.push_str("  2. start the containers, and check those that worked before it\n");
    if way == Way::Resume {
        text.push_str("  3. restore the same backup again, from what lies there unpacked\n");
    }
    text.push_str("  !! what has changed on it since that restore began is lost\n");
    text
}

/// The key a host shows.
#[must_use]
pub fn shown_key(shown: &Shown) -> String {
    let known = match shown.verdict() {
        Verdict::Known => "known already".to_owned(),
        Verdict::Unknown => "not known yet".to_owned(),
        Verdict::Changed(others) => format!("NOT the known one: {}", others.join(", ")),
        Verdict::OtherType(others) => {
            format!("not known yet, beside its known {}, which it can show with nothing better than SHA-1 or not at all", others.join(", "))
        }
        Verdict::Revoked => "REVOKED".to_owned(),
        Verdict::BadCertificate(reason) => format!("with a certificate that can't be taken: {reason}"),
    };
    format!("{} shows {} {}\n  {known}\n", shown.address, shown.algorithm, shown.fingerprint)
}

/// The jobs on a master.
#[must_use]
pub fn jobs(host: &HostName, jobs: &[JobTrace]) -> String {
    let mut text = format!("{host}\n");
    if jobs.is_empty() {
        text.push_str("  no job of tanker's\n");
    }
    for job in jobs {
        let frozen = if job.frozen { ", CONTAINERS FROZEN" } else { "" };
        let half = if job.half_restored && !job.alive { ", HALF RESTORED" } else { "" };
        let packed = job.packed.map(|bytes| format!(", PACKED: {} wait to be fetched", human_bytes(bytes))).unwrap_or_default();
        let pushed = job.pushed.map(|bytes| format!(", pushed: {}", human_bytes(bytes))).unwrap_or_default();
        let _ =
            writeln!(text, "  {} {}{frozen}{half}{packed}{pushed}: {}", job.name, if job.alive { "runs" } else { "has ended" }, job.about);
    }
    text
}

/// Hosts and how they are reached.
#[must_use]
pub fn hosts_table(inventory: &Inventory, names: &[HostName]) -> String {
    let mut rows = vec![["HOST", "REACHED AS", "THROUGH", "GROUPS", "LIBRARY"].map(str::to_owned)];
    for host in names.iter().filter_map(|name| inventory.host(name)) {
        let at = |target: &Target| printable(&format!("{}@{}:{}", target.endpoint.user, target.endpoint.address, target.endpoint.port));
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        rows.push([
            host.name.to_string(),
            at(&host.target),
            or_dash(host.jump.iter().map(at).collect::<Vec<_>>().join(" ")),
            or_dash(groups_of(inventory, &host.name).join(" ")),
            host.library.display().to_string(),
        ]);
    }
    let mut text = table(&rows);
    for host in names.iter().filter_map(|name| inventory.host(name)) {
        if let Some(why) = &host.refusal {
            let _ = writeln!(text, "{} can't be reached: {why}", host.name);
        }
        for note in &host.notes {
            let _ = writeln!(text, "{}: {note}", host.name);
        }
    }
    text
}

/// The same as JSON.
#[must_use]
pub fn hosts_json(inventory: &Inventory, names: &[HostName]) -> String {
    let at = |target: &Target| serde_json::json!({ "user": target.endpoint.user, "address": target.endpoint.address, "port": target.endpoint.port });
    let hosts: Vec<_> = names
        .iter()
        .filter_map(|name| inventory.host(name))
        .map(|host| {
            serde_json::json!({
                "host": host.name, "target": at(&host.target), "jump": host.jump.iter().map(at).collect::<Vec<_>>(),
                "groups": groups_of(inventory, &host.name), "library": host.library, "sudo": host.sudo, "legacy": host.legacy,
                "notes": host.notes, "refusal": host.refusal,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::json!({ "format": 1, "hosts": hosts }))
}

fn groups_of(inventory: &Inventory, name: &HostName) -> Vec<String> {
    inventory.groups.iter().filter(|(_, members)| members.contains(name)).map(|(group, _)| group.clone()).collect()
}

/// Columns as wide as they must be.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N).map(|n| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or(0)).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        text
    })
}
