//! A producer's way to one partition: batches that fill, wait, and are in flight.
//!
//! Batches leave in the order of their sequences, and at most as many are unanswered as the log's
//! window recognises, so that whatever is sent again is recognised. A batch that fails takes
//! everything behind it along: nothing may overtake, and a sequence must not be left out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use partition_log::Rejection;
use record_batch::{BatchBuilder, Compression, ProducerIdentity, SourcePosition};

use super::ProducerCounts;
use super::ticket::{Outcome, Stored};
use crate::append_id::AppendId;
use crate::error::{AppendError, Unknown};
use crate::handle::{Appended, Partition};
use crate::transport::{Answer, Transport, TransportError};

/// First pause before a batch is sent again, and the longest; each is twice the one before.
const BACKOFF_MS: (u64, u64) = (1, 1_000);

/// A batch that still takes records.
struct Filling {
    builder: BatchBuilder,
    outcome: Arc<Outcome>,
    since_ms: u64,
    reserved_bytes: usize,
    last_position: Option<u64>,
}

/// Records of a named producer that are not known to be durable: those of one batch.
struct Undurable {
    first: u64,
    outcome: Arc<Outcome>,
    records: u64,
}

/// A whole batch, under way or about to be.
struct Sent {
    bytes: Bytes,
    outcome: Arc<Outcome>,
    records: u32,
    base_sequence: i32,
    since_ms: u64,
    reserved_bytes: usize,
    /// The answer that is awaited; `None`: not sent yet, or to be sent again.
    answer: Option<Answer>,
    attempts: u32,
    retry_ms: u64,
    /// A try was made whose outcome is not known.
    is_in_doubt: bool,
    is_answered: bool,
}

/// What the lane's producer has to know after a turn.
#[derive(Default)]
pub(super) struct LaneNews {
    /// Bytes of the buffer that are free again.
    pub(super) freed_bytes: usize,
    /// What was sent and answered.
    pub(super) counts: ProducerCounts,
    /// Batches that failed.
    pub(super) failed: Vec<Arc<Outcome>>,
    /// Nothing more may be sent by this producer.
    pub(super) stopped: Option<AppendError>,
    /// When the lane wants another turn, in elapsed ms.
    pub(super) next_ms: Option<u64>,
    /// Somebody else sends with this producer's identity, or the log forgot it.
    pub(super) wants_identity: bool,
}

/// Limits and times of a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneSettings {
    pub(super) compression: Compression,
    pub(super) batch_bytes: usize,
    pub(super) linger_ms: u64,
    pub(super) in_flight_max: usize,
    pub(super) delivery_timeout_ms: u64,
    pub(super) is_named: bool,
}

pub(super) struct Lane {
    pub(super) partition: Partition,
    pub(super) topic_id: u128,
    settings: LaneSettings,
    producer_id: i64,
    producer_epoch: i16,
    next_sequence: i32,
    filling: Option<Filling>,
    sent: VecDeque<Sent>,
    spare: Option<BatchBuilder>,
    undurable: VecDeque<Undurable>,
    /// Position below which everything is durable, for the batch that is built next.
    floor: u64,
}

/// Where a record went in its batch.
pub(super) struct Placed {
    pub(super) outcome: Arc<Outcome>,
    pub(super) identity: ProducerIdentity,
    pub(super) index: u32,
}

impl Lane {
    pub(super) fn new(
        (partition, topic_id): (Partition, u128),
        settings: LaneSettings,
        (producer_id, producer_epoch): (i64, i16),
    ) -> Lane {
        Lane {
            partition,
            topic_id,
            settings,
            producer_id,
            producer_epoch,
            next_sequence: 0,
            filling: None,
            sent: VecDeque::new(),
            spare: None,
            undurable: VecDeque::new(),
            floor: 0,
        }
    }

    /// The lowest position handed over that is not known to be durable.
    pub(super) fn undurable(&mut self) -> Option<u64> {
        let synced = self.partition.state.ends.synced();
        let is_durable = |u: &Undurable| match u.outcome.get() {
            Some(Ok(stored)) => stored
                .base_offset
                .is_none_or(|base| base + u.records <= synced),
            _ => false,
        };
        while self.undurable.front().is_some_and(is_durable) {
            self.undurable.pop_front();
        }
        self.undurable.front().map(|oldest| oldest.first)
    }

