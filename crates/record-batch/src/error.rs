//! What can be wrong with the bytes of a batch.

/// Why bytes are not a record batch, or its records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than a header has.
    #[error("a record batch has at least 61 bytes, these are {bytes}; send the whole batch")]
    Short {
        /// Bytes given.
        bytes: usize,
    },
    /// Not format v2.
    #[error("magic byte is {found}, only 2 (record batches v2) is supported")]
    Magic {
        /// The byte found.
        found: u8,
    },
    /// The length field is below the header's, negative, or not that of the bytes given.
    #[error("batch length field says {batch_length}, which does not fit the bytes given")]
    Length {
        /// The field's value.
        batch_length: i32,
    },
    /// The checksum is wrong.
    #[error(
        "batch CRC-32C is {computed:08x}, the header says {stored:08x}; the bytes were changed since the batch was made"
    )]
    Crc {
        /// The header's value.
        stored: u32,
        /// The value over the bytes.
        computed: u32,
    },
    /// The codec's number is not one of 0 to 4.
    #[error("compression codec {id} does not exist (0 to 4 do)")]
    UnknownCompression {
        /// The number.
        id: u8,
    },
    /// Record count and offset delta disagree, or are below one record.
    #[error(
        "batch says {record_count} records and a last offset delta of {last_offset_delta}; a producer's batch has count = delta + 1 > 0"
    )]
    Count {
        /// Records the header names.
        record_count: i32,
        /// Delta of the last offset.
        last_offset_delta: i32,
    },
    /// A batch from a producer must begin at offset 0; the log gives the real one.
    #[error(
        "base offset of a batch to append is {base_offset}, it must be 0: the log assigns offsets"
    )]
    BaseOffset {
        /// The offset found.
        base_offset: i64,
    },
    /// A control batch where only data is allowed.
    #[error("control batches are written by the log alone, a producer may not send them")]
    Control,
    /// A producer id without a usable sequence or epoch.
    #[error(
        "producer id {producer_id} with epoch {producer_epoch} and base sequence {base_sequence}: none may be negative"
    )]
    Identity {
        /// The id.
        producer_id: i64,
        /// The epoch.
        producer_epoch: i16,
        /// The sequence.
        base_sequence: i32,
    },
    /// A record inside of the batch is malformed.
    #[error("record {index} of the batch is malformed: {what}")]
    Record {
        /// Position in the batch, from 0.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The compressed block is malformed.
    #[error("the {codec} block of the batch is malformed; the producer wrote it wrongly")]
    Decompress {
        /// The codec's name.
        codec: &'static str,
    },
    /// The records grow beyond the limit when decompressed.
    #[error("the batch decompresses to more than {limit} bytes; split it or raise the limit")]
    TooLarge {
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// The compressed block asks for more of the codec than a batch may.
    #[error(
        "the {codec} block of the batch has {what}, which is not accepted; change the producer's compression settings"
    )]
    CodecLimit {
        /// The codec's name.
        codec: &'static str,
        /// What there is too much of.
        what: &'static str,
    },
    /// The codec has no such level.
    #[error(
        "{codec} has no level {level}, only {lowest} to {highest}; leave the level out for the default"
    )]
    Level {
        /// The codec's name.
        codec: &'static str,
        /// The level asked for.
        level: i32,
        /// The lowest there is.
        lowest: i32,
        /// The highest there is.
        highest: i32,
    },
    /// A record, or the batch with it, outgrows the format's 32-bit lengths.
    #[error(
        "{bytes} bytes do not fit a batch, which has at most 2147483647; send what is built and begin another batch, or split the record"
    )]
    Full {
        /// Bytes of the batch, or of the part of the record, that would be needed.
        bytes: usize,
    },
    /// A control record's key or value is malformed.
    #[error("control record is malformed: {what}")]
    ControlRecord {
        /// What is wrong.
        what: &'static str,
    },
    /// The codec can read this but not write it as asked, in this build.
    #[error("this build cannot compress with {codec} at level {level}; enable feature `{feature}`")]
    CodecMissing {
        /// The codec's name.
        codec: &'static str,
        /// The level asked for.
        level: i32,
        /// The feature that brings it.
        feature: &'static str,
    },
}
