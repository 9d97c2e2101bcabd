//! Not more than so many bytes a second: for a host, and for all of a run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::id::HostName;
use crate::model::inventory::Host;

/// Hands out time for bytes, one taker after the other.
#[derive(Debug)]
pub(super) struct Bucket {
    bytes_per_second: u64,
    free: Mutex<Option<Instant>>,
}

impl Bucket {
    fn new(bytes_per_second: u64) -> Arc<Self> {
        Arc::new(Self { bytes_per_second: bytes_per_second.max(1), free: Mutex::new(None) })
    }

    /// Waits until these bytes may go. Whoever comes next waits for the time that they take.
    async fn take(&self, bytes: usize) {
        let turn = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = free.filter(|free| *free > now).unwrap_or(now);
            *free = Some(turn + Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.bytes_per_second));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

/// The limits that bear on one host's bulk data.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(Vec<Arc<Bucket>>);

impl Limits {
    /// As fast as the line allows.
    pub(super) const NONE: Self = Self(Vec::new());

    /// Waits until these bytes may go.
    pub(super) async fn take(&self, bytes: usize) {
        for bucket in &self.0 {
            bucket.take(bytes).await;
        }
    }

    /// Whether there is any: data then goes in small pieces.
    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The limits of a run. All connections of a host share its own.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    all: Option<Arc<Bucket>>,
    hosts: Mutex<HashMap<HostName, Arc<Bucket>>>,
}

impl Throttle {
    pub(super) fn of(all: Option<u64>) -> Self {
        Self { all: all.map(Bucket::new), hosts: Mutex::default() }
    }

    pub(super) fn limits(&self, host: &Host) -> Limits {
        let own = host.bwlimit.map(|rate| {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(hosts.entry(host.name.clone()).or_insert_with(|| Bucket::new(rate)))
        });
        Limits(own.into_iter().chain(self.all.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_the_time_that_the_limit_gives_them_whoever_sends_them() {
        let throttle = Throttle::of(Some(1000));
        let host = crate::model::inventory::parse_inventory("i", "[hosts.a]\nbwlimit='4K'\n").unwrap().hosts.remove(0);
        let (one, other) = (throttle.limits(&host), throttle.limits(&host));
        let began = Instant::now();
        for _ in 0..5 {
            one.take(500).await;
            other.take(500).await;
        }
        // What was taken first went at once.
        assert!((Duration::from_millis(4499)..Duration::from_millis(4700)).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}
