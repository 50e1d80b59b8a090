//! What an append can be answered with, other than an offset.

use std::io;
use std::sync::Arc;

use partition_log::Rejection;
use record_batch::BatchError;
use segment_storage::{Corruption, Latched};

use crate::append_id::AppendId;
use crate::config::Ack;

/// Why an append has no offset.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The bytes are no batch that a producer may send. Nothing was written.
    #[error("{0}; nothing was written")]
    Invalid(#[source] BatchError),
    /// Larger than the topic allows, or than a segment. Nothing was written.
    #[error(
        "batch of {bytes} bytes for topic {topic} exceeds {setting} {limit}; raise it or split the batch"
    )]
    TooLarge {
        /// The topic.
        topic: Arc<str>,
        /// Bytes of the encoded batch.
        bytes: u64,
        /// The limit in force.
        limit: u64,
        /// The setting it comes from.
        setting: &'static str,
    },
    /// The sequence check refused it. Nothing was written.
    #[error("topic {topic}, partition {partition}: {rejection}")]
    Rejected {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// Why.
        #[source]
        rejection: Rejection,
    },
    /// `try_append` found no segment ready. Nothing was written; one is being prepared.
    #[error(
        "no segment of {topic}-{partition} is ready; try again, or use append or blocking_append"
    )]
    NotReady {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
    },
    /// The disk is full. Nothing was written; once there is space the next append succeeds.
    #[error(
        "no space for {topic}-{partition}: {needed} bytes needed, {free} free ({source}); free space and append again"
    )]
    NoSpace {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// Bytes that could not be reserved.
        needed: u64,
        /// Bytes free on the disk.
        free: u64,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A file could not be made ready. Nothing was written.
    #[error(
        "a segment of {topic}-{partition} cannot be prepared: {source}; see whether descriptors or memory ran out"
    )]
    Io {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// More producers than `producers.max` are known, and one that this batch needs could not be
    /// moved to disk, or back. Nothing was written, and nobody was forgotten.
    #[error(
        "producers of {topic}-{partition} above producers.max cannot be moved to disk or back: {source}; see to the disk, then append again"
    )]
    Producers {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A sync or write failed before; this batch was not written.
    #[error(transparent)]
    LogFenced(Latched),
    /// The log is damaged below its stable mark and takes no appends.
    #[error(transparent)]
    Corrupted(Corruption),
    /// The engine is closed, or closing. Nothing was written.
    #[error("the engine is closed; open it again")]
    Closed,
    /// The topic was deleted. What was written is gone with it.
    #[error("topic {topic} was deleted")]
    TopicDeleted {
        /// The topic.
        topic: Arc<str>,
    },
    /// The topic is the engine's own.
    #[error("{topic} is the engine's own topic, users do not write it; append to another one")]
    Internal {
        /// The topic.
        topic: Arc<str>,
    },
    /// The engine was opened for reading only.
    #[error("the engine is open for reading only; open it with Engine::open to append")]
    ReadOnly,
    /// A handle cannot promise less than its topic does.
    #[error(
        "topic {topic} promises {level}, {asked} is less; a handle can raise the level, never lower it"
    )]
    LevelTooLow {
        /// The topic.
        topic: Arc<str>,
        /// The topic's level.
        level: Ack,
        /// The level asked for.
        asked: Ack,
    },
    /// It was not accepted within the delivery timeout; certainly not written.
    #[error(
        "a record for {topic}-{partition} was not accepted within {timeout_ms} ms; nothing was written, send it again"
    )]
    TimedOut {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The delivery timeout, in milliseconds.
        timeout_ms: u64,
    },
    /// It may be in the log, or not: no answer came in time, or the disk failed.
    #[error(
        "the outcome of an append to {topic}-{partition} is not known ({why}); ask Engine::resolve, or append the same batch again with the same sequences"
    )]
    OutcomeUnknown {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The offset that it has if it stays; `None` where no answer named one.
        offset: Option<u64>,
        /// What happened.
        why: Unknown,
        /// What to ask [`Engine::resolve`](crate::Engine::resolve) with; there for records of a producer.
        id: Option<Box<AppendId>>,
    },
}

/// Why an outcome is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// The sync that would have made it durable failed.
    #[error("{0}")]
    Fenced(Latched),
    /// It took longer than the append timeout.
    #[error("no answer from the disk within {0} ms")]
    TimedOut(u64),
    /// An answer got lost, and the next try was refused.
    #[error("an answer got lost, and the next try was refused: {0}")]
    Refused(Box<AppendError>),
    /// The engine was closed, and not cleanly.
    #[error("the engine was closed before the sync")]
    Closed,
}

impl AppendError {
    /// `false`: certainly not written. `true`: append the same batch again to learn it (I7).
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, AppendError::OutcomeUnknown { .. })
    }

    /// What to ask [`Engine::resolve`](crate::Engine::resolve) with.
    pub fn append_id(&self) -> Option<&AppendId> {
        match self {
            AppendError::OutcomeUnknown { id, .. } => id.as_deref(),
            _ => None,
        }
    }

    /// The error code that Kafka gives to this.
    pub fn kafka_code(&self) -> i16 {
        match self {
            AppendError::Invalid(BatchError::Short { .. } | BatchError::Crc { .. }) => 2,
            AppendError::Invalid(BatchError::TooLarge { .. }) => 10,
            AppendError::Invalid(_) => 87,
            AppendError::TooLarge {
                setting: "segment.bytes",
                ..
            } => 18,
            AppendError::TooLarge { .. } => 10,
            AppendError::Rejected { rejection, .. } => rejection.kafka_code(),
            AppendError::OutcomeUnknown {
                why: Unknown::TimedOut(_),
                ..
            } => 7,
            AppendError::TopicDeleted { .. } => 3,
            AppendError::Internal { .. } => 17,
            AppendError::TimedOut { .. } => 7,
            AppendError::Closed => 6,
            AppendError::LevelTooLow { .. } | AppendError::ReadOnly => 42,
            _ => 56,
        }
    }
}
