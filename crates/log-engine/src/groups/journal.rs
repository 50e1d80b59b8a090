//! The internal topic of groups: its events in, and out again when the engine is opened.
//!
//! It is written at level `interval`: an event is in the log, and readable, when the call returns,
//! and synced within `flush.ms`. What must be durable before it is shown waits for the sync.

use std::sync::Arc;

use record_batch::{Batch, BatchBuilder};
use sync::atomic::Ordering;

use super::error::{GroupError, JournalError};
use super::event::Event;
use super::records;
use crate::config::{Ack, ConfigError, TopicConfig};
use crate::core::Core;
use crate::engine::Handle;
use crate::error::{AppendError, ReadError, TopicError};
use crate::handle::Partition;
use crate::partition::{PartitionState, Written};
use crate::segment_feeder;

/// Its name. Users can read and describe it; only groups write it.
pub(crate) const TOPIC: &str = "__groups";

/// Largest batch of events, in bytes. The checkpoint of one partition must fit.
const BATCH_BYTES_MAX: &str = "2097152";
const SEGMENT_BYTES: &str = "4194304";

/// What the topics in which `consumer-inbox` keeps ids begin with.
const IDS: &str = "__ids-";

/// Whether a topic is the engine's own.
pub(crate) fn is_internal(topic: &str) -> bool {
    topic == TOPIC || topic.starts_with(IDS)
}

/// The internal topic's one partition.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) state: Arc<PartitionState>,
}

fn config() -> Result<TopicConfig, ConfigError> {
    let mut config = TopicConfig::default().with_ack(Ack::Interval);
    config.set("segment.bytes", SEGMENT_BYTES)?;
    config.set("max.message.bytes", BATCH_BYTES_MAX)?;
    Ok(config)
}

impl Journal {
    /// The journal of a directory, if it has one.
    pub(crate) fn find(core: &Core) -> Option<Journal> {
        let topics = core.topics.read();
        let state = topics.get(TOPIC)?.partitions.first()?.clone();
        Some(Journal { state })
    }

