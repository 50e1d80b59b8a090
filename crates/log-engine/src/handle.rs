//! Users' handle on a partition, and the append API for prebuilt batches.

use std::sync::Arc;

use partition_log::{Now, ProducerView};
use record_batch::Batch;
use segment_storage::Cursor;
use sync::atomic::Ordering;

use crate::blocking;
use crate::config::Ack;
use crate::engine::Handle;
use crate::error::{AppendError, ReadError, TopicError, Unknown};
use crate::partition::{PartitionState, Source, Written};

/// A partition, for appending batches that are built already. Cheap to clone; keeps the engine
/// open. [`ProducerSession`](crate::ProducerSession) builds batches from records.
#[derive(Clone)]
pub struct Partition {
    pub(crate) engine: Arc<Handle>,
    pub(crate) state: Arc<PartitionState>,
    pub(crate) level: Ack,
}

/// Where a batch is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Appended {
    /// The topic.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// Offset of its first record.
    pub offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// It was there already; the offsets are those of the first time. A success.
    pub duplicate: bool,
    /// The newest timestamp of its records, or the log's own, ms since 1970. `None` for a
    /// duplicate in a log that keeps its own time.
    pub timestamp: Option<i64>,
}

impl Partition {
    /// Name of the topic.
    pub fn topic(&self) -> &str {
        &self.state.topic
    }

    /// Number of the partition, from 0.
    pub fn index(&self) -> u32 {
        self.state.index
    }

    /// The level at which this handle answers.
    pub fn ack(&self) -> Ack {
        self.level
    }

    /// A handle that answers at a higher level than the topic asks for.
    ///
    /// # Errors
    /// [`AppendError::LevelTooLow`] when it would be lower.
    pub fn raise_ack(&self, ack: Ack) -> Result<Partition, AppendError> {
        let (topic, level) = (self.state.topic.clone(), self.state.config.ack());
        if ack < level {
            return Err(AppendError::LevelTooLow {
                topic,
                level,
                asked: ack,
            });
        }
        Ok(Partition {
            level: ack,
            ..self.clone()
        })
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> u64 {
        self.state.reader.log_start_offset()
    }

    /// The offset up to which readers see the partition.
    pub fn high_watermark(&self) -> u64 {
        self.state.reader.high_watermark()
    }

    /// The offset that the next record gets; where another process writes, the high watermark.
    pub fn log_end_offset(&self) -> u64 {
        self.state
            .log()
            .map_or_else(|| self.high_watermark(), |log| log.next_offset())
    }

    /// The first record at or after a time: offset and timestamp, ms since 1970.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_for_timestamp(&self, ms: i64) -> Result<Option<(u64, i64)>, ReadError> {
        Ok(self.state.reader.offset_for_timestamp(ms)?)
    }

