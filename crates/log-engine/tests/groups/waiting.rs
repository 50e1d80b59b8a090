//! Polls that wait: what ends the wait, and what a dropped one leaves.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use log_engine::{Engine, GroupError, Member, Record};

use crate::shop::{LONG, counted, join, make, ms, offsets, open, poll, put, with_orders};
use crate::world::World;

fn put_one(engine: &Engine) {
    let mut appender = engine.session().unwrap().appender("orders", 0).unwrap();
    appender
        .blocking_append(&[Record::new().value("1")])
        .unwrap();
}

fn real() -> (Engine, Member) {
    let engine = Engine::in_memory();
    engine.ensure_topic("orders", 1).unwrap();
    let member = join(&engine);
    (engine, member)
}

#[test]
fn a_poll_waits_for_a_record() {
    let (engine, member) = real();
    let waiting = thread::spawn(move || offsets(&member.blocking_poll(5, LONG).unwrap()));
    put_one(&engine);
    assert_eq!(waiting.join().unwrap(), [0]);
}

#[test]
fn a_poll_waits_for_a_delay_to_pass() {
    let (engine, member) = real();
    put_one(&engine);
    let delivery = member.blocking_poll(1, LONG).unwrap().pop().unwrap();
    delivery.nack(ms(20)).unwrap();
    assert_eq!(counted(&member.blocking_poll(1, ms(20)).unwrap()), [(0, 2)]);
    // And for a visibility to end.
    assert_eq!(counted(&member.blocking_poll(1, LONG).unwrap()), [(0, 3)]);
}

#[test]
fn a_poll_waits_for_another_member_to_leave() {
    let (engine, member) = real();
    let second = join(&engine);
    put_one(&engine);
    let waiting = thread::spawn(move || second.blocking_poll(5, LONG).unwrap().len());
    drop(member);
    assert_eq!(waiting.join().unwrap(), 1);
}

#[test]
fn a_close_ends_a_poll() {
    let (engine, member) = real();
    let waiting = thread::spawn(move || member.blocking_poll(5, LONG).map(|d| d.len()));
    engine.close().unwrap();
    assert!(matches!(waiting.join().unwrap(), Err(GroupError::Closed)));
}

#[test]
fn a_poll_that_is_dropped_has_delivered_nothing() {
    let engine = open(&World::new());
    make(&engine, 1, &[]);
    let member = join(&engine);
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut waiting = pin!(member.poll(1, LONG));
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        put(&engine, 0, [0]);
    }
    assert_eq!(counted(&poll(&member, 1)), [(0, 1)]);
}

#[test]
fn a_poll_of_a_driven_engine_is_ready_when_there_is_something() {
    let world = World::new();
    let engine = with_orders(&world, 1);
    let member = join(&engine);
    let delivery = poll(&member, 1).pop().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting = pin!(member.poll(1, LONG));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    delivery.nack(ms(1_000)).unwrap();
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    world.clock.advance(1_000);
    engine.look_at_clock();
    let Poll::Ready(Ok(again)) = waiting.as_mut().poll(&mut context) else {
        panic!("the delay has passed");
    };
    assert_eq!(counted(&again), [(0, 2)]);
}

#[test]
fn who_waits_is_not_silent() {
    let world = World::new();
    let engine = open(&world);
    make(&engine, 2, &[]);
    let group = || engine.group("billing").topic("orders");
    let join = || group().session_timeout(ms(1_000)).blocking_join().unwrap();
    let (one, two) = (join(), join());
    let mut context = Context::from_waker(Waker::noop());
    let mut waiting = pin!(one.poll(1, LONG));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    world.clock.advance(60_000);
    assert!(poll(&two, 1).is_empty());
    assert_eq!(one.assigned().len(), 1);
}
