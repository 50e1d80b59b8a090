//! Neither the log nor its snapshots nor memory grow but with what is alive.

use std::time::Duration;

use consumer_inbox::{
    Admission, BizId, ClaimRequest, DedupKey, DedupStore, EmbeddedInbox, EmbeddedSettings,
    EmbeddedStore, Fingerprint, Horizon, Inbox, Part, Position, Scope, Settlement, StoreError,
};
use log_engine::ManualClock;
use log_engine::storage::Disk;
use oncelog::testing::SimulatedDisk;

use crate::fixture::{drive, engine, small};

fn key(n: u64) -> DedupKey {
    DedupKey::new(
        Scope::new("billing", "orders"),
        BizId::new(format!("order {n}")).unwrap(),
    )
}

async fn settled(store: &EmbeddedStore, n: u64, how: Settlement) {
    let key = key(n);
    let request = ClaimRequest {
        origin_ms: Some(1_000 + n),
        position: Some(Position {
            topic: "orders",
            partition: 0,
            offset: n,
        }),
        ..ClaimRequest::new(&key, 1, Fingerprint::of(b"body"), Duration::from_secs(600))
    };
    let held = store.claim(request).await.unwrap().granted().unwrap();
    store.settle(&held, how).await.unwrap();
}

#[test]
fn a_log_is_cleaned_in_passing() {
    let (disk, clock) = (SimulatedDisk::new(1), ManualClock::at(1_000_000));
    let running = engine(&disk, &clock);
    let store = EmbeddedStore::open_with(&running, "ids", small()).unwrap();
    drive(&running, async {
        for n in 0..10 {
            settled(&store, n, Settlement::Done(None)).await;
        }
        // One id is tried again and again; nobody sweeps or tidies.
        for _ in 0..10_000 {
            settled(&store, 10, Settlement::Released).await;
        }
    });
    let counts = store.counts();
    assert_eq!(counts.ids, 11);
    // What a file of 64 KiB holds is not given back before that is full.
    assert!(counts.records < 2_000, "{counts:?}");
    let opened = engine(&disk.kill(), &clock);
    let store = EmbeddedStore::open_with(&opened, "ids", small()).unwrap();
    drive(&opened, async {
        for n in 0..10 {
            assert!(store.peek(&key(n)).await.unwrap().is_some(), "{n}");
        }
        let key = key(10);
        let request = ClaimRequest::new(&key, 2, Fingerprint::of(b"body"), Duration::ZERO);
        let Admission::Run(held) = store.claim(request).await.unwrap() else {
            panic!("it was released");
        };
        assert_eq!(held.attempt, 10_001);
    });
}

#[test]
fn swept_ids_leave_nothing() {
    let (disk, clock) = (SimulatedDisk::new(2), ManualClock::at(1_000_000));
    let running = engine(&disk, &clock);
    let store = EmbeddedStore::open_with(&running, "ids", small()).unwrap();
    drive(&running, async {
        let mut all = 0;
        for round in 0..20 {
            for n in round * 100..(round + 1) * 100 {
                settled(&store, n, Settlement::Done(None)).await;
            }
            clock.advance(1_000);
            let below = Horizon {
                scope: Scope::new("billing", "orders"),
                log_starts: [(("orders".into(), 0), u64::MAX)].into(),
                republish_window: Duration::from_millis(10),
                origin_before_ms: u64::MAX,
                parked_longer_than: None,
            };
            // In several calls, each of which goes on where the one before stopped.
            for left in [70, 30, 0] {
                let swept = store.sweep(&below, 70).await.unwrap();
                assert_eq!(swept, left.min(70));
                all += swept;
            }
            let counts = store.counts();
            assert_eq!(counts.ids, 0);
            assert!(counts.records < 600, "round {round}: {counts:?}");
        }
        assert_eq!(all, 2_000);
    });
    let opened = engine(&disk.kill(), &clock);
    let store = EmbeddedStore::open_with(&opened, "ids", small()).unwrap();
    let snapshots = opened.topic("__ids-ids").unwrap().describe();
    let bytes: u64 = snapshots.partitions.iter().map(|p| p.size_bytes).sum();
    assert!(bytes < 400_000, "{snapshots:?}");
    drive(&opened, async {
        let key = key(1_999);
        let request = ClaimRequest {
            origin_ms: Some(2_999),
            ..ClaimRequest::new(&key, 2, Fingerprint::of(b"body"), Duration::ZERO)
        };
        assert_eq!(store.claim(request).await.unwrap(), Admission::Expired);
    });
}

