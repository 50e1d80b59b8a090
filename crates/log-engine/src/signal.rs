//! Waiting for something to be true, without being in a list.

use sync::atomic::{AtomicUsize, Ordering, fence};
use tokio::sync::Notify;

/// Wakes whoever waits for a condition; the condition is kept elsewhere, in atomics or behind a
/// lock. A dropped future leaves nothing behind.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    waiters: AtomicUsize,
    notify: Notify,
}

impl Signal {
    /// Wakes everybody who waits. A few nanoseconds when nobody does.
    pub(crate) fn notify(&self) {
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
