//! A backup under way, as much as must be known to bring it to its end: also by a later run, when the one that began it is gone.

use serde::{Deserialize, Serialize};

use super::backup_plan::BackupPlan;
use super::manifest::{Description, FreezeMethod};
use super::tasks::TaskList;
use super::text::printable;

/// The format's version: from 2 on the job's event names the SHA-256 of the list of blocks.
const FORMAT: u32 = 2;

/// What a later run must know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    format: u32,
    /// The job's folder name on the master.
    pub job: String,
    /// What is captured.
    pub description: Description,
    /// How it is frozen.
    pub freeze: FreezeMethod,
    /// The containers that are frozen.
    pub running: Vec<String>,
    /// The tasks as they were before; none where they couldn't be read and that was to be ignored.
    pub tasks: Option<TaskList>,
    /// Why they couldn't.
    pub unreadable: Option<String>,
    /// Sentences for the manifest.
    pub notes: Vec<String>,
}

impl Pending {
    /// A decided backup.
    #[must_use]
    pub fn new(job: &str, description: Description, plan: &BackupPlan, unreadable: Option<String>) -> Self {
        Self {
            format: FORMAT,
            job: job.to_owned(),
            description,
            freeze: plan.freeze,
            running: plan.containers.iter().filter(|(c, _)| c.running).map(|(c, _)| c.name.clone()).collect(),
            tasks: plan.tasks.clone(),
            unreadable,
            notes: plan.notes.clone(),
        }
    }
}

/// Reads what an earlier run wrote down.
///
/// # Errors
/// When it is none, or a later tanker's.
pub fn parse_pending(json: &[u8]) -> Result<Pending, String> {
    let pending: Pending = serde_json::from_slice(json)
        .map_err(|e| format!("what the earlier run wrote down can't be read: {}", printable(&e.to_string())))?;
    if pending.format != FORMAT {
        return Err(format!("it was begun by another version of tanker (format {})", pending.format));
    }
    Ok(pending)
}
