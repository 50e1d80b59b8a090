//! Futures dropped at any await: what was handed over is resolvable, nothing is there twice, and
//! the producer goes on (I43).

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use log_engine::{Ack, AppendId, Engine, Producer, Record, Resolution, Ticket};

use crate::lossy::Lossy;
use crate::ways::send;
use crate::world::{World, config, read};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

// Polls a future a few times and drops it, unless it is done before.
fn poll_and_drop<F: Future>(future: F, random: &mut Random) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..random.below(4) {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        if random.below(2) == 0 {
            std::thread::yield_now();
        }
    }
    None
}

#[derive(Default)]
struct Seen {
    /// Values that were handed over, by the ids that their tickets had.
    ids: Vec<(AppendId, String)>,
    /// Values of `append`s that were dropped: handed over, or not.
    maybe: Vec<String>,
    /// Values that certainly were not handed over.
    never: Vec<String>,
    dropped: usize,
}

fn step(n: u64, (engine, producer): (&Engine, &Producer), random: &mut Random, seen: &mut Seen) {
    let (key, value) = (format!("k{}", n % 3), format!("{n:08}"));
    let record = Record::to("t").key(&key).value(&value);
    let mut note = |ticket: &Ticket| seen.ids.push((ticket.id().clone(), value.clone()));
    match random.below(8) {
        0..4 => match poll_and_drop(producer.send(record), random) {
            Some(ticket) => {
                let ticket = ticket.unwrap();
                note(&ticket);
                match random.below(3) {
                    0 => drop(ticket),
                    _ => {
                        let answer = poll_and_drop(ticket.into_future(), random);
                        seen.dropped += usize::from(answer.is_none());
                    }
                }
            }
            None => {
                seen.never.push(value);
                seen.dropped += 1;
            }
        },
        4..6 => match poll_and_drop(producer.append(record), random) {
            Some(Ok(_)) => seen.maybe.push(value),
            Some(Err(error)) => match error.append_id() {
                Some(id) => seen.ids.push((id.clone(), value)),
                None => seen.never.push(value),
            },
            None => {
                seen.maybe.push(value);
                seen.dropped += 1;
            }
        },
        6 => {
            if let Ok(ticket) = producer.try_send(record) {
                note(&ticket);
            }
            let flushed = poll_and_drop(producer.flush(), random);
            seen.dropped += usize::from(flushed.is_none());
        }
        _ => {
            let Some(id) = seen.ids.last().map(|(id, _)| id.clone()) else {
                return;
            };
            let asked = poll_and_drop(engine.resolve(&id), random);
            seen.dropped += usize::from(asked.is_none());
        }
    }
}

#[test]
fn ten_thousand_futures_dropped_at_random_awaits() {
    let seed = std::env::var("ONCELOG_SEED").map_or(1, |text| text.parse().unwrap());
    println!("ONCELOG_SEED={seed}");
    let (mut written, mut not_written) = (0, 0);
    for round in 0..10 {
        let counts = drop_a_thousand(seed + round);
        written += counts.0;
        not_written += counts.1;
    }
    println!("{written} written, {not_written} not");
    assert!(
        written > 1_000 && not_written > 100,
        "{written} {not_written}"
    );
}

// Returns how many records with known ids are written, and how many not.
fn drop_a_thousand(seed: u64) -> (u32, u32) {
    let mut random = Random(seed);
    let world = World::new();
    let engine = world.open();
    // Days may pass for a sender that the machine does not let run.
    let mut settings = config(Ack::Synced);
    let forever = (1_u64 << 50).to_string();
    settings.set("producer.id.expiration.ms", &forever).unwrap();
    engine.create_topic("t", 2, settings).unwrap();
    let good = Lossy::seed(seed).lose_answers(0.1).delay(0..3);
    let bad = Lossy::seed(seed)
        .lose_answers(0.2)
        .lose_requests(0.4)
        .repeat(0.1);
    let open = |lossy, timeout| {
        let producer = engine.producer().transport(lossy).delivery_timeout(timeout);
        let producer = producer.buffer_bytes(2_000).max_record_bytes(500);
        producer.batch_bytes(200).open().unwrap()
    };
    // One whose records arrive in the end, and one that gives up soon.
    let patient = open(good, Duration::MAX);
    let hasty = open(bad, Duration::from_millis(3));
    let mut seen = Seen::default();
    let mut n = 0;
    while seen.dropped < 1_000 {
        let producer = if random.below(3) == 0 {
            &hasty
        } else {
            &patient
        };
        step(n, (&engine, producer), &mut random, &mut seen);
        n += 1;
        if n % 16 == 0 {
            world.clock.advance(1);
        }
    }
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| {
            patient.blocking_close().unwrap();
            // Failures that no ticket saw come out here.
            let _ = hasty.blocking_close();
        });
        while !closing.is_finished() {
            world.clock.advance(1);
            std::thread::yield_now();
        }
    });
    let mut places = BTreeMap::new();
    for partition in 0..2 {
        for (offset, value) in read(&engine, "t", partition) {
            let twice = places.insert(value, (partition, offset));
            assert_eq!(twice, None, "at {partition}@{offset}");
        }
    }
    let (mut written, mut not_written) = (0, 0);
    for (id, value) in &seen.ids {
        let place = places.remove(value);
        match engine.blocking_resolve(id).unwrap() {
            Resolution::Written { offset } => {
                let partition: u32 = id.to_string().split('/').nth(1).unwrap().parse().unwrap();
                assert_eq!(place, Some((partition, offset.unwrap())), "{id} {value}");
                written += 1;
            }
            Resolution::NotWritten => {
                assert_eq!(place, None, "{id} {value}");
                not_written += 1;
            }
            Resolution::Forgotten(why) => panic!("{id}: {why}"),
            other => panic!("{other:?}"),
        }
    }
    for value in &seen.maybe {
        places.remove(value);
    }
    for value in &seen.never {
        assert!(!places.contains_key(value), "{value} was never handed over");
    }
    assert_eq!(places, BTreeMap::new(), "nobody sent these");
    // And a session that had no part in it works as ever.
    let producer = engine.producer().open().unwrap();
    send(&producer, "after").blocking_wait().unwrap();
    (written, not_written)
}
