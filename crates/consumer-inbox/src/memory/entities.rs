//! Entities in memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::entity::{Change, EntityRow, EntityStore, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};

/// What a store without locks answers to [`Read::ForUpdate`].
pub(super) const NO_LOCKS: StoreError = StoreError::Unsafe(
    "this store has no locks on entities: use Lock, or load plainly and expect the version",
);

/// Entities in memory, each call a transaction of its own. A clone is the same store.
#[derive(Debug, Clone, Default)]
pub struct MemoryEntities {
    rows: Arc<Mutex<HashMap<Vec<u8>, EntityRow>>>,
}

impl MemoryEntities {
    /// No entities.
    pub fn new() -> MemoryEntities {
        MemoryEntities::default()
    }
}

impl EntityStore for MemoryEntities {
    async fn load(&mut self, id: &[u8], how: Read) -> Result<Option<Versioned>, StoreError> {
        match how {
            Read::Plain => Ok(self.rows.lock().get(id).and_then(EntityRow::entity)),
            Read::ForUpdate => Err(NO_LOCKS),
        }
    }

    async fn store(
        &mut self,
        id: &[u8],
        expect: Expect,
        change: Change<'_>,
    ) -> Result<u64, CasError> {
        let mut rows = self.rows.lock();
        let old = rows.get(id).cloned().unwrap_or_default();
        let new = old.apply(expect, change)?;
        let version = new.version;
        rows.insert(id.to_vec(), new);
        Ok(version)
    }

    async fn remove(&mut self, id: &[u8], expect: Expect) -> Result<(), CasError> {
        let mut rows = self.rows.lock();
        let old = rows.get(id).cloned().unwrap_or_default();
        if let Some(removed) = old.without(expect)? {
            rows.insert(id.to_vec(), removed);
        }
        Ok(())
    }
}
