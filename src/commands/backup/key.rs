//! The key of an encrypted archive that is on its way, kept on the master for a later run that goes on with it.

use std::time::Duration;

use super::super::{Context, READING};
use super::NotHome;
use crate::library::{ResumeKey, Writer};
use crate::model::inventory::Host;
use crate::remote::Script;
use crate::remote::job::Job;
use crate::remote::link::Link;

/// What opens an encrypted archive that is on its way, in its job's folder.
pub(super) const KEY: &str = "resume.key";
/// How long a line may stay broken meanwhile before anything is frozen: as long as a job is asked for then.
pub(super) const KEEPING: Duration = Duration::from_secs(90);

/// The master, which has the archive in the clear, keeps what a later run needs to go on with an encrypted one.
pub(super) async fn keep_key(
    ctx: &Context,
    host: &Host,
    job: &Job,
    link: &mut Link,
    writer: &Writer,
    patience: Duration,
) -> Result<(), NotHome> {
    let Some(key) = writer.key().map(ResumeKey::to_text) else { return Ok(()) };
    let script = Script::keep([job.path().to_owned(), KEY.to_owned(), key.len().to_string()]);
    match link.send(&script, key.as_bytes(), READING, patience).await {
        Ok(_) => writer.is_kept().map_err(|e| NotHome::of_library(&e)),
        Err(e) if e.is_broken_line() => Err(NotHome::of(host, &e)),
        Err(e) => {
            ctx.note(host, format!("should this run be ended, a later one would have to fetch the archive from its beginning: {e}"));
            Ok(())
        }
    }
}
