//! One producer of the demo, over its restarts.
//!
//! A restart is decided by the dice of a record. From that record on acknowledgements no longer
//! arrive; some records later the producer is gone, with batches unanswered and others still
//! filling. What is in the log at that moment follows from the seed alone: before its link hangs, a
//! producer waits until every batch that was full has its answer.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::time::Duration;

use oncelog::{AppendError, Engine, Producer, ProducerCounts, Record, Ticket};

use super::record;
use super::{PARTITIONS, TOPIC};
use crate::dice::Dice;
use crate::link::{Link, Whose};
use crate::wait::wait_unless;

/// Small enough that every producer sends a hundred batches or so, and loses some.
const BATCH_RECORDS: u64 = 100;
/// Batches without an answer at which a producer waits.
const BATCHES_AHEAD: usize = 40;
/// A batch leaves when it is full, and at the end; never because of the time.
const NEVER: Duration = Duration::from_secs(365 * 86_400);
/// Most records between the one whose dice decide and the restart.
const LAST_RECORDS: u64 = 2 * BATCH_RECORDS;
/// Sets the dice of restarts apart from those of links.
const RESTARTS: u64 = 0x7265_7374_6172_7473;

/// What all producers of a run have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) lost_ack: f64,
    pub(super) restart: f64,
    /// With names; without, a producer that restarts is a stranger to the log.
    pub(super) is_named: bool,
}

/// Counts of one producer, or of all. Records, but for `restarts`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    /// Different ones that were handed over.
    pub(super) handed: u64,
    /// Sent again, be it by a producer or by the one that took its place.
    pub(super) retransmitted: u64,
    pub(super) restarts: u64,
    /// Answered by the log as known already.
    pub(super) duplicates_answered: u64,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Sent) {
        self.handed += other.handed;
        self.retransmitted += other.retransmitted;
        self.restarts += other.restarts;
        self.duplicates_answered += other.duplicates_answered;
    }
}

pub(super) struct Sender {
    plan: Plan,
    engine: Engine,
    number: u32,
    records: u64,
    producer: Producer,
    link: Link,
    session: u64,
    /// The record to hand over next.
    next: u64,
    /// Records that were handed over, at least once.
    handed: u64,
    /// Records in the batch that fills, for each partition; without a name they all go to one
    /// partition until the batch is full.
    filling: [u64; PARTITIONS as usize],
    /// The last ticket of each full batch.
    unanswered: VecDeque<Ticket>,
    /// The record before which it restarts, and the first that had no answer for certain.
    restart_at: Option<(u64, u64)>,
    /// Of earlier sessions.
    counts: ProducerCounts,
    duplicates_answered: u64,
    restarts: u64,
}

impl Sender {
    pub(super) fn new(
        plan: Plan,
        engine: &Engine,
        number: u32,
        records: u64,
    ) -> anyhow::Result<Sender> {
        let (producer, link) = open(plan, engine, number, 0)?;
        Ok(Sender {
            plan,
            engine: engine.clone(),
            number,
            records,
            next: producer.resume_from(),
            producer,
            link,
            session: 0,
            handed: 0,
            filling: [0; PARTITIONS as usize],
            unanswered: VecDeque::new(),
            restart_at: None,
            counts: ProducerCounts::default(),
            duplicates_answered: 0,
            restarts: 0,
        })
    }

    /// Hands over about a batch of records. Gives how many of them were new; `None` at the end.
    pub(super) fn step(&mut self) -> anyhow::Result<Option<u64>> {
        let before = self.handed;
        for _ in 0..BATCH_RECORDS {
            match self.restart_at {
                Some((at, _)) if self.next >= at.min(self.records) => self.restart()?,
                _ if self.next >= self.records => break,
                _ => self.send()?,
            }
        }
        let is_over = self.next >= self.records && self.restart_at.is_none();
        let new = self.handed - before;
        Ok((new > 0 || !is_over).then_some(new))
    }

