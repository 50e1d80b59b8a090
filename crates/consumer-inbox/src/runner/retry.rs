//! Back-off with jitter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::millis;

/// How often a delivery is tried, and how long it waits in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The pause after the first attempt.
    pub base: Duration,
    /// What each further pause is multiplied with.
    pub factor: u32,
    /// The longest pause; at most 12 h, which is the longest that a log delays.
    pub max: Duration,
    /// How much of a pause is left to chance, in per cent: 0 to 100. A pause of 10 s with 20 is one of 8 s to 10 s.
    pub jitter: u32,
    /// Attempts in all, from 1. Counted durably before the effect, so that one which kills the process counts, too (E7).
    pub attempts: u32,
}

impl Default for Retry {
    /// 100 ms, doubled up to 60 s, a fifth of it chance, 10 attempts.
    fn default() -> Retry {
        Retry {
            base: Duration::from_millis(100),
            factor: 2,
            max: Duration::from_secs(60),
            jitter: 20,
            attempts: 10,
        }
    }
}

impl Retry {
    /// The pause after that attempt, counted from 1, given a random number.
    pub fn pause(&self, attempt: u32, random: u64) -> Duration {
        let most = millis(self.max);
        let mut pause = millis(self.base).min(most);
        for _ in 1..attempt.min(64) {
            pause = pause.saturating_mul(u64::from(self.factor)).min(most);
        }
        let chance = pause.saturating_mul(u64::from(self.jitter.min(100))) / 100;
        let less = random % chance.saturating_add(1);
        Duration::from_millis(pause - less)
    }

    /// All pauses between the attempts together, at their longest, ms.
    pub(crate) fn pauses_ms(&self) -> u64 {
        let most = millis(self.max);
        let mut pause = millis(self.base).min(most);
        let (mut sum, mut left) = (0_u64, u64::from(self.attempts.saturating_sub(1)));
        // Each pause is at least double the one before, or all are alike from here on.
        while left > 0 {
            let next = pause.saturating_mul(u64::from(self.factor)).min(most);
            if next == pause {
                break;
            }
            sum = sum.saturating_add(pause);
            left -= 1;
            pause = next;
        }
        sum.saturating_add(pause.saturating_mul(left))
    }
}

/// Random numbers of a seed (SplitMix64), for pauses.
#[derive(Debug)]
pub(crate) struct Chance(AtomicU64);

impl Chance {
    pub(crate) fn from_seed(seed: u64) -> Chance {
        Chance(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_jitter_only_shortens() {
        let retry = Retry {
            base: Duration::from_millis(100),
            factor: 3,
            max: Duration::from_secs(1),
            jitter: 0,
            attempts: 5,
        };
        let pauses = [1, 2, 3, 4, u32::MAX].map(|n| retry.pause(n, 7).as_millis());
        assert_eq!(pauses, [100, 300, 900, 1_000, 1_000]);
        assert_eq!(retry.pauses_ms(), 100 + 300 + 900 + 1_000);
        let none = Retry {
            attempts: 1,
            ..retry
        };
        assert_eq!(none.pauses_ms(), 0);
        let many = Retry {
            attempts: u32::MAX,
            ..retry
        };
        let most = 1_300 + (u64::from(u32::MAX) - 4) * 1_000;
        assert_eq!(many.pauses_ms(), most);
        let jittery = Retry {
            jitter: 50,
            ..retry
        };
        let chance = Chance::from_seed(1);
        let some: Vec<u128> = (0..200)
            .map(|_| jittery.pause(4, chance.next()).as_millis())
            .collect();
        assert!(some.iter().all(|ms| (500..=1_000).contains(ms)), "{some:?}");
        assert!(some.iter().any(|ms| *ms < 600) && some.iter().any(|ms| *ms > 900));
    }
}
