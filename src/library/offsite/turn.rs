//! Whose turn it is to change what several workstations write at a home: the marks of a host's backups, and what goes for good. No two of the
//! protocols have one way of locking, so it is done by reading and writing one object (Fischer's algorithm): who reads that nobody has it writes its
//! own word there, waits for longer than the same takes anybody else, and has it if its word still stands.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{LibraryError, Offsite};
use crate::model::id::HostName;
use crate::model::text::printable;

/// Beside a host's backups.
const FILE: &str = ".turn";
/// From reading that nobody has it until the own word is there takes others less than this, or less than so many times what it takes here.
const SETTLED: Duration = Duration::from_millis(1500);
const SLOWER: u32 = 4;
/// A word that stands unchanged for so long is a dead one's. Nobody's clock but the waiting one's own counts.
const DEAD: Duration = Duration::from_secs(60);
const RENEWED: Duration = Duration::from_secs(15);
const LOOKS: Duration = Duration::from_millis(400);
/// Somebody's turn takes no longer, however much there is to write.
const PATIENCE: Duration = Duration::from_secs(600);

/// A turn that is held.
pub(super) struct Turn<'a> {
    offsite: &'a Offsite,
    path: String,
    word: Vec<u8>,
    who: String,
    since: Instant,
    times: u32,
}

impl Offsite {
    /// Waits for the turn at a host's backups.
    pub(super) async fn take_turn(&self, host: &HostName, owner: &str) -> Result<Turn<'_>, LibraryError> {
        let path = format!("{host}/{FILE}");
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(|e| LibraryError::Missing(format!("the system gives no random numbers: {e}")))?;
        let who = format!("{owner} {:016x}", u64::from_be_bytes(salt));
        let (began, mut standing) = (Instant::now(), (Vec::new(), Instant::now()));
        for times in 0.. {
            let read = Instant::now();
            let there = self.small(&path).await?.unwrap_or_default();
            if there != standing.0 {
                standing = (there.clone(), read);
            }
            if there.is_empty() || standing.1.elapsed() > DEAD {
                let word = format!("{who} {times}\n").into_bytes();
                self.write_small(&path, word.clone()).await?;
                // Who was so slow that it has written over the word of somebody who holds the turn is found out by that one, in the end.
                sleep(SETTLED.max(read.elapsed() * SLOWER)).await;
                if self.small(&path).await? == Some(word.clone()) {
                    return Ok(Turn { offsite: self, path, word, who, since: Instant::now(), times });
                }
            }
            if began.elapsed() > PATIENCE {
                let by = printable(String::from_utf8_lossy(&there).trim());
                return Err(LibraryError::Missing(format!(
                    "another tanker writes what is marked of {host} at {} and doesn't let go: {by}",
                    self.name
                )));
            }
            sleep(LOOKS).await;
        }
        Err(LibraryError::Missing("the turn was never ours".into()))
    }
}

impl Turn<'_> {
    /// Says from time to time that it is still held.
    pub(super) async fn renew(&mut self) -> Result<(), LibraryError> {
        if self.since.elapsed() < RENEWED || self.offsite.small(&self.path).await?.as_ref() != Some(&self.word) {
            return Ok(());
        }
        self.times += 1;
        self.word = format!("{} {}\n", self.who, self.times).into_bytes();
        self.since = Instant::now();
        self.offsite.write_small(&self.path, self.word.clone()).await
    }

    /// Gives it back. False where somebody else has taken it meanwhile: what was written may have been written over.
    pub(super) async fn end(self) -> Result<bool, LibraryError> {
        if self.offsite.small(&self.path).await?.as_ref() != Some(&self.word) {
            return Ok(false);
        }
        self.offsite.operator.delete(&self.path).await.map_err(|e| self.offsite.wrong("doesn't let it go", &e))?;
        Ok(true)
    }
}