    /// Brings what was handed over into the log, also what a session that hangs left behind.
    pub(super) fn finish(mut self) -> anyhow::Result<Sent> {
        if self.restart_at.is_some() {
            self.restart()?;
        }
        while self.next < self.handed {
            self.send()?;
        }
        self.wait(self.producer.close())?;
        self.counts += self.producer.counts();
        let sent_at_all = self.counts.records + self.counts.retransmitted;
        Ok(Sent {
            handed: self.handed,
            retransmitted: sent_at_all.saturating_sub(self.handed),
            restarts: self.restarts,
            duplicates_answered: self.duplicates_answered + self.link.duplicates_answered(),
        })
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let number = self.next;
        let value = record::value(self.number, number);
        let mut record = Record::to(TOPIC).value(&value).timestamp(record::TIME_MS);
        let is_new = number >= self.handed;
        let mut lane = 0;
        if self.plan.is_named {
            record = record.position(number);
            lane = usize::try_from(number % u64::from(PARTITIONS))?;
        }
        let skipped = || self.producer.counts().skipped;
        let skipped_before = if is_new { 0 } else { skipped() };
        let ticket = self.producer.blocking_send(record)?;
        self.next += 1;
        // What is in the log goes into no batch.
        if is_new || skipped() == skipped_before {
            self.filling[lane] += 1;
            if self.filling[lane] == BATCH_RECORDS {
                self.filling[lane] = 0;
                self.unanswered.push_back(ticket);
            }
        }
        if is_new {
            self.handed = self.next;
            let words = [self.plan.seed, RESTARTS, u64::from(self.number), number];
            let mut dice = Dice::of(&words);
            if self.restart_at.is_none() && dice.falls(self.plan.restart) {
                return self.hang(1 + dice.below(LAST_RECORDS));
            }
        }
        let most = if self.restart_at.is_some() {
            usize::MAX
        } else {
            BATCHES_AHEAD
        };
        self.wait_for_all_but(most)
    }

    fn wait_for_all_but(&mut self, left: usize) -> anyhow::Result<()> {
        while self.unanswered.len() > left {
            if let Some(ticket) = self.unanswered.pop_front() {
                self.wait(ticket.into_future())?;
            }
        }
        Ok(())
    }

    /// Waits for an answer, but not when the log refuses what will not pass.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, AppendError>>) -> anyhow::Result<T> {
        match wait_unless(answer, || self.link.trouble().is_some()) {
            Some(answer) => Ok(answer?),
            None => Err(self.link.trouble().unwrap_or(AppendError::Closed).into()),
        }
    }

    /// Loses all answers from now on, and restarts after that many records more.
    fn hang(&mut self, records: u64) -> anyhow::Result<()> {
        self.wait_for_all_but(0)?;
        self.link.hang();
        let unanswered: u64 = self.filling.iter().sum();
        // With names the log knows better than the producer where to go on.
        self.restart_at = Some((self.next + records, self.next - unanswered));
        Ok(())
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        let Some((_, answered)) = self.restart_at.take() else {
            return Ok(());
        };
        self.link.wait_for_delivery();
        self.session += 1;
        self.restarts += 1;
        if !self.plan.is_named {
            // It is gone with all that it buffered.
            self.counts += self.producer.counts();
            self.link.cut();
        }
        let (producer, link) = open(self.plan, &self.engine, self.number, self.session)?;
        let old = std::mem::replace(&mut self.producer, producer);
        if self.plan.is_named {
            self.counts += old.counts();
            self.link.cut();
        }
        self.duplicates_answered += self.link.duplicates_answered();
        self.link = link;
        self.next = if self.plan.is_named {
            self.producer.resume_from()
        } else {
            answered
        };
        self.filling = [0; PARTITIONS as usize];
        self.unanswered.clear();
        Ok(())
    }
}

fn open(
    plan: Plan,
    engine: &Engine,
    number: u32,
    session: u64,
) -> anyhow::Result<(Producer, Link)> {
    let whose = Whose {
        seed: plan.seed,
        producer: number,
        session,
    };
    let link = Link::new(whose, plan.lost_ack);
    let mut producer = engine
        .producer()
        .transport(link.clone())
        .linger(NEVER)
        .delivery_timeout(NEVER)
        .retry_backoff_max(Duration::from_millis(2))
        .batch_records(usize::try_from(BATCH_RECORDS)?)
        // Far above what is ever buffered: what makes a batch full is the number of its records.
        .buffer_bytes(1 << 30);
    if plan.is_named {
        producer = producer.name(format!("producer-{number:05}")).take_over();
    }
    Ok((producer.open()?, link))
}
