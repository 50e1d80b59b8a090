//! Reading: batches and records, from any offset or time, to the end or following it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use record_batch::{Batch, BatchHeader, Record, Records, SOURCE_HEADER, SourcePosition};
use segment_storage::Cursor;

use crate::blocking;
use crate::consumed_record::ConsumedRecord;
use crate::ends::State;
use crate::engine::Engine;
use crate::error::ReadError;
use crate::partition::{PartitionState, Source};
use crate::topic::Topic;

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

/// Opens a reader.
#[derive(Clone)]
pub struct ReaderBuilder {
    engine: Engine,
    topic: String,
    partition: Option<u32>,
    start: Start,
    is_following: bool,
    max_bytes: usize,
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

    /// Reads one partition. Unless set, all are read, each in its own order.
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

    /// Waits for more at the end, instead of ending.
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
    /// [`ReadError`]: no such topic or partition, or the start is not in the log.
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
}

fn start_offset(state: &PartitionState, start: Start) -> Result<u64, ReadError> {
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

// Another process may have written more.
fn refresh(state: &PartitionState) -> Result<(), ReadError> {
    if let Source::Follower(follower) = &state.source {
        follower
            .refresh()
            .map_err(|e| Arc::new(partition_log::OpenError::from(e)))?;
    }
    Ok(())
}

#[derive(Clone)]
struct Place {
    state: Arc<PartitionState>,
    cursor: Cursor,
    /// Records below it, in a batch that began earlier, were not asked for.
    least_offset: u64,
}

/// Reads a topic. A clone has its own place in it. Shares no lock with writers.
///
/// What it returns are `Bytes` over the mapped files: holding one keeps its segment mapped, and
/// the file's space in use even after it was deleted. Copy what is kept for long.
#[derive(Clone)]
pub struct Reader {
    topic: Topic,
    partitions: Vec<Place>,
    turn: usize,
    is_following: bool,
    max_bytes: usize,
    decoded: VecDeque<ConsumedRecord>,
    /// Comes after the records that were decoded before it.
    failed: Option<ReadError>,
}

/// Whole batches, as they lie in one partition.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Batches {
    /// The partition.
    pub partition: u32,
    /// The batches, back to back. The first may begin below the offset asked for.
    pub bytes: Bytes,
    /// The offset after the last of them.
    pub next_offset: u64,
}

impl Reader {
    /// The next offset to be read of a partition; `None` when it is not among those read.
    pub fn position(&self, partition: u32) -> Option<u64> {
        let decoded = self
            .decoded
            .front()
            .filter(|record| record.partition() == partition);
        let place = self
            .partitions
            .iter()
            .find(|p| p.state.index == partition)?;
        Some(decoded.map_or(place.cursor.offset, ConsumedRecord::offset))
    }

    /// Goes on at `offset` of a partition; behind damage, for example.
    pub fn seek(&mut self, partition: u32, offset: u64) {
        self.decoded
            .retain(|record| record.partition() != partition);
        for place in self
            .partitions
            .iter_mut()
            .filter(|p| p.state.index == partition)
        {
            place.cursor = Cursor::at(offset);
            place.least_offset = offset;
        }
    }

    /// The next offset behind damage at the reader's place, if anything can be read behind it.
    pub fn next_readable(&self, partition: u32) -> Option<u64> {
        let place = self
            .partitions
            .iter()
            .find(|p| p.state.index == partition)?;
        place.state.reader.view().next_readable(place.cursor.offset)
    }

