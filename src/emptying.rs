//! What of the trash goes for good: the one step of looking after a library that nobody can take back.

use std::time::Duration;

use chrono::Utc;

use tanker::library::{HostLock, Library, LibraryError, Trashed};
use tanker::model::id::HostName;
use tanker::model::purge::purge;
use tanker::model::report::Severity;
use tanker::model::retention::Candidate;
use tanker::ui;

use crate::shelf::complain;
use crate::upkeep::candidate;

pub(crate) fn empty_trash(library: &Library, lock: &HostLock, host: &HostName, days: Duration) -> Result<Severity, LibraryError> {
    let mut worst = Severity::Ok;
    let listed: Vec<Candidate> = library.list(Some(host))?.0.iter().map(candidate).collect();
    for trashed in due(library, host, &listed, days)? {
        match library.purge(lock, &trashed) {
            Ok(()) => ui::err(&format!("tanker: {} has left the trash for good\n", trashed.entry.name())),
            Err(e) => worst = worst.max(complain(&e)),
        }
    }
    Ok(worst)
}

/// What of the trash goes for good, its days being over; what stays beyond them is said.
pub(crate) fn due(library: &Library, host: &HostName, listed: &[Candidate], days: Duration) -> Result<Vec<Trashed>, LibraryError> {
    let mut lying = library.trashed(host)?.0;
    let trashed: Vec<_> = lying.iter().map(|trashed| (candidate(&trashed.entry), trashed.deleted)).collect();
    let purge = purge(listed, &trashed, chrono::Duration::from_std(days).unwrap_or(chrono::Duration::MAX), Utc::now());
    for id in &purge.stays {
        ui::err(&format!(
            "tanker: {host}@{id} stays in the trash beyond its days: it is protected, or nothing that is listed is as good and as new\n"
        ));
    }
    lying.retain(|trashed| purge.goes.contains(&trashed.entry.manifest.description.id));
    Ok(lying)
}
