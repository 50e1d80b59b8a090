//! Case 41, and what an inbox's rules say beyond the numbered cases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::inbox::{Tx, World, is_done};
use super::{InboxFixture, LONG, Outcome, SHORT};
use crate::admission::{Admission, Settlement};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::handler::{Handler, HandlerError};
use crate::identity::{Fingerprint, Part};
use crate::inbox::{Inbox, Outgoing};
use crate::process::{ParkReason, ProcessError, Processed};

fn letter(name: &str) -> Outgoing {
    Outgoing {
        topic: "orders.dlq".into(),
        key: Some(Bytes::from(name.to_owned())),
        value: None,
        headers: vec![
            ("biz-id".into(), Some(Bytes::from_static(b"\0\xff"))),
            ("none".into(), None),
        ],
    }
}

async fn parked<F: InboxFixture>(w: &World<'_, F>, delivery: &Delivery, next: u64) {
    let mut tx = w.begin(delivery.epoch()).await;
    w.work(&mut tx, delivery).await;
    w.settle(&mut tx, delivery, Settlement::Parked).await;
    w.commit(tx, next).await;
}

/// Given a record that exhausts its attempts, then dead letter, mark and position commit together, or not at all (E8).
pub async fn case_41<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let x = w.delivery("x", 5);
    for commits in [false, true] {
        let mut tx = w.begin(1).await;
        w.work(&mut tx, &x).await;
        w.settle(&mut tx, &x, Settlement::Parked).await;
        f.inbox().emit(&mut tx, letter("x")).await.unwrap();
        match commits {
            true => w.commit(tx, 6).await,
            false => drop(tx),
        }
        if f.is_durable() {
            f.reopen().await;
        }
        let letters = f.inbox().outgoing(10).await.unwrap();
        assert_eq!(letters.len(), usize::from(commits));
        assert_eq!(w.assign(1).await, commits.then_some(6));
    }
    let letters = f.inbox().outgoing(10).await.unwrap();
    assert_eq!(letters[0].1, letter("x"));
    assert_eq!(w.asked(&w.delivery("x", 9), 1).await, Admission::Parked);
    assert_eq!(w.count("x").await, 0);
    Outcome::Ok
}

/// What is parked leaves no effect, is done again only by a re-drive, and stays parked until that succeeds.
pub async fn inbox_parked<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    parked(&w, &w.delivery("x", 5), 6).await;
    assert_eq!(w.count("x").await, 0);
    assert_eq!(w.asked(&w.delivery("x", 7), 1).await, Admission::Parked);
    let again = w.delivery("x", 8).redriven();
    for how in [
        Settlement::Released,
        Settlement::Parked,
        Settlement::Done(None),
    ] {
        assert_eq!(
            w.asked(&w.delivery("x", 7), 1).await,
            Admission::Parked,
            "{how:?}"
        );
        let mut tx = w.begin(1).await;
        w.work(&mut tx, &again).await;
        w.settle(&mut tx, &again, how).await;
        w.commit(tx, 0).await;
    }
    is_done(&w.asked(&again, 1).await);
    is_done(&w.asked(&w.delivery("x", 7), 1).await);
    assert_eq!(w.count("x").await, 1);
    Outcome::Ok
}

/// Another payload under a used id is neither run nor dropped, done or parked (E6); scopes do not answer for each other.
pub async fn inbox_mismatch<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    w.done(&w.delivery("done", 5), 0).await;
    parked(&w, &w.delivery("parked", 6), 0).await;
    let stored = Fingerprint::of(b"payload");
    for id in ["done", "parked"] {
        let other = w.delivery(id, 7).fingerprint_of(b"other");
        assert_eq!(w.asked(&other, 1).await, Admission::Mismatch { stored });
        let other = other.redriven();
        assert_eq!(w.asked(&other, 1).await, Admission::Mismatch { stored });
        let elsewhere = w.delivery(id, 7).in_scenario(f.scope().scenario);
        assert_eq!(w.asked(&elsewhere, 1).await, Admission::Run(()));
    }
    Outcome::Ok
}

fn horizon<F: InboxFixture>(w: &World<'_, F>, log_start: u64) -> Horizon {
    Horizon {
        scope: w.scope.clone(),
        log_starts: BTreeMap::from([((w.part.topic.clone(), 0), log_start)]),
        republish_window: SHORT,
        origin_before_ms: u64::MAX,
        parked_longer_than: None,
    }
}

