//! Waiting on this thread, with or without a runtime around.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use sync::thread::{self, Thread};

/// Waits for a future on this thread. It must be one that some other thread wakes.
///
/// # Panics
/// On a worker of an async runtime, where waiting would stop other tasks: names `instead`, the
/// call to use there.
pub(crate) fn wait<F: Future>(call: &str, instead: &str, future: F) -> F::Output {
    refuse_async_worker(call, instead);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Waits for a future on this thread, at most for `timeout`; `None` when that is over. For the
/// engine's own threads.
pub(crate) fn wait_for<F: Future>(timeout: Duration, future: F) -> Option<F::Output> {
    let until = Instant::now() + timeout;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        let left = until.checked_duration_since(Instant::now())?;
        thread::park_timeout(left);
    }
}

/// Panics on a worker of an async runtime, also where a call would not have had to wait: a call
/// that panics only now and then is found too late.
///
/// # Panics
/// See above.
pub(crate) fn refuse_async_worker(call: &str, instead: &str) {
    // Cheap outside of any runtime. Inside, only tokio knows whether this thread may wait
    // (`spawn_blocking`) or not; its blocking receive asks, and panics.
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    let may_wait = std::panic::catch_unwind(|| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let _ = sender.send(());
        let _ = receiver.blocking_recv();
    });
    assert!(
        may_wait.is_ok(),
        "`{call}` would block an async worker; use `{instead}` there"
    );
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
