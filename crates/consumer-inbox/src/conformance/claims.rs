//! Cases 1 to 16: claims, tokens, settlements.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Fixture, LONG, Outcome, SHORT};
use crate::admission::{Admission, Held, Prior, Receipt, Settlement};
use crate::dedup_store::{ClaimRequest, DedupStore};
use crate::error::StoreError;
use crate::identity::{BizId, DedupKey, Fingerprint, Scope};

/// Two owners.
pub(super) const A: u128 = 0xa;
pub(super) const B: u128 = (0xb << 100) | 1;
const C: u128 = 0xc;
/// Time in which a short lease ends.
pub(super) const OVER: Duration = SHORT.saturating_add(SHORT);

pub(super) fn key(scope: Scope, id: &str) -> DedupKey {
    DedupKey::new(scope, BizId::new(id).unwrap())
}

pub(super) fn payload() -> Fingerprint {
    Fingerprint::of(b"payload")
}

pub(super) async fn ask<S: DedupStore>(
    store: &S,
    key: &DedupKey,
    owner: u128,
    lease: Duration,
) -> Admission<Held> {
    let request = ClaimRequest::new(key, owner, payload(), lease);
    store.claim(request).await.unwrap()
}

pub(super) async fn run<S: DedupStore>(
    store: &S,
    key: &DedupKey,
    owner: u128,
    lease: Duration,
) -> Held {
    match ask(store, key, owner, lease).await {
        Admission::Run(held) => held,
        other => panic!("{key:?} is not granted: {other:?}"),
    }
}

async fn redrive<S: DedupStore>(store: &S, key: &DedupKey, owner: u128) -> Admission<Held> {
    let redrive = true;
    let request = ClaimRequest {
        redrive,
        ..ClaimRequest::new(key, owner, payload(), LONG)
    };
    store.claim(request).await.unwrap()
}

pub(super) fn is_lost(answer: Result<(), StoreError>, held: &Held) {
    match answer {
        Err(StoreError::Lost(token)) => assert_eq!(token, held.token),
        other => panic!("not Lost, but {other:?}"),
    }
}

pub(super) fn is_busy(answer: Admission<Held>, lease: Duration) {
    match answer {
        Admission::Busy { retry_after } => {
            assert!(
                !retry_after.is_zero() && retry_after <= lease,
                "{retry_after:?}"
            );
        }
        other => panic!("not Busy, but {other:?}"),
    }
}

// A's lease ran out, and B took over.
async fn taken_over<F: Fixture>(f: &F) -> (Arc<F::Store>, DedupKey, Held, Held) {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let old = run(&*store, &x, A, SHORT).await;
    f.pass(OVER).await;
    let new = run(&*store, &x, B, LONG).await;
    (store, x, old, new)
}

/// Given no record of x, when claimed, then `Run` with attempt 1, prior `New`.
pub async fn case_01<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let held = run(&*store, &x, A, LONG).await;
    assert_eq!((held.attempt, held.prior), (1, Prior::New));
    assert_eq!(held.key, x);
    assert!(held.token.get() > 0);
    assert_eq!(store.peek(&x).await.unwrap(), None);
    Outcome::Ok
}

/// Given x busy by owner A, when A claims again with the same nonce, then the same token and attempt (E2), also after its lease.
pub async fn case_02<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let held = run(&*store, &x, A, SHORT).await;
    assert_eq!(run(&*store, &x, A, SHORT).await, held);
    f.pass(OVER).await;
    assert_eq!(run(&*store, &x, A, LONG).await, held);
    // The repeat renewed the lease.
    is_busy(ask(&*store, &x, B, LONG).await, LONG);
    Outcome::Ok
}

/// Given x busy by A, when B claims, then `Busy` with no more than what is left, and nothing changes.
pub async fn case_03<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let held = run(&*store, &x, A, LONG).await;
    is_busy(ask(&*store, &x, B, SHORT).await, LONG);
    is_busy(ask(&*store, &x, B, SHORT).await, LONG);
    assert_eq!(run(&*store, &x, A, LONG).await, held);
    store.settle(&held, Settlement::Done(None)).await.unwrap();
    Outcome::Ok
}

