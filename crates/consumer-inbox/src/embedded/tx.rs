//! A transaction of the inbox in the log: what it would write, until it commits.

use std::collections::BTreeMap;

use super::ledger::Shared;
use crate::id_row::{IdRow, Origin};
use crate::identity::{DedupKey, Part};
use crate::inbox::Outgoing;

/// A transaction: ids, position and outgoing records, which are its effect. Dropped without a commit, nothing of it ever was.
#[derive(Debug)]
pub struct EmbeddedTx {
    pub(super) number: u64,
    pub(super) part: Part,
    pub(super) epoch: u64,
    pub(super) ledger: Shared,
    pub(super) writes: Writes,
    pub(super) open: Option<Savepoint>,
}

/// A delivery that was admitted and not settled.
#[derive(Debug)]
pub(super) struct Savepoint {
    pub(super) key: DedupKey,
    /// The newest record that carries the id.
    pub(super) origin: Origin,
    /// What the transaction would have written before it.
    pub(super) before: Writes,
}

/// What a transaction would write.
#[derive(Debug, Clone, Default)]
pub(super) struct Writes {
    pub(super) ids: BTreeMap<DedupKey, IdRow>,
    /// Ids that keep their state and were seen in a newer record.
    pub(super) seen: Vec<(DedupKey, Origin)>,
    pub(super) outgoing: Vec<Outgoing>,
}

impl EmbeddedTx {
    /// The partition whose deliveries it carries.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Queues a record, as [`Inbox::emit`](crate::Inbox::emit) does: for handlers, which have the transaction alone.
    pub fn emit(&mut self, record: Outgoing) {
        self.writes.outgoing.push(record);
    }
}

impl Drop for EmbeddedTx {
    fn drop(&mut self) {
        let number = self.number;
        let mut state = self.ledger.state.lock();
        state.open.retain(|_, tx| *tx != number);
    }
}
