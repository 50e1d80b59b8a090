//! Poll, ack, nack, extend, seek: one member, one partition.

use log_engine::{GroupError, Start};

use crate::shop::{LONG, counted, described, join, ms, offsets, open, poll, position, put, settle};
use crate::shop::{make, with_orders};
use crate::world::World;

#[test]
fn what_is_acknowledged_is_not_delivered_again_and_the_position_moves() {
    let engine = with_orders(&World::new(), 3);
    let member = join(&engine);
    let deliveries = poll(&member, 2);
    assert_eq!(counted(&deliveries), [(0, 1), (1, 1)]);
    assert_eq!(position(&member), 0);
    for delivery in deliveries {
        delivery.blocking_ack().unwrap();
    }
    assert_eq!(position(&member), 2);
    assert_eq!(offsets(&poll(&member, 9)), [2]);
    assert!(poll(&member, 9).is_empty());
}

#[test]
fn an_ack_out_of_order_is_kept_above_the_position() {
    let engine = with_orders(&World::new(), 4);
    let member = join(&engine);
    let mut deliveries = poll(&member, 4);
    let last = deliveries.pop().unwrap();
    last.blocking_ack().unwrap();
    let about = described(&engine);
    assert_eq!(
        (
            about.position,
            about.in_flight,
            about.acked_above,
            about.lag
        ),
        (Some(0), 3, 1, 4)
    );
    for delivery in deliveries {
        delivery.blocking_ack().unwrap();
    }
    let about = described(&engine);
    assert_eq!(
        (
            about.position,
            about.in_flight,
            about.acked_above,
            about.lag
        ),
        (Some(4), 0, 0, 0)
    );
}

#[test]
fn a_delivery_whose_visibility_ends_comes_again_with_its_count() {
    let world = World::new();
    let engine = with_orders(&world, 2);
    let member = join(&engine);
    let first = member.poll_now(1, ms(1_000)).unwrap().pop().unwrap();
    world.clock.advance(999);
    assert_eq!(offsets(&poll(&member, 1)), [1], "only what is not out");
    world.clock.advance(1);
    let again = poll(&member, 9);
    assert_eq!(counted(&again), [(0, 2)]);
    let late = first.blocking_ack().unwrap_err();
    assert!(
        matches!(
            late,
            GroupError::Superseded {
                offset: 0,
                delivery: 1,
                current: 2,
                ..
            }
        ),
        "{late}"
    );
    member.blocking_ack(&[again[0].receipt().clone()]).unwrap();
    assert_eq!(position(&member), 1);
}

#[test]
fn a_late_ack_counts_while_nobody_else_has_the_record() {
    let world = World::new();
    let engine = with_orders(&world, 1);
    let member = join(&engine);
    let delivery = member.poll_now(1, ms(10)).unwrap().pop().unwrap();
    world.clock.advance(60_000);
    delivery.blocking_ack().unwrap();
    assert_eq!(position(&member), 1);
}

#[test]
fn an_ack_may_be_repeated() {
    let engine = with_orders(&World::new(), 2);
    let member = join(&engine);
    let deliveries = poll(&member, 2);
    let receipts: Vec<_> = deliveries.iter().map(|d| d.receipt().clone()).collect();
    member.blocking_ack(&receipts[1..]).unwrap();
    member.blocking_ack(&receipts[1..]).unwrap();
    member.blocking_ack(&receipts).unwrap();
    member.blocking_ack(&receipts).unwrap();
    assert_eq!(position(&member), 2);
}

#[test]
fn of_a_batch_of_acks_with_one_refused_none_counts() {
    let engine = with_orders(&World::new(), 2);
    let member = join(&engine);
    let deliveries = poll(&member, 2);
    let mut receipts: Vec<_> = deliveries.iter().map(|d| d.receipt().clone()).collect();
    receipts[1].offset = 77;
    let refused = member.blocking_ack(&receipts).unwrap_err();
    assert!(
        matches!(refused, GroupError::NotDelivered { offset: 77, .. }),
        "{refused}"
    );
    assert_eq!(position(&member), 0);
}

#[test]
fn a_record_that_is_given_back_comes_again_after_its_delay() {
    let world = World::new();
    let engine = with_orders(&world, 1);
    let member = join(&engine);
    let delivery = poll(&member, 1).pop().unwrap();
    let receipt = delivery.receipt().clone();
    delivery.nack(ms(500)).unwrap();
    // Who gave it back has it no more.
    let refused = member.extend(&receipt, LONG).unwrap_err();
    assert!(matches!(refused, GroupError::NotDelivered { .. }));
    world.clock.advance(499);
    assert!(poll(&member, 1).is_empty());
    world.clock.advance(1);
    assert_eq!(counted(&poll(&member, 1)), [(0, 2)]);
}

#[test]
fn a_delivery_lasts_for_as_long_as_it_is_extended() {
    let world = World::new();
    let engine = with_orders(&world, 1);
    let member = join(&engine);
    let delivery = member.poll_now(1, ms(1_000)).unwrap().pop().unwrap();
    world.clock.advance(900);
    delivery.extend(ms(1_000)).unwrap();
    world.clock.advance(999);
    assert!(poll(&member, 1).is_empty());
    world.clock.advance(1);
    assert_eq!(counted(&poll(&member, 1)), [(0, 2)]);
}

