//! Answers and requests get lost, come late, and come twice: each record is there once, in order.

use std::time::Duration;

use log_engine::{Ack, Engine, Record};

use crate::lossy::Lossy;
use crate::ways::{numbered, send, topic};
use crate::world::{World, config, read};

// Returns how many requests and answers were lost.
fn run(seed: u64) -> (u64, u64) {
    let world = World::new();
    let engine = world.open();
    let ack = [Ack::Synced, Ack::Interval, Ack::Memory][(seed % 3) as usize];
    let partitions = 1 + (seed % 4) as u32;
    let mut settings = config(ack);
    let unknown = if seed.is_multiple_of(5) {
        "kafka"
    } else {
        "strict"
    };
    settings.set("producer.unknown", unknown).unwrap();
    // Days may pass for a sender that the machine does not let run.
    let forever = (1_u64 << 50).to_string();
    settings.set("producer.id.expiration.ms", &forever).unwrap();
    engine.create_topic("t", partitions, settings).unwrap();
    let share = 0.1 * (1 + seed % 5) as f64;
    let lossy = Lossy::seed(seed)
        .lose_answers(share)
        .lose_requests(share / 2.0)
        .repeat(share / 2.0)
        .delay(0..4);
    let open = || {
        let producer = engine
            .producer()
            .batch_bytes(150 + (seed % 7) as usize * 40);
        // The clock runs faster than the sender may be able to.
        let producer = producer.delivery_timeout(Duration::from_millis(1 << 49));
        let producer = producer.max_in_flight(1 + (seed % 6) as usize);
        producer.transport(lossy.clone()).open().unwrap()
    };
    // Two sessions at a time, with keys and without.
    let producers = [open(), open()];
    for value in numbered(200) {
        for (p, producer) in producers.iter().enumerate() {
            let (key, value) = (format!("k{}", value.len() + p), format!("{p} {value}"));
            let record = Record::to("t").value(&value);
            let record = if seed.is_multiple_of(2) {
                record.key(&key)
            } else {
                record
            };
            let _ = producer.blocking_send(record).unwrap();
        }
        // The clock stands still otherwise, and tries wait for it.
        world.clock.advance(1);
    }
    let closing = std::thread::spawn({
        let producers = producers.clone();
        move || producers.map(|p| p.blocking_close())
    });
    while !closing.is_finished() {
        world.clock.advance(1);
        std::thread::yield_now();
    }
    for closed in closing.join().unwrap() {
        closed.unwrap();
    }
    let counts = lossy.counts();
    let mut all = Vec::new();
    for partition in 0..partitions {
        let found = read(&engine, "t", partition);
        for p in ["0 ", "1 "] {
            let own: Vec<_> = found.iter().filter(|(_, v)| v.starts_with(p)).collect();
            assert!(own.is_sorted_by_key(|(_, v)| v), "seed {seed}: {own:?}");
        }
        all.extend(found.into_iter().map(|(_, value)| value));
    }
    all.sort();
    let expected: Vec<String> = ["0 ", "1 "]
        .iter()
        .flat_map(|p| numbered(200).into_iter().map(move |v| format!("{p}{v}")))
        .collect();
    assert!(all == expected, "seed {seed}: {} records of 400", all.len());
    let counted: u64 = producers.iter().map(|p| p.counts().records).sum();
    assert_eq!(counted, 400, "seed {seed}");
    let again: u64 = producers.iter().map(|p| p.counts().retransmitted).sum();
    assert!(
        again >= counts.answers_lost.max(counts.requests_lost),
        "seed {seed}"
    );
    (counts.requests_lost, counts.answers_lost)
}

#[test]
fn whatever_gets_lost_each_record_is_stored_once_and_in_order() {
    let (mut requests, mut answers) = (0, 0);
    for seed in 0..60 {
        let lost = run(seed);
        requests += lost.0;
        answers += lost.1;
    }
    assert!(
        requests > 500 && answers > 1_000,
        "{requests} and {answers} lost"
    );
}

#[test]
fn a_repeat_is_a_success_with_the_first_offset() {
    // Its clock runs: tries wait for it.
    let engine = Engine::in_memory();
    topic(&engine, 1, Ack::Memory);
    let lossy = Lossy::seed(3).lose_answers(0.5);
    let producer = engine.producer().transport(lossy.clone()).open().unwrap();
    let mut duplicates = 0;
    for (at, value) in (0..).zip(numbered(100)) {
        let stored = send(&producer, &value).blocking_wait().unwrap();
        assert_eq!(stored.offset, Some(at));
        duplicates += u64::from(stored.duplicate);
    }
    // A batch whose answer was lost is known by the log when it comes again.
    let counts = producer.counts();
    assert!(duplicates > 20 && duplicates == counts.duplicates_answered);
    assert_eq!(counts.retransmitted, lossy.counts().answers_lost);
    assert_eq!(counts.records, 100);
}