/// Given x busy by A and the lease ran out, when B claims, then `Run`, greater token, attempt 2, prior `Crashed`.
pub async fn case_04<F: Fixture>(f: &F) -> Outcome {
    let (_, _, old, new) = taken_over(f).await;
    assert!(new.token > old.token, "{new:?} {old:?}");
    assert_eq!((new.attempt, new.prior), (2, Prior::Crashed));
    Outcome::Ok
}

/// Given 4, when A settles Done, then `Lost`; x still busy by B; when B settles Done, then ok.
pub async fn case_05<F: Fixture>(f: &F) -> Outcome {
    let (store, x, old, new) = taken_over(f).await;
    let done = || Settlement::Done(Some(Bytes::from_static(b"r")));
    is_lost(store.settle(&old, done()).await, &old);
    assert_eq!(store.peek(&x).await.unwrap(), None);
    assert_eq!(run(&*store, &x, B, LONG).await, new);
    store.settle(&new, done()).await.unwrap();
    is_lost(store.settle(&old, done()).await, &old);
    assert_eq!(store.peek(&x).await.unwrap().unwrap().token, new.token);
    Outcome::Ok
}

/// Given 4, when A releases or renews or parks, then `Lost`, and B's claim is untouched (E4).
pub async fn case_06<F: Fixture>(f: &F) -> Outcome {
    let (store, x, old, new) = taken_over(f).await;
    is_lost(store.settle(&old, Settlement::Released).await, &old);
    is_lost(store.settle(&old, Settlement::Parked).await, &old);
    is_lost(store.renew(&old, LONG).await, &old);
    is_busy(ask(&*store, &x, C, LONG).await, LONG);
    assert_eq!(run(&*store, &x, B, LONG).await, new);
    store.renew(&new, LONG).await.unwrap();
    Outcome::Ok
}

/// Given x done with result r, when claimed by anyone, then `Done(r)`, also long after the lease of the winning claim (E5).
pub async fn case_07<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let held = run(&*store, &x, A, SHORT).await;
    let result = Some(Bytes::from_static(b"\0r\xff"));
    let done = Settlement::Done(result.clone());
    store.settle(&held, done).await.unwrap();
    let token = held.token;
    let receipt = Receipt { token, result };
    assert_eq!(
        ask(&*store, &x, B, LONG).await,
        Admission::Done(receipt.clone())
    );
    f.pass(OVER * 3).await;
    for owner in [A, B, C] {
        let answer = ask(&*store, &x, owner, LONG).await;
        assert_eq!(answer, Admission::Done(receipt.clone()));
    }
    assert_eq!(
        redrive(&*store, &x, C).await,
        Admission::Done(receipt.clone())
    );
    assert_eq!(store.peek(&x).await.unwrap(), Some(receipt.clone()));
    if f.is_durable() {
        f.reopen().await;
        assert_eq!(
            ask(&*f.store(), &x, B, LONG).await,
            Admission::Done(receipt)
        );
    }
    Outcome::Ok
}

/// Given x done, when the winner repeats settle Done with its token, then ok and r unchanged (E2).
pub async fn case_08<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let held = run(&*store, &x, A, LONG).await;
    let done = |r: &'static [u8]| Settlement::Done(Some(Bytes::from_static(r)));
    store.settle(&held, done(b"r")).await.unwrap();
    store.settle(&held, done(b"other")).await.unwrap();
    store.settle(&held, Settlement::Done(None)).await.unwrap();
    let receipt = store.peek(&x).await.unwrap().unwrap();
    assert_eq!(receipt.result.as_deref(), Some(&b"r"[..]));
    Outcome::Ok
}

