//! A whole batch, checked.

use bytes::Bytes;

use crate::checksum::crc32c;
use crate::error::BatchError;
use crate::header::{BatchHeader, Compression, HEADER_BYTES, at};
use crate::records::Records;

/// One record batch whose header fits its bytes and whose CRC is right.
///
/// The records inside are not looked at before [`Batch::records`]: to the log they are opaque.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    bytes: &'a [u8],
    header: BatchHeader,
}

impl<'a> Batch<'a> {
    /// Takes `bytes` as exactly one batch, of any kind that may lie in a log: control batches,
    /// batches that begin at any offset, and those that compaction thinned out or emptied.
    /// What a producer may send is narrower, see [`Batch::check_from_producer`].
    ///
    /// The CRC is judged before everything that it covers, so damage is never reported as
    /// something else.
    ///
    /// # Errors
    /// [`BatchError::Short`], [`BatchError::Magic`], [`BatchError::Length`] (also when bytes
    /// follow the batch), [`BatchError::Crc`], [`BatchError::UnknownCompression`],
    /// [`BatchError::Count`].
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let (batch, rest) = Batch::parse_first(bytes)?;
        if rest.is_empty() {
            Ok(batch)
        } else {
            Err(BatchError::Length {
                batch_length: batch.header.batch_length,
            })
        }
    }

    /// Takes the first batch off a run of batches, as they lie in a segment, and gives the bytes
    /// behind it.
    ///
    /// # Errors
    /// As [`Batch::parse`]; a batch that goes on behind the end of `bytes` is
    /// [`BatchError::Length`].
    pub fn parse_first(bytes: &'a [u8]) -> Result<(Batch<'a>, &'a [u8]), BatchError> {
        let header = BatchHeader::read_any_codec(bytes)?;
        let Some((bytes, rest)) = bytes.split_at_checked(header.size()) else {
            return Err(BatchError::Length {
                batch_length: header.batch_length,
            });
        };
        let computed = crc32c(&bytes[at::ATTRIBUTES..]);
        if computed != header.crc {
            return Err(BatchError::Crc {
                stored: header.crc,
                computed,
            });
        }
        header.check_codec()?;
        // Compaction removes records and keeps the last delta, so there may be fewer.
        let most = i64::from(header.last_offset_delta) + 1;
        if header.last_offset_delta < 0
            || header.record_count < 0
            || i64::from(header.record_count) > most
        {
            return Err(count_error(&header));
        }
        Ok((Batch { bytes, header }, rest))
    }

    /// The batch that a builder has just made: `header` is that of `bytes`, and its CRC is theirs.
    pub(crate) fn built(bytes: &'a [u8], header: BatchHeader) -> Batch<'a> {
        debug_assert_eq!(
            Batch::parse(bytes).map(|batch| batch.header),
            Ok(header),
            "a builder makes what `parse` accepts"
        );
        Batch { bytes, header }
    }

    /// Checks what must hold of a batch that a producer wants to have appended, in Kafka's order
    /// (`LogValidator`): base offset 0, as many records as the last offset delta says and at
    /// least one, no control batch, and an epoch and a sequence where there is a producer id.
    /// Kafka lets a negative epoch pass; here it is refused.
    ///
    /// # Errors
    /// [`BatchError::BaseOffset`], [`BatchError::Count`], [`BatchError::Control`],
    /// [`BatchError::Identity`].
    #[inline]
    pub fn check_from_producer(&self) -> Result<(), BatchError> {
        let header = &self.header;
        if header.base_offset != 0 {
            return Err(BatchError::BaseOffset {
                base_offset: header.base_offset,
            });
        }
        // With a delta that `parse_first` found not to be negative, so the count is above 0.
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return Err(count_error(header));
        }
        if header.attributes.is_control() {
            return Err(BatchError::Control);
        }
        if header.has_producer() && (header.producer_epoch < 0 || header.base_sequence < 0) {
            return Err(BatchError::Identity {
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
            });
        }
        Ok(())
    }

    /// The fields of the header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes of the whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The codec of the records.
    pub fn compression(&self) -> Compression {
        // `parse_first` let no other number through.
        self.header.attributes.compression().unwrap_or_default()
    }

    /// The bytes behind the header: the records, raw or as one compressed block.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The records, copied or decompressed into memory of their own. At most
    /// `decompressed_limit` bytes come out of a compressed block; see [`Records::of`]
    /// for records that share the batch's memory.
    ///
    /// # Errors
    /// [`BatchError::Decompress`], [`BatchError::TooLarge`], [`BatchError::CodecLimit`]. Malformed
    /// records are reported by the iterator.
    pub fn records(&self) -> Result<Records, BatchError> {
        self.records_with_limit(crate::decompressed_limit(self.payload().len()))
    }

    /// As [`Batch::records`], with at most `limit` bytes of decompressed records. The limit does
    /// not concern uncompressed batches, which are in memory already.
    ///
    /// # Errors
    /// As [`Batch::records`].
    pub fn records_with_limit(&self, limit: usize) -> Result<Records, BatchError> {
        let payload = match self.compression() {
            Compression::None => Bytes::copy_from_slice(self.payload()),
            codec => decompressed(codec, self.payload(), limit)?,
        };
        Ok(Records::new(self.header, payload))
    }
}

impl Records {
    /// The records of `batch`, which must be exactly one. Keys, values and headers are slices of
    /// `batch` itself when it is uncompressed, else of one buffer that holds them all.
    ///
    /// # Errors
    /// As [`Batch::parse`] and [`Batch::records`].
    pub fn of(batch: &Bytes) -> Result<Records, BatchError> {
        let parsed = Batch::parse(batch)?;
        let payload = match parsed.compression() {
            Compression::None => batch.slice(HEADER_BYTES..),
            codec => {
                let limit = crate::decompressed_limit(parsed.payload().len());
                decompressed(codec, parsed.payload(), limit)?
            }
        };
        Ok(Records::new(parsed.header, payload))
    }
}

fn decompressed(codec: Compression, payload: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    // Compaction keeps the header of an emptied batch, codec included, and no block behind it.
    if payload.is_empty() {
        return Ok(Bytes::new());
    }
    let mut records = Vec::new();
    crate::decompress(codec, payload, limit, &mut records)?;
    Ok(records.into())
}

fn count_error(header: &BatchHeader) -> BatchError {
    BatchError::Count {
        record_count: header.record_count,
        last_offset_delta: header.last_offset_delta,
    }
}
