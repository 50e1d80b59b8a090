//! An engine without threads on a simulated disk; a reopening is a power cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use consumer_inbox::conformance::{Fixture, InboxFixture, Named};
use consumer_inbox::{
    Admission, Delivery, EmbeddedInbox, EmbeddedSettings, EmbeddedStore, EmbeddedTx, Horizon,
    Inbox, Outgoing, Part, Scope, Settlement, StoreError,
};
use log_engine::{Engine, Env, ManualClock};
use oncelog::testing::SimulatedDisk;

use super::matrix;

/// Small files and little patience, so that short tests clean and write snapshots.
pub(crate) fn small() -> EmbeddedSettings {
    EmbeddedSettings {
        segment_bytes: 1 << 16,
        clean_above: 30,
        snapshot_after: 50,
        ..EmbeddedSettings::default()
    }
}

pub(crate) fn engine(disk: &SimulatedDisk, clock: &ManualClock) -> Engine {
    let env = Env {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        seed: 7,
    };
    Engine::with_env(env).driven().open().unwrap()
}

/// A machine: what a crash leaves of it, and what runs on it.
pub(crate) struct Machine {
    pub(crate) clock: ManualClock,
    seed: AtomicU64,
    running: Mutex<(SimulatedDisk, Engine)>,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Machine {
        let (disk, clock) = (SimulatedDisk::new(seed), ManualClock::at(1_000_000));
        let engine = engine(&disk, &clock);
        Machine {
            clock,
            seed: AtomicU64::new(seed),
            running: Mutex::new((disk, engine)),
        }
    }

    pub(crate) fn engine(&self) -> Engine {
        self.running.lock().unwrap().1.clone()
    }

    /// Lets the power fail, and opens what is left. The old engine goes on on a disk of its own.
    pub(crate) fn power_cut(&self) -> Engine {
        let seed = self.seed.fetch_add(1, Ordering::SeqCst);
        let mut running = self.running.lock().unwrap();
        let disk = running.0.power_cut(seed);
        let engine = engine(&disk, &self.clock);
        *running = (disk, engine.clone());
        engine
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(u32::try_from(time.as_millis()).unwrap());
    }
}

fn next_scope(scopes: &AtomicU64) -> Scope {
    let number = scopes.fetch_add(1, Ordering::SeqCst);
    Scope::new(format!("group {number}"), format!("orders {number}"))
}

pub(crate) struct Embedded {
    pub(crate) machine: Machine,
    store: Mutex<Arc<EmbeddedStore>>,
    scopes: AtomicU64,
}

impl Embedded {
    pub(crate) fn new(seed: u64) -> Embedded {
        let machine = Machine::new(seed);
        let store = EmbeddedStore::open_with(&machine.engine(), "ids", small()).unwrap();
        Embedded {
            machine,
            store: Mutex::new(Arc::new(store)),
            scopes: AtomicU64::new(0),
        }
    }
}

impl Named for Embedded {
    fn backend(&self) -> &'static str {
        "embedded"
    }

    fn scope(&self) -> Scope {
        next_scope(&self.scopes)
    }

    async fn pass(&self, time: Duration) {
        self.machine.pass(time);
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn applies(&self, case: &str) -> Option<bool> {
        matrix::applies("log", case)
    }
}

impl Fixture for Embedded {
    type Store = EmbeddedStore;

    fn store(&self) -> Arc<EmbeddedStore> {
        self.store.lock().unwrap().clone()
    }

    async fn reopen(&self) {
        let engine = self.machine.power_cut();
        let store = EmbeddedStore::open_with(&engine, "ids", small()).unwrap();
        *self.store.lock().unwrap() = Arc::new(store);
    }

    fn reopening_ends_leases(&self) -> bool {
        true
    }

    fn jump_wall(&self, ms: i64) -> bool {
        self.machine.clock.jump_wall(ms);
        true
    }
}

/// What effects go to.
const EFFECTS: &str = "effects";

fn is_effect(record: &Outgoing) -> bool {
    &*record.topic == EFFECTS
}

/// The inbox, of whose outgoing records some are the effects that the suite counts.
pub(crate) struct Counting {
    inbox: EmbeddedInbox,
    forwarded: Mutex<BTreeMap<Bytes, u64>>,
}

