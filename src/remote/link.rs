//! A line to a master that is made again when it breaks. For calls that may be repeated: reading, polling, cleaning.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ssh::{self, Keyring, Session, WINDOW, window_for};
use super::{RemoteError, Script, Stdout};
use crate::model::inventory::Host;

/// A master and how to reach it again.
pub struct Link {
    host: Host,
    keyring: Arc<Keyring>,
    home: PathBuf,
    /// How many bytes may be on their way to us unasked.
    window: u32,
    session: Option<Session>,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// Unreachable, the key, the login, sudo, or no algorithm in common.
    pub async fn open(host: &Host, keyring: &Arc<Keyring>, home: PathBuf) -> Result<Self, RemoteError> {
        let session = ssh::connect(host, keyring, &home).await?;
        Ok(Self { host: host.clone(), keyring: Arc::clone(keyring), home, window: WINDOW, session: Some(session) })
    }

    /// Another line to the same master, which is connected when it is first used.
    #[must_use]
    pub fn another(&self) -> Self {
        self.another_with(WINDOW)
    }

    /// The same, with so many bytes that may be on their way to us unasked.
    pub(super) fn another_with(&self, window: u32) -> Self {
        Self { host: self.host.clone(), keyring: Arc::clone(&self.keyring), home: self.home.clone(), window, session: None }
    }

    /// Whether bulk data may not come as fast as it can.
    pub(super) fn is_limited(&self) -> bool {
        self.keyring.is_limited(&self.host)
    }

    /// How long a question takes there and back, asked over the line that is open; as long as can be where that isn't answered.
    pub async fn round_trip(&mut self) -> Duration {
        let asked = async { self.session().await?.round_trip().await };
        tokio::time::timeout(Duration::from_secs(10), asked).await.ok().and_then(Result::ok).unwrap_or(Duration::MAX)
    }

    /// Another line for one stream that much comes over.
    pub async fn another_for_bulk(&mut self) -> Self {
        let window = window_for(self.round_trip().await);
        self.another_with(window)
    }

    /// The session, made anew if it was lost.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn session(&mut self) -> Result<&Session, RemoteError> {
        if self.session.is_none() {
            self.session = Some(ssh::connect_with(&self.host, &self.keyring, &self.home, self.window).await?);
        }
        self.session.as_ref().ok_or_else(|| RemoteError::Lost("there is no session".into()))
    }

    /// How long a step may take.
    #[must_use]
    pub fn step_timeout(&self) -> Duration {
        self.host.step_timeout
    }

    /// How long an archive that nobody fetched stays on the master.
    #[must_use]
    pub fn keep_jobs(&self) -> Duration {
        self.host.keep_jobs
    }

    /// Work that is a step of its own, within the time that a step has.
    ///
    /// # Errors
    /// The work's own, or that it took too long.
    pub async fn within_step<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        let late = |_| RemoteError::TimedOut { what: what.to_owned(), seconds: limit.as_secs() };
        tokio::time::timeout(limit, work).await.map_err(late)?
    }

    /// Forgets a session that broke.
    pub fn drop_session(&mut self) {
        self.session = None;
    }

    /// Runs a script once, without trying again.
    ///
    /// # Errors
    /// See [`Session::run`].
    pub async fn run_once(&mut self, script: &Script, input: &[u8], limit: Duration) -> Result<Stdout, RemoteError> {
        let result = self.session().await?.run(script, input, limit).await;
        if matches!(result, Err(RemoteError::Lost(_) | RemoteError::TimedOut { .. })) {
            self.drop_session();
        }
        result
    }

    /// Runs a script that may be repeated: when the line is lost, connects again and repeats, until it has been lost for as long as `patience`.
    ///
    /// # Errors
    /// The last one, when patience is over; any other than a lost line at once.
    pub async fn run(&mut self, script: &Script, limit: Duration, patience: Duration) -> Result<Stdout, RemoteError> {
        self.repeat(script, b"", limit, patience, false).await
    }

    /// The same for an answer that is a piece of an archive: see [`Session::run_limited`].
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_limited(&mut self, script: &Script, limit: Duration, patience: Duration) -> Result<Stdout, RemoteError> {
        self.repeat(script, b"", limit, patience, true).await
    }

    /// The same with something on stdin.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn send(&mut self, script: &Script, input: &[u8], limit: Duration, patience: Duration) -> Result<Stdout, RemoteError> {
        self.repeat(script, input, limit, patience, false).await
    }

    async fn repeat(
        &mut self,
        script: &Script,
        input: &[u8],
        limit: Duration,
        patience: Duration,
        bulk: bool,
    ) -> Result<Stdout, RemoteError> {
        let mut lost: Option<Instant> = None;
        let mut pause = Duration::from_millis(200);
        loop {
            let result = match self.session().await {
                Ok(session) if bulk => session.run_limited(script, limit).await,
                Ok(session) => session.run(script, input, limit).await,
                Err(e) => Err(e),
            };
            let error = match result {
                Ok(stdout) => return Ok(stdout),
                Err(e) if e.is_broken_line() => e,
                Err(e) => return Err(e),
            };
            self.drop_session();
            if lost.get_or_insert_with(Instant::now).elapsed() + pause > patience {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}
