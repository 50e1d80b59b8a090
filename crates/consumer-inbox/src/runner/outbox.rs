//! What an inbox sends goes to its topics, each record once: a named producer sends it, the inbox's numbers are its positions.

use std::sync::atomic::Ordering;

use log_engine::{Producer, Record};

use super::error::RunError;
use super::job::Shared;
use crate::inbox::{Inbox, Outgoing};

/// Records that are sent at once.
const AT_ONCE: usize = 1_000;

/// Who sends, and the number it sent last in this process.
#[derive(Default)]
pub(crate) struct Outbox(tokio::sync::Mutex<Option<(Producer, u64)>>);

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
    /// Sends some; how many.
    pub(crate) async fn forward(
        &self,
        shared: &Shared,
        group: &str,
        inbox: &impl Inbox,
    ) -> Result<usize, RunError> {
        // Forgotten after a failure: the next one asks the topics what they have.
        let mut held = self.0.lock().await;
        let sender = held.take();
        let records = inbox.outgoing(AT_ONCE).await?;
        let Some((through, _)) = records.last() else {
            *held = sender;
            return Ok(0);
        };
        let (producer, last) = match sender {
            Some(sender) => sender,
            None => {
                let named = shared.engine.producer().name(format!("{group}-outbox"));
                (named.take_over().repartition().open().map_err(failed)?, 0)
            }
        };
        for (number, out) in records.iter().filter(|(number, _)| *number > last) {
            let sent = producer.send(record(*number, out)).await;
            sent.map_err(failed)?;
        }
        producer.flush().await.map_err(failed)?;
        inbox.forwarded(*through).await?;
        let sent = u64::try_from(records.len()).unwrap_or(u64::MAX);
        shared.metrics.forwarded.fetch_add(sent, Ordering::Relaxed);
        *held = Some((producer, *through));
        Ok(records.len())
    }
}
