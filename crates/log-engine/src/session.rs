//! Producer sessions: a fresh producer id, and the sequences that go with it.

use partition_log::Now;
use record_batch::{Batch, BatchBuilder, BatchError, Compression, ProducerIdentity};

use crate::engine::Engine;
use crate::error::{AppendError, SessionError, TopicError};
use crate::handle::{Appended, Partition, Pending};
use crate::record::Record;

/// One producer session: a producer id of its own, never used before and never again.
pub struct ProducerSession {
    engine: Engine,
    producer_id: i64,
}

/// A session's epoch: it is never fenced, so it stays at its first.
const EPOCH: i16 = 0;

impl ProducerSession {
    pub(crate) fn begin(engine: &Engine) -> Result<ProducerSession, SessionError> {
        let producer_id = engine.core().allocate_producer_id()?;
        Ok(ProducerSession {
            engine: engine.clone(),
            producer_id,
        })
    }

    /// Its producer id.
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// Its producer epoch.
    pub fn epoch(&self) -> i16 {
        EPOCH
    }

    /// Appends records to one partition. At most one appender for each partition of a session:
    /// two would use the same sequences, and the log refuses the second's records as
    /// [`partition_log::Rejection::SequenceReuse`].
    ///
    /// # Errors
    /// [`TopicError`] when there is no such topic or partition.
    pub fn appender(&self, topic: &str, partition: u32) -> Result<Appender, TopicError> {
        let partition = self.engine.topic(topic)?.partition(partition)?;
        Ok(Appender {
            partition,
            builder: BatchBuilder::new(),
            identity: ProducerIdentity {
                producer_id: self.producer_id,
                producer_epoch: EPOCH,
                base_sequence: 0,
            },
        })
    }

    /// Ends the session: every partition forgets it at once instead of when it expires. Call it
    /// when every append has its answer.
    pub fn close(self) {
        for partition in self.engine.core().partitions() {
            if let Some(mut log) = partition.log() {
                log.retire_producer(self.producer_id);
            }
        }
    }
}

/// Appends records of one session to one partition. Each call is one batch.
pub struct Appender {
    partition: Partition,
    builder: BatchBuilder,
    identity: ProducerIdentity,
}

impl Appender {
    /// Compresses batches.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Appender {
        self.builder = BatchBuilder::new().compression(compression);
        self
    }

    /// The sequence that the next record gets, 0 to 2^31 - 1.
    pub fn next_sequence(&self) -> i32 {
        self.identity.base_sequence
    }

    /// The partition it appends to.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Puts records into the log as one batch, if that needs no waiting.
    ///
    /// # Errors
    /// [`AppendError`]; certainly not written, and the sequence is not used up.
    pub fn try_append(&mut self, records: &[Record<'_>]) -> Result<Pending, AppendError> {
        let now = self.partition.now();
        self.fill(records, now)?;
        let (partition, batch) = (&self.partition, built(&mut self.builder, self.identity)?);
        let written = partition.write(&batch, now)?;
        self.use_up(records.len());
        Ok(self.partition.pending(written))
    }

    /// Appends records as one batch; they are as durable as the level promises when this returns.
    ///
    /// # Cancel safety
    /// Dropped before the batch is in the log, nothing was written and no sequence used. Dropped
    /// after, the batch is there, and the next append goes on behind it.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(&mut self, records: &[Record<'_>]) -> Result<Appended, AppendError> {
        let now = self.partition.now();
        self.fill(records, now)?;
        let (partition, batch) = (&self.partition, built(&mut self.builder, self.identity)?);
        let written = partition.start_parsed(&batch, now).await?;
        self.use_up(records.len());
        self.partition.answer(&written).await
    }

    /// As [`Appender::append`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn blocking_append(&mut self, records: &[Record<'_>]) -> Result<Appended, AppendError> {
        let now = self.partition.now();
        self.fill(records, now)?;
        let (partition, batch) = (&self.partition, built(&mut self.builder, self.identity)?);
        let written = partition.blocking_start_parsed(&batch, now)?;
        self.use_up(records.len());
        self.partition.blocking_answer(&written)
    }

    /// Puts records into the log as one batch, waiting for room alone; the answer comes from the
    /// returned [`Pending`].
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// [`AppendError`]; certainly not written.
    pub fn blocking_start(&mut self, records: &[Record<'_>]) -> Result<Pending, AppendError> {
        let now = self.partition.now();
        self.fill(records, now)?;
        let (partition, batch) = (&self.partition, built(&mut self.builder, self.identity)?);
        let written = partition.blocking_start_parsed(&batch, now)?;
        self.use_up(records.len());
        Ok(self.partition.pending(written))
    }

    fn fill(&mut self, records: &[Record<'_>], now: Now) -> Result<(), AppendError> {
        if records.is_empty() {
            let empty = BatchError::Count {
                record_count: 0,
                last_offset_delta: -1,
            };
            return Err(AppendError::Invalid(empty));
        }
        self.builder.clear();
        for record in records {
            record
                .push_to(&mut self.builder, now.wall_ms)
                .map_err(AppendError::Invalid)?;
        }
        Ok(())
    }

    // The batch is in the log, so its sequences are used, whatever becomes of the answer.
    fn use_up(&mut self, records: usize) {
        let next = i64::from(self.identity.base_sequence) + i64::try_from(records).unwrap_or(0);
        // Sequences wrap from 2^31 - 1 to 0.
        self.identity.base_sequence = i32::try_from(next & i64::from(i32::MAX)).unwrap_or(0);
    }
}

#[inline]
fn built(builder: &mut BatchBuilder, identity: ProducerIdentity) -> Result<Batch<'_>, AppendError> {
    match builder.build_batch(Some(identity)) {
        Ok(batch) => Ok(batch),
        Err(error) => Err(AppendError::Invalid(error)),
    }
}

impl std::fmt::Debug for ProducerSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProducerSession")
            .field("producer_id", &self.producer_id)
            .finish()
    }
}
