//! Disks that fill and syncs that fail while batches are under way; transports that panic.

use std::time::Duration;

use bytes::Bytes;
use log_engine::storage::Disk;
use log_engine::{
    Ack, Action, Answer, AppendError, Engine, Partition, Record, Resolution, SendError, Transport,
    Unknown,
};

use crate::ways::{numbered, pass_time_until, send, sorted, topic};
use crate::world::{World, config, values};

#[test]
fn a_disk_that_fills_and_has_room_again_loses_and_repeats_nothing() {
    for ack in [Ack::Synced, Ack::Memory] {
        let world = World::new();
        let engine = world.open();
        let mut settings = config(ack);
        settings.set("segment.bytes", "4096").unwrap();
        engine.create_topic("t", 2, settings).unwrap();
        // Tries go on for as long as the disk is full.
        let open = || {
            let producer = engine.producer().delivery_timeout(Duration::MAX);
            producer.batch_bytes(300).open().unwrap()
        };
        let (unnamed, named) = (open(), {
            let producer = engine.producer().delivery_timeout(Duration::MAX);
            producer.batch_bytes(300).name("n").open().unwrap()
        });
        let fill = "x".repeat(50);
        let mut sent = Vec::new();
        let mut tickets = Vec::new();
        for round in 0..4_u64 {
            if round % 2 == 0 {
                world.disk.set_free_bytes(14_000);
            }
            for n in 0..60 {
                let number = round * 60 + n;
                for (kind, producer) in [("u", &unnamed), ("n", &named)] {
                    let value = format!("{kind} {number:06} {fill}");
                    let record = Record::to("t").key(&value).value(&value);
                    let record = match kind {
                        "n" => record.position(number),
                        _ => record,
                    };
                    tickets.push(producer.try_send(record).unwrap());
                    sent.push(value);
                }
            }
            if round % 2 == 0 {
                pass_time_until(&world.clock, 1, "the disk is full", || {
                    let done = tickets.iter().filter(|t| t.is_done()).count();
                    let free = world.disk.free_bytes().unwrap();
                    free < 4_096 && done < tickets.len() && done > 0
                });
                world.disk.set_free_bytes(1 << 20);
            }
        }
        pass_time_until(&world.clock, 1, "all is stored", || {
            tickets.iter().all(|t| t.is_done())
        });
        for ticket in tickets {
            ticket.blocking_wait().unwrap();
        }
        sent.sort();
        assert_eq!(sorted(&engine, "t"), sent, "{ack}");
    }
}

#[test]
fn after_a_failed_sync_the_outcome_is_asked_for_after_opening_again() {
    for is_cut in [false, true] {
        let world = World::new();
        let engine = world.open();
        topic(&engine, 1, Ack::Synced);
        let open = |engine: &Engine| engine.producer().batch_bytes(1).open().unwrap();
        let producer = open(&engine);
        send(&producer, "first").blocking_wait().unwrap();
        world.disk.fail_syncs(u64::MAX);
        let gate = world.disk.hold_syncs();
        let tickets: Vec<_> = numbered(8).iter().map(|v| send(&producer, v)).collect();
        gate.wait_until_syncs_wait(1);
        drop(gate);
        let mut ids = Vec::new();
        for ticket in tickets {
            let id = ticket.id().clone();
            let error = ticket.blocking_wait().unwrap_err();
            let in_doubt = matches!(
                &error,
                AppendError::OutcomeUnknown {
                    why: Unknown::Fenced(_),
                    ..
                }
            );
            let certain = matches!(&error, AppendError::LogFenced(_));
            assert!(in_doubt || certain, "{error}");
            assert_eq!(error.action(), Action::Reopen);
            ids.push((id, in_doubt));
        }
        assert!(ids[0].1 && ids.iter().filter(|(_, in_doubt)| *in_doubt).count() <= 5);
        // What comes later is certainly not written.
        let error = send(&producer, "later").blocking_wait().unwrap_err();
        assert!(matches!(error, AppendError::LogFenced(_)), "{error}");
        drop((producer, engine));
        world.disk.fail_syncs(0);
        let world = if is_cut {
            world.after_power_cut()
        } else {
            world.after_kill()
        };
        let engine = world.open();
        let found = values(&engine, "t");
        for (n, (id, in_doubt)) in ids.iter().enumerate() {
            let value = format!("{n:06}");
            let at = found.iter().position(|v| *v == value);
            let expected = match at {
                Some(at) => Resolution::Written {
                    offset: Some(at as u64),
                },
                None => Resolution::NotWritten,
            };
            assert_eq!(engine.blocking_resolve(id).unwrap(), expected);
            assert!(
                *in_doubt || at.is_none(),
                "{value} was said to be not written"
            );
        }
        // Whoever sends again what is not written has each record once.
        let producer = open(&engine);
        for n in 0..8 {
            let value = format!("{n:06}");
            if !found.contains(&value) {
                send(&producer, &value).blocking_wait().unwrap();
            }
        }
        let mut expected = numbered(8);
        expected.push("first".to_owned());
        assert_eq!(sorted(&engine, "t"), expected);
    }
}

