//! Claims around effects elsewhere (22, 24 to 26, 28 to 30), in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use consumer_inbox::{
    BizId, ClaimCx, ClaimRequest, Consumer, DedupKey, DedupStore, Delivery, Fence, Fingerprint,
    HandlerError, OnUnknown, Policy, Scope, Settlement,
};
use tokio::sync::{Barrier, Notify};

use crate::fixture::{
    AGAIN, Act, Flaky, LEASE, MARGIN, Seen, VISIBILITY, consumed, engine, id, memory, position,
    progress, retry, send, until,
};

fn key(id: &str) -> DedupKey {
    DedupKey::new(Scope::new("billing", "orders"), BizId::new(id).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_the_same_fact_in_two_records_happens_once() {
    let (engine, seen) = (engine(), Seen::default());
    send(&engine, &["A-1", "A-2"]).await;
    send(&engine, &["A-1"]).await;
    let effects = seen.clone();
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        effects.add(id(&order));
        async { Ok(()) }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, memory(), LEASE, handler);
    let consumer = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .no_dead_letter();
    let summary = consumer
        .build()
        .unwrap()
        .run(consumed(engine.clone()))
        .await;
    let summary = summary.unwrap();
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["A-1", "A-2"]);
    assert_eq!((summary.runs, summary.done), (2, 2));
    assert_eq!(position(&engine), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_24_two_at_once_both_happen_and_one_is_told() {
    let (engine, seen) = (engine(), Seen::default());
    send(&engine, &["A-1"]).await;
    send(&engine, &["A-1"]).await;
    let (effects, both) = (seen.clone(), Arc::new(Barrier::new(2)));
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        let (effects, both) = (effects.clone(), both.clone());
        async move {
            both.wait().await;
            effects.add(id(&order));
            Ok(())
        }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, memory(), Policy::After, handler);
    let consumer = consumer.order(consumer_inbox::Order::None).no_dead_letter();
    let summary = consumer
        .build()
        .unwrap()
        .run(consumed(engine.clone()))
        .await;
    assert_eq!(seen.len(), 2);
    assert_eq!(summary.unwrap().races, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn case_25_a_stalled_holder_is_fenced_and_does_not_acknowledge() {
    let (engine, store, seen) = (engine(), memory(), Seen::default());
    send(&engine, &["A-1"]).await;
    let fence = Arc::new(Fence::new());
    let (stalled, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (effects, wakes, ends) = (seen.clone(), stalled.clone(), done.clone());
    let handler = Act(move |cx: ClaimCx, _: Delivery| {
        let token = cx.held().token;
        if !wakes.swap(true, Ordering::SeqCst) {
            // Blocks its thread, so that nothing renews and nothing cuts it off.
            let until = std::time::Instant::now() + Duration::from_secs(30);
            while effects.len() == 0 && std::time::Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        match fence.admit(token) {
            Ok(()) => effects.add("done"),
            Err(_) => effects.add("refused"),
        }
        ends.notify_one();
        async { Ok(()) }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, store, LEASE, handler);
    let consumer = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .no_dead_letter();
    let consumer = consumer
        .on_unknown(OnUnknown::Run)
        .order(consumer_inbox::Order::None);
    let (ended, watched) = (seen.clone(), engine.clone());
    let shutdown = async move {
        until("both ended", || ended.len() == 2 && position(&watched) == 1).await;
    };
    let summary = consumer.build().unwrap().run(shutdown).await.unwrap();
    assert_eq!(seen.all(), ["done", "refused"]);
    assert_eq!(
        (summary.takeovers, summary.done, summary.lost),
        (1, 1, 1),
        "{summary:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_26_a_busy_duplicate_is_not_acknowledged_and_runs_when_the_first_fails() {
    let (engine, seen) = (engine(), Seen::default());
    send(&engine, &["A-1"]).await;
    send(&engine, &["A-1"]).await;
    let (effects, is_first) = (seen.clone(), Arc::new(AtomicBool::new(true)));
    let watched = engine.clone();
    let metrics = Arc::new(std::sync::OnceLock::<Arc<consumer_inbox::Metrics>>::new());
    let told = metrics.clone();
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        let (effects, told, watched) = (effects.clone(), told.clone(), watched.clone());
        let fails = is_first.swap(false, Ordering::SeqCst);
        async move {
            if fails {
                until("the duplicate was busy", || {
                    told.get().unwrap().summary().busy > 0
                })
                .await;
                assert_eq!(progress(&watched).unwrap().acked_above, 0);
                assert_eq!(position(&watched), 0);
                return Err(HandlerError::Reject("cannot".into()));
            }
            effects.add(id(&order));
            Ok(())
        }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, memory(), LEASE, handler).retry(retry(5));
    let consumer = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .dead_letter("dlq");
    let runner = consumer.order(consumer_inbox::Order::None).build().unwrap();
    metrics.set(runner.metrics()).unwrap();
    let summary = runner.run(consumed(engine.clone())).await.unwrap();
    // Refused for good, the id is parked, and so the duplicate, too; nothing ran twice.
    assert_eq!(
        (seen.len(), summary.runs, summary.parked >= 1),
        (0, 1, true),
        "{summary:?}"
    );
    assert_eq!(position(&engine), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_28_busy_is_no_attempt() {
    let (engine, store, seen) = (engine(), memory(), Seen::default());
    send(&engine, &["A-1"]).await;
    let other = key("A-1");
    let claim = ClaimRequest::new(
        &other,
        1,
        Fingerprint::of(b"shirts"),
        Duration::from_secs(600),
    );
    let held = store.claim(claim).await.unwrap().granted().unwrap();
    let effects = seen.clone();
    let handler = Act(move |cx: ClaimCx, _: Delivery| {
        effects.add(format!("attempt {}", cx.held().attempt));
        async { Ok(()) }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, Hasty(store.clone()), LEASE, handler);
    let consumer = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .retry(retry(2))
        .dead_letter("dlq");
    let runner = consumer.build().unwrap();
    let metrics = runner.metrics();
    let running = tokio::spawn(runner.run(consumed(engine.clone())));
    until("it was busy often", || metrics.summary().busy >= 6).await;
    assert_eq!((position(&engine), seen.len()), (0, 0));
    store.settle(&held, Settlement::Released).await.unwrap();
    let summary = running.await.unwrap().unwrap();
    // The other one's was the first.
    assert_eq!(seen.all(), ["attempt 2"]);
    assert_eq!((summary.parked, summary.done), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_29_while_the_store_is_down_nothing_runs_and_nothing_is_acknowledged() {
    let (engine, seen) = (engine(), Seen::default());
    send(&engine, &["A-1", "B-1"]).await;
    let store = Flaky::new(memory());
    store.is_down.store(true, Ordering::SeqCst);
    let effects = seen.clone();
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        effects.add(id(&order));
        async { Ok(()) }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, store.clone(), LEASE, handler);
    let consumer = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .retry(retry(1))
        .dead_letter("dlq");
    let runner = consumer.build().unwrap();
    let metrics = runner.metrics();
    let running = tokio::spawn(runner.run(consumed(engine.clone())));
    until("both lapsed more than once", || {
        metrics.summary().lapsed >= 4
    })
    .await;
    assert_eq!((seen.len(), position(&engine)), (0, 0));
    store.is_down.store(false, Ordering::SeqCst);
    let summary = running.await.unwrap().unwrap();
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["A-1", "B-1"]);
    assert_eq!((summary.done, summary.parked), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_30_a_handler_longer_than_the_drain_is_cut_off_and_its_claim_released() {
    let (engine, store) = (engine(), memory());
    send(&engine, &["A-1"]).await;
    let started = Arc::new(Notify::new());
    let starts = started.clone();
    let handler = Act(move |_: ClaimCx, _: Delivery| {
        starts.notify_one();
        std::future::pending()
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, store.clone(), LEASE, handler).no_dead_letter();
    let consumer = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .on_unknown(OnUnknown::Run);
    let runner = consumer.drain(Duration::from_millis(50)).build().unwrap();
    let summary = runner
        .run(async move { started.notified().await })
        .await
        .unwrap();
    assert_eq!((summary.runs, summary.done, position(&engine)), (1, 0, 0));
    let free = key("A-1");
    let claim = ClaimRequest::new(
        &free,
        1,
        Fingerprint::of(b"shirts"),
        Duration::from_secs(600),
    );
    let held = store.claim(claim).await.unwrap().granted().unwrap();
    assert_eq!(
        (held.attempt, held.prior),
        (2, consumer_inbox::Prior::Released)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_are_tried_again_and_parked_after_the_last_attempt() {
    let (engine, runs) = (engine(), Arc::new(AtomicU32::new(0)));
    send(&engine, &["A-1", "A-2"]).await;
    let counted = runs.clone();
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        let counted = counted.clone();
        async move {
            if id(&order) == "A-2" {
                return Err(AGAIN);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("a bug in {}", id(&order))
        }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, memory(), LEASE, handler).retry(retry(3));
    let consumer = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .dead_letter("dlq");
    let summary = consumer
        .build()
        .unwrap()
        .run(consumed(engine.clone()))
        .await
        .unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    assert_eq!(
        (summary.panics, summary.parked, summary.retries),
        (3, 2, 4),
        "{summary:?}"
    );
    let letters: Vec<_> = engine
        .dead_letters("dlq")
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut why: Vec<_> = letters.iter().map(|l| l.reason().into_owned()).collect();
    why.sort();
    assert_eq!(why, ["attempts-exhausted", "panicked"]);
    assert!(letters.iter().any(|l| l.last_error() == "a bug in A-1"));
}

/// Says that something is worth asking again soon.
#[derive(Clone)]
struct Hasty(consumer_inbox::MemoryStore);

impl DedupStore for Hasty {
    async fn claim(
        &self,
        request: ClaimRequest<'_>,
    ) -> Result<consumer_inbox::Admission<consumer_inbox::Held>, consumer_inbox::StoreError> {
        let answer = self.0.claim(request).await?;
        let retry_after = Duration::from_millis(10);
        Ok(match answer {
            consumer_inbox::Admission::Busy { .. } => {
                consumer_inbox::Admission::Busy { retry_after }
            }
            answer => answer,
        })
    }

    async fn renew(
        &self,
        held: &consumer_inbox::Held,
        lease: Duration,
    ) -> Result<(), consumer_inbox::StoreError> {
        self.0.renew(held, lease).await
    }

    async fn settle(
        &self,
        held: &consumer_inbox::Held,
        how: Settlement,
    ) -> Result<(), consumer_inbox::StoreError> {
        self.0.settle(held, how).await
    }

    async fn peek(
        &self,
        key: &DedupKey,
    ) -> Result<Option<consumer_inbox::Receipt>, consumer_inbox::StoreError> {
        self.0.peek(key).await
    }

    async fn sweep(
        &self,
        below: &consumer_inbox::Horizon,
        max: usize,
    ) -> Result<usize, consumer_inbox::StoreError> {
        self.0.sweep(below, max).await
    }
}
