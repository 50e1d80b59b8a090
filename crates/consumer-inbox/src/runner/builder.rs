//! Building a consumer.

use std::sync::Arc;
use std::time::Duration;

use log_engine::{Clock, ConsumerGroup, Env, SystemClock};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::claimed::Claimed;
use super::drive::Runner;
use super::error::BuildError;
use super::forgetting::{Forgetting, Scenarios};
use super::job::{Settings, Shared, Work};
use super::metrics::Metrics;
use super::natural::Natural;
use super::outbox::Outbox;
use super::policy::{KeyAfterPark, OnUnknown, Order, Policy};
use super::positions::Positions;
use super::retry::{Chance, Retry};
use super::transactional::Transactional;
use crate::clock::{Owners, millis};
use crate::dedup_store::DedupStore;
use crate::handler::{ClaimCx, Handler};
use crate::identity::IdPolicy;
use crate::inbox::Inbox;

/// Consumes a group's records, each business fact once: polls, asks the store, runs the handler, settles, acknowledges, in that order (E1).
/// Each of three ways to remember has a constructor here; there is no default.
///
/// ```
/// # use std::sync::Arc; use bytes::Bytes; use tokio::sync::Notify;
/// use consumer_inbox::{Consumer, Delivery, EmbeddedInbox, EmbeddedTx, Handler, HandlerError, Outgoing};
/// use log_engine::{Engine, Record};
///
/// struct Billing(Arc<Notify>);
///
/// impl Handler<EmbeddedTx> for Billing {
///     async fn handle(&self, tx: &mut EmbeddedTx, order: &Delivery) -> Result<Option<Bytes>, HandlerError> {
///         let value = order.value().cloned();
///         tx.emit(Outgoing { topic: "invoices".into(), value, ..Outgoing::default() });
///         self.0.notify_one();
///         Ok(None)
///     }
/// }
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let engine = Engine::in_memory();
/// (engine.ensure_topic("orders", 1)?, engine.ensure_topic("invoices", 1)?);
/// let producer = engine.producer().open()?;
/// producer.send(Record::to("orders").value("two shirts").biz_id("A-1")).await?;
/// producer.flush().await?;
///
/// let (inbox, done) = (EmbeddedInbox::open(&engine, "billing")?, Arc::new(Notify::new()));
/// let consumer = Consumer::transactional(engine.group("billing").topic("orders"), inbox, Billing(done.clone()));
/// let summary = consumer.dead_letter("orders.dlq").build()?.run(done.notified()).await?;
/// assert_eq!((summary.done, summary.forwarded), (1, 1));
/// # Ok::<_, Box<dyn std::error::Error>>(()) })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Consumer;

/// A consumer to be.
#[must_use]
pub struct ConsumerBuilder<W> {
    group: ConsumerGroup,
    work: W,
    settings: Settings,
    renew_every: Option<Duration>,
    lease: Option<Duration>,
    has_dead_letter: bool,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
}

impl Consumer {
    /// Effect, id and position in one transaction of an inbox: effectively once. One delivery at a time, unless set. Dead letters commit with
    /// the position, too, and go on to their topic from the inbox, with whatever else the handler emitted; nobody else may forward from
    /// that inbox meanwhile.
    pub fn transactional<I: Inbox, H: Handler<I::Tx>>(
        group: ConsumerGroup,
        inbox: I,
        handler: H,
    ) -> ConsumerBuilder<Transactional<I, H>> {
        let work = Transactional {
            inbox,
            handler,
            positions: Positions::default(),
            outbox: Outbox::default(),
        };
        let mut builder = ConsumerBuilder::new(group, work);
        builder.settings.concurrency = 1;
        builder
    }

    /// An effect outside of any transaction, with a mark in a store: before it, after it, or around it.
    pub fn claimed<S: DedupStore, H: Handler<ClaimCx>>(
        group: ConsumerGroup,
        store: S,
        policy: Policy,
        handler: H,
    ) -> ConsumerBuilder<Claimed<S, H>> {
        let work = Claimed {
            store,
            policy,
            handler,
        };
        let mut builder = ConsumerBuilder::new(group, work);
        if let Policy::Lease { lease, renew_every } = policy {
            (builder.lease, builder.renew_every) = (Some(lease), Some(renew_every));
        }
        builder
    }

    /// An effect that ends the same however often it happens: nothing is remembered.
    pub fn natural<H: Handler<()>>(
        group: ConsumerGroup,
        handler: H,
    ) -> ConsumerBuilder<Natural<H>> {
        ConsumerBuilder::new(group, Natural { handler })
    }
}

impl<I, H> ConsumerBuilder<Transactional<I, H>> {
    /// How many deliveries of one partition one transaction carries at most; 1 unless set. A handler still runs for one after another, each in
    /// a savepoint, so that one that fails costs itself alone; what is saved are commits, and a crash repeats them all. Only what is
    /// there already goes together: nothing waits for more. What was tried before has a transaction of its own.
    pub fn batch(mut self, deliveries: usize) -> Self {
        self.settings.batch = deliveries;
        self
    }
}

impl<W> ConsumerBuilder<W> {
    fn new(group: ConsumerGroup, work: W) -> ConsumerBuilder<W> {
        let settings = Settings {
            concurrency: 8,
            batch: 1,
            order: Order::default(),
            visibility: Duration::from_secs(30),
            renew_every: Duration::ZERO,
            margin: Duration::from_millis(500),
            drain: Duration::from_secs(30),
            retry: Retry::default(),
            dead_letter: None,
            on_unknown: OnUnknown::default(),
            after_park: KeyAfterPark::default(),
            ids: IdPolicy::default(),
            forgetting: Forgetting::default(),
        };
        ConsumerBuilder {
            group,
            work,
            settings,
            renew_every: None,
            lease: None,
            has_dead_letter: false,
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }

    /// How many handlers run at once; 8 unless set, with an inbox 1.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers;
        self
    }

