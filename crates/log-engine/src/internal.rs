//! Internal topics: logs that a crate above keeps records of its own in. Their names begin with
//! `__`; users neither make nor write them, and for everything else they are logs like any other.
//!
//! Made for `consumer-inbox`; no part of what users are promised.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use record_batch::Batch;
use segment_storage::Cursor;

use crate::config::{Ack, TopicConfig};
use crate::core::Core;
use crate::engine::{Engine, Handle};
use crate::error::{AppendError, ReadError, TopicError};
use crate::handle::Partition;
use crate::partition::{PartitionState, Source, Written};
use crate::segment_feeder;

/// One partition of an internal topic. It has one writer at a time, and no producer ids.
#[doc(hidden)]
#[derive(Clone)]
pub struct InternalLog {
    partition: Partition,
}

impl Engine {
    /// The partitions of an internal topic, which is made if it is missing.
    ///
    /// # Errors
    /// [`TopicError`]; [`TopicError::ReadOnly`] of an engine that cannot write.
    #[doc(hidden)]
    pub fn internal_logs(
        &self,
        topic: &str,
        partitions: u32,
        config: &TopicConfig,
    ) -> Result<Vec<InternalLog>, TopicError> {
        debug_assert!(topic.starts_with("__"), "a user's topic: {topic}");
        let core = self.core();
        match core.create_topic(topic, partitions, config) {
            Ok(_) | Err(TopicError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
        let found = core.topics.read().get(topic).cloned();
        let name = || topic.to_owned();
        let found = found.ok_or_else(|| TopicError::UnknownTopic { name: name() })?;
        let has = found.entry.partitions;
        if has != partitions {
            let (name, partitions) = (name(), has);
            return Err(TopicError::Exists { name, partitions });
        }
        let log = |state: &Arc<PartitionState>| InternalLog {
            partition: Partition {
                engine: self.handle().clone(),
                state: state.clone(),
                level: Ack::Synced,
            },
        };
        Ok(found.partitions.iter().map(log).collect())
    }

    /// The engine's time, ms: a total over all opens that never goes back.
    #[doc(hidden)]
    pub fn elapsed_ms(&self) -> u64 {
        self.core().time.now().elapsed_ms
    }

    /// Tells engines that are open apart.
    #[doc(hidden)]
    pub fn address(&self) -> usize {
        Arc::as_ptr(self.handle()).addr()
    }
}

impl InternalLog {
    fn engine(&self) -> &Arc<Handle> {
        &self.partition.engine
    }

    fn core(&self) -> &Arc<Core> {
        &self.engine().core
    }

    fn state(&self) -> &Arc<PartitionState> {
        &self.partition.state
    }

    /// First offset.
    pub fn start(&self) -> u64 {
        self.partition.log_start_offset()
    }

    /// The offset that the next record gets.
    pub fn end(&self) -> u64 {
        self.partition.log_end_offset()
    }

    /// Everything below it is durable, and can be read.
    pub fn durable_end(&self) -> u64 {
        self.partition.high_watermark()
    }

    /// Puts a batch into the log and has it synced; waits for neither. Returns the offset of its first
    /// record.
    ///
    /// # Errors
    /// [`AppendError`]; certainly not written. [`AppendError::NotReady`]: see [`InternalLog::room`].
    pub fn write(&self, batch: &Batch<'_>) -> Result<u64, AppendError> {
        let now = self.core().time.now();
        let (written, follow) = self.state().write(batch, Ack::Synced, now);
        self.core().follow_up(self.state(), follow);
        Ok(written?.base_offset)
    }

    /// Waits until everything below `end` is durable. Of a driven engine, syncs it here.
    ///
    /// # Errors
    /// [`AppendError::OutcomeUnknown`]: it may be durable or not, and shows when the engine is opened
    /// again.
    pub async fn durable(&self, end: u64) -> Result<(), AppendError> {
        if self.durable_end() >= end {
            return Ok(());
        }
        if self.core().config.is_driven {
            self.core().commit_now(self.state());
        }
        let last_offset = end.saturating_sub(1);
        let written = Written {
            base_offset: last_offset,
            last_offset,
            duplicate: false,
            timestamp: Some(0),
        };
        self.partition.answer(&written).await.map(drop)
    }

    /// A number that changes whenever a segment may have become ready.
    pub fn turns(&self) -> u64 {
        self.state().feeding.turns.load(Ordering::Acquire)
    }

    /// Waits for room after a write that found none; `seen` is what [`InternalLog::turns`] was before it.
    /// Of a driven engine, makes it here.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written.
    pub async fn room(&self, seen: u64) -> Result<(), AppendError> {
        let (core, state) = (self.core(), self.state());
        if core.config.is_driven {
            segment_feeder::turn(state);
        }
        let timeout_ms = u64::try_from(core.config.append_timeout.as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = core.time.now().elapsed_ms.saturating_add(timeout_ms);
        let turned = || {
            let turned = state.has_turned(seen);
            let late = core.time.now().elapsed_ms >= deadline_ms;
            (turned || late || state.check_open().is_err()).then_some(turned)
        };
        if !state.ends.wait(turned).await {
            state.check_open()?;
            let (topic, partition) = (state.topic.clone(), state.index);
            return Err(AppendError::NotReady { topic, partition });
        }
        match state.feeding.failure.lock().clone() {
            Some((needed, source)) => Err(state.no_space(needed, source)),
            None => Ok(()),
        }
    }

    /// Whole batches from the one on that holds `offset`, at least one and about `max_bytes`, and the offset
    /// behind them; `None` where nothing durable follows. On this thread.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, offset: u64, max_bytes: usize) -> Result<Option<(Bytes, u64)>, ReadError> {
        let state = self.state();
        if let Source::Damaged(corruption) = &state.source {
            return Err(ReadError::Damaged(corruption.clone()));
        }
        match state.reader.read(&mut Cursor::at(offset), max_bytes) {
            Ok(run) => Ok(run.map(|run| (run.bytes, run.next_offset))),
            Err(segment_storage::ReadError::Deleted { asked, first }) => Err(ReadError::Deleted {
                topic: state.topic.clone(),
                partition: state.index,
                asked,
                first,
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses a log that is damaged: what lies behind the damage is not known, and so nothing is.
    ///
    /// # Errors
    /// [`ReadError::Damaged`].
    pub fn check(&self) -> Result<(), ReadError> {
        let corruption = match &self.state().source {
            Source::Damaged(corruption) => Some(corruption.clone()),
            _ => self.state().log().and_then(|log| log.corruption().cloned()),
        };
        corruption.map_or(Ok(()), |corruption| Err(ReadError::Damaged(corruption)))
    }

    /// Deletes the records below `offset`, which must be durable. Waits for the disk on this thread.
    ///
    /// # Errors
    /// [`TopicError`].
    pub fn delete_before(&self, offset: u64) -> Result<(), TopicError> {
        let (core, state) = (self.core(), self.state());
        if state.check_open().is_err() {
            return Err(TopicError::Closed);
        }
        core.delete_before(state, offset)
            .map_err(|source| TopicError::Io {
                file: core.disk.display(&state.name()),
                source,
            })
    }
}