    /// Sets the floor that batches carry from now on.
    pub(super) fn set_floor(&mut self, floor: u64) {
        self.floor = floor;
    }

    fn note_position(&mut self, position: u64, outcome: &Arc<Outcome>) {
        match self.undurable.back_mut() {
            Some(newest) if Arc::ptr_eq(&newest.outcome, outcome) => newest.records += 1,
            _ => {
                let outcome = outcome.clone();
                self.undurable.push_back(Undurable {
                    first: position,
                    outcome,
                    records: 1,
                });
            }
        }
    }

    /// Whether nothing is buffered or unanswered.
    pub(super) fn is_idle(&self) -> bool {
        self.filling.is_none() && self.sent.is_empty()
    }

    /// Whether a turn would send the batch that fills, or one that waits.
    pub(super) fn is_sendable(&self, now_ms: u64) -> bool {
        let has_room = self.sent.len() < self.settings.in_flight_max;
        let lingered = |f: &Filling| now_ms >= f.since_ms + self.settings.linger_ms;
        has_room
            && (self.filling.as_ref().is_some_and(lingered)
                || self.sent.iter().any(|s| s.attempts == 0))
    }

    /// Whether an append id is one of this lane's present identity.
    pub(super) fn is_lane_of(&self, id: &AppendId) -> bool {
        (self.producer_id, self.producer_epoch) == (id.producer_id, id.producer_epoch)
            && self.partition.state.index == id.partition
            && self.partition.state.topic == id.topic
    }

    /// The outcome of the batch that holds a sequence, while it has no answer.
    pub(super) fn unanswered_outcome(&self, sequence: i32) -> Option<Arc<Outcome>> {
        let within = |base: i32, records: usize| {
            let distance = (i64::from(sequence) - i64::from(base)) & i64::from(i32::MAX);
            distance < i64::try_from(records).unwrap_or(0)
        };
        let sent = self
            .sent
            .iter()
            .filter(|s| !s.is_answered)
            .find(|s| within(s.base_sequence, usize::try_from(s.records).unwrap_or(0)));
        let filling = || {
            let filling = self.filling.as_ref()?;
            let holds = within(self.next_sequence, filling.builder.len());
            holds.then(|| filling.outcome.clone())
        };
        sent.map(|s| s.outcome.clone()).or_else(filling)
    }