async fn sweep<F: InboxFixture>(f: &F, below: &Horizon) -> usize {
    f.inbox().sweep(below, 100).await.unwrap()
}

/// Ids are forgotten below the horizon, and then refused (E11).
pub async fn inbox_forgets<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let stored = |id, offset, ms| w.delivery(id, offset).stored_at(ms);
    w.done(&stored("x", 5, 1_000), 0).await;
    w.done(&stored("y", 9, 2_000), 0).await;
    parked(&w, &stored("parked", 4, 900), 0).await;
    let mut young = horizon(&w, 6);
    young.republish_window = LONG;
    assert_eq!(sweep(f, &young).await, 0);
    f.pass(SHORT + SHORT).await;
    assert_eq!(sweep(f, &horizon(&w, 5)).await, 0, "its record is there");
    let mut lagging = horizon(&w, 6);
    lagging.origin_before_ms = 1_000;
    assert_eq!(
        sweep(f, &lagging).await,
        0,
        "another partition is there yet"
    );
    assert_eq!(sweep(f, &horizon(&w, 6)).await, 1);
    assert_eq!(
        w.asked(&stored("x", 20, 1_000), 1).await,
        Admission::Expired
    );
    assert_eq!(
        w.asked(&stored("older", 20, 999), 1).await,
        Admission::Expired
    );
    assert_eq!(
        w.asked(&stored("newer", 20, 1_001), 1).await,
        Admission::Run(())
    );
    assert_eq!(
        w.asked(&w.delivery("unknown", 20), 1).await,
        Admission::Run(())
    );
    is_done(&w.asked(&stored("y", 20, 2_000), 1).await);
    assert_eq!(
        w.asked(&stored("parked", 20, 900), 1).await,
        Admission::Parked
    );
    if f.is_durable() {
        f.reopen().await;
        assert_eq!(
            w.asked(&stored("x", 20, 1_000), 1).await,
            Admission::Expired
        );
    }
    let mut letters_gone = horizon(&w, 6);
    letters_gone.parked_longer_than = Some(Duration::ZERO);
    assert_eq!(sweep(f, &letters_gone).await, 1);
    assert_eq!(
        w.asked(&stored("parked", 20, 900), 1).await,
        Admission::Expired
    );
    Outcome::Ok
}

/// An id stays as long as the newest record that carried it, if the transaction that saw that committed.
pub async fn inbox_newest<F: InboxFixture>(f: &F) -> Outcome {
    let w = World::new(f).await;
    let stored = |offset, ms| w.delivery("x", offset).stored_at(ms);
    w.done(&stored(5, 1_000), 0).await;
    for again in [stored(50, 2_000), stored(5, 1_000)] {
        let mut tx = w.begin(1).await;
        is_done(&w.admit(&mut tx, &again).await);
        w.commit(tx, 0).await;
    }
    f.pass(SHORT + SHORT).await;
    assert_eq!(sweep(f, &horizon(&w, 50)).await, 0);
    assert_eq!(sweep(f, &horizon(&w, 51)).await, 1);
    assert_eq!(w.asked(&stored(60, 2_000), 1).await, Admission::Expired);
    Outcome::Ok
}

