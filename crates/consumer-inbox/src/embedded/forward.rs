//! The outbox: what was committed goes to its topics, each record once.

use std::sync::atomic::Ordering;

use log_engine::{Producer, ReadError, Record};

use super::error::{EmbeddedError, ForwardError};
use super::event::Event;
use super::inbox::EmbeddedInbox;
use super::ledger::{Ledger, Write};
use crate::error::StoreError;
use crate::inbox::Outgoing;

impl Ledger {
    /// The first outputs that are durable and were not forwarded.
    pub(super) async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        let mut found = Vec::new();
        while found.len() < max {
            let from = found.last().map_or(0, |(number, _): &(u64, _)| number + 1);
            let durable_end = self.events.durable_end();
            let next = {
                let state = self.state.lock();
                let mut rest = state.outputs.range(from..);
                rest.next().map(|(number, at)| (*number, *at))
            };
            // By its number: that is where it was first.
            let Some((number, at)) = next.filter(|(number, _)| *number <= durable_end) else {
                break;
            };
            // A copy may not be durable, and cannot be read then.
            self.wait_for(at + 1).await?;
            match self.read_event(at) {
                Ok(Event::Output { record, .. }) => found.push((number, record)),
                // It was copied since, or forwarded.
                Err(EmbeddedError::Read {
                    source: ReadError::Deleted { .. },
                    ..
                }) => {}
                Ok(_) => return Err(StoreError::Misuse("an output's place holds something else")),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    pub(super) async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        let forwarded = self.run(|work| {
            if work.state.outputs.range(..=through).next().is_some() {
                work.write(vec![Write::Other(Event::Forwarded { through })])?;
            }
            Ok(())
        });
        forwarded.await
    }

    /// The name of the producer that forwards.
    pub(super) fn sender(&self) -> String {
        format!("{}-outbox", self.topic)
    }

    // The producer that forwards, and the last number that it was given; 0 if none.
    fn forwarder(&self) -> Result<(Producer, u64), ForwardError> {
        let mut forwarder = self.forwarder.lock();
        if let Some((producer, last)) = &*forwarder {
            return Ok((producer.clone(), *last));
        }
        let name = self.sender();
        // Only this ledger has the name: whoever holds it is a handle of its own that failed. What is queued must
        // go where it should, also when a topic has more partitions than when it was queued.
        let producer = self.engine.producer().name(name);
        let opened = producer.take_over().repartition().open();
        let producer = opened.map_err(ForwardError::Open)?;
        *forwarder = Some((producer.clone(), 0));
        Ok((producer, 0))
    }

    fn note_sent(&self, number: u64) {
        if let Some((_, last)) = &mut *self.forwarder.lock() {
            *last = number;
        }
    }

    async fn forward(&self, max: usize) -> Result<usize, ForwardError> {
        let records = self.outgoing(max).await?;
        let Some((through, _)) = records.last() else {
            return Ok(0);
        };
        let (producer, last) = self.forwarder()?;
        for (number, record) in records.iter().filter(|(number, _)| *number > last) {
            let mut out = Record::to(&record.topic).position(*number);
            if let Some(key) = &record.key {
                out = out.key(key);
            }
            if let Some(value) = &record.value {
                out = out.value(value);
            }
            for (name, value) in &record.headers {
                out = out.header(name, value.as_deref());
            }
            let sent = producer.send(out).await;
            let topic = || record.topic.clone();
            sent.map_err(|source| ForwardError::Send {
                number: *number,
                topic: topic(),
                source,
            })?;
            self.note_sent(*number);
        }
        producer.flush().await?;
        self.forwarded(*through).await?;
        Ok(records.len())
    }
}

impl EmbeddedInbox {
    /// Sends at most `max` outgoing records to their topics, which must exist, and forgets them. How many: less than `max` if
    /// there are no more. Repeated after whatever failure or crash, each record is stored once: a named producer sends them,
    /// and their numbers are its positions. One call at a time.
    ///
    /// # Cancel safety
    /// Nothing is lost or doubled by dropping it.
    ///
    /// # Errors
    /// [`ForwardError`]; what came before is in its topic.
    pub async fn forward(&self, max: usize) -> Result<usize, ForwardError> {
        let ledger = &self.ledger;
        if ledger.is_forwarding.swap(true, Ordering::AcqRel) {
            return Err(ForwardError::Running);
        }
        let _running = Running(ledger);
        let forwarded = ledger.forward(max).await;
        if forwarded.is_err() {
            // The next one asks the topics what they have.
            *ledger.forwarder.lock() = None;
        }
        forwarded
    }
}

struct Running<'a>(&'a Ledger);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.is_forwarding.store(false, Ordering::Release);
    }
}
