//! What a sealed segment must be: its side file, against which it is checked (R12).
//!
//! A batch's CRC does not cover its base offset, length, leader epoch and magic. The footer does:
//! it holds a hash over all headers in order, and so over every batch's CRC as well.

use crc_fast::{CrcAlgorithm, Digest};
use record_batch::BatchHeader;
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
    /// The engine's elapsed time at the last append, in ms. Where a crash took that, the time of the
    /// open that found the segment: age then counts from there, and never anew (I31). Says nothing
    /// about the content.
    pub last_append_ms: u64,
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
        let mut builder = FooterBuilder::new((log_id, base_offset, previous_end));
        let index = Index::with_room_for(bytes);
        let mut cursor = IndexCursor::default();
        let mut scanner = Scanner::new(file, (0, base_offset), bytes, (0, i32::MAX), check);
        while let Some(header) = scanner.advance()? {
            let relative = builder.footer.next_offset - base_offset;
            cursor.note(
                &index,
                relative,
                scanner.batch_position(),
                header.max_timestamp,
            );
            builder.add(&header, scanner.header_bytes(), scanner.next_offset());
        }
        let footer = builder.finish(bytes);
        Ok((footer, index))
    }
}

/// Makes a footer batch by batch, for whoever walks a segment anyway.
pub struct FooterBuilder {
    footer: Footer,
    hash: Digest,
    /// Headers that are not in `hash` yet: hashing many at once costs a third.
    unhashed: Vec<u8>,
}

/// Bytes of headers that are hashed at once.
const HASHED_BYTES: usize = 4096;

impl FooterBuilder {
    /// The footer of a segment without batches: its log, its base offset, and where the segment
    /// before it ended.
    pub fn new((log_id, base_offset, previous_end): (u128, u64, u64)) -> FooterBuilder {
        FooterBuilder {
            footer: Footer {
                log_id,
                base_offset,
                next_offset: base_offset,
                previous_end,
                bytes: 0,
                batches: 0,
                records: 0,
                generations: (0, 0),
                max_timestamp: i64::MIN,
                header_hash: 0,
                last_append_ms: 0,
            },
            hash: Digest::new(CrcAlgorithm::Crc64Nvme),
            unhashed: Vec::with_capacity(HASHED_BYTES),
        }
    }

    /// Takes in the next batch: its header, the bytes of that, and the offset after the batch.
    pub fn add(&mut self, header: &BatchHeader, header_bytes: &[u8], next_offset: u64) {
        let footer = &mut self.footer;
        if footer.batches == 0 {
            footer.generations.0 = header.leader_epoch;
        }
        footer.generations.1 = header.leader_epoch;
        footer.batches += 1;
        footer.records += u64::try_from(header.record_count).unwrap_or(0);
        footer.max_timestamp = footer.max_timestamp.max(header.max_timestamp);
        footer.next_offset = next_offset;
        if self.unhashed.len() + header_bytes.len() > HASHED_BYTES {
            self.hash_rest();
        }
        self.unhashed.extend_from_slice(header_bytes);
    }

    fn hash_rest(&mut self) {
        self.hash.update(&self.unhashed);
        self.unhashed.clear();
    }

    /// The footer of a segment of `bytes` bytes.
    pub fn finish(mut self, bytes: u64) -> Footer {
        self.hash_rest();
        Footer {
            bytes,
            header_hash: self.hash.finalize(),
            ..self.footer
        }
    }
}