    /// Outcomes of everything that has no answer yet.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &Arc<Outcome>> {
        let sent = self
            .sent
            .iter()
            .filter(|s| !s.is_answered)
            .map(|s| &s.outcome);
        sent.chain(self.filling.iter().map(|f| &f.outcome))
    }

    /// Adds a record to the batch that fills; `push` writes it. Closes the batch before it when
    /// that is full.
    pub(super) fn push(
        &mut self,
        now_ms: u64,
        bytes: usize,
        position: Option<u64>,
        push: impl FnOnce(&mut BatchBuilder, bool) -> Result<(), record_batch::BatchError>,
    ) -> Result<Placed, record_batch::BatchError> {
        let full = |f: &Filling| f.builder.size_upper_bound() + bytes > self.settings.batch_bytes;
        if self.filling.as_ref().is_some_and(full) {
            self.close_batch();
        }
        let builder = || {
            let compression = self.settings.compression;
            BatchBuilder::new().compression(compression)
        };
        let mut filling = self.filling.take().unwrap_or_else(|| Filling {
            builder: self.spare.take().unwrap_or_else(builder),
            outcome: Arc::default(),
            since_ms: now_ms,
            reserved_bytes: 0,
            last_position: None,
        });
        let is_first = filling.builder.is_empty();
        let index = filling.builder.len();
        let pushed = push(&mut filling.builder, is_first);
        if pushed.is_ok() {
            filling.reserved_bytes += bytes;
            filling.last_position = position;
            filling.outcome.add_ticket();
            if let Some(position) = position {
                self.note_position(position, &filling.outcome);
            }
        }
        let placed = Placed {
            outcome: filling.outcome.clone(),
            identity: self.identity(advance(self.next_sequence, index)),
            index: u32::try_from(index).unwrap_or(u32::MAX),
        };
        if pushed.is_ok() || !is_first {
            self.filling = Some(filling);
        } else {
            self.spare = Some(filling.builder);
        }
        pushed.map(|()| placed)
    }

    fn identity(&self, base_sequence: i32) -> ProducerIdentity {
        ProducerIdentity {
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence,
        }
    }

    pub(super) fn producer_id(&self) -> i64 {
        self.producer_id
    }

    fn close_batch(&mut self) {
        let Some(mut filling) = self.filling.take() else {
            return;
        };
        let identity = self.identity(self.next_sequence);
        let records = filling.builder.len();
        if let Some(last) = filling.last_position {
            filling.builder.set_source(SourcePosition {
                last,
                floor: self.floor,
            });
        }
        match filling.builder.build(Some(identity)) {
            Ok(bytes) => {
                let bytes = Bytes::copy_from_slice(bytes);
                self.next_sequence = advance(self.next_sequence, records);
                self.sent.push_back(Sent {
                    bytes,
                    outcome: filling.outcome,
                    records: u32::try_from(records).unwrap_or(u32::MAX),
                    base_sequence: identity.base_sequence,
                    since_ms: filling.since_ms,
                    reserved_bytes: filling.reserved_bytes,
                    answer: None,
                    attempts: 0,
                    retry_ms: 0,
                    is_in_doubt: false,
                    is_answered: false,
                });
            }
            // A codec that refuses what it was given: nothing was sent, no sequence used.
            Err(error) => filling.outcome.set(Err(AppendError::Invalid(error))),
        }
        filling.builder.clear();
        self.spare = Some(filling.builder);
    }

    /// Sends what is due, looks at what was answered, sends again what was not.
    pub(super) fn turn(
        &mut self,
        transport: &dyn Transport,
        context: &mut Context<'_>,
        now_ms: u64,
        hurry: bool,
    ) -> LaneNews {
        let mut news = LaneNews::default();
        loop {
            self.close_due(now_ms, hurry);
            let mut progress = false;
            let mut at = 0;
            while at < self.sent.len().min(self.settings.in_flight_max) {
                progress |= self.drive(at, transport, context, now_ms, &mut news);
                at += 1;
            }
            while self.sent.front().is_some_and(|s| s.is_answered) {
                self.sent.pop_front();
                progress = true;
            }
            if !progress || news.stopped.is_some() {
                break;
            }
        }
        self.expire(now_ms, &mut news);
        news.next_ms = self.next_ms(now_ms);
        news
    }

    // Whether the batch that fills should leave: when there is room in flight and it lingered.
    fn close_due(&mut self, now_ms: u64, hurry: bool) {
        let has_room = self.sent.len() < self.settings.in_flight_max;
        let lingered = |f: &Filling| now_ms >= f.since_ms + self.settings.linger_ms;
        if self
            .filling
            .as_ref()
            .is_some_and(|f| has_room && (hurry || lingered(f)))
        {
            self.close_batch();
        }
    }

    // Sends or polls one batch; whether anything changed.
    fn drive(
        &mut self,
        at: usize,
        transport: &dyn Transport,
        context: &mut Context<'_>,
        now_ms: u64,
        news: &mut LaneNews,
    ) -> bool {
        let Some(sent) = self.sent.get_mut(at) else {
            return false;
        };
        if sent.is_answered {
            return false;
        }
        let answer = match &mut sent.answer {
            Some(answer) => answer,
            None if now_ms < sent.retry_ms => return false,
            None => {
                sent.attempts += 1;
                let records = u64::from(sent.records);
                match sent.attempts {
                    1 => {
                        news.counts.records += records;
                        news.counts.batches += 1;
                    }
                    _ => news.counts.retransmitted += records,
                }
                sent.answer
                    .insert(transport.append(self.partition.clone(), sent.bytes.clone()))
            }
        };
        let Poll::Ready(answer) = answer.as_mut().poll(context) else {
            return false;
        };
        sent.answer = None;
        match answer {
            Ok(appended) => self.answered(at, &appended, news),
            Err(error) => self.refused(at, error, now_ms, news),
        }
        true
    }

    fn answered(&mut self, at: usize, appended: &Appended, news: &mut LaneNews) {
        let log_time = self.partition.state.config.log_append_time();
        let Some(sent) = self.sent.get_mut(at) else {
            return;
        };
        sent.is_answered = true;
        news.freed_bytes += std::mem::take(&mut sent.reserved_bytes);
        if appended.duplicate {
            news.counts.duplicates_answered += u64::from(sent.records);
        }
        let outcome = sent.outcome.clone();
        // What was refused because this one was missing can go now.
        for behind in self.sent.iter_mut().skip(at + 1) {
            behind.retry_ms = 0;
        }
        outcome.set(Ok(Stored {
            base_offset: Some(appended.offset),
            duplicate: appended.duplicate,
            timestamp: if log_time { appended.timestamp } else { None },
        }));
    }

    fn refused(&mut self, at: usize, error: TransportError, now_ms: u64, news: &mut LaneNews) {
        let earlier_unanswered = self.sent.iter().take(at).any(|s| !s.is_answered);
        let Some(sent) = self.sent.get_mut(at) else {
            return;
        };
        let pause = BACKOFF_MS.0 << sent.attempts.min(10);
        let retry_ms = now_ms + pause.min(BACKOFF_MS.1);
        let error = match error {
            TransportError::NoAnswer => {
                sent.is_in_doubt = true;
                // The first try again comes at once: most answers that get lost get lost alone.
                sent.retry_ms = if sent.attempts == 1 { now_ms } else { retry_ms };
                return;
            }
            TransportError::Append(error) => error,
        };
        match &error {
            AppendError::NotReady { .. } | AppendError::NoSpace { .. } | AppendError::Io { .. } => {
                sent.retry_ms = retry_ms;
            }
            AppendError::OutcomeUnknown {
                why: Unknown::TimedOut(_),
                ..
            } => {
                sent.is_in_doubt = true;
                sent.retry_ms = retry_ms;
            }
            // An earlier batch got lost on its way, or waits for room: this one comes after it.
            AppendError::Rejected {
                rejection: Rejection::OutOfOrder { .. } | Rejection::UnknownProducer { .. },
                ..
            } if earlier_unanswered => {
                sent.retry_ms = retry_ms;
            }
            AppendError::Rejected {
                rejection: Rejection::Fenced { .. },
                ..
            } => {
                news.stopped = Some(error.clone());
                self.fail(at, &error, news);
            }
            AppendError::Rejected {
                rejection: Rejection::UnknownProducer { .. } | Rejection::Forgotten { .. },
                ..
            } if !sent.is_in_doubt && at == 0 && !self.settings.is_named => {
                news.wants_identity = true;
                sent.retry_ms = now_ms;
            }
            _ => self.fail(at, &error, news),
        }
    }

    /// Puts everything that was never sent under another identity: the log has forgotten the old
    /// one, which then cannot be in it.
    pub(super) fn renew(&mut self, producer_id: i64) {
        self.producer_id = producer_id;
        self.producer_epoch = 0;
        let mut sequence = 0;
        for sent in &mut self.sent {
            let identity = ProducerIdentity {
                producer_id,
                producer_epoch: 0,
                base_sequence: sequence,
            };
            sent.bytes = record_batch::with_identity(&sent.bytes, identity);
            sent.base_sequence = sequence;
            sent.answer = None;
            sequence = advance(sequence, usize::try_from(sent.records).unwrap_or(0));
        }
        self.next_sequence = sequence;
    }

    // Answers a batch, and all behind it, with an error. Where a try may have reached the log, the
    // sequences are in doubt, and what comes next takes another epoch.
    fn fail(&mut self, at: usize, error: &AppendError, news: &mut LaneNews) {
        let mut in_doubt = false;
        let mut first_unused = self.next_sequence;
        for (index, mut sent) in self.sent.split_off(at).into_iter().enumerate() {
            news.freed_bytes += sent.reserved_bytes;
            if sent.is_answered {
                // It overtook an earlier one, and is in the log.
                in_doubt = true;
                continue;
            }
            let doubt = sent.is_in_doubt || sent.answer.is_some() || error.is_outcome_unknown();
            in_doubt |= doubt;
            if index == 0 {
                first_unused = sent.base_sequence;
            }
            let answer = if doubt {
                self.unknown(error)
            } else {
                error.clone()
            };
            sent.outcome.set(Err(answer));
            sent.answer = None;
            news.failed.push(sent.outcome);
        }
        if let Some(mut filling) = self.filling.take() {
            news.freed_bytes += filling.reserved_bytes;
            filling.outcome.set(Err(error.clone()));
            news.failed.push(filling.outcome);
            filling.builder.clear();
            self.spare = Some(filling.builder);
        }
        if !in_doubt {
            self.next_sequence = first_unused;
        } else if self.settings.is_named {
            news.stopped = Some(error.clone());
        } else if self.producer_epoch < i16::MAX - 1 {
            // KIP-360: the next epoch begins at 0 and fences what may still be on its way.
            self.producer_epoch += 1;
            self.next_sequence = 0;
        } else {
            news.wants_identity = true;
        }
    }

    fn unknown(&self, error: &AppendError) -> AppendError {
        let why = match error {
            AppendError::OutcomeUnknown { why, .. } => why.clone(),
            AppendError::LogFenced(latched) => Unknown::Fenced(latched.clone()),
            AppendError::Closed => Unknown::Closed,
            AppendError::TimedOut { timeout_ms, .. } => Unknown::TimedOut(*timeout_ms),
            refused => Unknown::Refused(Box::new(refused.clone())),
        };
        AppendError::OutcomeUnknown {
            topic: self.partition.state.topic.clone(),
            partition: self.partition.state.index,
            offset: None,
            why,
            id: None,
        }
    }

    // The oldest unanswered batch decides: nothing behind it may be answered later than it.
    fn expire(&mut self, now_ms: u64, news: &mut LaneNews) {
        let timeout = self.settings.delivery_timeout_ms;
        let oldest = self.sent.iter().position(|s| !s.is_answered);
        let late = |since_ms: u64| now_ms >= since_ms.saturating_add(timeout);
        match oldest {
            Some(at) if late(self.sent[at].since_ms) => {
                let topic = self.partition.state.topic.clone();
                let partition = self.partition.state.index;
                let error = AppendError::TimedOut {
                    topic,
                    partition,
                    timeout_ms: timeout,
                };
                self.fail(at, &error, news);
            }
            _ => {}
        }
    }

    fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let timeout = self.settings.delivery_timeout_ms;
        let in_flight = self.sent.iter().take(self.settings.in_flight_max);
        let retries = in_flight.filter(|s| !s.is_answered && s.answer.is_none());
        let retry = retries.map(|s| s.retry_ms.max(now_ms + 1)).min();
        let deadline = self
            .sent
            .front()
            .map(|s| s.since_ms.saturating_add(timeout));
        let has_room = self.sent.len() < self.settings.in_flight_max;
        let filling = self.filling.as_ref().filter(|_| has_room);
        let linger = filling.map(|f| f.since_ms + self.settings.linger_ms);
        [retry, deadline, linger].into_iter().flatten().min()
    }

    /// Answers everything that is left; the producer is going away.
    pub(super) fn abandon(&mut self, error: &AppendError) -> LaneNews {
        let mut news = LaneNews::default();
        let oldest = self.sent.iter().position(|s| !s.is_answered);
        self.fail(oldest.unwrap_or(self.sent.len()), error, &mut news);
        news
    }
}

// Sequences wrap from 2^31 - 1 to 0.
fn advance(sequence: i32, by: usize) -> i32 {
    let sum = i64::from(sequence) + i64::try_from(by).unwrap_or(0);
    i32::try_from(sum & i64::from(i32::MAX)).unwrap_or(0)
}
