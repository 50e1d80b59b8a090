//! A producer's way to one partition: batches that fill, wait, and are in flight.
//!
//! Batches leave in the order of their sequences, and at most as many are unanswered as the log's
//! window recognises, so that whatever is sent again is recognised. A batch that fails takes
//! everything behind it along: nothing may overtake, and a sequence must not be left out.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use record_batch::{BatchBuilder, BatchError, Compression, ProducerIdentity, SourcePosition};

use super::ProducerCounts;
use super::ticket::Outcome;
use crate::append_id::AppendId;
use crate::error::AppendError;
use crate::handle::Partition;
use crate::transport::Answer;

mod flight;

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
    /// Everything before it was answered when the last try was made; so what that one says is
    /// not because of a batch that got lost.
    follows_answered: bool,
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
}

/// Limits and times of a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneSettings {
    pub(super) compression: Compression,
    pub(super) batch_bytes: usize,
    pub(super) batch_records: usize,
    pub(super) linger_ms: u64,
    pub(super) in_flight_max: usize,
    pub(super) delivery_timeout_ms: u64,
    pub(super) retry_backoff_max_ms: u64,
    pub(super) is_named: bool,
}

pub(super) struct Lane {
    pub(super) partition: Partition,
    pub(super) topic_id: u128,
    settings: LaneSettings,
    producer_id: i64,
    producer_epoch: i16,
    next_sequence: i32,
    /// When the identity was new, or last used, in elapsed ms.
    used_ms: u64,
    /// Every epoch of the id was used.
    is_spent: bool,
    /// A request may still be on its way whose answer nobody awaits.
    may_come_again: bool,
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
        used_ms: u64,
    ) -> Lane {
        let config = &partition.state.config;
        let segment_bytes = usize::try_from(config.segment_bytes()).unwrap_or(usize::MAX);
        let fits = config.batch_bytes_max().min(segment_bytes);
        let settings = LaneSettings {
            batch_bytes: settings.batch_bytes.min(fits),
            ..settings
        };
        Lane {
            partition,
            topic_id,
            settings,
            producer_id,
            producer_epoch,
            next_sequence: 0,
            used_ms,
            is_spent: false,
            may_come_again: false,
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

    /// Whether the batch that fills may have to wait for its time.
    pub(super) fn lingers(&self) -> bool {
        self.filling.is_some() && self.settings.linger_ms > 0
    }

    /// Whether a turn would send the batch that fills, or one that waits.
    pub(super) fn is_sendable(&self, now_ms: u64) -> bool {
        let limit = self.in_flight();
        let closes = self.sent.len() < limit && self.has_lingered(now_ms);
        closes || self.sent.iter().take(limit).any(|s| s.attempts == 0)
    }

    fn has_lingered(&self, now_ms: u64) -> bool {
        let filling = self.filling.as_ref();
        filling.is_some_and(|f| now_ms >= self.lingers_until(f))
    }

    fn lingers_until(&self, filling: &Filling) -> u64 {
        filling.since_ms.saturating_add(self.settings.linger_ms)
    }

    // How many batches, of the oldest, may be under way. The first of a session goes alone: were
    // it overtaken, a log that accepts producers it does not know would begin with the wrong one.
    fn in_flight(&self) -> usize {
        let oldest = self.sent.iter().find(|s| !s.is_answered);
        if oldest.is_some_and(|s| s.base_sequence == 0) {
            1
        } else {
            self.settings.in_flight_max
        }
    }

    /// Whether an append id is one of this lane's present identity.
    pub(super) fn is_lane_of(&self, id: &AppendId) -> bool {
        (self.producer_id, self.producer_epoch) == (id.producer_id, id.producer_epoch)
            && self.partition.state.index == id.partition
            && self.topic_id == id.topic_id
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

    /// The limit of the topic that a batch of this size is above, and the setting's name. A batch
    /// that will be compressed may fit all the same, and the log decides.
    pub(super) fn limit_below(&self, bytes: usize) -> Option<(usize, &'static str)> {
        if self.settings.compression != Compression::None {
            return None;
        }
        let config = &self.partition.state.config;
        let segment_bytes = usize::try_from(config.segment_bytes()).unwrap_or(usize::MAX);
        let batch = (config.batch_bytes_max(), "max.message.bytes");
        let segment = (segment_bytes, "segment.bytes");
        [batch, segment]
            .into_iter()
            .find(|(limit, _)| bytes > *limit)
    }

    /// Whether the identity may not be given to a record: every epoch was used, or the log may have
    /// forgotten the id, or forget it before the batch arrives.
    pub(super) fn is_stale(&self, now_ms: u64) -> bool {
        let patience = self.partition.state.config.producer_expiry_ms() / 2;
        let is_old = || now_ms.saturating_sub(self.used_ms) >= patience;
        self.is_spent || (!self.settings.is_named && self.is_idle() && is_old())
    }

    /// Goes on under another producer id. Nothing is unanswered.
    pub(super) fn renew(&mut self, producer_id: i64, now_ms: u64) {
        self.producer_id = producer_id;
        self.producer_epoch = 0;
        self.next_sequence = 0;
        self.used_ms = now_ms;
        self.is_spent = false;
        self.may_come_again = false;
    }

    /// Adds a record to the batch that fills; `push` writes it. Closes the batch before it when
    /// that is full.
    pub(super) fn push(
        &mut self,
        now_ms: u64,
        bytes: usize,
        position: Option<u64>,
        push: impl FnOnce(&mut BatchBuilder, bool) -> Result<(), BatchError>,
    ) -> Result<Placed, BatchError> {
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
            self.used_ms = now_ms;
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
        let is_full = |f: &Filling| f.builder.len() >= self.settings.batch_records;
        if self.filling.as_ref().is_some_and(is_full) {
            self.close_batch();
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

    /// Whether a batch of the present id may still arrive at the log.
    pub(super) fn may_come_again(&self) -> bool {
        self.may_come_again || !self.is_idle()
    }

    fn close_batch(&mut self) {
        let Some(mut filling) = self.filling.take() else {
            return;
        };
        let identity = self.identity(self.next_sequence);
        let records = filling.builder.len();
        if let Some(last) = filling.last_position {
            let floor = self.floor;
            filling.builder.set_source(SourcePosition { last, floor });
        }
        let bytes = match filling.builder.build(Some(identity)) {
            Ok(bytes) => Bytes::copy_from_slice(bytes),
            // A codec that cannot: then without it.
            Err(_) => {
                let builder = std::mem::take(&mut filling.builder);
                filling.builder = builder.compression(Compression::None);
                let built = filling.builder.build(Some(identity));
                Bytes::copy_from_slice(built.unwrap_or_default())
            }
        };
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
            follows_answered: false,
            retry_ms: 0,
            is_in_doubt: false,
            is_answered: false,
        });
        filling.builder.clear();
        self.spare = Some(filling.builder);
    }
}

// Sequences wrap from 2^31 - 1 to 0.
fn advance(sequence: i32, by: usize) -> i32 {
    let sum = i64::from(sequence) + i64::try_from(by).unwrap_or(0);
    i32::try_from(sum & i64::from(i32::MAX)).unwrap_or(0)
}
