//! What an inbox has committed, to be read by what stands before it.

use std::future::Future;

use bytes::Bytes;

use crate::error::StoreError;
use crate::id_row::Origin;
use crate::identity::{BizId, DedupKey, Fingerprint, Position, Scope};
use crate::inbox::Inbox;

/// An id that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedId {
    /// The id, in its scope.
    pub id: BizId,
    /// Of its payload.
    pub fingerprint: Fingerprint,
    /// The newest record that carried it.
    pub origin: Origin,
    /// What the handler returned.
    pub result: Option<Bytes>,
}

/// What an inbox has committed of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Its id is done.
    Done,
    /// Its id is parked.
    Parked,
    /// Its id is unknown, and the stored position is behind it: it was done, and forgotten.
    Passed,
    /// Nothing.
    Absent,
}

/// An inbox whose committed ids can be read, in transactions that change nothing.
pub trait CommittedIds: Inbox {
    /// Ids of a scope that are done, settled at `since_ms` or later by the store's clock, in the order of their bytes, those
    /// behind `after`, at most `max`.
    fn committed(
        &self,
        scope: &Scope,
        since_ms: u64,
        after: Option<&BizId>,
        max: usize,
    ) -> impl Future<Output = Result<Vec<CommittedId>, StoreError>> + Send;

    /// What is committed of a record.
    fn look_up(
        &self,
        key: &DedupKey,
        at: Position<'_>,
    ) -> impl Future<Output = Result<Known, StoreError>> + Send;
}
