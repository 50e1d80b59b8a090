//! `groups` and `dead-letters`, of what a program did.

use std::time::Duration;

use oncelog::{Engine, Record};
use serde_json::Value;

use crate::harness::{Place, has_fields};

const LONG: Duration = Duration::from_secs(60);

/// Of five orders, group `billing` acknowledged the first, parked the second and has the third.
fn consumed() -> Place {
    let place = Place::new();
    let engine = Engine::open(place.path().join("oncelog-data")).unwrap();
    engine.ensure_topic("orders", 1).unwrap();
    let producer = engine.producer().open().unwrap();
    for number in 0..5 {
        let (value, id) = (number.to_string(), format!("A-{number}"));
        let record = Record::to("orders").value(&value).biz_id(&id);
        producer.blocking_append(record).unwrap();
    }
    let group = engine.group("billing").topic("orders");
    let member = group.dead_letter("orders.dlq").blocking_join().unwrap();
    let mut deliveries = member.blocking_poll(3, LONG).unwrap().into_iter();
    deliveries.next().unwrap().blocking_ack().unwrap();
    let parked = deliveries.next().unwrap();
    parked
        .blocking_park("rejected", "no such customer")
        .unwrap();
    engine.close().unwrap();
    place
}

fn lines(place: &Place, args: &[&str]) -> Vec<Value> {
    place.run(args).code(0).json_lines()
}

#[test]
fn groups_are_shown_with_position_lag_and_what_is_in_flight() {
    let place = consumed();
    let shown = lines(&place, &["groups", "--json"]);
    assert_eq!(shown.len(), 1);
    let fields = [
        "group",
        "topic",
        "partition",
        "position",
        "lag",
        "in_flight",
        "member",
        "epoch",
    ];
    has_fields(&shown[0], &fields);
    assert_eq!(shown[0]["group"], "billing");
    assert_eq!(
        [
            &shown[0]["position"],
            &shown[0]["end"],
            &shown[0]["lag"],
            &shown[0]["in_flight"]
        ],
        [2, 5, 3, 1]
    );
    assert_eq!(lines(&place, &["groups", "billing", "--json"]), shown);
    let text = place.run(&["groups"]).code(0).text().to_owned();
    assert!(
        text.contains("billing") && text.contains("orders"),
        "{text}"
    );
    let missing = place.run(&["groups", "shipping"]).code(1);
    assert!(
        missing.stderr.contains("no group shipping"),
        "{}",
        missing.stderr
    );
}

#[test]
fn dead_letters_are_listed_and_sent_again_once() {
    let place = consumed();
    let list = ["dead-letters", "list", "orders.dlq", "--json"];
    let listed = lines(&place, &list);
    assert_eq!(listed.len(), 1);
    let fields = [
        "topic",
        "partition",
        "offset",
        "biz_id",
        "reason",
        "attempts",
    ];
    has_fields(&listed[0], &fields);
    let letter = &listed[0];
    assert_eq!(
        (&letter["topic"], &letter["biz_id"]),
        (&"orders".into(), &"A-1".into())
    );
    assert_eq!(letter["reason"], "rejected");
    assert_eq!(
        [&letter["partition"], &letter["offset"], &letter["attempts"]],
        [0, 1, 1]
    );

    let text = place.run(&["dead-letters", "list", "orders.dlq"]).code(0);
    assert!(text.text().contains("no such customer"));
    let redrive = ["dead-letters", "redrive", "orders.dlq"];
    let sent = place.run(&redrive).code(0).text().to_owned();
    assert!(sent.contains("sent 1 dead letter again"), "{sent}");
    let sent = place.run(&redrive).code(0).text().to_owned();
    assert!(sent.contains("sent 0 dead letters again"), "{sent}");
    assert!(lines(&place, &list).is_empty());
    let consumed = lines(&place, &["consume", "orders", "--format", "json"]);
    assert_eq!(consumed.len(), 6);
    assert_eq!(
        (&consumed[5]["biz_id"], &consumed[5]["value"]),
        (&"A-1".into(), &"1".into())
    );
    place.run(&["dead-letters", "list", "nothing"]).code(1);
}

#[test]
fn a_topic_shows_what_is_consumed_and_held_and_the_groups_topic_is_not_listed() {
    let place = consumed();
    let data = place.path().join("oncelog-data");
    let engine = Engine::open(&data).unwrap();
    let hold = engine.group("mirror").blocking_hold("orders", 0, Some(4));
    hold.unwrap();
    engine.close().unwrap();
    let about = place.run(&["topic", "describe", "orders", "--json"]);
    let about = about.code(0).json();
    assert_eq!(about["partitions"][0]["held_from"], 4);
    assert_eq!(about["partitions"][0]["consumed_to"], Value::Null);
    let list = place.run(&["topic", "list", "--json"]).code(0).json();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert_eq!(names, ["orders", "orders.dlq"]);
    place.run(&["topic", "describe", "__groups"]).code(0);
    for args in [
        &["topic", "create", "__groups"][..],
        &["topic", "delete", "__groups"],
    ] {
        let refused = place.run(args).code(2);
        assert!(refused.stderr.contains("own topic"), "{}", refused.stderr);
    }
    place.run(&["verify"]).code(0);
    let created = place.run(&[
        "topic",
        "create",
        "b",
        "--config",
        "retention.consumed.by=billing",
    ]);
    created.code(0);
}
