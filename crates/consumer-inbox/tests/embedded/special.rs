//! What only a store in the log has.

use std::time::Duration;

use consumer_inbox::{
    Admission, BizId, ClaimRequest, DedupKey, DedupStore, EmbeddedError, EmbeddedInbox,
    EmbeddedSettings, EmbeddedStore, Fingerprint, Held, Inbox, Part, Prior, Scope, Settlement,
    StoreError,
};
use log_engine::{Engine, ManualClock, TopicError};
use oncelog::testing::SimulatedDisk;

use crate::fixture::{drive, engine, small};

const LEASE: Duration = Duration::from_secs(600);

fn key(id: &str) -> DedupKey {
    DedupKey::new(Scope::new("billing", "orders"), BizId::new(id).unwrap())
}

async fn ask(store: &EmbeddedStore, key: &DedupKey, owner: u128) -> Admission<Held> {
    let request = ClaimRequest::new(key, owner, Fingerprint::of(b"body"), LEASE);
    store.claim(request).await.unwrap()
}

async fn run(store: &EmbeddedStore, key: &DedupKey, owner: u128) -> Held {
    ask(store, key, owner).await.granted().unwrap()
}

fn machine() -> (SimulatedDisk, ManualClock, Engine) {
    let (disk, clock) = (SimulatedDisk::new(1), ManualClock::at(1_000_000));
    let engine = engine(&disk, &clock);
    (disk, clock, engine)
}

/// Case 49: claims of a dead process are claimable at once, and a second process is refused by the directory's lock.
#[test]
fn case_49_claims_of_a_dead_process_are_claimable_at_once() {
    let (disk, clock, running) = machine();
    let store = EmbeddedStore::open(&running, "ids").unwrap();
    let held = drive(&running, run(&store, &key("x"), 1));
    let kept = drive(&running, run(&store, &key("y"), 1));
    let env = log_engine::Env {
        disk: std::sync::Arc::new(disk.clone()),
        clock: std::sync::Arc::new(clock.clone()),
        seed: 1,
    };
    assert!(Engine::with_env(env).driven().open().is_err());
    let opened = engine(&disk.power_cut(1), &clock);
    let store = EmbeddedStore::open(&opened, "ids").unwrap();
    drive(&opened, async {
        let next = run(&store, &key("x"), 2).await;
        assert_eq!((next.attempt, next.prior), (2, Prior::Crashed));
        assert!(next.token > held.token);
        let late = store.settle(&held, Settlement::Done(None)).await;
        assert!(matches!(late, Err(StoreError::Lost(_))), "{late:?}");
        // The one that nobody followed is still good, renewed or settled.
        store.renew(&kept, LEASE).await.unwrap();
        assert!(matches!(
            ask(&store, &key("y"), 2).await,
            Admission::Busy { .. }
        ));
        store.settle(&kept, Settlement::Done(None)).await.unwrap();
    });
    println!("case 49 embedded: ok");
}

/// Case 51: keys that the index cannot tell apart are told apart by what is stored.
#[test]
fn case_51_keys_of_one_digest_are_told_apart() {
    let (disk, clock, running) = machine();
    let settings = EmbeddedSettings {
        digest: |_| 42,
        ..small()
    };
    let ids: Vec<DedupKey> = (0..20).map(|n| key(&format!("id {n}"))).collect();
    let store = EmbeddedStore::open_with(&running, "ids", settings.clone()).unwrap();
    drive(&running, async {
        for (n, key) in (0..).zip(&ids) {
            let held = run(&store, key, n).await;
            assert_eq!((held.attempt, held.prior), (1, Prior::New));
            let how = match n % 2 {
                0 => Settlement::Done(None),
                _ => Settlement::Parked,
            };
            store.settle(&held, how).await.unwrap();
        }
        // Cleaned and written down, they are still as many.
        store.tidy().await.unwrap();
        store.snapshot().await.unwrap();
    });
    for store in [
        store,
        EmbeddedStore::open_with(&engine(&disk.kill(), &clock), "ids", settings).unwrap(),
    ] {
        assert_eq!(store.counts().ids, 20);
        for (n, key) in ids.iter().enumerate() {
            let answer = drive(&running, ask(&store, key, 99));
            match n % 2 {
                0 => assert!(matches!(answer, Admission::Done(_)), "{n}: {answer:?}"),
                _ => assert_eq!(answer, Admission::Parked, "{n}"),
            }
        }
    }
    println!("case 51 embedded: ok");
}

