//! What happens in the middle of a sync: time passes, and sometimes everything ends there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oncelog::ManualClock;
use oncelog::testing::SimulatedDisk;

use crate::model::End;

/// What the next sync is to meet, and what it left.
#[derive(Clone, Default)]
pub(crate) struct Inside(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// How it is to end, and the seed of what a power cut leaves.
    armed: Option<(End, u64)>,
    /// An engine takes a turn: whatever it does after the end reaches nobody.
    is_turn: bool,
    /// What the next life finds.
    left: Option<(End, SimulatedDisk)>,
}

impl Inside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next sync is where it ends.
    pub(crate) fn arm(&self, end: End, seed: u64) {
        self.state().armed = Some((end, seed));
    }

    /// An engine begins or ends a turn.
    pub(crate) fn turn(&self, is_turn: bool) {
        self.state().is_turn = is_turn;
    }

    /// Nothing is to end any more.
    pub(crate) fn disarm(&self) {
        *self.state() = State::default();
    }

    /// What is left, if it ended.
    pub(crate) fn take(&self) -> Option<(End, SimulatedDisk)> {
        self.state().left.take()
    }

    /// Has a disk's syncs take time, and end what is to end.
    pub(crate) fn watch(&self, disk: &SimulatedDisk, clock: &ManualClock) {
        let (inside, watched, clock) = (self.clone(), disk.clone(), clock.clone());
        disk.on_slow_sync(move |ms| {
            clock.advance(u32::try_from(ms).unwrap_or(0));
            let mut state = inside.state();
            if state.is_turn
                && let Some((end, seed)) = state.armed.take()
            {
                let next = match end {
                    End::Power => watched.power_cut(seed),
                    End::Kill | End::Clean => watched.kill(),
                };
                state.left = Some((end, next));
            }
        });
    }

    /// Lets go of a disk.
    pub(crate) fn forget(disk: &SimulatedDisk) {
        disk.on_slow_sync(|_| {});
    }
}
