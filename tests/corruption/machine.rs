//! An engine without threads: whatever it does, it does on the thread of its case.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use oncelog::storage::Disk;
use oncelog::{Engine, Env, ManualClock, OpenError};

/// Turns without an answer after which a call hangs.
const TURNS_MAX: u32 = 2_000;

/// When the first machine is switched on, ms since 1970.
const WALL_MS: i64 = 1_700_000_000_000;

pub(crate) struct Machine {
    pub(crate) engine: Engine,
    clock: ManualClock,
}

/// The world around a disk; a later start sees a later wall clock.
fn env(disk: &Arc<dyn Disk>, start: i64) -> (Env, ManualClock) {
    let clock = ManualClock::at(WALL_MS + start * 1_000);
    let env = Env {
        disk: disk.clone(),
        clock: Arc::new(clock.clone()),
        seed: 7,
    };
    (env, clock)
}

/// Opens a disk for reading only.
pub(crate) fn open_reader(disk: &Arc<dyn Disk>) -> Result<Engine, OpenError> {
    Engine::open_reader(env(disk, 50).0)
}

impl Machine {
    pub(crate) fn start(disk: &Arc<dyn Disk>, start: i64) -> Result<Machine, OpenError> {
        let (env, clock) = env(disk, start);
        let engine = Engine::with_env(env).driven().open()?;
        Ok(Machine { engine, clock })
    }

    /// Takes turns until nothing is left to do.
    pub(crate) fn settle(&self) {
        while self.engine.step(0) {}
    }

    /// Lets time pass, and everything happen that is due then.
    pub(crate) fn pass(&self, ms: u32) {
        self.clock.advance(ms);
        self.engine.look_at_clock();
        self.settle();
    }

    /// Takes turns until a call has its answer.
    ///
    /// # Errors
    /// When it gets none.
    pub(crate) fn drive<T>(&self, call: impl Future<Output = T>) -> Result<T, String> {
        let mut call = pin!(call);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..TURNS_MAX {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
                return Ok(answer);
            }
            if !self.engine.step(0) {
                self.clock.advance(100);
                self.engine.look_at_clock();
            }
        }
        Err("a call hangs (I32)".to_owned())
    }
}
