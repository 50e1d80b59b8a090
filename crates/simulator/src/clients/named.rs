//! Named producers, each reading its own source from where the log says.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::time::Duration;

use oncelog::{AppendError, Producer, Record, RecordMetadata, SendError};

use crate::batch::value;
use crate::violation::{Violation, violated};
use crate::world::{TOPICS, Task, World, poll};

/// A name, and how far its source was read.
pub(crate) struct Named {
    number: u64,
    producer: Option<Producer>,
    /// Whoever had the name before, and does not know that it was taken over.
    zombie: Option<Producer>,
    next: u64,
    /// One more than the highest position that was ever sent.
    end: u64,
    tickets: Vec<Task<Result<RecordMetadata, AppendError>>>,
    failed: bool,
    /// Producer id and epoch of the newest instance.
    identity: Option<(i64, i16)>,
}

impl Named {
    pub(crate) fn new(number: u64) -> Named {
        Named {
            number,
            producer: None,
            zombie: None,
            next: 0,
            end: 0,
            tickets: Vec::new(),
            failed: false,
            identity: None,
        }
    }

    // Far from what others send.
    fn content(&self, position: u64) -> u64 {
        ((self.number + 1) << 40) | position
    }
}

impl World {
    /// A named producer sends its next record, after it was opened if it is not.
    pub(crate) fn named_send(&mut self, client: usize) -> Result<(), Violation> {
        if self.named[client].producer.is_none() && !self.named_open(client, false)? {
            return Ok(());
        }
        let named = &self.named[client];
        let Some(producer) = named.producer.clone() else {
            return Ok(());
        };
        let position = named.next;
        let content = named.content(position);
        self.history.sent(content);
        let value = value(content, position % self.plan.record_bytes.max(1));
        let key = (position % 5).to_be_bytes();
        let record = Record::to(TOPICS[0])
            .key(&key)
            .value(&value)
            .position(position);
        match producer.try_send(record) {
            Ok(ticket) => {
                let named = &mut self.named[client];
                named.next += 1;
                named.end = named.end.max(named.next);
                named.tickets.push(Box::pin(ticket.into_future()));
            }
            Err(SendError::Full { .. }) => {}
            Err(error) => {
                self.event(format_args!("named producer {client}: {error}"));
                self.named_drop(client);
            }
        }
        Ok(())
    }

    /// Opens a name, taking it over or not. Returns whether it could be opened.
    pub(crate) fn named_open(&mut self, client: usize, take_over: bool) -> Result<bool, Violation> {
        let builder = self.engine()?.producer().name(format!("name-{client}"));
        let builder = builder
            .transport(self.network.clone())
            .batch_bytes(300)
            .max_record_bytes(4_000)
            .buffer_bytes(20_000)
            .max_in_flight(usize::try_from(self.plan.in_flight).unwrap_or(1))
            .delivery_timeout(Duration::from_secs(30));
        let builder = if take_over {
            builder.take_over()
        } else {
            builder
        };
        let producer = match builder.open() {
            Ok(producer) => producer,
            // The one before still hands over what it holds.
            Err(SendError::NameInUse { .. }) if !take_over => return Ok(false),
            Err(_) if self.may_fail() => {
                // It may have fenced the one before already.
                if let Some((id, epoch)) = self.named[client].identity {
                    self.logs
                        .iter_mut()
                        .for_each(|log| log.model.perhaps_fence(id, epoch));
                }
                return Ok(false);
            }
            Err(error) => return violated("I43", format!("name {client} does not open: {error}")),
        };
        let (id, epoch) = producer.identity();
        self.seen_id(id);
        self.logs
            .iter_mut()
            .for_each(|log| log.model.keep(id, epoch));
        let from = producer.resume_from();
        self.event(format_args!("name {client} is producer {id}, from {from}"));
        let named = &self.named[client];
        if from > named.end {
            return violated(
                "I43",
                format!("name {client} resumes at {from} of {}", named.end),
            );
        }
        let stored = self.stored_by(client);
        if let Some(missing) = (0..from).find(|position| !stored.contains(position)) {
            return violated(
                "I1",
                format!("name {client} resumes at {from}, and {missing} is not there"),
            );
        }
        let named = &mut self.named[client];
        named.zombie = named.producer.take();
        named.identity = Some((id, epoch));
        named.tickets.clear();
        (named.producer, named.next, named.failed) = (Some(producer), from, false);
        Ok(true)
    }

    /// Another instance takes the name over; the one before sends on, in vain.
    pub(crate) fn named_take_over(&mut self, client: usize) -> Result<(), Violation> {
        if self.named_open(client, true)?
            && let Some(zombie) = self.named[client].zombie.take()
        {
            let content = self.named[client].content(u64::from(u32::MAX));
            let value = value(content, 0);
            let record = Record::to(TOPICS[0])
                .value(&value)
                .position(u64::from(u32::MAX));
            if zombie.try_send(record).is_ok() {
                return violated("I43", format!("name {client}: the one before still sends"));
            }
        }
        Ok(())
    }

    /// A named producer goes without a word.
    pub(crate) fn named_drop(&mut self, client: usize) {
        let named = &mut self.named[client];
        (named.producer, named.zombie) = (None, None);
        named.tickets.clear();
    }

    /// The process is gone.
    pub(crate) fn named_lost(&mut self) {
        (0..self.named.len()).for_each(|client| self.named_drop(client));
    }

    pub(crate) fn look_at_named(&mut self) -> Result<(), Violation> {
        for client in 0..self.named.len() {
            for mut ticket in std::mem::take(&mut self.named[client].tickets) {
                match poll(&mut ticket) {
                    None => self.named[client].tickets.push(ticket),
                    Some(Ok(_)) => {}
                    Some(Err(_)) => self.named[client].failed = true,
                }
            }
            if self.named[client].failed {
                self.named_drop(client);
                self.named[client].failed = false;
            }
        }
        Ok(())
    }

    // Every position of a name that is in some log.
    fn stored_by(&self, client: usize) -> BTreeSet<u64> {
        let first = self.named[client].content(0);
        let logs = self.logs.iter().filter(|log| log.topic == TOPICS[0]);
        let entries = logs.flat_map(|log| log.model.entries());
        let contents = entries.flat_map(|entry| &entry.batch.contents);
        contents
            .filter_map(|content| content.checked_sub(first))
            .filter(|position| *position < 1 << 40)
            .collect()
    }

    /// No position may be in the logs twice.
    pub(crate) fn check_names(&self) -> Result<(), Violation> {
        for client in 0..self.named.len() {
            let first = self.named[client].content(0);
            let mut seen = BTreeSet::new();
            for log in &self.logs {
                let contents = log.model.entries().iter().flat_map(|e| &e.batch.contents);
                for position in contents.filter_map(|content| content.checked_sub(first)) {
                    if position < 1 << 40 && !seen.insert(position) {
                        return violated(
                            "I2",
                            format!("name {client}: position {position} is there twice"),
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// In the calm at the end: sends what is missing. Returns whether all is there.
    pub(crate) fn named_catch_up(&mut self, client: usize) -> Result<bool, Violation> {
        let stored = self.stored_by(client);
        let named = &self.named[client];
        let is_there = (0..named.end).all(|position| stored.contains(&position));
        if named.producer.is_none() || named.next < named.end {
            self.named_send(client)?;
        }
        let named = &self.named[client];
        Ok(is_there && named.tickets.is_empty() && named.next >= named.end)
    }
}
