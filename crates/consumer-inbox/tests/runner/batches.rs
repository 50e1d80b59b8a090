//! Several deliveries in one transaction, in memory (39, 40).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use consumer_inbox::{
    Admission, Amount, Change, Consumer, Delivery, EntityStore, Expect, Handler, HandlerError,
    Horizon, Inbox, MemoryInbox, MemoryTx, Outgoing, Part, RunError, Settlement, StoreError,
    Summary,
};
use log_engine::{Engine, Record, SystemClock};

use crate::fixture::{AGAIN, MARGIN, Seen, VISIBILITY, consumed, engine, id, retry, send};

/// An inbox in memory that counts its commits, and can lose the answer of one.
#[derive(Clone)]
struct Counted {
    inbox: MemoryInbox,
    commits: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    /// The position whose commit is refused, once.
    refused: Arc<AtomicUsize>,
    /// Whether somebody else works on the next record that goes by its place.
    is_busy: Arc<AtomicBool>,
}

impl Inbox for Counted {
    type Tx = MemoryTx;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        self.inbox.assign(part, epoch).await
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<MemoryTx, StoreError> {
        self.inbox.begin(part, epoch).await
    }

    async fn admit(&self, tx: &mut MemoryTx, d: &Delivery) -> Result<Admission<()>, StoreError> {
        if d.biz_id().is_none() && self.is_busy.swap(false, Ordering::SeqCst) {
            let retry_after = Duration::from_millis(5);
            return Ok(Admission::Busy { retry_after });
        }
        self.inbox.admit(tx, d).await
    }

    async fn settle(
        &self,
        tx: &mut MemoryTx,
        d: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        self.inbox.settle(tx, d, how).await
    }

    async fn emit(&self, tx: &mut MemoryTx, record: Outgoing) -> Result<(), StoreError> {
        self.inbox.emit(tx, record).await
    }

    async fn commit(&self, tx: MemoryTx, next: u64) -> Result<(), StoreError> {
        let refused = self.refused.load(Ordering::SeqCst);
        if refused > 0 && usize::try_from(next).is_ok_and(|next| next == refused) {
            self.refused.store(0, Ordering::SeqCst);
            return Err(StoreError::Conflict);
        }
        self.inbox.commit(tx, next).await?;
        let nth = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        match nth == self.lost.load(Ordering::SeqCst) {
            true => Err(StoreError::Unknown),
            false => Ok(()),
        }
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        self.inbox.outgoing(max).await
    }

    async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        self.inbox.forwarded(through).await
    }

    fn sender(&self) -> String {
        self.inbox.sender()
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.inbox.sweep(below, max).await
    }
}

/// Adds one to a sum, and takes down whose turn it was.
struct Adds<F>(F, Seen);

impl<F, R> Handler<MemoryTx> for Adds<F>
where
    F: Fn(String) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), HandlerError>> + Send,
{
    async fn handle(
        &self,
        tx: &mut MemoryTx,
        order: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        let one = Change {
            value: None,
            amount: Amount::Add(1),
        };
        let added = tx.store(b"sum", Expect::Any, one).await;
        added.map_err(|_| AGAIN)?;
        (self.0)(id(order)).await?;
        self.1.add(id(order));
        Ok(None)
    }
}

struct World {
    engine: Engine,
    inbox: Counted,
    seen: Seen,
}

impl World {
    async fn of(ids: &[&str]) -> World {
        let engine = engine();
        send(&engine, ids).await;
        World {
            engine,
            inbox: Counted {
                inbox: MemoryInbox::lossy(Arc::new(SystemClock)),
                commits: Arc::default(),
                lost: Arc::default(),
                refused: Arc::default(),
                is_busy: Arc::default(),
            },
            seen: Seen::default(),
        }
    }

