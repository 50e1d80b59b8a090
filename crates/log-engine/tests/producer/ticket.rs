//! What a ticket says.

use log_engine::{Ack, Record};

use crate::ways::{block_on, send, topic};
use crate::world::{WALL_MS, World, config};

#[test]
fn a_ticket_says_where_the_record_is() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let gate = world.disk.hold_syncs();
    let tickets: Vec<_> = (0..3).map(|_| send(&producer, "v")).collect();
    let own = producer
        .try_send(Record::to("t").value("v").timestamp(5))
        .unwrap();
    assert!(tickets.iter().all(|ticket| !ticket.is_done()));
    drop(gate);
    for (at, ticket) in (0..).zip(tickets) {
        let stored = ticket.blocking_wait().unwrap();
        assert_eq!((&*stored.topic, stored.partition), ("t", 0));
        assert_eq!((stored.offset, stored.timestamp), (Some(at), WALL_MS));
        assert!(!stored.duplicate);
    }
    assert_eq!(own.blocking_wait().unwrap().timestamp, 5);
}

#[test]
fn in_a_log_with_its_own_time_a_ticket_says_that_one() {
    let world = World::new();
    let engine = world.open();
    let mut settings = config(Ack::Synced);
    settings
        .set("message.timestamp.type", "LogAppendTime")
        .unwrap();
    engine.create_topic("t", 1, settings).unwrap();
    let producer = engine.producer().open().unwrap();
    let own = Record::to("t").value("v").timestamp(5);
    let stored = producer.blocking_append(own).unwrap();
    assert_eq!(stored.timestamp, WALL_MS);
}

#[test]
fn a_ticket_can_be_awaited_before_and_after_its_answer() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let gate = world.disk.hold_syncs();
    let (early, late) = (send(&producer, "a"), send(&producer, "b"));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(async { early.await.unwrap() }));
        gate.wait_until_syncs_wait(1);
        drop(gate);
        assert_eq!(waiting.join().unwrap().offset, Some(0));
    });
    producer.blocking_flush().unwrap();
    assert!(late.is_done());
    assert_eq!(block_on(async { late.await.unwrap() }).offset, Some(1));
}

#[test]
fn an_answer_at_a_higher_level_waits_for_the_disk() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Memory);
    let memory = engine.producer().open().unwrap();
    let synced = engine.producer().ack(Ack::Synced).open().unwrap();
    send(&memory, "warm").blocking_wait().unwrap();
    let gate = world.disk.hold_syncs();
    send(&memory, "a").blocking_wait().unwrap();
    let ticket = send(&synced, "b");
    gate.wait_until_syncs_wait(1);
    assert!(!ticket.is_done());
    drop(gate);
    ticket.blocking_wait().unwrap();
    let lower = engine.create_topic("s", 1, config(Ack::Synced));
    drop(lower.unwrap());
    let memory = engine.producer().ack(Ack::Memory).open().unwrap();
    let refused = memory.try_send(Record::to("s").value("c")).unwrap_err();
    assert!(refused.to_string().contains("promises synced"), "{refused}");
}
