//! Cases 72 to 77: forgetting, and clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::claims::{A, B, OVER, ask, is_busy, payload, run};
use super::{Fixture, LONG, Outcome, SHORT};
use crate::admission::{Admission, Held, Prior, Settlement};
use crate::dedup_store::{ClaimRequest, DedupStore, Horizon};
use crate::identity::{BizId, DedupKey, Position, Scope};

const TOPIC: &str = "orders";
const WINDOW: Duration = SHORT;
const SWEEPS_NOT: Outcome = Outcome::NotApplicable("it forgets by time alone");

// The id of a record, its origin time and offset.
struct Record {
    key: DedupKey,
    origin_ms: Option<u64>,
    offset: u64,
}

impl Record {
    fn new(scope: &Scope, id: &str, origin_ms: u64, offset: u64) -> Record {
        Record {
            key: DedupKey::new(scope.clone(), BizId::new(id).unwrap()),
            origin_ms: Some(origin_ms),
            offset,
        }
    }

    async fn claim<S: DedupStore>(&self, store: &S, owner: u128) -> Admission<Held> {
        let request = ClaimRequest {
            origin_ms: self.origin_ms,
            position: Some(Position {
                topic: TOPIC,
                partition: 0,
                offset: self.offset,
            }),
            ..ClaimRequest::new(&self.key, owner, payload(), LONG)
        };
        store.claim(request).await.unwrap()
    }

    async fn end<S: DedupStore>(&self, store: &S, how: Settlement) {
        let held = self.claim(store, A).await.granted().unwrap();
        store.settle(&held, how).await.unwrap();
    }

    async fn done<S: DedupStore>(&self, store: &S) {
        self.end(store, Settlement::Done(None)).await;
    }
}

// All conditions but the log's start are met by what is old enough.
fn horizon(scope: &Scope, log_start: u64) -> Horizon {
    Horizon {
        scope: scope.clone(),
        log_starts: BTreeMap::from([((TOPIC.into(), 0), log_start)]),
        republish_window: WINDOW,
        origin_before_ms: u64::MAX,
        parked_longer_than: None,
    }
}

async fn sweep<F: Fixture>(f: &F, below: &Horizon) -> usize {
    f.store().sweep(below, 1_000).await.unwrap()
}

/// Given id done and its record still in the log, then not swept however old; given the log start passed it and the window too,
/// then swept and the floor raised.
pub async fn case_72<F: Fixture>(f: &F) -> Outcome {
    if !f.sweeps() {
        return SWEEPS_NOT;
    }
    let (store, scope) = (f.store(), f.scope());
    let x = Record::new(&scope, "x", 1_000, 7);
    x.done(&*store).await;
    f.pass(OVER * 3).await;
    assert_eq!(sweep(f, &horizon(&scope, 0)).await, 0);
    assert_eq!(
        sweep(f, &horizon(&scope, 7)).await,
        0,
        "its record is the first"
    );
    let mut elsewhere = horizon(&scope, 100);
    elsewhere.log_starts = BTreeMap::from([((TOPIC.into(), 1), 100), (("other".into(), 0), 100)]);
    assert_eq!(
        sweep(f, &elsewhere).await,
        0,
        "of its partition nothing was said"
    );
    let mut young = horizon(&scope, 8);
    young.republish_window = LONG;
    assert_eq!(sweep(f, &young).await, 0, "its fact may be published again");
    assert!(matches!(x.claim(&*store, B).await, Admission::Done(_)));

    assert_eq!(sweep(f, &horizon(&f.scope(), 8)).await, 0, "another scope");
    assert_eq!(sweep(f, &horizon(&scope, 8)).await, 1);
    assert_eq!(x.claim(&*store, B).await, Admission::Expired);
    let older = Record::new(&scope, "older", 999, 100);
    assert_eq!(older.claim(&*store, B).await, Admission::Expired);
    let newer = Record::new(&scope, "newer", 1_001, 3);
    assert!(matches!(newer.claim(&*store, B).await, Admission::Run(_)));
    let elsewhere = Record::new(&f.scope(), "older", 999, 100);
    assert!(matches!(
        elsewhere.claim(&*store, B).await,
        Admission::Run(_)
    ));
    Outcome::Ok
}

