//! The three levels: what each promises, and what a crash takes of it.

use std::thread;

use log_engine::{Ack, AppendError, Engine, Partition, Start};

use crate::world::{World, config, numbered, one_partition, plain, read, values};

fn names() -> [Ack; 3] {
    [Ack::Memory, Ack::Interval, Ack::Synced]
}

#[test]
fn a_killed_process_takes_nothing_that_was_answered_at_any_level() {
    for ack in names() {
        let world = World::new();
        let engine = world.open();
        let partition = one_partition(&engine, ack);
        let mut expected = vec![(0, "first".to_owned())];
        for n in 0..200_u64 {
            let value = format!("{ack} {n}");
            let at = partition.blocking_append(&plain(&value)).unwrap();
            expected.push((at.offset, value));
        }
        let killed = world.after_kill();
        drop(engine);
        let engine = killed.open();
        assert_eq!(read(&engine, "t", 0), expected, "{ack}");
        assert_eq!(expected.last().unwrap().0, 200);
    }
}

#[test]
fn a_power_cut_takes_nothing_that_was_answered_at_synced() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    for n in 1..100 {
        partition.blocking_append(&plain(&n.to_string())).unwrap();
        let cut = world.after_power_cut().open();
        let found = read(&cut, "t", 0);
        assert_eq!(found.len(), n + 1);
        assert_eq!(found.last().unwrap(), &(n as u64, n.to_string()));
    }
}

#[test]
fn offsets_that_were_shown_are_never_given_away_again() {
    for ack in [Ack::Memory, Ack::Interval] {
        let world = World::new();
        let engine = world.open();
        let partition = one_partition(&engine, ack);
        for n in 0..10 {
            partition
                .blocking_append(&plain(&format!("before {n}")))
                .unwrap();
        }
        let shown = read(&engine, "t", 0);
        assert_eq!(shown.len(), 11);
        let last_shown = shown.last().unwrap().0;
        // Nothing above the ceiling was synced: all of it may be gone.
        let cut = world.after_power_cut();
        let again = cut.open();
        let summary = again.opened().summary();
        let survived = read(&again, "t", 0);
        assert_eq!(survived, shown[..survived.len()], "{ack}");
        assert!(survived.len() < shown.len(), "{ack}: the cut took nothing");
        assert!(
            summary.contains("may have been shown and are lost"),
            "{summary}"
        );
        let partition = again.topic("t").unwrap().partition(0).unwrap();
        let at = partition.blocking_append(&plain("after")).unwrap();
        assert!(
            at.offset > last_shown,
            "{ack}: {} was shown as another record",
            at.offset
        );
        // A reader goes over the gap.
        assert_eq!(
            read(&again, "t", 0).last().unwrap(),
            &(at.offset, "after".to_owned())
        );
    }
}

#[test]
fn a_producer_whose_tail_was_lost_gets_a_gap_error() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Memory);
    let id = engine.session().unwrap().producer_id();
    partition
        .blocking_append(&numbered(id, 0, &["kept"]))
        .unwrap();
    let synced = partition.raise_ack(Ack::Synced).unwrap();
    synced
        .blocking_append(&numbered(id, 1, &["kept too"]))
        .unwrap();
    partition
        .blocking_append(&numbered(id, 2, &["lost"]))
        .unwrap();
    let other = engine.session().unwrap().producer_id();
    partition
        .blocking_append(&numbered(other, 0, &["lost"]))
        .unwrap();

    let engine = world.after_power_cut().open();
    assert_eq!(values(&engine, "t"), ["first", "kept", "kept too"]);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let error = partition
        .blocking_append(&numbered(id, 3, &["x"]))
        .unwrap_err();
    assert_eq!(error.kafka_code(), 45);
    assert!(
        error.to_string().contains('2') && error.to_string().contains('3'),
        "{error}"
    );
    // All of the other one's history is gone; that is not taken for a new producer (I8).
    let error = partition
        .blocking_append(&numbered(other, 1, &["x"]))
        .unwrap_err();
    assert_eq!(error.kafka_code(), 45, "{error}");
    partition
        .blocking_append(&numbered(id, 2, &["lost"]))
        .unwrap();
}

