//! Everything an engine takes from outside: a disk, the time, a seed.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use partition_log::Now;
use rustix::time::{ClockId, clock_gettime};
use segment_storage::{Disk, MemoryDisk, OsDisk};

/// Where an engine lives: the only mention of real files, clocks and entropy.
#[derive(Clone)]
pub struct Env {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where identities come from. The same seed on an empty disk gives the same identities.
    pub seed: u64,
}

impl Env {
    /// Real files under `path`, which is made if it is missing (mode 0700), and the real time.
    ///
    /// # Errors
    /// What the system says.
    pub fn os(path: impl AsRef<Path>) -> io::Result<Env> {
        let disk = Arc::new(OsDisk::open(path.as_ref().to_owned())?);
        Ok(Env {
            disk,
            clock: Arc::new(SystemClock),
            seed: entropy(),
        })
    }

    /// Real files under `path`, none of which is ever written.
    ///
    /// # Errors
    /// What the system says; `NotFound` when there is no such directory.
    pub fn os_read_only(path: impl AsRef<Path>) -> io::Result<Env> {
        let disk = Arc::new(OsDisk::read_only(path.as_ref().to_owned())?);
        Ok(Env {
            disk,
            clock: Arc::new(SystemClock),
            seed: entropy(),
        })
    }

    /// A disk in memory, gone with the last engine on it, and the real time.
    pub fn memory() -> Env {
        Env {
            disk: Arc::new(MemoryDisk::new()),
            clock: Arc::new(SystemClock),
            seed: entropy(),
        }
    }
}

// The standard library seeds its hash maps from the system; that is all that is needed here.
fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since some moment before the engine was opened. Never goes back.
    fn elapsed_ms(&self) -> u64;
    /// The wall clock, milliseconds since 1970. May jump either way.
    fn wall_ms(&self) -> i64;
}

/// The system's coarse clocks: 7 ns a reading, and a few milliseconds of resolution.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(milliseconds(ClockId::MonotonicCoarse)).unwrap_or(0)
    }

    fn wall_ms(&self) -> i64 {
        milliseconds(ClockId::RealtimeCoarse)
    }
}

fn milliseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1_000)
        .saturating_add(time.tv_nsec / 1_000_000)
}

/// A clock that moves when told, for tests.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    elapsed_ms: Arc<AtomicU64>,
    wall_ms: Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that stands at `wall_ms`, milliseconds since 1970.
    pub fn at(wall_ms: i64) -> ManualClock {
        let clock = ManualClock::default();
        clock.wall_ms.store(wall_ms, Ordering::SeqCst);
        clock
    }

    /// Lets time pass.
    pub fn advance(&self, ms: u32) {
        self.elapsed_ms.fetch_add(u64::from(ms), Ordering::SeqCst);
        self.wall_ms.fetch_add(i64::from(ms), Ordering::SeqCst);
    }

    /// Lets the wall clock jump, either way, while no time passes.
    pub fn jump_wall(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms.load(Ordering::SeqCst)
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
}

/// The clock of an open data directory: its elapsed time is a running total over all opens (R24).
#[derive(Clone)]
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    /// The clock's own reading when the directory was opened.
    base_ms: u64,
    /// The total then.
    opened_ms: u64,
}

impl Time {
    /// A time that stands at `elapsed_ms` now.
    pub(crate) fn from(clock: Arc<dyn Clock>, elapsed_ms: u64) -> Time {
        Time {
            base_ms: clock.elapsed_ms(),
            clock,
            opened_ms: elapsed_ms,
        }
    }

    /// When the directory was opened, in elapsed ms.
    pub(crate) fn opened_ms(&self) -> u64 {
        self.opened_ms
    }

    pub(crate) fn now(&self) -> Now {
        let passed_ms = self.clock.elapsed_ms().saturating_sub(self.base_ms);
        Now {
            elapsed_ms: self.opened_ms.saturating_add(passed_ms),
            wall_ms: self.clock.wall_ms(),
        }
    }
}
