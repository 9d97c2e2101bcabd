//! How many logins knock at one server at once: sshd drops connections at random when more than its `MaxStartups` have not logged in
//! yet, ten on the masters of old. One that drops some is knocked at by fewer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Less than the ten that an sshd lets in unless told otherwise.
const AT_ONCE: usize = 8;
/// However many it drops.
const FEWEST: usize = 2;
/// So many that were let in make up for one that was dropped.
const WIDEN_AFTER: u64 = 16;
/// How often a dropped connection is made again at all.
pub(super) const MOST_TRIES: u32 = 60;
/// How often while the server lets nobody in at all.
pub(super) const RETRIES: u32 = 7;

/// A gate for each server.
#[derive(Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<String, Arc<Gate>>>,
}

struct Gate {
    turns: Arc<Semaphore>,
    /// How many may knock at once.
    width: Mutex<usize>,
    let_in: AtomicU64,
}

/// A turn at a server. Given back when it is dropped.
pub(super) struct Turn {
    gate: Arc<Gate>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Gates {
    /// Waits for a turn at a server: its address and port, and the way there, for behind another jump host it is another one.
    pub(super) async fn enter(&self, server: &str) -> Turn {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Gate { turns: Arc::new(Semaphore::new(AT_ONCE)), width: Mutex::new(AT_ONCE), let_in: AtomicU64::new(0) };
            Arc::clone(gates.entry(server.to_owned()).or_insert_with(|| Arc::new(new())))
        };
        // The semaphore is never closed: there is always a turn.
        let permit = Arc::clone(&gate.turns).acquire_owned().await.ok();
        Turn { gate, permit }
    }
}

impl Turn {
    /// The server let us in. After some of those it is knocked at by one more again.
    pub(super) fn let_in(&self) {
        let before = self.gate.let_in.fetch_add(1, Ordering::Relaxed);
        let mut width = self.gate.width.lock().unwrap_or_else(PoisonError::into_inner);
        if before % WIDEN_AFTER == WIDEN_AFTER - 1 && *width < AT_ONCE {
            self.gate.turns.add_permits(1);
            *width += 1;
        }
    }

    /// The server dropped us: one less at once from now on. Tells how many it has let in so far.
    pub(super) fn dropped(mut self) -> u64 {
        let mut width = self.gate.width.lock().unwrap_or_else(PoisonError::into_inner);
        if *width > FEWEST
            && let Some(permit) = self.permit.take()
        {
            permit.forget();
            *width -= 1;
        }
        drop(width);
        self.gate.let_in.load(Ordering::Relaxed)
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

    #[tokio::test]
    async fn a_server_that_drops_connections_is_knocked_at_by_fewer_but_never_by_none() {
        let gates = Gates::default();
        for _ in 0..20 {
            gates.enter("a:22").await.dropped();
        }
        let held = [gates.enter("a:22").await, gates.enter("a:22").await];
        let third = tokio::time::timeout(Duration::from_millis(50), gates.enter("a:22")).await;
        assert!(third.is_err());
        held[0].let_in();
        drop(held);
        assert_eq!(gates.enter("a:22").await.dropped(), 1);
        // Another port is another server.
        let others: Vec<Turn> = vec![gates.enter("a:23").await, gates.enter("a:23").await, gates.enter("a:23").await];
        assert_eq!(others.len(), 3);
    }
}
