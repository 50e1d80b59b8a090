//! Builds batches as Kafka's producers do.

use std::fmt;

use crate::batch::Batch;
use crate::checksum::seal;
use crate::error::BatchError;
use crate::header::{Attributes, BatchHeader, Compression, HEADER_BYTES, at};
use crate::source::{SOURCE_BYTES, SOURCE_HEADER, SourcePosition};
use crate::varint;

/// Who sends a batch, and the sequence of its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Producer id, at least 0.
    pub producer_id: i64,
    /// Producer epoch, at least 0.
    pub producer_epoch: i16,
    /// Sequence of the first record, at least 0. Those of the others follow, with 0 after 2^31 - 1.
    pub base_sequence: i32,
}

const NO_PRODUCER: ProducerIdentity = ProducerIdentity {
    producer_id: -1,
    producer_epoch: -1,
    base_sequence: -1,
};

/// Collects records and makes a batch of them. Made to be used again and again: once its buffers
/// have grown to the usual size of a batch it does not allocate (compression apart).
///
/// ```
/// use record_batch::{Batch, BatchBuilder, ProducerIdentity};
///
/// let mut builder = BatchBuilder::new();
/// builder.push(1_357_034_400_000, Some(b"EWR"), Some(b"UA 1545"), &[("tail", Some(b"N14228"))])?;
/// let identity = ProducerIdentity { producer_id: 7, producer_epoch: 0, base_sequence: 0 };
/// let batch = Batch::parse(builder.build(Some(identity))?)?;
/// assert_eq!(batch.header().record_count, 1);
/// batch.check_from_producer()?;
/// # Ok::<(), record_batch::BatchError>(())
/// ```
#[derive(Clone)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    raw: Vec<u8>,
    /// Room for the header, then the compressed block.
    compressed: Vec<u8>,
    compression: Compression,
    level: Option<i32>,
    /// All attribute bits but the codec's.
    attributes: i16,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    /// Where the first record ends in `raw`.
    first_end: usize,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("records", &self.record_count)
            .field("bytes", &self.raw.len())
            .field("compression", &self.compression)
            .field("attributes", &self.attributes)
            .finish()
    }
}

