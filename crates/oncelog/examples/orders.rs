//! The life of orders, projected into SQLite: events come again, late and early, and each changes its order once.
//!
//! ```text
//! cargo run -p oncelog --features inbox-runner,inbox-sqlite --example orders
//! ```

#![allow(clippy::print_stdout, reason = "programs that say what they did")]

mod shared;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use oncelog::inbox::{
    Change, Consumer, Delivery, EntityStore, Expect, Handler, HandlerError, Machine, Read, Retry,
    SqliteInbox, SqliteTx, Step,
};
use oncelog::{Engine, Record};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Order {
    New,
    Paid,
    Packed,
    Shipped,
    Cancelled,
}

impl Order {
    const ALL: [Order; 5] = [
        Order::New,
        Order::Paid,
        Order::Packed,
        Order::Shipped,
        Order::Cancelled,
    ];

    /// What is stored.
    fn name(self) -> String {
        format!("{self:?}")
    }

    fn named(name: &[u8]) -> Option<Order> {
        Order::ALL
            .into_iter()
            .find(|order| order.name().as_bytes() == name)
    }
}

/// Moves orders on.
struct Orders(Machine<Order, &'static str>);

/// What a store refuses for a moment is tried again.
fn again<E: std::error::Error>(_error: E) -> HandlerError {
    HandlerError::Retry { after: None }
}

fn refused(why: impl Into<String>) -> HandlerError {
    HandlerError::Reject(why.into())
}

impl Handler<SqliteTx> for Orders {
    async fn handle(
        &self,
        tx: &mut SqliteTx,
        delivery: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        let order = delivery.ordering_key().ok_or_else(|| refused("no order"))?;
        let event = ["pay", "pack", "ship", "cancel"]
            .into_iter()
            .find(|event| event.as_bytes() == delivery.payload())
            .ok_or_else(|| refused("no such event"))?;
        let found = tx.load(order, Read::ForUpdate).await.map_err(again)?;
        let state = match &found {
            Some(found) => Order::named(&found.value).ok_or_else(|| refused("no such state"))?,
            None => Order::New,
        };
        match self.0.judge(state, &event) {
            Step::Advance(next) => {
                let expect = found.map_or(Expect::Absent, |found| Expect::Version(found.version));
                let name = next.name();
                tx.store(order, expect, Change::value(name.as_bytes()))
                    .await
                    .map_err(again)?;
                Ok(None)
            }
            Step::Already | Step::Stale => Ok(None),
            // What must come before it comes later: it is delivered again then.
            Step::Early => Err(HandlerError::Retry { after: None }),
            Step::Illegal => Err(refused(format!("{event} of an order that is {state:?}"))),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let engine = Engine::in_memory();
    engine.ensure_topic("orders", 1)?;
    let producer = engine.producer().open()?;
    // Order, event, the event's own id. A is shipped before it is packed, B is paid twice, by one event in two records, and by another
    // event; C is shipped though it was cancelled.
    let events = [
        ("A", "pay", "e1"),
        ("A", "ship", "e2"),
        ("B", "pay", "e3"),
        ("B", "pay", "e3"),
        ("A", "pack", "e4"),
        ("C", "cancel", "e5"),
        ("C", "ship", "e6"),
        ("B", "pay", "e7"),
    ];
    for (order, event, id) in events {
        let record = Record::to("orders").key(order).value(event).biz_id(id);
        producer.send(record).await?;
    }
    producer.flush().await?;

    let machine = Machine::builder()
        .edge(Order::New, "pay", Order::Paid)
        .edge(Order::Paid, "pack", Order::Packed)
        .edge(Order::Packed, "ship", Order::Shipped)
        .edge(Order::New, "cancel", Order::Cancelled)
        .edge(Order::Paid, "cancel", Order::Cancelled)
        .build()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("orders.db");
    let group = engine.group("projection").topic("orders");
    let consumer = Consumer::transactional(group, SqliteInbox::open(&file)?, Orders(machine))
        // An early event lets pass what must come before it.
        .order(oncelog::inbox::Order::None)
        .retry(Retry {
            base: Duration::from_millis(10),
            ..Retry::default()
        })
        .dead_letter("orders.dead")
        .build()?;
    let done = consumer
        .run(shared::caught_up(engine.clone(), "projection"))
        .await?;

    let found = SqliteInbox::open(&file)?
        .run(|sqlite| {
            sqlite
                .prepare("select id, value from oncelog_entity")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<BTreeMap<Vec<u8>, Vec<u8>>, _>>()
        })
        .await?;
    for (order, state) in &found {
        let text = String::from_utf8_lossy;
        println!("{}: {}", text(order), text(state));
    }
    println!(
        "{} events: {} handled, {} came again, {} early, {} refused",
        events.len(),
        done.done,
        done.redeliveries + done.republications,
        done.retries,
        done.parked
    );
    let state = |order: &str| found.get(order.as_bytes()).map(Vec::as_slice);
    ensure!(state("A") == Some(b"Shipped") && state("B") == Some(b"Paid"));
    ensure!(state("C") == Some(b"Cancelled") && done.parked == 1);
    engine.close()?;
    Ok(())
}
