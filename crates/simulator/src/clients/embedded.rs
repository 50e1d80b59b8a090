//! Producers inside of the process, without a name: batching, retrying, and gone with it.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::time::Duration;

use oncelog::{
    AppendError, AppendId, Producer, Record, RecordMetadata, Resolution, ResolveError, SendError,
};

use crate::batch::value;
use crate::random::Random;
use crate::violation::{Violation, violated};
use crate::world::{TOPICS, Task, World, poll};

/// One session of an embedded producer.
pub(crate) struct Embedded {
    number: u64,
    producer: Option<Producer>,
    ids: BTreeSet<i64>,
    tickets: Vec<Waiting>,
    closing: Option<Task<Result<(), AppendError>>>,
    /// Records whose outcome has to be asked for.
    doubts: Vec<Doubt>,
}

struct Waiting {
    doubt: Doubt,
    task: Task<Result<RecordMetadata, AppendError>>,
}

struct Doubt {
    content: u64,
    id: AppendId,
    topic: &'static str,
    task: Option<Task<Result<Resolution, ResolveError>>>,
}

impl World {
    /// An embedded producer is opened.
    pub(crate) fn embedded_open(&mut self, random: &mut Random) -> Result<(), Violation> {
        let number = random.any();
        let builder = self.engine()?.producer().transport(self.network.of(number));
        let linger_ms = random.one_of(&[0, 0, 5]);
        let patience_ms = random.one_of(&[500, 30_000, 120_000]);
        // Longer is refused where the log takes producers that it has forgotten.
        let patience_ms = match (self.plan.kafka_unknown, self.plan.expiry_ms) {
            (1, expiry_ms @ 1..) => patience_ms.min(expiry_ms / 2),
            _ => patience_ms,
        };
        let builder = builder
            .batch_bytes(300)
            .linger(Duration::from_millis(linger_ms))
            .max_in_flight(usize::try_from(self.plan.in_flight).unwrap_or(1))
            .delivery_timeout(Duration::from_millis(patience_ms))
            .max_record_bytes(4_000)
            .buffer_bytes(20_000);
        let producer = match builder.open() {
            Ok(producer) => producer,
            Err(_) if self.may_fail() => return Ok(()),
            Err(error) => return violated("I15", format!("no producer: {error}")),
        };
        let id = producer.identity().0;
        self.new_id(id)?;
        self.event(format_args!("embedded producer {id} begins"));
        self.embedded.push(Embedded {
            number,
            producer: Some(producer),
            ids: BTreeSet::new(),
            tickets: Vec::new(),
            closing: None,
            doubts: Vec::new(),
        });
        Ok(())
    }

    /// An embedded producer sends a record.
    pub(crate) fn embedded_send(
        &mut self,
        client: usize,
        random: &mut Random,
    ) -> Result<(), Violation> {
        let Some(producer) = self.embedded[client].producer.clone() else {
            return Ok(());
        };
        let content = self.content();
        let topic = TOPICS[random.place(2)];
        let value = value(content, random.below(self.plan.record_bytes));
        let key = random.below(5).to_be_bytes();
        match producer.try_send(Record::to(topic).key(&key).value(&value)) {
            Ok(ticket) => {
                let id = ticket.id().clone();
                self.event(format_args!("record {content:x} is {id}"));
                self.embedded[client].tickets.push(Waiting {
                    doubt: Doubt {
                        content,
                        id,
                        topic,
                        task: None,
                    },
                    task: Box::pin(ticket.into_future()),
                });
                Ok(())
            }
            Err(SendError::Full { .. } | SendError::Session(_) | SendError::Stopped(_)) => {
                self.history.not_written(content)
            }
            Err(error) => violated("I43", format!("a record is refused: {error}")),
        }
    }

    /// An embedded producer goes: it is closed, or only dropped.
    pub(crate) fn embedded_end(&mut self, client: usize, random: &mut Random) {
        let embedded = &mut self.embedded[client];
        if let Some(producer) = embedded.producer.take()
            && random.chance(700)
        {
            embedded.closing = Some(Box::pin(async move { producer.close().await }));
        }
    }

    pub(crate) fn embedded_uses(&mut self, number: u64, id: i64) {
        if let Some(embedded) = self.embedded.iter_mut().find(|e| e.number == number) {
            embedded.ids.insert(id);
        }
    }

    /// The process is gone, and with it every ticket.
    pub(crate) fn embedded_lost(&mut self) {
        for embedded in &mut self.embedded {
            embedded.producer = None;
            embedded.closing = None;
            let tickets = std::mem::take(&mut embedded.tickets);
            embedded
                .doubts
                .extend(tickets.into_iter().map(|ticket| ticket.doubt));
            for doubt in &mut embedded.doubts {
                doubt.task = None;
            }
        }
    }

