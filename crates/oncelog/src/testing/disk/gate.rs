//! A gate at which syncs wait, so that tests of group commit need no sleeps.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::SimulatedDisk;
use super::state::State;

/// Far longer than any test waits: it only turns a test that hangs into one that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// While it lives, syncs of files wait; when the last one is dropped, they go on. What such a sync
/// makes durable is what was written before it began to wait.
#[derive(Debug)]
#[must_use = "dropping the gate opens it"]
pub struct SimulatedGate {
    disk: SimulatedDisk,
}

impl SimulatedGate {
    pub(super) fn new(disk: &SimulatedDisk) -> Self {
        disk.state().gates += 1;
        Self { disk: disk.clone() }
    }

    /// How many syncs are waiting.
    pub fn waiting_syncs(&self) -> u64 {
        self.disk.state().waiting_syncs
    }

    /// Blocks until at least `count` syncs are waiting.
    ///
    /// # Panics
    /// After 30 seconds, so that a test which would hang fails.
    pub fn wait_until_syncs_wait(&self, count: u64) {
        let mut state = self.disk.state();
        while state.waiting_syncs < count {
            let changed = &self.disk.shared.changed;
            let waited = changed.wait_timeout(state, PATIENCE);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            let waiting = state.waiting_syncs;
            assert!(
                waiting >= count || !timeout.timed_out(),
                "{waiting} syncs are waiting, {count} were expected"
            );
        }
    }
}

impl Drop for SimulatedGate {
    fn drop(&mut self) {
        self.disk.state().gates -= 1;
        self.disk.shared.changed.notify_all();
    }
}

impl SimulatedDisk {
    /// Waits until no gate is held.
    pub(super) fn pass_gate<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        if state.gates == 0 {
            return state;
        }
        state.waiting_syncs += 1;
        self.shared.changed.notify_all();
        while state.gates > 0 {
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting_syncs -= 1;
        state
    }
}
