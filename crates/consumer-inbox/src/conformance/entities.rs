//! Cases 68 and 69, and the rules of entities.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::{EntityFixture, Outcome};
use crate::entity::{AMOUNT_MAX, Amount, Change, EntityStore, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};
use crate::retry::{Decided, compare_and_set};

fn id<F: EntityFixture>(f: &F, name: &str) -> Vec<u8> {
    let scope = f.scope();
    format!("{}/{}/{name}\0", scope.group, scope.scenario).into_bytes()
}

async fn stored<F: EntityFixture>(
    f: &F,
    id: &[u8],
    expect: Expect,
    change: Change<'_>,
) -> Result<u64, CasError> {
    let mut entities = f.begin().await;
    let version = entities.store(id, expect, change).await?;
    f.commit(entities).await?;
    Ok(version)
}

async fn removed<F: EntityFixture>(f: &F, id: &[u8], expect: Expect) -> Result<(), CasError> {
    let mut entities = f.begin().await;
    entities.remove(id, expect).await?;
    f.commit(entities).await
}

async fn loaded<F: EntityFixture>(f: &F, id: &[u8]) -> Option<Versioned> {
    f.begin().await.load(id, Read::Plain).await.unwrap()
}

fn entity(version: u64, value: &[u8], amount: i64) -> Option<Versioned> {
    Some(Versioned {
        version,
        value: Bytes::copy_from_slice(value),
        amount,
    })
}

// The version of a conflict.
fn conflict<T: std::fmt::Debug>(answer: Result<T, CasError>) -> Option<u64> {
    match answer {
        Err(CasError::Conflict { actual }) => actual,
        other => panic!("not Conflict, but {other:?}"),
    }
}

/// Given 32 concurrent `store(Version(v))`, then exactly one succeeds; the others see a conflict.
pub async fn case_68<F: EntityFixture>(f: &F) -> Outcome {
    let id = id(f, "x");
    let first = stored(f, &id, Expect::Absent, Change::value(b"first"))
        .await
        .unwrap();
    let (won, lost) = (AtomicU32::new(0), AtomicU32::new(0));
    let barrier = tokio::sync::Barrier::new(if f.side_by_side() { 32 } else { 1 });
    let one = async |n: u8| {
        let value = [n];
        let mut entities = f.begin().await;
        barrier.wait().await;
        let stored = entities
            .store(&id, Expect::Version(first), Change::value(&value))
            .await;
        // Others store between this one's store and commit.
        tokio::task::yield_now().await;
        let committed = match stored {
            Ok(_) => f.commit(entities).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(()) => won.fetch_add(1, Ordering::SeqCst),
            Err(CasError::Conflict { .. } | CasError::Store(StoreError::Conflict)) => {
                lost.fetch_add(1, Ordering::SeqCst)
            }
            Err(error) => panic!("{error}"),
        };
    };
    all((0..32).map(one)).await;
    assert_eq!((won.into_inner(), lost.into_inner()), (1, 31));
    let late = stored(f, &id, Expect::Version(first), Change::value(b"late")).await;
    assert_eq!(conflict(late), Some(first + 1));
    Outcome::Ok
}

// All futures, side by side.
async fn all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        match futures.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

