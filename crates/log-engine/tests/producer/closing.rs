//! Flush, close and drop: nothing that was handed over is lost, and no failure goes unseen.

use std::time::{Duration, Instant};

use log_engine::{Ack, AppendError, Engine, OpenError, Record, SendError};

use crate::ways::{Network, numbered, send, sorted, topic};
use crate::world::{World, values};

// A producer whose next batches fail, in doubt, after 20 ms of the engine's clock.
fn failing(world: &World, engine: &Engine) -> (Network, log_engine::Producer) {
    let network = Network::default();
    let producer = engine
        .producer()
        .delivery_timeout(Duration::from_millis(20))
        .transport(network.clone())
        .open()
        .unwrap();
    send(&producer, "first").blocking_wait().unwrap();
    network.hold();
    world.clock.advance(0);
    (network, producer)
}

#[test]
fn a_failure_that_no_ticket_saw_comes_out_of_the_next_flush_once() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Memory);
    let (network, producer) = failing(&world, &engine);
    drop(send(&producer, "dropped"));
    world.clock.advance(20);
    let error = producer.blocking_flush().unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    producer.blocking_flush().unwrap();
    // A ticket that was looked at said it already.
    let ticket = send(&producer, "looked at");
    world.clock.advance(20);
    assert!(ticket.blocking_wait().is_err());
    producer.blocking_flush().unwrap();
    // Of two records of one batch, one ticket was dropped.
    let seen = send(&producer, "seen");
    drop(send(&producer, "unseen"));
    world.clock.advance(20);
    assert!(seen.blocking_wait().is_err());
    assert!(producer.blocking_flush().is_err());
    drop(send(&producer, "again"));
    world.clock.advance(20);
    assert!(producer.blocking_close().is_err(), "a close says it, too");
    network.mend();
    producer.blocking_close().unwrap();
    assert_eq!(values(&engine, "t"), ["first"]);
}

#[test]
fn a_close_refuses_what_comes_later_for_every_clone() {
    let engine = World::new().open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let clone = producer.clone();
    let ticket = send(&producer, "before");
    clone.blocking_close().unwrap();
    assert!(ticket.is_done());
    for producer in [&producer, &clone] {
        let refused = producer.try_send(Record::to("t").value("after"));
        assert!(matches!(refused, Err(SendError::Closed)));
        producer.blocking_close().unwrap();
    }
    assert_eq!(values(&engine, "t"), ["before"]);
    // A session that was closed with nothing in doubt is not remembered (I18).
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.producers().unwrap(), []);
}

#[test]
fn dropping_the_last_clone_hands_over_what_is_buffered() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 2, Ack::Synced);
    let gate = world.disk.hold_syncs();
    let producer = engine
        .producer()
        .linger(Duration::from_secs(3_600))
        .batch_bytes(200)
        .open()
        .unwrap();
    let clone = producer.clone();
    let tickets: Vec<_> = numbered(100).iter().map(|v| send(&producer, v)).collect();
    drop(producer);
    drop(clone);
    drop(gate);
    for ticket in tickets {
        ticket.blocking_wait().unwrap();
    }
    assert_eq!(sorted(&engine, "t"), numbered(100));
}

#[test]
fn closing_the_engine_stores_what_producers_have_buffered() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 2, Ack::Synced);
    let open = |linger| {
        engine
            .producer()
            .linger(linger)
            .batch_bytes(300)
            .open()
            .unwrap()
    };
    let producers = [open(Duration::ZERO), open(Duration::from_secs(3_600))];
    let mut tickets = Vec::new();
    for (n, value) in numbered(200).iter().enumerate() {
        tickets.push(send(&producers[n % 2], value));
    }
    engine.close().unwrap();
    for ticket in tickets {
        ticket.blocking_wait().unwrap();
    }
    for producer in &producers {
        let refused = producer.try_send(Record::to("t").value("x"));
        assert!(matches!(refused, Err(SendError::Closed)));
        producer.blocking_close().unwrap();
    }
    drop((producers, engine));
    assert_eq!(sorted(&world.after_power_cut().open(), "t"), numbered(200));
}

#[test]
fn closing_the_engine_tells_what_it_could_not_store() {
    let world = World::new();
    let engine = world
        .builder()
        .close_timeout(Duration::from_secs(4))
        .open()
        .unwrap();
    topic(&engine, 1, Ack::Memory);
    let network = Network::default();
    let producer = engine
        .producer()
        .batch_bytes(1)
        .max_in_flight(2)
        .transport(network.clone())
        .open()
        .unwrap();
    send(&producer, "first").blocking_wait().unwrap();
    network.hold();
    let tickets: Vec<_> = numbered(4).iter().map(|v| send(&producer, v)).collect();
    engine.close().unwrap();
    // Two were under way, and nobody knows; two were not, and are certainly not there.
    for (n, ticket) in tickets.into_iter().enumerate() {
        let error = ticket.blocking_wait().unwrap_err();
        assert_eq!(error.is_outcome_unknown(), n < 2, "{n}: {error}");
        assert_eq!(matches!(error, AppendError::Closed), n >= 2, "{n}: {error}");
    }
    assert_eq!(values(&world.after_kill().open(), "t"), ["first"]);
}

#[test]
fn closing_the_engine_takes_no_failure_away() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Memory);
    let (_, producer) = failing(&world, &engine);
    drop(send(&producer, "dropped"));
    world.clock.advance(20);
    engine.close().unwrap();
    assert!(producer.blocking_close().is_err());
}

// Opens again as soon as the old engine has let go of the directory.
fn reopen(world: &World) -> Engine {
    let begun = Instant::now();
    loop {
        match world.builder().open() {
            Ok(engine) => return engine,
            Err(OpenError::DirectoryInUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it is open for good"
        );
        std::thread::yield_now();
    }
}

#[test]
fn the_last_handle_closes_the_engine_whoever_drops_it() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    drop(engine);
    let mut expected = Vec::new();
    for round in 0..300 {
        let engine = reopen(&world);
        let producer = engine.producer().open().unwrap();
        for n in 0..round % 4 {
            let value = format!("{round:06} {n}");
            drop(send(&producer, &value));
            expected.push(value);
        }
        // The sender's thread, or another one, drops the last handle.
        if round % 2 == 0 {
            drop(engine);
            drop(producer);
        } else {
            drop(producer);
            drop(engine);
        }
    }
    assert_eq!(values(&reopen(&world), "t"), expected);
}

#[test]
fn an_engine_whose_producers_are_idle_is_closed_when_the_last_handle_is_dropped() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    drop(engine);
    for round in 0..300 {
        // Not in use: nothing of the engine before is left.
        let engine = world.open();
        let producer = engine.producer().name("n").open().unwrap();
        let record = Record::to("t").value("v").position(round);
        producer.blocking_append(record).unwrap();
        drop(producer);
        // Nor is the name.
        let producer = engine.producer().name("n").open().unwrap();
        assert_eq!(producer.resume_from(), round);
        drop((engine, producer));
    }
}

#[test]
fn a_producer_keeps_its_engine_open() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    drop(engine);
    assert_eq!(
        send(&producer, "still").blocking_wait().unwrap().offset,
        Some(0)
    );
    assert!(matches!(
        world.builder().open(),
        Err(OpenError::DirectoryInUse { .. })
    ));
    drop(producer);
    drop(reopen(&world));
}