/// After a sweep and a restart no id below the floor can run again. (Deaths between its statements are each store's own case.)
pub async fn case_73<F: Fixture>(f: &F) -> Outcome {
    if !f.sweeps() {
        return SWEEPS_NOT;
    }
    if !f.is_durable() {
        return Outcome::NotApplicable("nothing of it survives");
    }
    let scope = f.scope();
    let records = (0..20).map(|n| Record::new(&scope, &format!("{n}"), 1_000 + n, n));
    let records: Vec<Record> = records.collect();
    for record in &records {
        record.done(&*f.store()).await;
    }
    f.pass(OVER).await;
    assert_eq!(f.store().sweep(&horizon(&scope, 15), 10).await.unwrap(), 10);
    f.reopen().await;
    for (n, record) in records.iter().enumerate() {
        let answer = record.claim(&*f.store(), B).await;
        match n < 10 {
            true => assert_eq!(answer, Admission::Expired, "{n}"),
            false => assert!(matches!(answer, Admission::Done(_)), "{n}: {answer:?}"),
        }
    }
    assert_eq!(sweep(f, &horizon(&scope, 15)).await, 5);
    f.reopen().await;
    assert_eq!(records[14].claim(&*f.store(), B).await, Admission::Expired);
    Outcome::Ok
}

/// Given an id swept and a copy of its record re-driven, then `Expired`; given a lagging partition, then the sweep stops before its
/// oldest record and every one of its records is still admitted.
pub async fn case_74<F: Fixture>(f: &F) -> Outcome {
    if !f.sweeps() {
        return SWEEPS_NOT;
    }
    let (store, scope) = (f.store(), f.scope());
    let records = (0..10).map(|n| Record::new(&scope, &format!("{n}"), 1_000 + 10 * n, n));
    let records: Vec<Record> = records.collect();
    for record in &records {
        record.done(&*store).await;
    }
    f.pass(OVER).await;
    // Another partition has consumed nothing from 1,050 on.
    let mut lagging = horizon(&scope, 100);
    lagging.origin_before_ms = 1_050;
    assert_eq!(sweep(f, &lagging).await, 5);
    let late = (0..5).map(|n| Record::new(&scope, &format!("late {n}"), 1_050 + 10 * n, 500));
    for late in late {
        assert!(matches!(late.claim(&*store, A).await, Admission::Run(_)));
    }
    for (n, record) in records.iter().enumerate() {
        let copy = ClaimRequest {
            redrive: true,
            origin_ms: record.origin_ms,
            ..ClaimRequest::new(&record.key, B, payload(), LONG)
        };
        let answer = store.claim(copy).await.unwrap();
        match n < 5 {
            true => assert_eq!(answer, Admission::Expired, "{n}"),
            false => assert!(matches!(answer, Admission::Done(_)), "{n}: {answer:?}"),
        }
    }
    Outcome::Ok
}

/// A sweep of many ids runs in bounded batches, oldest first, while claims proceed.
pub async fn case_75<F: Fixture>(f: &F) -> Outcome {
    if !f.sweeps() {
        return SWEEPS_NOT;
    }
    let (store, scope, many) = (f.store(), f.scope(), f.many());
    for n in 0..many as u64 {
        let id = format!("{n}");
        Record::new(&scope, &id, 1_000 + n, n).done(&*store).await;
    }
    f.pass(OVER).await;
    let below = horizon(&scope, u64::MAX);
    let batch = (many / 10).max(1);
    let sweeping = f.store();
    let sweeps = tokio::spawn(async move {
        let mut all = 0;
        loop {
            let gone = sweeping.sweep(&below, batch).await.unwrap();
            assert!(gone <= batch, "{gone} at once");
            all += gone;
            if gone < batch {
                return all;
            }
            tokio::task::yield_now().await;
        }
    });
    // The newest goes last: as long as it is there, it is done, and never anything but Expired afterwards.
    let newest = many as u64 - 1;
    let newest = Record::new(&scope, &format!("{newest}"), 1_000 + newest, newest);
    let mut expired = false;
    let mut n = 0;
    while !sweeps.is_finished() || n == 0 {
        match newest.claim(&*store, B).await {
            Admission::Done(_) => assert!(!expired, "a forgotten id came back"),
            Admission::Expired => expired = true,
            other => panic!("{other:?}"),
        }
        let new = Record::new(&scope, &format!("new {n}"), 1_000_000_000 + n, n);
        assert!(matches!(new.claim(&*store, A).await, Admission::Run(_)));
        n += 1;
        tokio::task::yield_now().await;
    }
    // What a claim had locked just then was left to the next sweep.
    let left = sweep(f, &horizon(&scope, u64::MAX)).await;
    assert_eq!(sweeps.await.unwrap() + left, many);
    assert_eq!(newest.claim(&*store, B).await, Admission::Expired);
    Outcome::Ok
}

