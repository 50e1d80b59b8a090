//! Durable append-only segments, memory-mapped for reading, and small state files.
//!
//! A log is a directory of segment files, each a run of record batches back to back and nothing
//! else. [`SegmentedLog`] is its one writer, [`LogView`] what readers see, [`LogFollower`] what
//! another process sees. What is beside the segments is either a cache of them (indexes), a check
//! on them (footers), or a few numbers that must never be guessed ([`Marks`]).
//!
//! Everything outside comes through [`Disk`]: [`OsDisk`] is real files, [`MemoryDisk`] keeps a
//! live and a durable image for tests. Nothing here knows of producers, and nothing takes a lock
//! across a call that can reach the disk; the caller has the lock and is told when to let go
//! (R23).

#![deny(unsafe_code)]

pub mod codec;
pub mod disk;
mod error;
mod follow;
pub mod footer;
mod index;
mod latch;
mod log;
pub mod marks;
pub mod names;
mod prepare;
mod recovery;
mod scan;
mod segment;
pub mod slot_file;
pub mod state_file;
mod truncate;
mod view;

pub use disk::memory::MemoryDisk;
pub use disk::os::OsDisk;
pub use disk::{DirectoryEntry, Disk, DiskFile, Prepare};
pub use error::{Corruption, OpenError, ReadError, WriteError};
pub use follow::LogFollower;
pub use footer::{Footer, FooterBuilder};
pub use index::{INTERVAL_BYTES, Index, IndexCursor, IndexEntry};
pub use latch::{Latch, Latched};
pub use log::{
    FrontDrop, LogConfig, SEGMENT_BYTES_LIMIT, SEGMENT_BYTES_MIN, SegmentedLog, SyncItem,
    Visibility,
};
pub use marks::{LogStart, Marks, StableMark};
pub use prepare::{Prepared, Wanted};
pub use recovery::Recovered;
pub use scan::{Check, Invalid, ScanError, Scanner};
pub use segment::{IndexFile, Place, Segment};
pub use slot_file::{SlotError, SlotFile};
pub use state_file::StateFileError;
pub use truncate::{truncate, truncate_fully};
pub use view::{BatchRun, Cursor, LogView};
