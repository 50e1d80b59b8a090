//! What an inbox sends goes to its topics, each record once: a named producer sends it, the inbox's numbers are its positions.

use std::sync::atomic::{AtomicBool, Ordering};

use log_engine::{Producer, Record};

use super::error::RunError;
use super::job::Shared;
use crate::failpoints::{Point, hit};
use crate::inbox::{Inbox, Outgoing};

/// Records that are sent at once.
const AT_ONCE: usize = 1_000;

/// What is sent, and by whom.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Who sends, and the number it sent last in this process.
    sender: tokio::sync::Mutex<Option<(Producer, u64)>>,
    /// Whether there was nothing at the last look.
    is_empty: AtomicBool,
}

fn record(number: u64, out: &Outgoing) -> Record<'_> {
    let mut record = Record::to(&out.topic).position(number);
    if let Some(key) = &out.key {
        record = record.key(key);
    }
    if let Some(value) = &out.value {
        record = record.value(value);
    }
    for (name, value) in &out.headers {
        record = record.header(name, value.as_deref());
    }
    record
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RunError {
    RunError::Forward(error.into())
}

impl Outbox {
    /// Whether all that was there at the last look is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Acquire)
    }

    /// Sends some; how many.
    pub(crate) async fn forward(
        &self,
        shared: &Shared,
        inbox: &impl Inbox,
    ) -> Result<usize, RunError> {
        // Forgotten after a failure: the next one asks the topics what they have.
        let mut held = self.sender.lock().await;
        let sender = held.take();
        let records = inbox.outgoing(AT_ONCE).await?;
        self.is_empty.store(records.is_empty(), Ordering::Release);
        shared.metrics.live.unsent(!records.is_empty());
        let Some((through, _)) = records.last() else {
            *held = sender;
            return Ok(0);
        };
        let (producer, last) = match sender {
            Some(sender) => sender,
            None => {
                let named = shared.engine.producer().name(inbox.sender());
                (named.take_over().repartition().open().map_err(failed)?, 0)
            }
        };
        for (number, out) in records.iter().filter(|(number, _)| *number > last) {
            let sent = producer.send(record(*number, out)).await;
            sent.map_err(failed)?;
        }
        producer.flush().await.map_err(failed)?;
        hit(Point::Sent).await?;
        inbox.forwarded(*through).await?;
        let sent = u64::try_from(records.len()).unwrap_or(u64::MAX);
        shared.metrics.forwarded.fetch_add(sent, Ordering::Relaxed);
        *held = Some((producer, *through));
        if records.len() < AT_ONCE {
            shared.metrics.live.unsent(false);
        }
        Ok(records.len())
    }
}
