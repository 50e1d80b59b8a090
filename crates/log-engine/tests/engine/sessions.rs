//! Producer sessions: an id that nobody had before, and sequences kept for the caller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use log_engine::{Ack, AppendError, Engine, Record, TopicConfig};

use crate::world::{HoldSyncs, World, config, numbered, one_partition, record, values};

#[test]
fn case_131_two_sessions_have_two_ids_of_epoch_0() {
    let engine = World::new().open();
    let (first, second) = (engine.session().unwrap(), engine.session().unwrap());
    assert_ne!(first.producer_id(), second.producer_id());
    assert_eq!((first.epoch(), second.epoch()), (0, 0));
}

#[test]
fn case_182_a_restarted_producer_without_a_name_is_another_one() {
    let world = World::new();
    let engine = world.open();
    engine.create_topic("t", 1, config(Ack::Synced)).unwrap();
    let send = |engine: &Engine| {
        let session = engine.session().unwrap();
        let mut appender = session.appender("t", 0).unwrap();
        appender
            .blocking_append(&[record("order 1")])
            .unwrap()
            .duplicate
    };
    assert!(!send(&engine));
    // The documented limit: its new session shares nothing with the old one.
    assert!(!send(&engine));
    engine.close().unwrap();
    drop(engine);
    assert!(!send(&world.open()));
    assert_eq!(values(&world.after_kill().open(), "t"), ["order 1"; 3]);
}

#[test]
fn case_130_ids_are_fresh_over_threads_restarts_and_crashes() {
    let mut world = World::new();
    let mut seen = BTreeSet::new();
    for round in 0..12 {
        let engine = world.open();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let engine = engine.clone();
                // Over the end of a block of 1,000 in some rounds.
                let count = if round % 3 == 0 { 300 } else { 7 };
                thread::spawn(move || {
                    let id = |_| engine.session().unwrap().producer_id();
                    (0..count).map(id).collect::<Vec<_>>()
                })
            })
            .collect();
        for id in threads.into_iter().flat_map(|t| t.join().unwrap()) {
            assert!(seen.insert(id), "round {round}: {id} was handed out before");
        }
        world = match round % 4 {
            0 => world.after_kill(),
            1 => world.after_power_cut(),
            2 => {
                engine.close().unwrap();
                world
            }
            _ => {
                drop(engine);
                world.after_power_cut()
            }
        };
    }
    assert_eq!(seen.len(), 4 * (4 * 300 + 8 * 7));
}

#[test]
fn handing_out_an_id_does_not_wait_for_the_disk() {
    let world = World::new();
    let hold = Arc::new(HoldSyncs::default());
    let engine = world.hooked(hold.clone()).open().unwrap();
    engine.session().unwrap();
    hold.hold("producer-ids");
    // The block reserved at open lasts while the next one is held up.
    for _ in 0..999 {
        engine.session().unwrap();
    }
    hold.wait_until_one_waits();
    hold.release();
    engine.session().unwrap();
}

#[test]
fn sequences_are_kept_for_the_caller() {
    let world = World::new();
    let engine = world.open();
    engine.create_topic("t", 2, config(Ack::Synced)).unwrap();
    let session = engine.session().unwrap();
    let mut appender = session.appender("t", 0).unwrap();
    assert_eq!(appender.partition().index(), 0);
    for expected in [0, 3, 6] {
        assert_eq!(appender.next_sequence(), expected);
        let records = [record("a"), record("b"), record("c")];
        let at = appender.blocking_append(&records).unwrap();
        assert_eq!(
            (at.offset, at.last_offset),
            (expected as u64, expected as u64 + 2)
        );
    }
    // Each partition counts for itself (row 39).
    let mut other = session.appender("t", 1).unwrap();
    assert_eq!(other.blocking_append(&[record("d")]).unwrap().offset, 0);
    assert_eq!((other.next_sequence(), appender.next_sequence()), (1, 9));
    // What was refused uses no sequence.
    assert!(appender.blocking_append(&[]).is_err());
    let large = vec![0; 2 << 20];
    let error = appender
        .blocking_append(&[Record::new().value(&large)])
        .unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { .. }), "{error}");
    assert_eq!(appender.next_sequence(), 9);
    assert_eq!(appender.blocking_append(&[record("e")]).unwrap().offset, 9);
}

