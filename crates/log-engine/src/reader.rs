//! Reading: batches and records, from any offset or time, to the end or following it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use segment_storage::Cursor;

use crate::blocking;
use crate::consumed_record::ConsumedRecord;
use crate::ends::State;
use crate::error::ReadError;
use crate::partition::{PartitionState, Source};
use crate::topic::Topic;

mod builder;
mod decode;
mod stream;
mod waiting;

pub(crate) use builder::start_offset;
pub use builder::{ReaderBuilder, Start};
pub(crate) use decode::decode_first;
pub use stream::RecordStream;
use waiting::Waiting;

/// A reader's place in one partition.
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
/// the file's space in use even after it was deleted. What is kept for long is better copied, with
/// [`ConsumedRecord::to_owned`].
///
/// ```
/// use log_engine::{Engine, Record};
///
/// let engine = Engine::in_memory();
/// engine.ensure_topic("orders", 3)?;
/// let producer = engine.producer().open()?;
/// producer.blocking_append(Record::to("orders").key("A-1").value("two shirts"))?;
/// let mut orders = engine.reader("orders").open()?;
/// for record in orders.blocking_iter() {
///     let record = record?;
///     assert_eq!((record.offset(), record.value().unwrap().as_ref()), (0, &b"two shirts"[..]));
/// }
/// # Ok::<(), log_engine::Error>(())
/// ```
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

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.partitions.iter().map(|place| place.state.index);
        let places = numbers.map(|n| (n, self.position(n).unwrap_or_default()));
        f.debug_struct("Reader")
            .field("topic", &self.topic.name())
            .field("positions", &BTreeMap::from_iter(places))
            .field("is_following", &self.is_following)
            .finish_non_exhaustive()
    }
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
            // Nothing new, or a file that the writer has deleted.
            if !matches!(read, Ok(Some(_))) && matches!(state.source, Source::Follower(_)) {
                builder::refresh(state)?;
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

    fn is_closed(&self) -> bool {
        self.topic.engine.core.is_closed()
    }

    // The next batches, or the end; `None`: at the end, where a reader that follows waits.
    fn try_batches(&mut self) -> Option<Option<Result<Batches, ReadError>>> {
        match self.step() {
            Ok(None) if !self.is_following => Some(None),
            Ok(None) if self.is_closed() => Some(Some(Err(ReadError::Closed))),
            Ok(None) => None,
            Ok(Some(batches)) => Some(Some(Ok(batches))),
            Err(error) => Some(Some(Err(error))),
        }
    }

    // As `try_batches`, one record at a time.
    fn try_record(&mut self) -> Option<Option<Result<ConsumedRecord, ReadError>>> {
        loop {
            if let Some(record) = self.decoded.pop_front() {
                return Some(Some(Ok(record)));
            }
            if let Some(error) = self.failed.take() {
                return Some(Some(Err(error)));
            }
            match self.try_batches()? {
                Some(Ok(batches)) => self.decode(&batches),
                Some(Err(error)) => return Some(Some(Err(error))),
                None => return Some(None),
            }
        }
    }

    /// The next record, without waiting; `None` when there is none now.
    pub(crate) fn try_next(&mut self) -> Option<Result<ConsumedRecord, ReadError>> {
        self.try_record().flatten()
    }

    /// The next batches; `None` at the end, unless the reader follows.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn next_batches(&mut self) -> Option<Result<Batches, ReadError>> {
        loop {
            if let Some(answer) = self.try_batches() {
                return answer;
            }
            Waiting::for_more(self).await;
        }
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
    /// Under tokio a task that has read many records without a pause lets others have their turn.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping it.
    pub async fn next(&mut self) -> Option<Result<ConsumedRecord, ReadError>> {
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(answer) = self.try_record() {
                return answer;
            }
            Waiting::for_more(self).await;
        }
    }

    /// The records as a stream, for any executor; the place is kept.
    pub fn into_stream(self) -> RecordStream {
        RecordStream::new(self)
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

    /// All records to the end; with [`ReaderBuilder::follow`], for ever. An error at which the
    /// reader stays where it is comes again at each step: stop there, or [`Reader::seek`].
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
