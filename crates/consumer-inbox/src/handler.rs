//! What a user writes: the fourth trait.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::admission::Held;
use crate::delivery::Delivery;

/// Why a handler did not finish.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Another try may help.
    #[error("another try may help")]
    Retry {
        /// When; by the consumer's backoff if none.
        after: Option<Duration>,
    },
    /// No try will help: to the dead-letter topic, with this reason.
    #[error("refused: {0}")]
    Reject(String),
    /// The consumer must stop.
    #[error("the consumer must stop: {0}")]
    Fatal(#[source] Box<dyn Error + Send + Sync>),
}

/// Whether the effect of an attempt that crashed has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// It has, with this result.
    Applied(Option<Bytes>),
    /// It has not.
    NotApplied,
    /// Nobody knows: compensate, then run.
    Unknown,
}

/// The effect. `C` is what it happens in: `()`, [`ClaimCx`], or an inbox's transaction. Inside a transaction make no calls to
/// elsewhere: it may roll back behind them.
pub trait Handler<C: Send>: Send + Sync + 'static {
    /// Does it. What it returns is stored, and returned to whoever asks again.
    fn handle(
        &self,
        cx: &mut C,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<Option<Bytes>, HandlerError>> + Send;

    /// Finds out whether the effect of an attempt that crashed has happened. Unknown, unless written.
    fn verify(
        &self,
        _delivery: &Delivery,
    ) -> impl Future<Output = Result<Verified, HandlerError>> + Send {
        async { Ok(Verified::Unknown) }
    }

    /// Undoes what an attempt that crashed may have done. Nothing, unless written.
    fn compensate(
        &self,
        _delivery: &Delivery,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        async { Ok(()) }
    }
}

/// What a handler under a claim knows.
#[derive(Debug, Clone)]
pub struct ClaimCx {
    held: Held,
    deadline_ms: u64,
}

impl ClaimCx {
    /// Under a claim that holds until `deadline_ms`, by the consumer's own clock (elapsed ms), counted from before it was asked
    /// for (E12).
    pub fn new(held: Held, deadline_ms: u64) -> ClaimCx {
        ClaimCx { held, deadline_ms }
    }

    /// The claim: token, attempt, and what became of the one before.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Until when it holds, unless renewed: elapsed ms of the consumer's clock.
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// What to hand to a remote service as its idempotency key: the same at each attempt.
    pub fn idempotency_key(&self) -> String {
        self.held.key.idempotency_key()
    }

    /// The same for one of several remote calls.
    pub fn step_key(&self, step: &str) -> String {
        self.held.key.step_key(step)
    }
}
