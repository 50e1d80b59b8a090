//! Nobody waits for good: a ticket says in time that its outcome is not known, or that the record
//! is certainly not there; and what is asked afterwards has one answer.

use std::time::Duration;

use log_engine::{Ack, Action, AppendError, Resolution, Unknown};

use crate::ways::{Network, pass_time_until, send, topic};
use crate::world::{World, values};

#[test]
fn a_record_that_is_written_but_not_synced_in_time_has_an_unknown_outcome() {
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
    let error = ticket.blocking_wait().unwrap_err();
    let AppendError::OutcomeUnknown {
        why: Unknown::TimedOut(50),
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (error.append_id(), error.action()),
        (Some(&id), Action::Resolve)
    );
    // What comes next is not confused with it.
    let next = send(&producer, "next");
    drop(gate);
    assert_eq!(next.blocking_wait().unwrap().offset, Some(2));
    let written = Resolution::Written { offset: Some(1) };
    assert_eq!(engine.blocking_resolve(&id).unwrap(), written);
    assert_eq!(values(&engine, "t"), ["first", "slow", "next"]);
}

#[test]
fn a_record_that_got_lost_on_its_way_is_not_written_and_never_will_be() {
    for loses in [false, true] {
        let world = World::new();
        let engine = world.open();
        topic(&engine, 1, Ack::Synced);
        let network = Network::default();
        let producer = engine
            .producer()
            .delivery_timeout(Duration::from_millis(50))
            .transport(network.clone())
            .open()
            .unwrap();
        send(&producer, "first").blocking_wait().unwrap();
        if loses {
            network.lose();
        } else {
            network.hold();
        }
        let ticket = send(&producer, "lost");
        world.clock.advance(50);
        let error = ticket.blocking_wait().unwrap_err();
        let id = error.append_id().unwrap().clone();
        assert_eq!(
            engine.blocking_resolve(&id).unwrap(),
            Resolution::NotWritten
        );
        network.mend();
        // It arrives after all, many times.
        for (partition, batch) in network.held() {
            let late = partition.blocking_append(&batch).unwrap_err();
            assert!(matches!(late, AppendError::Rejected { .. }), "{late}");
        }
        assert_eq!(
            send(&producer, "next").blocking_wait().unwrap().offset,
            Some(1)
        );
        for (partition, batch) in network.held() {
            assert!(partition.blocking_append(&batch).is_err());
        }
        assert_eq!(
            engine.blocking_resolve(&id).unwrap(),
            Resolution::NotWritten
        );
        assert_eq!(values(&engine, "t"), ["first", "next"]);
    }
}

#[test]
fn what_follows_a_lost_record_fails_with_it_and_each_is_told_what_is_certain() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let network = Network::default();
    let producer = engine
        .producer()
        .batch_bytes(1)
        .max_in_flight(2)
        .delivery_timeout(Duration::from_millis(50))
        .transport(network.clone())
        .open()
        .unwrap();
    send(&producer, "first").blocking_wait().unwrap();
    network.hold();
    let tickets: Vec<_> = ["a", "b", "c", "d"].map(|v| send(&producer, v)).into();
    let ids: Vec<_> = tickets.iter().map(|ticket| ticket.id().clone()).collect();
    world.clock.advance(50);
    let errors: Vec<_> = tickets
        .into_iter()
        .map(|t| t.blocking_wait().unwrap_err())
        .collect();
    let unknown: Vec<bool> = errors.iter().map(AppendError::is_outcome_unknown).collect();
    assert_eq!(unknown, [true, true, false, false]);
    let timed_out = AppendError::TimedOut {
        topic: "t".into(),
        partition: 0,
        timeout_ms: 50,
    };
    assert_eq!(errors[3].to_string(), timed_out.to_string());
    assert_eq!(errors[3].action(), Action::Retry);
    network.mend();
    assert_eq!(
        send(&producer, "e").blocking_wait().unwrap().offset,
        Some(1)
    );
    for id in ids {
        assert_eq!(
            engine.blocking_resolve(&id).unwrap(),
            Resolution::NotWritten,
            "{id}"
        );
    }
    // Asking does not disturb the one that lives on.
    assert_eq!(
        send(&producer, "f").blocking_wait().unwrap().offset,
        Some(2)
    );
    assert_eq!(values(&engine, "t"), ["first", "e", "f"]);
}

#[test]
fn an_append_id_is_never_given_out_twice() {
    let world = World::new();
    let engine = world.open();
    let mut settings = crate::world::config(Ack::Memory);
    settings.set("segment.bytes", "4096").unwrap();
    engine.create_topic("t", 1, settings).unwrap();
    let producer = engine
        .producer()
        .delivery_timeout(Duration::from_millis(50))
        .open()
        .unwrap();
    // The disk is full, so these are certainly not written.
    let fill = "x".repeat(1_000);
    let mut taken = 0;
    world.disk.set_free_bytes(0);
    let mut refused = Vec::new();
    loop {
        let ticket = send(&producer, &fill);
        pass_time_until(&world.clock, 1, "it is answered", || ticket.is_done());
        let id = ticket.id().clone();
        assert!(!refused.contains(&id));
        match ticket.blocking_wait() {
            Ok(_) => taken += 1,
            Err(error) => {
                refused.push(id);
                // While it waits for a segment that is being made, nobody can be certain.
                if !error.is_outcome_unknown() {
                    break;
                }
            }
        }
        assert!(taken < 100 && refused.len() < 100);
    }
    world.disk.set_free_bytes(1 << 20);
    // Were a sequence used again, the log would say that the refused record is there.
    let mut ids = refused.clone();
    for _ in 0..3 {
        let ticket = send(&producer, "other");
        assert!(!ids.contains(ticket.id()));
        ids.push(ticket.id().clone());
        ticket.blocking_wait().unwrap();
    }
    let written = Resolution::Written {
        offset: Some(taken),
    };
    let check = |engine: &log_engine::Engine| {
        for id in &refused {
            let resolution = engine.blocking_resolve(id).unwrap();
            assert_eq!(resolution, Resolution::NotWritten, "{id}");
        }
        let resolution = engine.blocking_resolve(&ids[refused.len()]).unwrap();
        assert_eq!(resolution, written);
    };
    check(&engine);
    engine.close().unwrap();
    check(&world.after_kill().open());
}
