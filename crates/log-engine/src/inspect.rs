//! Looking at files without opening the engine: every batch of a folder ([`dump_batches`]), and a
//! check of a whole data directory ([`verify`]). Nothing is locked or written, so both work beside
//! a running writer, and on what a crash left.

mod dump;
mod findings;
mod indexes;
mod log;
mod marks;
mod producers;
mod segments;
mod snapshots;
mod verify;

use std::io;

use record_batch::BatchError;

pub use self::dump::{BatchDump, BatchSummary, dump_batches};
pub use self::findings::{Problem, VerifyReport};
pub use self::verify::{Depth, verify, verify_disk, verify_to};
pub use crate::repair::{
    Finding, GivenUp, RepairError, RepairOptions, RepairReport, repair, repair_env,
};

/// Why files cannot be looked at, or not any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// Nothing to print batches of.
    #[error(
        "{path} holds no segment (*.log); name a segment file, or the folder of a partition such as \
         DIR/orders-0"
    )]
    NoSegments {
        /// What was named.
        path: String,
    },
    /// No data directory to check.
    #[error(
        "{directory} is not an oncelog data directory: it has none of its files; name another one"
    )]
    NotADataDirectory {
        /// What was named.
        directory: String,
    },
    /// Bytes that are no batch. Nothing behind them is looked at (R11).
    #[error(
        "{file} is damaged at byte {position}: {damage}; run `oncelog verify` on the data directory"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Bytes from its beginning.
        position: u64,
        /// Expected and found.
        damage: Damage,
    },
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// File or directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong with bytes that should be a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// They are no batch, or not the one that was written.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch would end beyond the file.
    #[error("a batch of {bytes} bytes does not end inside of the file ({left} bytes are left)")]
    BeyondEnd {
        /// Bytes of the batch by its header.
        bytes: u64,
        /// Bytes left in the file.
        left: u64,
    },
    /// Zeros as of a reserved tail, but the file goes on behind them.
    #[error(
        "expected zeros to the end of the file (reserved space), found byte {found:#04x} at {at}"
    )]
    Hole {
        /// Position of the first other byte.
        at: u64,
        /// That byte.
        found: u8,
    },
}
