//! What a consumer says of itself while it runs, and who sends what its inbox queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use consumer_inbox::{
    Admission, ClaimCx, Consumer, Delivery, EmbeddedInbox, EmbeddedTx, Handler, HandlerError,
    Horizon, Inbox, Outgoing, Part, Settlement, StoreError,
};
use log_engine::Engine;

use crate::fixture::{
    AGAIN, Act, LEASE, MARGIN, VISIBILITY, consumed, engine, id, memory, retry, send, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gauges_say_what_holds_up_a_lane_and_for_how_long() {
    let engine = engine();
    send(&engine, &["K/1", "K/2", "K/3", "L/1"]).await;
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = is_mended.clone();
    let handler = Act(move |_: ClaimCx, order: Delivery| {
        let fails = id(&order) == "K/1" && !mended.load(Ordering::SeqCst);
        async move { if fails { Err(AGAIN) } else { Ok(()) } }
    });
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::claimed(group, memory(), LEASE, handler).retry(retry(100_000));
    let consumer = consumer.visibility(VISIBILITY).margin(MARGIN);
    let runner = consumer.no_dead_letter().build().unwrap();
    let metrics = runner.metrics();
    assert_eq!(metrics.gauges().stalled, 0);
    let running = tokio::spawn(runner.run(consumed(engine.clone())));
    until("the key waits", || {
        let gauges = metrics.gauges();
        metrics.summary().retries >= 3 && gauges.waiting == 2
    })
    .await;
    let gauges = metrics.gauges();
    assert_eq!(
        (gauges.stalled, gauges.running <= 1),
        (1, true),
        "{gauges:?}"
    );
    // Three pauses of 20, 40 and 80 ms began since the first attempt, and two of them are over.
    assert!(gauges.stalled_ms >= 50, "{gauges:?}");
    assert_eq!(metrics.summary().done, 1);
    is_mended.store(true, Ordering::SeqCst);
    running.await.unwrap().unwrap();
    let gauges = metrics.gauges();
    let now = (
        gauges.stalled,
        gauges.stalled_ms,
        gauges.waiting,
        gauges.running,
    );
    assert_eq!(now, (0, 0, 0, 0));
}

/// Emits a record for each order.
struct Emits;

impl Handler<EmbeddedTx> for Emits {
    async fn handle(
        &self,
        tx: &mut EmbeddedTx,
        order: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        tx.emit(Outgoing {
            topic: "invoices".into(),
            value: Some(id(order).into()),
            ..Outgoing::default()
        });
        Ok(None)
    }
}

async fn invoices(engine: &Engine) -> Vec<String> {
    let mut reader = engine.reader("invoices").open().unwrap();
    let mut values = Vec::new();
    while let Some(record) = reader.next().await {
        let value = record.unwrap().value().unwrap().to_vec();
        values.push(String::from_utf8(value).unwrap());
    }
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gauges_say_how_long_the_outbox_waits() {
    let engine = engine();
    send(&engine, &["A", "B"]).await;
    let inbox = EmbeddedInbox::open(&engine, "billing").unwrap();
    let group = engine.group("billing").topic("orders");
    let consumer = Consumer::transactional(group, inbox, Emits).no_dead_letter();
    let runner = consumer.build().unwrap();
    let metrics = runner.metrics();
    let (watched, topics) = (metrics.clone(), engine.clone());
    let shutdown = async move {
        // There is no such topic yet.
        until("the outbox waits", || watched.gauges().unsent_ms > 20).await;
        topics.ensure_topic("invoices", 1).unwrap();
        until("it is empty", || watched.gauges().unsent_ms == 0).await;
    };
    let summary = runner.run(shutdown).await.unwrap();
    assert_eq!((summary.done, summary.forwarded), (2, 2));
    // As of a sweep that may have begun before anything was committed.
    assert!(metrics.gauges().ids.is_some_and(|ids| ids <= 2));
    assert_eq!(invoices(&engine).await, ["A", "B"]);
}

/// An inbox that never hears that its records are in their topics.
#[derive(Clone)]
struct Deaf(EmbeddedInbox);

impl Inbox for Deaf {
    type Tx = EmbeddedTx;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        self.0.assign(part, epoch).await
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<EmbeddedTx, StoreError> {
        self.0.begin(part, epoch).await
    }

    async fn admit(
        &self,
        tx: &mut EmbeddedTx,
        delivery: &Delivery,
    ) -> Result<Admission<()>, StoreError> {
        self.0.admit(tx, delivery).await
    }

    async fn settle(
        &self,
        tx: &mut EmbeddedTx,
        delivery: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        self.0.settle(tx, delivery, how).await
    }

    async fn emit(&self, tx: &mut EmbeddedTx, record: Outgoing) -> Result<(), StoreError> {
        tx.emit(record);
        Ok(())
    }

    async fn commit(&self, tx: EmbeddedTx, next: u64) -> Result<(), StoreError> {
        self.0.commit(tx, next).await
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        self.0.outgoing(max).await
    }

    async fn forwarded(&self, _: u64) -> Result<(), StoreError> {
        Err(StoreError::Unavailable)
    }

    fn sender(&self) -> String {
        self.0.sender()
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.0.sweep(below, max).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbox_and_the_runner_send_as_one() {
    let engine = engine();
    engine.ensure_topic("invoices", 1).unwrap();
    send(&engine, &["A", "B"]).await;
    let inbox = EmbeddedInbox::open(&engine, "ids").unwrap();
    let group = || engine.group("billing").topic("orders");
    let deaf = Consumer::transactional(group(), Deaf(inbox.clone()), Emits).no_dead_letter();
    let stopped = deaf.build().unwrap().run(consumed(engine.clone())).await;
    assert!(stopped.is_err(), "{stopped:?}");
    assert_eq!(
        (invoices(&engine).await, inbox.counts().outputs),
        (vec!["A".into(), "B".into()], 2)
    );
    // Sent already, though the inbox does not know.
    assert_eq!(inbox.forward(10).await.unwrap(), 2);
    assert_eq!(
        (invoices(&engine).await, inbox.counts().outputs),
        (vec!["A".into(), "B".into()], 0)
    );
    // And the other way round, by another group.
    send(&engine, &["C"]).await;
    let deaf = Consumer::transactional(group(), Deaf(inbox.clone()), Emits).no_dead_letter();
    let stopped = deaf.build().unwrap().run(consumed(engine.clone())).await;
    assert!(stopped.is_err(), "{stopped:?}");
    let other = engine
        .group("other")
        .topic("orders")
        .start(log_engine::Start::Latest);
    let consumer = Consumer::transactional(other, inbox.clone(), Emits).no_dead_letter();
    let sent = inbox.clone();
    let shutdown = async move { until("it is sent", || sent.counts().outputs == 0).await };
    consumer.build().unwrap().run(shutdown).await.unwrap();
    assert_eq!(invoices(&engine).await, ["A", "B", "C"]);
}
