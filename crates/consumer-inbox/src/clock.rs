//! Time and chance for what lives in this process. Stores outside judge leases by their own clocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log_engine::Env;

/// A duration in ms, rounded up, so that a lease is never shorter than asked for.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Owner numbers for claims: none twice.
#[derive(Debug)]
pub struct Owners {
    seed: [u8; 32],
    next: AtomicU64,
}

impl Owners {
    /// Numbers that no other process has.
    pub fn random() -> Owners {
        // An environment takes its seed from the system.
        Owners::from_seeds([Env::memory().seed, Env::memory().seed])
    }

    /// The same numbers for the same seed, for tests.
    pub fn from_seed(seed: u64) -> Owners {
        Owners::from_seeds([seed, 0])
    }

    fn from_seeds(seeds: [u64; 2]) -> Owners {
        let seed = blake3::hash(seeds.map(u64::to_be_bytes).as_flattened());
        Owners {
            seed: *seed.as_bytes(),
            next: AtomicU64::new(0),
        }
    }

    /// The next one.
    pub fn next(&self) -> u128 {
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let digest = blake3::keyed_hash(&self.seed, &number);
        let (half, _) = digest.as_bytes().split_at(16);
        half.iter()
            .fold(0, |all, byte| all << 8 | u128::from(*byte))
    }
}
