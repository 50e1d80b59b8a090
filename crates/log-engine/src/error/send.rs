//! Why a producer did not take a record.

use record_batch::BatchError;

use super::{Action, AppendError, SessionError, TopicError};

/// Why a record was not handed over. The producer goes on as if the call had not been made; only
/// `Stopped` and `Closed` stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The record names no topic.
    #[error("the record names no topic; make it with Record::to(topic)")]
    NoTopic,
    /// No such topic or partition.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// There is no room in the buffer.
    #[error(
        "the buffer holds {buffered} bytes of {limit} without an answer; wait for room with send or blocking_send, or raise buffer_bytes"
    )]
    Full {
        /// Bytes without an answer.
        buffered: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The record is too large.
    #[error(
        "record of {bytes} bytes for topic {topic} exceeds max_record_bytes {limit}; raise it or split the record"
    )]
    TooLarge {
        /// The topic.
        topic: Box<str>,
        /// Bytes of its encoded batch of one, at most.
        bytes: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The record cannot be encoded.
    #[error("a record for topic {topic} cannot be encoded: {error}")]
    Invalid {
        /// The topic.
        topic: Box<str>,
        /// Why.
        #[source]
        error: BatchError,
    },
    /// A setting of the producer cannot be.
    #[error("{setting} is not possible so; allowed: {allowed}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// No producer id could be had.
    #[error("no producer session: {0}")]
    Session(#[source] SessionError),
    /// The producer cannot go on: it was fenced, or cannot know what it sent.
    #[error("the producer cannot go on: {0}; open another one")]
    Stopped(#[source] Box<AppendError>),
    /// The producer, or the engine, is closed.
    #[error("the producer is closed; open another one")]
    Closed,
}

impl SendError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            SendError::Full { .. } | SendError::Session(_) => Action::Retry,
            SendError::TooLarge { .. } | SendError::Invalid { .. } => Action::FixData,
            SendError::Stopped(_) | SendError::Closed => Action::Stop,
            _ => Action::FixCall,
        }
    }
}
