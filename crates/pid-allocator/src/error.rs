//! Why there is no producer id.

use std::io;

use segment_storage::slot_file::SlotError;

/// Why there is no producer id, or no block of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllocateError {
    /// All reserved ids are handed out and the next block is not there yet. Kafka's error 14, which
    /// clients retry.
    #[error(
        "all producer ids below {bound} are handed out and the next block is being reserved; retry"
    )]
    Exhausted {
        /// First id that is not reserved.
        bound: i64,
    },
    /// No block fits below 2^63 - 1 any more. Kafka's error -1, for ever.
    #[error("no producer id is left at or above {next}; use a new data directory")]
    OutOfIds {
        /// The id at which the next block would begin.
        next: i64,
    },
    /// A reservation failed a moment ago.
    #[error("reserving producer ids failed less than 50 ms ago; try again in {wait_ms} ms")]
    BackingOff {
        /// How long reservations are still refused, in ms.
        wait_ms: u64,
    },
    /// Nothing in the file can be trusted, and which ids were handed out is not known (R18).
    #[error(
        "{file} is damaged in both slots; run `oncelog repair --apply --producer-id-floor N` with N above every producer id ever handed out"
    )]
    Damaged {
        /// The file.
        file: String,
    },
    /// A data directory that is not new has no such file.
    #[error(
        "{file} is missing; restore it, or run `oncelog repair --apply --producer-id-floor N` with N above every producer id ever handed out"
    )]
    Missing {
        /// The file.
        file: String,
    },
    /// An undamaged value that this allocator cannot have written.
    #[error(
        "{file} says that the next block begins at {stored}, which is below {least}; run `oncelog repair --apply --producer-id-floor N` with N above every producer id ever handed out"
    )]
    InvalidBound {
        /// The file.
        file: String,
        /// What it says.
        stored: i64,
        /// The least that it may say.
        least: i64,
    },
    /// A floor at which no block can begin.
    #[error("producer id floor {floor} is not between 0 and {highest}")]
    InvalidFloor {
        /// The floor asked for.
        floor: i64,
        /// The highest possible floor.
        highest: i64,
    },
    /// The file is of another release, or cannot be read.
    #[error(transparent)]
    Unreadable(SlotError),
    /// What the system says.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl AllocateError {
    /// Whether asking again may succeed without anybody's help.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            AllocateError::Exhausted { .. }
                | AllocateError::BackingOff { .. }
                | AllocateError::Io { .. }
        )
    }
}
