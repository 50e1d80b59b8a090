//! How far a partition is, and how to wait until it is further.
//!
//! Nobody is in a list. Whoever waits looks at the numbers, and at the state second, each time the
//! partition wakes them; so a dropped future leaves nothing behind, and one store answers all.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

use tokio::sync::Notify;

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
    waiters: AtomicUsize,
    notify: Notify,
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

    /// Wakes everybody who waits. A few nanoseconds when nobody does.
    pub(crate) fn wake(&self) {
        // Pairs with the fence in `wait`: either the waiter sees what was stored before this call,
        // or this call sees the waiter.
        fence(Ordering::SeqCst);
        if self.waiters.load(Ordering::Relaxed) > 0 {
            self.notify.notify_waiters();
        }
    }

    /// Whether anybody waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    /// Waits until `done` says so; it is asked first, and again at each wake.
    pub(crate) async fn wait<T>(&self, mut done: impl FnMut() -> Option<T>) -> T {
        if let Some(value) = done() {
            return value;
        }
        let _waiting = Waiting::new(&self.waiters);
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            fence(Ordering::SeqCst);
            if let Some(value) = done() {
                return value;
            }
            notified.await;
        }
    }
}

/// Counts a waiter for as long as it lives, however its future ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiters: &'a AtomicUsize) -> Waiting<'a> {
        waiters.fetch_add(1, Ordering::SeqCst);
        Waiting(waiters)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