    /// The journal of a directory, made if it is missing.
    ///
    /// # Errors
    /// [`TopicError`].
    pub(crate) fn make(core: &Core) -> Result<Journal, TopicError> {
        match core.create_topic(TOPIC, 1, &config()?) {
            Ok(_) | Err(TopicError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
        Journal::find(core).ok_or_else(|| TopicError::UnknownTopic {
            name: TOPIC.to_owned(),
        })
    }

    /// Writes events as one batch: all of them are there after a crash, or none. Waits for nothing,
    /// so it is called under a group's lock. With `soon`, the committer is asked at once.
    ///
    /// # Errors
    /// [`GroupError::Journal`]; certainly not written. When no segment is ready: [`Journal::room`].
    pub(crate) fn write(
        &self,
        core: &Arc<Core>,
        events: &[Event],
        soon: bool,
    ) -> Result<u64, GroupError> {
        let now = core.time.now();
        let mut builder = BatchBuilder::new();
        for event in events {
            let bytes = event.encode();
            builder
                .push(now.wall_ms, None, Some(&bytes), &[])
                .map_err(|e| GroupError::Journal(AppendError::Invalid(e)))?;
        }
        let batch = builder
            .build_batch(None)
            .map_err(|e| GroupError::Journal(AppendError::Invalid(e)))?;
        let level = if soon { Ack::Synced } else { Ack::Interval };
        let written = write(core, &self.state, &batch, level).map_err(failed)?;
        let bytes = u64::try_from(batch.bytes().len()).unwrap_or(u64::MAX);
        core.groups
            .written_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        Ok(written.last_offset)
    }

    /// Whether it can still become durable what was written.
    ///
    /// # Errors
    /// [`GroupError::Journal`] after a failed sync, until the engine is opened again (I10).
    pub(crate) fn check(&self) -> Result<(), GroupError> {
        let log = self.state.log();
        let latch = log.as_ref().map(|log| log.segments().latch());
        match latch.and_then(|latch| latch.reason()) {
            Some(latched) => Err(GroupError::Journal(AppendError::LogFenced(latched.clone()))),
            None => Ok(()),
        }
    }

    /// The offset that the next event gets.
    pub(crate) fn end(&self) -> u64 {
        self.state.log().map_or(0, |log| log.next_offset())
    }

    /// Whether what was written at an offset is durable.
    pub(crate) fn is_durable(&self, offset: u64) -> bool {
        self.state.ends.synced() > offset
    }

    /// Waits until what was written at an offset is durable.
    ///
    /// # Errors
    /// [`GroupError::Journal`]: it may be durable, or not.
    pub(crate) async fn durable(
        &self,
        engine: &Arc<Handle>,
        offset: u64,
    ) -> Result<(), GroupError> {
        durable(engine, &self.state, offset).await.map_err(failed)
    }

    /// Waits for room after a write found none; `seen` is [`Journal::turns`] before it.
    ///
    /// # Errors
    /// [`GroupError::Journal`].
    pub(crate) async fn room(&self, engine: &Arc<Handle>, seen: u64) -> Result<(), GroupError> {
        room(engine, &self.state, seen).await.map_err(failed)
    }

    /// Changes whenever a segment may have become ready.
    pub(crate) fn turns(&self) -> u64 {
        self.state.feeding.turns.load(Ordering::Acquire)
    }

    /// Calls `each` for every event, in order.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn replay(&self, mut each: impl FnMut(u64, Event)) -> Result<(), JournalError> {
        // What lies behind the damage is not known, and so nothing is.
        if let Some(corruption) = self.state.log().and_then(|log| log.corruption().cloned()) {
            return Err(ReadError::Damaged(corruption).into());
        }
        records::each(&self.state, 0, |record| {
            let offset = record.offset();
            let bytes = record.value().map_or(&[][..], |bytes| bytes);
            let event = Event::decode(bytes).map_err(|source| JournalError::Event {
                offset,
                source: Arc::new(source),
            })?;
            each(offset, event);
            Ok(())
        })
        .map(drop)
    }
}

fn failed(error: AppendError) -> GroupError {
    match error {
        AppendError::Closed => GroupError::Closed,
        error => GroupError::Journal(error),
    }
}

/// Writes a batch to a log without waiting, and asks for what that makes due.
pub(super) fn write(
    core: &Arc<Core>,
    state: &Arc<PartitionState>,
    batch: &Batch<'_>,
    level: Ack,
) -> Result<Written, AppendError> {
    let (written, follow) = state.write(batch, level, core.time.now());
    core.follow_up(state, follow);
    written
}

/// Waits until a log is durable up to and with an offset. Of a driven engine, takes the turn here.
pub(super) async fn durable(
    engine: &Arc<Handle>,
    state: &Arc<PartitionState>,
    offset: u64,
) -> Result<(), AppendError> {
    if engine.core.config.is_driven && state.ends.synced() <= offset {
        engine.core.commit_now(state);
    }
    let partition = Partition {
        engine: engine.clone(),
        state: state.clone(),
        level: Ack::Synced,
    };
    let written = Written {
        base_offset: offset,
        last_offset: offset,
        duplicate: false,
        timestamp: Some(0),
    };
    if state.ends.synced() <= offset {
        engine.core.commit(state);
    }
    partition.answer(&written).await.map(drop)
}

/// Waits for a prepared segment of a log. Of a driven engine, prepares it here.
pub(super) async fn room(
    engine: &Arc<Handle>,
    state: &Arc<PartitionState>,
    seen: u64,
) -> Result<(), AppendError> {
    let core = &engine.core;
    let feeding = &state.feeding;
    if core.config.is_driven {
        segment_feeder::turn(state);
    }
    let timeout = core.config.append_timeout.as_millis();
    let timeout_ms = u64::try_from(timeout).unwrap_or(u64::MAX);
    let deadline_ms = core.time.now().elapsed_ms.saturating_add(timeout_ms);
    let turned = || {
        let turned = feeding.turns.load(Ordering::Acquire) != seen;
        let late = core.time.now().elapsed_ms >= deadline_ms;
        (turned || late || state.check_open().is_err()).then_some(turned)
    };
    if !state.ends.wait(turned).await {
        state.check_open()?;
        let (topic, partition) = (state.topic.clone(), state.index);
        return Err(AppendError::NotReady { topic, partition });
    }
    match feeding.failure.lock().clone() {
        Some((needed, source)) => Err(state.no_space(needed, source)),
        None => Ok(()),
    }
}