/// Given `load(ForUpdate)` of an absent row by two transactions, then the second waits; exactly one creates. Where there are no
/// locks, it is refused.
pub async fn case_69<F: EntityFixture>(f: &F) -> Outcome {
    let id = Arc::<[u8]>::from(id(f, "x"));
    let mut first = f.begin().await;
    let locked = first.load(&id, Read::ForUpdate).await;
    if !f.locks() {
        assert!(matches!(locked, Err(StoreError::Unsafe(_))), "{locked:?}");
        return Outcome::NotApplicable("it has no locks, and says so");
    }
    assert_eq!(locked.unwrap(), None);
    first
        .store(&id, Expect::Absent, Change::value(b"first"))
        .await
        .unwrap();
    let seconds = async {
        let mut second = f.begin().await;
        let found = second.load(&id, Read::ForUpdate).await.unwrap();
        if found.is_none() {
            second
                .store(&id, Expect::Absent, Change::value(b"second"))
                .await
                .unwrap();
        }
        f.commit(second).await.unwrap();
        found
    };
    let firsts = async {
        tokio::task::yield_now().await;
        f.commit(first).await.unwrap();
    };
    let ((), found) = tokio::join!(firsts, seconds);
    assert_eq!(found, entity(1, b"first", 0));
    assert_eq!(loaded(f, &id).await, found);
    // A placeholder that nothing came of does not exist.
    let other = [&*id, b"other"].concat();
    let mut looking = f.begin().await;
    assert_eq!(looking.load(&other, Read::ForUpdate).await.unwrap(), None);
    f.commit(looking).await.unwrap();
    assert_eq!(loaded(f, &other).await, None);
    assert_eq!(
        stored(f, &other, Expect::Absent, Change::value(b""))
            .await
            .unwrap(),
        1
    );
    Outcome::Ok
}

/// Versions count from 1, a lost race changes nothing (M4).
pub async fn entity_versions<F: EntityFixture>(f: &F) -> Outcome {
    let id = id(f, "x");
    assert_eq!(loaded(f, &id).await, None);
    let at = |expect| stored(f, &id, expect, Change::value(b"\0v\xff"));
    assert_eq!(conflict(at(Expect::Version(1)).await), None);
    assert_eq!(conflict(at(Expect::Version(0)).await), None);
    assert_eq!(at(Expect::Absent).await.unwrap(), 1);
    assert_eq!(loaded(f, &id).await, entity(1, b"\0v\xff", 0));
    assert_eq!(conflict(at(Expect::Absent).await), Some(1));
    assert_eq!(conflict(at(Expect::Version(2)).await), Some(1));
    assert_eq!(at(Expect::Version(1)).await.unwrap(), 2);
    assert_eq!(at(Expect::Any).await.unwrap(), 3);
    // Twice in one transaction: each sees the one before.
    let mut entities = f.begin().await;
    let change = Change::value(b"w");
    assert_eq!(
        entities
            .store(&id, Expect::Version(3), change)
            .await
            .unwrap(),
        4
    );
    assert_eq!(
        entities.load(&id, Read::Plain).await.unwrap(),
        entity(4, b"w", 0)
    );
    assert_eq!(
        conflict(entities.store(&id, Expect::Version(3), change).await),
        Some(4)
    );
    f.commit(entities).await.unwrap();
    assert_eq!(loaded(f, &id).await, entity(4, b"w", 0));
    assert_eq!(conflict(at(Expect::Absent).await), Some(4));
    Outcome::Ok
}

