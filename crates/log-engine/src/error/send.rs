//! Why a producer did not take a record.

use record_batch::BatchError;

use super::{AppendError, SessionError, TopicError};

/// Why a record was not handed over. The producer goes on as if the call had not been made; only
/// `Fenced`, `Stopped` and `Closed` stay.
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
        "record of {bytes} bytes for topic {topic} exceeds {setting} {limit}; raise it or split the record"
    )]
    TooLarge {
        /// The topic.
        topic: Box<str>,
        /// Bytes of its encoded batch of one, at most.
        bytes: usize,
        /// The limit in force.
        limit: usize,
        /// The setting it comes from: the producer's, or the topic's.
        setting: &'static str,
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
    /// Another handle has the name.
    #[error(
        "producer name {name:?} is in use by {holder}; close that one, or open with take_over to fence it"
    )]
    NameInUse {
        /// The name.
        name: Box<str>,
        /// Who has it.
        holder: Box<str>,
    },
    /// Another handle took the name over.
    #[error("producer name {name:?} was taken over by another handle; stop this one")]
    Fenced {
        /// The name.
        name: Box<str>,
    },
    /// Not a name that a producer may have.
    #[error("{name:?} is no producer name: 1 to 255 bytes without a NUL are")]
    IllegalName {
        /// The name.
        name: Box<str>,
    },
    /// Positions must rise strictly.
    #[error(
        "position {given} does not come after {last}, the last one handed over; positions of a source rise strictly"
    )]
    PositionOrder {
        /// The last position.
        last: u64,
        /// The record's.
        given: u64,
    },
    /// A named producer's records say where in their source they are; others do not.
    #[error(
        "a record of a named producer needs a position, and one of an unnamed producer must have none"
    )]
    Position,
    /// The name routes by a number of partitions that the topic no longer has.
    #[error(
        "producer {name:?} wrote to {before} partitions of topic {topic}, which has {now}: keys would go to other partitions than before, so their order against what is stored would be lost; open with repartition to accept that"
    )]
    Repartitioned {
        /// The name.
        name: Box<str>,
        /// The topic.
        topic: Box<str>,
        /// Partitions when the name first wrote there.
        before: u32,
        /// Partitions now.
        now: u32,
    },
    /// A log lost what it knew of producers.
    #[error(
        "log {log} lost producer history with deleted data, so it cannot tell what this name stored there; delete the topic, or use another name"
    )]
    HistoryLost {
        /// `topic-partition`.
        log: Box<str>,
    },
    /// A log took no sync, so what the name stored there is not known.
    #[error("log {log} is fenced after a failed sync; close the engine and open it again")]
    LogFenced {
        /// `topic-partition`.
        log: Box<str>,
    },
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: Box<str>,
        /// What the system said.
        source: std::io::Error,
    },
    /// Starting the thread that drives producers failed.
    #[error("a thread of the engine cannot be started: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
    /// A setting of the producer cannot be.
    #[error("{setting} is not possible so; allowed: {allowed}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A record would be tried for longer than the topic surely knows its producer; and as the topic
    /// takes producers that it does not know, a late try would be stored twice.
    #[error(
        "topic {topic} has producer.unknown=kafka and forgets producers after {expiry_ms} ms (producer.id.expiration.ms), so a record that is tried for up to {delivery_timeout_ms} ms (delivery_timeout) might be stored twice; set delivery_timeout to at most {} ms, or make the topic with a longer expiry or with producer.unknown=strict",
        expiry_ms / 2
    )]
    Expiry {
        /// The topic.
        topic: Box<str>,
        /// How long the producer tries, in milliseconds.
        delivery_timeout_ms: u64,
        /// After how long a silence the topic forgets a producer, in milliseconds.
        expiry_ms: u64,
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
