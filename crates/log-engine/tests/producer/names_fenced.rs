//! Taking a name over: whoever had it is fenced, everywhere, before the new one reads where to go
//! on.

use log_engine::{Ack, Action, AppendError, Resolution, SendError};

use crate::names::{check_all, open, send, send_all};
use crate::ways::{Network, topic};
use crate::world::World;

#[test]
fn a_take_over_stops_the_one_that_had_the_name() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 2, Ack::Synced);
    let first = open(&engine);
    send_all(&first, 0..10);
    let gate = world.disk.hold_syncs();
    let under_way: Vec<_> = (10..20).map(|n| send(&first, n).unwrap()).collect();
    let ids: Vec<_> = under_way.iter().map(|t| t.id().clone()).collect();
    gate.wait_until_syncs_wait(1);
    let second = std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            let producer = engine.producer().name("feed").batch_bytes(200);
            producer.take_over().open().unwrap()
        });
        for ticket in under_way {
            let error = ticket.blocking_wait().unwrap_err();
            let is_fenced = matches!(&error, AppendError::Rejected { .. });
            assert!(is_fenced || error.is_outcome_unknown(), "{error}");
        }
        drop(gate);
        taking.join().unwrap()
    });
    let error = send(&first, 20).unwrap_err();
    assert!(matches!(error, SendError::Fenced { .. }), "{error}");
    assert_eq!(error.action(), Action::Stop);
    assert!(error.to_string().contains("feed"), "{error}");
    // What it had under way has one answer, and the second knows it, too.
    for (n, id) in (10..).zip(ids) {
        let stored = engine.blocking_resolve(&id).unwrap();
        let at = send(&second, n).unwrap().blocking_wait().unwrap();
        match stored {
            Resolution::Written { offset } => assert!(at.duplicate && offset.is_some()),
            other => assert!(!at.duplicate && other == Resolution::NotWritten),
        }
    }
    send_all(&second, 20..30);
    // The first gives up a name that is not its own any more.
    let _ = first.blocking_close();
    drop(first);
    assert!(matches!(
        engine.producer().name("feed").open(),
        Err(SendError::NameInUse { .. })
    ));
    send_all(&second, 30..40);
    check_all(&engine, 40);
}

#[test]
fn a_late_batch_of_the_one_that_had_the_name_is_refused() {
    // Whether the successor has written to the partition by then, or not.
    for writes_first in [false, true] {
        let world = World::new();
        let engine = world.open();
        topic(&engine, 3, Ack::Synced);
        let network = Network::default();
        let zombie = engine.producer().name("feed").transport(network.clone());
        let zombie = zombie.batch_bytes(200).open().unwrap();
        send_all(&zombie, 0..20);
        network.hold();
        let held: Vec<_> = (20..60).map(|n| send(&zombie, n).unwrap()).collect();
        assert!(network.held().len() >= 3);
        let successor = engine.producer().name("feed").batch_bytes(200).take_over();
        let successor = successor.open().unwrap();
        if writes_first {
            send_all(&successor, 20..50);
        }
        for (partition, batch) in network.held() {
            let error = partition.blocking_append(&batch).unwrap_err();
            assert!(error.to_string().contains("fenced"), "{error}");
        }
        let from = if writes_first { 50 } else { 20 };
        send_all(&successor, from..60);
        for (partition, batch) in network.held() {
            assert!(partition.blocking_append(&batch).is_err());
        }
        drop(held);
        check_all(&engine, 60);
    }
}

#[test]
fn names_are_taken_over_again_and_again() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 2, Ack::Synced);
    let mut holders = Vec::new();
    for round in 0..20_u64 {
        let producer = engine.producer().name("feed").batch_bytes(200).take_over();
        let producer = producer.open().unwrap();
        let from = producer.resume_from();
        assert!(from <= round * 5);
        // Never waits: the next one takes over while some of it is under way.
        for n in from..round * 5 + 5 {
            drop(send(&producer, n).unwrap());
        }
        holders.push(producer);
    }
    let last = holders.pop().unwrap();
    last.blocking_flush().unwrap();
    for holder in holders {
        assert!(matches!(
            send(&holder, 1_000),
            Err(SendError::Fenced { .. })
        ));
    }
    check_all(&engine, 100);
}

#[test]
fn a_take_over_of_a_free_name_is_an_open() {
    let engine = World::new().open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().name("feed").take_over().open().unwrap();
    send_all(&producer, 0..3);
    check_all(&engine, 3);
}
