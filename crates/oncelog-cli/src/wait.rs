//! Waiting for a future on this thread, while looking whether to go on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// How often a wait looks whether to end.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// Waits until the future is done; `None` when `ends` says so before.
pub(crate) fn wait_unless<T>(
    future: impl Future<Output = T>,
    ends: impl Fn() -> bool,
) -> Option<T> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        if ends() {
            return None;
        }
        thread::park_timeout(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn it_ends_with_the_future_or_when_it_should() {
        assert_eq!(wait_unless(ready(7), || true), Some(7));
        assert_eq!(wait_unless(pending::<u8>(), || true), None);
        let is_done = AtomicBool::new(false);
        let later = std::future::poll_fn(|context| {
            if is_done.swap(true, Ordering::Relaxed) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(wait_unless(later, || false), Some(()));
    }
}