    pub(crate) fn look_at_embedded(&mut self) -> Result<(), Violation> {
        for client in 0..self.embedded.len() {
            for mut ticket in std::mem::take(&mut self.embedded[client].tickets) {
                match poll(&mut ticket.task) {
                    None => self.embedded[client].tickets.push(ticket),
                    Some(Ok(at)) => self.stored(&ticket.doubt, at.partition, at.offset)?,
                    Some(Err(error)) if error.is_outcome_unknown() => {
                        self.embedded[client].doubts.push(ticket.doubt);
                    }
                    Some(Err(error)) => {
                        self.event(format_args!("{} failed: {error}", ticket.doubt.id));
                        self.history.not_written(ticket.doubt.content)?;
                    }
                }
            }
            self.look_at_doubts(client)?;
            if let Some(closing) = &mut self.embedded[client].closing
                && poll(closing).is_some()
            {
                self.embedded[client].closing = None;
                for id in self.embedded[client].ids.clone() {
                    self.logs.iter_mut().for_each(|log| log.model.retire(id));
                }
            }
        }
        let is_there = |e: &Embedded| e.producer.is_some() || e.closing.is_some();
        self.embedded
            .retain(|e| is_there(e) || !e.tickets.is_empty() || !e.doubts.is_empty());
        Ok(())
    }

    fn stored(
        &mut self,
        doubt: &Doubt,
        partition: u32,
        offset: Option<u64>,
    ) -> Result<(), Violation> {
        let log = self.log(doubt.topic, partition)?;
        let Some(offset) = offset else {
            return violated("I7", format!("{} is stored, but not said where", doubt.id));
        };
        let durably = self.is_durable(log);
        self.history.acked(doubt.content, log, offset, durably)
    }

    /// Asks what became of a record.
    pub(crate) fn embedded_resolve(&mut self, client: usize) -> Result<(), Violation> {
        let engine = self.engine()?;
        let waiting = |doubt: &Doubt| doubt.task.is_none();
        let Some(at) = self.embedded[client].doubts.iter().position(waiting) else {
            return Ok(());
        };
        let doubt = &self.embedded[client].doubts[at];
        let id = doubt.id.clone();
        // What is not written never will be: the log refuses the rest of the epoch.
        let (log, producer_id, epoch) = self.asked(&id, doubt.topic)?;
        self.logs[log].model.perhaps_fence(producer_id, epoch);
        let task = async move { engine.resolve(&id).await };
        self.embedded[client].doubts[at].task = Some(Box::pin(task));
        Ok(())
    }

    // Which log an append id is of, whose, and of which epoch: topic/partition/id.epoch...
    fn asked(&self, id: &AppendId, topic: &str) -> Result<(usize, i64, i16), Violation> {
        let text = id.to_string();
        let mut words = text.split('/').skip(1);
        let partition = words.next().and_then(|word| word.parse().ok());
        let mut numbers = words.next().unwrap_or_default().split('.');
        let id = numbers.next().and_then(|word| word.parse().ok());
        let epoch = numbers.next().and_then(|word| word.parse().ok());
        match (partition, id, epoch) {
            (Some(partition), Some(id), Some(epoch)) => {
                Ok((self.log(topic, partition)?, id, epoch))
            }
            _ => violated("I7", format!("{text:?} is no append id")),
        }
    }

    fn look_at_doubts(&mut self, client: usize) -> Result<(), Violation> {
        for mut doubt in std::mem::take(&mut self.embedded[client].doubts) {
            let Some(task) = &mut doubt.task else {
                self.embedded[client].doubts.push(doubt);
                continue;
            };
            let Some(resolved) = poll(task) else {
                self.embedded[client].doubts.push(doubt);
                continue;
            };
            self.event(format_args!("{} is {resolved:?}", doubt.id));
            match resolved {
                Ok(Resolution::Written { offset }) => {
                    let (log, ..) = self.asked(&doubt.id, doubt.topic)?;
                    self.stored(&doubt, self.logs[log].partition, offset)?;
                }
                Ok(Resolution::NotWritten) => {
                    let (log, id, epoch) = self.asked(&doubt.id, doubt.topic)?;
                    self.logs[log].model.fence(id, epoch);
                    self.history.not_written(doubt.content)?;
                }
                Ok(Resolution::Forgotten(why)) => {
                    if self.plan.deletion == 0 && self.plan.expiry_ms == 0 {
                        return violated("I7", format!("{} is forgotten: {why}", doubt.id));
                    }
                }
                // Asked while no answer could come for long; the next question gets one.
                Err(ResolveError::TimedOut { .. }) => {
                    doubt.task = None;
                    self.embedded[client].doubts.push(doubt);
                }
                Err(_) if self.may_fail() => {
                    doubt.task = None;
                    self.embedded[client].doubts.push(doubt);
                }
                Err(error) => return violated("I7", format!("{}: {error}", doubt.id)),
                Ok(other) => return violated("I7", format!("{}: {other:?}", doubt.id)),
            }
        }
        Ok(())
    }

    /// Whether every embedded producer has its answers.
    pub(crate) fn embedded_done(&self) -> bool {
        self.embedded
            .iter()
            .all(|e| e.tickets.is_empty() && e.doubts.is_empty() && e.closing.is_none())
    }
}
