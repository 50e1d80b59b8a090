//! Producers without a name, over links that lose answers.
//!
//! Within a session a lost answer is harmless: the same sequences come again and are found. A
//! producer without a name has nothing that outlives it, so what it sends again after its own
//! restart is stored again; that is the documented limit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and counts little; helpers included"
)]

use std::collections::BTreeMap;
use std::path::Path;

use harness::random::Random;
use oncelog::{BatchBuilder, Engine, Partition, ProducerIdentity};

const ORDERS: u32 = 300;

/// An unnamed producer that sends a list in order, one record a batch, and loses answers.
struct Sender {
    partition: Partition,
    producer_id: i64,
    sequence: i32,
    lost: u32,
}

impl Sender {
    fn start(engine: &Engine) -> Sender {
        Sender {
            partition: engine.topic("orders").unwrap().partition(0).unwrap(),
            producer_id: engine.session().unwrap().producer_id(),
            sequence: 0,
            lost: 0,
        }
    }

    // Sends until an answer arrives; each is lost with a probability of 30 %.
    fn send(&mut self, order: u32, random: &mut Random) {
        let identity = ProducerIdentity {
            producer_id: self.producer_id,
            producer_epoch: 0,
            base_sequence: self.sequence,
        };
        let mut batch = BatchBuilder::new();
        let value = order.to_string();
        batch.push(0, None, Some(value.as_bytes()), &[]).unwrap();
        let bytes = batch.build(Some(identity)).unwrap();
        let mut first = None;
        loop {
            let at = self.partition.blocking_append(bytes).unwrap();
            assert_eq!(at.duplicate, first.is_some());
            assert_eq!(*first.get_or_insert(at.offset), at.offset);
            if random.below(10) >= 3 {
                break;
            }
            self.lost += 1;
        }
        self.sequence += 1;
    }
}

fn counts(engine: &Engine) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    let mut reader = engine.reader("orders").open().unwrap();
    for record in reader.blocking_iter() {
        let record = record.unwrap();
        let order = std::str::from_utf8(record.value().unwrap()).unwrap();
        *counts.entry(order.parse().unwrap()).or_default() += 1;
    }
    counts
}

fn engine(directory: &Path) -> Engine {
    let engine = Engine::open(directory).unwrap();
    engine.ensure_topic("orders", 1).unwrap();
    engine
}

#[test]
fn lost_answers_within_a_session_store_nothing_twice() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let engine = engine(directory.path());
    let mut random = Random::new(1);
    let mut sender = Sender::start(&engine);
    for order in 0..ORDERS {
        sender.send(order, &mut random);
    }
    assert!(sender.lost > ORDERS / 4, "{} answers lost", sender.lost);
    let once: BTreeMap<u32, u32> = (0..ORDERS).map(|order| (order, 1)).collect();
    assert_eq!(counts(&engine), once);
}

#[test]
fn a_restarted_log_knows_what_a_living_producer_sent() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut random = Random::new(2);
    let first = engine(directory.path());
    let mut sender = Sender::start(&first);
    let mut engine = first;
    for order in 0..ORDERS {
        if order % 50 == 49 {
            engine.close().unwrap();
            drop(engine);
            engine = self::engine(directory.path());
            let partition = engine.topic("orders").unwrap().partition(0).unwrap();
            sender = Sender {
                partition,
                ..sender
            };
        }
        sender.send(order, &mut random);
    }
    let once: BTreeMap<u32, u32> = (0..ORDERS).map(|order| (order, 1)).collect();
    assert_eq!(counts(&engine), once);
}

#[test]
fn case_182_an_unnamed_producer_that_is_restarted_stores_records_again() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let engine = engine(directory.path());
    let mut random = Random::new(3);
    // It remembers its place every 10 orders, and is restarted from there in the middle.
    let (mut remembered, mut restarts) = (0, 0);
    let mut sender = Sender::start(&engine);
    let mut order = 0;
    while order < ORDERS {
        if order % 10 == 0 {
            remembered = order;
        }
        sender.send(order, &mut random);
        order += 1;
        if order % 50 == 35 && restarts * 50 < order {
            sender = Sender::start(&engine);
            order = remembered;
            restarts += 1;
        }
    }
    let counts = counts(&engine);
    let twice: Vec<u32> = counts
        .iter()
        .filter(|(_, n)| **n > 1)
        .map(|(order, _)| *order)
        .collect();
    let expected: Vec<u32> = (0..ORDERS)
        .filter(|order| (30..35).contains(&(order % 50)))
        .collect();
    assert_eq!(twice, expected, "after {restarts} restarts");
    assert_eq!(counts.len(), ORDERS as usize, "and none is lost");
}
