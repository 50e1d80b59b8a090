//! A crash at every point of what a store does (48, 49, 50, 73): what was answered stays, what was not is there whole or not at all.

use std::time::Duration;

use bytes::Bytes;
use consumer_inbox::conformance::Random;
use consumer_inbox::{
    Admission, BizId, ClaimRequest, DedupKey, DedupStore, Delivery, EmbeddedInbox, EmbeddedStore,
    Fingerprint, Horizon, Inbox, Outgoing, Part, Position, Prior, Scope, Settlement,
};
use log_engine::ManualClock;
use oncelog::testing::{Crash, Kept, SimulatedDisk, Trace};

use crate::fixture::{drive, engine, small};

const LEASE: Duration = Duration::from_secs(600);
const IDS: u64 = 40;

/// Disks that a crash here may leave: nothing of what was not synced, all of it, and random parts of it, torn pages too.
fn images(crash: &Crash<'_>, random: &mut Random) -> Vec<SimulatedDisk> {
    let mut images = vec![
        crash.image(|_| Kept::Lost),
        crash.image(|_| Kept::Whole),
        crash.killed(),
    ];
    for _ in 0..2 {
        let kept: Vec<Kept> = (0..crash.unsynced())
            .map(|item| match random.below(3) {
                0 => Kept::Lost,
                1 => Kept::Whole,
                _ => Kept::first(
                    crash.sectors(item),
                    usize::try_from(random.below(8)).unwrap(),
                ),
            })
            .collect();
        images.push(crash.image(|item| kept[item]));
    }
    images
}

fn each_crash(trace: &Trace, mut check: impl FnMut(&SimulatedDisk, usize)) -> usize {
    let mut random = Random::new(1);
    let mut crash = trace.crash_at_start();
    let mut checked = 0;
    loop {
        for image in images(&crash, &mut random) {
            check(&image, crash.position());
            checked += 1;
        }
        if !crash.advance() {
            return checked;
        }
    }
}

fn scope() -> Scope {
    Scope::new("billing", "orders")
}

fn key(n: u64) -> DedupKey {
    DedupKey::new(scope(), BizId::new(format!("order {n}")).unwrap())
}

fn claim(key: &DedupKey, n: u64, owner: u128) -> ClaimRequest<'_> {
    ClaimRequest {
        origin_ms: Some(1_000 + n),
        position: Some(Position {
            topic: "orders",
            partition: 0,
            offset: n,
        }),
        ..ClaimRequest::new(key, owner, Fingerprint::of(b"body"), LEASE)
    }
}

/// What was answered when so much of the trace was done.
#[derive(Debug, Clone, Copy)]
enum Told {
    Done(u64),
    /// Being swept from here on.
    Sweeps,
    Swept,
}

#[test]
fn case_50_done_ids_stay_done_through_cleaning_sweeping_and_snapshots() {
    let (disk, clock) = (SimulatedDisk::new(1), ManualClock::at(1_000_000));
    let running = engine(&disk, &clock);
    let store = EmbeddedStore::open_with(&running, "ids", small()).unwrap();
    disk.record();
    let mut told = Vec::new();
    drive(&running, async {
        let busy = key(IDS);
        assert!(matches!(
            store.claim(claim(&busy, IDS, 9)).await.unwrap(),
            Admission::Run(_)
        ));
        for n in 0..IDS {
            let key = key(n);
            // Released a few times: what was before is dead, and cleaned.
            for owner in 0..4 {
                let held = store.claim(claim(&key, n, owner)).await.unwrap();
                let held = held.granted().unwrap();
                let result = Bytes::from(n.to_string());
                let how = match owner {
                    3 => Settlement::Done(Some(result)),
                    _ => Settlement::Released,
                };
                store.settle(&held, how).await.unwrap();
            }
            told.push((disk.recorded(), Told::Done(n)));
        }
        store.tidy().await.unwrap();
        store.snapshot().await.unwrap();
        assert!(store.counts().records < 4 * IDS, "{:?}", store.counts());
        clock.advance(1_000);
        told.push((disk.recorded(), Told::Sweeps));
        let below = Horizon {
            scope: scope(),
            log_starts: [(("orders".into(), 0), IDS / 2)].into(),
            republish_window: Duration::from_millis(10),
            origin_before_ms: u64::MAX,
            parked_longer_than: None,
        };
        let swept = store.sweep(&below, usize::MAX).await.unwrap();
        assert_eq!(swept, 20);
        told.push((disk.recorded(), Told::Swept));
        store.snapshot().await.unwrap();
    });
    drop(store);
    let trace = disk.take_trace().unwrap();
    let mut moved = 0;
    let checked = each_crash(&trace, |image, position| {
        let known = told.iter().filter(|(at, _)| *at <= position);
        let known: Vec<Told> = known.map(|(_, told)| *told).collect();
        let sweeps = known.iter().any(|t| matches!(t, Told::Sweeps));
        let swept = known.iter().any(|t| matches!(t, Told::Swept));
        let opened = engine(image, &clock);
        let store = EmbeddedStore::open_with(&opened, "ids", small()).unwrap();
        let counts = store.counts();
        moved += usize::from(counts.records < 8 * IDS && known.len() as u64 == IDS);
        drive(&opened, async {
            for told in &known {
                let Told::Done(n) = told else { continue };
                let key = key(*n);
                let answer = store.claim(claim(&key, *n, 77)).await.unwrap();
                let result = Some(Bytes::from(n.to_string()));
                match &answer {
                    Admission::Done(receipt) if !(swept && *n < 20) => {
                        assert_eq!(receipt.result, result, "{n} at {position}");
                    }
                    Admission::Expired => assert!(sweeps && *n < 20, "{n} at {position}"),
                    other => panic!("order {n} at {position}: {other:?}, {counts:?}"),
                }
            }
            if !known.is_empty() {
                let key = key(IDS);
                let held = store.claim(claim(&key, IDS, 10)).await.unwrap();
                let held = held.granted().unwrap();
                assert_eq!((held.attempt, held.prior), (2, Prior::Crashed));
            }
        });
    });
    println!("case 50 embedded: ok, {checked} disks, {moved} of them cleaned");
    assert!(
        moved > 100,
        "{moved} of {checked} disks have a log that was cleaned"
    );
}

