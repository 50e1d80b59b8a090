//! The 61 bytes in front of every record batch.

use crate::error::BatchError;

/// Bytes of a batch header, and so the smallest batch.
pub const HEADER_BYTES: usize = 61;

/// Where each field begins. All integers are big-endian, on the wire and on disk.
pub mod at {
    /// `i64`, the offset of the first record; stamped by the log.
    pub const BASE_OFFSET: usize = 0;
    /// `i32`, bytes after this field.
    pub const BATCH_LENGTH: usize = 8;
    /// `i32`, the log's generation; stamped by the log.
    pub const LEADER_EPOCH: usize = 12;
    /// `i8`, 2.
    pub const MAGIC: usize = 16;
    /// `u32`, CRC-32C of everything from [`ATTRIBUTES`] on.
    pub const CRC: usize = 17;
    /// `i16`, see [`super::Attributes`].
    pub const ATTRIBUTES: usize = 21;
    /// `i32`, the last record's offset less the base offset.
    pub const LAST_OFFSET_DELTA: usize = 23;
    /// `i64`, milliseconds since 1970.
    pub const BASE_TIMESTAMP: usize = 27;
    /// `i64`, milliseconds since 1970.
    pub const MAX_TIMESTAMP: usize = 35;
    /// `i64`, -1 for none.
    pub const PRODUCER_ID: usize = 43;
    /// `i16`, -1 for none.
    pub const PRODUCER_EPOCH: usize = 51;
    /// `i32`, -1 for none.
    pub const BASE_SEQUENCE: usize = 53;
    /// `i32`.
    pub const RECORD_COUNT: usize = 57;
    /// The records, raw or as one compressed block.
    pub const RECORDS: usize = 61;
}

// The log stamps base offset and leader epoch after the producer computed the checksum, so both
// must lie outside of the checksummed range.
const _: () = assert!(at::BASE_OFFSET + 8 <= at::ATTRIBUTES);
const _: () = assert!(at::LEADER_EPOCH + 4 <= at::ATTRIBUTES);
const _: () = assert!(at::RECORD_COUNT + size_of::<i32>() == at::RECORDS);
const _: () = assert!(at::RECORDS == HEADER_BYTES);