#[test]
fn a_handle_raises_the_level_and_never_lowers_it() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Memory);
    assert_eq!(partition.ack(), Ack::Memory);
    let synced = partition.raise_ack(Ack::Synced).unwrap();
    assert_eq!(synced.ack(), Ack::Synced);
    let before = world.disk.syncs();
    partition.blocking_append(&plain("quick")).unwrap();
    assert_eq!(world.disk.syncs(), before);
    let gate = world.disk.hold_syncs();
    let pending = synced.blocking_start(&plain("safe")).unwrap();
    let quick = partition.blocking_append(&plain("quick")).unwrap();
    assert_eq!(quick.offset, 3, "memory does not wait for the sync");
    gate.wait_until_syncs_wait(1);
    assert!(!pending.is_done());
    drop(gate);
    pending.blocking_wait().unwrap();
    let cut = world.after_power_cut().open();
    assert_eq!(values(&cut, "t")[..3], ["first", "quick", "safe"]);

    let other = engine.create_topic("s", 1, config(Ack::Synced)).unwrap();
    let error = other
        .partition(0)
        .unwrap()
        .raise_ack(Ack::Interval)
        .err()
        .unwrap();
    assert!(matches!(error, AppendError::LevelTooLow { .. }), "{error}");
    assert!(
        error.to_string().contains("synced, interval is less"),
        "{error}"
    );
}

fn interval(engine: &Engine, flush_ms: &str, flush_bytes: &str) -> Partition {
    let mut config = config(Ack::Interval);
    config.set("flush.ms", flush_ms).unwrap();
    config.set("flush.bytes", flush_bytes).unwrap();
    let topic = engine.create_topic("t", 1, config).unwrap();
    topic.partition(0).unwrap()
}

// Waits until a power cut would leave `count` records, while the clock stands still.
fn until_durable(world: &World, count: usize) {
    while read(&world.after_power_cut().open(), "t", 0).len() < count {
        thread::yield_now();
    }
}

#[test]
fn at_interval_a_sync_comes_when_its_time_is_over() {
    let world = World::new();
    let engine = world.open();
    let partition = interval(&engine, "250", "1099511627776");
    world.clock.advance(1_000);
    partition.blocking_append(&plain("a")).unwrap();
    world.clock.advance(250);
    until_durable(&world, 1);
    partition.blocking_append(&plain("b")).unwrap();
    world.clock.advance(249);
    let before = world.disk.syncs();
    partition.blocking_append(&plain("c")).unwrap();
    assert_eq!(world.disk.syncs(), before, "not yet");
    assert_eq!(values(&world.after_power_cut().open(), "t"), ["a"]);
    world.clock.advance(1);
    until_durable(&world, 3);
    assert_eq!(
        values(&world.after_power_cut().open(), "t"),
        ["a", "b", "c"]
    );
}

#[test]
fn at_interval_a_sync_comes_when_enough_bytes_are_written() {
    let world = World::new();
    let engine = world.open();
    let size = plain("x").len();
    let partition = interval(&engine, "86400000", &(3 * size).to_string());
    partition.blocking_append(&plain("a")).unwrap();
    // Six are written by then; how many the first turn took with it does not matter.
    for _ in 0..5 {
        partition.blocking_append(&plain("x")).unwrap();
    }
    until_durable(&world, 4);
    assert_eq!(partition.high_watermark(), 6);
}

#[test]
fn the_latest_offset_is_the_published_one_at_each_level() {
    for ack in names() {
        let world = World::new();
        let engine = world.open();
        let partition = one_partition(&engine, ack);
        let mut latest = engine.reader("t").start(Start::Latest).open().unwrap();
        assert_eq!(latest.position(0), Some(1));
        partition.blocking_append(&plain("next")).unwrap();
        let record = latest.blocking_iter().next().unwrap().unwrap();
        assert_eq!(
            (record.offset(), record.value().unwrap().as_ref()),
            (1, &b"next"[..])
        );
    }
}
