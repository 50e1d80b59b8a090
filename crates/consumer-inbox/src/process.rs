//! One delivery through an inbox, without an engine.

use std::error::Error;
use std::time::Duration;

use crate::admission::{Admission, Settlement};
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::handler::{Handler, HandlerError};
use crate::identity::Fingerprint;
use crate::inbox::Inbox;

/// The pause that is asked for when a handler names none.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of a delivery. After all but `Busy` acknowledge it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Processed {
    /// The handler ran, and effect and id are committed.
    Done,
    /// It was done before; the handler did not run.
    Duplicate,
    /// Later: somebody works on it, or the handler asked for another try. Never acknowledge this one (E1).
    Busy {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Not done, and it will not be: write it to a dead-letter topic, then acknowledge. A delivery whose
    /// acknowledgement got lost says so again.
    Parked {
        /// Why.
        reason: ParkReason,
    },
}

/// Why a delivery is parked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParkReason {
    /// The handler refused it.
    #[error("the handler refused it: {0}")]
    Rejected(String),
    /// It was parked at an earlier delivery.
    #[error("it was parked before")]
    Before,
    /// Its id was seen with another payload.
    #[error("its id was seen before with another payload, of {stored:?}")]
    Mismatch {
        /// The fingerprint of that.
        stored: Fingerprint,
    },
    /// Its id may have been forgotten.
    #[error("it is older than what may have been forgotten")]
    Expired,
}

/// Why a delivery was not processed: acknowledge nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// What the store said.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The handler asked to stop.
    #[error("the handler asked to stop: {0}")]
    Fatal(#[source] Box<dyn Error + Send + Sync>),
}

pub(crate) async fn process<I: Inbox, H: Handler<I::Tx>>(
    inbox: &I,
    delivery: &Delivery,
    handler: &H,
) -> Result<Processed, ProcessError> {
    match once(inbox, delivery, handler).await {
        // Nobody assigned this epoch yet; greater than the stored one, it may be.
        Err(ProcessError::Store(StoreError::Fenced { held, current })) if current < held => {
            inbox.assign(delivery.part(), delivery.epoch()).await?;
            once(inbox, delivery, handler).await
        }
        other => other,
    }
}

async fn once<I: Inbox, H: Handler<I::Tx>>(
    inbox: &I,
    delivery: &Delivery,
    handler: &H,
) -> Result<Processed, ProcessError> {
    let mut tx = inbox.begin(delivery.part(), delivery.epoch()).await?;
    let parked = |reason| Processed::Parked { reason };
    let (how, processed) = match inbox.admit(&mut tx, delivery).await? {
        Admission::Run(()) => match handler.handle(&mut tx, delivery).await {
            Ok(result) => (Settlement::Done(result), Processed::Done),
            Err(HandlerError::Reject(why)) => {
                (Settlement::Parked, parked(ParkReason::Rejected(why)))
            }
            Err(HandlerError::Retry { after }) => {
                let retry_after = after.unwrap_or(PAUSE);
                return Ok(Processed::Busy { retry_after });
            }
            Err(HandlerError::Fatal(error)) => return Err(ProcessError::Fatal(error)),
        },
        answer => {
            // What the id learnt about its newest record is kept.
            inbox.commit(tx, 0).await?;
            return Ok(match answer {
                Admission::Done(_) | Admission::Run(()) => Processed::Duplicate,
                Admission::Busy { retry_after } => Processed::Busy { retry_after },
                Admission::Parked => parked(ParkReason::Before),
                Admission::Mismatch { stored } => parked(ParkReason::Mismatch { stored }),
                Admission::Expired => parked(ParkReason::Expired),
            });
        }
    };
    inbox.settle(&mut tx, delivery, how).await?;
    inbox.commit(tx, 0).await?;
    Ok(processed)
}