/// The codec of a batch's records (attribute bits 0 to 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Records lie raw.
    #[default]
    None,
    /// RFC 1952, one member.
    Gzip,
    /// Snappy blocks in the xerial framing of Kafka's Java client; plain blocks are read too.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The codec's number in the attributes, 0 to 4.
    pub fn id(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The codec with that number; `None` for 5 to 7, which Kafka does not use.
    pub fn from_id(id: u8) -> Option<Compression> {
        Some(match id {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    /// The name people use: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    /// Bit 3: timestamps are those of the append.
    pub const LOG_APPEND_TIME: i16 = 1 << 3;
    /// Bit 4: part of a transaction.
    pub const TRANSACTIONAL: i16 = 1 << 4;
    /// Bit 5: holds a control record, not data.
    pub const CONTROL: i16 = 1 << 5;
    /// Bit 6: base timestamp is a delete horizon (compacted logs).
    pub const DELETE_HORIZON: i16 = 1 << 6;

    /// Bit 14, which Kafka does not use: the first record carries a source position.
    pub const SOURCE: i16 = 1 << 14;

    /// Whether the batch carries the source position of a named producer.
    pub fn has_source(self) -> bool {
        self.0 & Self::SOURCE != 0
    }

    /// The number of the codec, 0 to 7.
    pub fn compression_id(self) -> u8 {
        // Three bits, so it fits.
        (self.0 & Self::COMPRESSION).to_be_bytes()[1]
    }

    /// The codec, unless the number is one that Kafka does not use.
    pub fn compression(self) -> Option<Compression> {
        Compression::from_id(self.compression_id())
    }

    /// Whether the log replaced the producer's timestamps by its own.
    pub fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }
}

/// The fields of a batch header, read out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes after the length field; the whole batch has 12 more.
    pub batch_length: i32,
    /// Leader epoch (the log's generation); -1 from clients.
    pub leader_epoch: i32,
    /// CRC-32C as stored.
    pub crc: u32,
    /// Attribute bits.
    pub attributes: Attributes,
    /// Last offset (and last sequence) less the first.
    pub last_offset_delta: i32,
    /// Base of the records' timestamp deltas, ms since 1970.
    pub base_timestamp: i64,
    /// Largest record timestamp, or the append time, ms since 1970.
    pub max_timestamp: i64,
    /// Producer id, -1 for none.
    pub producer_id: i64,
    /// Producer epoch, -1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 for none.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the fields of a header and checks what can be checked without the records: magic,
    /// length, and that the codec exists. Neither the CRC nor the counts are judged here
    /// ([`Batch::parse`](crate::Batch::parse) does).
    ///
    /// # Errors
    /// [`BatchError::Short`], [`BatchError::Magic`], [`BatchError::Length`],
    /// [`BatchError::UnknownCompression`].
    pub fn read(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header = BatchHeader::read_any_codec(bytes)?;
        header.check_codec()?;
        Ok(header)
    }

    /// As [`BatchHeader::read`], but the codec is not judged: the attributes lie in the range of
    /// the CRC, and a damaged bit there is damage, not an unknown codec.
    pub(crate) fn read_any_codec(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Short { bytes: bytes.len() });
        }
        let magic = bytes[at::MAGIC];
        if magic != 2 {
            return Err(BatchError::Magic { found: magic });
        }
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(array(bytes, at::BASE_OFFSET)),
            batch_length: i32::from_be_bytes(array(bytes, at::BATCH_LENGTH)),
            leader_epoch: i32::from_be_bytes(array(bytes, at::LEADER_EPOCH)),
            crc: u32::from_be_bytes(array(bytes, at::CRC)),
            attributes: Attributes(i16::from_be_bytes(array(bytes, at::ATTRIBUTES))),
            last_offset_delta: i32::from_be_bytes(array(bytes, at::LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(array(bytes, at::BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(array(bytes, at::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(array(bytes, at::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(array(bytes, at::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(array(bytes, at::BASE_SEQUENCE)),
            record_count: i32::from_be_bytes(array(bytes, at::RECORD_COUNT)),
        };
        if usize::try_from(header.batch_length).is_ok_and(|l| l + 12 >= HEADER_BYTES) {
            Ok(header)
        } else {
            Err(BatchError::Length {
                batch_length: header.batch_length,
            })
        }
    }

    /// Writes the fields as they lie in a batch; the reverse of [`BatchHeader::read`].
    pub(crate) fn write(&self, into: &mut [u8; HEADER_BYTES]) {
        let mut put = |at: usize, bytes: &[u8]| into[at..at + bytes.len()].copy_from_slice(bytes);
        put(at::BASE_OFFSET, &self.base_offset.to_be_bytes());
        put(at::BATCH_LENGTH, &self.batch_length.to_be_bytes());
        put(at::LEADER_EPOCH, &self.leader_epoch.to_be_bytes());
        put(at::MAGIC, &[2]);
        put(at::CRC, &self.crc.to_be_bytes());
        put(at::ATTRIBUTES, &self.attributes.0.to_be_bytes());
        put(at::LAST_OFFSET_DELTA, &self.last_offset_delta.to_be_bytes());
        put(at::BASE_TIMESTAMP, &self.base_timestamp.to_be_bytes());
        put(at::MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(at::PRODUCER_ID, &self.producer_id.to_be_bytes());
        put(at::PRODUCER_EPOCH, &self.producer_epoch.to_be_bytes());
        put(at::BASE_SEQUENCE, &self.base_sequence.to_be_bytes());
        put(at::RECORD_COUNT, &self.record_count.to_be_bytes());
    }

    pub(crate) fn check_codec(&self) -> Result<Compression, BatchError> {
        let id = self.attributes.compression_id();
        Compression::from_id(id).ok_or(BatchError::UnknownCompression { id })
    }

    /// Bytes of the whole batch, header and length field included. At least 61.
    pub fn size(&self) -> usize {
        // `read` accepts no negative length.
        usize::try_from(self.batch_length).unwrap_or(0) + 12
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the last record's.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Whether a producer id is present (greater than -1).
    pub fn has_producer(&self) -> bool {
        self.producer_id > -1
    }

    /// Sequence of the last record, wrapped at 2^31 - 1; -1 when there is no base sequence.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta.max(0));
        // Modulo 2^31 it fits.
        i32::try_from(sum & i64::from(i32::MAX)).unwrap_or(-1)
    }
}
