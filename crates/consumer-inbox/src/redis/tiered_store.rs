//! Redis before a store of claims: it answers for ids that are done.

use std::time::Duration;

use bytes::Bytes;

use super::front::{Front, told_key, told_sweeps_key};
use super::scripts::{TOLD_ASK, TOLD_TELL};
use super::server::{text, token, unexpected};
use super::tiered::Tiered;
use crate::admission::{Admission, Held, Receipt, Settlement};
use crate::clock::millis;
use crate::dedup_store::{ClaimRequest, DedupStore, Horizon};
use crate::error::StoreError;
use crate::identity::DedupKey;

/// Claims, settlements and tokens are those of the store behind. Redis is told what that says is done, and answers for it when the same record comes again.
impl<S: DedupStore> DedupStore for Tiered<S> {
    async fn claim(&self, request: ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        let front = &self.front;
        let sweeps = match front.unless_away(ask(front, &request)).await {
            Some(Told::Done(receipt)) => return Ok(Admission::Done(receipt)),
            Some(Told::Ask(sweeps)) => Some(sweeps),
            None => None,
        };
        let answer = self.slow.claim(request).await?;
        if let (Admission::Done(receipt), Some(sweeps)) = (&answer, sweeps) {
            // Redis may be away: then it does not know.
            let _ = tell(front, &request, receipt, &sweeps).await;
        }
        Ok(answer)
    }

    async fn renew(&self, held: &Held, lease: Duration) -> Result<(), StoreError> {
        self.slow.renew(held, lease).await
    }

    async fn settle(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        self.slow.settle(held, how).await
    }

    async fn peek(&self, key: &DedupKey) -> Result<Option<Receipt>, StoreError> {
        self.slow.peek(key).await
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        self.slow.ids().await
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        let forgotten = self.slow.sweep(below, max).await?;
        if forgotten > 0 {
            // What Redis was told before counts no more. If it is away, it goes on to say done of what was forgotten, which is true.
            let mut command = redis::cmd("INCR");
            command.arg(told_sweeps_key(&below.scope));
            let _ = self.front.server.ask::<u64>(&command).await;
        }
        Ok(forgotten)
    }
}

enum Told {
    Done(Receipt),
    /// How many sweeps there were before.
    Ask(String),
}

async fn ask(front: &Front, request: &ClaimRequest<'_>) -> Result<Told, StoreError> {
    let mut call = TOLD_ASK.key(told_key(request.key));
    call.key(told_sweeps_key(&request.key.scope));
    for part in record(request) {
        call.arg(part);
    }
    let answer: Vec<Bytes> = front.server.run(&call).await?;
    let mut answer = answer.into_iter();
    match answer.next().as_deref() {
        Some(b"done") => Ok(Told::Done(Receipt {
            token: token(answer.next())?,
            result: answer.next(),
        })),
        Some(b"ask") => Ok(Told::Ask(text(answer.next())?)),
        _ => Err(unexpected()),
    }
}

async fn tell(
    front: &Front,
    request: &ClaimRequest<'_>,
    receipt: &Receipt,
    sweeps: &str,
) -> Result<(), StoreError> {
    let mut call = TOLD_TELL.key(told_key(request.key));
    call.arg(millis(front.keep).max(1)).arg(sweeps);
    for part in record(request) {
        call.arg(part);
    }
    call.arg(receipt.token.get());
    if let Some(result) = &receipt.result {
        call.arg(&result[..]);
    }
    front.server.run::<String>(&call).await.map(drop)
}

/// What makes a record the same one.
fn record(request: &ClaimRequest<'_>) -> [Vec<u8>; 5] {
    let number = |number: Option<u64>| number.map_or_else(Vec::new, |n| n.to_string().into());
    let at = request.position;
    [
        request.fingerprint.0.to_vec(),
        number(request.origin_ms),
        at.map_or_else(Vec::new, |at| at.topic.into()),
        number(at.map(|at| at.partition.into())),
        number(at.map(|at| at.offset)),
    ]
}
