//! The limit, and what a name is good for: the same input, restarted at the same moments, is stored
//! twice in part by producers without a name, and once by one with a name.

use std::collections::BTreeMap;

use harness::ledger::{Line, TOPIC};
use oncelog::testing::Lossy;
use oncelog::{Ack, Engine, Producer, TopicConfig};

const LINES: u64 = 500;
/// A program remembers where it is every so many lines, and ends in the middle between.
const REMEMBERED: u64 = 50;

/// How often each line was sent, and how often it is stored.
struct Counts {
    sent: BTreeMap<u64, u32>,
    stored: BTreeMap<u64, u32>,
}

impl Counts {
    fn more_than_once(counts: &BTreeMap<u64, u32>) -> usize {
        counts.values().filter(|count| **count > 1).count()
    }
}

// Sends the lines with a restart after every 75th.
fn send_and_count(open: impl Fn(&Engine) -> Producer, is_named: bool) -> Counts {
    let engine = Engine::in_memory();
    let config = TopicConfig::default().with_ack(Ack::Memory);
    engine.create_topic(TOPIC, 3, config).unwrap();
    let mut producer = open(&engine);
    let (mut next, mut restarts, mut total) = (0, 0, 0);
    let mut sent = BTreeMap::new();
    while next < LINES {
        let line = Line::at(0, next);
        *sent.entry(next).or_default() += 1;
        let ticket = producer.blocking_send(line.record(is_named)).unwrap();
        ticket.blocking_wait().unwrap();
        (next, total) = (next + 1, total + 1);
        if total % 75 == 0 {
            // The program ends, and begins again where it remembers to have been.
            drop(producer);
            producer = open(&engine);
            next = next / REMEMBERED * REMEMBERED;
            restarts += 1;
        }
    }
    assert!(restarts > 5);
    producer.blocking_close().unwrap();
    let mut stored = BTreeMap::new();
    let mut reader = engine.reader(TOPIC).open().unwrap();
    for record in reader.blocking_iter() {
        let record = record.unwrap();
        let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
        let position = value.split(' ').nth(1).unwrap().parse().unwrap();
        *stored.entry(position).or_default() += 1;
    }
    println!(
        "{} name: {restarts} restarts, {} of {LINES} lines sent more than once, {} stored so",
        if is_named { "with a" } else { "without a" },
        Counts::more_than_once(&sent),
        Counts::more_than_once(&stored),
    );
    Counts { sent, stored }
}

fn lossy() -> Lossy {
    Lossy::seed(5).lose_answers(0.05)
}

#[test]
fn without_a_name_a_restart_stores_again_what_was_not_remembered() {
    let unnamed = |engine: &Engine| engine.producer().transport(lossy()).open().unwrap();
    let counts = send_and_count(unnamed, false);
    assert!(Counts::more_than_once(&counts.stored) >= 100);
    // The lost answers make none more of them, and none is lost.
    assert_eq!(counts.stored, counts.sent);
}

#[test]
fn with_a_name_the_same_restarts_store_everything_once() {
    let named = |engine: &Engine| {
        let producer = engine.producer().transport(lossy()).name("feed");
        producer.open().unwrap()
    };
    let once: BTreeMap<u64, u32> = (0..LINES).map(|position| (position, 1)).collect();
    let counts = send_and_count(named, true);
    assert!(Counts::more_than_once(&counts.sent) >= 100);
    assert_eq!(counts.stored, once);
}
