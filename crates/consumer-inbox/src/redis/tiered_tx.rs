//! A transaction of a [`Tiered`](crate::Tiered) inbox.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::front::Front;
use crate::delivery::Delivery;
use crate::entity::{Change, EntityStore, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};
use crate::identity::Part;

/// A transaction that begins in the database when something must be asked there. A handler has that in [`inner`](TieredTx::inner).
pub struct TieredTx<T> {
    pub(super) part: Part,
    pub(super) epoch: u64,
    pub(super) inner: Option<T>,
    pub(super) marks: Vec<Mark>,
    pub(super) is_admitted: bool,
    /// Whether Redis answered for the database.
    pub(super) absorbed: bool,
    front: Arc<Front>,
}

/// An id that the transaction asked the database about.
pub(super) struct Mark {
    pub(super) delivery: Delivery,
    /// Whoever claimed it in Redis, if it did.
    pub(super) owner: Option<u128>,
    /// The result, if it is done when the transaction is committed.
    pub(super) done: Option<Option<Bytes>>,
}

impl<T> TieredTx<T> {
    pub(super) fn new(part: Part, epoch: u64, front: Arc<Front>) -> TieredTx<T> {
        TieredTx {
            part,
            epoch,
            inner: None,
            marks: Vec::new(),
            is_admitted: false,
            absorbed: false,
            front,
        }
    }

    /// The database's transaction: there behind each `Run`.
    ///
    /// # Errors
    /// `Misuse` if nothing was admitted yet.
    pub fn inner(&mut self) -> Result<&mut T, StoreError> {
        let none = StoreError::Misuse("the transaction begins when a delivery is admitted to run");
        self.inner.as_mut().ok_or(none)
    }
}

impl<T> fmt::Debug for TieredTx<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredTx")
            .field("part", &self.part)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl<T> Drop for TieredTx<T> {
    /// Gives the ids back, or their leases end.
    fn drop(&mut self) {
        let marks = std::mem::take(&mut self.marks);
        let held = marks.into_iter().filter_map(|mark| {
            let owner = mark.owner?;
            Some((mark.delivery.dedup_key().clone(), owner))
        });
        let held: Vec<_> = held.collect();
        if held.is_empty() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let front = self.front.clone();
            runtime.spawn(async move {
                for (key, owner) in held {
                    // Of no use if it fails: then the lease ends.
                    let _ = front.release(&key, owner).await;
                }
            });
        }
    }
}

impl<T: EntityStore> EntityStore for TieredTx<T> {
    async fn load(&mut self, id: &[u8], how: Read) -> Result<Option<Versioned>, StoreError> {
        self.inner()?.load(id, how).await
    }

    async fn store(
        &mut self,
        id: &[u8],
        expect: Expect,
        change: Change<'_>,
    ) -> Result<u64, CasError> {
        self.inner()?.store(id, expect, change).await
    }

    async fn remove(&mut self, id: &[u8], expect: Expect) -> Result<(), CasError> {
        self.inner()?.remove(id, expect).await
    }
}
