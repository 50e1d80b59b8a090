//! Records that a group gives up, and sending them again.

use std::sync::Arc;
use std::thread;

use log_engine::{DeadLetter, Engine, GroupError, Record};

use crate::shop::{LONG, counted, join, offsets, open, poll, position, put, settle, with_orders};
use crate::world::{HoldSyncs, World};

pub(crate) fn letters(engine: &Engine) -> Vec<DeadLetter> {
    let letters = engine.dead_letters("orders.dlq").unwrap();
    letters.map(Result::unwrap).collect()
}

#[test]
fn a_parked_record_is_acknowledged_and_says_where_it_came_from_and_why() {
    let world = World::new();
    let engine = with_orders(&world, 3);
    let member = join(&engine);
    let mut deliveries = poll(&member, 2);
    let first = deliveries.remove(0);
    let written_ms = first.record().timestamp();
    world.clock.advance(60_000);
    first.blocking_park("rejected", "no such customer").unwrap();
    assert_eq!(position(&member), 1);

    let found = letters(&engine);
    assert_eq!(found.len(), 1);
    let letter = &found[0];
    assert_eq!(
        (
            letter.group(),
            letter.topic(),
            letter.partition(),
            letter.offset()
        ),
        ("billing", "orders", 0, 0)
    );
    assert_eq!(letter.biz_id(), Some(&b"id-0"[..]));
    assert_eq!(
        (&*letter.reason(), &*letter.last_error(), letter.attempts()),
        ("rejected", "no such customer", 1)
    );
    // The scenario and the time of its origin, not those of the dead-letter topic.
    assert_eq!(
        (&*letter.scenario(), letter.origin_ms()),
        ("orders", written_ms)
    );
    let record = letter.record();
    assert_eq!(record.topic(), "orders.dlq");
    assert_eq!(record.key().unwrap().as_ref(), b"k");
    assert_eq!(record.value().unwrap().as_ref(), b"0");
}

#[test]
fn a_record_that_is_parked_again_adds_nothing() {
    let engine = with_orders(&World::new(), 1);
    let member = join(&engine);
    let delivery = poll(&member, 1).pop().unwrap();
    let receipt = delivery.receipt().clone();
    delivery.blocking_park("rejected", "").unwrap();
    member.blocking_park(&receipt, "rejected", "").unwrap();
    assert_eq!(letters(&engine).len(), 1);
}

#[test]
fn without_a_dead_letter_topic_nothing_is_parked() {
    let engine = with_orders(&World::new(), 1);
    let member = engine
        .group("billing")
        .topic("orders")
        .blocking_join()
        .unwrap();
    let refused = poll(&member, 1).pop().unwrap().blocking_park("x", "");
    assert!(matches!(refused, Err(GroupError::NoDeadLetterTopic { .. })));
    assert_eq!(position(&member), 0);
}

#[test]
fn a_dead_letter_is_the_ack_also_where_a_power_cut_took_that_and_the_delivery() {
    let world = World::new();
    let engine = with_orders(&world, 3);
    let member = join(&engine);
    let mut deliveries = poll(&member, 2);
    deliveries
        .pop()
        .unwrap()
        .blocking_park("rejected", "")
        .unwrap();
    // Deliveries and acks are written, the dead letter is synced.
    let world = world.after_power_cut();
    let engine = open(&world);
    assert_eq!(letters(&engine).len(), 1);
    let member = join(&engine);
    assert_eq!(offsets(&poll(&member, 9)), [0, 2]);
}

#[test]
fn after_a_seek_back_a_dead_letter_that_is_there_is_enough_and_one_that_was_sent_again_is_not() {
    let world = World::new();
    let engine = with_orders(&world, 1);
    let member = join(&engine);
    let park = |member: &log_engine::Member| {
        let delivery = poll(member, 1).pop().unwrap();
        assert_eq!(delivery.record().offset(), 0);
        delivery.blocking_park("rejected", "").unwrap();
    };
    park(&member);
    member.blocking_seek("orders", 0, 0).unwrap();
    park(&member);
    assert_eq!(letters(&engine).len(), 1);
    let sent = engine.blocking_redrive(&letters(&engine)[0]).unwrap();
    assert!(sent && letters(&engine).is_empty());
    member.blocking_seek("orders", 0, 0).unwrap();
    park(&member);
    assert_eq!(letters(&engine).len(), 1);
    // Of before the seek, it says nothing of what is to be consumed after it.
    member.blocking_seek("orders", 0, 0).unwrap();
    drop(member);
    let member = join(&engine);
    assert_eq!(offsets(&poll(&member, 1)), [0]);
}

