//! What is forgotten while a consumer runs (72, 74, 76, 77).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use consumer_inbox::{
    BuildError, ClaimCx, ClaimRequest, Claimed, Consumer, ConsumerBuilder, DedupStore, Delivery,
    EmbeddedStore, Fingerprint, Handler, MemoryStore, OnUnknown, Retry,
};
use log_engine::{Clock as _, ConsumerGroup, Engine, Record, SystemClock};

use crate::fixture::{
    AGAIN, Act, LEASE, MARGIN, Moved, Noted, Seen, VISIBILITY, consumed, engine, id, key, retry,
    send, until,
};

/// The shortest that is allowed with one attempt, and producers that do not try again.
const WINDOW: Duration = VISIBILITY;

fn consumer<S: DedupStore, H: Handler<ClaimCx>>(
    engine: &Engine,
    store: S,
    handler: H,
) -> ConsumerBuilder<Claimed<S, H>> {
    let group = engine.group("billing").topic("orders");
    consumer_of(group, store, handler)
}

fn consumer_of<S: DedupStore, H: Handler<ClaimCx>>(
    group: ConsumerGroup,
    store: S,
    handler: H,
) -> ConsumerBuilder<Claimed<S, H>> {
    Consumer::claimed(group, store, LEASE, handler)
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .retry(retry(1))
        .producer_retry(Duration::ZERO)
        .republish_window(WINDOW)
        .sweep_every(Duration::from_millis(10))
        .dead_letter("dlq")
}

fn adds(seen: &Seen) -> impl Handler<ClaimCx> + use<> {
    let effects = seen.clone();
    Act(move |_: ClaimCx, order: Delivery| {
        effects.add(id(&order));
        async { Ok(()) }
    })
}

/// Sends an order that was first stored then.
async fn send_of(engine: &Engine, topic: &str, id: &str, origin_ms: i64) {
    let producer = engine.producer().open().unwrap();
    let order = Record::to(topic).value("shirts").biz_id(id);
    let order = order.scenario("orders").timestamp(origin_ms);
    producer.send(order).await.unwrap();
    producer.flush().await.unwrap();
}

fn an_hour_ago() -> i64 {
    SystemClock.wall_ms() - 3_600_000
}

fn forget_records_below(engine: &Engine, topic: &str, offset: u64) {
    let partition = engine.topic(topic).unwrap().partition(0).unwrap();
    partition.delete_before(offset).unwrap();
}