/// Outgoing records commit with the effect, in order, and stay until they were forwarded.
pub async fn inbox_outgoing<F: InboxFixture>(f: &F) -> Outcome {
    let (w, inbox) = (World::new(f).await, f.inbox());
    let mut tx = w.begin(1).await;
    for (n, how) in [
        Settlement::Done(None),
        Settlement::Released,
        Settlement::Done(None),
    ]
    .into_iter()
    .enumerate()
    {
        let delivery = w.delivery(&n.to_string(), n as u64);
        w.work(&mut tx, &delivery).await;
        inbox
            .emit(&mut tx, letter(&format!("{n} a")))
            .await
            .unwrap();
        inbox
            .emit(&mut tx, letter(&format!("{n} b")))
            .await
            .unwrap();
        w.settle(&mut tx, &delivery, how).await;
    }
    assert_eq!(inbox.outgoing(10).await.unwrap(), []);
    w.commit(tx, 0).await;
    let names = ["0 a", "0 b", "2 a", "2 b"];
    let all = inbox.outgoing(10).await.unwrap();
    let records: Vec<_> = all.iter().map(|(_, record)| record.clone()).collect();
    assert_eq!(records, names.map(letter));
    let numbers: Vec<u64> = all.iter().map(|(number, _)| *number).collect();
    assert!(
        numbers.is_sorted_by(|a, b| a < b) && numbers[0] > 0,
        "{numbers:?}"
    );
    assert_eq!(inbox.outgoing(3).await.unwrap(), all[..3]);
    if f.is_durable() {
        f.reopen().await;
    }
    let inbox = f.inbox();
    assert_eq!(inbox.outgoing(10).await.unwrap(), all, "the same numbers");
    inbox.forwarded(numbers[1]).await.unwrap();
    inbox.forwarded(numbers[1]).await.unwrap();
    assert_eq!(inbox.outgoing(10).await.unwrap(), all[2..]);
    inbox.forwarded(numbers[3]).await.unwrap();
    if f.is_durable() {
        f.reopen().await;
    }
    let mut tx = w.begin(1).await;
    f.inbox().emit(&mut tx, letter("later")).await.unwrap();
    w.commit(tx, 0).await;
    let later = f.inbox().outgoing(10).await.unwrap();
    assert_eq!(later.len(), 1);
    assert!(
        later[0].0 > numbers[3],
        "numbers rise over forwarding: {later:?}"
    );
    Outcome::Ok
}

fn is_misuse<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Misuse(_))), "{answer:?}");
}

/// Calls out of order are refused, and nothing is committed that was not settled.
pub async fn inbox_misuse<F: InboxFixture>(f: &F) -> Outcome {
    let (w, inbox) = (World::new(f).await, f.inbox());
    let (x, y) = (w.delivery("x", 1), w.delivery("y", 2));
    let mut tx = w.begin(1).await;
    is_misuse(inbox.settle(&mut tx, &x, Settlement::Done(None)).await);
    w.work(&mut tx, &x).await;
    is_misuse(inbox.admit(&mut tx, &y).await);
    is_misuse(inbox.settle(&mut tx, &y, Settlement::Done(None)).await);
    is_misuse(inbox.commit(tx, 2).await);
    assert_eq!(w.count("x").await, 0);
    assert_eq!(w.assign(1).await, None);
    let other = Part::new(w.part.group.clone(), "other topic", 0);
    inbox.assign(&other, 1).await.unwrap();
    let mut tx = inbox.begin(&other, 1).await.unwrap();
    is_misuse(inbox.admit(&mut tx, &x).await);
    drop(tx);
    w.done(&x, 2).await;
    assert_eq!(w.count("x").await, 1);
    Outcome::Ok
}

/// Epochs rise alone; a transaction of another one than the stored one comes to nothing.
pub async fn inbox_epochs<F: InboxFixture>(f: &F) -> Outcome {
    let (w, inbox) = (World::new(f).await, f.inbox());
    w.assign(5).await;
    w.assign(5).await;
    let lower = inbox.assign(&w.part, 4).await;
    assert!(
        matches!(
            lower,
            Err(StoreError::Fenced {
                held: 4,
                current: 5
            })
        ),
        "{lower:?}"
    );
    if f.is_durable() {
        f.reopen().await;
    }
    let inbox = f.inbox();
    for (part, epoch, stored) in [
        (w.part.clone(), 4, 5),
        (w.part.clone(), 6, 5),
        (Part::new(w.part.group.clone(), "never assigned", 0), 1, 0),
    ] {
        let fenced = match inbox.begin(&part, epoch).await {
            Err(error) => Err(error),
            Ok(tx) => inbox.commit(tx, 1).await,
        };
        let same = matches!(fenced, Err(StoreError::Fenced { held, current }) if (held, current) == (epoch, stored));
        assert!(same, "{fenced:?}");
    }
    // Another group's partition of the same name is another one.
    let theirs = Part::new(f.scope().group, w.part.topic.clone(), 0);
    assert_eq!(inbox.assign(&theirs, 1).await.unwrap(), None);
    assert_eq!(w.assign(5).await, None);
    Outcome::Ok
}

struct Says {
    runs: Arc<AtomicU32>,
    answer: fn() -> Result<Option<Bytes>, HandlerError>,
}

impl<C: Send> Handler<C> for Says {
    async fn handle(&self, _: &mut C, _: &Delivery) -> Result<Option<Bytes>, HandlerError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        (self.answer)()
    }
}

