//! What is refused before anything runs.

use std::time::Duration;

use consumer_inbox::{BuildError, ClaimCx, Consumer, Delivery, Policy, Retry};

use crate::fixture::{Act, engine, memory, retry};

#[test]
fn a_consumer_is_refused_that_would_break_its_promise() {
    let engine = engine();
    let group = || engine.group("billing").topic("orders");
    let build = |lease, renew_every| {
        let handler = Act(|_: ClaimCx, _: Delivery| async { Ok(()) });
        let policy = Policy::Lease { lease, renew_every };
        Consumer::claimed(group(), memory(), policy, handler)
            .visibility(Duration::from_secs(10))
            .margin(Duration::from_secs(1))
    };
    let seconds = Duration::from_secs;
    let refused = build(seconds(11), seconds(5)).build().err();
    assert_eq!(refused, Some(BuildError::NoDeadLetter));
    let short = build(seconds(10), seconds(5))
        .no_dead_letter()
        .build()
        .err();
    let (lease_ms, least_ms) = (10_000, 11_000);
    assert_eq!(short, Some(BuildError::ShortLease { lease_ms, least_ms }));
    let rare = build(seconds(20), seconds(6))
        .no_dead_letter()
        .build()
        .err();
    let (every_ms, of_ms) = (6_000, 10_000);
    assert_eq!(rare, Some(BuildError::RareRenewal { every_ms, of_ms }));
    let none = build(seconds(11), seconds(5)).dead_letter("orders.dlq");
    let none = none.retry(Retry { ..retry(0) }).build().err();
    let what = "retry.attempts";
    assert_eq!(none, Some(BuildError::Zero { what }));
    assert!(
        build(seconds(11), seconds(5))
            .no_dead_letter()
            .build()
            .is_ok()
    );
}
