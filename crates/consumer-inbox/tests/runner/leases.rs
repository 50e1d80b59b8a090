//! Claims around effects elsewhere (22, 24, 25, 29, 30, 80), in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use consumer_inbox::{
    Admission, ClaimCx, ClaimRequest, Consumer, DedupStore, Delivery, Fence, Fingerprint, IdPolicy,
    OnUnknown, Policy, Prior, Settlement,
};
use tokio::sync::{Barrier, Notify};

use crate::fixture::{
    AGAIN, Act, Flaky, LEASE, MARGIN, Noted, Seen, VISIBILITY, consumed, engine, id, key, memory,
    position, retry, send, until,
};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_24_while_the_other_one_marks_it_is_soon_asked_again() {
    let engine = engine();
    send(&engine, &["A-1"]).await;
    let mut store = Noted::new(memory());
    store.busy.store(1, Ordering::SeqCst);
    // As long as the other one's lease.
    store.retry_after = Duration::from_secs(3_600);
    let handler = Act(move |_: ClaimCx, _: Delivery| async { Ok(()) });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, store, Policy::After, handler).no_dead_letter();
    let runner = consumer.retry(retry(3)).build().unwrap();
    let summary = runner.run(consumed(engine.clone())).await.unwrap();
    assert_eq!((summary.runs, summary.done, summary.lapsed), (1, 1, 0));
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
async fn case_22_an_acknowledgement_whose_answer_was_lost_may_be_repeated() {
    let (engine, store, seen) = (engine(), Noted::new(memory()), Seen::default());
    send(&engine, &["A-1", "A-2"]).await;
    let group = engine.group("billing").topic("orders");
    let member = group.clone().join().await.unwrap();
    let mut receipts = Vec::new();
    for delivery in member.poll(2, Duration::from_millis(50)).await.unwrap() {
        let order = Delivery::of_group("billing", &delivery, IdPolicy::Park).unwrap();
        let claim = store.claim(order.claim(7, Duration::from_secs(60))).await;
        let held = claim.unwrap().granted().unwrap();
        store.settle(&held, Settlement::Done(None)).await.unwrap();
        receipts.push(delivery.receipt().clone());
    }
    member.ack(&receipts[..1]).await.unwrap();
    member.ack(&receipts[..1]).await.unwrap();
    assert_eq!(position(&engine), 1);
    // The other one's acknowledgement never arrived, and a delivery was made meanwhile.
    let again = member.poll(2, Duration::from_secs(60)).await.unwrap();
    let at = again[0].receipt().offset;
    assert_eq!((again.len(), at, again[0].deliveries()), (1, 1, 2));
    assert!(
        member.ack(&receipts[1..]).await.is_err(),
        "of an older delivery"
    );
    member.leave();
    let effects = seen.clone();
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        effects.add(id(&order));
        async { Ok(()) }
    });
    let consumer = Consumer::claimed(group, store, LEASE, handler).no_dead_letter();
    let runner = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .build()
        .unwrap();
    let summary = runner.run(consumed(engine.clone())).await.unwrap();
    assert_eq!((seen.len(), summary.runs, position(&engine)), (0, 0, 2));
    assert_eq!(
        summary.redeliveries + summary.republications,
        1,
        "{summary:?}"
    );
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
async fn case_30_nothing_is_settled_after_the_release_and_an_unknown_claim_expires() {
    for (on_unknown, settled, prior) in [
        (OnUnknown::Run, vec!["Released"], Prior::Released),
        (OnUnknown::Verify, vec![], Prior::Crashed),
    ] {
        let (engine, store) = (engine(), Noted::new(memory()));
        send(&engine, &["A-1"]).await;
        let (started, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (starts, goes_on) = (started.clone(), ended.clone());
        let is_dropped = Arc::new(AtomicBool::new(false));
        let drops = is_dropped.clone();
        let handler = Act(move |_: ClaimCx, _: Delivery| {
            let goes_on = goes_on.clone();
            let dropped = Dropped(drops.clone());
            starts.notify_one();
            async move {
                let _dropped = dropped;
                goes_on.notified().await;
                Ok(())
            }
        });
        let group = engine.group("billing").topic("orders");
        let consumer = Consumer::claimed(group.clone(), store.clone(), LEASE, handler);
        let consumer = consumer
            .visibility(VISIBILITY)
            .margin(MARGIN)
            .on_unknown(on_unknown)
            .no_dead_letter();
        let runner = consumer.drain(Duration::from_millis(50)).build().unwrap();
        let shutdown = async move { started.notified().await };
        let summary = runner.run(shutdown).await.unwrap();
        // What the handler waited for comes too late: it is gone.
        ended.notify_waiters();
        assert!(is_dropped.load(Ordering::SeqCst));
        assert_eq!((summary.runs, summary.done, position(&engine)), (1, 0, 0));
        assert_eq!(store.settled.all(), settled);
        let (id, body) = (key("A-1"), Fingerprint::of(b"shirts"));
        let claim = ClaimRequest::new(&id, 1, body, Duration::from_secs(600));
        let held = loop {
            match store.claim(claim).await.unwrap() {
                Admission::Run(held) => break held,
                Admission::Busy { retry_after } => tokio::time::sleep(retry_after).await,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((held.attempt, held.prior), (2, prior));
        assert_eq!(store.settled.all(), settled);
    }
}

struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
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