/// Given x busy with fingerprint f1, when claimed with f2, then `Mismatch{f1}`; same when done, free and parked (E6).
pub async fn case_09<F: Fixture>(f: &F) -> Outcome {
    let store = f.store();
    let ends = [
        None,
        Some(Settlement::Done(None)),
        Some(Settlement::Released),
        Some(Settlement::Parked),
    ];
    for end in ends {
        let x = key(f.scope(), "x");
        let held = run(&*store, &x, A, SHORT).await;
        let busy = end.is_none();
        if let Some(end) = end.clone() {
            store.settle(&held, end).await.unwrap();
        }
        for (owner, redrive) in [(A, false), (B, false), (B, true)] {
            let other = ClaimRequest {
                redrive,
                ..ClaimRequest::new(&x, owner, Fingerprint::of(b"other"), LONG)
            };
            let answer = store.claim(other).await.unwrap();
            let stored = payload();
            assert_eq!(answer, Admission::Mismatch { stored }, "{end:?}");
        }
        if busy {
            // Neither was the claim renewed, nor taken over.
            f.pass(OVER).await;
            let other = ClaimRequest::new(&x, B, Fingerprint::of(b"other"), LONG);
            let answer = store.claim(other).await.unwrap();
            assert!(matches!(answer, Admission::Mismatch { .. }), "{answer:?}");
            assert_eq!(run(&*store, &x, B, LONG).await.prior, Prior::Crashed);
        }
    }
    Outcome::Ok
}

/// Given x released, when claimed, then greater token, attempt 2, prior `Released` (E3).
pub async fn case_10<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let first = run(&*store, &x, A, LONG).await;
    store.settle(&first, Settlement::Released).await.unwrap();
    let second = run(&*store, &x, B, LONG).await;
    assert!(second.token > first.token, "{second:?} {first:?}");
    assert_eq!((second.attempt, second.prior), (2, Prior::Released));
    store.settle(&second, Settlement::Released).await.unwrap();
    if f.is_durable() {
        f.reopen().await;
    }
    // Also to the owner that had it before.
    let third = run(&*f.store(), &x, A, LONG).await;
    assert!(third.token > second.token, "{third:?} {second:?}");
    assert_eq!((third.attempt, third.prior), (3, Prior::Released));
    Outcome::Ok
}

/// Given x parked, when claimed normally, then `Parked`; with `redrive`, then `Run` prior `Parked`; a second redrive
/// meanwhile gets `Busy` (E9).
pub async fn case_11<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let first = run(&*store, &x, A, LONG).await;
    store.settle(&first, Settlement::Parked).await.unwrap();
    for owner in [A, B] {
        assert_eq!(ask(&*store, &x, owner, LONG).await, Admission::Parked);
    }
    assert_eq!(store.peek(&x).await.unwrap(), None);
    let again = redrive(&*store, &x, B).await.granted().unwrap();
    assert_eq!(again.prior, Prior::Parked);
    assert!(again.token > first.token, "{again:?} {first:?}");
    is_busy(redrive(&*store, &x, C).await, LONG);
    is_busy(ask(&*store, &x, C, LONG).await, LONG);
    is_lost(store.settle(&first, Settlement::Parked).await, &first);
    store.settle(&again, Settlement::Done(None)).await.unwrap();
    assert!(matches!(redrive(&*store, &x, C).await, Admission::Done(_)));
    Outcome::Ok
}

/// Given 64 tasks claiming the same ids, then each id is granted exactly once and all tokens per id are distinct.
pub async fn case_12<F: Fixture>(f: &F) -> Outcome {
    let scope = f.scope();
    let keys = (0..f.many()).map(|n| key(scope.clone(), &format!("id {n}")));
    let keys: Arc<[DedupKey]> = keys.collect();
    let claims = (0..64_u128).map(|task| {
        let (store, keys) = (f.store(), keys.clone());
        tokio::spawn(async move {
            let mut granted = Vec::new();
            // Every task begins elsewhere.
            let first = usize::try_from(task).unwrap() * 7;
            for n in first..first + keys.len() {
                let key = &keys[n % keys.len()];
                let owner = (task << 64) | n as u128;
                if let Admission::Run(held) = ask(&*store, key, owner, LONG).await {
                    granted.push(held);
                    tokio::task::yield_now().await;
                }
            }
            granted
        })
    });
    let claims: Vec<_> = claims.collect();
    let mut granted: HashMap<DedupKey, HashSet<u64>> = HashMap::new();
    for claim in claims {
        for held in claim.await.unwrap() {
            let tokens = granted.entry(held.key.clone()).or_default();
            assert!(tokens.insert(held.token.get()), "a token twice: {held:?}");
            assert_eq!(tokens.len(), 1, "granted twice: {held:?}");
        }
    }
    assert_eq!(granted.len(), keys.len());
    Outcome::Ok
}

