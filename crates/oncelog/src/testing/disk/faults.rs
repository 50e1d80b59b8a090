//! Which faults a simulated disk has, how often, and how many there were.

use std::fmt;
use std::ops::Range;

use super::random::Random;

/// How often a simulated disk does what the system may do at any time, or fails. The chances are
/// shares of the calls that can fail that way, 0.0 to 1.0. Each kind draws from a stream of its
/// own, so that one more of one kind does not move the others.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// Before a call: some dirty pages of a file, and some changes of names and lengths, become
    /// durable although nobody asked.
    pub write_back: f64,
    /// A sync of a file fails with EIO. A part of what was dirty is marked clean and is not on the
    /// device; it stays visible until [`DiskFile::drop_cache`](crate::storage::DiskFile::drop_cache).
    pub sync_errors: f64,
    /// A sync of a directory fails with EIO; nothing of it becomes durable by it.
    pub name_sync_errors: f64,
    /// Reserving blocks fails with EIO; nothing is left behind.
    pub reservation_errors: f64,
    /// Reserving blocks, or a write behind the end of a file, finds no space (ENOSPC).
    pub no_space: f64,
    /// A write that is not a store into reserved blocks fails with EIO after a part of it.
    pub short_writes: f64,
    /// A read by position fails with EIO, once.
    pub read_errors: f64,
    /// A sync takes as long as `sync_ms` says, which [`SimulatedDisk::on_slow_sync`] is told.
    ///
    /// [`SimulatedDisk::on_slow_sync`]: super::SimulatedDisk::on_slow_sync
    pub slow_syncs: f64,
    /// How long a slow sync takes, in milliseconds.
    pub sync_ms: Range<u64>,
}

impl Faults {
    /// Nothing ever fails, and nothing becomes durable by itself.
    pub const NONE: Faults = Faults {
        write_back: 0.0,
        sync_errors: 0.0,
        name_sync_errors: 0.0,
        reservation_errors: 0.0,
        no_space: 0.0,
        short_writes: 0.0,
        read_errors: 0.0,
        slow_syncs: 0.0,
        sync_ms: 0..0,
    };
}

macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// What a simulated disk did, and what it did wrong; goes on over crashes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct DiskCounts {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl DiskCounts {
            /// All counts with their names.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }

            /// Adds another disk's counts.
            pub fn add(&mut self, other: &DiskCounts) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counts! {
    /// Writes, stores included.
    writes,
    /// Bytes written.
    bytes_written,
    /// Syncs of files, also in vain.
    syncs,
    /// Syncs of directories, also in vain.
    name_syncs,
    /// Pages that became durable although nobody asked.
    pages_written_back,
    /// Syncs of files that failed.
    failed_syncs,
    /// Pages that a failed sync lost.
    pages_lost_by_syncs,
    /// Syncs of directories that failed.
    failed_name_syncs,
    /// Reservations that failed with EIO.
    failed_reservations,
    /// Reservations and writes that found no space.
    no_space,
    /// Writes that failed after a part.
    short_writes,
    /// Reads that failed.
    read_errors,
    /// Syncs that took long.
    slow_syncs,
    /// Bits flipped.
    bit_flips,
    /// Pages that got old contents back.
    stale_pages,
    /// Sectors that became zeros.
    zeroed_sectors,
    /// Processes killed.
    kills,
    /// Power cuts.
    power_cuts,
    /// Dirty pages that a power cut kept.
    pages_kept,
    /// Dirty pages that a power cut lost.
    pages_lost,
    /// Dirty pages of which a power cut kept some sectors.
    pages_torn,
    /// Changes of lengths that a power cut lost.
    lengths_lost,
    /// Changes of names that a power cut lost.
    names_lost,
}

impl fmt::Display for DiskCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened = self.entries().into_iter().filter(|(_, count)| *count > 0);
        for (at, (name, count)) in happened.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {count}")?;
        }
        Ok(())
    }
}

/// The streams that faults are drawn from.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    pub(super) write_back: Random,
    pub(super) sync_errors: Random,
    pub(super) name_sync_errors: Random,
    pub(super) reservation_errors: Random,
    pub(super) no_space: Random,
    pub(super) short_writes: Random,
    pub(super) read_errors: Random,
    pub(super) slow_syncs: Random,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        let stream = |number| Random::stream(seed, number);
        Dice {
            write_back: stream(1),
            sync_errors: stream(2),
            name_sync_errors: stream(3),
            reservation_errors: stream(4),
            no_space: stream(5),
            short_writes: stream(6),
            read_errors: stream(7),
            slow_syncs: stream(8),
        }
    }
}