    // One step: the next batches of the first partition, in turn, that has any.
    fn step(&mut self) -> Result<Option<Batches>, ReadError> {
        for _ in 0..self.partitions.len() {
            let at = self.turn % self.partitions.len();
            let place = &mut self.partitions[at];
            let (state, partition) = (&place.state, place.state.index);
            if state.ends.state() == State::Deleted {
                return Err(ReadError::TopicDeleted {
                    topic: state.topic.clone(),
                });
            }
            let mut end = state.reader.high_watermark();
            let mut read = state.reader.read(&mut place.cursor, self.max_bytes);
            if matches!(read, Ok(None)) && matches!(state.source, Source::Follower(_)) {
                refresh(state)?;
                end = state.reader.high_watermark();
                read = state.reader.read(&mut place.cursor, self.max_bytes);
            }
            match read {
                Ok(Some(run)) => {
                    let (bytes, next_offset) = (run.bytes, run.next_offset);
                    // The same partition again while it has more would starve the others.
                    self.turn += 1;
                    return Ok(Some(Batches {
                        partition,
                        bytes,
                        next_offset,
                    }));
                }
                Ok(None) => {
                    // A gap, which a crash left (I9): nothing will ever be in it.
                    if place.cursor.offset < end {
                        place.cursor = Cursor::at(end);
                    }
                    self.turn += 1;
                }
                Err(segment_storage::ReadError::Deleted { asked, first }) => {
                    let topic = state.topic.clone();
                    return Err(ReadError::Deleted {
                        topic,
                        partition,
                        asked,
                        first,
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn has_more(&self) -> bool {
        self.partitions.iter().any(|place| {
            let state = &place.state;
            // Nothing comes to a fenced log, but its reader may have other partitions.
            let ended = matches!(state.ends.state(), State::Closed | State::Deleted);
            state.reader.high_watermark() > place.cursor.offset || ended
        })
    }

    fn is_closed(&self) -> bool {
        self.topic.engine.core.is_closed()
    }

    /// The next batches; `None` at the end, unless the reader follows.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn next_batches(&mut self) -> Option<Result<Batches, ReadError>> {
        loop {
            match self.step() {
                Ok(None) if !self.is_following => return None,
                Ok(None) if self.is_closed() => return Some(Err(ReadError::Closed)),
                Ok(None) => self.wait_for_more().await,
                Ok(Some(batches)) => return Some(Ok(batches)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn wait_for_more(&self) {
        let waits = self.partitions.iter().map(|place| {
            let more = || (self.has_more() || self.is_closed()).then_some(());
            place.state.ends.wait(more)
        });
        first_of(waits.collect()).await;
    }

    /// As [`Reader::next_batches`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    pub fn blocking_next_batches(&mut self) -> Option<Result<Batches, ReadError>> {
        blocking::wait("blocking_next_batches", "next_batches", self.next_batches())
    }

    /// The next record; `None` at the end, unless the reader follows. Control records are left
    /// out.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn next(&mut self) -> Option<Result<ConsumedRecord, ReadError>> {
        loop {
            if let Some(record) = self.decoded.pop_front() {
                return Some(Ok(record));
            }
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            match self.next_batches().await? {
                Ok(batches) => self.decode(&batches),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn decode(&mut self, batches: &Batches) {
        let Some(place) = self
            .partitions
            .iter()
            .find(|p| p.state.index == batches.partition)
        else {
            return;
        };
        let (topic, partition, least) = (
            place.state.topic.clone(),
            batches.partition,
            place.least_offset,
        );
        let mut rest = batches.bytes.clone();
        while !rest.is_empty() && self.failed.is_none() {
            let decoded = decode_first(&mut rest, |header, source, record| {
                let consumed = ConsumedRecord::new(&topic, partition, (header, source), record);
                if consumed.offset() >= least {
                    self.decoded.push_back(consumed);
                }
            });
            if let Err((offset, source)) = decoded {
                let topic = topic.clone();
                self.failed = Some(ReadError::Malformed {
                    topic,
                    partition,
                    offset,
                    source,
                });
                // What follows in these batches is read again when the caller goes on.
                self.seek_behind(partition, offset);
            }
        }
    }

    fn seek_behind(&mut self, partition: u32, offset: u64) {
        for place in self
            .partitions
            .iter_mut()
            .filter(|p| p.state.index == partition)
        {
            place.cursor = Cursor::at(offset + 1);
            place.least_offset = offset + 1;
        }
    }

    /// All records to the end; with [`ReaderBuilder::follow`], for ever.
    ///
    /// # Panics
    /// The iterator, on a worker of an async runtime.
    pub fn blocking_iter(
        &mut self,
    ) -> impl Iterator<Item = Result<ConsumedRecord, ReadError>> + '_ {
        std::iter::from_fn(move || match self.decoded.pop_front() {
            Some(record) => Some(Ok(record)),
            None => blocking::wait("blocking_iter", "next", self.next()),
        })
    }
}

// Takes the first batch off a run. On failure the batch is taken off all the same, and its base
// offset returned.
fn decode_first(
    rest: &mut Bytes,
    mut each: impl FnMut(&BatchHeader, Option<u64>, Record),
) -> Result<(), (u64, record_batch::BatchError)> {
    // The storage has checked every batch of the run, so a header that does not parse ends it.
    let header = match BatchHeader::read(rest) {
        Ok(header) => header,
        Err(error) => {
            rest.clear();
            return Err((0, error));
        }
    };
    let batch = rest.split_to(header.size().min(rest.len()));
    let last_offset = u64::try_from(header.last_offset()).unwrap_or(0);
    if header.attributes.is_control() {
        return Ok(());
    }
    debug_assert!(
        Batch::parse(&batch).is_ok(),
        "I21: checked when it was read"
    );
    let mut source = None;
    for record in Records::of(&batch).map_err(|e| (last_offset, e))? {
        let mut record = record.map_err(|e| (last_offset, e))?;
        if header.attributes.has_source() && source.is_none() {
            source = take_source(&mut record);
        }
        each(&header, source, record);
    }
    Ok(())
}

// The header that carries it is the log's, not the record's.
fn take_source(record: &mut Record) -> Option<u64> {
    let header = record
        .headers
        .pop_if(|header| header.key.as_str() == SOURCE_HEADER)?;
    Some(SourcePosition::decode(&header.value?)?.last)
}

/// Completes with the first of some futures. They must be able to be dropped at any time.
async fn first_of<F: Future>(futures: Vec<F>) -> F::Output {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        for future in &mut futures {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                return std::task::Poll::Ready(value);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