#[test]
fn a_name_is_one_store_in_a_process() {
    let (_, _, running) = machine();
    let store = EmbeddedStore::open(&running, "ids").unwrap();
    let again = EmbeddedStore::open(&running, "ids").unwrap();
    assert!(store.is_same(&again));
    assert!(!store.is_same(&EmbeddedStore::open(&running, "others").unwrap()));
    // Another engine's, of the same name.
    let (_, _, other) = machine();
    assert!(!store.is_same(&EmbeddedStore::open(&other, "ids").unwrap()));
    let inbox = EmbeddedInbox::open(&running, "ids").unwrap();
    drive(&running, async {
        run(&again, &key("x"), 1).await;
        inbox.assign(&Part::new("g", "t", 0), 1).await.unwrap();
        assert!(matches!(
            ask(&store, &key("x"), 2).await,
            Admission::Busy { .. }
        ));
    });
    assert_eq!(inbox.counts(), store.counts());
    let refused = EmbeddedStore::open(&running, "no/name").unwrap_err();
    assert!(
        matches!(
            &refused,
            EmbeddedError::Topic(TopicError::IllegalName { .. })
        ),
        "{refused}"
    );
}

#[test]
fn a_renewal_writes_nothing() {
    let (_, _, running) = machine();
    let store = EmbeddedStore::open(&running, "ids").unwrap();
    drive(&running, async {
        let held = run(&store, &key("x"), 1).await;
        let before = store.counts().records;
        for _ in 0..10 {
            store.renew(&held, LEASE).await.unwrap();
            assert_eq!(run(&store, &key("x"), 1).await, held);
        }
        assert_eq!(store.counts().records, before);
    });
}

/// A copy of a claim's record is the same claim.
#[test]
fn a_claim_survives_cleaning_and_a_restart() {
    let (disk, clock, running) = machine();
    let store = EmbeddedStore::open_with(&running, "ids", small()).unwrap();
    let held = drive(&running, async {
        let held = run(&store, &key("x"), 1).await;
        for _ in 0..300 {
            let other = run(&store, &key("other"), 1).await;
            store.settle(&other, Settlement::Released).await.unwrap();
        }
        store.tidy().await.unwrap();
        held
    });
    assert!(store.counts().records < 100, "{:?}", store.counts());
    let opened = engine(&disk.power_cut(1), &clock);
    let store = EmbeddedStore::open_with(&opened, "ids", small()).unwrap();
    drive(&opened, async {
        assert_eq!(run(&store, &key("x"), 1).await, held);
        store.settle(&held, Settlement::Done(None)).await.unwrap();
    });
}

#[test]
fn a_failed_sync_is_unknown_and_is_settled_by_an_opening() {
    let (disk, clock, running) = machine();
    let store = EmbeddedStore::open(&running, "ids").unwrap();
    let held = drive(&running, run(&store, &key("x"), 1));
    disk.fail_syncs(1);
    let settled = drive(&running, store.settle(&held, Settlement::Done(None)));
    assert!(matches!(settled, Err(StoreError::Unknown)), "{settled:?}");
    // Nobody is told what may not be so, and nothing is written any more.
    let request = |owner| ClaimRequest::new(&held.key, owner, Fingerprint::of(b"body"), LEASE);
    let asked = drive(&running, store.claim(request(2)));
    assert!(matches!(asked, Err(StoreError::Unknown)), "{asked:?}");
    let other = key("y");
    let new = ClaimRequest::new(&other, 1, Fingerprint::of(b"body"), LEASE);
    let refused = drive(&running, store.claim(new));
    assert!(
        matches!(refused, Err(StoreError::Unavailable)),
        "{refused:?}"
    );
    let opened = engine(&disk.kill(), &clock);
    let store = EmbeddedStore::open(&opened, "ids").unwrap();
    drive(&opened, store.settle(&held, Settlement::Done(None))).unwrap();
    assert!(matches!(
        drive(&opened, ask(&store, &key("x"), 3)),
        Admission::Done(_)
    ));
}

#[test]
fn settings_of_a_file_that_cannot_be_are_refused() {
    let (_, _, running) = machine();
    let settings = EmbeddedSettings {
        segment_bytes: 1,
        ..EmbeddedSettings::default()
    };
    let refused = EmbeddedStore::open_with(&running, "ids", settings).unwrap_err();
    assert!(matches!(refused, EmbeddedError::Config(_)), "{refused}");
}
