//! What became of an append, asked in the same run and in another one: never a guess (I7).

use std::time::Duration;

use log_engine::{Ack, AppendError, Engine, Forgotten, Resolution, ResolveError};

use crate::ways::{Network, numbered, pass_time_until, send, topic, wait_until};
use crate::world::{World, config, read};

fn written(offset: u64) -> Resolution {
    let offset = Some(offset);
    Resolution::Written { offset }
}

#[test]
fn another_run_says_what_is_written_and_what_is_not() {
    for (ack, is_cut) in [
        (Ack::Synced, false),
        (Ack::Synced, true),
        (Ack::Memory, false),
        (Ack::Interval, false),
    ] {
        let world = World::new();
        let engine = world.open();
        topic(&engine, 1, ack);
        let network = Network::default();
        let producer = engine
            .producer()
            .batch_bytes(150)
            .transport(network.clone())
            .open()
            .unwrap();
        // Many more batches than the window of five holds.
        let stored: Vec<_> = numbered(60)
            .iter()
            .map(|value| {
                let ticket = send(&producer, value);
                let id = ticket.id().to_string();
                (id, ticket.blocking_wait().unwrap().offset.unwrap())
            })
            .collect();
        network.hold();
        let lost: Vec<_> = numbered(10)
            .iter()
            .map(|value| send(&producer, value).id().to_string())
            .collect();
        let world = if is_cut {
            world.after_power_cut()
        } else {
            world.after_kill()
        };
        for round in 0..2 {
            let engine = world.open();
            for (id, offset) in &stored {
                let resolution = engine.blocking_resolve(&id.parse().unwrap());
                assert_eq!(resolution.unwrap(), written(*offset), "{id}");
            }
            for id in &lost {
                let resolution = engine.blocking_resolve(&id.parse().unwrap());
                assert_eq!(resolution.unwrap(), Resolution::NotWritten, "{id}, {round}");
            }
            // What was held arrives too late: its partition is another run's, and closed.
            engine.close().unwrap();
        }
    }
}

#[test]
fn what_a_power_cut_took_is_not_written() {
    let world = World::new();
    let engine = world.open();
    let mut settings = config(Ack::Interval);
    settings.set("flush.ms", "1000000").unwrap();
    engine.create_topic("t", 1, settings).unwrap();
    let producer = engine.producer().open().unwrap();
    let ids: Vec<_> = numbered(20)
        .iter()
        .map(|value| {
            let ticket = send(&producer, value);
            let id = ticket.id().clone();
            ticket.blocking_wait().unwrap();
            id
        })
        .collect();
    let engine = world.after_power_cut().open();
    let left = read(&engine, "t", 0);
    assert!(left.len() < 20, "nothing was lost");
    for (n, id) in ids.iter().enumerate() {
        let expected = match left.get(n) {
            Some((offset, _)) => written(*offset),
            None => Resolution::NotWritten,
        };
        assert_eq!(engine.blocking_resolve(id).unwrap(), expected, "{id}");
    }
}

#[test]
fn a_record_that_is_under_way_is_waited_for() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    send(&producer, "first").blocking_wait().unwrap();
    let gate = world.disk.hold_syncs();
    let (sent, filling) = (send(&producer, "sent"), send(&producer, "filling"));
    std::thread::scope(|scope| {
        let ask = |id: &log_engine::AppendId| {
            let (id, engine) = (id.clone(), engine.clone());
            scope.spawn(move || engine.blocking_resolve(&id).unwrap())
        };
        let (one, two) = (ask(sent.id()), ask(filling.id()));
        gate.wait_until_syncs_wait(1);
        assert!(!one.is_finished() && !two.is_finished());
        drop(gate);
        assert_eq!(one.join().unwrap(), written(1));
        assert_eq!(two.join().unwrap(), written(2));
    });
}

#[test]
fn a_record_that_is_there_but_not_durable_is_waited_for() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let timeout = Duration::from_millis(50);
    let producer = engine.producer().delivery_timeout(timeout).open().unwrap();
    send(&producer, "first").blocking_wait().unwrap();
    let gate = world.disk.hold_syncs();
    let ticket = send(&producer, "slow");
    let id = ticket.id().clone();
    world.clock.advance(50);
    assert!(ticket.blocking_wait().unwrap_err().is_outcome_unknown());
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| engine.blocking_resolve(&id));
        gate.wait_until_syncs_wait(1);
        assert!(!asked.is_finished(), "a power cut could still take it");
        drop(gate);
        assert_eq!(asked.join().unwrap().unwrap(), written(1));
    });
}