#[test]
fn a_dead_letter_is_sent_again_once_with_all_that_it_had() {
    let world = World::new();
    let engine = with_orders(&world, 0);
    let mut appender = engine.session().unwrap().appender("orders", 0).unwrap();
    let record = || {
        let record = Record::new()
            .key("k")
            .value("v")
            .biz_id("A-1")
            .timestamp(77);
        record.scenario("create-order").header("trace", Some(b"t"))
    };
    if appender.try_append(&[record()]).is_err() {
        settle(&engine);
        let _ = appender.try_append(&[record()]).unwrap();
    }
    settle(&engine);
    let member = join(&engine);
    poll(&member, 1)
        .pop()
        .unwrap()
        .blocking_park("rejected", "e")
        .unwrap();
    let letter = letters(&engine).pop().unwrap();
    assert!(engine.blocking_redrive(&letter).unwrap());
    assert!(!engine.blocking_redrive(&letter).unwrap(), "done already");
    assert!(letters(&engine).is_empty());

    let again = poll(&member, 9);
    assert_eq!(counted(&again), [(1, 1)]);
    let (delivery, record) = (&again[0], again[0].record());
    assert!(delivery.is_redrive());
    assert_eq!(
        (&*delivery.scenario(), delivery.origin_ms()),
        ("create-order", 77)
    );
    assert_eq!(record.biz_id().unwrap().as_ref(), b"A-1");
    assert_eq!(record.key().unwrap().as_ref(), b"k");
    assert_eq!(record.value().unwrap().as_ref(), b"v");
    assert_eq!(record.timestamp(), 77);
    let names: Vec<_> = record.headers().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(
        names,
        ["biz-id", "scenario", "trace", "origin-time", "redrive"]
    );
    assert_eq!(
        record.header("redrive").unwrap().as_ref(),
        b"orders.dlq/0/0"
    );

    // Given up again, it is another dead letter, and of the first one it is still known.
    again
        .into_iter()
        .next()
        .unwrap()
        .blocking_park("rejected", "")
        .unwrap();
    drop(member);
    engine.close().unwrap();
    let engine = open(&world);
    assert!(!engine.blocking_redrive(&letter).unwrap());
    let left = letters(&engine);
    assert_eq!((left.len(), left[0].offset()), (1, 1));
    assert_eq!(
        (&*left[0].scenario(), left[0].origin_ms()),
        ("create-order", 77)
    );
}

#[test]
fn dead_letters_of_another_topic_with_that_name_acknowledge_nothing() {
    let world = World::new();
    let engine = with_orders(&world, 1);
    let member = join(&engine);
    poll(&member, 1)
        .pop()
        .unwrap()
        .blocking_park("rejected", "")
        .unwrap();
    drop(member);
    engine.delete_topic("orders").unwrap();
    crate::shop::make(&engine, 1, &[]);
    put(&engine, 0, [9]);
    let member = join(&engine);
    let delivery = poll(&member, 1).pop().unwrap();
    assert_eq!((delivery.record().offset(), delivery.deliveries()), (0, 1));
    delivery.blocking_park("rejected", "").unwrap();
    assert_eq!(letters(&engine).len(), 2);
}

#[test]
fn a_slow_dead_letter_holds_up_nobody_and_its_record_is_not_delivered_meanwhile() {
    let world = World::new();
    let hook = Arc::new(HoldSyncs::default());
    let engine = world.hooked(hook.clone()).open().unwrap();
    engine.ensure_topic("orders", 1).unwrap();
    let mut appender = engine.session().unwrap().appender("orders", 0).unwrap();
    let append = |appender: &mut log_engine::Appender| {
        appender
            .blocking_append(&[Record::new().value("1")])
            .unwrap();
    };
    append(&mut appender);
    append(&mut appender);
    let member = join(&engine);
    let other = engine
        .group("shipping")
        .topic("orders")
        .blocking_join()
        .unwrap();
    // Its log is made, so that only the sync is left.
    let first = member.poll_now(1, LONG).unwrap().pop().unwrap();
    first.blocking_park("rejected", "").unwrap();
    let second = member
        .poll_now(1, crate::shop::ms(1))
        .unwrap()
        .pop()
        .unwrap();
    hook.hold("orders.dlq-0");
    let parking = thread::spawn(move || second.blocking_park("rejected", ""));
    hook.wait_until_one_waits();
    world.clock.advance(1_000);
    append(&mut appender);
    let third = member.poll_now(9, LONG).unwrap();
    assert_eq!(offsets(&third), [2]);
    for delivery in third.into_iter().chain(other.poll_now(9, LONG).unwrap()) {
        delivery.blocking_ack().unwrap();
    }
    assert_eq!((position(&member), position(&other)), (1, 3));
    hook.release();
    parking.join().unwrap().unwrap();
    assert_eq!(position(&member), 3);
    assert_eq!(letters(&engine).len(), 2);
}
