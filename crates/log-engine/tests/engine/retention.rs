//! What the front of a log loses, and when: by size, by elapsed age, by what groups consumed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log_engine::{Ack, Engine, Partition, TopicConfig, TopicError};

use crate::world::{World, config, numbered, values};

const DAY_MS: u32 = 86_400_000;

/// A topic with small segments and these limits.
fn topic(engine: &Engine, ack: Ack, limits: &[(&str, &str)]) -> Partition {
    let mut config: TopicConfig = config(ack);
    config.set("segment.bytes", "4096").unwrap();
    for (key, value) in limits {
        config.set(key, value).unwrap();
    }
    engine
        .create_topic("t", 1, config)
        .unwrap()
        .partition(0)
        .unwrap()
}

/// Appends batches of producer 7 with about 1 KiB each; returns the next sequence.
fn fill(partition: &Partition, from: i32, batches: i32) -> i32 {
    let value = "x".repeat(1_000);
    for sequence in from..from + batches {
        partition
            .blocking_append(&numbered(7, sequence, &[&value]))
            .unwrap();
    }
    from + batches
}

/// Waits until the timer has seen to it, for at most a minute.
fn until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it never happened"
        );
        std::thread::yield_now();
    }
}

#[test]
fn size_deletes_whole_segments_from_the_front_and_keeps_at_least_the_limit() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced, &[("retention.bytes", "9000")]);
    fill(&partition, 0, 40);
    world.clock.advance(20_000);
    // The start moves first, then files go.
    let size = || engine.topic("t").unwrap().describe().partitions[0].size_bytes;
    until(|| size() < 9_000 + 4_096 + 4_096);
    assert!(partition.log_start_offset() > 0);
    assert!(size() >= 9_000, "{}", size());
    assert_eq!(partition.high_watermark(), 40);
    // The producer is still known: its newest batch is a duplicate, its next one goes in.
    let newest = partition
        .blocking_append(&numbered(7, 39, &[&"x".repeat(1_000)]))
        .unwrap();
    assert!(newest.duplicate);
    fill(&partition, 40, 1);
}

#[test]
fn age_is_elapsed_time_since_the_last_append_and_not_the_records_timestamps() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced, &[("retention.ms", "86400000")]);
    fill(&partition, 0, 12);
    // A jump of the wall clock deletes nothing (I31); neither does a day less a bit.
    world.clock.jump_wall(i64::from(DAY_MS) * 400);
    world.clock.advance(DAY_MS - 60_000);
    fill(&partition, 12, 12);
    let before = partition.log_start_offset();
    assert_eq!(before, 0);
    world.clock.advance(60_000 + 20_000);
    until(|| partition.log_start_offset() > 0);
    let start = partition.log_start_offset();
    assert!(
        (8..=12).contains(&start),
        "the old segments are gone, and only they: {start}"
    );
    world.clock.jump_wall(-i64::from(DAY_MS) * 800);
    world.clock.advance(DAY_MS);
    until(|| partition.log_start_offset() >= 20);
    assert_eq!(
        values(&engine, "t").len(),
        usize::try_from(24 - partition.log_start_offset()).unwrap()
    );
}

#[test]
fn nothing_is_deleted_unless_a_limit_is_set() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced, &[]);
    fill(&partition, 0, 40);
    world.clock.advance(DAY_MS);
    let reopened = {
        engine.close().unwrap();
        drop((engine, partition));
        world.open()
    };
    world.clock.advance(DAY_MS);
    assert_eq!(values(&reopened, "t").len(), 40);
}

#[test]
fn age_outlives_a_restart() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced, &[("retention.ms", "86400000")]);
    fill(&partition, 0, 20);
    world.clock.advance(DAY_MS / 2);
    engine.close().unwrap();
    drop((engine, partition));
    let engine = world.open();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    world.clock.advance(DAY_MS / 2 + 20_000);
    until(|| partition.log_start_offset() >= 16);
}

/// The machine as a killed process leaves it, at the same time of day.
fn killed(world: &World) -> World {
    let clock = world.clock.clone();
    World {
        clock,
        ..world.after_kill()
    }
}

#[test]
fn age_outlives_crashes_and_does_not_begin_anew_with_each() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Synced, &[("retention.ms", "86400000")]);
    fill(&partition, 0, 20);
    let mut world = killed(&world);
    drop((engine, partition));
    // More than a day in all, but never a whole day at a time.
    for _ in 0..4 {
        let engine = world.open();
        assert_eq!(values(&engine, "t").len(), 20);
        let after = killed(&world);
        drop(engine);
        world = after;
        world.clock.advance(DAY_MS / 10 * 3);
    }
    let engine = world.open();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    world.clock.advance(20_000);
    until(|| partition.log_start_offset() == 20);
}

#[test]
fn what_every_group_consumed_goes_and_no_more() {
    let world = World::new();
    let engine = world.open();
    let partition = topic(&engine, Ack::Memory, &[]);
    fill(&partition, 0, 30);
    let topic = engine.topic("t").unwrap();
    let group = |position: u64| BTreeMap::from([(0, position)]);
    topic.delete_consumed(&[]).unwrap();
    topic.delete_consumed(&[group(9), BTreeMap::new()]).unwrap();
    assert_eq!(partition.log_start_offset(), 0);
    topic.delete_consumed(&[group(21), group(9)]).unwrap();
    assert_eq!(partition.log_start_offset(), 9);
    assert_eq!(values(&engine, "t").len(), 21);
    let beyond = topic.delete_consumed(&[group(31)]);
    assert!(matches!(
        beyond,
        Err(TopicError::OffsetOutOfRange { asked: 31, .. })
    ));
}

#[test]
fn deleting_while_others_append_loses_nothing_above_the_start_at_any_level() {
    for ack in [Ack::Memory, Ack::Interval, Ack::Synced] {
        let world = World::new();
        let engine = world.open();
        let partition = topic(&engine, ack, &[]);
        std::thread::scope(|scope| {
            scope.spawn(|| fill(&partition, 0, 200));
            let mut deleted = 0;
            while deleted < 150 {
                let end = partition.high_watermark();
                deleted = end.saturating_sub(20).max(deleted);
                partition.delete_before(deleted).unwrap();
            }
        });
        let start = partition.log_start_offset();
        drop((engine, partition));
        let killed = world.after_kill();
        let engine = killed.open();
        assert!(
            engine.opened().logs[0].1.files.corruption.is_none(),
            "{ack}"
        );
        assert_eq!(
            values(&engine, "t").len(),
            usize::try_from(200 - start).unwrap(),
            "{ack}"
        );
    }
}
