//! What readers see of a log: the row of segments up to the published end. No lock is shared with
//! the writer.

mod walk;

use std::sync::Arc;

use bytes::Bytes;
use record_batch::{BatchHeader, HEADER_BYTES};
use sync::ArcSwap;
use sync::atomic::{AtomicU64, Ordering};

use crate::error::ReadError;
use crate::index::{Index, IndexEntry};
use crate::scan::{Invalid, ScanError};
use crate::segment::{Place, Segment};
use walk::Walk;

/// The readers' side of one log. Cheap to share; all numbers in it only rise, but for an explicit
/// truncation.
pub struct LogView {
    pub(crate) place: Place,
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(crate) published: AtomicU64,
    pub(crate) start: AtomicU64,
    /// Up to here the log had batches when it was opened; a read that finds none is told so.
    batches_end: u64,
}

/// Where a reader is: an offset, and where in which segment that was found last time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The next offset to read.
    pub offset: u64,
    /// Base offset of the segment, position there, and the offset that this was found for.
    hint: Option<(u64, u64, u64)>,
}

impl Cursor {
    /// A cursor at an offset.
    pub fn at(offset: u64) -> Cursor {
        Cursor { offset, hint: None }
    }
}

/// Whole batches, back to back, as they lie in one segment.
#[derive(Debug, Clone)]
pub struct BatchRun {
    /// The batches. The first may begin before the offset asked for.
    pub bytes: Bytes,
    /// The offset after the last of them.
    pub next_offset: u64,
}

impl LogView {
    pub(crate) fn new(place: Place, segments: Vec<Arc<Segment>>, start: u64) -> LogView {
        LogView {
            place,
            segments: ArcSwap::from_pointee(segments),
            published: AtomicU64::new(start),
            start: AtomicU64::new(start),
            batches_end: 0,
        }
    }

    /// Has reads of offsets below `end` fail where no batch is found, even behind the last segment.
    pub(crate) fn with_batches_up_to(self, end: u64) -> LogView {
        LogView {
            batches_end: end,
            ..self
        }
    }

    /// A log of which nothing can be read.
    pub fn empty(place: Place) -> LogView {
        LogView::new(place, Vec::new(), 0)
    }

    /// The log's directory, as a person can find it.
    pub fn display(&self) -> String {
        self.place.display("")
    }

