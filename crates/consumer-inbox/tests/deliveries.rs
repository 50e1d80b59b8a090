//! Deliveries of the engine's groups.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use consumer_inbox::{Delivery, Fingerprint, IdError, IdPolicy, Position};
use log_engine::{Engine, Record};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn a_groups_delivery_carries_all_that_a_store_needs() {
    let engine = Engine::in_memory();
    engine.ensure_topic("orders", 1).unwrap();
    let session = engine.session().unwrap();
    let mut appender = session.appender("orders", 0).unwrap();
    let first = Record::new().key("k").value("body").biz_id("A-1");
    let first = first.scenario("create-order").header("trace", Some(b"7"));
    appender
        .blocking_append(&[first, Record::new().key("k")])
        .unwrap();

    let member = engine
        .group("billing")
        .topic("orders")
        .blocking_join()
        .unwrap();
    let deliveries = member.poll_now(10, LONG).unwrap();
    let [first, second] = &*deliveries else {
        panic!("{deliveries:?}")
    };
    let is = Delivery::of_group("billing", first, IdPolicy::Fail).unwrap();
    assert_eq!(
        (is.biz_id_str().unwrap(), is.scenario()),
        ("A-1", "create-order")
    );
    let position = Position {
        topic: "orders",
        partition: 0,
        offset: 0,
    };
    assert_eq!(is.position(), position);
    assert_eq!(&*is.dedup_key().scope.group, "billing");
    assert_eq!(is.payload(), b"body");
    assert_eq!(is.fingerprint(), Fingerprint::of(b"body"));
    assert_eq!(is.ordering_key().unwrap(), "k");
    assert_eq!(is.header("trace").unwrap(), "7");
    assert_eq!((is.epoch(), is.deliveries()), (first.receipt().epoch, 1));
    assert_eq!(
        is.origin_ms().map(u64::cast_signed),
        Some(first.origin_ms())
    );
    assert!(is.epoch() > 0 && !is.is_redrive());

    let refused = Delivery::of_group("billing", second, IdPolicy::Park).unwrap_err();
    assert!(
        matches!(refused, IdError::Missing { offset: 1, .. }),
        "{refused}"
    );
    let is = Delivery::of_group("billing", second, IdPolicy::UsePosition).unwrap();
    assert_eq!((is.biz_id(), is.scenario()), (None, "orders"));
    assert!(is.dedup_key().id.is_position());
    assert_eq!(is.fingerprint(), Fingerprint::TOMBSTONE);
}
