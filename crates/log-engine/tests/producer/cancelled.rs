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

/// Futures that a round drops.
const EACH: usize = 200;

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

/// What became of a future.
enum Ended<T> {
    Done(T),
    /// It was dropped while it waited.
    Dropped,
    /// It was dropped before anything had been asked of it.
    Untouched,
}

// Polls a future a few times and drops it, unless it is done before.
fn poll_and_drop<F: Future>(future: F, random: &mut Random) -> Ended<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let polls = random.below(4);
    for _ in 0..polls {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Ended::Done(value);
        }
        if random.below(2) == 0 {
            std::thread::yield_now();
        }
    }
    match polls {
        0 => Ended::Untouched,
        _ => Ended::Dropped,
    }
}

/// Futures that were dropped while they waited.
#[derive(Debug, Default)]
struct Dropped {
    sends: usize,
    tickets: usize,
    /// Of these nobody can say whether the record was handed over.
    appends: usize,
    flushes: usize,
    resolves: usize,
}

#[derive(Default)]
struct Seen {
    /// Values that were handed over, by the ids that their tickets had.
    ids: Vec<(AppendId, String)>,
    /// What some of them were resolved to, soon after.
    early: Vec<(AppendId, Resolution)>,
    /// Values of `append`s that were dropped: handed over, or not.
    maybe: Vec<String>,
    /// Values that certainly were not handed over.
    never: Vec<String>,
    dropped: Dropped,
}

fn step(n: u64, (engine, producer): (&Engine, &Producer), random: &mut Random, seen: &mut Seen) {
    let (key, value) = (format!("k{}", n % 3), format!("{n:08}"));
    let record = Record::to("t").key(&key).value(&value);
    let mut note = |ticket: &Ticket| seen.ids.push((ticket.id().clone(), value.clone()));
    match random.below(8) {
        0..4 => match poll_and_drop(producer.send(record), random) {
            Ended::Done(ticket) => {
                let ticket = ticket.unwrap();
                note(&ticket);
                match random.below(3) {
                    0 => drop(ticket),
                    _ => {
                        let answer = poll_and_drop(ticket.into_future(), random);
                        seen.dropped.tickets += usize::from(matches!(answer, Ended::Dropped));
                    }
                }
            }
            unsent => {
                seen.never.push(value);
                seen.dropped.sends += usize::from(matches!(unsent, Ended::Dropped));
            }
        },
        4..6 => match poll_and_drop(producer.append(record), random) {
            Ended::Done(Ok(_)) => seen.maybe.push(value),
            Ended::Done(Err(error)) => match error.append_id() {
                Some(id) => seen.ids.push((id.clone(), value)),
                None => seen.never.push(value),
            },
            Ended::Dropped => {
                seen.maybe.push(value);
                seen.dropped.appends += 1;
            }
            Ended::Untouched => seen.never.push(value),
        },
        6 => {
            if let Ok(ticket) = producer.try_send(record) {
                note(&ticket);
            }
            let flushed = poll_and_drop(producer.flush(), random);
            seen.dropped.flushes += usize::from(matches!(flushed, Ended::Dropped));
        }
        _ => {
            let Some(id) = seen.ids.last().map(|(id, _)| id.clone()) else {
                return;
            };
            match poll_and_drop(engine.resolve(&id), random) {
                Ended::Done(resolution) => seen.early.push((id, resolution.unwrap())),
                Ended::Dropped => seen.dropped.resolves += 1,
                Ended::Untouched => {}
            }
        }
    }
}

#[test]
fn ten_thousand_futures_dropped_at_random_awaits() {
    let seed = std::env::var("ONCELOG_SEED").map_or(1, |text| text.parse().unwrap());
    println!("ONCELOG_SEED={seed}");
    let mut counts = Counts::default();
    // Each on its own log: what it was resolved to is looked up in all of it.
    for round in 0..10_000 / EACH {
        drop_some(seed + round as u64, &mut counts);
    }
    println!("{counts:?}");
    let Counts {
        dropped,
        written,
        not_written,
        early,
    } = counts;
    assert!(dropped.sends + dropped.tickets >= 10_000);
    assert!(dropped.sends > 100 && dropped.tickets > 1_000);
    assert!(dropped.appends > 1_000 && dropped.flushes > 500 && dropped.resolves > 100);
    assert!(written > 1_000 && not_written > 100 && early > 50);
}

/// Of all rounds.
#[derive(Debug, Default)]
struct Counts {
    dropped: Dropped,
    /// Records with known ids, as they were resolved in the end.
    written: u32,
    not_written: u32,
    /// Resolved before, too, to the same.
    early: usize,
}

// Drops futures of which it is known whether their records were handed over, and others.
fn drop_some(seed: u64, counts: &mut Counts) {
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
    while seen.dropped.sends + seen.dropped.tickets < EACH {
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
    // What the hasty one gave up may be written and not synced yet; being resolved waits for that.
    let resolved: Vec<_> = seen
        .ids
        .iter()
        .map(|(id, value)| (id, value, engine.blocking_resolve(id).unwrap()))
        .collect();
    let mut places = BTreeMap::new();
    for partition in 0..2 {
        for (offset, value) in read(&engine, "t", partition) {
            let twice = places.insert(value, (partition, offset));
            assert_eq!(twice, None, "at {partition}@{offset}");
        }
    }
    for (id, early) in &seen.early {
        assert_eq!(engine.blocking_resolve(id).unwrap(), *early, "{id}");
    }
    counts.early += seen.early.len();
    for (id, value, resolution) in resolved {
        let place = places.remove(value);
        match resolution {
            Resolution::Written { offset } => {
                let partition: u32 = id.to_string().split('/').nth(1).unwrap().parse().unwrap();
                assert_eq!(place, Some((partition, offset.unwrap())), "{id} {value}");
                counts.written += 1;
            }
            Resolution::NotWritten => {
                assert_eq!(place, None, "{id} {value}");
                counts.not_written += 1;
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
    let dropped = &mut counts.dropped;
    dropped.sends += seen.dropped.sends;
    dropped.tickets += seen.dropped.tickets;
    dropped.appends += seen.dropped.appends;
    dropped.flushes += seen.dropped.flushes;
    dropped.resolves += seen.dropped.resolves;
}
