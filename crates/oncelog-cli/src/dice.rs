//! Chance that follows from a seed.

/// Weyl increment and mixing factors of splitmix64 (Steele, Lea, Flood: "Fast splittable
/// pseudorandom number generators", 2014).
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A seed for those who gave none: short enough to be typed again.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 32
}

/// Dice that fall the same for the same words, whatever was thrown before.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn of(words: &[u64]) -> Dice {
        let fold = |state: u64, word: &u64| mix(state.wrapping_add(INCREMENT) ^ word);
        Dice(words.iter().fold(0, fold))
    }

    /// `true` in this share of the cases, 0 to 1.
    pub(crate) fn falls(&mut self, share: f64) -> bool {
        let bits = self.next() >> 11;
        // 53 bits are what an f64 holds exactly.
        (bits as f64) / ((1u64 << 53) as f64) < share
    }

    /// A number from 0 to below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(INCREMENT);
        mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn falls(seed: u64, who: u64, share: f64) -> Vec<bool> {
        let falls = |n| Dice::of(&[seed, who, n]).falls(share);
        (0..20_000).map(falls).collect()
    }

    #[test]
    fn they_fall_as_often_as_they_should() {
        for (share, low, high) in [(0.0, 0, 0), (0.05, 900, 1_100), (0.9, 17_800, 18_200)] {
            let count = falls(42, 3, share).into_iter().filter(|it| *it).count();
            assert!((low..=high).contains(&count), "{count} of 20000 at {share}");
        }
    }

    #[test]
    fn other_words_are_other_dice_and_the_same_ones_the_same() {
        assert_eq!(falls(42, 3, 0.5), falls(42, 3, 0.5));
        for (seed, who) in [(43, 3), (42, 4), (3, 42)] {
            assert_ne!(falls(seed, who, 0.5), falls(42, 3, 0.5));
        }
        let mut numbers = [0; 10];
        let mut dice = Dice::of(&[7]);
        for _ in 0..10_000 {
            numbers[usize::try_from(dice.below(10)).unwrap()] += 1;
        }
        assert!(
            numbers.iter().all(|n| (900..1_100).contains(n)),
            "{numbers:?}"
        );
    }
}