fn order(n: u64) -> Delivery {
    let at = Position {
        topic: "orders",
        partition: 0,
        offset: n,
    };
    Delivery::foreign("billing", at, &format!("order {n}"), &b"body"[..]).unwrap()
}

fn invoice(n: u64, line: u64) -> Outgoing {
    Outgoing {
        topic: "invoices".into(),
        key: Some(Bytes::from(format!("order {n}"))),
        value: Some(Bytes::from(format!("line {line} {}", "x".repeat(700)))),
        headers: vec![("line".into(), Some(Bytes::from(line.to_string())))],
    }
}

#[test]
fn case_48_a_transaction_is_there_whole_or_not_at_all() {
    const ORDERS: u64 = 12;
    let (disk, clock) = (SimulatedDisk::new(2), ManualClock::at(1_000_000));
    let running = engine(&disk, &clock);
    let inbox = EmbeddedInbox::open_with(&running, "inbox", small()).unwrap();
    let part = Part::new("billing", "orders", 0);
    disk.record();
    let mut told = vec![];
    drive(&running, async {
        inbox.assign(&part, 1).await.unwrap();
        for n in 0..ORDERS {
            let order = order(n);
            let mut tx = inbox.begin(&part, 1).await.unwrap();
            assert_eq!(
                inbox.admit(&mut tx, &order).await.unwrap(),
                Admission::Run(())
            );
            for line in 0..3 {
                tx.emit(invoice(n, line));
            }
            let done = Settlement::Done(None);
            inbox.settle(&mut tx, &order, done).await.unwrap();
            inbox.commit(tx, n + 1).await.unwrap();
            told.push(disk.recorded());
        }
    });
    drop(inbox);
    let trace = disk.take_trace().unwrap();
    let mut torn = 0;
    let checked = each_crash(&trace, |image, position| {
        let least = told.iter().filter(|at| **at <= position).count() as u64;
        let opened = engine(image, &clock);
        let inbox = EmbeddedInbox::open_with(&opened, "inbox", small()).unwrap();
        drive(&opened, async {
            let next = inbox.assign(&part, 2).await.unwrap().unwrap_or(0);
            assert!((least..=least + 1).contains(&next), "{next} at {position}");
            torn += usize::from(next == least && least < ORDERS);
            let out = inbox.outgoing(usize::MAX).await.unwrap();
            let out: Vec<Outgoing> = out.into_iter().map(|(_, record)| record).collect();
            let lines = (0..next).flat_map(|n| (0..3).map(move |line| invoice(n, line)));
            assert_eq!(out, lines.collect::<Vec<_>>(), "at {position}");
            for n in 0..ORDERS {
                // Published again, behind the position: the id alone tells.
                let again = Position {
                    topic: "orders",
                    partition: 0,
                    offset: 100 + n,
                };
                let id = format!("order {n}");
                let again = Delivery::foreign("billing", again, &id, &b"body"[..]).unwrap();
                let mut tx = inbox.begin(&part, 2).await.unwrap();
                let answer = inbox.admit(&mut tx, &again).await.unwrap();
                let is_done = matches!(answer, Admission::Done(_));
                assert_eq!(is_done, n < next, "order {n} at {position}: {answer:?}");
            }
        });
    });
    println!("case 48 embedded: ok, {checked} disks, {torn} of them without the last transaction");
    assert!(torn > 20 && torn < checked);
}