/// "If there are n left", in one step; amounts stay within what a double keeps.
pub async fn entity_amounts<F: EntityFixture>(f: &F) -> Outcome {
    let id = id(f, "stock");
    let take = |n: i64| stored(f, &id, Expect::AtLeast(n), Change::amount(Amount::Add(-n)));
    let none = take(1).await;
    assert!(
        matches!(
            none,
            Err(CasError::Short {
                wanted: 1,
                amount: None
            })
        ),
        "{none:?}"
    );
    let full = Change {
        value: Some(b"stock"),
        amount: Amount::Set(5),
    };
    assert_eq!(stored(f, &id, Expect::Absent, full).await.unwrap(), 1);
    assert_eq!(take(2).await.unwrap(), 2);
    assert_eq!(take(3).await.unwrap(), 3);
    assert_eq!(loaded(f, &id).await, entity(3, b"stock", 0));
    let short = take(1).await;
    assert!(
        matches!(
            short,
            Err(CasError::Short {
                wanted: 1,
                amount: Some(0)
            })
        ),
        "{short:?}"
    );
    assert_eq!(loaded(f, &id).await, entity(3, b"stock", 0));
    for (amount, end) in [(AMOUNT_MAX, AMOUNT_MAX), (-AMOUNT_MAX, -AMOUNT_MAX)] {
        stored(f, &id, Expect::Any, Change::amount(Amount::Set(amount)))
            .await
            .unwrap();
        let further = Change::amount(Amount::Add(amount.signum()));
        for beyond in [
            further,
            Change::amount(Amount::Set(amount + amount.signum())),
            Change::amount(Amount::Add(amount)),
        ] {
            let refused = stored(f, &id, Expect::Any, beyond).await;
            assert!(matches!(refused, Err(CasError::Range)), "{refused:?}");
        }
        assert_eq!(loaded(f, &id).await.unwrap().amount, end);
    }
    let huge = stored(f, &id, Expect::Any, Change::amount(Amount::Add(i64::MIN))).await;
    assert!(matches!(huge, Err(CasError::Range)), "{huge:?}");
    // Of nothing: an empty value, counted from 0.
    let new = [&id[..], b"new"].concat();
    stored(f, &new, Expect::Any, Change::amount(Amount::Add(-7)))
        .await
        .unwrap();
    assert_eq!(loaded(f, &new).await, entity(1, b"", -7));
    stored(f, &new, Expect::Version(1), Change::value(b"v"))
        .await
        .unwrap();
    assert_eq!(loaded(f, &new).await, entity(2, b"v", -7));
    Outcome::Ok
}

/// A removed entity's versions do not come back.
pub async fn entity_removal<F: EntityFixture>(f: &F) -> Outcome {
    let id = id(f, "x");
    removed(f, &id, Expect::Absent).await.unwrap();
    removed(f, &id, Expect::Any).await.unwrap();
    assert_eq!(conflict(removed(f, &id, Expect::Version(1)).await), None);
    let change = Change {
        value: Some(b"v"),
        amount: Amount::Set(9),
    };
    stored(f, &id, Expect::Absent, change).await.unwrap();
    assert_eq!(conflict(removed(f, &id, Expect::Version(2)).await), Some(1));
    assert_eq!(conflict(removed(f, &id, Expect::Absent).await), Some(1));
    removed(f, &id, Expect::Version(1)).await.unwrap();
    assert_eq!(loaded(f, &id).await, None);
    assert_eq!(conflict(removed(f, &id, Expect::Version(2)).await), None);
    let again = stored(f, &id, Expect::Absent, Change::value(b"again"))
        .await
        .unwrap();
    assert!(again > 2, "{again}");
    // The late one means the entity that is gone.
    assert_eq!(
        conflict(removed(f, &id, Expect::Version(1)).await),
        Some(again)
    );
    assert_eq!(loaded(f, &id).await, entity(again, b"again", 0));
    Outcome::Ok
}

/// Load, decide, store: bounded tries, and no decision is no change (M4).
pub async fn entity_retries<F: EntityFixture>(f: &F) -> Outcome {
    let id = id(f, "x");
    let decided = |value: &[u8], amount| {
        Some(Decided {
            value: value.to_vec(),
            amount,
        })
    };
    let mut entities = f.begin().await;
    let none = compare_and_set(&mut entities, &id, 3, |_| None)
        .await
        .unwrap();
    assert_eq!(none, None);
    let first = compare_and_set(&mut entities, &id, 3, |found| {
        assert_eq!(found, None);
        decided(b"a", 1)
    });
    assert_eq!(first.await.unwrap(), Some(1));
    let second = compare_and_set(&mut entities, &id, 3, |found| {
        assert_eq!(found, entity(1, b"a", 1).as_ref());
        decided(b"b", 2)
    });
    assert_eq!(second.await.unwrap(), Some(2));
    f.commit(entities).await.unwrap();
    assert_eq!(loaded(f, &id).await, entity(2, b"b", 2));
    Outcome::Ok
}
