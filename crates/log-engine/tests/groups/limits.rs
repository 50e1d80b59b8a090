//! What is refused, and what stays small.

use std::time::Duration;

use log_engine::{Action, Engine, GroupError, TopicConfig};

use crate::shop::{LONG, described, join, ms, open, poll, put, settle, with_orders};
use crate::world::World;

#[test]
fn what_cannot_be_is_refused_with_what_can() {
    let engine = with_orders(&World::new(), 2);
    let group = |name: &str| engine.group(name).topic("orders");
    let names = ["", ".", "a/b", &"x".repeat(250)];
    for name in names {
        let refused = group(name).blocking_join().unwrap_err();
        assert!(
            matches!(refused, GroupError::IllegalName { .. }),
            "{refused}"
        );
    }
    let none = engine.group("billing").blocking_join().unwrap_err();
    assert!(matches!(none, GroupError::NoTopic { .. }), "{none}");
    let missing = engine.group("billing").topic("nothing").blocking_join();
    assert!(missing.unwrap_err().to_string().contains("create it with"));
    for records in [0, 65_537] {
        let refused = group("billing").max_in_flight(records).blocking_join();
        let refused = refused.unwrap_err();
        assert!(matches!(
            refused,
            GroupError::MaxInFlight { limit: 65_536, .. }
        ));
        assert_eq!(refused.action(), Action::FixCall);
    }
    let itself = group("billing").dead_letter("orders").blocking_join();
    assert!(matches!(itself, Err(GroupError::DeadLetterOfItself { .. })));
    assert!(engine.groups().unwrap().is_empty(), "nothing was made");
}

#[test]
fn times_are_at_most_twelve_hours() {
    let engine = with_orders(&World::new(), 2);
    let (most, more) = (Duration::from_secs(43_200), ms(43_200_001));
    let too_long = |what: &str, result: Result<(), GroupError>| match result.unwrap_err() {
        GroupError::TooLong {
            what: found,
            asked_ms: 43_200_001,
            limit_ms: 43_200_000,
        } => assert_eq!(found, what),
        other => panic!("{other}"),
    };
    let group = engine.group("billing").topic("orders");
    too_long(
        "session timeout",
        group.session_timeout(more).blocking_join().map(drop),
    );
    let member = join(&engine);
    too_long("visibility", member.poll_now(1, more).map(drop));
    let delivery = member.poll_now(1, most).unwrap().pop().unwrap();
    too_long("visibility", delivery.extend(more));
    delivery.extend(most).unwrap();
    let receipt = delivery.receipt().clone();
    too_long("delay", delivery.nack(more));
    member.nack(&receipt, most).unwrap();
}

#[test]
fn a_closed_engine_says_so() {
    let engine = with_orders(&World::new(), 2);
    let member = join(&engine);
    let delivery = poll(&member, 1).pop().unwrap();
    engine.close().unwrap();
    assert!(matches!(delivery.blocking_ack(), Err(GroupError::Closed)));
    assert!(matches!(member.poll_now(1, LONG), Err(GroupError::Closed)));
    assert!(matches!(engine.groups(), Err(GroupError::Closed)));
    let joined = engine.group("billing").topic("orders").blocking_join();
    assert!(matches!(joined, Err(GroupError::Closed)));
}

fn journal_bytes(engine: &Engine) -> u64 {
    let topic = engine.topic("__groups").unwrap();
    topic.describe().partitions[0].size_bytes
}

#[test]
fn the_groups_log_stays_short_however_much_is_acknowledged() {
    let world = World::new();
    let engine = with_orders(&world, 0);
    for thousand in 0..100 {
        put(&engine, 0, thousand * 1_000..(thousand + 1) * 1_000);
    }
    let member = join(&engine);
    let (mut acked, mut most) = (0, 0);
    while acked < 100_000 {
        let deliveries = poll(&member, 100);
        if deliveries.is_empty() {
            settle(&engine);
        }
        for delivery in deliveries {
            delivery.blocking_ack().unwrap();
            acked += 1;
        }
        world.clock.advance(100);
        engine.look_at_clock();
        settle(&engine);
        most = most.max(journal_bytes(&engine));
    }
    assert!(most < 12 << 20, "{most} bytes");
    let start = engine.topic("__groups").unwrap().describe();
    assert!(start.partitions[0].log_start_offset > 50_000);
    drop(member);
    engine.close().unwrap();
    let engine = open(&world);
    assert_eq!(described(&engine).position, Some(100_000));
    let member = join(&engine);
    assert!(poll(&member, 9).is_empty());
}

#[test]
fn a_thousand_groups_are_there_again() {
    let world = World::new();
    let engine = with_orders(&world, 3);
    let members: Vec<_> = (0..1_000)
        .map(|n| {
            let group = engine.group(&format!("group-{n}")).topic("orders");
            let member = group.blocking_join().unwrap();
            let mut deliveries = poll(&member, 1 + n % 3);
            deliveries.pop().unwrap().blocking_ack().unwrap();
            member
        })
        .collect();
    engine.close().unwrap();
    drop(members);
    let engine = open(&world);
    let groups = engine.groups().unwrap();
    assert_eq!(groups.len(), 1_000);
    for group in groups {
        let number: usize = group.group["group-".len()..].parse().unwrap();
        let about = &group.partitions[0];
        let position = if number.is_multiple_of(3) { 1 } else { 0 };
        assert_eq!(
            (about.position, about.in_flight),
            (Some(position), number % 3),
            "{number}"
        );
    }
}

#[test]
fn the_names_in_retention_consumed_by_are_checked() {
    let mut config = TopicConfig::default();
    for wrong in ["a/b", "a,,b", "a,.."] {
        let error = config.set("retention.consumed.by", wrong).unwrap_err();
        assert!(error.to_string().contains("names of groups"), "{error}");
    }
    config.set("retention.consumed.by", "a, b,a").unwrap();
    assert_eq!(config.consumed_by(), ["a", "b"]);
    config.set("retention.consumed.by", "").unwrap();
    assert!(config.consumed_by().is_empty());
}
