//! What readers see of a log: the row of segments up to the published end. No lock is shared with
//! the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use record_batch::{Batch, BatchHeader};

use crate::error::ReadError;
use crate::index::IndexEntry;
use crate::scan::ScanError;
use crate::segment::{Place, Segment};

/// The readers' side of one log. Cheap to share; all numbers in it only rise, but for an explicit
/// truncation.
pub struct LogView {
    pub(crate) place: Place,
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    pub(crate) published: AtomicU64,
    pub(crate) start: AtomicU64,
    index_rebuilds: AtomicU64,
}

/// Where a reader is: an offset, and where in which segment that was found last time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The next offset to read.
    pub offset: u64,
    hint: Option<(u64, u64)>,
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
            index_rebuilds: AtomicU64::new(0),
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

    /// The segments, oldest first.
    pub fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    /// Indexes that were found wrong and made anew.
    pub fn index_rebuilds(&self) -> u64 {
        self.index_rebuilds.load(Ordering::Relaxed)
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
        let first = self.start();
        if cursor.offset < first {
            return Err(ReadError::Deleted {
                asked: cursor.offset,
                first,
            });
        }
        let segments = self.segments.load();
        let mut at = segments
            .partition_point(|s| s.base_offset() <= cursor.offset)
            .max(1)
            - 1;
        while cursor.offset < limit {
            let Some(segment) = segments.get(at) else {
                return Ok(None);
            };
            if segment.base_offset() >= limit {
                return Ok(None);
            }
            if let Some(run) = self.read_segment(segment, cursor, limit, max_bytes)? {
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
        cursor: &mut Cursor,
        limit: u64,
        max_bytes: usize,
    ) -> Result<Option<BatchRun>, ReadError> {
        let base = segment.base_offset();
        let position = match cursor.hint {
            Some((hinted, position)) if hinted == base => position,
            _ => self.boundary(segment, cursor.offset)?.0,
        };
        let mut walk = Walk::new(self, segment, position)?;
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
            hint: Some((base, end)),
        };
        Ok(Some(BatchRun { bytes, next_offset }))
    }

    /// A batch at or before the one with `offset`: its position and its own offset. An entry of
    /// the index is checked against the batch it points to; an index that lies is made anew (I25).
    ///
    /// # Errors
    /// When the segment cannot be read.
    pub fn boundary(&self, segment: &Segment, offset: u64) -> Result<(u64, u64), ReadError> {
        let base = segment.base_offset();
        let relative = offset.saturating_sub(base);
        if relative == 0 {
            return Ok((0, base));
        }
        let place = |entry: IndexEntry| {
            (
                u64::from(entry.position),
                base + u64::from(entry.relative_offset),
            )
        };
        let index = segment.index().map_err(|e| self.scan(segment, e))?;
        let Some(entry) = index.floor_offset(relative) else {
            return Ok((0, base));
        };
        let (position, named) = place(entry);
        let found = Walk::new(self, segment, position).and_then(|mut walk| walk.next());
        if matches!(found, Ok(Some(header)) if offset_of(&header) == named) {
            return Ok((position, named));
        }
        self.index_rebuilds.fetch_add(1, Ordering::Relaxed);
        let index = segment.rebuild_index().map_err(|e| self.scan(segment, e))?;
        Ok(index.floor_offset(relative).map_or((0, base), place))
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
        let first = self.start();
        for segment in self.segments.load().iter() {
            if segment.base_offset() >= limit {
                break;
            }
            let newest = segment.max_timestamp().map_err(|e| self.scan(segment, e))?;
            if newest < timestamp {
                continue;
            }
            let index = segment.index().map_err(|e| self.scan(segment, e))?;
            let position = index
                .floor_timestamp(timestamp)
                .map_or(0, |e| u64::from(e.position));
            // Behind a wrong index entry is no batch; without the index the walk is longer and right.
            let sound = Walk::new(self, segment, position)?.next().is_ok();
            let mut walk = Walk::new(self, segment, if sound { position } else { 0 })?;
            while let Some(header) = walk.next()? {
                if offset_of(&header) >= limit {
                    return Ok(None);
                }
                if header.max_timestamp >= timestamp && next_of(&header) > first {
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
        let at = segments
            .partition_point(|s| s.base_offset() <= after)
            .checked_sub(1)?;
        let base = segments[at].base_offset();
        let entry = segments[at]
            .index()
            .ok()
            .and_then(|i| i.above_offset(after - base));
        let in_segment = entry.map(|e| base + u64::from(e.relative_offset));
        in_segment.or_else(|| segments.get(at + 1).map(|s| s.base_offset()))
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

// What `BatchHeader` calls an offset is never negative in a log: each was checked when it was
// appended, and what a damaged header says is refused by the walk.
fn offset_of(header: &BatchHeader) -> u64 {
    u64::try_from(header.base_offset).unwrap_or(0)
}

fn next_of(header: &BatchHeader) -> u64 {
    u64::try_from(header.next_offset()).unwrap_or(0)
}

/// A walk over the batches of a segment, each checked with its CRC.
struct Walk<'a> {
    view: &'a LogView,
    segment: &'a Segment,
    bytes: Bytes,
    window_start: u64,
    end: u64,
    batch_start: u64,
    position: u64,
    least_offset: u64,
}

/// Bytes mapped at a time; a batch that is larger is fetched alone.
const WINDOW_BYTES: u64 = 4 << 20;

impl<'a> Walk<'a> {
    fn new(view: &'a LogView, segment: &'a Segment, from: u64) -> Result<Walk<'a>, ReadError> {
        let file = segment.file().map_err(|e| view.io(segment, e))?;
        let end = file.published();
        Ok(Walk {
            view,
            segment,
            bytes: Bytes::new(),
            window_start: from,
            end,
            batch_start: from,
            position: from,
            least_offset: segment.base_offset(),
        })
    }

    fn window(&mut self, from: u64, bytes: u64) -> Result<&[u8], ReadError> {
        let have = self.window_start + u64::try_from(self.bytes.len()).unwrap_or(0);
        if from < self.window_start || from + bytes > have {
            let to = self.end.min(from + bytes.max(WINDOW_BYTES));
            let file = self
                .segment
                .file()
                .map_err(|e| self.view.io(self.segment, e))?;
            self.bytes = file
                .read(from..to)
                .map_err(|e| self.view.io(self.segment, e))?;
            self.window_start = from;
        }
        let at = usize::try_from(from - self.window_start).unwrap_or(usize::MAX);
        let to = self.end.min(from + bytes) - self.window_start;
        Ok(&self.bytes[at..usize::try_from(to).unwrap_or(usize::MAX)])
    }

    fn next(&mut self) -> Result<Option<BatchHeader>, ReadError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let (least, segment) = (self.least_offset, self.segment);
        let corrupt = |reason: crate::scan::Invalid| ReadError::Corrupt {
            file: segment.display(),
            position,
            reason: Arc::new(reason),
        };
        let left = self.end - position;
        let head = self.window(position, left.min(64))?;
        let header = BatchHeader::read(head).map_err(|e| corrupt(e.into()))?;
        let bytes = u64::try_from(header.size()).unwrap_or(u64::MAX);
        if bytes > left {
            return Err(corrupt(crate::scan::Invalid::BeyondEnd { bytes, left }));
        }
        if u64::try_from(header.base_offset).is_ok_and(|o| o >= least)
            && header.last_offset_delta >= 0
        {
            Batch::parse(self.window(position, bytes)?).map_err(|e| corrupt(e.into()))?;
        } else {
            let (expected, found) = (least, header.base_offset);
            return Err(corrupt(crate::scan::Invalid::Offset { expected, found }));
        }
        self.batch_start = position;
        self.position = position + bytes;
        self.least_offset = next_of(&header);
        Ok(Some(header))
    }

    /// The batch returned last.
    fn batch(&self) -> Bytes {
        let at = |p: u64| usize::try_from(p - self.window_start).unwrap_or(usize::MAX);
        self.bytes.slice(at(self.batch_start)..at(self.position))
    }
}