/// Given "a"+"b:c" and "a:b"+"c" as (scenario, id), then they are different keys (E14); given two groups, each may run x once.
pub async fn case_13<F: Fixture>(f: &F) -> Outcome {
    let (store, group) = (f.store(), f.scope().group);
    let scoped = |group: &str, scenario: &str, id: &str| key(Scope::new(group, scenario), id);
    let keys = [
        scoped(&group, "a", "b:c"),
        scoped(&group, "a:b", "c"),
        scoped(&group, "ab", ":c"),
        scoped(&format!("{group}a"), "", "b:c"),
        scoped(&format!("{group}2"), "a", "b:c"),
        scoped(&format!("{group}}}{{"), "a", "b:c"),
        scoped(&group, "a", "B:c"),
        scoped(&group, "a", "b:c\0"),
        scoped(&group, "a", "b:c "),
    ];
    for key in &keys {
        let held = run(&*store, key, A, LONG).await;
        assert_eq!(held.prior, Prior::New, "{key:?}");
        store.settle(&held, Settlement::Done(None)).await.unwrap();
    }
    let bytes = DedupKey::new(f.scope(), BizId::new([0, 0xff, 0xfe, b'\'']).unwrap());
    let held = run(&*store, &bytes, A, LONG).await;
    store.settle(&held, Settlement::Done(None)).await.unwrap();
    assert!(matches!(
        ask(&*store, &bytes, B, LONG).await,
        Admission::Done(_)
    ));
    Outcome::Ok
}

/// Given a store bounded to n ids, when the n+1st is claimed, then `Full`; no earlier id was forgotten.
pub async fn case_14<F: Fixture>(f: &F) -> Outcome {
    let Some(store) = f.bounded(3) else {
        return Outcome::NotApplicable("it has no bound");
    };
    let scope = f.scope();
    let keys: Vec<_> = (0..4)
        .map(|n| key(scope.clone(), &format!("{n}")))
        .collect();
    let ends = [
        Settlement::Done(None),
        Settlement::Parked,
        Settlement::Released,
    ];
    for (key, end) in keys.iter().zip(ends) {
        let held = run(&*store, key, A, LONG).await;
        store.settle(&held, end).await.unwrap();
    }
    let one_more = ClaimRequest::new(&keys[3], A, payload(), LONG);
    let refused = store.claim(one_more).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    assert!(matches!(
        ask(&*store, &keys[0], B, LONG).await,
        Admission::Done(_)
    ));
    assert_eq!(ask(&*store, &keys[1], B, LONG).await, Admission::Parked);
    let held = run(&*store, &keys[2], B, LONG).await;
    assert_eq!((held.attempt, held.prior), (2, Prior::Released));
    Outcome::Ok
}

// One call whose reply got lost.
pub(super) async fn unheard<F: Fixture, T: std::fmt::Debug>(
    f: &F,
    call: impl Future<Output = Result<T, StoreError>>,
) {
    let lost = f.lose_next_reply();
    match call.await {
        Err(StoreError::Unknown) => {}
        Ok(_) if !lost => {}
        other => panic!("the reply was to get lost: {other:?}"),
    }
}

