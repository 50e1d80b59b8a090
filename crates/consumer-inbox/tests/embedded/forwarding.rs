//! The outbox: every record arrives once, whatever happens on the way.

use bytes::Bytes;
use consumer_inbox::{
    Admission, Delivery, EmbeddedInbox, ForwardError, Inbox, Outgoing, Part, Position, Settlement,
};
use log_engine::{Engine, ManualClock};
use oncelog::testing::SimulatedDisk;

use crate::fixture::{drive, engine, small};

const ORDERS: u64 = 30;

async fn commit(inbox: &EmbeddedInbox, n: u64, topic: &str) {
    let part = Part::new("billing", "orders", 0);
    let at = Position {
        topic: "orders",
        partition: 0,
        offset: n,
    };
    let id = format!("order {n}");
    let order = Delivery::foreign("billing", at, &id, &b"body"[..]).unwrap();
    let mut tx = inbox.begin(&part, 1).await.unwrap();
    assert_eq!(
        inbox.admit(&mut tx, &order).await.unwrap(),
        Admission::Run(())
    );
    tx.emit(Outgoing {
        topic: topic.into(),
        key: Some(Bytes::from(id)),
        value: None,
        headers: vec![("note".into(), Some(Bytes::from_static(b"paid")))],
    });
    let done = Settlement::Done(None);
    inbox.settle(&mut tx, &order, done).await.unwrap();
    inbox.commit(tx, n + 1).await.unwrap();
}

fn open(engine: &Engine) -> EmbeddedInbox {
    EmbeddedInbox::open_with(engine, "inbox", small()).unwrap()
}

fn arrived(engine: &Engine) -> Vec<String> {
    let mut reader = engine.reader("invoices").open().unwrap();
    let mut keys = Vec::new();
    while let Some(record) = drive(engine, reader.next()) {
        let record = record.unwrap();
        assert_eq!(record.header("note").unwrap().as_ref(), b"paid");
        assert_eq!(record.value(), None);
        keys.push(String::from_utf8(record.key().unwrap().to_vec()).unwrap());
    }
    keys.sort_unstable();
    keys
}

fn expected(orders: u64) -> Vec<String> {
    let mut keys: Vec<_> = (0..orders).map(|n| format!("order {n}")).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn each_output_arrives_once_wherever_the_crash_is() {
    let (disk, clock) = (SimulatedDisk::new(3), ManualClock::at(1_000_000));
    let running = engine(&disk, &clock);
    running.ensure_topic("invoices", 3).unwrap();
    let inbox = open(&running);
    drive(&running, async {
        let part = Part::new("billing", "orders", 0);
        inbox.assign(&part, 1).await.unwrap();
        for n in 0..ORDERS {
            commit(&inbox, n, "invoices").await;
        }
    });
    disk.record();
    // In pieces, so that crashes are between them, too.
    while drive(&running, inbox.forward(7)).unwrap() > 0 {}
    assert_eq!(arrived(&running), expected(ORDERS));
    let trace = disk.take_trace().unwrap();
    let mut crash = trace.crash_at_start();
    let mut seed = 0;
    let mut partly = 0;
    loop {
        for image in [crash.killed(), crash.killed().power_cut(seed)] {
            seed += 1;
            let opened = engine(&image, &clock);
            let inbox = open(&opened);
            let waiting = inbox.counts().outputs;
            partly += usize::from((1..30).contains(&waiting));
            while drive(&opened, inbox.forward(11)).unwrap() > 0 {}
            assert_eq!(
                arrived(&opened),
                expected(ORDERS),
                "at {}",
                crash.position()
            );
            assert_eq!(inbox.counts().outputs, 0);
        }
        if !crash.advance() {
            break;
        }
    }
    assert!(partly > 10, "{partly} crashes between two calls");
}

#[test]
fn a_call_that_is_dropped_loses_and_doubles_nothing() {
    let (disk, clock) = (SimulatedDisk::new(4), ManualClock::at(1_000_000));
    let running = engine(&disk, &clock);
    running.ensure_topic("invoices", 1).unwrap();
    let inbox = open(&running);
    let part = Part::new("billing", "orders", 0);
    drive(&running, inbox.assign(&part, 1)).unwrap();
    for n in 0..ORDERS {
        drive(&running, commit(&inbox, n, "invoices"));
        for polls in 0..n % 5 {
            let mut forward = Box::pin(inbox.forward(3));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..polls {
                if forward.as_mut().poll(&mut context).is_ready() {
                    break;
                }
                running.step(n);
            }
        }
    }
    while drive(&running, inbox.forward(100)).unwrap() > 0 {}
    assert_eq!(arrived(&running), expected(ORDERS));
}

#[test]
fn a_topic_that_is_missing_holds_the_outbox_until_it_is_made() {
    let (disk, clock) = (SimulatedDisk::new(5), ManualClock::at(1_000_000));
    let running = engine(&disk, &clock);
    let inbox = open(&running);
    let part = Part::new("billing", "orders", 0);
    drive(&running, inbox.assign(&part, 1)).unwrap();
    drive(&running, commit(&inbox, 0, "invoices"));
    let refused = drive(&running, inbox.forward(10)).unwrap_err();
    assert!(
        matches!(&refused, ForwardError::Send { number: 4, topic, .. } if &**topic == "invoices"),
        "{refused:?}"
    );
    running.ensure_topic("invoices", 1).unwrap();
    assert_eq!(drive(&running, inbox.forward(10)).unwrap(), 1);
    assert_eq!(arrived(&running), expected(1));
}