#[test]
fn a_named_producer_stops_when_it_cannot_know_and_goes_on_after_opening_again() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().name("n").batch_bytes(1).open().unwrap();
    let values_sent = numbered(10);
    let record = |n: usize| Record::to("t").value(&values_sent[n]).position(n as u64);
    producer.blocking_append(record(0)).unwrap();
    world.disk.fail_syncs_in("t-0", 1);
    let ticket = producer.blocking_send(record(1)).unwrap();
    assert!(ticket.blocking_wait().unwrap_err().is_outcome_unknown());
    let error = producer.try_send(record(2)).unwrap_err();
    assert_eq!(error.action(), Action::Stop);
    // Not before the log is opened again: what is stored is not known.
    drop(producer);
    let error = engine.producer().name("n").open().err().unwrap();
    assert!(
        matches!(error, log_engine::SendError::LogFenced { .. }),
        "{error}"
    );
    assert_eq!(error.action(), Action::Reopen);
    drop(engine);
    let engine = world.after_kill().open();
    let producer = engine.producer().name("n").open().unwrap();
    for n in 0..10 {
        producer.blocking_append(record(n)).unwrap();
    }
    assert_eq!(values(&engine, "t"), values_sent);
}

struct Panics;

impl Transport for Panics {
    fn append(&self, _: Partition, _: Bytes) -> Answer {
        Box::pin(std::future::poll_fn(|context| {
            let is_sender = std::thread::current().name() == Some("oncelog-sender");
            assert!(!is_sender, "on purpose");
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }))
    }
}

#[test]
fn a_transport_that_panics_costs_its_own_producer_alone() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let panics = engine.producer().transport(Panics).open().unwrap();
    let good = engine.producer().open().unwrap();
    let ticket = send(&panics, "lost");
    let id = ticket.id().clone();
    assert!(ticket.blocking_wait().unwrap_err().is_outcome_unknown());
    assert_eq!(
        engine.blocking_resolve(&id).unwrap(),
        Resolution::NotWritten
    );
    assert!(panics.try_send(Record::to("t").value("x")).is_err());
    let gate = world.disk.hold_syncs();
    let tickets: Vec<_> = numbered(20).iter().map(|v| send(&good, v)).collect();
    drop(gate);
    for ticket in tickets {
        ticket.blocking_wait().unwrap();
    }
    drop((panics, good));
    engine.close().unwrap();
}

/// Panics when a batch is handed to it, or when its answer is asked for, on whatever thread.
struct PanicsAt(&'static str);

impl Transport for PanicsAt {
    fn append(&self, _: Partition, _: Bytes) -> Answer {
        assert!(self.0 != "call", "on purpose");
        Box::pin(std::future::poll_fn(|_| panic!("on purpose")))
    }
}

#[test]
fn a_transport_that_panics_on_the_senders_thread_answers_every_ticket() {
    for at in ["call", "poll"] {
        let engine = World::new().open();
        topic(&engine, 1, Ack::Synced);
        let producer = engine.producer().transport(PanicsAt(at)).open().unwrap();
        let ticket = producer.try_send(Record::to("t").value("x")).unwrap();
        assert!(ticket.is_done(), "{at}");
        let error = ticket.blocking_wait().unwrap_err();
        assert!(error.is_outcome_unknown(), "{at}: {error}");
        let next = producer.try_send(Record::to("t").value("x"));
        assert!(matches!(next, Err(SendError::Stopped(_))), "{next:?}");
        assert!(
            producer.blocking_close().is_ok(),
            "its ticket was looked at"
        );
        drop(producer);
        engine.close().unwrap();
    }
}
