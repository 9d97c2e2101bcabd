//! Keeps an upload's memory flat. OpenDAL keeps the bytes of a part that was sent until it has to wait for one, and where a remote is faster than
//! the disk it never has to: the whole archive would come to lie in memory. So an answer is held back until somebody waits for it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Valve {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Parts before this one have passed.
    next: u32,
    waiting: BTreeSet<u32>,
    open: bool,
}

impl Valve {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For an upload that begins: the answer to part 0 passes first.
    pub(super) fn shut(&self) {
        *self.state() = State::default();
    }

    /// All that is left may pass.
    pub(super) fn open(&self) {
        self.state().open = true;
        self.changed.notify_waiters();
    }

    /// Somebody waits for the oldest part: its answer may pass, if it is there.
    pub(super) fn let_one_pass(&self) {
        let mut state = self.state();
        if state.waiting.contains(&state.next) {
            state.next += 1;
            self.changed.notify_waiters();
        }
    }

    /// Waits until the answer to this part may pass.
    pub(super) async fn pass(&self, part: u32) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Or what changes between the look and the wait would be missed.
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if state.open || part < state.next {
                    state.waiting.remove(&part);
                    return;
                }
                state.waiting.insert(part);
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn answers_pass_in_order_one_for_each_that_is_waited_for_and_all_at_the_end() {
        let valve = Arc::new(Valve::default());
        let passed = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for part in [2, 0, 1] {
            let (valve, passed) = (Arc::clone(&valve), Arc::clone(&passed));
            tasks.push(tokio::spawn(async move {
                valve.pass(part).await;
                passed.lock().unwrap().push(part);
            }));
        }
        let settle = || tokio::time::sleep(Duration::from_millis(20));
        settle().await;
        assert_eq!(*passed.lock().unwrap(), [0; 0]);
        valve.let_one_pass();
        settle().await;
        assert_eq!(*passed.lock().unwrap(), [0]);
        valve.let_one_pass();
        settle().await;
        assert_eq!(*passed.lock().unwrap(), [0, 1]);
        valve.open();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*passed.lock().unwrap(), [0, 1, 2]);
        valve.shut();
        valve.let_one_pass();
        assert!(tokio::time::timeout(Duration::from_millis(20), valve.pass(0)).await.is_err(), "nobody waited when that was said");
    }
}
