//! A full buffer: refused at once, waited for, or given up after a while.

use std::time::Duration;

use log_engine::{Ack, Action, Engine, Record, SendError};

use crate::ways::{block_on, numbered, pass_time_until, send, sorted, topic, wait_until};
use crate::world::{World, values};

// Fills the buffer while nothing is synced; gives back how many records were taken.
fn fill(producer: &log_engine::Producer) -> (usize, SendError) {
    for (n, value) in numbered(10_000).iter().enumerate() {
        match producer.try_send(Record::to("t").value(value)) {
            Ok(_) => {}
            Err(error) => return (n, error),
        }
    }
    unreachable!("the buffer takes everything")
}

#[test]
fn a_full_buffer_refuses_with_numbers_and_hands_nothing_over() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine
        .producer()
        .buffer_bytes(2_000)
        .max_record_bytes(500)
        .open()
        .unwrap();
    let gate = world.disk.hold_syncs();
    let (taken, error) = fill(&producer);
    let SendError::Full { buffered, limit } = error else {
        panic!("{error}");
    };
    assert!(buffered <= 2_000 && buffered > 1_900 && limit == 2_000);
    assert_eq!(error.action(), Action::Retry);
    let text = error.to_string();
    assert!(
        text.contains("2000") && text.contains("buffer_bytes"),
        "{text}"
    );
    // The same again and again changes nothing.
    for _ in 0..10 {
        assert!(producer.try_send(Record::to("t").value("more")).is_err());
    }
    drop(gate);
    producer.blocking_flush().unwrap();
    assert_eq!(values(&engine, "t"), numbered(taken));
    // All of the room is there again.
    let gate = world.disk.hold_syncs();
    let (again, _) = fill(&producer);
    assert_eq!(again, taken, "room that was not given back");
    drop(gate);
    producer.blocking_close().unwrap();
}

#[test]
fn sending_waits_for_room() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine
        .producer()
        .buffer_bytes(2_000)
        .max_record_bytes(500)
        .open()
        .unwrap();
    let gate = world.disk.hold_syncs();
    let (taken, _) = fill(&producer);
    std::thread::scope(|scope| {
        let blocking = scope.spawn(|| send(&producer, "blocking").blocking_wait().unwrap());
        let polled = scope.spawn(|| {
            block_on(async {
                let ticket = producer.send(Record::to("t").value("polled")).await;
                ticket.unwrap().await.unwrap()
            })
        });
        gate.wait_until_syncs_wait(1);
        assert!(!blocking.is_finished() && !polled.is_finished());
        drop(gate);
        blocking.join().unwrap();
        polled.join().unwrap();
    });
    let all = sorted(&engine, "t");
    assert_eq!(all.len(), taken + 2);
    assert_eq!(all[taken..], ["blocking", "polled"]);
}

#[test]
fn waiting_for_room_ends_after_max_block() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine
        .producer()
        .buffer_bytes(2_000)
        .max_record_bytes(500)
        .max_block(Duration::from_millis(30))
        .open()
        .unwrap();
    let gate = world.disk.hold_syncs();
    let (taken, _) = fill(&producer);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.blocking_send(Record::to("t").value("late")));
        // Whenever it began to wait, it waits as long as the engine's clock says.
        pass_time_until(&world.clock, 1, "it gives up", || waiting.is_finished());
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, SendError::Full { .. }), "{error}");
    });
    drop(gate);
    producer.blocking_close().unwrap();
    assert_eq!(
        values(&engine, "t"),
        numbered(taken),
        "it was not handed over"
    );
}

#[test]
fn a_full_buffer_sends_what_lingers() {
    let engine = Engine::in_memory();
    topic(&engine, 8, Ack::Memory);
    let producer = engine
        .producer()
        .linger(Duration::from_secs(3_600))
        .buffer_bytes(2_000)
        .max_record_bytes(500)
        .open()
        .unwrap();
    // No batch gets full: the buffer is full before.
    for value in numbered(1_000) {
        let _ = producer
            .blocking_send(Record::to("t").key(&value).value(&value))
            .unwrap();
    }
    producer.blocking_close().unwrap();
    assert_eq!(sorted(&engine, "t"), numbered(1_000));
}

#[test]
fn closing_while_others_wait_for_room_tells_them() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine
        .producer()
        .buffer_bytes(2_000)
        .max_record_bytes(500)
        .open()
        .unwrap();
    let gate = world.disk.hold_syncs();
    let (taken, _) = fill(&producer);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| producer.blocking_send(Record::to("t").value("late")));
        let closing = scope.spawn(|| producer.blocking_close());
        wait_until("it is closed", || {
            let tried = producer.try_send(Record::to("t").value("x"));
            matches!(tried, Err(SendError::Closed))
        });
        drop(gate);
        closing.join().unwrap().unwrap();
        match waiting.join().unwrap() {
            Err(SendError::Closed) => {}
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(values(&engine, "t"), numbered(taken));
}
