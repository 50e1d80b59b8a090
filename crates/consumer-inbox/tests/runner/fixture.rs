//! A topic of orders, handlers from closures, and stores that fail.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use consumer_inbox::{
    Admission, BizId, ClaimRequest, DedupKey, DedupStore, Delivery, Handler, HandlerError, Held,
    Horizon, MemoryStore, Policy, Receipt, Retry, Scope, Settlement, StoreError, Verified,
};
use log_engine::{Clock, Engine, GroupPartition, Record, SystemClock};

pub(crate) const VISIBILITY: Duration = Duration::from_millis(400);
pub(crate) const MARGIN: Duration = Duration::from_millis(50);
pub(crate) const LEASE: Policy = Policy::Lease {
    lease: Duration::from_millis(600),
    renew_every: Duration::from_millis(100),
};

/// Short pauses without chance.
pub(crate) fn retry(attempts: u32) -> Retry {
    Retry {
        base: Duration::from_millis(20),
        factor: 2,
        max: Duration::from_millis(100),
        jitter: 0,
        attempts,
    }
}

pub(crate) fn engine() -> Engine {
    let engine = Engine::in_memory();
    engine.ensure_topic("orders", 1).unwrap();
    engine
}

pub(crate) fn memory() -> MemoryStore {
    MemoryStore::lossy(Arc::new(SystemClock), 1_000)
}

/// Sends orders of these ids, each with the key before the `/`, from a producer of its own.
pub(crate) async fn send(engine: &Engine, ids: &[&str]) {
    let producer = engine.producer().open().unwrap();
    for id in ids {
        let key = id.split('/').next().unwrap();
        let order = Record::to("orders").key(key).value("shirts").biz_id(id);
        producer.send(order).await.unwrap();
    }
    producer.flush().await.unwrap();
}

/// How far the group is.
pub(crate) fn progress(engine: &Engine) -> Option<GroupPartition> {
    let group = engine
        .groups()
        .unwrap()
        .into_iter()
        .find(|g| g.group == "billing")?;
    group.partitions.into_iter().next()
}

pub(crate) fn position(engine: &Engine) -> u64 {
    progress(engine).and_then(|p| p.position).unwrap_or(0)
}

/// Returns once that is so; fails after a long time.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain until {what}");
}

/// Returns once the group is at the end of the topic.
pub(crate) async fn consumed(engine: Engine) {
    let end = engine
        .topic("orders")
        .unwrap()
        .partition(0)
        .unwrap()
        .high_watermark();
    until("all is consumed", || position(&engine) == end).await;
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.all().len()
    }
}

pub(crate) fn key(id: &str) -> DedupKey {
    DedupKey::new(Scope::new("billing", "orders"), BizId::new(id).unwrap())
}

pub(crate) fn id(delivery: &Delivery) -> String {
    delivery.biz_id_str().unwrap().to_owned()
}

/// A handler from a closure.
pub(crate) struct Act<F>(pub(crate) F);

impl<C, F, R> Handler<C> for Act<F>
where
    C: Clone + Send + Sync + 'static,
    F: Fn(C, Delivery) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + Send,
{
    async fn handle(&self, cx: &mut C, delivery: &Delivery) -> Result<Option<Bytes>, HandlerError> {
        (self.0)(cx.clone(), delivery.clone()).await?;
        Ok(None)
    }

    async fn verify(&self, _: &Delivery) -> Result<Verified, HandlerError> {
        panic!("nothing crashed")
    }
}

pub(crate) const AGAIN: HandlerError = HandlerError::Retry { after: None };

/// A store that can be down.
#[derive(Clone)]
pub(crate) struct Flaky {
    pub(crate) store: MemoryStore,
    pub(crate) is_down: Arc<AtomicBool>,
}

impl Flaky {
    pub(crate) fn new(store: MemoryStore) -> Flaky {
        Flaky {
            store,
            is_down: Arc::default(),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.is_down.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable),
            false => Ok(()),
        }
    }
}

impl DedupStore for Flaky {
    async fn claim(&self, request: ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        self.check()?;
        self.store.claim(request).await
    }

    async fn renew(&self, held: &Held, lease: Duration) -> Result<(), StoreError> {
        self.check()?;
        self.store.renew(held, lease).await
    }

    async fn settle(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        self.check()?;
        self.store.settle(held, how).await
    }

    async fn peek(&self, key: &DedupKey) -> Result<Option<Receipt>, StoreError> {
        self.check()?;
        self.store.peek(key).await
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.store.sweep(below, max).await
    }
}

/// The system's clock, whose hands can be moved.
#[derive(Clone, Default)]
pub(crate) struct Moved {
    elapsed_ms: Arc<AtomicI64>,
    wall_ms: Arc<AtomicI64>,
}

impl Moved {
    pub(crate) fn elapsed_by(&self, ms: i64) {
        self.elapsed_ms.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn wall_by(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Moved {
    fn elapsed_ms(&self) -> u64 {
        // Long after its beginning, so that it can be set back.
        let now_ms = SystemClock.elapsed_ms() + 1_000_000_000;
        now_ms.saturating_add_signed(self.elapsed_ms.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        SystemClock.wall_ms() + self.wall_ms.load(Ordering::SeqCst)
    }
}

/// A store that notes what it is asked, and can answer that somebody else is at work.
#[derive(Clone)]
pub(crate) struct Noted<S> {
    pub(crate) store: S,
    pub(crate) settled: Seen,
    pub(crate) sweeps: Arc<AtomicUsize>,
    /// So many claims are told so.
    pub(crate) busy: Arc<AtomicUsize>,
    /// And to come again after that time.
    pub(crate) retry_after: Duration,
}

impl<S> Noted<S> {
    pub(crate) fn new(store: S) -> Noted<S> {
        Noted {
            store,
            settled: Seen::default(),
            sweeps: Arc::default(),
            busy: Arc::default(),
            retry_after: Duration::from_millis(5),
        }
    }

    /// Returns after two more sweeps: one of them began after the call.
    pub(crate) async fn swept(&self) {
        let before = self.sweeps.load(Ordering::SeqCst);
        until("it was swept", || {
            self.sweeps.load(Ordering::SeqCst) > before + 1
        })
        .await;
    }
}

impl<S: DedupStore> DedupStore for Noted<S> {
    async fn claim(&self, request: ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        let left = self
            .busy
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            let retry_after = self.retry_after;
            return Ok(Admission::Busy { retry_after });
        }
        self.store.claim(request).await
    }

    async fn renew(&self, held: &Held, lease: Duration) -> Result<(), StoreError> {
        self.store.renew(held, lease).await
    }

    async fn settle(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        let kind = format!("{how:?}");
        let settled = self.store.settle(held, how).await;
        let is_ok = if settled.is_ok() { "" } else { " refused" };
        self.settled.add(kind + is_ok);
        settled
    }

    async fn peek(&self, key: &DedupKey) -> Result<Option<Receipt>, StoreError> {
        self.store.peek(key).await
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        self.store.ids().await
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        let swept = self.store.sweep(below, max).await;
        self.sweeps.fetch_add(1, Ordering::SeqCst);
        swept
    }
}