#[test]
fn two_appenders_of_one_partition_do_not_corrupt_each_other() {
    let engine = World::new().open();
    engine.ensure_topic("t", 1).unwrap();
    let session = engine.session().unwrap();
    let mut first = session.appender("t", 0).unwrap();
    let mut second = session.appender("t", 0).unwrap();
    first.blocking_append(&[record("mine")]).unwrap();
    let error = second.blocking_append(&[record("other")]).unwrap_err();
    assert!(matches!(error, AppendError::Rejected { .. }), "{error}");
    assert_eq!(values(&engine, "t"), ["mine"]);
}

#[test]
fn a_closed_session_is_forgotten_and_others_are_not() {
    let engine = World::new().open();
    let partition = one_partition(&engine, Ack::Synced);
    let (gone, stays) = (engine.session().unwrap(), engine.session().unwrap());
    for session in [&gone, &stays] {
        let mut appender = session.appender("t", 0).unwrap();
        appender.blocking_append(&[record("x")]).unwrap();
    }
    assert_eq!(partition.producers().unwrap().len(), 2);
    let id = stays.producer_id();
    gone.close();
    let left: Vec<_> = partition
        .producers()
        .unwrap()
        .iter()
        .map(|p| p.producer_id)
        .collect();
    assert_eq!(left, [id]);
    // Others are judged as before, new ones too (I18).
    let batch = numbered(id, 1, &["next"]);
    assert!(!partition.blocking_append(&batch).unwrap().duplicate);
    assert!(partition.blocking_append(&batch).unwrap().duplicate);
    let fresh = engine.session().unwrap();
    fresh
        .appender("t", 0)
        .unwrap()
        .blocking_append(&[record("fresh")])
        .unwrap();
}

#[test]
fn silent_producers_are_forgotten_in_elapsed_time_not_by_the_wall_clock() {
    let world = World::new();
    let engine = world.open();
    let mut settings = TopicConfig::default();
    settings
        .set("producer.id.expiration.ms", "86400000")
        .unwrap();
    let topic = engine.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    let id = engine.session().unwrap().producer_id();
    let batch = numbered(id, 0, &["once"]);
    partition.blocking_append(&batch).unwrap();
    // Ten days forwards and twenty back: time has not passed (I31).
    for jump in [864_000_000, -1_728_000_000] {
        world.clock.jump_wall(jump);
        world.clock.advance(600_000);
        while partition.blocking_append(&batch).is_err() {}
        assert_eq!(partition.producers().unwrap().len(), 1);
    }
    world.clock.advance(86_400_000);
    while !partition.producers().unwrap().is_empty() {
        thread::yield_now();
    }
    // Strict: a late retry is refused, not stored twice (I18).
    let error = partition.blocking_append(&batch).unwrap_err();
    assert_eq!(error.kafka_code(), 45, "{error}");
    assert_eq!(values(&engine, "t"), ["once"]);
}

#[test]
fn downtime_counts_as_elapsed_time_up_to_a_day() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let id = engine.session().unwrap().producer_id();
    let batch = numbered(id, 0, &["once"]);
    partition.blocking_append(&batch).unwrap();
    engine.close().unwrap();
    drop((partition, engine));
    // The wall clock says 50 years: that counts as one day, so the producer just expired.
    let reopened = World {
        disk: world.disk.clone(),
        clock: log_engine::ManualClock::at(crate::world::WALL_MS + 50 * 31_536_000_000),
    };
    let engine = reopened.open();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    assert!(partition.blocking_append(&batch).is_err());
    engine.close().unwrap();
    drop((partition, engine));

    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let id = engine.session().unwrap().producer_id();
    let batch = numbered(id, 0, &["once"]);
    partition.blocking_append(&batch).unwrap();
    engine.close().unwrap();
    drop((partition, engine));
    // The wall clock went back: no time has passed, and none is lost.
    let reopened = World {
        disk: world.disk.clone(),
        clock: log_engine::ManualClock::at(1_000),
    };
    let engine = reopened.open();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    assert!(partition.blocking_append(&batch).unwrap().duplicate);
}
