//! The row of segments of one log: append, and roll into the next one.
//!
//! There is one writer at a time (the caller's lock). What takes time is cut out of it: a sync is
//! begun under the lock ([`SegmentedLog::begin_sync`]), done without it ([`SyncItem::sync`]) and
//! taken note of under it ([`SegmentedLog::synced`]); the next segment is prepared without it
//! ([`crate::Wanted::prepare`]) and handed over under it ([`SegmentedLog::offer`]).

mod ceiling;
mod commit;
mod feed;
mod retention;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use record_batch::{BatchHeader, HEADER_BYTES};
use sync::atomic::Ordering;

use crate::disk::DiskFile;
use crate::error::WriteError;
use crate::index::{Index, IndexCursor};
use crate::latch::Latch;
use crate::marks::{LogStart, Marks};
use crate::prepare::Prepared;
use crate::segment::{Place, Segment};
use crate::view::LogView;
use ceiling::Ceiling;
pub use commit::SyncItem;
use commit::{Dirty, Mark};
pub use retention::FrontDrop;

/// A log's first segment, and the smallest: an idle log must not reserve much.
pub const SEGMENT_BYTES_MIN: u64 = 256 << 10;
/// The largest segment that positions in the index can name.
pub const SEGMENT_BYTES_LIMIT: u64 = 2 << 30;

/// How many segments may wait for their seal before it is time to wait for them: what a close has to
/// seal, and an open after a crash to scan, is not to grow with how much faster appends are.
const UNSEALED_MAX: usize = 64;

/// When an append may be seen by readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Once it is durable (I28 at `synced`).
    Synced,
    /// Once it is written and below the offset ceiling (I9).
    Written,
}

/// How a log lays out its segments.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Capacity of the largest segment, in bytes: [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_LIMIT`],
    /// or less for tests.
    pub segment_bytes: u64,
    /// When appends become visible.
    pub visibility: Visibility,
}

/// The segment that takes appends.
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    index: Arc<Index>,
    cursor: IndexCursor,
    position: u64,
    capacity: u64,
    is_reserved: bool,
    /// When it was first appended to here, in the engine's elapsed ms; 0: not noted yet.
    since_ms: u64,
}

/// The writer's side of one log.
pub struct SegmentedLog {
    place: Place,
    config: LogConfig,
    view: Arc<LogView>,
    marks: Arc<Marks>,
    latch: Latch,
    generation: i32,
    active: Option<Active>,
    prepared: Option<Prepared>,
    /// A prepared segment is being made somewhere.
    preparing: bool,
    /// Bytes of a batch that found no room; 0: nobody waits.
    needed_bytes: u64,
    prepared_count: u64,
    next_offset: u64,
    synced_offset: u64,
    /// The newest place that a sync reached; `None` before the first.
    synced_end: Option<Dirty>,
    ceiling: Ceiling,
    dirty: VecDeque<Dirty>,
    /// Segments without a footer that take no more appends, oldest first.
    unsealed: VecDeque<Arc<Segment>>,
    /// The end of the last batch; below `next_offset` where the log jumped to its ceiling.
    last_end: Mark,
    /// The last file was closed cleanly and may be taken up again.
    is_resting: bool,
    is_closed: bool,
}

/// What recovery found, of which a [`SegmentedLog`] is made.
pub(crate) struct Found {
    pub(crate) segments: Vec<Arc<Segment>>,
    /// The last file, where a clean close left it to be taken up again.
    pub(crate) resting: Option<Arc<Segment>>,
    /// Position and offset behind the last batch.
    pub(crate) end: (u64, u64),
    pub(crate) next_offset: u64,
    pub(crate) start: LogStart,
}

