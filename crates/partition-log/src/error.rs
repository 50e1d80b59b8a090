//! What an append can be answered with, other than an offset.

use record_batch::BatchError;
use segment_storage::{Corruption, Latched, WriteError};

use crate::producer::Rejection;

/// Why a batch was not appended. The log, its producers and its windows are what they were
/// before (I6, I36); only a latched [`AppendError::Write`] leaves earlier unsynced appends in doubt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The bytes are no batch that a producer may send.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch is larger than the log takes.
    #[error(
        "batch of {bytes} bytes exceeds max.message.bytes {limit}; raise it or split the batch"
    )]
    TooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// The limit in force.
        limit: usize,
    },
    /// Its sequence or epoch does not go on where its producer is.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A replicated batch does not begin where this log ends.
    #[error("replicated batch begins at offset {found}, the log ends at {expected}")]
    NotAtEnd {
        /// Log end offset.
        expected: u64,
        /// The batch's base offset.
        found: i64,
    },
    /// What is known of its producer lies on disk ([`crate::PartitionLog::begin_load`]): it was not
    /// judged, and is to be appended again once that is in memory. Never shown to users.
    #[error("producer {producer_id} is on disk; bring it back into memory, then append again")]
    Evicted {
        /// The producer.
        producer_id: i64,
    },
    /// It would bring one more producer into memory than there is room for ([`crate::Spiller`]).
    /// Never shown to users.
    #[error(
        "{producers} producers are in memory, its budget is {max}; move some, then append again"
    )]
    NoRoom {
        /// Producers in memory.
        producers: usize,
        /// The budget.
        max: usize,
    },
    /// The files did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The log is damaged below its stable mark and takes no appends.
    #[error(transparent)]
    Corrupted(#[from] Corruption),
}

impl From<Latched> for AppendError {
    fn from(latched: Latched) -> AppendError {
        AppendError::Write(latched.into())
    }
}

impl AppendError {
    /// The error code that Kafka gives to this.
    pub fn kafka_code(&self) -> i16 {
        match self {
            AppendError::Batch(error) => batch_code(error),
            AppendError::TooLarge { .. } => 10,
            AppendError::Rejected(rejection) => rejection.kafka_code(),
            AppendError::NotAtEnd { .. } => 1,
            AppendError::Write(WriteError::TooLarge { .. }) => 18,
            AppendError::Write(_)
            | AppendError::Corrupted(_)
            | AppendError::Evicted { .. }
            | AppendError::NoRoom { .. } => 56,
        }
    }
}

fn batch_code(error: &BatchError) -> i16 {
    match error {
        BatchError::Short { .. } | BatchError::Crc { .. } | BatchError::Length { .. } => 2,
        BatchError::TooLarge { .. } => 10,
        _ => 87,
    }
}

/// Why a partition cannot be opened, or its producers not be rebuilt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The files themselves.
    #[error(transparent)]
    Storage(#[from] segment_storage::OpenError),
    /// A batch that the producers' history needs does not read.
    #[error(transparent)]
    Replay(#[from] segment_storage::ReadError),
}
