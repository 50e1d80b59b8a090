//! Who has which partition, and what becomes of what an old owner has.

use log_engine::{Engine, GroupError, Member, Start};

use crate::shop::{
    LONG, counted, make, ms, offsets, open, poll, position, put, settle, with_orders,
};
use crate::world::World;

fn member(engine: &Engine) -> Member {
    let group = engine.group("billing").topic("orders");
    group.session_timeout(ms(10_000)).blocking_join().unwrap()
}

fn numbers(member: &Member) -> Vec<u32> {
    member.assigned().into_iter().map(|(_, p, _)| p).collect()
}

fn four(world: &World) -> Engine {
    let engine = open(world);
    make(&engine, 4, &[]);
    for partition in 0..4 {
        put(&engine, partition, [u64::from(partition)]);
    }
    engine
}

#[test]
fn members_share_the_partitions_and_keep_what_need_not_move() {
    let engine = four(&World::new());
    let one = member(&engine);
    let before = one.assigned();
    assert_eq!(numbers(&one), [0, 1, 2, 3]);
    let two = member(&engine);
    assert_eq!(numbers(&one).len(), 2);
    assert_eq!(numbers(&two).len(), 2);
    // What stayed is in the same epoch, what moved in a later one.
    assert!(one.assigned().iter().all(|kept| before.contains(kept)));
    let highest = before.iter().map(|(_, _, epoch)| *epoch).max().unwrap();
    assert!(two.assigned().iter().all(|(_, _, epoch)| *epoch > highest));
}

#[test]
fn the_old_owner_of_a_partition_is_refused_and_its_deliveries_go_to_the_new_one() {
    let engine = four(&World::new());
    let one = member(&engine);
    let held = poll(&one, 9);
    assert_eq!(held.len(), 4);
    let two = member(&engine);
    let moved = numbers(&two);
    for delivery in held {
        let partition = delivery.record().partition();
        let done = delivery.blocking_ack();
        match moved.contains(&partition) {
            true => assert!(matches!(done, Err(GroupError::Fenced { .. })), "{done:?}"),
            false => done.unwrap(),
        }
    }
    let again = poll(&two, 9);
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|d| d.deliveries() == 2));
    assert!(poll(&one, 9).is_empty());
}

#[test]
fn what_a_dropped_member_had_is_the_others_at_once() {
    let engine = four(&World::new());
    let (one, two) = (member(&engine), member(&engine));
    assert_eq!(poll(&one, 9).len(), 2);
    drop(one);
    settle(&engine);
    assert_eq!(numbers(&two), [0, 1, 2, 3]);
    let mut counts: Vec<_> = poll(&two, 9).iter().map(|d| d.deliveries()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2, 2]);
}

#[test]
fn a_member_that_has_left_is_told_so() {
    let engine = with_orders(&World::new(), 1);
    let member = member(&engine);
    let clone = member.clone();
    let receipt = poll(&member, 1)[0].receipt().clone();
    member.leave();
    let refused = clone.poll_now(1, LONG).unwrap_err();
    assert!(matches!(refused, GroupError::Left { .. }), "{refused}");
    // Nobody else has the partition: the work that was done counts.
    clone.blocking_ack(&[receipt]).unwrap();
    assert_eq!(position(&clone), 1);
}

#[test]
fn a_silent_member_loses_its_partitions_to_one_that_looks_and_may_come_back() {
    let world = World::new();
    let engine = four(&world);
    let (one, two) = (member(&engine), member(&engine));
    let held = poll(&one, 1);
    world.clock.advance(10_000);
    assert_eq!(poll(&two, 9).len(), 2, "not yet");
    world.clock.advance(1);
    // An assignment is durable before it is shown.
    assert!(poll(&two, 9).is_empty());
    assert!(numbers(&two).len() == 2);
    settle(&engine);
    assert_eq!(poll(&two, 9).len(), 2, "those of the other one");
    assert_eq!(numbers(&two), [0, 1, 2, 3]);
    let refused = held[0].extend(LONG).unwrap_err();
    assert!(matches!(refused, GroupError::Fenced { .. }), "{refused}");
    assert!(poll(&one, 9).is_empty());
    settle(&engine);
    let again = poll(&one, 9);
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|d| d.deliveries() >= 2));
    assert_eq!(numbers(&one).len(), 2);
}

#[test]
fn who_settles_is_not_silent() {
    let world = World::new();
    let engine = four(&world);
    let (one, two) = (member(&engine), member(&engine));
    let mut held = poll(&one, 2);
    world.clock.advance(9_000);
    held[0].extend(LONG).unwrap();
    world.clock.advance(9_000);
    held.pop().unwrap().blocking_ack().unwrap();
    world.clock.advance(9_000);
    held.pop().unwrap().nack(LONG).unwrap();
    world.clock.advance(9_000);
    poll(&two, 9);
    assert_eq!(numbers(&one).len(), 2);
}

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() {
    let engine = with_orders(&World::new(), 3);
    let group = engine.group("billing").topic("orders");
    let member = group.start(Start::Latest).blocking_join().unwrap();
    engine.add_partitions("orders", 2).unwrap();
    put(&engine, 1, [7]);
    assert!(poll(&member, 9).is_empty());
    settle(&engine);
    let delivered = poll(&member, 9);
    assert_eq!(offsets(&delivered), [0]);
    assert_eq!(delivered[0].record().partition(), 1);
    assert_eq!(numbers(&member), [0, 1]);
}

#[test]
fn a_topic_that_was_made_again_is_read_from_its_beginning_in_a_new_epoch() {
    let engine = with_orders(&World::new(), 2);
    let member = member(&engine);
    let old = poll(&member, 2);
    let epoch = member.assigned()[0].2;
    engine.delete_topic("orders").unwrap();
    let gone = member.poll_now(1, LONG).unwrap_err();
    assert!(gone.to_string().contains("no topic orders"), "{gone}");
    make(&engine, 1, &[]);
    put(&engine, 0, [5]);
    assert!(poll(&member, 9).is_empty());
    settle(&engine);
    assert_eq!(counted(&poll(&member, 9)), [(0, 1)]);
    assert!(member.assigned()[0].2 > epoch);
    let refused = member.blocking_ack(&[old[0].receipt().clone()]);
    assert!(matches!(refused, Err(GroupError::Fenced { .. })));
}

#[test]
fn a_group_that_was_deleted_begins_anew_and_repeats_no_epoch() {
    let world = World::new();
    let engine = with_orders(&world, 2);
    let first = member(&engine);
    let used = engine.blocking_delete_group("billing").unwrap_err();
    assert!(
        matches!(used, GroupError::InUse { members: 1, .. }),
        "{used}"
    );
    poll(&first, 1).pop().unwrap().blocking_ack().unwrap();
    let epoch = first.assigned()[0].2;
    drop(first);
    engine.blocking_delete_group("billing").unwrap();
    assert!(engine.groups().unwrap().is_empty());
    let unknown = engine.blocking_delete_group("billing").unwrap_err();
    assert!(matches!(unknown, GroupError::UnknownGroup { .. }));

    let second = member(&engine);
    assert_eq!(counted(&poll(&second, 9)), [(0, 1), (1, 1)]);
    assert!(second.assigned()[0].2 > epoch);
    drop(second);
    engine.blocking_delete_group("billing").unwrap();
    drop(engine);
    let engine = open(&world);
    assert!(engine.groups().unwrap().is_empty());
}
