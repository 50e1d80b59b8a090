//! A gate at which syncs wait, so that tests of group commit need no sleeps.

use std::time::Duration;

use parking_lot::MutexGuard;

use super::{MemoryDisk, State};

/// Far longer than any test waits: it only turns a test that hangs into one that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// While it lives, syncs of files wait; when the last one is dropped, they go on. What such a sync
/// makes durable is what was written before it began to wait.
#[derive(Debug)]
#[must_use = "dropping the gate opens it"]
pub struct SyncGate {
    disk: MemoryDisk,
}

impl SyncGate {
    pub(super) fn new(disk: &MemoryDisk) -> Self {
        disk.state().gates += 1;
        Self { disk: disk.clone() }
    }

    /// How many syncs are waiting.
    pub fn waiting_syncs(&self) -> u64 {
        self.disk.waiting_syncs()
    }

    /// Blocks until at least `count` syncs are waiting.
    ///
    /// # Panics
    /// After 30 seconds, so that a test which would hang fails.
    pub fn wait_until_syncs_wait(&self, count: u64) {
        let mut state = self.disk.state();
        while state.waiting_syncs < count {
            let result = self.disk.shared.changed.wait_for(&mut state, PATIENCE);
            let waiting = state.waiting_syncs;
            assert!(
                waiting >= count || !result.timed_out(),
                "{waiting} syncs are waiting, {count} were expected"
            );
        }
    }
}

impl Drop for SyncGate {
    fn drop(&mut self) {
        self.disk.state().gates -= 1;
        self.disk.shared.changed.notify_all();
    }
}

impl MemoryDisk {
    /// Waits until no gate is held.
    pub(super) fn pass_gate(&self, state: &mut MutexGuard<'_, State>) {
        if state.gates == 0 {
            return;
        }
        state.waiting_syncs += 1;
        self.shared.changed.notify_all();
        while state.gates > 0 {
            self.shared.changed.wait(state);
        }
        state.waiting_syncs -= 1;
    }
}
