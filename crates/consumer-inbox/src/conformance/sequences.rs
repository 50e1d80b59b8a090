//! How many random sequences of calls, from which seed, and over how many stores.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log_engine::Env;
use parking_lot::Mutex;

/// How many sequences, and of what.
#[derive(Debug, Clone, Copy)]
pub struct Interleavings {
    /// Sequences.
    pub runs: u64,
    /// The first one's seed; the others' follow it.
    pub seed: u64,
    /// Calls in a sequence.
    pub calls: u64,
    /// Whether time passes in `pass` alone, and by exactly so much. Otherwise it is let pass after each short lease and before
    /// each sweep, so that what happened in between does not matter.
    pub exact_time: bool,
    /// A lease that ends: at least 1 ms.
    pub short: Duration,
}

/// Ends what the other threads do when this one panics.
struct Last<'a>(&'a AtomicU64);

impl Drop for Last<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(u64::MAX / 2, Ordering::Relaxed);
        }
    }
}

/// What was run, all as the model says. It is printed as a line with the backend, the count and the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// The store's name.
    pub backend: &'static str,
    /// `store` or `inbox`: which of the two traits.
    pub kind: &'static str,
    /// Sequences.
    pub runs: u64,
    /// Calls in all of them.
    pub calls: u64,
    /// The first one's seed.
    pub seed: u64,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran {
            backend,
            kind,
            runs,
            calls,
            seed,
        } = self;
        write!(
            f,
            "interleavings {backend} {kind}: ok: {runs} of {calls} calls, from seed {seed:#x}"
        )
    }
}

impl Interleavings {
    /// So many sequences from a random seed, unless the environment says otherwise (`ONCELOG_RUNS`, `ONCELOG_SEED`: decimal, or hex
    /// behind `0x`); exact time.
    pub fn from_env(runs: u64) -> Interleavings {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            let number = match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => text.parse(),
            };
            Some(number.expect("a number"))
        };
        Interleavings {
            runs: number("ONCELOG_RUNS").unwrap_or(runs),
            seed: number("ONCELOG_SEED").unwrap_or_else(|| Env::memory().seed),
            calls: 40,
            exact_time: true,
            short: super::SHORT,
        }
    }

    pub(super) fn ran(&self, backend: &'static str, kind: &'static str) -> Ran {
        Ran {
            backend,
            kind,
            runs: self.runs,
            calls: self.runs * self.calls,
            seed: self.seed,
        }
    }

    /// Runs them in pieces of at most `each`, on so many threads at a time: `run` is given a piece, makes a store for it, and says what was run, or None
    /// without a store. What was run in all; None if any piece was not.
    ///
    /// # Panics
    /// When a piece does.
    pub fn in_pieces(
        self,
        threads: usize,
        each: u64,
        run: impl Fn(Interleavings) -> Option<Ran> + Sync,
    ) -> Option<Ran> {
        let (next, all) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let pieces = || {
            // None begins another piece once one has failed.
            let _last = Last(&next);
            loop {
                let first = next.fetch_add(each, Ordering::Relaxed);
                if first >= self.runs {
                    return;
                }
                let ran = run(Interleavings {
                    runs: each.min(self.runs - first),
                    seed: self.seed.wrapping_add(first),
                    ..self
                });
                all.lock().push(ran);
                if ran.is_none() {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(pieces);
            }
        });
        let all: Option<Vec<Ran>> = all.into_inner().into_iter().collect();
        let all = all?;
        Some(Ran {
            backend: all.first()?.backend,
            kind: all.first()?.kind,
            runs: all.iter().map(|ran| ran.runs).sum(),
            calls: all.iter().map(|ran| ran.calls).sum(),
            seed: self.seed,
        })
    }
}
