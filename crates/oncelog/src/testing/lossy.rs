//! A way to the log on which requests and answers get lost, late and doubled.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use log_engine::{Answer, BatchHeader, Direct, Partition, Transport, TransportError};

/// A transport that loses things. What it does to a batch depends on the seed, on whose batch it is
/// (partition, producer id, epoch, sequence) and on how often it was tried, not on when: the same
/// batches meet the same fate. The chances are shares, 0.0 to 1.0.
///
/// ```
/// use oncelog::testing::Lossy;
/// use oncelog::{Engine, Record};
///
/// let engine = Engine::in_memory();
/// engine.ensure_topic("orders", 1)?;
/// let lossy = Lossy::seed(42).lose_answers(0.2).lose_requests(0.1).repeat(0.05);
/// let producer = engine.producer().batch_bytes(200).transport(lossy.clone()).open()?;
/// for line in 0..1_000 {
///     producer.blocking_send(Record::to("orders").value(&format!("line {line}")))?;
/// }
/// producer.blocking_close()?;
/// assert!(lossy.counts().answers_lost > 0);
/// assert_eq!(engine.topic("orders")?.describe().records, 1_000);
/// # Ok::<(), oncelog::Error>(())
/// ```
#[derive(Clone)]
pub struct Lossy {
    seed: u64,
    answers: f64,
    requests: f64,
    repeats: f64,
    polls: Range<u32>,
    counts: Arc<Counts>,
    tries: Arc<Mutex<BTreeMap<BatchIdentity, u64>>>,
}

/// Partition, producer id, epoch, base sequence.
type BatchIdentity = (u32, i64, i16, i32);

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    answers_lost: AtomicU64,
    requests_lost: AtomicU64,
    repeated: AtomicU64,
    delayed: AtomicU64,
}

/// What a [`Lossy`] did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LossyCounts {
    /// Requests that producers made.
    pub requests: u64,
    /// Answers that did not arrive although the log gave them.
    pub answers_lost: u64,
    /// Requests that did not arrive.
    pub requests_lost: u64,
    /// Requests that arrived twice.
    pub repeated: u64,
    /// Answers that came late.
    pub delayed: u64,
}

impl Lossy {
    /// A transport that loses nothing yet.
    pub fn seed(seed: u64) -> Lossy {
        Lossy {
            seed,
            answers: 0.0,
            requests: 0.0,
            repeats: 0.0,
            polls: 0..0,
            counts: Arc::default(),
            tries: Arc::default(),
        }
    }

    /// Loses that share of the answers; the batch is in the log all the same.
    #[must_use]
    pub fn lose_answers(mut self, share: f64) -> Lossy {
        self.answers = share;
        self
    }

    /// Loses that share of the requests; the batch is not in the log.
    #[must_use]
    pub fn lose_requests(mut self, share: f64) -> Lossy {
        self.requests = share;
        self
    }

    /// Carries that share of the requests twice.
    #[must_use]
    pub fn repeat(mut self, share: f64) -> Lossy {
        self.repeats = share;
        self
    }

    /// Delays each answer by a number of turns of the sender drawn from a range.
    #[must_use]
    pub fn delay(mut self, turns: Range<u32>) -> Lossy {
        self.polls = turns;
        self
    }

    /// What was done so far; shared by all clones.
    pub fn counts(&self) -> LossyCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LossyCounts {
            requests: count(&self.counts.requests),
            answers_lost: count(&self.counts.answers_lost),
            requests_lost: count(&self.counts.requests_lost),
            repeated: count(&self.counts.repeated),
            delayed: count(&self.counts.delayed),
        }
    }

    fn dice(&self, partition: u32, batch: &[u8]) -> Dice {
        let Ok(header) = BatchHeader::read(batch) else {
            return Dice(self.seed);
        };
        let whose = (
            partition,
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        );
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = tries
            .entry(whose)
            .and_modify(|tries| *tries += 1)
            .or_insert(0);
        let words = [
            u64::from(partition),
            header.producer_id.unsigned_abs(),
            u64::from(header.producer_epoch.unsigned_abs()),
            u64::from(header.base_sequence.unsigned_abs()),
            *tries,
        ];
        Dice(
            words
                .iter()
                .fold(self.seed, |state, word| mix(state ^ word)),
        )
    }
}

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn falls(&mut self, share: f64) -> bool {
        // 53 bits, which a float holds exactly.
        let high = u32::try_from(self.next() >> 32).unwrap_or(0);
        f64::from(high) < share * f64::from(u32::MAX)
    }
}

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Transport for Lossy {
    fn append(&self, partition: Partition, batch: bytes::Bytes) -> Answer {
        let counts = self.counts.clone();
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        count(&counts.requests);
        let mut dice = self.dice(partition.index(), &batch);
        let (answers, repeats) = (dice.falls(self.answers), dice.falls(self.repeats));
        if dice.falls(self.requests) {
            count(&counts.requests_lost);
            return Box::pin(async { Err(TransportError::NoAnswer) });
        }
        let turns = match self.polls.len() {
            0 => 0,
            span => {
                let span = u64::try_from(span).unwrap_or(1);
                self.polls.start + u32::try_from(dice.next() % span).unwrap_or(0)
            }
        };
        let first = Direct.append(partition.clone(), batch.clone());
        Box::pin(async move {
            let mut answer = first.await;
            if repeats {
                counts.repeated.fetch_add(1, Ordering::Relaxed);
                answer = Direct.append(partition, batch).await;
            }
            if turns > 0 {
                counts.delayed.fetch_add(1, Ordering::Relaxed);
            }
            for _ in 0..turns {
                yield_once().await;
            }
            if answers && answer.is_ok() {
                counts.answers_lost.fetch_add(1, Ordering::Relaxed);
                return Err(TransportError::NoAnswer);
            }
            answer
        })
    }
}

// Gives the turn away, and asks for another one.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