async fn processed<F: InboxFixture>(
    f: &F,
    delivery: &Delivery,
    answer: fn() -> Result<Option<Bytes>, HandlerError>,
) -> (Result<Processed, ProcessError>, u32) {
    let runs = Arc::new(AtomicU32::new(0));
    let says = Says {
        runs: runs.clone(),
        answer,
    };
    let processed = Inbox::process(&*f.inbox(), delivery, &says).await;
    (processed, runs.load(Ordering::SeqCst))
}

/// One delivery at a time, for consumers of another log: every outcome.
pub async fn inbox_process<F: InboxFixture>(f: &F) -> Outcome {
    // Nobody assigned the partition: the first delivery does.
    let scope = f.scope();
    let part = Part::new(scope.group.clone(), "orders", 0);
    let w = World { f, scope, part };
    let x = w.delivery("x", 7);
    let later = Duration::from_secs(3);
    let (retry, runs) = processed(f, &x, || {
        let after = Some(Duration::from_secs(3));
        Err(HandlerError::Retry { after })
    })
    .await;
    assert_eq!(
        (retry.unwrap(), runs),
        (Processed::Busy { retry_after: later }, 1)
    );
    let (fatal, _) = processed(f, &x, || Err(HandlerError::Fatal("stop".into()))).await;
    assert!(matches!(fatal, Err(ProcessError::Fatal(_))), "{fatal:?}");
    let (done, runs) = processed(f, &x, || Ok(None)).await;
    assert_eq!((done.unwrap(), runs), (Processed::Done, 1));
    // A lower offset than one that is done was not done with it.
    for (again, expected) in [
        (w.delivery("x", 9), Processed::Duplicate),
        (w.delivery("y", 6), Processed::Done),
    ] {
        let (is, runs) = processed(f, &again, || Ok(None)).await;
        assert_eq!(runs, u32::from(expected == Processed::Done));
        assert_eq!(is.unwrap(), expected);
    }
    let rejects = || Err(HandlerError::Reject("no such customer".into()));
    let z = w.delivery("z", 8);
    let reason = ParkReason::Rejected("no such customer".into());
    for (reason, runs) in [(reason, 1), (ParkReason::Before, 0)] {
        let (is, ran) = processed(f, &z, rejects).await;
        assert_eq!((is.unwrap(), ran), (Processed::Parked { reason }, runs));
    }
    let other = w.delivery("x", 10).fingerprint_of(b"other");
    let (is, runs) = processed(f, &other, rejects).await;
    let stored = Fingerprint::of(b"payload");
    let reason = ParkReason::Mismatch { stored };
    assert_eq!((is.unwrap(), runs), (Processed::Parked { reason }, 0));
    // A later generation fences an earlier one.
    let (is, _) = processed(f, &w.delivery("a", 11).at_epoch(2), || Ok(None)).await;
    assert_eq!(is.unwrap(), Processed::Done);
    let (is, _) = processed(f, &w.delivery("b", 11), || Ok(None)).await;
    assert!(
        matches!(
            is,
            Err(ProcessError::Store(StoreError::Fenced {
                held: 1,
                current: 2
            }))
        ),
        "{is:?}"
    );
    Outcome::Ok
}

/// A transaction that was told `Parked` does not undo a re-drive that commits before it.
pub async fn inbox_stale_duplicate<F: InboxFixture>(f: &F) -> Outcome {
    if !f.side_by_side() {
        return Outcome::NotApplicable("it has one transaction at a time");
    }
    let w = World::new(f).await;
    let stored = |offset, ms| w.delivery("x", offset).stored_at(ms);
    parked(&w, &stored(5, 1_000), 0).await;
    let mut slow: Tx<F> = w.begin(1).await;
    let mut quick = w.begin(1).await;
    let again = stored(6, 1_000).redriven();
    w.work(&mut quick, &again).await;
    w.settle(&mut quick, &again, Settlement::Done(None)).await;
    let stale = match f.waits() {
        true => None,
        false => Some(w.admit(&mut slow, &stored(7, 2_000)).await),
    };
    w.commit(quick, 0).await;
    if let Some(stale) = stale {
        let expected = matches!(stale, Admission::Parked | Admission::Busy { .. });
        assert!(expected, "{stale:?}");
    }
    w.commit(slow, 0).await;
    is_done(&w.asked(&stored(8, 1_000), 1).await);
    assert_eq!(w.count("x").await, 1);
    Outcome::Ok
}