impl SegmentedLog {
    pub(crate) fn new(
        place: Place,
        config: LogConfig,
        marks: Arc<Marks>,
        generation: i32,
        found: Found,
    ) -> SegmentedLog {
        let view = LogView::new(place.clone(), found.segments, found.start.offset)
            .with_batches_up_to(found.end.1);
        view.published.store(found.next_offset, Ordering::Release);
        SegmentedLog {
            place,
            config,
            view: Arc::new(view),
            marks,
            latch: Latch::default(),
            generation,
            active: None,
            prepared: None,
            preparing: false,
            needed_bytes: 0,
            prepared_count: 0,
            next_offset: found.next_offset,
            synced_offset: found.next_offset,
            synced_end: None,
            ceiling: Ceiling::at(0),
            dirty: VecDeque::new(),
            is_closed: false,
            is_resting: found.resting.is_some(),
            unsealed: found.resting.into_iter().collect(),
            last_end: Mark {
                position: found.end.0,
                next_offset: found.end.1,
            },
        }
    }

    /// Notes when the log was last appended to, in the engine's elapsed ms, for retention by age
    /// and for [`SegmentedLog::active_since_ms`].
    #[inline]
    pub fn note_append(&mut self, elapsed_ms: u64) {
        if let Some(active) = &mut self.active {
            active.segment.note_append(elapsed_ms);
            if active.since_ms == 0 {
                active.since_ms = elapsed_ms.max(1);
            }
        }
    }