/// Given the reply of claim is dropped after the store acted, when the client repeats, then one grant in total, attempt still 1.
pub async fn case_15<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let claim = |owner, lease| ClaimRequest::new(&x, owner, payload(), lease);
    unheard(f, store.claim(claim(A, SHORT))).await;
    is_busy(ask(&*store, &x, B, LONG).await, SHORT);
    let held = run(&*store, &x, A, SHORT).await;
    assert_eq!((held.attempt, held.prior), (1, Prior::New));
    // A repeat says again what became of the attempt before, or nobody would verify.
    f.pass(OVER).await;
    unheard(f, store.claim(claim(B, LONG))).await;
    for _ in 0..2 {
        let held = run(&*store, &x, B, LONG).await;
        assert_eq!((held.attempt, held.prior), (2, Prior::Crashed));
    }
    Outcome::Ok
}

/// Given the reply of settle Done is dropped, when repeated after the lease would have expired, then ok and no takeover in between.
pub async fn case_16<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let held = run(&*store, &x, A, SHORT).await;
    let done = || Settlement::Done(Some(Bytes::from_static(b"r")));
    unheard(f, store.settle(&held, done())).await;
    f.pass(OVER).await;
    let answer = ask(&*store, &x, B, LONG).await;
    assert!(matches!(answer, Admission::Done(_)), "{answer:?}");
    store.settle(&held, done()).await.unwrap();
    let receipt = store.peek(&x).await.unwrap().unwrap();
    assert_eq!(receipt.token, held.token);
    Outcome::Ok
}

/// Only the token counts: a holder whose lease ran out and whom nobody followed may renew and settle.
pub async fn rule_1<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    let held = run(&*store, &x, A, SHORT).await;
    f.pass(OVER).await;
    store.renew(&held, LONG).await.unwrap();
    is_busy(ask(&*store, &x, B, LONG).await, LONG);
    // A renewal counts from now: it can shorten, too.
    store.renew(&held, SHORT).await.unwrap();
    f.pass(OVER).await;
    store.settle(&held, Settlement::Done(None)).await.unwrap();
    assert!(matches!(
        ask(&*store, &x, B, LONG).await,
        Admission::Done(_)
    ));
    Outcome::Ok
}

/// A settlement may be repeated, not replaced by another one, nor renewed.
pub async fn rule_2<F: Fixture>(f: &F) -> Outcome {
    let store = f.store();
    let all = [
        Settlement::Done(None),
        Settlement::Released,
        Settlement::Parked,
    ];
    for first in &all {
        let x = key(f.scope(), "x");
        let held = run(&*store, &x, A, LONG).await;
        store.settle(&held, first.clone()).await.unwrap();
        for second in &all {
            let answer = store.settle(&held, second.clone()).await;
            match second == first {
                true => answer.unwrap(),
                false => is_lost(answer, &held),
            }
        }
        is_lost(store.renew(&held, LONG).await, &held);
    }
    // Nor is there anything to settle of an id that was never claimed.
    let never = Held {
        key: key(f.scope(), "never"),
        ..run(&*store, &key(f.scope(), "x"), A, LONG).await
    };
    is_lost(store.settle(&never, Settlement::Done(None)).await, &never);
    is_lost(store.renew(&never, LONG).await, &never);
    Outcome::Ok
}

/// A re-drive counts its attempts from 1.
pub async fn rule_5<F: Fixture>(f: &F) -> Outcome {
    let (store, x) = (f.store(), key(f.scope(), "x"));
    for attempt in 1..=3 {
        let held = run(&*store, &x, A, LONG).await;
        assert_eq!(held.attempt, attempt);
        let last = attempt == 3;
        let end = if last {
            Settlement::Parked
        } else {
            Settlement::Released
        };
        store.settle(&held, end).await.unwrap();
    }
    let held = redrive(&*store, &x, B).await.granted().unwrap();
    assert_eq!((held.attempt, held.prior), (1, Prior::Parked));
    store.settle(&held, Settlement::Released).await.unwrap();
    let held = run(&*store, &x, C, LONG).await;
    assert_eq!((held.attempt, held.prior), (2, Prior::Released));
    Outcome::Ok
}