/// Given the consumer host's wall clock jumps ±1 h, then leases, takeovers and windows behave as before (E12).
pub async fn case_76<F: Fixture>(f: &F) -> Outcome {
    let hour_ms = 3_600_000;
    for jump_ms in [hour_ms, -2 * hour_ms] {
        let (store, scope) = (f.store(), f.scope());
        let [x, y] = ["x", "y"].map(|id| Record::new(&scope, id, 1_000, 7));
        let held = run(&*store, &x.key, A, LONG).await;
        y.done(&*store).await;
        if !f.jump_wall(jump_ms) {
            return Outcome::NotApplicable("it knows no clock of this process");
        }
        is_busy(ask(&*store, &x.key, B, LONG).await, LONG);
        let mut young = horizon(&scope, 100);
        young.republish_window = LONG;
        assert_eq!(sweep(f, &young).await, 0, "the window has not passed");
        store.renew(&held, SHORT).await.unwrap();
        is_busy(ask(&*store, &x.key, B, LONG).await, SHORT);
        f.pass(OVER).await;
        assert_eq!(run(&*store, &x.key, B, LONG).await.prior, Prior::Crashed);
    }
    Outcome::Ok
}

/// Given the store's clock steps back 10 s, then tokens still grow and no done id reopens.
pub async fn case_77<F: Fixture>(f: &F) -> Outcome {
    let (store, scope) = (f.store(), f.scope());
    let record = |id: &str| Record::new(&scope, id, 1_000, 7);
    f.pass(Duration::from_secs(11)).await;
    record("done").done(&*store).await;
    record("parked").end(&*store, Settlement::Parked).await;
    let free = run(&*store, &record("free").key, A, LONG).await;
    store.settle(&free, Settlement::Released).await.unwrap();
    let stalled = run(&*store, &record("busy").key, A, SHORT).await;
    if !f.set_back(Duration::from_secs(10)) {
        return Outcome::NotApplicable("its clock cannot be set back");
    }
    assert!(matches!(
        record("done").claim(&*store, B).await,
        Admission::Done(_)
    ));
    assert_eq!(record("parked").claim(&*store, B).await, Admission::Parked);
    let again = run(&*store, &record("free").key, B, LONG).await;
    assert!(again.token > free.token, "{again:?} {free:?}");
    let new = run(&*store, &record("new").key, B, LONG).await;
    assert!(new.token.get() > 0);
    f.pass(Duration::from_secs(10) + OVER).await;
    let over = run(&*store, &record("busy").key, B, LONG).await;
    assert!(over.token > stalled.token, "{over:?} {stalled:?}");
    Outcome::Ok
}

