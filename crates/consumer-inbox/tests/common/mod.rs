//! What the tests of several stores share.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by tests that each use a part; a test fails by panicking"
)]

pub mod child;
pub mod matrix;
pub mod records;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use log_engine::Clock;

/// A clock that can be set back, which the engine's never is.
#[derive(Clone, Default)]
pub struct TestClock {
    elapsed_ms: Arc<AtomicU64>,
    wall_ms: Arc<AtomicI64>,
}

impl TestClock {
    /// Long after 1970.
    pub fn new() -> TestClock {
        let clock = TestClock::default();
        clock.elapsed_ms.store(1_000_000_000, Ordering::SeqCst);
        clock.wall_ms.store(1_800_000_000_000, Ordering::SeqCst);
        clock
    }

    pub fn pass(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap();
        self.elapsed_ms
            .fetch_add(ms.unsigned_abs(), Ordering::SeqCst);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn set_back(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap();
        self.elapsed_ms
            .fetch_sub(ms.unsigned_abs(), Ordering::SeqCst);
        self.wall_ms.fetch_sub(ms, Ordering::SeqCst);
    }

    pub fn jump_wall(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms.load(Ordering::SeqCst)
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
}
