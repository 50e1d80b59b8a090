//! Cases 66 and 67: locks.

use std::sync::Arc;

use log_engine::ManualClock;

use super::claims::{OVER, key};
use super::{Fixture, LONG, Outcome, SHORT};
use crate::clock::Owners;
use crate::error::StoreError;
use crate::identity::DedupKey;
use crate::lock::{Acquired, Fence, Lock, LockGuard};

fn lock<F: Fixture>(f: &F, key: &DedupKey, seed: u64) -> Lock<F::Store> {
    let owners = Arc::new(Owners::from_seed(seed));
    Lock::new(f.store(), key.clone(), owners, Arc::new(ManualClock::at(0)))
}

fn held<S>(acquired: Acquired<S>) -> LockGuard<S> {
    match acquired {
        Acquired::Held(guard) => guard,
        Acquired::Busy { retry_after } => panic!("busy for {retry_after:?}"),
    }
}

/// Given a holder paused past its lease, then the next token is greater and `Fence` rejects the old one, also after the store
/// restarted.
pub async fn case_66<F: Fixture>(f: &F) -> Outcome {
    let (key, fence) = (key(f.scope(), "lock"), Fence::new());
    let first = held(lock(f, &key, 1).try_acquire(SHORT).await.unwrap());
    assert_eq!(fence.admit(first.token()), Ok(()));
    let busy = lock(f, &key, 2).try_acquire(LONG).await.unwrap();
    assert!(matches!(busy, Acquired::Busy { retry_after } if retry_after <= SHORT));
    f.pass(OVER).await;
    let second = held(lock(f, &key, 2).try_acquire(LONG).await.unwrap());
    assert!(second.token() > first.token());
    assert_eq!(fence.admit(second.token()), Ok(()));
    let refused = fence.admit(first.token()).unwrap_err();
    assert_eq!(
        (refused.held, refused.seen),
        (first.token(), second.token())
    );
    let token = second.token();
    second.release().await.unwrap();
    if f.is_durable() {
        f.reopen().await;
    }
    let third = held(lock(f, &key, 3).try_acquire(LONG).await.unwrap());
    assert!(third.token() > token);
    assert_eq!(
        Fence::seen(third.token()).admit(token).unwrap_err().held,
        token
    );
    Outcome::Ok
}

/// Given release of an expired lock now held by another, then `Lost`; the other still holds.
pub async fn case_67<F: Fixture>(f: &F) -> Outcome {
    let key = key(f.scope(), "lock");
    let mut first = held(lock(f, &key, 1).try_acquire(SHORT).await.unwrap());
    f.pass(OVER).await;
    let second = held(lock(f, &key, 2).try_acquire(LONG).await.unwrap());
    let renewed = first.renew(LONG).await;
    assert!(matches!(renewed, Err(StoreError::Lost(_))), "{renewed:?}");
    let released = first.release().await;
    assert!(matches!(released, Err(StoreError::Lost(_))), "{released:?}");
    let third = lock(f, &key, 3).try_acquire(LONG).await.unwrap();
    assert!(matches!(third, Acquired::Busy { .. }));
    second.release().await.unwrap();
    let _held = held(lock(f, &key, 3).try_acquire(LONG).await.unwrap());
    Outcome::Ok
}
