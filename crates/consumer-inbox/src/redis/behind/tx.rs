//! A transaction of a [`RedisInbox`](crate::RedisInbox): what it would change, until it commits.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::entry::Settled;
use super::inbox::Shared;
use crate::entity::{Change, EntityRow, EntityStore, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};
use crate::id_row::Origin;
use crate::identity::{DedupKey, Part};
use crate::inbox::Outgoing;

/// A transaction: entities, ids and outgoing records, written in one script at the commit. Dropped before, nothing of it ever was.
///
/// Entities that it loaded must still be so at the commit, or that is [`StoreError::Conflict`].
pub struct RedisTx {
    pub(super) shared: Arc<Shared>,
    pub(super) part: Part,
    pub(super) epoch: u64,
    pub(super) incarnation: String,
    pub(super) writes: Writes,
    pub(super) open: Option<Savepoint>,
    /// Ids that others wait for, and the numbers under which.
    pub(super) locks: Vec<(DedupKey, u128)>,
}

/// A delivery that was admitted and not settled.
pub(super) struct Savepoint {
    pub(super) key: DedupKey,
    pub(super) origin: Origin,
    pub(super) was_parked: bool,
    pub(super) before: Writes,
}

#[derive(Clone, Default)]
pub(super) struct Writes {
    pub(super) ids: HashMap<DedupKey, Settled>,
    /// Ids that keep their state and were seen in a newer record.
    pub(super) seen: Vec<(DedupKey, Origin)>,
    /// With the version that each had when it was first looked at.
    pub(super) entities: HashMap<Vec<u8>, (u64, EntityRow)>,
    pub(super) outgoing: Vec<Outgoing>,
}

impl fmt::Debug for RedisTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTx")
            .field("part", &self.part)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl RedisTx {
    async fn row(&self, id: &[u8]) -> Result<(u64, EntityRow), StoreError> {
        if let Some(mine) = self.writes.entities.get(id) {
            return Ok(mine.clone());
        }
        let row = self.shared.entity(id).await?;
        Ok((row.version, row))
    }
}

impl Drop for RedisTx {
    /// Lets others have the ids, or the leases end.
    fn drop(&mut self) {
        let locks = std::mem::take(&mut self.locks);
        if locks.is_empty() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let shared = self.shared.clone();
            runtime.spawn(async move {
                for (key, owner) in locks {
                    // Of no use if it fails: then the lease ends.
                    let _ = shared.unlock(&key, owner).await;
                }
            });
        }
    }
}

impl EntityStore for RedisTx {
    async fn load(&mut self, id: &[u8], how: Read) -> Result<Option<Versioned>, StoreError> {
        if how == Read::ForUpdate {
            return Err(StoreError::Unsafe(
                "Redis has no locks on entities: use Lock, or load plainly and expect the version",
            ));
        }
        let (version, row) = self.row(id).await?;
        let entity = row.entity();
        self.writes.entities.insert(id.to_vec(), (version, row));
        Ok(entity)
    }

    async fn store(
        &mut self,
        id: &[u8],
        expect: Expect,
        change: Change<'_>,
    ) -> Result<u64, CasError> {
        let (first, row) = self.row(id).await?;
        let new = row.apply(expect, change)?;
        let version = new.version;
        self.writes.entities.insert(id.to_vec(), (first, new));
        Ok(version)
    }

    async fn remove(&mut self, id: &[u8], expect: Expect) -> Result<(), CasError> {
        let (first, row) = self.row(id).await?;
        if let Some(removed) = row.without(expect)? {
            self.writes.entities.insert(id.to_vec(), (first, removed));
        }
        Ok(())
    }
}
