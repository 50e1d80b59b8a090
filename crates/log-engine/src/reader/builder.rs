//! How a reader is opened, and where it begins.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use segment_storage::Cursor;

use super::{Place, Reader, RecordStream};
use crate::engine::Engine;
use crate::error::ReadError;
use crate::partition::{PartitionState, Source};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// At the first record there is.
    #[default]
    Earliest,
    /// Behind the last record there is now.
    Latest,
    /// At an offset.
    Offset(u64),
    /// At the first record of that time or later; behind the last one when there is none.
    Timestamp(SystemTime),
}

/// Bytes that one step of a reader takes of a partition, unless set.
const MAX_BYTES_DEFAULT: usize = 1 << 20;

/// Opens a [`Reader`], or a [`RecordStream`].
#[derive(Clone)]
pub struct ReaderBuilder {
    engine: Engine,
    topic: String,
    partition: Option<u32>,
    start: Start,
    is_following: bool,
    max_bytes: usize,
}

impl fmt::Debug for ReaderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderBuilder")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("start", &self.start)
            .field("is_following", &self.is_following)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl ReaderBuilder {
    pub(crate) fn new(engine: &Engine, topic: &str) -> ReaderBuilder {
        ReaderBuilder {
            engine: engine.clone(),
            topic: topic.to_owned(),
            partition: None,
            start: Start::Earliest,
            is_following: false,
            max_bytes: MAX_BYTES_DEFAULT,
        }
    }

    /// Reads one partition. Unless set, all that the topic has now are read, each in its own order.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> ReaderBuilder {
        self.partition = Some(partition);
        self
    }

    /// Where to begin.
    #[must_use]
    pub fn start(mut self, start: Start) -> ReaderBuilder {
        self.start = start;
        self
    }

    /// Waits for more at the end, instead of ending. Whoever waits is woken by what makes records
    /// visible, a few microseconds later; where another process writes, its log is looked at every
    /// 50 ms.
    #[must_use]
    pub fn follow(mut self) -> ReaderBuilder {
        self.is_following = true;
        self
    }

    /// About how many bytes of batches one step takes; at least one batch.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> ReaderBuilder {
        self.max_bytes = bytes;
        self
    }

    /// Opens the reader.
    ///
    /// # Errors
    /// [`ReadError`]: no such topic or partition, the start is not in the log, or a log is so damaged
    /// that nothing of it can be read.
    pub fn open(self) -> Result<Reader, ReadError> {
        if self.engine.core().is_closed() {
            return Err(ReadError::Closed);
        }
        let topic = self.engine.topic(&self.topic).map_err(Arc::new)?;
        let numbers = match self.partition {
            Some(partition) => partition..partition.saturating_add(1),
            None => 0..topic.partitions(),
        };
        let mut partitions = Vec::new();
        for number in numbers {
            let state = topic.partition(number).map_err(Arc::new)?.state;
            // Nothing of it could be opened; an empty log would be a lie (I24).
            if let Source::Damaged(corruption) = &state.source {
                return Err(ReadError::Damaged(corruption.clone()));
            }
            let cursor = Cursor::at(start_offset(&state, self.start)?);
            partitions.push(Place {
                state,
                cursor,
                least_offset: cursor.offset,
            });
        }
        Ok(Reader {
            topic,
            partitions,
            turn: 0,
            is_following: self.is_following,
            max_bytes: self.max_bytes,
            decoded: VecDeque::new(),
            failed: None,
        })
    }

    /// Opens the reader as a stream of records, for any executor: [`ReaderBuilder::open`] and
    /// [`Reader::into_stream`].
    ///
    /// # Errors
    /// As [`ReaderBuilder::open`].
    pub fn stream(self) -> Result<RecordStream, ReadError> {
        Ok(self.open()?.into_stream())
    }
}

pub(crate) fn start_offset(state: &PartitionState, start: Start) -> Result<u64, ReadError> {
    refresh(state)?;
    let reader = &state.reader;
    let (first, end) = (reader.log_start_offset(), reader.high_watermark());
    let (topic, partition) = (state.topic.clone(), state.index);
    Ok(match start {
        Start::Earliest => first,
        Start::Latest => end,
        Start::Offset(asked) if asked < first => {
            return Err(ReadError::Deleted {
                topic,
                partition,
                asked,
                first,
            });
        }
        Start::Offset(asked) if asked > end => {
            return Err(ReadError::OutOfRange {
                topic,
                partition,
                asked,
                end,
            });
        }
        Start::Offset(asked) => asked,
        Start::Timestamp(time) => {
            let ms = match time.duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
                Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
            };
            reader
                .offset_for_timestamp(ms)?
                .map_or(end, |(offset, _)| offset)
        }
    })
}

/// Sees what another process may have written meanwhile.
pub(super) fn refresh(state: &PartitionState) -> Result<(), ReadError> {
    if let Source::Follower(follower) = &state.source {
        follower
            .refresh()
            .map_err(|e| Arc::new(partition_log::OpenError::from(e)))?;
    }
    Ok(())
}
