//! A log forgets producers that fell silent (I18). Nobody who uses a producer notices.

use std::time::Duration;

use log_engine::{Ack, Record, Resolution, SendError};

use crate::ways::{send, wait_until};
use crate::world::{World, config, in_epoch, values};

const EXPIRY_MS: u32 = 60_000;

// A topic whose producers are forgotten after a minute; and lets the log look for such ones.
fn world() -> (World, log_engine::Engine) {
    world_under("strict")
}

fn world_under(policy: &str) -> (World, log_engine::Engine) {
    let world = World::new();
    let engine = world.open();
    let mut settings = config(Ack::Synced);
    settings.set("producer.unknown", policy).unwrap();
    let expiry = EXPIRY_MS.to_string();
    settings.set("producer.id.expiration.ms", &expiry).unwrap();
    engine.create_topic("t", 1, settings).unwrap();
    (world, engine)
}

fn forget_all(world: &World, engine: &log_engine::Engine) {
    world.clock.advance(EXPIRY_MS + 600_000);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    wait_until("producers are forgotten", || {
        world.clock.advance(1_000);
        partition.producers().unwrap().is_empty()
    });
}

#[test]
fn a_producer_that_was_silent_for_long_goes_on_under_another_id() {
    let (world, engine) = world();
    let producer = engine.producer().open().unwrap();
    let before = producer.identity();
    let first = send(&producer, "first");
    let first_id = first.id().clone();
    first.blocking_wait().unwrap();
    forget_all(&world, &engine);
    let second = send(&producer, "second");
    let second_id = second.id().clone();
    assert_eq!(second.blocking_wait().unwrap().offset, Some(1));
    assert_ne!(producer.identity().0, before.0);
    // Both ids lead to their records, in this run and in another one.
    let check = |engine: &log_engine::Engine| {
        for (at, id) in [(0, &first_id), (1, &second_id)] {
            let written = Resolution::Written { offset: Some(at) };
            assert_eq!(engine.blocking_resolve(id).unwrap(), written, "{id}");
        }
    };
    check(&engine);
    engine.close().unwrap();
    check(&world.after_kill().open());
}

#[test]
fn an_id_that_may_have_been_forgotten_is_not_used_for_a_first_batch() {
    let (world, engine) = world();
    // Opened early, used late: others with higher ids came and were forgotten meanwhile.
    let early = engine.producer().open().unwrap();
    let other = engine.producer().open().unwrap();
    send(&other, "other").blocking_wait().unwrap();
    forget_all(&world, &engine);
    assert_eq!(
        send(&early, "early").blocking_wait().unwrap().offset,
        Some(1)
    );
    assert_eq!(values(&engine, "t"), ["other", "early"]);
}

#[test]
fn a_producer_that_is_used_keeps_its_id() {
    let (world, engine) = world();
    let producer = engine.producer().open().unwrap();
    let before = producer.identity();
    for _ in 0..20 {
        world.clock.advance(EXPIRY_MS / 3);
        send(&producer, "v").blocking_wait().unwrap();
    }
    assert_eq!(producer.identity(), before);
}

#[test]
fn a_named_producer_is_never_forgotten() {
    let (world, engine) = world();
    let record = |n: u64| log_engine::Record::to("t").value("named").position(n);
    let named = engine.producer().name("n").open().unwrap();
    let other = engine.producer().open().unwrap();
    named.blocking_append(record(0)).unwrap();
    send(&other, "other").blocking_wait().unwrap();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    world.clock.advance(EXPIRY_MS + 600_000);
    let ids = || -> Vec<i64> {
        let producers = partition.producers().unwrap();
        producers.iter().map(|p| p.producer_id).collect()
    };
    wait_until("the other one is forgotten", || {
        world.clock.advance(1_000);
        ids().len() == 1
    });
    assert_eq!(ids(), [named.identity().0]);
    assert_eq!(named.blocking_append(record(1)).unwrap().offset, Some(2));
    // Nor by an engine that never saw it.
    drop((named, other));
    engine.close().unwrap();
    let world = world.after_kill();
    let engine = world.open();
    world.clock.advance(EXPIRY_MS + 600_000 + 1_000);
    let named = engine.producer().name("n").open().unwrap();
    assert_eq!(named.resume_from(), 1);
    let skipped = named.blocking_append(record(1)).unwrap();
    assert_eq!((skipped.duplicate, skipped.offset), (true, None));
    let at = named.blocking_append(record(2)).unwrap();
    assert_eq!((at.duplicate, at.offset), (false, Some(3)));
}

#[test]
fn under_the_policy_kafka_what_was_written_before_is_found_all_the_same() {
    let (world, engine) = world_under("kafka");
    let patience = Duration::from_millis(EXPIRY_MS.into()) / 2;
    let producer = engine.producer().delivery_timeout(patience);
    let producer = producer.open().unwrap();
    let ids = ["first", "second"].map(|value| {
        let ticket = send(&producer, value);
        let id = ticket.id().clone();
        ticket.blocking_wait().unwrap();
        id
    });
    forget_all(&world, &engine);
    // A late try of the first batch is taken, and then the log knows of nothing else.
    let (producer_id, epoch) = producer.identity();
    let late = in_epoch(producer_id, epoch, 0, &["first"]);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let again = partition.blocking_append(&late).unwrap();
    assert_eq!((again.offset, again.duplicate), (2, false));
    let written = Resolution::Written { offset: Some(1) };
    assert_eq!(engine.blocking_resolve(&ids[1]).unwrap(), written);
}

#[test]
fn a_record_is_not_tried_for_longer_than_a_log_surely_knows_its_producer() {
    let (world, engine) = world_under("kafka");
    let open = |ms: u64| {
        let builder = engine.producer();
        let builder = builder.delivery_timeout(Duration::from_millis(ms));
        builder.open().unwrap()
    };
    let half = u64::from(EXPIRY_MS / 2);
    let refused = open(half + 1);
    let record = || Record::to("t").value("x");
    let error = refused.try_send(record()).unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Expiry {
                delivery_timeout_ms: 30_001,
                expiry_ms: 60_000,
                ..
            }
        ),
        "{error}"
    );
    let text = error.to_string();
    for part in [
        "60000 ms",
        "30001 ms",
        "delivery_timeout to at most 30000",
        "strict",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(values(&engine, "t").is_empty());
    // Other topics take its records: the default expiry is a day, and a strict log refuses late tries.
    for (topic, policy, expiry) in [("long", "kafka", "86400000"), ("strict", "strict", "60000")] {
        let mut settings = config(Ack::Synced);
        settings.set("producer.unknown", policy).unwrap();
        settings.set("producer.id.expiration.ms", expiry).unwrap();
        engine.create_topic(topic, 1, settings).unwrap();
        let sent = refused.blocking_append(Record::to(topic).value("x"));
        assert_eq!(sent.unwrap().offset, Some(0));
    }
    open(half).blocking_append(record()).unwrap();
    let named = engine.producer().name("n").open().unwrap();
    named.blocking_append(record().position(1)).unwrap();
    assert_eq!(values(&engine, "t").len(), 2);
    drop(world);
}
