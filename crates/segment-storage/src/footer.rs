//! What a sealed segment must be: its side file, against which it is checked (R12).
//!
//! A batch's CRC does not cover its base offset, length, leader epoch and magic. The footer does:
//! it holds a hash over all headers in order, and so over every batch's CRC as well.

use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Serialize};

use crate::disk::DiskFile;
use crate::index::{Index, IndexCursor};
use crate::scan::{Check, ScanError, Scanner};

/// Magic of the file.
pub const MAGIC: [u8; 4] = *b"OLFT";
/// Version of the file.
pub const VERSION: u16 = 1;

/// What a sealed segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    /// The log it belongs to.
    pub log_id: u128,
    /// First offset of the segment.
    pub base_offset: u64,
    /// The offset after its last.
    pub next_offset: u64,
    /// End of the segment before it. Below `base_offset` where the log jumped to its offset
    /// ceiling; a mismatch with that segment means that one is missing.
    pub previous_end: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Batches.
    pub batches: u64,
    /// Records.
    pub records: u64,
    /// Generations (leader epochs), lowest and highest.
    pub generations: (i32, i32),
    /// Largest timestamp, ms since 1970; `i64::MIN` without records.
    pub max_timestamp: i64,
    /// CRC-64/NVME over all batch headers in order.
    pub header_hash: u64,
}

impl Footer {
    /// Reads a whole segment of `bytes` bytes and says what its footer and index are.
    ///
    /// # Errors
    /// Where the segment does not hold what a segment must.
    pub fn of(
        file: &dyn DiskFile,
        (log_id, base_offset, previous_end): (u128, u64, u64),
        bytes: u64,
        check: Check,
    ) -> Result<(Footer, Index), ScanError> {
        let mut footer = Footer {
            log_id,
            base_offset,
            next_offset: base_offset,
            previous_end,
            bytes,
            batches: 0,
            records: 0,
            generations: (0, 0),
            max_timestamp: i64::MIN,
            header_hash: 0,
        };
        let index = Index::with_room_for(bytes);
        let mut cursor = IndexCursor::default();
        let mut hash = Digest::new(CrcAlgorithm::Crc64Nvme);
        let mut scanner = Scanner::new(file, (0, base_offset), bytes, (0, i32::MAX), check);
        while let Some(header) = scanner.advance()? {
            if footer.batches == 0 {
                footer.generations.0 = header.leader_epoch;
            }
            footer.generations.1 = header.leader_epoch;
            footer.batches += 1;
            footer.records += u64::try_from(header.record_count).unwrap_or(0);
            let relative = footer.next_offset - base_offset;
            cursor.note(
                &index,
                relative,
                scanner.batch_position(),
                header.max_timestamp,
            );
            footer.next_offset = scanner.next_offset();
            hash.update(scanner.header_bytes());
        }
        footer.max_timestamp = cursor.max_timestamp();
        footer.header_hash = hash.finalize();
        Ok((footer, index))
    }
}