impl Counting {
    async fn all(&self) -> Vec<(u64, Outgoing)> {
        self.inbox.outgoing(usize::MAX).await.unwrap()
    }
}

impl Inbox for Counting {
    type Tx = EmbeddedTx;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        self.inbox.assign(part, epoch).await
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<EmbeddedTx, StoreError> {
        self.inbox.begin(part, epoch).await
    }

    async fn admit(&self, tx: &mut EmbeddedTx, d: &Delivery) -> Result<Admission<()>, StoreError> {
        self.inbox.admit(tx, d).await
    }

    async fn settle(
        &self,
        tx: &mut EmbeddedTx,
        d: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        self.inbox.settle(tx, d, how).await
    }

    async fn emit(&self, tx: &mut EmbeddedTx, record: Outgoing) -> Result<(), StoreError> {
        self.inbox.emit(tx, record).await
    }

    async fn commit(&self, tx: EmbeddedTx, next: u64) -> Result<(), StoreError> {
        self.inbox.commit(tx, next).await
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        let all = self.all().await.into_iter();
        Ok(all.filter(|(_, r)| !is_effect(r)).take(max).collect())
    }

    fn sender(&self) -> String {
        self.inbox.sender()
    }

    async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        for (number, record) in self.all().await {
            if number <= through && is_effect(&record) {
                let mut forwarded = self.forwarded.lock().unwrap();
                *forwarded.entry(record.key.unwrap()).or_default() += 1;
            }
        }
        self.inbox.forwarded(through).await
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.inbox.sweep(below, max).await
    }
}

pub(crate) struct EmbeddedEffects {
    machine: Machine,
    inbox: Mutex<Arc<Counting>>,
    scopes: AtomicU64,
}

fn counting(engine: &Engine, forwarded: BTreeMap<Bytes, u64>) -> Arc<Counting> {
    Arc::new(Counting {
        inbox: EmbeddedInbox::open_with(engine, "inbox", small()).unwrap(),
        forwarded: Mutex::new(forwarded),
    })
}

impl EmbeddedEffects {
    pub(crate) fn new(seed: u64) -> EmbeddedEffects {
        let machine = Machine::new(seed);
        let inbox = Mutex::new(counting(&machine.engine(), BTreeMap::new()));
        EmbeddedEffects {
            machine,
            inbox,
            scopes: AtomicU64::new(0),
        }
    }
}

impl Named for EmbeddedEffects {
    fn backend(&self) -> &'static str {
        "embedded"
    }

    fn scope(&self) -> Scope {
        next_scope(&self.scopes)
    }

    async fn pass(&self, time: Duration) {
        self.machine.pass(time);
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn applies(&self, case: &str) -> Option<bool> {
        matrix::applies("log", case)
    }
}

impl InboxFixture for EmbeddedEffects {
    type Inbox = Counting;

    fn inbox(&self) -> Arc<Counting> {
        self.inbox.lock().unwrap().clone()
    }

    async fn reopen(&self) {
        let forwarded = self.inbox().forwarded.lock().unwrap().clone();
        *self.inbox.lock().unwrap() = counting(&self.machine.power_cut(), forwarded);
    }

    async fn apply(&self, tx: &mut EmbeddedTx, effect: &str) -> Result<(), StoreError> {
        tx.emit(Outgoing {
            topic: EFFECTS.into(),
            key: Some(Bytes::copy_from_slice(effect.as_bytes())),
            ..Outgoing::default()
        });
        Ok(())
    }

    async fn count(&self, effect: &str) -> u64 {
        let inbox = self.inbox();
        let is_it = |key: &Bytes| key == effect;
        let all = inbox.all().await.into_iter();
        let waiting = all.filter(|(_, r)| is_effect(r) && r.key.as_ref().is_some_and(is_it));
        let waiting = u64::try_from(waiting.count()).unwrap();
        let forwarded = inbox
            .forwarded
            .lock()
            .unwrap()
            .get(effect.as_bytes())
            .copied();
        waiting + forwarded.unwrap_or(0)
    }
}

/// Runs a future to its end, taking the turns of an engine without threads.
pub(crate) fn drive<T>(engine: &Engine, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut idle = 0;
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        match engine.step(0) {
            true => idle = 0,
            false => idle += 1,
        }
        assert!(idle < 1_000, "it waits for something that nobody does");
    }
}
