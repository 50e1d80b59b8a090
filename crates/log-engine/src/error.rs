//! One enum per operation, and [`Error`], their sum.

use std::fmt;
use std::io;
use std::sync::Arc;

use record_batch::BatchError;
use segment_storage::{Corruption, Latched, SlotError, StateFileError};

use crate::append_id::AppendId;
use crate::config::ConfigError;
use crate::groups::GroupError;

mod action;
mod append;
mod send;

pub use action::Action;
pub use append::{AppendError, Unknown};
pub use send::SendError;

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another handle, here or in another process, writes it.
    #[error(
        "data directory {directory} is in use by {holder}; close that one first, or only read beside it"
    )]
    DirectoryInUse {
        /// The directory.
        directory: String,
        /// Process and host, as the holder wrote them, and for how long.
        holder: String,
    },
    /// There is no data directory, and none may be made.
    #[error(
        "there is no data directory at {directory}: no file `format` is in it; name another one, or let it be created (Engine::open)"
    )]
    Missing {
        /// The directory.
        directory: String,
    },
    /// There is one already.
    #[error("{directory} is an oncelog data directory already; name another one")]
    Exists {
        /// The directory.
        directory: String,
    },
    /// The directory holds something else.
    #[error(
        "{directory} is not empty and not an oncelog data directory (it holds {entry}); name an empty or a new one"
    )]
    NotADataDirectory {
        /// The directory.
        directory: String,
        /// An entry that does not belong there.
        entry: String,
    },
    /// A newer release wrote it.
    #[error(
        "{file} needs features {features:#x} that this release does not have; use the release that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// The unknown feature bits.
        features: u64,
    },
    /// A metadata file is damaged.
    #[error("{0}; put an undamaged copy of the file back, or run `oncelog repair`")]
    StateFile(#[from] StateFileError),
    /// A slot file is damaged.
    #[error("{0}; run `oncelog verify`, then `oncelog repair`")]
    SlotFile(#[from] SlotError),
    /// The producer id allocator cannot be trusted.
    #[error(transparent)]
    Allocator(#[from] pid_allocator::AllocateError),
    /// A log cannot be opened at all.
    #[error("log {log}: {source}")]
    Log {
        /// `topic-partition`.
        log: String,
        /// Why.
        source: partition_log::OpenError,
    },
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// File or directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Starting a thread failed.
    #[error("a thread of the engine cannot be started: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// Why something about a topic was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// No such topic.
    #[error(
        "there is no topic {name}; create it with Engine::create_topic, or `oncelog topic create {name}`"
    )]
    UnknownTopic {
        /// The name.
        name: String,
    },
    /// No such partition.
    #[error("topic {name} has partitions 0 to {}, not {partition}; name one of those", partitions - 1)]
    UnknownPartition {
        /// The topic.
        name: String,
        /// What was asked for.
        partition: u32,
        /// How many it has.
        partitions: u32,
    },
    /// The name is not one that a topic may have (I42).
    #[error(
        "{name:?} is no topic name: 1 to 249 of the characters a-z A-Z 0-9 . _ - are, but not . or .. alone"
    )]
    IllegalName {
        /// The name.
        name: String,
    },
    /// The name is that of one of the engine's own topics.
    #[error(
        "{name} is the engine's own topic, users neither make nor change it; take another name"
    )]
    Internal {
        /// The name.
        name: String,
    },
    /// The topic is there already.
    #[error("topic {name} exists already (partitions: {partitions}); use it, or take another name")]
    Exists {
        /// The name.
        name: String,
        /// How many partitions it has.
        partitions: u32,
    },
    /// Partition counts out of range.
    #[error("a topic has 1 to 10000 partitions, not {partitions}")]
    PartitionCount {
        /// What was asked for.
        partitions: u32,
    },
    /// An offset outside of what can be deleted.
    #[error(
        "offset {asked} is outside of {start} to {end} (the high watermark); give one of those"
    )]
    OffsetOutOfRange {
        /// What was asked for.
        asked: u64,
        /// Log start offset.
        start: u64,
        /// High watermark.
        end: u64,
    },
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The engine is open for reading only.
    #[error("the engine is open for reading only; open it with Engine::open")]
    ReadOnly,
    /// The engine is closed.
    #[error("the engine is closed; open it again")]
    Closed,
    /// A log could not be made.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// File or directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why there is no new producer session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No producer id could be allocated.
    #[error(transparent)]
    Allocate(#[from] pid_allocator::AllocateError),
    /// The engine is open for reading only.
    #[error("the engine is open for reading only; open it with Engine::open")]
    ReadOnly,
    /// The engine is closed.
    #[error("the engine is closed; open it again")]
    Closed,
}