/// An id stays as long as the newest record that carried it.
pub async fn rule_3<F: Fixture>(f: &F) -> Outcome {
    if !f.sweeps() {
        return SWEEPS_NOT;
    }
    let store = f.store();
    for how in [
        Settlement::Done(None),
        Settlement::Parked,
        Settlement::Released,
    ] {
        let scope = f.scope();
        let first = Record::new(&scope, "x", 1_000, 7);
        let second = Record::new(&scope, "x", 2_000, 100);
        first.end(&*store, how.clone()).await;
        if let Admission::Run(held) = second.claim(&*store, B).await {
            store.settle(&held, Settlement::Released).await.unwrap();
        }
        // The older one again changes nothing.
        if let Admission::Run(held) = first.claim(&*store, B).await {
            store.settle(&held, Settlement::Released).await.unwrap();
        }
        f.pass(OVER).await;
        let mut below = horizon(&scope, 50);
        below.parked_longer_than = Some(Duration::ZERO);
        assert_eq!(
            sweep(f, &below).await,
            0,
            "{how:?}: its second record is there"
        );
        below.origin_before_ms = 2_000;
        below.log_starts = horizon(&scope, 101).log_starts;
        assert_eq!(
            sweep(f, &below).await,
            0,
            "{how:?}: not consumed everywhere"
        );
        below.origin_before_ms = 2_001;
        assert_eq!(sweep(f, &below).await, 1, "{how:?}");
        assert_eq!(second.claim(&*store, B).await, Admission::Expired);
    }
    Outcome::Ok
}

/// Without an origin time nothing is too old, and forgetting raises no floor.
pub async fn rule_4<F: Fixture>(f: &F) -> Outcome {
    if !f.sweeps() {
        return SWEEPS_NOT;
    }
    let (store, scope) = (f.store(), f.scope());
    let nowhen = |id: &str| Record {
        origin_ms: None,
        ..Record::new(&scope, id, 0, 7)
    };
    nowhen("x").done(&*store).await;
    f.pass(OVER).await;
    let mut below = horizon(&scope, 8);
    below.origin_before_ms = 0;
    assert_eq!(sweep(f, &below).await, 1);
    let old = Record::new(&scope, "old", 1, 7);
    old.done(&*store).await;
    f.pass(OVER).await;
    assert_eq!(sweep(f, &horizon(&scope, 8)).await, 1);
    assert_eq!(old.claim(&*store, B).await, Admission::Expired);
    assert!(matches!(
        nowhen("x").claim(&*store, B).await,
        Admission::Run(_)
    ));
    Outcome::Ok
}

/// What is busy is never forgotten, what is parked only with its dead letter.
pub async fn rule_6<F: Fixture>(f: &F) -> Outcome {
    if !f.sweeps() {
        return SWEEPS_NOT;
    }
    let (store, scope) = (f.store(), f.scope());
    let busy = run(
        &*store,
        &Record::new(&scope, "busy", 1_000, 7).key,
        A,
        SHORT,
    )
    .await;
    let parked = Record::new(&scope, "parked", 1_001, 7);
    parked.end(&*store, Settlement::Parked).await;
    f.pass(OVER).await;
    let mut below = horizon(&scope, 100);
    assert_eq!(sweep(f, &below).await, 0);
    below.parked_longer_than = Some(LONG);
    assert_eq!(sweep(f, &below).await, 0);
    below.parked_longer_than = Some(SHORT);
    assert_eq!(sweep(f, &below).await, 1);
    assert_eq!(parked.claim(&*store, B).await, Admission::Expired);
    let over = run(&*store, &busy.key, B, LONG).await;
    assert_eq!((over.attempt, over.prior), (2, Prior::Crashed));
    Outcome::Ok
}

/// Tokens of a key grow also over its being forgotten (E3).
pub async fn rule_7<F: Fixture>(f: &F) -> Outcome {
    if !f.sweeps() {
        return SWEEPS_NOT;
    }
    let (store, scope) = (f.store(), f.scope());
    let x = Record {
        origin_ms: None,
        ..Record::new(&scope, "x", 0, 7)
    };
    let held = x.claim(&*store, A).await.granted().unwrap();
    store.settle(&held, Settlement::Released).await.unwrap();
    f.pass(OVER).await;
    assert_eq!(sweep(f, &horizon(&scope, 8)).await, 1);
    if f.is_durable() {
        f.reopen().await;
    }
    let again = x.claim(&*f.store(), B).await.granted().unwrap();
    assert_eq!((again.attempt, again.prior), (1, Prior::New));
    assert!(again.token > held.token, "{again:?} {held:?}");
    Outcome::Ok
}