#[test]
fn a_seek_begins_anew_and_refuses_what_was_delivered_before() {
    let engine = with_orders(&World::new(), 5);
    let member = join(&engine);
    let epoch = member.assigned()[0].2;
    let old = poll(&member, 3);
    member.blocking_seek("orders", 0, 1).unwrap();
    assert_eq!(member.assigned()[0].2, epoch + 1);
    let refused = member
        .blocking_ack(&[old[1].receipt().clone()])
        .unwrap_err();
    assert!(
        matches!(refused, GroupError::Fenced { epoch: e, current, .. } if (e, current) == (epoch, epoch + 1)),
        "{refused}"
    );
    assert_eq!(counted(&poll(&member, 2)), [(1, 1), (2, 1)]);
}

#[test]
fn a_seek_to_the_present_position_changes_nothing() {
    let engine = with_orders(&World::new(), 2);
    let member = join(&engine);
    let delivery = poll(&member, 1).pop().unwrap();
    let before = member.assigned();
    member.blocking_seek("orders", 0, 0).unwrap();
    assert_eq!(member.assigned(), before);
    delivery.blocking_ack().unwrap();
    assert_eq!(position(&member), 1);
}

#[test]
fn a_seek_stays_inside_of_the_log() {
    let engine = with_orders(&World::new(), 2);
    let member = join(&engine);
    let refused = member.blocking_seek("orders", 0, 3).unwrap_err();
    assert!(
        matches!(
            refused,
            GroupError::OutOfRange {
                asked: 3,
                start: 0,
                end: 2,
                ..
            }
        ),
        "{refused}"
    );
    let refused = member.blocking_seek("orders", 1, 0).unwrap_err();
    assert!(matches!(
        refused,
        GroupError::NotAssigned { partition: 1, .. }
    ));
}

#[test]
fn a_group_begins_where_it_was_opened_and_only_the_first_time() {
    let engine = with_orders(&World::new(), 3);
    let latest = || engine.group("late").topic("orders").start(Start::Latest);
    let member = latest().blocking_join().unwrap();
    assert!(poll(&member, 9).is_empty());
    put(&engine, 0, [3]);
    let delivery = poll(&member, 9).pop().unwrap();
    assert_eq!(delivery.record().offset(), 3);
    drop((delivery, member));
    // It knows by now where it is.
    let member = latest().blocking_join().unwrap();
    assert_eq!(counted(&poll(&member, 9)), [(3, 2)]);
    let at = engine.group("at").topic("orders").start(Start::Offset(2));
    assert_eq!(offsets(&poll(&at.blocking_join().unwrap(), 9)), [2, 3]);
}

#[test]
fn no_more_than_max_in_flight_is_kept_of_a_partition() {
    let engine = with_orders(&World::new(), 10);
    let group = engine.group("billing").topic("orders").max_in_flight(4);
    let member = group.blocking_join().unwrap();
    let mut deliveries = poll(&member, 9);
    assert_eq!(offsets(&deliveries), [0, 1, 2, 3]);
    // Acknowledged above the lowest that is open: that is kept, too.
    for delivery in deliveries.drain(1..) {
        delivery.blocking_ack().unwrap();
    }
    assert!(poll(&member, 9).is_empty());
    deliveries.pop().unwrap().blocking_ack().unwrap();
    assert_eq!(offsets(&poll(&member, 9)), [4, 5, 6, 7]);
}

#[test]
fn a_member_of_two_topics_gets_records_of_both() {
    let engine = with_orders(&World::new(), 1);
    engine.ensure_topic("refunds", 2).unwrap();
    let session = engine.session().unwrap();
    let mut refunds = session.appender("refunds", 1).unwrap();
    if refunds
        .try_append(&[log_engine::Record::new().value("r")])
        .is_err()
    {
        settle(&engine);
        let _ = refunds
            .try_append(&[log_engine::Record::new().value("r")])
            .unwrap();
    }
    settle(&engine);
    let group = engine.group("billing").topic("orders").topic("refunds");
    let member = group.blocking_join().unwrap();
    assert_eq!(member.assigned().len(), 3);
    let mut topics: Vec<_> = poll(&member, 9)
        .iter()
        .map(|d| d.record().topic().to_owned())
        .collect();
    topics.sort();
    assert_eq!(topics, ["orders", "refunds"]);
}

#[test]
fn one_group_says_nothing_of_another() {
    let engine = with_orders(&World::new(), 2);
    let (billing, shipping) = (engine.group("billing"), engine.group("shipping"));
    let billing = billing.topic("orders").blocking_join().unwrap();
    let shipping = shipping.topic("orders").blocking_join().unwrap();
    poll(&billing, 1).pop().unwrap().blocking_ack().unwrap();
    assert_eq!(offsets(&poll(&shipping, 9)), [0, 1]);
    assert_eq!(position(&billing), 1);
    assert_eq!(position(&shipping), 0);
}

#[test]
fn what_a_delivery_says_of_its_record() {
    let engine = open(&World::new());
    make(&engine, 1, &[]);
    put(&engine, 0, [7]);
    let member = join(&engine);
    let delivery = poll(&member, 1).pop().unwrap();
    assert_eq!(delivery.record().biz_id().unwrap().as_ref(), b"id-7");
    assert_eq!(delivery.scenario(), "orders");
    assert_eq!(delivery.origin_ms(), delivery.record().timestamp());
    assert!(!delivery.is_redrive());
    let receipt = delivery.receipt();
    assert_eq!(
        (
            &*receipt.topic,
            receipt.partition,
            receipt.offset,
            receipt.delivery
        ),
        ("orders", 0, 0, 1)
    );
}
