//! What can go wrong with a log's files.

use std::io;
use std::sync::Arc;

use crate::latch::Latched;
use crate::scan::Invalid;
use crate::slot_file::SlotError;

/// Why a read failed. Nothing was skipped; reading elsewhere goes on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The offset was deleted (retention, or delete-records).
    #[error("offset {asked} was deleted, the log begins at {first}; read from there")]
    Deleted {
        /// The offset asked for.
        asked: u64,
        /// First offset that exists.
        first: u64,
    },
    /// A batch does not check.
    #[error(
        "{file} is damaged at byte {position}: {reason}; run `oncelog verify`, then `oncelog repair`"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// Bytes from its beginning.
        position: u64,
        /// What is wrong there.
        reason: Arc<Invalid>,
    },
    /// The file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

/// Why bytes were not appended. But for `Latched`, the log is exactly as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No prepared segment has room for these bytes; prepare one ([`crate::SegmentedLog::wanted`])
    /// and append again.
    #[error("no segment is ready for {bytes} bytes")]
    NoSegment {
        /// Bytes of the batch.
        bytes: u64,
    },
    /// The batch cannot fit into any segment.
    #[error(
        "batch of {bytes} bytes exceeds the segment size {limit}; raise segment.bytes or split the batch"
    )]
    TooLarge {
        /// Bytes of the batch.
        bytes: u64,
        /// Largest segment, in bytes.
        limit: u64,
    },
    /// The disk is full and nothing could be reserved; the log is as it was.
    #[error("no space for {bytes} bytes in {log}: {source}; free space, then append again")]
    NoSpace {
        /// Directory of the log.
        log: String,
        /// Bytes needed.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A write or sync failed before; nothing succeeds until the log is opened again.
    #[error(transparent)]
    Latched(#[from] Latched),
}

/// Damage below the stable mark: never cut, never repaired silently (I24).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} is damaged at byte {position} (offset {offset}), below the stable mark: {reason}; the log can be read but \
     not written. Run `oncelog verify`, then `oncelog repair`"
)]
pub struct Corruption {
    /// The file.
    pub file: String,
    /// Bytes from its beginning.
    pub position: u64,
    /// First offset that is in doubt.
    pub offset: u64,
    /// Expected and found.
    pub reason: String,
}

/// Why a log cannot be opened at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The marks are damaged or missing.
    #[error(transparent)]
    Marks(#[from] SlotError),
    /// A file of another log.
    #[error(
        "{file} belongs to log {found:032x}, expected {expected:032x}; put back the file of this log"
    )]
    Foreign {
        /// The file.
        file: String,
        /// Identity in the file.
        found: u128,
        /// Identity of the log.
        expected: u128,
    },
    /// What the disk says.
    #[error("{file}: {source}")]
    Io {
        /// File or directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}
