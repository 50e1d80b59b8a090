//! Why something about a group was refused.

use std::sync::Arc;

use segment_storage::codec::CodecError;

use crate::error::{Action, AppendError, ReadError, TopicError};

/// Why something about a consumer group was refused. Unless a variant says otherwise, nothing
/// changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The name is not one that a group may have.
    #[error(
        "{name:?} is no group name: 1 to 249 of the characters a-z A-Z 0-9 . _ - are, but not . or .. alone"
    )]
    IllegalName {
        /// What was given.
        name: String,
    },
    /// A member must say what it reads.
    #[error("a member of group {group} names no topic; name one with Group::topic")]
    NoTopic {
        /// The group.
        group: Arc<str>,
    },
    /// There are as many groups as may be.
    #[error("there are {limit} groups already, the most that an engine keeps; delete one")]
    TooManyGroups {
        /// The limit.
        limit: usize,
    },
    /// No such group.
    #[error("there is no group {name}; the first member that joins makes it")]
    UnknownGroup {
        /// What was asked for.
        name: String,
    },
    /// The group has members.
    #[error("group {group} has {members} members; let them leave first")]
    InUse {
        /// The group.
        group: Arc<str>,
        /// How many.
        members: usize,
    },
    /// A limit out of range.
    #[error("max_in_flight is 1 to {limit}, not {asked}")]
    MaxInFlight {
        /// What was asked for.
        asked: usize,
        /// The most that is possible.
        limit: usize,
    },
    /// A time that is too long.
    #[error("a {what} of {asked_ms} ms is longer than the limit of {limit_ms} ms (12 h)")]
    TooLong {
        /// Which time.
        what: &'static str,
        /// What was asked for, in milliseconds.
        asked_ms: u64,
        /// The longest that is possible, in milliseconds.
        limit_ms: u64,
    },
    /// The partition has another owner by now, or was sought. The new owner has the record.
    #[error(
        "{topic}-{partition} is in epoch {current} of the group, the receipt is of epoch {epoch}; drop the delivery, the record is delivered again to the present owner"
    )]
    Fenced {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// Of the receipt.
        epoch: u64,
        /// The partition's.
        current: u64,
    },
    /// The record was delivered again since: the visibility of this delivery had ended.
    #[error(
        "offset {offset} of {topic}-{partition} was delivered again: the receipt is of delivery {delivery}, the last one is {current}; drop this one, and ask for more visibility or extend it"
    )]
    Superseded {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
        /// Of the receipt.
        delivery: u32,
        /// The record's last.
        current: u32,
    },
    /// There was no such delivery.
    #[error(
        "offset {offset} of {topic}-{partition} was not delivered to the group; use a receipt that it gave"
    )]
    NotDelivered {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
    },
    /// The member does not have the partition.
    #[error(
        "the member does not have {topic}-{partition} (any more); Member::assigned says what it has"
    )]
    NotAssigned {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
    },
    /// The member has left, or the group was deleted.
    #[error("the member has left group {group}; join again")]
    Left {
        /// The group.
        group: Arc<str>,
    },
    /// The group's position is not in the log (any more): records that it did not consume are gone.
    /// Nothing is skipped: seek to where to go on, or stop.
    #[error(
        "group {group} is at offset {position} of {topic}-{partition}, which has {start} to {end}; what lies between is lost to it: seek to go on, or stop"
    )]
    Gap {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// The committed position.
        position: u64,
        /// First offset of the log.
        start: u64,
        /// Its end.
        end: u64,
    },
    /// No such offset in the log.
    #[error("offset {asked} of {topic}-{partition} is outside of {start} to {end}")]
    OutOfRange {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// What was asked for.
        asked: u64,
        /// First offset of the log.
        start: u64,
        /// Its end, the high watermark.
        end: u64,
    },
    /// The member has nowhere to put dead letters.
    #[error("group {group} has no dead-letter topic; name one with Group::dead_letter")]
    NoDeadLetterTopic {
        /// The group.
        group: Arc<str>,
    },
    /// A group cannot put dead letters into a topic that it reads.
    #[error(
        "group {group} reads {topic}, so it cannot be its dead-letter topic: each would come back; name another one"
    )]
    DeadLetterOfItself {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
    },
    /// A dead letter is being sent again by somebody else just now.
    #[error(
        "the dead letter at offset {offset} of {topic}-{partition} is being sent again; wait for that"
    )]
    BeingSentAgain {
        /// The dead-letter topic.
        topic: Arc<str>,
        /// Its partition.
        partition: u32,
        /// The dead letter's offset.
        offset: u64,
    },
    /// A topic is missing, or cannot be made.
    #[error(transparent)]
    Topic(Arc<TopicError>),
    /// Records could not be read. Nothing was skipped.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record could not be appended to a dead-letter topic, or sent again.
    #[error("{topic}: {source}")]
    Append {
        /// The topic.
        topic: Arc<str>,
        /// Why.
        source: Box<AppendError>,
    },
    /// What happened could not be written to the log of groups.
    #[error("the log of consumer groups: {0}")]
    Journal(#[source] AppendError),
    /// The log of groups could not be read when the engine was opened.
    #[error(
        "the log of consumer groups cannot be read: {0}; until it can, retention deletes nothing of any topic. Run `oncelog verify`, then `oncelog repair`"
    )]
    Unreadable(#[source] Box<JournalError>),
    /// The engine is open for reading only.
    #[error("the engine is open for reading only; open it with Engine::open to consume in a group")]
    ReadOnly,
    /// The engine is closed.
    #[error("the engine is closed; open it again")]
    Closed,
}

/// Why the log of groups cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Its records cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record is no event that this release knows.
    #[error("the record at offset {offset}: {source}")]
    Event {
        /// Its offset.
        offset: u64,
        /// Why.
        source: Arc<CodecError>,
    },
    /// A log was found to end below what a group knows of it, and that could not be noted.
    #[error("it takes no events: {0}")]
    Write(#[source] AppendError),
}

impl From<TopicError> for GroupError {
    fn from(error: TopicError) -> GroupError {
        match error {
            TopicError::Closed => GroupError::Closed,
            TopicError::ReadOnly => GroupError::ReadOnly,
            other => GroupError::Topic(Arc::new(other)),
        }
    }
}

impl GroupError {
    /// The one safe thing to do.
    pub fn action(&self) -> Action {
        match self {
            GroupError::BeingSentAgain { .. } | GroupError::InUse { .. } => Action::Retry,
            GroupError::Topic(error) => error.action(),
            GroupError::Read(error) => error.action(),
            GroupError::Append { source, .. } => source.action(),
            GroupError::Journal(source) => source.action(),
            GroupError::Gap { .. } | GroupError::Unreadable(_) => Action::FixData,
            GroupError::Fenced { .. } | GroupError::Superseded { .. } => Action::Stop,
            GroupError::Closed => Action::Reopen,
            _ => Action::FixCall,
        }
    }

    // Nothing was written for want of a prepared segment, which comes.
    pub(super) fn is_not_ready(&self) -> bool {
        matches!(self, GroupError::Journal(AppendError::NotReady { .. }))
    }
}