/// Why a read failed. The reader stays where it was.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The offset was deleted.
    #[error(
        "offset {asked} of {topic}-{partition} was deleted, the log begins at {first}; read from there"
    )]
    Deleted {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        asked: u64,
        /// First offset that exists.
        first: u64,
    },
    /// The offset lies above the high watermark.
    #[error(
        "offset {asked} of {topic}-{partition} is above its high watermark {end}; read from there, or from below"
    )]
    OutOfRange {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        asked: u64,
        /// The high watermark.
        end: u64,
    },
    /// Damaged, or not readable; nothing was skipped.
    #[error(transparent)]
    Storage(#[from] segment_storage::ReadError),
    /// A batch is whole, but what it holds is not as it must be.
    #[error(
        "the batch at offset {offset} of {topic}-{partition}: {source}; its producer wrote it so, read on behind it"
    )]
    Malformed {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// Offset of the batch's last record.
        offset: u64,
        /// What is wrong.
        source: BatchError,
    },
    /// The log could not be opened.
    #[error(transparent)]
    Damaged(Corruption),
    /// No such topic or partition.
    #[error(transparent)]
    Topic(#[from] Arc<TopicError>),
    /// The files of another process's log could not be opened.
    #[error(transparent)]
    Open(#[from] Arc<partition_log::OpenError>),
    /// The topic was deleted.
    #[error("topic {topic} was deleted")]
    TopicDeleted {
        /// The topic.
        topic: Arc<str>,
    },
    /// The engine is closed.
    #[error("the engine is closed; open it again")]
    Closed,
}

impl ReadError {
    /// The offset that a reader may go on from after [`ReadError::Deleted`].
    pub fn first_available(&self) -> Option<u64> {
        match self {
            ReadError::Deleted { first, .. } => Some(*first),
            _ => None,
        }
    }
}

/// Why the outcome of an append could not be looked up.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is in the log, but the log is fenced: whether it is on the disk shows when it is opened
    /// again.
    #[error(
        "the append is in the log of {topic}-{partition}, which is fenced; close the engine, open it again and resolve again"
    )]
    NotDurable {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
    },
    /// The disk, or the producer that has the record under way, did not answer in time (I32).
    #[error(
        "what became of the append to {topic}-{partition} is not known yet: no answer within {timeout_ms} ms; resolve again"
    )]
    TimedOut {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The engine's append timeout, in milliseconds.
        timeout_ms: u64,
    },
    /// Only the directory's writer can say that an append never will be in it.
    #[error("the engine is open for reading only; only its writer can resolve an append")]
    ReadOnly,
    /// The engine is closed.
    #[error("the engine is closed; open it again and resolve again")]
    Closed,
}

/// Why an engine did not close cleanly. Everything that was answered is safe; the next open
/// recovers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The disk did not answer in time (I32).
    #[error("closing took longer than {timeout_ms} ms; the next open recovers")]
    TimedOut {
        /// The deadline, in milliseconds.
        timeout_ms: u64,
    },
    /// Some logs could not be closed.
    #[error("{log} was not closed cleanly: {source}; the next open recovers it")]
    Log {
        /// `topic-partition`, or the file.
        log: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A log was fenced before.
    #[error(transparent)]
    Fenced(#[from] Latched),
}

/// Any error of this crate, for those who only pass it on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of opening.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Of topics.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Of sessions.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Of appending.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Of sending.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Of reading.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Of resolving.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Of consumer groups.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Of closing.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// Of settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Of a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl Error {
    /// `false`: certainly not done. `true`: ask [`Engine::resolve`](crate::Engine::resolve) (I7).
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Error::Append(error) => error.is_outcome_unknown(),
            Error::Resolve(error) => matches!(error, ResolveError::TimedOut { .. }),
            _ => false,
        }
    }

    /// What to ask [`Engine::resolve`](crate::Engine::resolve) with; there when the outcome is unknown.
    pub fn append_id(&self) -> Option<&AppendId> {
        match self {
            Error::Append(error) => error.append_id(),
            _ => None,
        }
    }
}

/// `topic-partition`, as logs are called.
pub(crate) struct LogName<'a>(pub(crate) &'a str, pub(crate) u32);

impl fmt::Display for LogName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}