impl BatchBuilder {
    /// An empty builder of uncompressed batches outside of transactions.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            raw: vec![0; HEADER_BYTES],
            compressed: Vec::new(),
            compression: Compression::None,
            level: None,
            attributes: 0,
            record_count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            first_end: HEADER_BYTES,
        }
    }

    /// Compresses the records of each batch.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> BatchBuilder {
        self.compression = compression;
        self
    }

    /// The level to compress at; `None` is the codec's default. See `compress`.
    #[must_use]
    pub fn level(mut self, level: Option<i32>) -> BatchBuilder {
        self.level = level;
        self
    }

    /// Marks each batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> BatchBuilder {
        self.attributes &= !Attributes::TRANSACTIONAL;
        if transactional {
            self.attributes |= Attributes::TRANSACTIONAL;
        }
        self
    }

    /// Makes control batches, which only the log itself writes.
    pub(crate) fn control(mut self) -> BatchBuilder {
        self.attributes |= Attributes::CONTROL;
        self
    }

    /// Forgets the records, keeps the settings and the memory.
    pub fn clear(&mut self) {
        self.raw.truncate(HEADER_BYTES);
        self.attributes &= !Attributes::SOURCE;
        self.record_count = 0;
    }

    /// Appends a record. `timestamp_ms` is in milliseconds since 1970.
    ///
    /// # Errors
    /// [`BatchError::Full`] when the batch would exceed 2^31 - 1 bytes, or a single part of the
    /// record does. The builder is as it was before.
    #[inline]
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let first = self.record_count == 0;
        let base_timestamp = if first {
            timestamp_ms
        } else {
            self.base_timestamp
        };
        let timestamp_delta = timestamp_ms.wrapping_sub(base_timestamp);
        let key_length = length(key)?;
        let value_length = length(value)?;
        let header_count = count(headers.len())?;
        let mut body = 1 + varint::size(timestamp_delta) + varint::size(self.record_count.into());
        body += field_size(key_length) + field_size(value_length) + varint::size(header_count);
        for (name, value) in headers {
            let bytes = field_size(count(name.len())?) + field_size(length(*value)?);
            body = body.saturating_add(bytes);
        }
        let body_length = count(body)?;
        let total = self
            .raw
            .len()
            .saturating_add(varint::size(body_length) + body);
        count(total)?;

        self.raw.reserve(total - self.raw.len());
        // Length, attributes, timestamp, offset and key length: at most 5 + 1 + 10 + 5 + 5 bytes.
        let mut front = [0; 26];
        let attributes_at = varint::put(&mut front, 0, body_length);
        let end = varint::put(&mut front, attributes_at + 1, timestamp_delta);
        let end = varint::put(&mut front, end, self.record_count.into());
        let end = varint::put(&mut front, end, key_length);
        self.raw.extend_from_slice(&front[..end]);
        self.raw.extend_from_slice(key.unwrap_or_default());
        self.put(value_length);
        self.raw.extend_from_slice(value.unwrap_or_default());
        self.put(header_count);
        for (name, value) in headers {
            self.put(count(name.len())?);
            self.raw.extend_from_slice(name.as_bytes());
            self.put(length(*value)?);
            self.raw.extend_from_slice(value.unwrap_or_default());
        }
        debug_assert_eq!(self.raw.len(), total, "the size was computed wrongly");

        if first {
            self.first_end = total;
        }
        self.base_timestamp = base_timestamp;
        self.max_timestamp = if first {
            timestamp_ms
        } else {
            self.max_timestamp.max(timestamp_ms)
        };
        // A record has at least 7 bytes, so the batch is full before the count overflows.
        self.record_count += 1;
        Ok(())
    }

    /// Writes a source position over the last header of the first record, and marks the batch as
    /// one that carries it.
    ///
    /// # Panics
    /// When the first record was not pushed with [`SOURCE_HEADER`](crate::SOURCE_HEADER) as its
    /// last header, with a value of [`SOURCE_BYTES`](crate::SOURCE_BYTES).
    pub fn set_source(&mut self, position: SourcePosition) {
        let value_at = self.first_end - SOURCE_BYTES;
        // One byte of a varint tells the value's length.
        let name = &self.raw[..value_at - 1];
        assert!(
            name.ends_with(SOURCE_HEADER.as_bytes()),
            "the header for it was not pushed"
        );
        self.raw[value_at..self.first_end].copy_from_slice(&position.encode());
        self.attributes |= Attributes::SOURCE;
    }

    fn put(&mut self, value: i64) {
        let mut bytes = [0; 10];
        let end = varint::put(&mut bytes, 0, value);
        self.raw.extend_from_slice(&bytes[..end]);
    }

    /// Records pushed since the last [`BatchBuilder::clear`].
    pub fn len(&self) -> usize {
        usize::try_from(self.record_count).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch if it were built uncompressed, header included.
    pub fn size_upper_bound(&self) -> usize {
        self.raw.len()
    }

    /// Finishes the batch: base offset 0, leader epoch -1. The builder keeps its records, so that
    /// the batch can be built again, until [`BatchBuilder::clear`].
    ///
    /// The identity is written as given; [`Batch::check_from_producer`](crate::Batch::check_from_producer) judges it. Records
    /// that shrink to less than a 1,024th, or that are more than 64 MiB, are left uncompressed:
    /// readers refuse to decompress that much (`decompressed_limit`).
    ///
    /// # Errors
    /// [`BatchError::Count`] without records, [`BatchError::CodecMissing`] and
    /// [`BatchError::Level`] for the codec, [`BatchError::Full`].
    pub fn build(&mut self, identity: Option<ProducerIdentity>) -> Result<&[u8], BatchError> {
        Ok(self.build_batch(identity)?.bytes())
    }

    /// As [`BatchBuilder::build`], as a [`Batch`]: what [`Batch::parse`] would make of the bytes,
    /// without computing the CRC a second time.
    ///
    /// # Errors
    /// As [`BatchBuilder::build`].
    #[inline]
    pub fn build_batch(
        &mut self,
        identity: Option<ProducerIdentity>,
    ) -> Result<Batch<'_>, BatchError> {
        if self.record_count == 0 {
            return Err(BatchError::Count {
                record_count: 0,
                last_offset_delta: -1,
            });
        }
        let mut codec = self.compression;
        if codec != Compression::None {
            let records = &self.raw[HEADER_BYTES..];
            self.compressed.clear();
            self.compressed.resize(HEADER_BYTES, 0);
            crate::compress(codec, self.level, records, &mut self.compressed)?;
            let limit = crate::decompressed_limit(self.compressed.len() - HEADER_BYTES);
            if records.len() > limit {
                codec = Compression::None;
            }
        }
        let attributes = self.attributes | i16::from(codec.id());
        let identity = identity.unwrap_or(NO_PRODUCER);
        let batch = if codec == Compression::None {
            &mut self.raw
        } else {
            &mut self.compressed
        };
        let batch_length = i32::try_from(batch.len() - at::LEADER_EPOCH)
            .map_err(|_| BatchError::Full { bytes: batch.len() })?;
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes(attributes),
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: identity.producer_id,
            producer_epoch: identity.producer_epoch,
            base_sequence: identity.base_sequence,
            record_count: self.record_count,
        };
        let Some(front) = batch.first_chunk_mut::<HEADER_BYTES>() else {
            return Err(BatchError::Short { bytes: batch.len() });
        };
        header.write(front);
        header.crc = seal(batch);
        Ok(Batch::built(batch, header))
    }
}

/// The most bytes that a record of these sizes (in bytes) can take in a batch.
pub fn record_size_upper_bound(
    key_length: usize,
    value_length: usize,
    headers: &[(&str, Option<&[u8]>)],
) -> usize {
    // Length 5, attributes 1, timestamp 10, offset 5; then 5 for every length and for the count.
    let fixed = 21 + 15;
    headers.iter().fold(
        key_length
            .saturating_add(value_length)
            .saturating_add(fixed),
        |sum, h| {
            let value = h.1.map_or(0, <[u8]>::len);
            sum.saturating_add(10)
                .saturating_add(h.0.len())
                .saturating_add(value)
        },
    )
}

/// A length or count as the format's `i32`, held wider to be written.
fn count(n: usize) -> Result<i64, BatchError> {
    i32::try_from(n)
        .map(i64::from)
        .map_err(|_| BatchError::Full { bytes: n })
}

/// -1 for null.
fn length(bytes: Option<&[u8]>) -> Result<i64, BatchError> {
    bytes.map_or(Ok(-1), |b| count(b.len()))
}

/// Bytes of a nullable field: its length and its content.
fn field_size(length: i64) -> usize {
    // `count` made it, so it fits.
    varint::size(length) + usize::try_from(length).unwrap_or(0)
}
