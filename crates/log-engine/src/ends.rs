//! How far a partition is, and how to wait until it is further.
//!
//! Nobody is in a list. Whoever waits looks at the numbers, and at the state second, each time the
//! partition wakes them; so a dropped future leaves nothing behind, and one store answers all.

use sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::signal::Signal;

/// Whether a partition still changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Fenced,
    Closed,
    Deleted,
}

/// The ends that others wait on. The published end is the reader's own number.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    synced: AtomicU64,
    state: AtomicU8,
    is_closing: AtomicBool,
    signal: Signal,
}

impl Ends {
    /// Everything below it is durable.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Moves the synced end up. Call [`Ends::wake`] after it.
    pub(crate) fn set_synced(&self, offset: u64) {
        self.synced.fetch_max(offset, Ordering::AcqRel);
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Open,
            1 => State::Fenced,
            2 => State::Closed,
            _ => State::Deleted,
        }
    }

    /// No append begins any more; those that wait still get their answer.
    pub(crate) fn begin_close(&self) {
        self.is_closing.store(true, Ordering::Release);
    }

    /// Whether appends are refused because the engine closes.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Ends waiting for good. A deleted partition stays so; else the last word counts.
    pub(crate) fn set_state(&self, state: State) {
        let number = match state {
            State::Open => 0,
            State::Fenced => 1,
            State::Closed => 2,
            State::Deleted => 3,
        };
        self.state.fetch_max(number, Ordering::AcqRel);
        self.wake();
    }

    /// Wakes everybody who waits.
    pub(crate) fn wake(&self) {
        self.signal.notify();
    }

    /// Whether anybody waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.signal.is_waited_for()
    }

    /// Waits until `done` says so; it is asked first, and again at each wake.
    pub(crate) async fn wait<T>(&self, done: impl FnMut() -> Option<T>) -> T {
        self.signal.wait(done).await
    }
}
