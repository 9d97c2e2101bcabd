//! How many logins knock at one server at once: sshd drops connections at random when more than its `MaxStartups` have not logged in
//! yet, ten on the masters of old.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Less than the ten that an sshd lets in unless told otherwise.
const AT_ONCE: usize = 8;
/// How often a dropped connection is made again.
pub(super) const RETRIES: u32 = 7;

/// A gate for each server.
#[derive(Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<(String, u16), Arc<Semaphore>>>,
}

impl Gates {
    /// Waits for a turn at a server. Given back when it is dropped.
    pub(super) async fn enter(&self, address: &str, port: u16) -> Option<OwnedSemaphorePermit> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(gates.entry((address.to_owned(), port)).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
        };
        // The semaphore is never closed: there is always a turn.
        gate.acquire_owned().await.ok()
    }
}

/// How long to wait before the next try. Each host waits a time of its own, or they would all come back together.
pub(super) fn pause(attempt: u32, host: &str) -> Duration {
    let spread = host.bytes().fold(u64::from(attempt) * 7919, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b))) % 100;
    let base = 150_u64 << attempt.min(5);
    Duration::from_millis(base + base * spread / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_differ_from_host_to_host() {
        assert!(pause(4, "a") > pause(1, "a") * 4);
        assert_ne!(pause(3, "east"), pause(3, "west"));
        assert!((0..RETRIES).map(|n| pause(n, "zzz")).sum::<Duration>() < Duration::from_secs(60));
    }
}
