//! Answers that somebody else is at work (26, 28).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use consumer_inbox::{
    ClaimCx, ClaimRequest, Consumer, DedupKey, DedupStore, Delivery, Fingerprint, HandlerError,
    Policy, Settlement,
};

use crate::fixture::{
    AGAIN, Act, LEASE, MARGIN, Noted, Seen, VISIBILITY, consumed, engine, id, key, memory,
    position, progress, retry, send, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_26_a_busy_duplicate_is_not_acknowledged_and_runs_when_the_first_fails() {
    let (engine, seen) = (engine(), Seen::default());
    send(&engine, &["A-1"]).await;
    send(&engine, &["A-1"]).await;
    let store = Noted::new(memory());
    let told = Arc::new(std::sync::OnceLock::<Arc<consumer_inbox::Metrics>>::new());
    let (effects, watched, metrics) = (seen.clone(), engine.clone(), told.clone());
    let is_first = Arc::new(AtomicBool::new(true));
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        let (effects, watched, metrics) = (effects.clone(), watched.clone(), metrics.clone());
        let fails = is_first.swap(false, Ordering::SeqCst);
        async move {
            if fails {
                let metrics = metrics.get().unwrap();
                until("the duplicate was busy", || metrics.summary().busy >= 3).await;
                let progress = progress(&watched).unwrap();
                assert_eq!((progress.acked_above, position(&watched)), (0, 0));
                // Not again before the test is over: it is the duplicate that must run.
                let after = Some(Duration::from_secs(3_600));
                return Err(HandlerError::Retry { after });
            }
            effects.add(format!("{} at {}", id(&order), order.offset()));
            Ok(())
        }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, store.clone(), LEASE, handler).retry(retry(5));
    let consumer = consumer
        .visibility(VISIBILITY)
        .margin(MARGIN)
        .order(consumer_inbox::Order::None)
        .dead_letter("dlq");
    let runner = consumer.build().unwrap();
    told.set(runner.metrics()).unwrap();
    let (ended, watched) = (seen.clone(), engine.clone());
    let shutdown = async move {
        until("the duplicate is through", || {
            let at = progress(&watched);
            ended.len() == 1
                && at.is_some_and(|at| at.acked_above + usize::from(at.position == Some(1)) == 1)
        })
        .await;
    };
    let summary = runner.run(shutdown).await.unwrap();
    assert_eq!(
        (summary.done, summary.parked, summary.retries),
        (1, 0, 1),
        "{summary:?}"
    );
    assert_eq!(store.settled.all(), ["Released", "Done(None)"]);
    // The first one is not forgotten either: it comes again, and is done.
    let handler = Act(|_: ClaimCx, _: Delivery| async { Err(AGAIN) });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, store, LEASE, handler).no_dead_letter();
    let runner = consumer.visibility(VISIBILITY).margin(MARGIN).build();
    let member = engine
        .group("billing")
        .topic("orders")
        .join()
        .await
        .unwrap();
    // Its delay ends with a seek.
    member.seek("orders", 0, 0).await.unwrap();
    member.leave();
    let summary = runner.unwrap().run(consumed(engine.clone())).await.unwrap();
    assert_eq!((summary.runs, position(&engine)), (0, 2), "{summary:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_26_a_busy_duplicate_of_what_is_refused_for_good_is_parked_too() {
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
async fn case_28_however_often_it_was_busy_the_first_run_is_the_first_attempt() {
    for is_after in [false, true] {
        let (engine, seen) = (engine(), Seen::default());
        send(&engine, &["A-1"]).await;
        let store = Noted::new(memory());
        // As many answers as there are in a minute, one a second.
        store.busy.store(60, Ordering::SeqCst);
        let effects = seen.clone();
        let handler = Act(move |cx: ClaimCx, order: Delivery| {
            effects.add(format!(
                "attempt {} of {}",
                cx.held().attempt,
                order.deliveries()
            ));
            async { Ok(()) }
        });
        let group = engine.group("billing").topic("orders");
        let policy = if is_after { Policy::Before } else { LEASE };
        let consumer = Consumer::claimed(group, store, policy, handler)
            .visibility(VISIBILITY)
            .margin(MARGIN)
            .retry(retry(2))
            .dead_letter("dlq");
        let runner = consumer.build().unwrap();
        let summary = runner.run(consumed(engine.clone())).await.unwrap();
        assert_eq!(seen.all(), ["attempt 1 of 61"]);
        assert_eq!((summary.busy, summary.parked, summary.done), (60, 0, 1));
    }
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
