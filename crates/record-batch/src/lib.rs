//! Kafka's record batches, format v2: check them, build them, read their records, and stamp them
//! when they are appended to a log. Nothing here does I/O.
//!
//! A batch is a header of 61 bytes and the records. It looks the same on the wire and on disk; all
//! integers are big-endian:
//!
//! ```text
//!  byte  0       4       8      12      16 17      21  23      27
//!        ┌───────────────┬───────┬───────┬──┬───────┬───┬───────┐
//!        │  base offset  │length │ epoch │ 2│  CRC  │ a │ delta │
//!        └───────────────┴───────┴───────┴──┴───────┴───┴───────┘
//!       27              35              43              51  53      57      61
//!        ┌───────────────┬───────────────┬───────────────┬───┬───────┬───────┬─────────
//!        │base timestamp │ max timestamp │  producer id  │ e │  seq  │ count │ records…
//!        └───────────────┴───────────────┴───────────────┴───┴───────┴───────┴─────────
//! ```
//!
//! | byte | field | what it is |
//! |---:|---|---|
//! | 0 | base offset | `i64`, offset of the first record, 0 until the log stamps it |
//! | 8 | length | `i32`, bytes behind this field |
//! | 12 | leader epoch | `i32`, the log's generation, -1 until the log stamps it |
//! | 16 | magic | the format, always 2 |
//! | 17 | CRC | CRC-32C of everything from byte 21 to the end |
//! | 21 | attributes | `i16`: bits 0-2 codec, 3 log-append time, 4 transactional, 5 control, 6 delete horizon |
//! | 23 | last offset delta | `i32`, last offset (and last sequence) less the first |
//! | 27 | base timestamp | `i64`, ms since 1970, what records' timestamps are relative to |
//! | 35 | max timestamp | `i64`, ms since 1970, the largest of them, or the time of the append |
//! | 43 | producer id | `i64`, -1 for none |
//! | 51 | producer epoch | `i16`, -1 for none |
//! | 53 | base sequence | `i32`, sequence of the first record, -1 for none |
//! | 57 | record count | `i32` |
//! | 61 | records | raw, or one compressed block |
//!
//! What the log stamps lies in front of the CRC's range, so a batch keeps its producer's CRC on its
//! whole way: over the wire, in memory, on disk, and to the reader.
//!
//! A record is a length followed by attributes (one byte, unused), timestamp delta, offset delta,
//! key, value and headers. Its integers are zig-zag varints, and a length of -1 is null.
//!
//! Where to begin: [`Batch::parse`] for bytes that came from somewhere, [`BatchBuilder`] to make
//! some, [`Records`] to look inside, [`stamped_header`] to append.
//!
//! Sources: Kafka's `DefaultRecordBatch`, `DefaultRecord`, `LogValidator` and
//! `EndTransactionMarker`; KIP-98 for the format, KIP-110 for zstd.

#![forbid(unsafe_code)]

mod batch;
mod builder;
mod checksum;
mod compression;
mod control;
mod error;
mod header;
mod records;
mod source;
mod stamp;
mod varint;

pub use batch::Batch;
pub use builder::{BatchBuilder, ProducerIdentity, record_size_upper_bound};
pub use checksum::{crc32c, crc32c_append};
pub use compression::{
    MAX_DECOMPRESSED_BYTES, MAX_DECOMPRESSED_RATIO, compress, decompress, decompressed_limit,
};
pub use control::{ControlKind, ControlRecord, control_batch, parse_control};
pub use error::BatchError;
pub use header::{Attributes, BatchHeader, Compression, HEADER_BYTES, at};
pub use records::{Header, HeaderKey, Record, Records};
pub use source::{SOURCE_BYTES, SOURCE_HEADER, SourcePosition};
pub use stamp::{Stamp, fingerprint, stamped_header, with_identity};
