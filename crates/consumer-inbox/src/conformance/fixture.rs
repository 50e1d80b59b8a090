//! What the suite needs to know of a store.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::dedup_store::DedupStore;
use crate::entity::EntityStore;
use crate::error::{CasError, StoreError};
use crate::identity::Scope;
use crate::inbox::Inbox;

/// A lease that the suite lets run out.
pub const SHORT: Duration = Duration::from_millis(200);

/// A lease that ends in no case.
pub const LONG: Duration = Duration::from_secs(600);

/// What is tested.
pub trait Named: Send + Sync + 'static {
    /// The store's name in what tests print.
    fn backend(&self) -> &'static str;

    /// A scope whose group and scenario were not used before; another at each call.
    fn scope(&self) -> Scope;

    /// Lets at least so much time of the store's clock pass: moves a virtual one, or sleeps.
    fn pass(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Whether what was settled survives [`reopen`](Fixture::reopen).
    fn is_durable(&self) -> bool;

    /// Whether a case, named as in the suite (`case_07`), applies to the store: then it must not say that it does not, and the other way round. None: it
    /// may say either.
    fn applies(&self, _case: &str) -> Option<bool> {
        None
    }
}

/// A [`DedupStore`] to test, of which nobody else uses any part.
pub trait Fixture: Named {
    /// The store.
    type Store: DedupStore;

    /// The store as it is open now.
    fn store(&self) -> Arc<Self::Store>;

    /// Ends the store without closing it, as a crash would, and opens it again. Asked only of durable stores.
    fn reopen(&self) -> impl Future<Output = ()> + Send;

    /// Whether opening ends every lease, since nobody else can have the store.
    fn reopening_ends_leases(&self) -> bool {
        false
    }

    /// Lets the next reply get lost after the store acted, so that the call says `Unknown`. False if it cannot: then the suite
    /// takes the reply and forgets it.
    fn lose_next_reply(&self) -> bool {
        false
    }

    /// A store of at most so many ids; none if stores have no bound.
    fn bounded(&self, _ids: usize) -> Option<Arc<Self::Store>> {
        None
    }

    /// Lets the wall clock of this process jump; false if the store has nothing to do with it.
    fn jump_wall(&self, _ms: i64) -> bool {
        false
    }

    /// Sets the store's clock back; false if it cannot be.
    fn set_back(&self, _time: Duration) -> bool {
        false
    }

    /// Whether `sweep` forgets by horizon. A store that forgets by time alone has cases of its own.
    fn sweeps(&self) -> bool {
        true
    }

    /// How many ids many are, for the cases 12 and 75.
    fn many(&self) -> usize {
        1_000
    }
}

/// An [`Inbox`] to test, and an effect that can be counted.
pub trait InboxFixture: Named {
    /// The inbox.
    type Inbox: Inbox;

    /// The inbox as it is open now.
    fn inbox(&self) -> Arc<Self::Inbox>;

    /// As of [`Fixture::reopen`].
    fn reopen(&self) -> impl Future<Output = ()> + Send;

    /// Does an effect, in a transaction: adds one to what has that name.
    fn apply(
        &self,
        tx: &mut <Self::Inbox as Inbox>::Tx,
        effect: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How often an effect is there, committed.
    fn count(&self, effect: &str) -> impl Future<Output = u64> + Send;

    /// Whether `admit` waits for another transaction that has the id, instead of answering `Busy`.
    fn waits(&self) -> bool {
        false
    }

    /// Whether two transactions may be open at a time.
    fn side_by_side(&self) -> bool {
        true
    }

    /// Lets what follows the store have up to so many of its transactions, in order: how many there were. None if nothing follows.
    fn write_behind(&self, _max: usize) -> impl Future<Output = Option<usize>> + Send {
        async { None }
    }

    /// Lets the store lose what it has: all but what was written behind is gone. Asked only if something follows it.
    fn lose(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// An [`EntityStore`] to test.
pub trait EntityFixture: Named {
    /// A handle.
    type Entities: EntityStore + 'static;

    /// A transaction on entities that all handles share.
    fn begin(&self) -> impl Future<Output = Self::Entities> + Send;

    /// Commits it; nothing, if each call is a transaction of its own.
    fn commit(&self, entities: Self::Entities)
    -> impl Future<Output = Result<(), CasError>> + Send;

    /// Whether [`Read::ForUpdate`](crate::Read::ForUpdate) locks.
    fn locks(&self) -> bool {
        false
    }

    /// Whether two transactions may be open at a time.
    fn side_by_side(&self) -> bool {
        true
    }
}
