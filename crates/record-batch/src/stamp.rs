//! What the log writes into the header of a batch that it appends.

use bytes::Bytes;

use crate::batch::Batch;
use crate::builder::ProducerIdentity;
use crate::checksum::{crc32c, crc32c_append};
use crate::header::{Attributes, HEADER_BYTES, at};

/// Values that only the log knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Offset of the batch's first record.
    pub base_offset: i64,
    /// The log's leader epoch (generation).
    pub leader_epoch: i32,
    /// The time of the append in milliseconds since 1970, in logs that keep it in place of the
    /// producer's timestamps.
    pub log_append_time: Option<i64>,
}

/// The header of `batch` as it goes to disk; the records stay as they are.
///
/// Base offset and leader epoch lie outside of the checksummed range, so the producer's CRC stays.
/// A log-append time lies inside; the CRC is computed anew only when the time or its flag changes.
#[inline]
pub fn stamped_header(batch: &Batch<'_>, stamp: Stamp) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header.copy_from_slice(&batch.bytes()[..HEADER_BYTES]);
    header[at::BASE_OFFSET..at::BATCH_LENGTH].copy_from_slice(&stamp.base_offset.to_be_bytes());
    header[at::LEADER_EPOCH..at::MAGIC].copy_from_slice(&stamp.leader_epoch.to_be_bytes());
    let Some(append_time) = stamp.log_append_time else {
        return header;
    };
    let before = batch.header();
    if before.attributes.is_log_append_time() && before.max_timestamp == append_time {
        return header;
    }
    let attributes = before.attributes.0 | Attributes::LOG_APPEND_TIME;
    header[at::ATTRIBUTES..at::LAST_OFFSET_DELTA].copy_from_slice(&attributes.to_be_bytes());
    header[at::MAX_TIMESTAMP..at::PRODUCER_ID].copy_from_slice(&append_time.to_be_bytes());
    let crc = crc32c_append(crc32c(&header[at::ATTRIBUTES..]), batch.payload());
    header[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    header
}

/// A number that tells the content of a batch apart from other content that its producer might
/// send under the same sequence, and that is the same before and after stamping.
///
/// It is the batch's CRC, except in logs with `log_append_time`: their stamp changes the CRC, so
/// there it is the CRC-32C of everything from the producer id (byte 43) on.
#[inline]
pub fn fingerprint(batch: &Batch<'_>, log_append_time: bool) -> u32 {
    if log_append_time {
        crc32c(&batch.bytes()[at::PRODUCER_ID..])
    } else {
        batch.header().crc
    }
}

/// The batch with another producer identity, its CRC computed anew. For a batch that was never
/// appended: its producer's old identity was forgotten, and a new one begins at sequence 0.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn with_identity(batch: &[u8], identity: ProducerIdentity) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[at::PRODUCER_ID..at::PRODUCER_EPOCH].copy_from_slice(&identity.producer_id.to_be_bytes());
    bytes[at::PRODUCER_EPOCH..at::BASE_SEQUENCE]
        .copy_from_slice(&identity.producer_epoch.to_be_bytes());
    bytes[at::BASE_SEQUENCE..at::RECORD_COUNT]
        .copy_from_slice(&identity.base_sequence.to_be_bytes());
    let crc = crc32c(&bytes[at::ATTRIBUTES..]);
    bytes[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}
