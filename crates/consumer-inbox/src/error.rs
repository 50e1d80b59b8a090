//! What a store says when it cannot do what was asked.

use std::error::Error;
use std::time::Duration;

use crate::admission::Token;

/// Why a store did not do what was asked.
///
/// The difference that matters most is between [`Unavailable`](StoreError::Unavailable), after which a
/// caller may do anything, and [`Unknown`](StoreError::Unknown), after which it may only repeat the
/// same call. A store that cannot tell says `Unknown`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store was not reached, or refused; nothing was changed.
    #[error("the store is unavailable and nothing was changed: try again later")]
    Unavailable,
    /// The answer was lost: it may have been done.
    #[error(
        "the store's answer was lost, and what was asked may have been done: repeat the same call, with the same owner or token"
    )]
    Unknown,
    /// Not the current token any more: another owner has the id.
    #[error("token {} is not the current one any more, another owner has the id: do not acknowledge", .0.get())]
    Lost(Token),
    /// The partition has another owner.
    #[error(
        "epoch {held} of the partition is not the stored epoch {current}: another member owns it, drop the delivery; if the stored one is smaller, call assign first"
    )]
    Fenced {
        /// The caller's epoch.
        held: u64,
        /// The stored epoch; 0 if none was ever assigned.
        current: u64,
    },
    /// The stored position and the log do not meet (E10).
    #[error(
        "the stored position is {want}, the log has {have}: records in between are missing; decide where to go on and seek there"
    )]
    Gap {
        /// The position that is stored.
        want: u64,
        /// The nearest that the log has.
        have: u64,
    },
    /// A store of limited size refuses rather than forgets.
    #[error("the store is full, and forgets nothing on its own: sweep, or make it larger")]
    Full,
    /// Another transaction changed the same thing; nothing of this one was written.
    #[error(
        "another transaction changed the same thing first, and nothing of this one was written: run the whole delivery again"
    )]
    Conflict,
    /// Not now; nothing was changed.
    #[error("the store asks for a pause of {} ms, and nothing was changed", retry_after.as_millis())]
    Busy {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// A setting of the store would break what is promised (E13), or what was asked for does not exist there.
    #[error("refused: {0}")]
    Unsafe(&'static str),
    /// The caller broke the protocol of calls; nothing was changed.
    #[error("wrong use: {0}")]
    Misuse(&'static str),
    /// What the store's driver said. What was asked was not done.
    #[error("the store failed: {0}")]
    Backend(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Whether what was asked may have been done, so that only the same call may follow.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, StoreError::Unknown)
    }

    /// Whether somebody else has the work now: drop the delivery, acknowledge nothing.
    pub fn is_superseded(&self) -> bool {
        matches!(self, StoreError::Lost(_) | StoreError::Fenced { .. })
    }

    /// A driver's error.
    pub fn backend(error: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::Backend(error.into())
    }
}

/// Why an entity was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CasError {
    /// It is not at the version that was expected; nothing was changed.
    #[error(
        "the entity is at version {actual:?}, which was not expected: load it again and decide anew"
    )]
    Conflict {
        /// Its version; none if it does not exist.
        actual: Option<u64>,
    },
    /// Its amount is too small; nothing was changed.
    #[error("the entity's amount is {amount:?}, at least {wanted} was expected")]
    Short {
        /// The least that was expected.
        wanted: i64,
        /// Its amount; none if it does not exist.
        amount: Option<i64>,
    },
    /// The amount would leave -(2^53 - 1) to 2^53 - 1; nothing was changed.
    #[error("the amount would leave the range of 53 bits, which every store keeps exactly")]
    Range,
    /// What the store said.
    #[error(transparent)]
    Store(#[from] StoreError),
}