    /// Since when the active segment has data that was appended since the open, in the engine's
    /// elapsed ms; 0: it has none.
    pub fn active_since_ms(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.since_ms)
    }

    /// The readers' side.
    pub fn view(&self) -> &Arc<LogView> {
        &self.view
    }

    /// The log's durable numbers.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// The latch that a failed sync closes.
    pub fn latch(&self) -> &Latch {
        &self.latch
    }

    /// Where the log is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The generation that is stamped into each batch as leader epoch.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The offset that the next record gets (log end offset).
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The end of the last batch. Below [`SegmentedLog::next_offset`] where the log was opened with
    /// a jump to its offset ceiling and nothing was appended since (I9).
    pub fn batches_end(&self) -> u64 {
        self.last_end.next_offset
    }

    /// Everything below it is durable.
    pub fn synced_offset(&self) -> u64 {
        self.synced_offset
    }

    /// Appends a batch: `header` as it goes to disk, base offset [`SegmentedLog::next_offset`],
    /// and the records behind it.
    ///
    /// # Errors
    /// [`WriteError`]. Unless latched, the log is exactly as before.
    ///
    /// # Panics
    /// When the header's base offset is not the next one (I4).
    #[inline]
    pub fn append(
        &mut self,
        header: &BatchHeader,
        header_bytes: &[u8; HEADER_BYTES],
        records: &[u8],
    ) -> Result<(), WriteError> {
        assert_eq!(
            u64::try_from(header.base_offset),
            Ok(self.next_offset),
            "I4: a batch is appended at the log's end"
        );
        self.latch.check()?;
        let bytes = size(header_bytes.len()) + size(records.len());
        if bytes > self.config.segment_bytes {
            return Err(WriteError::TooLarge {
                bytes,
                limit: self.config.segment_bytes,
            });
        }
        self.make_room(bytes)?;
        let Some(active) = &mut self.active else {
            return Err(WriteError::NoSegment { bytes });
        };
        let position = active.position;
        if let Err(source) = active.file.write_at(header_bytes, records, position) {
            return Err(self.write_failed(bytes, source));
        }
        let next_offset = u64::try_from(header.next_offset()).unwrap_or(0);
        assert!(
            next_offset > self.next_offset,
            "I4: a batch has at least one offset"
        );
        let relative = self.next_offset - active.segment.base_offset();
        active
            .cursor
            .note(&active.index, relative, position, header.max_timestamp);
        active.segment.note_timestamp(active.cursor.max_timestamp());
        active.position = position + bytes;
        active.file.publish(active.position);
        let end = Mark {
            position: active.position,
            next_offset,
        };
        match self.dirty.back_mut() {
            Some(dirty) if Arc::ptr_eq(&dirty.segment, &active.segment) => dirty.end = end,
            _ => self.dirty.push_back(Dirty {
                segment: active.segment.clone(),
                end,
            }),
        }
        self.last_end = end;
        self.next_offset = next_offset;
        let below_ceiling = self.ceiling.note_append(next_offset);
        if self.config.visibility == Visibility::Written && below_ceiling {
            self.publish(next_offset);
        }
        Ok(())
    }

    fn publish(&mut self, end: u64) {
        // There is one writer, so between the two nobody else raises it.
        if end > self.view.published.load(Ordering::Relaxed) {
            self.view.published.store(end, Ordering::Release);
        }
    }

    // In the segment in use.
    #[inline]
    fn has_room(&self, bytes: u64) -> bool {
        self.active.as_ref().is_some_and(|a| {
            a.position.saturating_add(bytes) <= a.capacity
                && self.next_offset - a.segment.base_offset() < u64::from(u32::MAX) / 2
        })
    }

    #[inline]
    fn make_room(&mut self, bytes: u64) -> Result<(), WriteError> {
        if !self.has_room(bytes) {
            match self.prepared.take() {
                Some(prepared) if prepared.room() >= bytes => self.roll_into(prepared),
                // Too small for this batch: it is dropped, and a larger one asked for.
                small => {
                    if let Some(prepared) = small {
                        prepared.discard();
                    }
                    self.needed_bytes = bytes;
                    return Err(WriteError::NoSegment { bytes });
                }
            }
        }
        Ok(())
    }

    fn write_failed(&mut self, bytes: u64, source: io::Error) -> WriteError {
        let log = self.place.display("");
        let full = source.kind() == io::ErrorKind::StorageFull
            || source.kind() == io::ErrorKind::QuotaExceeded
            || source.kind() == io::ErrorKind::FileTooLarge;
        let reserved = self.active.as_ref().is_some_and(|a| a.is_reserved);
        if full && !reserved {
            // The disk undid what it had written of the batch. The file takes no more writes all
            // the same; the next append asks for another one.
            self.roll();
            return WriteError::NoSpace { log, bytes, source };
        }
        self.latch.close(&log, "write", &source).into()
    }

    fn roll_into(&mut self, prepared: Prepared) {
        self.roll();
        self.is_resting = false;
        let base_offset = match prepared.resumed() {
            Some(base_offset) => base_offset,
            None => self.next_offset,
        };
        let resting = prepared
            .resumed()
            .and_then(|_| self.view.segments.load().last().cloned());
        let previous_end = resting
            .as_ref()
            .map_or(self.last_end.next_offset, |last| last.previous_end());
        let parts = prepared.into_parts();
        let segment = Arc::new(Segment::active(
            self.place.clone(),
            (base_offset, previous_end),
            parts.file.clone(),
            parts.name,
            (parts.index, parts.cursor.max_timestamp()),
        ));
        if let Some(resting) = resting {
            segment.note_append(resting.last_append_ms());
        }
        let mut segments = self.view.segments.load().as_ref().clone();
        if segments
            .last()
            .is_some_and(|s| s.base_offset() == base_offset)
        {
            segments.pop();
        }
        segments.push(segment.clone());
        self.view.segments.store(Arc::new(segments));
        let index = match segment.index() {
            Ok(index) => index,
            // It was given one a moment ago, so it reads nothing.
            Err(_) => Arc::new(Index::with_room_for(0)),
        };
        self.active = Some(Active {
            segment,
            file: parts.file,
            index,
            cursor: parts.cursor,
            position: parts.position,
            capacity: parts.capacity,
            is_reserved: parts.is_reserved,
            since_ms: 0,
        });
        self.needed_bytes = 0;
    }

    /// Ends the active segment, so that the next append begins another. Without effect on an
    /// empty one. The next commit seals it.
    pub fn roll(&mut self) {
        if let Some(active) = self.active.take_if(|a| a.position > 0) {
            self.unsealed.push_back(active.segment);
        }
    }

    /// Bytes in the active segment; 0 when there is none.
    pub fn active_bytes(&self) -> u64 {
        self.active.as_ref().map_or(0, |a| a.position)
    }
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