    async fn run<F, R>(&self, act: F) -> Result<Summary, RunError>
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let group = self.engine.group("billing").topic("orders");
        let handler = Adds(act, self.seen.clone());
        let consumer = Consumer::transactional(group, self.inbox.clone(), handler).batch(100);
        let consumer = consumer
            .visibility(VISIBILITY)
            .margin(MARGIN)
            .retry(retry(5));
        let runner = consumer.dead_letter("dlq").build().unwrap();
        runner.run(consumed(self.engine.clone())).await
    }

    fn sum(&self) -> i64 {
        self.inbox.inbox.entity(b"sum").map_or(0, |sum| sum.amount)
    }

    fn commits(&self) -> usize {
        self.inbox.commits.load(Ordering::SeqCst)
    }
}

async fn well(_: String) -> Result<(), HandlerError> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_committed_together_and_each_fact_counts_once() {
    let ids: Vec<String> = (0..200).map(|n| format!("K{}/{}", n % 7, n / 2)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let distinct = ids.iter().collect::<std::collections::BTreeSet<_>>().len();
    let world = World::of(&[&ids[..], &ids[..50]].concat()).await;
    let summary = world.run(well).await.unwrap();
    assert_eq!(world.sum(), i64::try_from(distinct).unwrap());
    let distinct = u64::try_from(distinct).unwrap();
    assert_eq!((summary.runs, summary.done), (distinct, distinct));
    assert_eq!(summary.republications, 250 - distinct);
    // 100 at most at a time.
    assert!(
        (3..=10).contains(&world.commits()),
        "{} commits",
        world.commits()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_39_one_that_fails_costs_itself_and_its_key() {
    let ids = [
        "A/0", "B/1", "C/2", "D/3", "E/4", "X/5", "F/6", "X/7", "G/8", "H/9",
    ];
    let world = World::of(&ids).await;
    let failures = Arc::new(AtomicU32::new(0));
    let act = move |id: String| {
        let is_first = id == "X/5" && failures.fetch_add(1, Ordering::SeqCst) < 2;
        async move { if is_first { Err(AGAIN) } else { Ok(()) } }
    };
    let summary = world.run(act).await.unwrap();
    assert_eq!(world.sum(), 10);
    assert_eq!((summary.runs, summary.done, summary.retries), (12, 10, 2));
    let order = [
        "A/0", "B/1", "C/2", "D/3", "E/4", "F/6", "G/8", "H/9", "X/5", "X/7",
    ];
    assert_eq!(world.seen.all(), order);
    // All others; what failed; what waited for it.
    assert_eq!(world.commits(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_a_commit_and_a_panic_leave_each_effect_once() {
    let ids = ["A/0", "B/1", "C/2", "D/3"];
    let world = World::of(&ids).await;
    world.inbox.lost.store(1, Ordering::SeqCst);
    let panics = AtomicU32::new(0);
    let act = move |id: String| {
        assert!(
            id != "C/2" || panics.fetch_add(1, Ordering::SeqCst) > 0,
            "a bug"
        );
        well(id)
    };
    let summary = world.run(act).await.unwrap();
    assert_eq!((world.sum(), summary.panics), (4, 1), "{summary:?}");
    // Three were committed by a transaction that nobody heard of: each was told so by one of its own.
    assert_eq!(
        (summary.done, summary.republications),
        (1, 3),
        "{summary:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stops_the_consumer_keeps_what_was_done_before_it() {
    let world = World::of(&["A/0", "B/1", "C/2", "D/3"]).await;
    let stopped = world.run(|id| async move {
        match id.as_str() {
            "C/2" => Err(HandlerError::Fatal("enough".into())),
            _ => Ok(()),
        }
    });
    assert!(matches!(stopped.await, Err(RunError::Fatal(_))));
    assert_eq!((world.sum(), world.seen.all().len()), (2, 2));
    let summary = world.run(well).await.unwrap();
    assert_eq!((world.sum(), summary.done), (4, 2), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_longer_than_the_visibility_is_still_this_consumers() {
    let ids = ["A/0", "B/1", "C/2", "D/3", "E/4", "F/5"];
    let world = World::of(&ids).await;
    let act = |_| async {
        tokio::time::sleep(VISIBILITY / 3).await;
        Ok(())
    };
    let summary = world.run(act).await.unwrap();
    assert_eq!((world.sum(), summary.runs), (6, 6), "{summary:?}");
    assert_eq!(
        (summary.redeliveries, summary.fenced),
        (0, 0),
        "{summary:?}"
    );
    assert_eq!(world.commits(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_parked_key_the_rest_is_parked_in_order() {
    let ids = ["A/0", "X/1", "X/2", "B/3", "X/4"];
    let world = World::of(&ids).await;
    let group = world.engine.group("billing").topic("orders");
    let act = |id: String| async move {
        match id.as_str() {
            "X/1" => Err(HandlerError::Reject("no".into())),
            _ => Ok(()),
        }
    };
    let handler = Adds(act, world.seen.clone());
    let consumer = Consumer::transactional(group, world.inbox.clone(), handler).batch(100);
    let consumer = consumer.key_after_park(consumer_inbox::KeyAfterPark::ParkToo);
    let consumer = consumer
        .visibility(Duration::from_secs(30))
        .dead_letter("dlq");
    let all = consumed(world.engine.clone());
    consumer.build().unwrap().run(all).await.unwrap();
    let letters = world
        .engine
        .dead_letters("dlq")
        .unwrap()
        .map(Result::unwrap);
    let letters: Vec<_> = letters
        .map(|l| (l.offset(), l.reason().into_owned()))
        .collect();
    let too = |offset| (offset, "key-parked".to_owned());
    assert_eq!(letters, [(1, "rejected".to_owned()), too(2), too(4)]);
    assert_eq!(
        (world.sum(), world.seen.all()),
        (2, vec!["A/0".to_owned(), "B/3".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_own_transaction_after_a_refused_commit_is_still_this_consumers() {
    let ids = ["A/0", "B/1", "C/2", "D/3", "E/4"];
    let world = World::of(&ids).await;
    world.inbox.refused.store(ids.len(), Ordering::SeqCst);
    let act = |_| async {
        tokio::time::sleep(VISIBILITY / 3).await;
        Ok(())
    };
    let summary = world.run(act).await.unwrap();
    // All together in vain, and each of them alone.
    assert_eq!((world.sum(), summary.runs), (5, 10), "{summary:?}");
    assert_eq!(
        (summary.redeliveries, summary.fenced),
        (0, 0),
        "{summary:?}"
    );
    assert_eq!(world.commits(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mismatch_whose_place_is_taken_for_a_moment_is_parked_behind_it() {
    let world = World::of(&["A/0"]).await;
    let producer = world.engine.producer().open().unwrap();
    let other = Record::to("orders").value("trousers").biz_id("A/0");
    producer.append(other).await.unwrap();
    world.inbox.is_busy.store(true, Ordering::SeqCst);
    let summary = world.run(well).await.unwrap();
    assert_eq!((world.sum(), summary.parked), (1, 1), "{summary:?}");
    let letters = world.engine.dead_letters("dlq").unwrap();
    assert_eq!(letters.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_key_keeps_its_order_whatever_comes_again() {
    let ids: Vec<String> = (0..700).map(|n| format!("K/{n:03}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let world = World::of(&ids).await;
    let failures = Arc::new(AtomicU32::new(0));
    let act = move |id: String| {
        let fails = id.ends_with("20") && failures.fetch_add(1, Ordering::SeqCst) % 3 < 2;
        async move {
            match fails {
                true => Err(HandlerError::Retry {
                    after: Some(Duration::ZERO),
                }),
                false => Ok(()),
            }
        }
    };
    let handler = Adds(act, world.seen.clone());
    let group = world.engine.group("billing").topic("orders");
    let consumer = Consumer::transactional(group, world.inbox.clone(), handler);
    let consumer = consumer.concurrency(2).batch(8).retry(retry(5));
    let runner = consumer.dead_letter("dlq").build().unwrap();
    runner.run(consumed(world.engine.clone())).await.unwrap();
    assert_eq!(world.seen.all(), ids);
}
