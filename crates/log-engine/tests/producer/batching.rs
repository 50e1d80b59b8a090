//! When a batch leaves: full, lingered, flushed, or because the one before was answered.

use std::time::Duration;

use log_engine::{Ack, Batch, Compression, Record};

use crate::lossy::Lossy;
use crate::ways::{Recorder, numbered, send, topic, wait_until};
use crate::world::{World, values};

#[test]
fn a_batch_leaves_when_it_is_full() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Memory);
    let recorder = Recorder::default();
    let producer = engine
        .producer()
        .linger(Duration::from_secs(3_600))
        .batch_bytes(500)
        .transport(recorder.clone())
        .open()
        .unwrap();
    // The first of a session goes alone, and waits for a segment.
    let _ = send(&producer, "");
    producer.blocking_flush().unwrap();
    for value in numbered(100) {
        let _ = send(&producer, &value);
    }
    let sizes = recorder.sizes(0).split_off(1);
    assert!(
        sizes.len() == 3 && sizes.iter().all(|size| *size == sizes[0]),
        "{sizes:?}"
    );
    for (_, bytes) in recorder.sent().split_off(1) {
        assert!(bytes.len() <= 500 && bytes.len() > 250, "{}", bytes.len());
    }
    let sent: usize = sizes.iter().sum();
    assert!(sent < 100, "the last one waits for more, or for its time");
    producer.blocking_close().unwrap();
    assert_eq!(values(&engine, "t")[1..], numbered(100));
}

#[test]
fn a_batch_leaves_when_its_time_has_come() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Memory);
    let recorder = Recorder::default();
    let producer = engine
        .producer()
        .linger(Duration::from_millis(20))
        .transport(recorder.clone())
        .open()
        .unwrap();
    let tickets: Vec<_> = numbered(3).iter().map(|v| send(&producer, v)).collect();
    world.clock.advance(19);
    assert!(recorder.sent().is_empty() && !tickets[0].is_done());
    world.clock.advance(1);
    for (at, ticket) in (0..).zip(tickets) {
        assert_eq!(ticket.blocking_wait().unwrap().offset, Some(at));
    }
    assert_eq!(recorder.sizes(0), [3]);
    // The next one begins to linger anew.
    let next = send(&producer, "next");
    world.clock.advance(19);
    assert!(!next.is_done());
    world.clock.advance(1);
    assert_eq!(next.blocking_wait().unwrap().offset, Some(3));
}

#[test]
fn a_batch_that_begins_while_another_is_unanswered_leaves_in_time() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let recorder = Recorder::default();
    let producer = engine
        .producer()
        .linger(Duration::from_millis(20))
        .transport(recorder.clone())
        .open()
        .unwrap();
    let first = send(&producer, "first");
    world.clock.advance(20);
    first.blocking_wait().unwrap();
    let gate = world.disk.hold_syncs();
    let second = send(&producer, "second");
    world.clock.advance(20);
    wait_until("the second is under way", || recorder.sizes(0).len() == 2);
    let third = send(&producer, "third");
    world.clock.advance(20);
    wait_until("the third follows it", || recorder.sizes(0).len() == 3);
    assert!(!second.is_done() && !third.is_done());
    drop(gate);
    assert_eq!(third.blocking_wait().unwrap().offset, Some(2));
}

#[test]
fn without_linger_batches_form_while_a_sync_runs() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().max_in_flight(1).open().unwrap();
    send(&producer, "warm").blocking_wait().unwrap();
    let gate = world.disk.hold_syncs();
    let tickets: Vec<_> = numbered(100).iter().map(|v| send(&producer, v)).collect();
    gate.wait_until_syncs_wait(1);
    drop(gate);
    for (at, ticket) in (1..).zip(tickets) {
        assert_eq!(ticket.blocking_wait().unwrap().offset, Some(at));
    }
    // The one before, the first alone, and all that came while it was synced.
    assert_eq!(producer.counts().batches, 3);
    assert_eq!(producer.counts().records, 101);
}

#[test]
fn a_flush_and_a_close_wait_for_no_linger() {
    let engine = World::new().open();
    topic(&engine, 2, Ack::Synced);
    let producer = engine.producer().linger(Duration::MAX).open().unwrap();
    let kept: Vec<_> = numbered(10)
        .iter()
        .map(|v| producer.try_send(Record::to("t").key(v).value(v)).unwrap())
        .collect();
    producer.blocking_flush().unwrap();
    assert!(kept.iter().all(|ticket| ticket.is_done()));
    let last = send(&producer, "last");
    producer.blocking_close().unwrap();
    assert!(last.is_done());
}

#[test]
fn batches_are_compressed_and_read_back() {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut plain = 0;
    for codec in codecs {
        let engine = World::new().open();
        topic(&engine, 1, Ack::Memory);
        let recorder = Recorder::default();
        let producer = engine
            .producer()
            .linger(Duration::from_secs(3_600))
            .compression(codec)
            .transport(recorder.clone())
            .open()
            .unwrap();
        for value in numbered(200) {
            let _ = send(&producer, &value);
        }
        producer.blocking_close().unwrap();
        let sent = recorder.sent();
        let batch = Batch::parse(&sent[0].1).unwrap();
        let found = batch.header().attributes.compression();
        assert_eq!((sent.len(), found), (1, Some(codec)));
        match codec {
            Compression::None => plain = sent[0].1.len(),
            _ => assert!(sent[0].1.len() < plain * 2 / 3, "{codec:?}"),
        }
        assert_eq!(values(&engine, "t"), numbered(200), "{codec:?}");
    }
}

#[test]
fn a_producer_that_lingers_has_its_turn_beside_one_that_is_always_ready() {
    let world = World::new();
    let engine = world.builder().driven().open().unwrap();
    topic(&engine, 1, Ack::Memory);
    // Looks for its answer at each turn, and asks for another one.
    let never = Lossy::seed(1).delay(1_000_000..1_000_001);
    let busy = engine.producer().transport(never).open().unwrap();
    let busy = busy.try_send(Record::to("t").value("busy")).unwrap();
    (0..50).for_each(|turn| assert!(engine.step(turn)));
    let linger = Duration::from_millis(5);
    let patient = engine.producer().linger(linger).open().unwrap();
    let patient = patient.try_send(Record::to("t").value("patient")).unwrap();
    (0..50).for_each(|turn| assert!(engine.step(turn)));
    assert!(!patient.is_done(), "it lingers");
    world.clock.advance(5);
    (0..50).for_each(|turn| assert!(engine.step(turn)));
    assert!(patient.is_done() && !busy.is_done());
}