#[test]
fn a_window_that_is_too_short_is_refused() {
    let (engine, seen) = (engine(), Seen::default());
    let build = |window| {
        let retry = Retry {
            max: Duration::from_millis(60),
            ..retry(4)
        };
        let consumer = consumer(&engine, crate::fixture::memory(), adds(&seen));
        let consumer = consumer.retry(retry).producer_retry(Duration::from_secs(9));
        consumer.republish_window(window).build()
    };
    // Four deliveries, three pauses, and the producer.
    let least_ms = 4 * 400 + (20 + 40 + 60) + 9_000;
    let refused = build(Duration::from_millis(least_ms - 1)).err();
    let window_ms = least_ms - 1;
    assert_eq!(
        refused,
        Some(BuildError::ShortWindow {
            window_ms,
            least_ms
        })
    );
    assert!(build(Duration::from_millis(least_ms)).is_ok());
    // Nothing is remembered, so nothing is forgotten too early.
    let natural = Act(|(), _: Delivery| async { Ok(()) });
    let group = engine.group("billing").topic("orders");
    let natural = Consumer::natural(group, natural).republish_window(Duration::from_millis(1));
    assert!(natural.no_dead_letter().build().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_72_and_74_what_the_log_cannot_deliver_is_forgotten_and_refused_after_a_restart() {
    let (directory, seen) = (tempfile::tempdir().unwrap(), Seen::default());
    let path = directory.path().join("log");
    let origin_ms = an_hour_ago();
    {
        let engine = Engine::open(&path).unwrap();
        engine.ensure_topic("orders", 1).unwrap();
        for (n, id) in ["A", "B", "C"].into_iter().enumerate() {
            send_of(&engine, "orders", id, origin_ms + i64::try_from(n).unwrap()).await;
        }
        let store = Noted::new(EmbeddedStore::open(&engine, "ids").unwrap());
        let runner = consumer(&engine, store.clone(), adds(&seen))
            .build()
            .unwrap();
        let (metrics, stop) = (runner.metrics(), Arc::new(tokio::sync::Notify::new()));
        let stopped = stop.clone();
        let running = tokio::spawn(runner.run(async move { stopped.notified().await }));
        consumed(engine.clone()).await;
        // The window passes, and the log still has them.
        let begin = Instant::now();
        while begin.elapsed() < WINDOW {
            store.swept().await;
        }
        store.swept().await;
        assert_eq!(metrics.summary().swept, 0);
        assert_eq!(metrics.gauges().ids, Some(3));
        forget_records_below(&engine, "orders", 2);
        until("two are forgotten", || metrics.summary().swept == 2).await;
        store.swept().await;
        assert_eq!(
            (metrics.summary().swept, metrics.gauges().ids),
            (2, Some(1))
        );
        assert!(metrics.gauges().sweep_lag_ms.is_some());
        stop.notify_one();
        let summary = running.await.unwrap().unwrap();
        assert_eq!((summary.sweep_failures, summary.done), (0, 3));
        engine.close().unwrap();
    }
    let engine = Engine::open(&path).unwrap();
    // Late copies of what is forgotten and of what is not, and something new.
    for (n, id) in ["A", "B", "C"].into_iter().enumerate() {
        send_of(&engine, "orders", id, origin_ms + i64::try_from(n).unwrap()).await;
    }
    send(&engine, &["D"]).await;
    let store = EmbeddedStore::open(&engine, "ids").unwrap();
    let consumer = consumer(&engine, store, adds(&seen)).build().unwrap();
    let summary = consumer.run(consumed(engine.clone())).await.unwrap();
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["A", "B", "C", "D"]);
    assert_eq!((summary.expired, summary.parked, summary.done), (2, 2, 1));
    assert_eq!(summary.redeliveries + summary.republications, 1);
    let letters = engine.dead_letters("dlq").unwrap().map(Result::unwrap);
    let why: Vec<_> = letters.map(|letter| letter.reason().into_owned()).collect();
    assert_eq!(why, ["expired", "expired"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_74_a_topic_that_lags_holds_the_floor_and_its_records_are_admitted() {
    let (engine, seen, clock) = (engine(), Seen::default(), Moved::default());
    engine.ensure_topic("slow", 1).unwrap();
    let origin_ms = an_hour_ago();
    send_of(&engine, "slow", "old", origin_ms).await;
    send_of(&engine, "orders", "A", origin_ms + 1).await;
    send_of(&engine, "orders", "B", origin_ms + 2).await;
    let store = Noted::new(MemoryStore::lossy(Arc::new(clock.clone()), 100));
    let is_free = Arc::new(AtomicBool::new(false));
    let (effects, frees) = (seen.clone(), is_free.clone());
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        let (effects, frees) = (effects.clone(), frees.clone());
        async move {
            if id(&order) == "old" {
                until("it is let go", || frees.load(Ordering::SeqCst)).await;
            }
            effects.add(id(&order));
            Ok(())
        }
    });
    let group = engine.group("billing").topic("orders").topic("slow");
    let runner = consumer_of(group, store.clone(), handler).build().unwrap();
    let (metrics, stop) = (runner.metrics(), Arc::new(tokio::sync::Notify::new()));
    let stopped = stop.clone();
    let running = tokio::spawn(runner.run(async move { stopped.notified().await }));
    consumed(engine.clone()).await;
    forget_records_below(&engine, "orders", 2);
    clock.elapsed_by(3_600_000);
    store.swept().await;
    assert_eq!((seen.len(), metrics.summary().swept), (2, 0));
    until("the old one alone runs", || metrics.gauges().running == 1).await;
    is_free.store(true, Ordering::SeqCst);
    until("it is done", || metrics.summary().done == 3).await;
    // A newer record says what time it is.
    send(&engine, &["D"]).await;
    clock.elapsed_by(3_600_000);
    until("the others are forgotten", || metrics.summary().swept == 2).await;
    stop.notify_one();
    let summary = running.await.unwrap().unwrap();
    assert_eq!((summary.expired, summary.parked), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_76_a_wall_clock_that_jumps_changes_neither_leases_nor_floors() {
    for jump_ms in [3_600_000, -3_600_000] {
        let (engine, seen) = (engine(), Seen::default());
        let origin_ms = SystemClock.wall_ms() - 3 * 3_600_000;
        send_of(&engine, "orders", "A", origin_ms).await;
        send_of(&engine, "orders", "B", origin_ms + 1).await;
        let (host, stores) = (Moved::default(), Moved::default());
        let store = Noted::new(MemoryStore::lossy(Arc::new(stores.clone()), 100));
        // Somebody else has the second one.
        let (other, body) = (key("B"), Fingerprint::of(b"shirts"));
        let lease = Duration::from_millis(500);
        let claimed = Instant::now();
        let claim = ClaimRequest::new(&other, 1, body, lease);
        store.claim(claim).await.unwrap().granted().unwrap();
        let (effects, jumps) = (seen.clone(), host.clone());
        let handler = Act(move |cx: ClaimCx, order: Delivery| {
            let (effects, jumps) = (effects.clone(), jumps.clone());
            async move {
                if id(&order) == "A" {
                    // While it runs, so that it is renewed after the jump.
                    jumps.wall_by(jump_ms);
                    tokio::time::sleep(VISIBILITY * 2).await;
                }
                effects.add(format!("{} {}", id(&order), cx.held().attempt));
                Ok(())
            }
        });
        let consumer = consumer(&engine, store.clone(), handler).clock(Arc::new(host.clone()));
        let consumer = consumer.on_unknown(OnUnknown::Run).retry(retry(3));
        let consumer = consumer.republish_window(Duration::from_secs(3_600));
        let runner = consumer.build().unwrap();
        let (metrics, stop) = (runner.metrics(), Arc::new(tokio::sync::Notify::new()));
        let stopped = stop.clone();
        let running = tokio::spawn(runner.run(async move { stopped.notified().await }));
        until("the other one's is taken over", || {
            metrics.summary().takeovers == 1
        })
        .await;
        assert!(claimed.elapsed() >= lease, "before the lease ended");
        consumed(engine.clone()).await;
        let mut all = seen.all();
        all.sort();
        assert_eq!(all, ["A 1", "B 2"], "{jump_ms}");
        // The window is the store's, and did not pass.
        forget_records_below(&engine, "orders", 2);
        send(&engine, &["C"]).await;
        store.swept().await;
        assert_eq!(metrics.summary().swept, 0);
        stores.elapsed_by(3_600_000);
        until("two are forgotten", || metrics.summary().swept == 2).await;
        // The floor is below what is new.
        send(&engine, &["D"]).await;
        consumed(engine.clone()).await;
        stop.notify_one();
        let summary = running.await.unwrap().unwrap();
        assert_eq!(
            (summary.done, summary.lapsed, summary.lost),
            (4, 0, 0),
            "{summary:?}"
        );
        assert_eq!((summary.expired, summary.parked), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_77_a_store_whose_clock_is_set_back_reopens_nothing_and_tokens_grow() {
    let (engine, seen, clock) = (engine(), Seen::default(), Moved::default());
    let store = MemoryStore::lossy(Arc::new(clock.clone()), 100);
    let tokens = Arc::new(std::sync::Mutex::new(Vec::new()));
    for round in 0..3 {
        send(&engine, &["A", &format!("B {round}")]).await;
        let (effects, granted, steps) = (seen.clone(), tokens.clone(), clock.clone());
        let handler = Act(move |cx: ClaimCx, order: Delivery| {
            let fails = id(&order).starts_with('B') && cx.held().attempt == 1;
            let token = cx.held().token.get();
            granted.lock().unwrap().push((id(&order), token));
            match fails {
                // Between the claim and its release.
                true => steps.elapsed_by(-10_000),
                false => effects.add(id(&order)),
            }
            async move { if fails { Err(AGAIN) } else { Ok(()) } }
        });
        let consumer = consumer(&engine, store.clone(), handler).concurrency(1);
        let consumer = consumer.republish_window(Duration::from_secs(60));
        let runner = consumer.retry(retry(3)).build().unwrap();
        runner.run(consumed(engine.clone())).await.unwrap();
        clock.elapsed_by(-10_000);
    }
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["A", "B 0", "B 1", "B 2"]);
    let tokens = tokens.lock().unwrap().clone();
    assert_eq!(tokens.len(), 1 + 2 * 3, "{tokens:?}");
    for id in ["B 0", "B 1", "B 2"] {
        let of: Vec<u64> = tokens
            .iter()
            .filter(|(i, _)| i == id)
            .map(|(_, t)| *t)
            .collect();
        assert!(of.is_sorted() && of[0] < of[1], "{id}: {of:?}");
    }
    let mut sorted = tokens.clone();
    sorted.sort_by_key(|(_, token)| *token);
    assert_eq!(tokens, sorted);
}
