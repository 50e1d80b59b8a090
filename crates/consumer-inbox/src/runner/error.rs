//! Why a consumer is not built, or stops.

use std::error::Error;

use log_engine::GroupError;

use crate::error::StoreError;
use crate::identity::IdError;

/// Why a consumer is not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Nobody said where records go that are given up.
    #[error(
        "no dead-letter topic: name one with dead_letter(topic), or say no_dead_letter(), which drops what is given up"
    )]
    NoDeadLetter,
    /// Something that must be at least 1 is 0.
    #[error("{what} is 0: it is at least 1")]
    Zero {
        /// What.
        what: &'static str,
    },
    /// A lease could end before the delivery does.
    #[error(
        "the lease of {lease_ms} ms is shorter than visibility and margin together, {least_ms} ms: make it longer, or the visibility shorter"
    )]
    ShortLease {
        /// The lease, ms.
        lease_ms: u64,
        /// The least that is possible, ms.
        least_ms: u64,
    },
    /// A lease, or a visibility, is renewed too rarely.
    #[error(
        "renewed every {every_ms} ms, a lease or visibility of {of_ms} ms may end in between: renew at least twice as often"
    )]
    RareRenewal {
        /// How often, ms.
        every_ms: u64,
        /// The shorter of lease and visibility, ms.
        of_ms: u64,
    },
    /// An id could be forgotten while its fact is still on its way.
    #[error(
        "the republish window of {window_ms} ms is shorter than visibility times attempts, the pauses between them and the longest producer retry together, {least_ms} ms: make it longer, or those shorter"
    )]
    ShortWindow {
        /// The window, ms.
        window_ms: u64,
        /// The least that is possible, ms.
        least_ms: u64,
    },
}

/// Why a consumer stopped. What it had not finished is delivered again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The group.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The store; [`StoreError::Gap`] if its position is not in the log (E10).
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record without a usable id, and [`IdPolicy::Fail`](crate::IdPolicy::Fail).
    #[error(transparent)]
    Id(#[from] IdError),
    /// The handler said so.
    #[error("the handler stopped the consumer: {0}")]
    Fatal(#[source] Box<dyn Error + Send + Sync>),
    /// What the inbox sends could not be sent; it is still there.
    #[error("the inbox's outgoing records: {0}")]
    Forward(#[source] Box<dyn Error + Send + Sync>),
    /// A part of the consumer itself died.
    #[error("a task of the consumer ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}