    /// What is known of the partition's producers, by producer id. Where another process writes,
    /// that is what the durable part of the log says.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn producers(&self) -> Result<Vec<ProducerView>, ReadError> {
        let mut views: Vec<_> = match &self.state.source {
            Source::Follower(_) => self.rebuilt_producers()?.iter().collect(),
            Source::Writer(_) | Source::Damaged(_) => self.state.all_producers(self.now())?,
        };
        views.sort_unstable_by_key(|view| view.producer_id);
        Ok(views)
    }

    /// Deletes every record below `offset` for good: moves the log's start there, and removes the
    /// segments that lie wholly below. Their producers stay known.
    ///
    /// # Errors
    /// [`TopicError::OffsetOutOfRange`] above the high watermark (Kafka's error 1).
    pub fn delete_before(&self, offset: u64) -> Result<(), TopicError> {
        let end = self.high_watermark();
        if offset > end {
            let start = self.log_start_offset();
            return Err(TopicError::OffsetOutOfRange {
                asked: offset,
                start,
                end,
            });
        }
        if self.state.log().is_none() {
            return Err(TopicError::ReadOnly);
        }
        if self.state.is_internal {
            let name = self.state.topic.to_string();
            return Err(TopicError::Internal { name });
        }
        if self.state.check_open().is_err() {
            return Err(TopicError::Closed);
        }
        let core = &self.engine.core;
        core.delete_before(&self.state, offset)
            .map_err(|source| TopicError::Io {
                file: core.disk.display(&self.state.name()),
                source,
            })
    }

    /// Puts a batch into the log if that needs no waiting: one whole Kafka v2 batch, base offset
    /// 0. It is in the log when this returns; what was promised holds when the returned
    /// [`Pending`] says so.
    ///
    /// # Errors
    /// [`AppendError`]; certainly not written. [`AppendError::NotReady`] when no segment is ready.
    pub fn try_append(&self, batch: &[u8]) -> Result<Pending, AppendError> {
        let batch = Batch::parse(batch).map_err(AppendError::Invalid)?;
        self.write(&batch, self.now())
            .map(|written| self.pending(written))
    }

    /// Appends a batch; it is as durable as the level promises when this returns. The same batch
    /// again gets the same answer, with [`Appended::duplicate`] set.
    ///
    /// # Cancel safety
    /// Dropped before the batch is in the log, nothing was written. Dropped after, it stays
    /// there; appending it again tells.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(&self, batch: &[u8]) -> Result<Appended, AppendError> {
        let batch = Batch::parse(batch).map_err(AppendError::Invalid)?;
        let written = self.start_parsed(&batch, self.now()).await?;
        self.answer(&written).await
    }

    /// As [`Partition::append`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn blocking_append(&self, batch: &[u8]) -> Result<Appended, AppendError> {
        let batch = Batch::parse(batch).map_err(AppendError::Invalid)?;
        let written = self.blocking_start_parsed(&batch, self.now())?;
        self.blocking_answer(&written)
    }

    /// Puts a batch into the log, waiting for room alone; the answer comes from the returned
    /// [`Pending`]. For many in flight.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// [`AppendError`]; certainly not written.
    pub fn blocking_start(&self, batch: &[u8]) -> Result<Pending, AppendError> {
        let batch = Batch::parse(batch).map_err(AppendError::Invalid)?;
        self.blocking_start_parsed(&batch, self.now())
            .map(|written| self.pending(written))
    }

    pub(crate) fn blocking_start_parsed(
        &self,
        batch: &Batch<'_>,
        now: Now,
    ) -> Result<Written, AppendError> {
        blocking::refuse_async_worker("blocking_append", "append");
        match self.write(batch, now) {
            Err(AppendError::NotReady { .. }) => {
                blocking::wait("blocking_append", "append", self.start_parsed(batch, now))
            }
            done => done,
        }
    }

    /// As [`Partition::blocking_start`], without blocking.
    ///
    /// # Cancel safety
    /// Dropped before it returned, nothing was written.
    ///
    /// # Errors
    /// [`AppendError`]; certainly not written.
    pub async fn start(&self, batch: &[u8]) -> Result<Pending, AppendError> {
        let batch = Batch::parse(batch).map_err(AppendError::Invalid)?;
        self.start_parsed(&batch, self.now())
            .await
            .map(|written| self.pending(written))
    }

    pub(crate) async fn start_parsed(
        &self,
        batch: &Batch<'_>,
        mut now: Now,
    ) -> Result<Written, AppendError> {
        let deadline = self.deadline(now);
        loop {
            let feeding = &self.state.feeding;
            let seen = feeding.turns.load(Ordering::Acquire);
            match self.write(batch, now) {
                Err(AppendError::NotReady { .. }) => {}
                done => return done,
            }
            let turned = || {
                let turned = self.state.has_turned(seen);
                let late = self.engine.core.time.now().elapsed_ms >= deadline;
                (turned || late || self.state.check_open().is_err()).then_some(turned)
            };
            if !self.state.ends.wait(turned).await {
                self.state.check_open()?;
                let (topic, partition) = (self.state.topic.clone(), self.state.index);
                return Err(AppendError::NotReady { topic, partition });
            }
            if let Some((needed, source)) = feeding.failure.lock().clone() {
                return Err(self.state.no_space(needed, source));
            }
            now = self.now();
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.engine.core.time.now()
    }

    fn timeout_ms(&self) -> u64 {
        let timeout = self.engine.core.config.append_timeout.as_millis();
        u64::try_from(timeout).unwrap_or(u64::MAX)
    }

    fn deadline(&self, now: Now) -> u64 {
        now.elapsed_ms.saturating_add(self.timeout_ms())
    }

    #[inline]
    pub(crate) fn write(&self, batch: &Batch<'_>, now: Now) -> Result<Written, AppendError> {
        if self.state.is_internal {
            let topic = self.state.topic.clone();
            return Err(AppendError::Internal { topic });
        }
        let (written, follow) = self.state.write(batch, self.level, now);
        self.engine.core.follow_up(&self.state, follow);
        written
    }

    /// Waits for what was promised about a batch. At `memory` the answer is mostly there already,
    /// and then this costs nothing but looking.
    pub(crate) async fn answer(&self, written: &Written) -> Result<Appended, AppendError> {
        if let Some(answer) = self.state.promised(written, self.level) {
            return answer.map(|()| self.finished(written));
        }
        let deadline = self.deadline(self.now());
        let timed_out = || {
            let why = Unknown::TimedOut(self.timeout_ms());
            Err(self.state.unknown(written, why))
        };
        let answered = || {
            let answer = self.state.promised(written, self.level);
            let late = || self.now().elapsed_ms >= deadline;
            answer.or_else(|| late().then(timed_out))
        };
        let answer = self.state.ends.wait(answered).await;
        answer.map(|()| self.finished(written))
    }

    /// As [`Partition::answer`], on a thread that may wait, as the caller has made sure.
    #[inline]
    pub(crate) fn blocking_answer(&self, written: &Written) -> Result<Appended, AppendError> {
        match self.state.promised(written, self.level) {
            Some(answer) => answer.map(|()| self.finished(written)),
            None => blocking::wait("blocking_append", "append", self.answer(written)),
        }
    }

    fn appended(&self, written: &Written) -> Appended {
        Appended {
            topic: self.state.topic.clone(),
            partition: self.state.index,
            offset: written.base_offset,
            last_offset: written.last_offset,
            duplicate: written.duplicate,
            timestamp: written.timestamp,
        }
    }

    // A duplicate's own time is in the log, which has it published by now.
    fn finished(&self, written: &Written) -> Appended {
        let mut appended = self.appended(written);
        if appended.timestamp.is_none() {
            let mut cursor = Cursor::at(appended.offset);
            let run = self.state.reader.read(&mut cursor, 0).ok().flatten();
            let batch = run.as_ref().and_then(|run| Batch::parse(&run.bytes).ok());
            appended.timestamp = batch.map(|batch| batch.header().max_timestamp);
        }
        appended
    }

    pub(crate) fn pending(&self, written: Written) -> Pending {
        Pending {
            partition: self.clone(),
            written,
        }
    }
}

/// A batch that is in the log and waits for what its level promises.
#[must_use = "until it says so, the batch may not be durable"]
pub struct Pending {
    partition: Partition,
    written: Written,
}

impl Pending {
    /// Where the batch is, if it stays: nothing is promised yet.
    pub fn appended(&self) -> Appended {
        self.partition.appended(&self.written)
    }

    /// Whether an answer is there.
    pub fn is_done(&self) -> bool {
        self.partition
            .state
            .promised(&self.written, self.partition.level)
            .is_some()
    }

    /// Waits until the batch is as durable as the level promises.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it but the answer.
    ///
    /// # Errors
    /// [`AppendError::OutcomeUnknown`] after a failed sync or the append timeout.
    pub async fn wait(self) -> Result<Appended, AppendError> {
        self.partition.answer(&self.written).await
    }

    /// As [`Pending::wait`], on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn blocking_wait(self) -> Result<Appended, AppendError> {
        blocking::refuse_async_worker("blocking_wait", "wait");
        self.partition.blocking_answer(&self.written)
    }
}
