//! From one batch of a segment to the next.

use std::sync::Arc;

use bytes::Bytes;
use record_batch::{Batch, BatchHeader};

use super::{LogView, next_of};
use crate::error::ReadError;
use crate::scan::Invalid;
use crate::segment::Segment;

/// A walk over the batches of a segment, each checked with its CRC and its place in the row.
pub(super) struct Walk<'a> {
    view: &'a LogView,
    segment: &'a Segment,
    /// Where the next segment begins: no batch of this one reaches beyond.
    below: u64,
    bytes: Bytes,
    window_start: u64,
    end: u64,
    pub(super) batch_start: u64,
    pub(super) position: u64,
    expected_offset: u64,
}

/// Bytes mapped at a time; a batch that is larger is fetched alone.
const WINDOW_BYTES: u64 = 4 << 20;

impl<'a> Walk<'a> {
    pub(super) fn new(
        view: &'a LogView,
        segment: &'a Segment,
        below: u64,
        (from, expected_offset): (u64, u64),
    ) -> Result<Walk<'a>, ReadError> {
        let file = segment.file().map_err(|e| view.io(segment, e))?;
        let end = file.published();
        Ok(Walk {
            view,
            segment,
            below,
            bytes: Bytes::new(),
            window_start: from,
            end,
            batch_start: from,
            position: from,
            expected_offset,
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

    pub(super) fn next(&mut self) -> Result<Option<BatchHeader>, ReadError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let segment = self.segment;
        let corrupt = |reason: Invalid| ReadError::Corrupt {
            file: segment.display(),
            position,
            reason: Arc::new(reason),
        };
        let left = self.end - position;
        let head = self.window(position, left.min(64))?;
        let header = BatchHeader::read(head).map_err(|e| corrupt(e.into()))?;
        let bytes = u64::try_from(header.size()).unwrap_or(u64::MAX);
        if bytes > left {
            return Err(corrupt(Invalid::BeyondEnd { bytes, left }));
        }
        if u64::try_from(header.base_offset) != Ok(self.expected_offset) {
            let (expected, found) = (self.expected_offset, header.base_offset);
            return Err(corrupt(Invalid::Offset { expected, found }));
        }
        if next_of(&header) > self.below {
            let (end, next) = (next_of(&header), self.below);
            return Err(corrupt(Invalid::Overlap { end, next }));
        }
        Batch::parse(self.window(position, bytes)?).map_err(|e| corrupt(e.into()))?;
        self.batch_start = position;
        self.position = position + bytes;
        self.expected_offset = next_of(&header);
        Ok(Some(header))
    }

    /// The batch returned last.
    pub(super) fn batch(&self) -> Bytes {
        let at = |p: u64| usize::try_from(p - self.window_start).unwrap_or(usize::MAX);
        self.bytes.slice(at(self.batch_start)..at(self.position))
    }
}