    /// First offset that can be read.
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }

    /// Offset up to which readers see the log.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Whether there are segments that lie wholly below the start: what a deletion has left.
    pub fn has_deleted(&self) -> bool {
        let second = self.segments.load().get(1).map(|s| s.base_offset());
        second.is_some_and(|base| base <= self.start())
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    /// Indexes that were found damaged or wrong and made anew, of the segments that are still there.
    pub fn index_rebuilds(&self) -> u64 {
        let segments = self.segments.load();
        segments.iter().map(|s| s.index_rebuilds()).sum()
    }

    /// Reads whole batches from the cursor's offset on, of one segment, at least one and about
    /// `max_bytes`, none of which begins at or above `limit`; moves the cursor behind them.
    /// `None` at the limit. Every batch handed out was checked now (I21).
    ///
    /// # Errors
    /// [`ReadError`]; the cursor stays where it was, and the same call fails again (I27).
    pub fn read(
        &self,
        cursor: &mut Cursor,
        limit: u64,
        max_bytes: usize,
    ) -> Result<Option<BatchRun>, ReadError> {
        self.with_segments(|segments| self.read_from(segments, cursor, limit, max_bytes))
    }

    // Looks at the row of segments, and again where that failed while the row was another already:
    // the files that a deletion has removed meanwhile are no damage.
    fn with_segments<T>(
        &self,
        mut look: impl FnMut(&[Arc<Segment>]) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        loop {
            let segments = self.segments.load();
            match look(&segments) {
                Err(_) if !Arc::ptr_eq(&segments, &self.segments.load()) => {}
                done => return done,
            }
        }
    }

    fn read_from(
        &self,
        segments: &[Arc<Segment>],
        cursor: &mut Cursor,
        limit: u64,
        max_bytes: usize,
    ) -> Result<Option<BatchRun>, ReadError> {
        let first = self.start();
        if cursor.offset < first {
            return Err(ReadError::Deleted {
                asked: cursor.offset,
                first,
            });
        }
        let mut at = segments
            .partition_point(|s| s.base_offset() <= cursor.offset)
            .max(1)
            - 1;
        while cursor.offset < limit {
            let Some(segment) = segments.get(at) else {
                return self.check_hole(segments, cursor.offset, self.batches_end);
            };
            if segment.base_offset() > cursor.offset {
                self.check_hole(segments, cursor.offset, segment.previous_end())?;
            }
            if segment.base_offset() >= limit {
                return Ok(None);
            }
            let below = next_base(segments, at);
            if let Some(run) = self.read_segment(segment, below, cursor, limit, max_bytes)? {
                return Ok(Some(run));
            }
            // The offset lies behind this segment's last: in a jump, or in the next one.
            at += 1;
        }
        Ok(None)
    }

    fn read_segment(
        &self,
        segment: &Segment,
        below: u64,
        cursor: &mut Cursor,
        limit: u64,
        max_bytes: usize,
    ) -> Result<Option<BatchRun>, ReadError> {
        let base = segment.base_offset();
        let place = match cursor.hint {
            Some((hinted, position, offset)) if (hinted, offset) == (base, cursor.offset) => {
                (position, offset)
            }
            _ => self.boundary(segment, cursor.offset)?,
        };
        let mut walk = Walk::new(self, segment, below, place)?;
        let mut taken: Option<(u64, u64, u64)> = None;
        loop {
            let header = match walk.next() {
                Ok(Some(header)) => header,
                Ok(None) => break,
                // What lies before the damage is read; the next call begins at it, and fails.
                Err(_) if taken.is_some() => break,
                Err(error) => return Err(error),
            };
            let (offset, next) = (offset_of(&header), next_of(&header));
            if offset >= limit {
                break;
            }
            if next <= cursor.offset {
                continue;
            }
            let start = taken.map_or(walk.batch_start, |(start, ..)| start);
            let fits = walk.position - start <= u64::try_from(max_bytes).unwrap_or(u64::MAX);
            if taken.is_some() && !fits {
                break;
            }
            taken = Some((start, walk.position, next));
            if !fits {
                break;
            }
        }
        let Some((start, end, next_offset)) = taken else {
            return Ok(None);
        };
        let file = segment.file().map_err(|e| self.io(segment, e))?;
        let bytes = file.read(start..end).map_err(|e| self.io(segment, e))?;
        *cursor = Cursor {
            offset: next_offset,
            hint: Some((base, end, next_offset)),
        };
        Ok(Some(BatchRun { bytes, next_offset }))
    }

    // Below `end` every offset was in a batch: where none was found, one is missing.
    fn check_hole(
        &self,
        segments: &[Arc<Segment>],
        offset: u64,
        end: u64,
    ) -> Result<Option<BatchRun>, ReadError> {
        if offset >= end {
            return Ok(None);
        }
        // Retention may have moved the start since this read began.
        let first = self.start();
        if offset < first {
            return Err(ReadError::Deleted {
                asked: offset,
                first,
            });
        }
        let before = segments.iter().rfind(|s| s.base_offset() <= offset);
        let (file, position) = match before {
            Some(segment) => (segment.display(), segment.bytes().unwrap_or(0)),
            None => (self.display(), 0),
        };
        let missing = Invalid::Missing { offset, end };
        Err(ReadError::Corrupt {
            file,
            position,
            reason: Arc::new(missing),
        })
    }

    /// A batch at or before the one with `offset`: its position and its own offset. An entry of
    /// the index is checked against the batch it points to; an index that lies is made anew (I25).
    ///
    /// # Errors
    /// When the segment cannot be read.
    pub fn boundary(&self, segment: &Segment, offset: u64) -> Result<(u64, u64), ReadError> {
        let relative = offset.saturating_sub(segment.base_offset());
        self.floor(segment, |index| index.floor_offset(relative))
    }

    // The batch that the index names, or the segment's first.
    fn floor(
        &self,
        segment: &Segment,
        named: impl Fn(&Index) -> Option<IndexEntry>,
    ) -> Result<(u64, u64), ReadError> {
        let base = segment.base_offset();
        let place = |entry: IndexEntry| {
            (
                u64::from(entry.position),
                base + u64::from(entry.relative_offset),
            )
        };
        let index = segment.index().map_err(|e| self.scan(segment, e))?;
        let Some((position, offset)) = named(&index).map(place) else {
            return Ok((0, base));
        };
        // The rest of the batch is checked by whoever reads it; damage there is no lie of the index.
        let file = segment.file().map_err(|e| self.io(segment, e))?;
        let mut head = [0; HEADER_BYTES];
        let header = file
            .read_at(&mut head, position)
            .ok()
            .and_then(|()| BatchHeader::read(&head).ok());
        if header.is_some_and(|h| u64::try_from(h.base_offset) == Ok(offset)) {
            return Ok((position, offset));
        }
        let index = segment.rebuild_index().map_err(|e| self.scan(segment, e))?;
        Ok(named(&index).map_or((0, base), place))
    }

    /// The first batch below `limit` with a timestamp at or after `timestamp` (ms since 1970).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn batch_for_timestamp(
        &self,
        timestamp: i64,
        limit: u64,
    ) -> Result<Option<Bytes>, ReadError> {
        self.batch_for_timestamp_from(timestamp, 0, limit)
    }

    /// As [`LogView::batch_for_timestamp`], among the batches that end above offset `from`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn batch_for_timestamp_from(
        &self,
        timestamp: i64,
        from: u64,
        limit: u64,
    ) -> Result<Option<Bytes>, ReadError> {
        self.with_segments(|segments| {
            let from = from.max(self.start());
            self.batch_for_timestamp_in(segments, timestamp, from, limit)
        })
    }

    fn batch_for_timestamp_in(
        &self,
        segments: &[Arc<Segment>],
        timestamp: i64,
        from: u64,
        limit: u64,
    ) -> Result<Option<Bytes>, ReadError> {
        let first = segments.partition_point(|s| s.base_offset() <= from).max(1) - 1;
        for (at, segment) in segments.iter().enumerate().skip(first) {
            if segment.base_offset() >= limit {
                break;
            }
            let newest = segment.max_timestamp().map_err(|e| self.scan(segment, e))?;
            if newest < timestamp {
                continue;
            }
            let by_time = self.floor(segment, |index| index.floor_timestamp(timestamp))?;
            let by_offset = self.boundary(segment, from)?;
            let below = next_base(segments, at);
            let mut walk = Walk::new(self, segment, below, by_time.max(by_offset))?;
            while let Some(header) = walk.next()? {
                if offset_of(&header) >= limit {
                    return Ok(None);
                }
                if header.max_timestamp >= timestamp && next_of(&header) > from {
                    return Ok(Some(walk.batch()));
                }
            }
        }
        Ok(None)
    }

    /// The first offset above `offset` from which reading can be tried again, after damage there:
    /// the next place that an index names, or the next segment.
    pub fn next_readable(&self, after: u64) -> Option<u64> {
        let segments = self.segments.load();
        let next = segments.partition_point(|s| s.base_offset() <= after);
        let in_segment = next.checked_sub(1).and_then(|at| {
            let base = segments[at].base_offset();
            let entry = segments[at].index().ok()?.above_offset(after - base)?;
            Some(base + u64::from(entry.relative_offset))
        });
        in_segment.or_else(|| segments.get(next).map(|s| s.base_offset()))
    }

    fn io(&self, segment: &Segment, source: std::io::Error) -> ReadError {
        ReadError::Io {
            file: segment.display(),
            source: Arc::new(source),
        }
    }

    fn scan(&self, segment: &Segment, error: ScanError) -> ReadError {
        match error {
            ScanError::Read { source, .. } => self.io(segment, source),
            ScanError::Invalid { position, reason } => ReadError::Corrupt {
                file: segment.display(),
                position,
                reason: Arc::new(reason),
            },
        }
    }
}

// Where the segment after this one begins.
fn next_base(segments: &[Arc<Segment>], at: usize) -> u64 {
    segments.get(at + 1).map_or(u64::MAX, |s| s.base_offset())
}

// What `BatchHeader` calls an offset is never negative in a log: each was checked when it was
// appended, and what a damaged header says is refused by the walk.
fn offset_of(header: &BatchHeader) -> u64 {
    u64::try_from(header.base_offset).unwrap_or(0)
}

fn next_of(header: &BatchHeader) -> u64 {
    u64::try_from(header.next_offset()).unwrap_or(0)
}
