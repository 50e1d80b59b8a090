//! A new lineage: what a copy of a data directory must not share with the original (I19).
//!
//! Both go on from one point and hand out ids from there. A producer id that the original gives to
//! one producer and the copy to another would make two producers one wherever their records meet
//! again, so the copy's ids begin behind a random gap.

use std::io;
use std::sync::Arc;

use pid_allocator::AllocateError;
use segment_storage::{Disk, Marks};

use crate::directory::{self, Format, Generation};

/// The least that the producer ids of a new lineage are ahead of those of the old one. What is
/// added to it at random keeps copies of one original apart.
const GAP_MIN: i64 = 1 << 32;

/// Random numbers of an engine, from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        // Not the row that topics have their identities from.
        Random(seed ^ 0x6c69_6e65_6167_6521)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// What is stored of a new lineage.
    pub(crate) fn format(&mut self) -> Format {
        Format {
            lineage: u128::from(self.next()) << 64 | u128::from(self.next()),
            incompatible_features: 0,
            compatible_features: 0,
        }
    }

    /// How far the producer ids of a new lineage are ahead: 2^32 and up to 2^48 more. There are
    /// 2^63, so thousands of copies of copies fit.
    pub(crate) fn gap(&mut self) -> i64 {
        GAP_MIN + i64::try_from(self.next() >> 16).unwrap_or(0)
    }
}

/// Writes what a new lineage begins with, but for its format gate: the generation after `before`,
/// and producer ids from `floor` on.
///
/// # Errors
/// What the disk says, or that no ids are left.
pub(crate) fn begin(
    disk: &Arc<dyn Disk>,
    before: Generation,
    floor: i64,
) -> Result<(), AllocateError> {
    pid_allocator::raise_floor(disk, floor)?;
    let times = Generation {
        generation: before.generation.saturating_add(1),
        ..before
    };
    directory::replace_times(disk, &times).map_err(|source| AllocateError::Io {
        file: disk.display(directory::GENERATION),
        source,
    })
}

/// Has a log judge all producers with ids below `floor` strictly: it may have gone back in time,
/// and lack what they appended since (I8).
///
/// # Errors
/// What the disk says.
pub(crate) fn be_strict_below(marks: &Marks, floor: i64) -> io::Result<()> {
    let mut start = marks.start().map_err(io::Error::other)?;
    if start.strict_below < floor {
        start.strict_below = floor;
        marks.write_start(&start)?;
        marks.sync()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_at_least_2_to_the_32_and_differ() {
        let mut random = Random::new(1);
        let gaps: Vec<i64> = (0..1_000).map(|_| random.gap()).collect();
        assert!(gaps.iter().all(|gap| *gap >= 1 << 32));
        let mut apart = gaps.clone();
        apart.sort_unstable();
        assert!(apart.windows(2).all(|pair| pair[1] - pair[0] > 1_000));
        assert_ne!(random.format().lineage, random.format().lineage);
        assert_ne!(Random::new(1).next(), Random::new(2).next());
    }
}
