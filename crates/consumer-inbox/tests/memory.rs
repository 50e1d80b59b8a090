//! The suite, and random interleavings, over the stores in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use consumer_inbox::conformance::{
    EntityFixture, Fixture, InboxFixture, Interleavings, Named, block_on, inbox_interleavings,
    interleavings,
};
use consumer_inbox::{
    Amount, CasError, Change, EntityStore, Expect, MemoryEntities, MemoryInbox, MemoryStore,
    MemoryTx, Scope, StoreError,
};
use log_engine::Clock;

#[path = "common/matrix.rs"]
#[allow(unreachable_pub, reason = "shared")]
mod matrix;

/// A clock that can be set back, which the engine's never is.
#[derive(Clone, Default)]
struct TestClock {
    elapsed_ms: Arc<AtomicU64>,
    wall_ms: Arc<AtomicI64>,
}

impl Clock for TestClock {
    fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms.load(Ordering::SeqCst)
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

struct Memory<S> {
    clock: TestClock,
    stores: Arc<S>,
    scopes: AtomicU64,
    many: usize,
}

impl<S> Memory<S> {
    fn new(stores: impl FnOnce(Arc<dyn Clock>) -> S, many: usize) -> Memory<S> {
        let clock = TestClock::default();
        Memory {
            stores: Arc::new(stores(Arc::new(clock.clone()))),
            clock,
            scopes: AtomicU64::new(0),
            many,
        }
    }
}

impl<S: Send + Sync + 'static> Named for Memory<S> {
    fn backend(&self) -> &'static str {
        "memory"
    }

    fn scope(&self) -> Scope {
        let number = self.scopes.fetch_add(1, Ordering::SeqCst);
        Scope::new(format!("group {number}"), format!("orders {number}"))
    }

    async fn pass(&self, time: Duration) {
        self.clock.elapsed_ms.fetch_add(ms(time), Ordering::SeqCst);
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn applies(&self, case: &str) -> Option<bool> {
        matrix::applies("memory", case)
    }
}

impl Fixture for Memory<MemoryStore> {
    type Store = MemoryStore;

    fn store(&self) -> Arc<MemoryStore> {
        self.stores.clone()
    }

    async fn reopen(&self) {
        panic!("nothing of it survives");
    }

    fn bounded(&self, ids: usize) -> Option<Arc<MemoryStore>> {
        let clock = Arc::new(self.clock.clone());
        Some(Arc::new(MemoryStore::lossy(clock, ids)))
    }

    fn jump_wall(&self, ms: i64) -> bool {
        self.clock.wall_ms.fetch_add(ms, Ordering::SeqCst);
        true
    }

    fn set_back(&self, time: Duration) -> bool {
        self.clock.elapsed_ms.fetch_sub(ms(time), Ordering::SeqCst);
        true
    }

    fn many(&self) -> usize {
        self.many
    }
}

impl InboxFixture for Memory<MemoryInbox> {
    type Inbox = MemoryInbox;

    fn inbox(&self) -> Arc<MemoryInbox> {
        self.stores.clone()
    }

    async fn reopen(&self) {
        panic!("nothing of it survives");
    }

    async fn apply(&self, tx: &mut MemoryTx, effect: &str) -> Result<(), StoreError> {
        let one_more = Change::amount(Amount::Add(1));
        let stored = tx.store(effect.as_bytes(), Expect::Any, one_more).await;
        stored.map(drop).map_err(StoreError::backend)
    }

    async fn count(&self, effect: &str) -> u64 {
        let entity = self.stores.entity(effect.as_bytes());
        entity.map_or(0, |entity| entity.amount.cast_unsigned())
    }
}

impl EntityFixture for Memory<MemoryEntities> {
    type Entities = MemoryEntities;

    async fn begin(&self) -> MemoryEntities {
        MemoryEntities::clone(&self.stores)
    }

    async fn commit(&self, _: MemoryEntities) -> Result<(), CasError> {
        Ok(())
    }
}

/// The entities of an inbox, whose changes wait for the commit.
struct InTx(Memory<MemoryInbox>);

impl Named for InTx {
    fn backend(&self) -> &'static str {
        "memory inbox"
    }

    fn scope(&self) -> Scope {
        self.0.scope()
    }

    async fn pass(&self, time: Duration) {
        self.0.pass(time).await;
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn applies(&self, case: &str) -> Option<bool> {
        matrix::applies("memory", case)
    }
}

impl EntityFixture for InTx {
    type Entities = MemoryTx;

    async fn begin(&self) -> MemoryTx {
        use consumer_inbox::{Inbox, Part};
        let (inbox, part) = (self.0.inbox(), Part::new("group", "orders", 0));
        inbox.assign(&part, 1).await.unwrap();
        inbox.begin(&part, 1).await.unwrap()
    }

    async fn commit(&self, entities: MemoryTx) -> Result<(), CasError> {
        use consumer_inbox::Inbox;
        Ok(self.0.inbox().commit(entities, 0).await?)
    }
}

fn store(many: usize) -> Memory<MemoryStore> {
    Memory::new(|clock| MemoryStore::lossy(clock, usize::MAX), many)
}

mod dedup {
    async fn fixture() -> Option<super::Memory<super::MemoryStore>> {
        Some(super::store(1_000))
    }
    consumer_inbox::dedup_store_conformance!(fixture);
}

mod inbox {
    async fn fixture() -> Option<super::Memory<super::MemoryInbox>> {
        Some(super::Memory::new(super::MemoryInbox::lossy, 0))
    }
    consumer_inbox::inbox_conformance!(fixture);
}

mod entities {
    async fn fixture() -> Option<super::Memory<super::MemoryEntities>> {
        Some(super::Memory::new(|_| super::MemoryEntities::new(), 0))
    }
    consumer_inbox::entity_conformance!(fixture);
}

mod entities_in_tx {
    async fn fixture() -> Option<super::InTx> {
        Some(super::InTx(super::Memory::new(
            super::MemoryInbox::lossy,
            0,
        )))
    }
    consumer_inbox::entity_conformance!(fixture);
}

/// One store holds the ids of a thousand sequences.
#[test]
fn every_interleaving_is_the_models() {
    let of = Interleavings::from_env(100_000);
    let ran = of.in_pieces(2, 1_000, |of| Some(block_on(interleavings(&store(0), of))));
    println!("{}", ran.unwrap());
}

#[test]
fn every_interleaving_of_the_inbox_is_the_models() {
    let of = Interleavings::from_env(20_000);
    let ran = of.in_pieces(2, 1_000, |of| {
        let inbox = Memory::new(MemoryInbox::lossy, 0);
        Some(block_on(inbox_interleavings(&inbox, of)))
    });
    println!("{}", ran.unwrap());
}

#[test]
fn a_million_ids_are_forgotten_in_pieces() {
    use consumer_inbox::conformance::forgetting;
    block_on(forgetting::case_75(&store(1_000_000)));
}
