//! How many batches are under way at a time, and their order.

use log_engine::{Ack, Engine};

use crate::ways::{Counting, numbered, send, wait_until};
use crate::world::{World, config, values};

// Sends small batches while nothing is synced; returns how many were under way at most.
fn most_in_flight(world: &World, engine: &Engine, in_flight: usize) -> usize {
    let counting = Counting::default();
    let producer = engine
        .producer()
        .batch_bytes(1)
        .max_in_flight(in_flight)
        .transport(counting.clone())
        .open()
        .unwrap();
    send(&producer, "warm").blocking_wait().unwrap();
    let gate = world.disk.hold_syncs();
    let tickets: Vec<_> = numbered(100).iter().map(|v| send(&producer, v)).collect();
    wait_until("some are under way", || counting.now(0) > 1);
    assert!(tickets.iter().all(|ticket| !ticket.is_done()));
    drop(gate);
    let offsets: Vec<_> = tickets
        .into_iter()
        .map(|ticket| ticket.blocking_wait().unwrap().offset.unwrap())
        .collect();
    assert!(offsets.is_sorted(), "{offsets:?}");
    let most = counting.most(0);
    producer.blocking_close().unwrap();
    most
}

#[test]
fn at_most_as_many_batches_are_unanswered_as_asked_for_and_recognised() {
    for (window, asked, expected) in [
        ("5", 3, 3),
        ("5", 5, 5),
        ("5", 100, 5),
        ("20", 100, 20),
        ("20", 5, 5),
    ] {
        let world = World::new();
        let engine = world.open();
        let mut settings = config(Ack::Synced);
        settings.set("producer.window", window).unwrap();
        engine.create_topic("t", 1, settings).unwrap();
        let most = most_in_flight(&world, &engine, asked);
        assert_eq!(most, expected, "window {window}, {asked} asked for");
        let mut expected = vec!["warm".to_owned()];
        expected.extend(numbered(100));
        assert_eq!(values(&engine, "t"), expected);
    }
}

#[test]
fn the_first_batch_of_a_session_goes_alone() {
    let world = World::new();
    let engine = world.open();
    crate::ways::topic(&engine, 1, Ack::Synced);
    let counting = Counting::default();
    let producer = engine
        .producer()
        .batch_bytes(1)
        .transport(counting.clone())
        .open()
        .unwrap();
    let gate = world.disk.hold_syncs();
    let tickets: Vec<_> = numbered(10).iter().map(|v| send(&producer, v)).collect();
    gate.wait_until_syncs_wait(1);
    assert_eq!((counting.now(0), counting.most(0)), (1, 1));
    drop(gate);
    for ticket in tickets {
        ticket.blocking_wait().unwrap();
    }
    assert_eq!(values(&engine, "t"), numbered(10));
}

#[test]
fn no_batch_in_flight_is_none() {
    let engine = World::new().open();
    let refused = engine.producer().max_in_flight(0).open().err().unwrap();
    let text = refused.to_string();
    assert!(
        text.contains("max_in_flight") && text.contains("at least 1"),
        "{text}"
    );
    assert!(engine.producer().batch_bytes(0).open().is_err());
    assert!(engine.producer().buffer_bytes(1).open().is_err());
}
