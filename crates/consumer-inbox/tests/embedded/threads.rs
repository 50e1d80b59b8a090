//! Threads of an engine and of a runtime: calls, cleaning, sweeps and snapshots at once.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use consumer_inbox::conformance::{Random, block_on};
use consumer_inbox::{
    Admission, BizId, ClaimRequest, DedupKey, DedupStore, EmbeddedStore, Fingerprint, Held,
    Horizon, Scope, Settlement, StoreError,
};
use log_engine::{Engine, Env, ManualClock};
use oncelog::testing::SimulatedDisk;

use crate::fixture::small;

const TASKS: u64 = 8;
const IDS: u64 = 60;

fn key(n: u64) -> DedupKey {
    let id = BizId::new(format!("order {n}")).unwrap();
    DedupKey::new(Scope::new("billing", "orders"), id)
}

async fn ask(store: &EmbeddedStore, n: u64, owner: u128) -> Result<Admission<Held>, StoreError> {
    let key = key(n);
    let lease = Duration::from_secs(600);
    let request = ClaimRequest::new(&key, owner, Fingerprint::of(b"body"), lease);
    store.claim(request).await
}

fn threaded(disk: &SimulatedDisk) -> Engine {
    let env = Env {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::at(1_000_000)),
        seed: 1,
    };
    Engine::with_env(env).open().unwrap()
}

// Tries all ids until each is done; returns what this task finished.
async fn work(store: EmbeddedStore, task: u64) -> Vec<u64> {
    let mut random = Random::new(task);
    let mut left: Vec<u64> = (0..IDS).collect();
    let mut mine = Vec::new();
    let mut owner = u128::from(task) << 64;
    while !left.is_empty() {
        let at = usize::try_from(random.below(left.len() as u64)).unwrap();
        let n = left[at];
        owner += 1;
        match ask(&store, n, owner).await.unwrap() {
            Admission::Run(held) => {
                let is_last = random.below(4) == 0;
                let how = match is_last {
                    true => Settlement::Done(Some(task.to_string().into())),
                    false => Settlement::Released,
                };
                store.settle(&held, how).await.unwrap();
                if is_last {
                    mine.push(n);
                }
            }
            Admission::Done(_) => {
                left.swap_remove(at);
            }
            Admission::Busy { .. } => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
    mine
}

#[test]
fn each_id_is_finished_once_while_the_log_is_cleaned() {
    let disk = SimulatedDisk::new(1);
    let running = threaded(&disk);
    let store = EmbeddedStore::open_with(&running, "ids", small()).unwrap();
    let mut finished = block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| tokio::spawn(work(store.clone(), task)))
            .collect();
        let tidying = store.clone();
        let tidy = tokio::spawn(async move {
            let nothing = Horizon {
                scope: Scope::new("billing", "orders"),
                log_starts: Default::default(),
                republish_window: Duration::from_secs(3_600),
                origin_before_ms: u64::MAX,
                parked_longer_than: None,
            };
            loop {
                tidying.tidy().await.unwrap();
                tidying.snapshot().await.unwrap();
                assert_eq!(tidying.sweep(&nothing, 10).await.unwrap(), 0);
                tokio::task::yield_now().await;
            }
        });
        let mut finished = Vec::new();
        for (task, done) in (0..TASKS).zip(tasks) {
            finished.extend(done.await.unwrap().into_iter().map(|n| (n, task)));
        }
        tidy.abort();
        finished
    });
    finished.sort_unstable();
    let ids: Vec<u64> = finished.iter().map(|(n, _)| *n).collect();
    assert_eq!(ids, (0..IDS).collect::<Vec<_>>(), "each by one task");
    // Whatever the power left: every answer was durable.
    let opened = threaded(&disk.power_cut(1));
    let store = EmbeddedStore::open_with(&opened, "ids", small()).unwrap();
    assert_eq!(store.counts().ids as u64, IDS);
    block_on(async {
        for (n, task) in finished {
            let receipt = store.peek(&key(n)).await.unwrap().unwrap();
            assert_eq!(receipt.result.unwrap(), task.to_string(), "{n}");
        }
    });
}

/// What changes while a snapshot is written is not in it, and comes back with its event.
#[test]
fn a_snapshot_beside_writes_has_each_id_once() {
    let disk = SimulatedDisk::new(2);
    let running = threaded(&disk);
    let store = EmbeddedStore::open_with(&running, "ids", small()).unwrap();
    let held = block_on(async {
        let held = ask(&store, 1, 1).await.unwrap().granted().unwrap();
        assert!(ask(&store, 2, 1).await.unwrap().granted().is_some());
        held
    });
    let gate = disk.hold_syncs();
    let mut context = Context::from_waker(Waker::noop());
    let mut new = pin!(ask(&store, 3, 1));
    assert!(new.as_mut().poll(&mut context).is_pending());
    let mut snapshot = pin!(store.snapshot());
    assert!(snapshot.as_mut().poll(&mut context).is_pending());
    // Behind the offset up to which it counts.
    let mut settled = pin!(store.settle(&held, Settlement::Done(None)));
    assert!(settled.as_mut().poll(&mut context).is_pending());
    drop(gate);
    block_on(async {
        assert!(snapshot.await.unwrap());
        settled.await.unwrap();
        assert!(new.await.unwrap().granted().is_some());
    });
    let opened = threaded(&disk.power_cut(1));
    let store = EmbeddedStore::open_with(&opened, "ids", small()).unwrap();
    assert_eq!(store.counts().ids, 3);
    block_on(async {
        assert!(store.peek(&key(1)).await.unwrap().is_some());
        for n in [2, 3] {
            let held = ask(&store, n, 2).await.unwrap().granted().unwrap();
            assert_eq!(held.attempt, 2, "{n}");
        }
    });
}
