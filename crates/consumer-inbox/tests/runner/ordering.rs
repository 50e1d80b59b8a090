//! Keys, and rewinding (78, 79).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use consumer_inbox::{ClaimCx, Consumer, Delivery, HandlerError, KeyAfterPark};

use crate::fixture::{
    AGAIN, Act, LEASE, MARGIN, Seen, VISIBILITY, consumed, engine, id, memory, position, retry,
    send,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_78_a_failing_key_keeps_its_order_and_others_go_on() {
    let (engine, seen) = (engine(), Seen::default());
    send(&engine, &["K/1", "K/2", "L/1", "K/3", "L/2"]).await;
    let (effects, failures) = (seen.clone(), Arc::new(AtomicU32::new(0)));
    let handler = Act(move |(), order: Delivery| {
        let (effects, failures) = (effects.clone(), failures.clone());
        async move {
            if id(&order) == "K/1" {
                // Until the other key is through.
                let others = effects
                    .all()
                    .iter()
                    .filter(|id| id.starts_with('L'))
                    .count();
                if others < 2 || failures.load(Ordering::SeqCst) == 0 {
                    failures.fetch_add(1, Ordering::SeqCst);
                    return Err(AGAIN);
                }
            }
            effects.add(id(&order));
            Ok(())
        }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::natural(group, handler)
        .retry(retry(1_000))
        .no_dead_letter();
    let summary = consumer
        .build()
        .unwrap()
        .run(consumed(engine.clone()))
        .await
        .unwrap();
    assert_eq!(seen.all(), ["L/1", "L/2", "K/1", "K/2", "K/3"]);
    assert!(summary.retries >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_78_after_a_park_the_key_is_parked_in_order_if_asked() {
    for after in [KeyAfterPark::ParkToo, KeyAfterPark::Continue] {
        let (engine, seen) = (engine(), Seen::default());
        send(&engine, &["K/1", "K/2", "L/1", "K/3"]).await;
        let effects = seen.clone();
        let handler = Act(move |_: ClaimCx, order: Delivery| {
            let effects = effects.clone();
            async move {
                if id(&order) == "K/1" {
                    return Err(HandlerError::Reject("no".into()));
                }
                effects.add(id(&order));
                Ok(())
            }
        });
        let group = engine.group("billing").topic("orders");
        let consumer = Consumer::claimed(group, memory(), LEASE, handler).key_after_park(after);
        let consumer = consumer
            .visibility(VISIBILITY)
            .margin(MARGIN)
            .dead_letter("dlq");
        consumer
            .build()
            .unwrap()
            .run(consumed(engine.clone()))
            .await
            .unwrap();
        let letters: Vec<_> = engine
            .dead_letters("dlq")
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let letters: Vec<_> = letters
            .iter()
            .map(|l| (l.offset(), l.reason().into_owned()))
            .collect();
        let rejected = (0, "rejected".to_owned());
        let too = |offset| (offset, "key-parked".to_owned());
        match after {
            KeyAfterPark::ParkToo => {
                assert_eq!(letters, [rejected, too(1), too(3)]);
                assert_eq!(seen.all(), ["L/1"]);
            }
            KeyAfterPark::Continue => {
                assert_eq!(letters, [rejected]);
                assert_eq!(seen.len(), 3);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_79_rewound_all_is_done_already() {
    let (engine, store, seen) = (engine(), memory(), Seen::default());
    send(&engine, &["A/1", "B/1", "A/2"]).await;
    let group = || engine.group("billing").topic("orders");
    let mut duplicates = 0;
    for _ in 0..2 {
        let effects = seen.clone();
        let handler = Act(move |_: ClaimCx, order: Delivery| {
            effects.add(id(&order));
            async { Ok(()) }
        });
        let consumer = Consumer::claimed(group(), store.clone(), LEASE, handler).no_dead_letter();
        let consumer = consumer
            .visibility(VISIBILITY)
            .margin(MARGIN)
            .build()
            .unwrap();
        let summary = consumer.run(consumed(engine.clone())).await.unwrap();
        duplicates += summary.republications + summary.redeliveries;
        assert_eq!((seen.len(), position(&engine)), (3, 3));
        // By an operator.
        let member = group().join().await.unwrap();
        member.seek("orders", 0, 0).await.unwrap();
    }
    assert_eq!(duplicates, 3);
}
