//! The outbox while the consumer runs, and at its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::error::RunError;
use super::job::{Shared, Work};

/// How often the outbox is looked into though nobody said anything.
const LOOK: Duration = Duration::from_secs(1);

/// Forwards what is queued, as long as it is polled. After a failure it tries again: the records are durable.
pub(crate) async fn forwarding<W: Work>(work: Arc<W>, shared: Arc<Shared>) {
    let mut failures = 0_u32;
    loop {
        match work.forward(&shared).await {
            Ok(0) => {
                failures = 0;
                // Whichever comes first.
                let _ = timeout(LOOK, shared.queued.notified()).await;
            }
            Ok(_) => failures = 0,
            Err(_) => {
                failures = failures.saturating_add(1);
                sleep(shared.pause(failures)).await;
            }
        }
    }
}

/// How often the last records are tried to be sent: another group over the same store may take over in between.
const TRIES: u32 = 5;

/// Forwards what is left.
///
/// # Errors
/// [`RunError`]; the rest is forwarded by the next consumer of the inbox.
pub(crate) async fn last_forward<W: Work>(work: &W, shared: &Shared) -> Result<(), RunError> {
    let mut failures = 0;
    while work.has_outbox() {
        match work.forward(shared).await {
            Ok(0) => break,
            Ok(_) => failures = 0,
            Err(error) => {
                failures += 1;
                if failures == TRIES {
                    return Err(error);
                }
                sleep(shared.pause(failures)).await;
            }
        }
    }
    Ok(())
}