    /// Which deliveries wait for which.
    pub fn order(mut self, order: Order) -> Self {
        self.settings.order = order;
        self
    }

    /// How long a delivery is this consumer's after its last heartbeat; 30 s unless set, at most 12 h.
    pub fn visibility(mut self, visibility: Duration) -> Self {
        self.settings.visibility = visibility;
        self
    }

    /// How much earlier than its lease ends a handler is cut off: what clocks and networks may be wrong by. 500 ms unless set.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.settings.margin = margin;
        self
    }

    /// How long running handlers are waited for at the end; 30 s unless set.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.settings.drain = drain;
        self
    }

    /// How often a delivery is tried, and how long it waits in between.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// Where records go that are given up. Made with one partition if it is missing.
    pub fn dead_letter(mut self, topic: &str) -> Self {
        self.settings.dead_letter = Some(topic.into());
        self.has_dead_letter = true;
        self
    }

    /// Records that are given up are dropped: acknowledged, and counted in [`Summary::dropped`](super::Summary::dropped).
    pub fn no_dead_letter(mut self) -> Self {
        self.settings.dead_letter = None;
        self.has_dead_letter = true;
        self
    }

    /// What to do about an attempt that crashed.
    pub fn on_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.settings.on_unknown = on_unknown;
        self
    }

    /// What becomes of later records of a key of which one was parked.
    pub fn key_after_park(mut self, after_park: KeyAfterPark) -> Self {
        self.settings.after_park = after_park;
        self
    }

    /// What names records without a business id.
    pub fn ids(mut self, ids: IdPolicy) -> Self {
        self.settings.ids = ids;
        self
    }

    /// How long after it was settled an id is kept at least, as its fact may be published again, by the store's clock. 24 h unless set, or more
    /// if needed: at least the visibility times the attempts, all pauses between them, and the longest producer retry.
    ///
    /// An id is kept, too, while the log can deliver its record again, and while an older record waits to be consumed (E11). Behind that
    /// it is forgotten, and what is as old, and unknown, is parked as expired.
    pub fn republish_window(mut self, window: Duration) -> Self {
        self.settings.forgetting.window = Some(window);
        self
    }

    /// The longest time for which producers of these topics send one record again and again; 2 min unless set, as
    /// `delivery_timeout` of the engine's producers.
    pub fn producer_retry(mut self, time: Duration) -> Self {
        self.settings.forgetting.producer_retry = time;
        self
    }

    /// How often ids are forgotten, if there are any to forget; 60 s unless set. Scopes are the group's topics, and scenarios of records
    /// delivered since the consumer was started.
    pub fn sweep_every(mut self, time: Duration) -> Self {
        self.settings.forgetting.every = time;
        self
    }

    /// The clock that deadlines go by; the system's unless set. Leases themselves go by the store's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The seed of owner numbers and of jitter, for tests: two consumers of one seed take each other's claims for their own.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    fn check(&mut self) -> Result<(), BuildError> {
        if !self.has_dead_letter {
            return Err(BuildError::NoDeadLetter);
        }
        let settings = &mut self.settings;
        let visibility_ms = millis(settings.visibility);
        let zero = [
            ("concurrency", settings.concurrency == 0),
            ("batch", settings.batch == 0),
            ("retry.attempts", settings.retry.attempts == 0),
            ("visibility", visibility_ms == 0),
            ("sweep_every", settings.forgetting.every.is_zero()),
        ];
        if let Some((what, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(BuildError::Zero { what });
        }
        let least_ms = visibility_ms.saturating_add(millis(settings.margin));
        if let Some(lease_ms) = self.lease.map(millis).filter(|ms| *ms < least_ms) {
            return Err(BuildError::ShortLease { lease_ms, least_ms });
        }
        settings.renew_every = self.renew_every.unwrap_or(settings.visibility / 3);
        let every_ms = millis(settings.renew_every);
        if every_ms == 0 {
            return Err(BuildError::Zero {
                what: "the time between renewals",
            });
        }
        match every_ms.saturating_mul(2) > visibility_ms {
            true => Err(BuildError::RareRenewal {
                every_ms,
                of_ms: visibility_ms,
            }),
            false => Ok(()),
        }
    }
}

#[allow(
    private_bounds,
    reason = "the three kinds of consumers are all there are"
)]
impl<W: Work> ConsumerBuilder<W> {
    /// The consumer, which [`Runner::run`] starts.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(mut self) -> Result<Runner<W>, BuildError> {
        self.check()?;
        let settings = &self.settings;
        let least_ms = settings
            .forgetting
            .least_ms(settings.visibility, &settings.retry);
        let window = settings.forgetting.window(least_ms);
        let window_ms = millis(window);
        if self.work.remembers() && window_ms < least_ms {
            return Err(BuildError::ShortWindow {
                window_ms,
                least_ms,
            });
        }
        let mut group = self.group;
        if let Some(topic) = &self.settings.dead_letter {
            group = group.dead_letter(topic);
        }
        let shared = Shared {
            engine: group.engine().clone(),
            settings: self.settings,
            metrics: Arc::new(Metrics::new(self.clock.clone())),
            clock: self.clock,
            owners: self.seed.map_or_else(Owners::random, Owners::from_seed),
            chance: Chance::from_seed(self.seed.unwrap_or_else(|| Env::memory().seed)),
            uncounted: Mutex::default(),
            queued: Notify::new(),
            scenarios: Scenarios::default(),
            window,
        };
        Ok(Runner::new(group, self.work, shared))
    }
}
