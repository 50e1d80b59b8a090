//! The limit, and what a name is good for: the same input, restarted at the same moments, is stored
//! twice in part by producers without a name, and once by one with a name.

use std::collections::BTreeMap;

use harness::ledger::{Line, TOPIC};
use oncelog::testing::Lossy;
use oncelog::{Ack, Engine, Producer, TopicConfig};

const LINES: u64 = 500;
/// A program remembers where it is every so many lines, and ends in the middle between.
const REMEMBERED: u64 = 50;

// Sends the lines with a restart after every 75th; returns how often each is stored.
fn stored(open: impl Fn(&Engine) -> Producer, is_named: bool) -> BTreeMap<u64, u32> {
    let engine = Engine::in_memory();
    let config = TopicConfig::default().with_ack(Ack::Memory);
    engine.create_topic(TOPIC, 3, config).unwrap();
    let mut producer = open(&engine);
    let (mut next, mut restarts, mut sent) = (0, 0, 0);
    while next < LINES {
        let line = Line::at(0, next);
        let ticket = producer.blocking_send(line.record(is_named)).unwrap();
        ticket.blocking_wait().unwrap();
        (next, sent) = (next + 1, sent + 1);
        if sent % 75 == 0 {
            // The program ends, and begins again where it remembers to have been.
            drop(producer);
            producer = open(&engine);
            next = next / REMEMBERED * REMEMBERED;
            restarts += 1;
        }
    }
    assert!(restarts > 5);
    producer.blocking_close().unwrap();
    let mut counts = BTreeMap::new();
    let mut reader = engine.reader(TOPIC).open().unwrap();
    for record in reader.blocking_iter() {
        let record = record.unwrap();
        let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
        let position = value.split(' ').nth(1).unwrap().parse().unwrap();
        *counts.entry(position).or_default() += 1;
    }
    counts
}

fn lossy() -> Lossy {
    Lossy::seed(5).lose_answers(0.05)
}

#[test]
fn without_a_name_a_restart_stores_again_what_was_not_remembered() {
    let unnamed = |engine: &Engine| engine.producer().transport(lossy()).open().unwrap();
    let counts = stored(unnamed, false);
    let more = counts.values().filter(|count| **count > 1).count();
    assert!(more >= 100, "{more} lines are there more than once");
    assert_eq!(counts.len() as u64, LINES, "and none is lost");
}

#[test]
fn with_a_name_the_same_restarts_store_everything_once() {
    let named = |engine: &Engine| {
        let producer = engine.producer().transport(lossy()).name("feed");
        producer.open().unwrap()
    };
    let once: BTreeMap<u64, u32> = (0..LINES).map(|position| (position, 1)).collect();
    assert_eq!(stored(named, true), once);
}
