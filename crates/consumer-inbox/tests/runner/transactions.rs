//! Effect, id and position in one transaction, in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consumer_inbox::{
    Amount, Change, Consumer, Delivery, EntityStore, Expect, Handler, HandlerError, IdPolicy,
    Inbox, MemoryInbox, MemoryTx, Outgoing, Part, RunError, StoreError,
};
use log_engine::{Engine, Record, Start, SystemClock};

use crate::fixture::{AGAIN, consumed, engine, id, position, retry, send, until};

/// Adds one to a sum; what it does to each id.
struct Adds(fn(&str) -> Result<(), HandlerError>);

impl Handler<MemoryTx> for Adds {
    async fn handle(
        &self,
        tx: &mut MemoryTx,
        order: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        let one = Change {
            value: None,
            amount: Amount::Add(1),
        };
        tx.store(b"sum", Expect::Any, one)
            .await
            .map_err(|_| AGAIN)?;
        (self.0)(&id(order))?;
        Ok(None)
    }
}

fn inbox() -> MemoryInbox {
    MemoryInbox::lossy(Arc::new(SystemClock))
}

fn sum(inbox: &MemoryInbox) -> i64 {
    inbox.entity(b"sum").map_or(0, |entity| entity.amount)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fact_counts_once_and_dead_letters_go_out_with_the_position() {
    let (engine, inbox) = (engine(), inbox());
    send(&engine, &["A/1", "B/1", "A/1", "bad", "A/2"]).await;
    let adds = Adds(|id| match id {
        "bad" => Err(HandlerError::Reject("bad".into())),
        _ => Ok(()),
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::transactional(group, inbox.clone(), adds).concurrency(3);
    let consumer = consumer.dead_letter("dlq").build().unwrap();
    let summary = consumer.run(consumed(engine.clone())).await.unwrap();
    assert_eq!(sum(&inbox), 3, "{summary:?}");
    assert_eq!((summary.done, summary.parked, summary.forwarded), (3, 1, 1));
    let letters: Vec<_> = engine
        .dead_letters("dlq")
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].group(), letters[0].topic(), letters[0].offset()),
        ("billing", "orders", 3)
    );
    assert_eq!(letters[0].biz_id(), Some(&b"bad"[..]));
    assert_eq!(
        (letters[0].reason(), letters[0].last_error()),
        ("rejected".into(), "bad".into())
    );
    // Sent again, it is admitted, and fails again: that is another record, and another dead letter.
    assert!(engine.redrive(&letters[0]).await.unwrap());
    assert_eq!(position(&engine), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_attempt_leaves_nothing_and_the_next_one_counts() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static TRIES: AtomicU32 = AtomicU32::new(0);
    let (engine, inbox) = (engine(), inbox());
    send(&engine, &["A/1"]).await;
    let adds = Adds(|_| match TRIES.fetch_add(1, Ordering::SeqCst) {
        0 => Err(AGAIN),
        1 => panic!("a bug"),
        _ => Ok(()),
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::transactional(group, inbox.clone(), adds).retry(retry(3));
    let consumer = consumer.no_dead_letter().build().unwrap();
    let summary = consumer.run(consumed(engine.clone())).await.unwrap();
    assert_eq!(
        (sum(&inbox), summary.runs, summary.done),
        (1, 3, 1),
        "{summary:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inboxs_position_is_the_authority() {
    let (engine, inbox) = (engine(), inbox());
    send(&engine, &["A/1", "A/2", "A/3"]).await;
    // Two are committed there, and the group knows of none.
    let part = Part::new("billing", "orders", 0);
    inbox.assign(&part, 1).await.unwrap();
    let tx = inbox.begin(&part, 1).await.unwrap();
    inbox.commit(tx, 2).await.unwrap();
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::transactional(group, inbox.clone(), Adds(|_| Ok(())));
    let consumer = consumer.no_dead_letter().build().unwrap();
    let summary = consumer.run(consumed(engine.clone())).await.unwrap();
    assert_eq!((sum(&inbox), summary.runs), (1, 1), "{summary:?}");
    // A group that lost sight of it is taken back there.
    let group = engine.group("other").topic("orders").start(Start::Latest);
    let part = Part::new("other", "orders", 0);
    inbox.assign(&part, 1).await.unwrap();
    let tx = inbox.begin(&part, 1).await.unwrap();
    inbox.commit(tx, 9).await.unwrap();
    let consumer = Consumer::transactional(group, inbox.clone(), Adds(|_| Ok(())));
    let stopped = consumer
        .no_dead_letter()
        .build()
        .unwrap()
        .run(std::future::pending())
        .await;
    let gap = matches!(
        &stopped,
        Err(RunError::Store(StoreError::Gap { want: 9, have: 3 }))
    );
    assert!(gap, "{stopped:?}");
}

/// Emits a record for each order.
struct Emits(MemoryInbox);

impl Handler<MemoryTx> for Emits {
    async fn handle(
        &self,
        tx: &mut MemoryTx,
        order: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        let invoice = Outgoing {
            topic: "invoices".into(),
            value: Some(id(order).into()),
            ..Outgoing::default()
        };
        self.0.emit(tx, invoice).await.map_err(|_| AGAIN)?;
        Ok(None)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_handlers_emit_arrives_once() {
    let (engine, inbox) = (engine(), inbox());
    engine.ensure_topic("invoices", 1).unwrap();
    send(&engine, &["A/1", "A/2", "A/1"]).await;
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::transactional(group, inbox.clone(), Emits(inbox.clone()));
    let consumer = consumer.no_dead_letter().build().unwrap();
    let summary = consumer.run(consumed(engine.clone())).await.unwrap();
    assert_eq!(summary.forwarded, 2);
    let end = engine
        .topic("invoices")
        .unwrap()
        .partition(0)
        .unwrap()
        .high_watermark();
    assert_eq!((end, inbox.outgoing(9).await.unwrap().len()), (2, 0));
}

fn letters(engine: &Engine) -> Vec<(u64, String)> {
    let letters = engine.dead_letters("dlq").unwrap().map(Result::unwrap);
    letters
        .map(|letter| (letter.offset(), letter.reason().into_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_usable_id_is_parked_with_the_position() {
    let (engine, inbox) = (engine(), inbox());
    let producer = engine.producer().open().unwrap();
    let long = "x".repeat(513);
    for id in [Some("A/1"), None, Some(long.as_str())] {
        let order = Record::to("orders").key("K").value("shirts");
        let order = order.header("colour", Some(b"blue"));
        let order = id.into_iter().fold(order, Record::biz_id);
        producer.send(order).await.unwrap();
    }
    producer.flush().await.unwrap();
    let group = || engine.group("billing").topic("orders");
    let consumer = Consumer::transactional(group(), inbox.clone(), Adds(|_| Ok(())));
    let consumer = consumer.ids(IdPolicy::Park).dead_letter("dlq");
    let runner = consumer.build().unwrap();
    let summary = runner.run(consumed(engine.clone())).await.unwrap();
    assert_eq!((sum(&inbox), summary.parked), (1, 2), "{summary:?}");
    let why = [(1, "missing-id".to_owned()), (2, "illegal-id".to_owned())];
    assert_eq!(letters(&engine), why);
    for letter in engine.dead_letters("dlq").unwrap() {
        let letter = letter.unwrap();
        let record = letter.record();
        assert_eq!(record.key().map(|key| &key[..]), Some(&b"K"[..]));
        assert!(record.headers().any(|(name, _)| name == "colour"));
    }
    // The store is as far as the group: what is deleted behind that is missed by nobody.
    let part = Part::new("billing", "orders", 0);
    assert_eq!(inbox.assign(&part, 1_000).await.unwrap(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_parked_above_the_position_is_one_dead_letter_when_it_comes_again() {
    let (engine, inbox) = (engine(), inbox());
    let producer = engine.producer().open().unwrap();
    for (id, value) in [("M", "one"), ("late", "x"), ("M", "another"), ("", "x")] {
        let order = Record::to("orders").value(value);
        let order = if id.is_empty() {
            order
        } else {
            order.biz_id(id)
        };
        producer.send(order).await.unwrap();
    }
    producer.flush().await.unwrap();
    let group = || engine.group("billing").topic("orders");
    let stuck = Adds(|id| match id {
        "late" => Err(HandlerError::Retry {
            after: Some(Duration::from_secs(3_600)),
        }),
        _ => Ok(()),
    });
    let consumer = Consumer::transactional(group(), inbox.clone(), stuck);
    let consumer = consumer.ids(IdPolicy::Park).dead_letter("dlq");
    let both = until("both are parked", || letters(&engine).len() == 2);
    let runner = consumer.build().unwrap();
    runner.run(both).await.unwrap();
    assert_eq!(position(&engine), 1);
    let consumer = Consumer::transactional(group(), inbox.clone(), Adds(|_| Ok(())));
    let consumer = consumer.ids(IdPolicy::Park).dead_letter("dlq");
    let runner = consumer.build().unwrap();
    // As after a crash: what was acknowledged above the position is not known.
    let member = group().join().await.unwrap();
    member.seek("orders", 0, 1).await.unwrap();
    member.leave();
    runner.run(consumed(engine.clone())).await.unwrap();
    assert_eq!(sum(&inbox), 2);
    let why = [(2, "mismatch".to_owned()), (3, "missing-id".to_owned())];
    assert_eq!(letters(&engine), why);
}

fn invoices(engine: &Engine) -> u64 {
    let topic = engine.topic("invoices").unwrap();
    topic.partition(0).unwrap().high_watermark()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_over_one_store_send_each_record_once_and_a_new_store_sends_all() {
    let (engine, inbox) = (engine(), inbox());
    engine.ensure_topic("invoices", 1).unwrap();
    let ids: Vec<String> = (0..50).map(|n| format!("A/{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    send(&engine, &ids).await;
    let run = |group: &str, inbox: &MemoryInbox, sent: u64| {
        let group = engine.group(group).topic("orders");
        let consumer = Consumer::transactional(group, inbox.clone(), Emits(inbox.clone()));
        let consumer = consumer.retry(retry(5)).no_dead_letter().build().unwrap();
        let engine = engine.clone();
        let all = async move { until("all is sent", || invoices(&engine) >= sent).await };
        consumer.run(all)
    };
    let (billing, shipping) =
        tokio::join!(run("billing", &inbox, 100), run("shipping", &inbox, 100));
    // One may have been taken over from while it ended; the other has sent what was left.
    assert!(
        billing.is_ok() || shipping.is_ok(),
        "{billing:?} {shipping:?}"
    );
    let left = inbox.outgoing(1_000).await.unwrap();
    assert_eq!((invoices(&engine), left.len()), (100, 0));
    // Its numbers begin at 1 again, which its sender has not sent.
    let fresh = MemoryInbox::lossy(Arc::new(SystemClock));
    run("third", &fresh, 150).await.unwrap();
    assert_eq!(invoices(&engine), 150);
}
