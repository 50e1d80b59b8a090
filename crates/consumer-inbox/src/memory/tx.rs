//! A transaction of the inbox in memory: what it would change, until it commits.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::entities::NO_LOCKS;
use super::inbox::Shared;
use crate::entity::{Change, EntityRow, EntityStore, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};
use crate::id_row::{IdRow, Origin};
use crate::identity::{DedupKey, Part};
use crate::inbox::Outgoing;

/// A transaction: entities, ids and outgoing records. Dropped without a commit, nothing of it ever was.
pub struct MemoryTx {
    pub(super) number: u64,
    pub(super) part: Part,
    pub(super) epoch: u64,
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) writes: Writes,
    pub(super) open: Option<Savepoint>,
}

/// A delivery that was admitted and not settled.
pub(super) struct Savepoint {
    pub(super) key: DedupKey,
    /// The newest record that carries the id.
    pub(super) origin: Origin,
    /// What the transaction would have changed before it.
    pub(super) before: Writes,
}

/// What a transaction would change.
#[derive(Clone, Default)]
pub(super) struct Writes {
    pub(super) ids: HashMap<DedupKey, IdRow>,
    /// Ids that keep their state and were seen in a newer record.
    pub(super) seen: Vec<(DedupKey, Origin)>,
    /// With the version that each had when it was first looked at.
    pub(super) entities: HashMap<Vec<u8>, (u64, EntityRow)>,
    pub(super) outgoing: Vec<Outgoing>,
}

impl MemoryTx {
    fn row(&self, id: &[u8]) -> (u64, EntityRow) {
        let mine = self.writes.entities.get(id).cloned();
        mine.unwrap_or_else(|| {
            let row = self.shared.lock().entities.get(id).cloned();
            let row = row.unwrap_or_default();
            (row.version, row)
        })
    }
}

impl Drop for MemoryTx {
    fn drop(&mut self) {
        let number = self.number;
        self.shared.lock().open.retain(|_, tx| *tx != number);
    }
}

impl EntityStore for MemoryTx {
    async fn load(&mut self, id: &[u8], how: Read) -> Result<Option<Versioned>, StoreError> {
        if how == Read::ForUpdate {
            return Err(NO_LOCKS);
        }
        let (version, row) = self.row(id);
        let entity = row.entity();
        // What was read must still be so at the commit.
        self.writes.entities.insert(id.to_vec(), (version, row));
        Ok(entity)
    }

    async fn store(
        &mut self,
        id: &[u8],
        expect: Expect,
        change: Change<'_>,
    ) -> Result<u64, CasError> {
        let (first, row) = self.row(id);
        let new = row.apply(expect, change)?;
        let version = new.version;
        self.writes.entities.insert(id.to_vec(), (first, new));
        Ok(version)
    }

    async fn remove(&mut self, id: &[u8], expect: Expect) -> Result<(), CasError> {
        let (first, row) = self.row(id);
        if let Some(removed) = row.without(expect)? {
            self.writes.entities.insert(id.to_vec(), (first, removed));
        }
        Ok(())
    }
}
