//! Walks the batches of a file by positional reads, checking each as rule R10 asks.

use std::io;

use record_batch::{Batch, BatchError, BatchHeader, HEADER_BYTES};

use crate::disk::DiskFile;

/// Bytes read at a time: they are in the processor's cache still when they are looked at.
const CHUNK_BYTES: u64 = 256 << 10;

/// How much of each batch is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Header, structure and CRC-32C of the whole batch.
    Crc,
    /// Header and structure; the records are not read.
    Headers,
}

/// Why a scan ended before the end of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Zeros, as where nothing was ever written.
    #[error("nothing was written here")]
    Unwritten,
    /// The bytes are no batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch would end beyond the file.
    #[error("a batch of {bytes} bytes does not end inside of the file ({left} bytes are left)")]
    BeyondEnd {
        /// Bytes of the batch by its header.
        bytes: u64,
        /// Bytes left in the file.
        left: u64,
    },
    /// The batch is not the next one.
    #[error("base offset is {found}, expected {expected}")]
    Offset {
        /// Where the log goes on.
        expected: u64,
        /// What the header says.
        found: i64,
    },
    /// Batches that were there are not found.
    #[error("the batches from offset {offset} to offset {end} are missing")]
    Missing {
        /// The first offset that is missing.
        offset: u64,
        /// The offset after the last.
        end: u64,
    },
    /// The file holds batches that belong into the next one, or come from elsewhere.
    #[error("the batch ends at offset {end}, and the next file begins at {next}")]
    Overlap {
        /// The offset after the batch.
        end: u64,
        /// The base offset of the next file.
        next: u64,
    },
    /// The generation goes back, or comes from the future.
    #[error("generation (leader epoch) is {found}, expected {low} to {high}")]
    Generation {
        /// What the header says.
        found: i32,
        /// The generation of the batch before.
        low: i32,
        /// The newest generation of the directory.
        high: i32,
    },
}

/// A scan ended early, or could not read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Bytes at `position` are not the next batch; nothing behind them is looked at (R11).
    #[error("position {position}: {reason}")]
    Invalid {
        /// Bytes from the beginning of the file.
        position: u64,
        /// What is wrong there.
        reason: Invalid,
    },
    /// The file cannot be read.
    #[error("reading at position {position}: {source}")]
    Read {
        /// Bytes from the beginning of the file.
        position: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads one batch after the other, from the beginning of a segment or from a known boundary.
pub struct Scanner<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    check: Check,
    expected_offset: u64,
    generations: (i32, i32),
    position: u64,
    batch_start: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl<'a> Scanner<'a> {
    /// Scans `file` from `position`, where the batch with `expected_offset` begins, to `end`.
    /// Generations may be `generations.0` to `generations.1` and never go back.
    pub fn new(
        file: &'a dyn DiskFile,
        (position, expected_offset): (u64, u64),
        end: u64,
        generations: (i32, i32),
        check: Check,
    ) -> Scanner<'a> {
        Scanner {
            file,
            end,
            check,
            expected_offset,
            generations,
            position,
            batch_start: position,
            buffer: Vec::new(),
            buffer_start: position,
        }
    }

    /// Where the next batch begins, in bytes: after a failed scan, the tail.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where the batch returned last begins.
    pub fn batch_position(&self) -> u64 {
        self.batch_start
    }

    /// The offset that the next batch must have.
    pub fn next_offset(&self) -> u64 {
        self.expected_offset
    }

    /// Lowest generation that the next batch may have: that of the batch before.
    pub fn generation(&self) -> i32 {
        self.generations.0
    }

    /// The whole batch returned last.
    ///
    /// # Errors
    /// When the file cannot be read. Under [`Check::Crc`] the bytes are at hand already.
    pub fn batch_bytes(&mut self) -> Result<&[u8], ScanError> {
        let (start, end) = (self.batch_start, self.position);
        self.fill(start, end - start)?;
        Ok(self.buffered(start, end))
    }

    /// The 61 header bytes of the batch returned last.
    pub fn header_bytes(&self) -> &[u8] {
        let header_bytes = u64::try_from(HEADER_BYTES).unwrap_or(0);
        self.buffered(self.batch_start, self.batch_start + header_bytes)
    }

    fn buffered(&self, from: u64, to: u64) -> &[u8] {
        let at = |p: u64| usize::try_from(p - self.buffer_start).unwrap_or(usize::MAX);
        &self.buffer[at(from)..at(to)]
    }

    // Makes `bytes` from `from` on available in the buffer; the range ends inside of the file.
    fn fill(&mut self, from: u64, bytes: u64) -> Result<(), ScanError> {
        let have = self.buffer_start + u64::try_from(self.buffer.len()).unwrap_or(0);
        if from >= self.buffer_start && from + bytes <= have {
            return Ok(());
        }
        // With headers alone there is no point in reading far ahead of a large batch.
        let want = bytes.max(CHUNK_BYTES.min(self.end - from));
        self.buffer
            .resize(usize::try_from(want).unwrap_or(usize::MAX), 0);
        self.buffer_start = from;
        self.file.read_at(&mut self.buffer, from).map_err(|source| {
            self.buffer.clear();
            ScanError::Read {
                position: from,
                source,
            }
        })
    }

    /// The next batch's header, or `None` at the end.
    ///
    /// # Errors
    /// [`ScanError::Invalid`] at the first bytes that are not the next batch.
    pub fn advance(&mut self) -> Result<Option<BatchHeader>, ScanError> {
        let position = self.position;
        let left = self.end - position;
        if left == 0 {
            return Ok(None);
        }
        let invalid = |reason| ScanError::Invalid { position, reason };
        let header_bytes = u64::try_from(HEADER_BYTES).unwrap_or(0);
        if left < header_bytes {
            self.fill(position, left)?;
            let rest = self.buffered(position, position + left);
            return Err(invalid(if rest.iter().all(|&b| b == 0) {
                Invalid::Unwritten
            } else {
                BatchError::Short { bytes: rest.len() }.into()
            }));
        }
        self.fill(position, header_bytes)?;
        let head = self.buffered(position, position + header_bytes);
        if head.iter().all(|&b| b == 0) {
            return Err(invalid(Invalid::Unwritten));
        }
        let header = BatchHeader::read(head).map_err(|e| invalid(e.into()))?;
        let bytes = u64::try_from(header.size()).unwrap_or(u64::MAX);
        if bytes > left {
            return Err(invalid(Invalid::BeyondEnd { bytes, left }));
        }
        if u64::try_from(header.base_offset) != Ok(self.expected_offset) {
            let (expected, found) = (self.expected_offset, header.base_offset);
            return Err(invalid(Invalid::Offset { expected, found }));
        }
        let (low, high) = self.generations;
        if header.leader_epoch < low || header.leader_epoch > high {
            let found = header.leader_epoch;
            return Err(invalid(Invalid::Generation { found, low, high }));
        }
        if self.check == Check::Crc {
            self.fill(position, bytes)?;
            Batch::parse(self.buffered(position, position + bytes))
                .map_err(|e| invalid(e.into()))?;
        }
        let next = u64::try_from(header.next_offset()).unwrap_or(0);
        if next <= self.expected_offset || header.record_count < 0 {
            let (record_count, last_offset_delta) = (header.record_count, header.last_offset_delta);
            let count = BatchError::Count {
                record_count,
                last_offset_delta,
            };
            return Err(invalid(count.into()));
        }
        self.generations.0 = header.leader_epoch;
        self.expected_offset = next;
        self.batch_start = position;
        self.position = position + bytes;
        Ok(Some(header))
    }
}
