//! What a consumer counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use log_engine::Clock;
use parking_lot::Mutex;

use super::lanes::Place;

macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// What a consumer did since it was built.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Summary {
            $($(#[$doc])+ pub $name: u64,)+
        }

        /// What a running consumer says of itself.
        pub struct Metrics {
            $(pub(crate) $name: AtomicU64,)+
            pub(crate) live: Live,
        }

        impl Metrics {
            pub(crate) fn new(clock: Arc<dyn Clock>) -> Metrics {
                Metrics {
                    $($name: AtomicU64::new(0),)+
                    live: Live::new(clock),
                }
            }

            /// What it did so far.
            pub fn summary(&self) -> Summary {
                Summary { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counts! {
    /// Handlers that were called.
    runs,
    /// Deliveries whose effect was done and settled by this consumer.
    done,
    /// Duplicates that were delivered before: the record came again.
    redeliveries,
    /// Duplicates at their first delivery: the fact came in another record, or the group was rewound.
    republications,
    /// Answers that somebody else works on it.
    busy,
    /// Ids that came with another payload.
    mismatches,
    /// Records older than what may have been forgotten.
    expired,
    /// Claims on ids whose attempt before crashed.
    takeovers,
    /// Crashed attempts whose effect had happened.
    verified_applied,
    /// Crashed attempts whose effect had not happened.
    verified_not_applied,
    /// Crashed attempts of which the handler did not know.
    verified_unknown,
    /// Deliveries that were given back for another attempt.
    retries,
    /// Handlers that panicked.
    panics,
    /// Effects that happened twice because two ran at once: policy `After` only.
    races,
    /// Claims that were lost to somebody else.
    lost,
    /// Deliveries that belong to somebody else by now.
    fenced,
    /// Deliveries that were left to come again: the store was not there, or the lease ended.
    lapsed,
    /// Records that were given up.
    parked,
    /// Those of them that went nowhere, for want of a dead-letter topic.
    dropped,
    /// Outgoing records that were sent to their topics.
    forwarded,
    /// Ids that were forgotten.
    swept,
    /// Sweeps that failed, and are tried again.
    sweep_failures,
}

/// How a consumer is doing at a moment. Times go by the consumer's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Gauges {
    /// Deliveries that wait for their turn.
    pub waiting: usize,
    /// Deliveries at work.
    pub running: usize,
    /// Records that were tried, come again, and hold up their lanes until then.
    pub stalled: usize,
    /// How long the first of them has done so, ms.
    pub stalled_ms: u64,
    /// For how long the inbox has had records that are not in their topics, ms; 0 if it has none.
    pub unsent_ms: u64,
    /// Ids in the store, as of the last sweep. None if the store does not say: databases would have to count rows.
    pub ids: Option<u64>,
    /// How long ago the last sweep began that came to its end, ms. None before that.
    pub sweep_lag_ms: Option<u64>,
}

/// What is so at the moment.
pub(crate) struct Live {
    clock: Arc<dyn Clock>,
    waiting: AtomicUsize,
    running: AtomicUsize,
    /// Since when.
    stalls: Mutex<BTreeMap<Place, u64>>,
    rare: Mutex<Rare>,
}

#[derive(Default, Clone, Copy)]
struct Rare {
    unsent_since_ms: Option<u64>,
    ids: Option<u64>,
    swept_ms: Option<u64>,
}

impl Live {
    fn new(clock: Arc<dyn Clock>) -> Live {
        Live {
            clock,
            waiting: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            stalls: Mutex::default(),
            rare: Mutex::default(),
        }
    }

    pub(crate) fn at_work(&self, waiting: usize, running: usize) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.running.store(running, Ordering::Relaxed);
    }

    pub(crate) fn stalled(&self, at: Place) {
        let now_ms = self.clock.elapsed_ms();
        self.stalls.lock().entry(at).or_insert(now_ms);
    }

    pub(crate) fn goes_on(&self, at: &Place) {
        self.stalls.lock().remove(at);
    }

    /// Forgets the stalls of partitions that are gone.
    pub(crate) fn keep(&self, is_here: impl Fn(&Place) -> bool) {
        self.stalls.lock().retain(|at, _| is_here(at));
    }

    pub(crate) fn unsent(&self, is_unsent: bool) {
        let now_ms = self.clock.elapsed_ms();
        let mut rare = self.rare.lock();
        rare.unsent_since_ms = is_unsent.then(|| rare.unsent_since_ms.unwrap_or(now_ms));
    }

    pub(crate) fn set_ids(&self, ids: Option<u64>) {
        self.rare.lock().ids = ids;
    }

    pub(crate) fn swept(&self, began_ms: u64) {
        self.rare.lock().swept_ms = Some(began_ms);
    }
}

impl Metrics {
    /// How it is doing now.
    pub fn gauges(&self) -> Gauges {
        let live = &self.live;
        let since = |ms: u64| live.clock.elapsed_ms().saturating_sub(ms);
        let (stalled, first) = {
            let stalls = live.stalls.lock();
            (stalls.len(), stalls.values().min().copied())
        };
        let rare = *live.rare.lock();
        Gauges {
            waiting: live.waiting.load(Ordering::Relaxed),
            running: live.running.load(Ordering::Relaxed),
            stalled,
            stalled_ms: first.map_or(0, since),
            unsent_ms: rare.unsent_since_ms.map_or(0, since),
            ids: rare.ids,
            sweep_lag_ms: rare.swept_ms.map(since),
        }
    }

    pub(crate) fn add_swept(&self, ids: usize) {
        let ids = u64::try_from(ids).unwrap_or(u64::MAX);
        self.swept.fetch_add(ids, Ordering::Relaxed);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Metrics");
        all.field("summary", &self.summary())
            .field("gauges", &self.gauges())
            .finish()
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
