//! A link that loses acknowledgements, decided by a seed.

/// Weyl increment and mixing factors of splitmix64 (Steele, Lea, Flood: "Fast splittable
/// pseudorandom number generators", 2014).
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The dice of one link: of one producer to one partition. Each link has its own, and throws once
/// for each acknowledgement in the order of sending, so what is lost does not depend on timing.
#[derive(Debug, Clone)]
pub(crate) struct LossyLink {
    state: u64,
    lost: f64,
}

impl LossyLink {
    /// `lost` is the share of acknowledgements that do not arrive, 0 to below 1.
    pub(crate) fn new(seed: u64, producer: u32, partition: u32, lost: f64) -> LossyLink {
        let link = (u64::from(producer) << 32) | u64::from(partition);
        LossyLink {
            state: mix(seed ^ mix(link.wrapping_add(INCREMENT))),
            lost,
        }
    }

    /// Whether the next acknowledgement is lost.
    pub(crate) fn loses_next(&mut self) -> bool {
        self.state = self.state.wrapping_add(INCREMENT);
        let bits = mix(self.state) >> 11;
        // 53 bits are what an f64 holds exactly.
        (bits as f64) / ((1u64 << 53) as f64) < self.lost
    }
}

/// A seed for those who gave none: short enough to be typed again.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(seed: u64, producer: u32, partition: u32, lost: f64) -> Vec<bool> {
        let mut link = LossyLink::new(seed, producer, partition, lost);
        (0..20_000).map(|_| link.loses_next()).collect()
    }

    #[test]
    fn loses_the_share_it_was_asked_to() {
        for (lost, low, high) in [(0.0, 0, 0), (0.05, 900, 1_100), (0.9, 17_800, 18_200)] {
            let count = losses(42, 3, 1, lost)
                .into_iter()
                .filter(|lost| *lost)
                .count();
            assert!((low..=high).contains(&count), "{count} of 20000 at {lost}");
        }
    }

    #[test]
    fn each_link_has_its_own_dice_and_the_same_ones_every_time() {
        assert_eq!(losses(42, 3, 1, 0.5), losses(42, 3, 1, 0.5));
        for (seed, producer, partition) in [(43, 3, 1), (42, 4, 1), (42, 3, 2), (42, 1, 3)] {
            assert_ne!(
                losses(seed, producer, partition, 0.5),
                losses(42, 3, 1, 0.5)
            );
        }
    }
}
