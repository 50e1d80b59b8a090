//! Deleting what groups have consumed, and keeping what they hold.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log_engine::{Engine, GroupError, Member, PartitionDescription};

use crate::hooked_disk::{Hook, Op};
use crate::shop::{LONG, join, make, open, poll, put, settle, with_orders};
use crate::world::World;

/// Lets time pass until retention has looked at what is durable.
fn pass(world: &World, engine: &Engine) {
    for _ in 0..3 {
        world.clock.advance(11_000);
        engine.look_at_clock();
        settle(engine);
    }
}

fn about(engine: &Engine) -> PartitionDescription {
    let topic = engine.topic("orders").unwrap();
    topic.describe().partitions[0].clone()
}

fn named(engine: &Engine, group: &str) -> Member {
    engine.group(group).topic("orders").blocking_join().unwrap()
}

fn consume(member: &Member, count: usize) {
    for delivery in poll(member, count) {
        delivery.blocking_ack().unwrap();
    }
}

#[test]
fn the_log_begins_behind_the_slowest_of_the_groups() {
    let world = World::new();
    let engine = open(&world);
    make(
        &engine,
        1,
        &[("retention.consumed.by", "billing, shipping")],
    );
    put(&engine, 0, 0..10);
    let billing = named(&engine, "billing");
    consume(&billing, 8);
    pass(&world, &engine);
    assert_eq!(about(&engine).log_start_offset, 0, "shipping has not begun");
    let shipping = named(&engine, "shipping");
    consume(&shipping, 3);
    let open_one = poll(&shipping, 1).pop().unwrap();
    consume(&shipping, 3);
    pass(&world, &engine);
    let described = about(&engine);
    assert_eq!(
        (described.log_start_offset, described.consumed_to),
        (3, Some(3))
    );
    open_one.blocking_ack().unwrap();
    pass(&world, &engine);
    assert_eq!(about(&engine).log_start_offset, 7);
    // Another group finds what is left.
    assert_eq!(poll(&named(&engine, "late"), 9).len(), 3);
}

#[test]
fn a_topic_that_names_no_groups_keeps_what_is_consumed() {
    let world = World::new();
    let engine = with_orders(&world, 5);
    consume(&join(&engine), 5);
    pass(&world, &engine);
    let described = about(&engine);
    assert_eq!(
        (described.log_start_offset, described.consumed_to),
        (0, None)
    );
}

/// Fails the syncs of the groups' log once it is told to.
#[derive(Default)]
struct FailSyncs(AtomicBool);

impl Hook for FailSyncs {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        let fails = self.0.load(Ordering::SeqCst);
        match op == Op::Sync && name.starts_with("__groups-0") && fails {
            true => Err(io::Error::other("no answer")),
            false => Ok(()),
        }
    }
}

#[test]
fn nothing_goes_that_is_not_durably_consumed() {
    let world = World::new();
    let hook = Arc::new(FailSyncs::default());
    let engine = world.hooked(hook.clone()).driven().open().unwrap();
    make(&engine, 1, &[("retention.consumed.by", "billing")]);
    put(&engine, 0, 0..5);
    let member = named(&engine, "billing");
    consume(&member, 2);
    pass(&world, &engine);
    assert_eq!(about(&engine).log_start_offset, 2);
    consume(&member, 2);
    hook.0.store(true, Ordering::SeqCst);
    pass(&world, &engine);
    assert_eq!(about(&engine).log_start_offset, 2);
    // And a member is told that nothing becomes durable any more.
    let fenced = member.poll_now(1, LONG).unwrap_err();
    assert!(matches!(fenced, GroupError::Journal(_)), "{fenced}");
    let world = world.after_power_cut();
    let engine = open(&world);
    // All that the group has not consumed is there.
    assert_eq!(poll(&named(&engine, "billing"), 9).len(), 3);
}

#[test]
fn a_hold_keeps_what_size_and_consumption_would_delete_and_survives_a_power_cut() {
    let world = World::new();
    let engine = open(&world);
    let settings = [
        ("retention.consumed.by", "billing"),
        ("retention.bytes", "0"),
        ("segment.bytes", "4096"),
    ];
    make(&engine, 1, &settings);
    put(&engine, 0, 0..200);
    engine
        .group("mirror")
        .blocking_hold("orders", 0, Some(20))
        .unwrap();
    consume(&named(&engine, "billing"), 150);
    pass(&world, &engine);
    let described = about(&engine);
    assert_eq!(described.held_from, Some(20));
    assert_eq!(
        (described.log_start_offset, described.consumed_to),
        (20, Some(150))
    );
    let world = world.after_power_cut();
    drop(engine);
    let engine = open(&world);
    pass(&world, &engine);
    assert_eq!(about(&engine).log_start_offset, 20);
    let hold = |offset| engine.group("mirror").blocking_hold("orders", 0, offset);
    let refused = hold(Some(19)).unwrap_err();
    assert!(matches!(
        refused,
        GroupError::OutOfRange {
            asked: 19,
            start: 20,
            ..
        }
    ));
    hold(Some(60)).unwrap();
    pass(&world, &engine);
    assert_eq!(about(&engine).log_start_offset, 60);
    hold(None).unwrap();
    pass(&world, &engine);
    assert!(about(&engine).log_start_offset >= 150);
    assert_eq!(about(&engine).held_from, None);
}

#[test]
fn a_group_whose_records_were_deleted_is_told_and_goes_on_where_it_says() {
    let world = World::new();
    let engine = with_orders(&world, 9);
    let member = join(&engine);
    consume(&member, 2);
    let topic = engine.topic("orders").unwrap();
    topic.partition(0).unwrap().delete_before(5).unwrap();
    let gap = member.poll_now(9, LONG).unwrap_err();
    assert!(
        matches!(
            gap,
            GroupError::Gap {
                position: 2,
                start: 5,
                end: 9,
                ..
            }
        ),
        "{gap}"
    );
    assert!(member.poll_now(9, LONG).is_err(), "until it seeks");
    member.blocking_seek("orders", 0, 5).unwrap();
    assert_eq!(poll(&member, 9).len(), 4);
}
