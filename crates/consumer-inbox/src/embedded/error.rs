//! Why ids in the log could not be opened, or its outputs forwarded.

use log_engine::{AppendError, BatchError, ReadError, SendError, TopicError};

use super::wire::WireError;
use crate::error::StoreError;

/// Why a store in the log was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// Its topic could not be opened or made.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A setting of its topic cannot be.
    #[error(transparent)]
    Config(#[from] log_engine::ConfigError),
    /// Its log could not be read. Nothing of it is believed then: `repair` it, or restore a backup.
    #[error("{topic}: {source}")]
    Read {
        /// The topic.
        topic: String,
        /// What the log said.
        source: ReadError,
    },
    /// A batch of its log does not decode.
    #[error("{topic}, at offset {offset}: {source}")]
    Batch {
        /// The topic.
        topic: String,
        /// Of the first record that was expected.
        offset: u64,
        /// What is wrong.
        source: BatchError,
    },
    /// A record of its log does not decode.
    #[error("{topic}, record {offset}: {source}")]
    Event {
        /// The topic.
        topic: String,
        /// Of the record.
        offset: u64,
        /// What is wrong.
        source: WireError,
    },
}

impl From<EmbeddedError> for StoreError {
    fn from(error: EmbeddedError) -> StoreError {
        StoreError::backend(error)
    }
}

/// Why outputs were not forwarded. Those before it are, and nothing is lost: call again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// What the store said.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record was not taken; a topic that is missing must be made.
    #[error("output {number} for topic {topic} was not taken: {source}")]
    Send {
        /// The output's number.
        number: u64,
        /// Where it should go.
        topic: std::sync::Arc<str>,
        /// Why not.
        source: SendError,
    },
    /// The producer that forwards could not be opened.
    #[error("the producer that forwards was not opened: {0}")]
    Open(#[source] SendError),
    /// A record was taken, and not stored.
    #[error("an output was not stored: {0}")]
    Append(#[from] AppendError),
    /// Another call forwards.
    #[error("another call is forwarding: one at a time")]
    Running,
}
