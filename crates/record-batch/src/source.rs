//! How far a named producer's source was read: carried in a batch, so that it is there exactly when
//! the batch's records are.
//!
//! ```text
//! first record of the batch, last header, key `oncelog.source`:
//!     version 1 (u8) | last position (u64) | floor (u64)
//! batch attributes, bit 14: set, so that a replay finds such batches without decoding others
//! ```
//!
//! A Kafka reader sees one more header on the batch's first record.

use crate::batch::Batch;
use crate::error::BatchError;

/// The header's key.
pub const SOURCE_HEADER: &str = "oncelog.source";

/// Bytes of the header's value.
pub const SOURCE_BYTES: usize = 17;

const VERSION: u8 = 1;

/// Positions in the source of a named producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePosition {
    /// Position of the batch's last record.
    pub last: u64,
    /// Below it, everything was durable in all partitions when the batch was built.
    pub floor: u64,
}

impl SourcePosition {
    /// As the header holds it.
    pub fn encode(self) -> [u8; SOURCE_BYTES] {
        let mut bytes = [VERSION; SOURCE_BYTES];
        bytes[1..9].copy_from_slice(&self.last.to_be_bytes());
        bytes[9..].copy_from_slice(&self.floor.to_be_bytes());
        bytes
    }

    /// Reads the header's value; `None` when it is not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<SourcePosition> {
        let (version, positions) = bytes.split_first()?;
        let (last, floor) = positions.split_at_checked(8)?;
        let last = u64::from_be_bytes(last.try_into().ok()?);
        let floor = u64::from_be_bytes(floor.try_into().ok()?);
        (*version == VERSION).then_some(SourcePosition { last, floor })
    }

    /// What a batch carries; `None` when its attributes say that it carries none.
    ///
    /// # Errors
    /// [`BatchError::Record`] when the bit is set and the header is not there.
    pub fn of(batch: &Batch<'_>) -> Result<Option<SourcePosition>, BatchError> {
        if !batch.header().attributes.has_source() {
            return Ok(None);
        }
        let missing = BatchError::Record {
            index: 0,
            what: "attribute bit 14 is set, but there is no source position",
        };
        let Some(first) = batch.records()?.next() else {
            return Err(missing);
        };
        let headers = first?.headers;
        let last = headers.last().filter(|h| h.key.as_str() == SOURCE_HEADER);
        let value = last.and_then(|h| h.value.as_ref());
        match value.and_then(|value| SourcePosition::decode(value)) {
            Some(position) => Ok(Some(position)),
            None => Err(missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchBuilder, Compression};

    #[test]
    fn a_position_set_at_the_end_is_in_the_first_record_of_the_batch() {
        for compression in [Compression::None, Compression::Lz4] {
            let mut builder = BatchBuilder::new().compression(compression);
            let placeholder = [0; SOURCE_BYTES];
            let headers = [
                ("biz-id", Some(&b"7"[..])),
                (SOURCE_HEADER, Some(&placeholder[..])),
            ];
            builder.push(1, Some(b"k"), Some(b"v"), &headers).unwrap();
            builder.push(2, None, Some(b"second"), &[]).unwrap();
            let position = SourcePosition {
                last: 42,
                floor: u64::MAX - 1,
            };
            builder.set_source(position);
            let bytes = builder.build(None).unwrap().to_vec();
            let batch = Batch::parse(&bytes).unwrap();
            assert_eq!(SourcePosition::of(&batch), Ok(Some(position)));
            let records: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
            assert_eq!(records[0].headers[0].value.as_deref(), Some(&b"7"[..]));
            assert_eq!(records[1].headers, []);
            builder.clear();
            builder.push(1, None, None, &[]).unwrap();
            let bytes = builder.build(None).unwrap().to_vec();
            assert_eq!(SourcePosition::of(&Batch::parse(&bytes).unwrap()), Ok(None));
        }
    }

    #[test]
    fn another_version_is_no_position() {
        let mut bytes = SourcePosition { last: 1, floor: 2 }.encode();
        bytes[0] = 2;
        assert_eq!(SourcePosition::decode(&bytes), None);
        assert_eq!(SourcePosition::decode(&bytes[..16]), None);
    }
}