/// What is read at an opening is the snapshot and what follows it: without the rest the answers are the same.
#[test]
fn a_snapshot_and_what_follows_it_are_the_whole_log() {
    let (disk, clock) = (SimulatedDisk::new(3), ManualClock::at(1_000_000));
    let running = engine(&disk, &clock);
    let settings = EmbeddedSettings {
        clean_above: u64::MAX / 8,
        snapshot_after: u64::MAX / 8,
        ..small()
    };
    let store = EmbeddedStore::open_with(&running, "ids", settings.clone()).unwrap();
    let without = {
        drive(&running, async {
            for n in 0..300 {
                settled(&store, n, Settlement::Done(None)).await;
            }
        });
        disk.kill()
    };
    drive(&running, async {
        for n in 300..310 {
            settled(&store, n, Settlement::Done(None)).await;
        }
        assert!(store.snapshot().await.unwrap());
        for n in 310..320 {
            settled(&store, n, Settlement::Done(None)).await;
        }
    });
    let with = disk.kill();
    // As a backup may have it that copied the snapshots later than the log.
    let ahead = disk.kill();
    for file in ahead.list("__ids-ids-0").unwrap() {
        ahead.remove(&format!("__ids-ids-0/{}", file.name)).unwrap();
    }
    for file in without.list("__ids-ids-0").unwrap() {
        let name = format!("__ids-ids-0/{}", file.name);
        let bytes = without.read_file(&name).unwrap();
        ahead.write_file(&name, &bytes).unwrap();
    }
    for (disk, ids) in [(without, 300), (with, 320), (ahead, 300)] {
        let opened = engine(&disk, &clock);
        let store = EmbeddedStore::open_with(&opened, "ids", settings.clone()).unwrap();
        assert_eq!(store.counts().ids, ids);
        drive(&opened, async {
            for n in 0..ids as u64 {
                assert!(store.peek(&key(n)).await.unwrap().is_some(), "{n}");
            }
        });
    }
}

/// The last words on floors and owners, and on what is forgotten, outlive the records that said so.
#[test]
fn what_cleaning_deletes_is_not_missed() {
    for with_snapshot in [false, true] {
        let (disk, clock) = (SimulatedDisk::new(4), ManualClock::at(1_000_000));
        let running = engine(&disk, &clock);
        let settings = EmbeddedSettings {
            snapshot_after: u64::MAX / 8,
            ..small()
        };
        let store = EmbeddedStore::open_with(&running, "ids", settings.clone()).unwrap();
        let inbox = EmbeddedInbox::open(&running, "ids").unwrap();
        let part = Part::new("billing", "orders", 0);
        drive(&running, async {
            inbox.assign(&part, 3).await.unwrap();
            for n in 0..30 {
                settled(&store, n, Settlement::Done(None)).await;
            }
            if with_snapshot {
                store.snapshot().await.unwrap();
            }
            clock.advance(1_000);
            let below = Horizon {
                scope: Scope::new("billing", "orders"),
                log_starts: [(("orders".into(), 0), 30)].into(),
                republish_window: Duration::from_millis(10),
                origin_before_ms: u64::MAX,
                parked_longer_than: None,
            };
            assert_eq!(store.sweep(&below, 100).await.unwrap(), 30);
            for _ in 0..400 {
                settled(&store, 30, Settlement::Released).await;
            }
            store.tidy().await.unwrap();
        });
        assert!(store.counts().records < 100, "{:?}", store.counts());
        let opened = engine(&disk.power_cut(1), &clock);
        let store = EmbeddedStore::open_with(&opened, "ids", settings).unwrap();
        let inbox = EmbeddedInbox::open(&opened, "ids").unwrap();
        assert_eq!(store.counts().ids, 1, "{with_snapshot}");
        drive(&opened, async {
            let key = key(29);
            let request = ClaimRequest {
                origin_ms: Some(1_029),
                ..ClaimRequest::new(&key, 2, Fingerprint::of(b"body"), Duration::ZERO)
            };
            assert_eq!(store.claim(request).await.unwrap(), Admission::Expired);
            let fenced = inbox.assign(&part, 2).await;
            assert!(
                matches!(fenced, Err(StoreError::Fenced { current: 3, .. })),
                "{fenced:?}"
            );
        });
    }
}
