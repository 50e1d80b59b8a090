//! An engine on a disk, driven by hand, so that the same life leaves the same trace.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use harness::random::Random;
use oncelog::testing::SimulatedDisk;
use oncelog::{Engine, Env, ManualClock, OpenError};

/// Turns without an answer after which a call hangs.
const TURNS_MAX: u32 = 10_000;

/// An open engine, and the time that it sees.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) clock: ManualClock,
    disk: SimulatedDisk,
    random: Random,
}

impl Machine {
    /// Switches a machine on. A later start sees a later wall clock.
    pub(crate) fn start(
        disk: &SimulatedDisk,
        seed: u64,
        wall_ms: i64,
    ) -> Result<Machine, OpenError> {
        let clock = ManualClock::at(wall_ms);
        let env = Env {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(clock.clone()),
            seed,
        };
        Ok(Machine {
            engine: Engine::with_env(env).driven().open()?,
            clock,
            disk: disk.clone(),
            random: Random::new(seed),
        })
    }

    /// How much of what is recorded on the disk was done.
    pub(crate) fn now(&self) -> usize {
        self.disk.recorded()
    }

    /// Takes turns until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        while self.engine.step(self.random.next_u64()) {}
    }

    /// Lets time pass, and everything happen that is due then.
    pub(crate) fn pass(&mut self, ms: u32) {
        self.clock.advance(ms);
        self.engine.look_at_clock();
        self.settle();
    }

    /// Takes turns until a call has its answer.
    ///
    /// # Errors
    /// When it gets none.
    pub(crate) fn drive<T>(&mut self, call: impl Future<Output = T>) -> Result<T, String> {
        let mut call = pin!(call);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..TURNS_MAX {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
                return Ok(answer);
            }
            if !self.engine.step(self.random.next_u64()) {
                self.clock.advance(10);
                self.engine.look_at_clock();
            }
        }
        Err("a call hangs (I32)".to_owned())
    }
}
