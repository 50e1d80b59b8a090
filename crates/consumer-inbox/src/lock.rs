//! Mutual exclusion while a lease is valid, and what makes it safe beyond that (M5).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log_engine::Clock;

use crate::admission::{Admission, Held, Settlement, Token};
use crate::clock::{Owners, millis};
use crate::dedup_store::{ClaimRequest, DedupStore};
use crate::error::StoreError;
use crate::identity::{DedupKey, Fingerprint};

/// A lock over a [`DedupStore`]: a claim that is only ever released.
///
/// It excludes while the lease is valid, which a stalled holder cannot know. So hand [`LockGuard::token`] to what is protected, and let
/// that ask a [`Fence`]. It says nothing about duplicates in sequence.
pub struct Lock<S> {
    store: Arc<S>,
    key: DedupKey,
    owners: Arc<Owners>,
    clock: Arc<dyn Clock>,
}

/// What [`Lock::try_acquire`] answers.
pub enum Acquired<S> {
    /// It is held.
    Held(LockGuard<S>),
    /// Somebody else holds it.
    Busy {
        /// When it is worth asking again.
        retry_after: Duration,
    },
}

impl<S: DedupStore> Lock<S> {
    /// The lock of that name. The key's scope is best one that nothing else uses.
    pub fn new(
        store: Arc<S>,
        key: DedupKey,
        owners: Arc<Owners>,
        clock: Arc<dyn Clock>,
    ) -> Lock<S> {
        Lock {
            store,
            key,
            owners,
            clock,
        }
    }

    /// Takes it for `lease`, unless somebody holds it. If the answer gets lost it asks once more, which is the same claim.
    ///
    /// # Errors
    /// What the store says; `Misuse` if its key was settled by something else than a lock.
    pub async fn try_acquire(&self, lease: Duration) -> Result<Acquired<S>, StoreError> {
        let owner = self.owners.next();
        let request = ClaimRequest::new(&self.key, owner, Fingerprint::TOMBSTONE, lease);
        let mut asked_ms = self.clock.elapsed_ms();
        let mut answer = self.store.claim(request).await;
        if matches!(&answer, Err(error) if error.is_outcome_unknown()) {
            asked_ms = self.clock.elapsed_ms();
            answer = self.store.claim(request).await;
        }
        match answer? {
            Admission::Run(held) => Ok(Acquired::Held(LockGuard {
                store: self.store.clone(),
                clock: self.clock.clone(),
                deadline_ms: asked_ms.saturating_add(millis(lease)),
                held,
            })),
            Admission::Busy { retry_after } => Ok(Acquired::Busy { retry_after }),
            _ => Err(StoreError::Misuse(
                "the lock's key is used by something else than a lock",
            )),
        }
    }
}

/// A lock that is held. Dropped, it stays taken until its lease ends: dropping cannot wait.
#[must_use]
pub struct LockGuard<S> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    held: Held,
    deadline_ms: u64,
}

impl<S: DedupStore> LockGuard<S> {
    /// For the protected resource: greater than that of every earlier holder.
    pub fn token(&self) -> Token {
        self.held.token
    }

    /// How long it is still held, by this process's clock, counted from before it was asked for (E12).
    pub fn remaining(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.saturating_sub(self.clock.elapsed_ms()))
    }

    /// Holds it for `lease` from now.
    ///
    /// # Errors
    /// `Lost` if somebody else has it.
    pub async fn renew(&mut self, lease: Duration) -> Result<(), StoreError> {
        let asked_ms = self.clock.elapsed_ms();
        self.store.renew(&self.held, lease).await?;
        self.deadline_ms = asked_ms.saturating_add(millis(lease));
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// `Lost` if somebody else has it: nothing was changed.
    pub async fn release(self) -> Result<(), StoreError> {
        self.store.settle(&self.held, Settlement::Released).await
    }
}

/// The side of a protected resource: refuses who comes with a token smaller than one seen.
///
/// ```
/// use consumer_inbox::{Fence, Token};
/// let fence = Fence::new();
/// let (old, new) = (Token::new(7).unwrap(), Token::new(8).unwrap());
/// assert!(fence.admit(old).is_ok());
/// assert!(fence.admit(new).is_ok());
/// assert_eq!(fence.admit(old).unwrap_err().seen, new);
/// ```
#[derive(Debug, Default)]
pub struct Fence {
    seen: AtomicU64,
}

/// A holder that was overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("token {} is older than {}, which was here before: the lock has another holder", .held.get(), .seen.get())]
pub struct Overtaken {
    /// The token it came with.
    pub held: Token,
    /// The greatest seen.
    pub seen: Token,
}

impl Fence {
    /// A fence that has seen nobody.
    pub fn new() -> Fence {
        Fence::default()
    }

    /// A fence that has seen this token: what a resource stored with its last change.
    pub fn seen(token: Token) -> Fence {
        Fence {
            seen: AtomicU64::new(token.get()),
        }
    }

    /// Lets a holder through, or not, and remembers it. Only as good as the resource's own atomicity: check and change in one step.
    ///
    /// # Errors
    /// [`Overtaken`] if a greater token was here.
    pub fn admit(&self, held: Token) -> Result<(), Overtaken> {
        let seen = self.seen.fetch_max(held.get(), Ordering::AcqRel);
        match Token::new(seen) {
            Some(seen) if seen > held => Err(Overtaken { held, seen }),
            _ => Ok(()),
        }
    }
}