#[test]
fn after_records_were_deleted_the_log_says_that_it_cannot_know() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().batch_bytes(1).open().unwrap();
    let ids: Vec<_> = numbered(20)
        .iter()
        .map(|value| {
            let ticket = send(&producer, value);
            let id = ticket.id().clone();
            ticket.blocking_wait().unwrap();
            id
        })
        .collect();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    partition.delete_before(10).unwrap();
    let check = |engine: &Engine| {
        for (n, id) in (0..).zip(&ids) {
            let forgotten = Forgotten::RecordsDeleted { log_start: 10 };
            let expected = match n {
                0..10 => Resolution::Forgotten(forgotten),
                _ => written(n),
            };
            assert_eq!(engine.blocking_resolve(id).unwrap(), expected, "{id}");
        }
    };
    check(&engine);
    engine.close().unwrap();
    check(&world.after_power_cut().open());
}

#[test]
fn asking_leaves_a_producer_alone_that_goes_on() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Memory);
    let producer = engine.producer().batch_bytes(1).open().unwrap();
    let mut ids = Vec::new();
    for (at, value) in (0..).zip(numbered(30)) {
        let ticket = send(&producer, &value);
        ids.push(ticket.id().clone());
        assert_eq!(ticket.blocking_wait().unwrap().offset, Some(at));
        for (at, id) in (0..).zip(&ids) {
            assert_eq!(engine.blocking_resolve(id).unwrap(), written(at));
        }
    }
}

#[test]
fn a_session_that_was_closed_is_still_answered_for() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let ticket = send(&producer, "v");
    let id = ticket.id().clone();
    ticket.blocking_wait().unwrap();
    producer.blocking_close().unwrap();
    assert_eq!(engine.blocking_resolve(&id).unwrap(), written(0));
}

#[test]
fn a_session_is_remembered_while_a_batch_may_come_again() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Memory);
    let network = Network::default();
    let producer = engine
        .producer()
        .delivery_timeout(Duration::from_millis(50))
        .transport(network.clone())
        .open()
        .unwrap();
    // The first try got lost on its way, the second one arrives.
    network.lose();
    let ticket = send(&producer, "v");
    wait_until("it was tried", || !network.held().is_empty());
    network.mend();
    pass_time_until(&world.clock, 1, "it is stored", || ticket.is_done());
    let outcome = ticket.blocking_wait();
    producer.blocking_close().unwrap();
    // Now the first one arrives, too: were the session forgotten, it would be stored again.
    for (partition, batch) in network.held() {
        match partition.blocking_append(&batch) {
            Ok(at) => assert!(at.duplicate && outcome.is_ok()),
            Err(error) => assert!(matches!(error, AppendError::Rejected { .. }), "{error}"),
        }
    }
    assert_eq!(read(&engine, "t", 0).len(), usize::from(outcome.is_ok()));
}

/// I32: neither the disk nor a producer makes it wait for ever.
#[test]
fn a_question_ends_in_time_and_can_be_asked_again() {
    for is_answered in [true, false] {
        let world = World::new();
        let timeout = Duration::from_secs(5);
        let engine = world.builder().append_timeout(timeout).open().unwrap();
        topic(&engine, 1, Ack::Synced);
        let patience = Duration::from_secs(if is_answered { 1 } else { 100_000 });
        let producer = engine.producer().delivery_timeout(patience).open().unwrap();
        send(&producer, "first").blocking_wait().unwrap();
        let gate = world.disk.hold_syncs();
        let ticket = send(&producer, "slow");
        let id = ticket.id().clone();
        if is_answered {
            world.clock.advance(1_000);
            assert!(ticket.blocking_wait().unwrap_err().is_outcome_unknown());
        }
        let ask = || {
            let asking = std::thread::spawn({
                let (engine, id) = (engine.clone(), id.clone());
                move || engine.blocking_resolve(&id)
            });
            pass_time_until(&world.clock, 100, "an answer", || asking.is_finished());
            asking.join().unwrap()
        };
        let error = ask().unwrap_err();
        let ResolveError::TimedOut { timeout_ms, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(timeout_ms, 5_000);
        let error = log_engine::Error::from(error);
        assert!(error.to_string().contains("resolve again"), "{error}");
        assert_eq!(error.action(), log_engine::Action::Retry);
        drop(gate);
        assert_eq!(ask().unwrap(), written(1));
        // The record was not fenced off by the question.
        assert_eq!(
            send(&producer, "next").blocking_wait().unwrap().offset,
            Some(2)
        );
    }
}

#[test]
fn a_closed_engine_resolves_nothing() {
    let engine = World::new().open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let id = send(&producer, "v").id().clone();
    engine.close().unwrap();
    let error = engine.blocking_resolve(&id).unwrap_err();
    assert!(matches!(error, ResolveError::Closed), "{error}");
    let skipped: log_engine::AppendId = "t/0/0.0.-1.0/00000000000000000000000000000001"
        .parse()
        .unwrap();
    let engine = Engine::in_memory();
    let resolution = engine.blocking_resolve(&skipped).unwrap();
    assert_eq!(resolution, Resolution::Written { offset: None });
}
