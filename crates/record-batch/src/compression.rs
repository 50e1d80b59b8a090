//! The four codecs, and how much may come out of them.

mod gzip;
mod lz4;
mod sink;
mod snappy;
#[cfg(feature = "zstd")]
mod zstd_c;
mod zstd_frame;
#[cfg(any(not(feature = "zstd"), test))]
mod zstd_pure;

#[cfg(test)]
mod tests;

#[cfg(feature = "zstd")]
use zstd_c as zstd_codec;
#[cfg(not(feature = "zstd"))]
use zstd_pure as zstd_codec;

use crate::error::BatchError;
use crate::header::Compression;
use sink::Sink;

/// The most bytes that the records of a compressed batch may have, 64 MiB.
pub const MAX_DECOMPRESSED_BYTES: usize = 64 << 20;

/// How many times as large as the compressed block the records may be.
pub const MAX_DECOMPRESSED_RATIO: usize = 1024;

/// The most bytes that may come out of a block of `compressed` bytes (invariant I37).
pub fn decompressed_limit(compressed: usize) -> usize {
    compressed
        .saturating_mul(MAX_DECOMPRESSED_RATIO)
        .min(MAX_DECOMPRESSED_BYTES)
}

/// Appends `bytes`, compressed as one block of a batch, to `out`.
///
/// `level` `None` is the codec's default. Gzip has levels 0 to 9; snappy and LZ4 have none to
/// choose (only 1 is taken); zstd has 1, or -131072 to 22 with feature `zstd`.
///
/// # Errors
/// [`BatchError::Level`] for a level that does not exist, [`BatchError::CodecMissing`] for one that
/// this build lacks, [`BatchError::Full`] when a snappy chunk cannot be written. `out` may then end
/// in a part of the block.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    match codec {
        Compression::None => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        Compression::Gzip => gzip::compress(level, bytes, out),
        Compression::Snappy => {
            check_level(codec, level, 1, 1)?;
            snappy::compress(bytes, out)
        }
        Compression::Lz4 => {
            check_level(codec, level, 1, 1)?;
            lz4::compress(bytes, out)
        }
        Compression::Zstd => zstd_codec::compress(level, bytes, out),
    }
}

/// Appends what the block `bytes` decompresses to, at most `limit` bytes, to `out`.
///
/// Nothing that the block declares about its size is believed: memory grows with what really comes
/// out, to at most `limit`, plus working memory of the codec (below 64 KiB; zstd has its window
/// besides, at most twice the limit or 256 KiB and never above 8 MiB).
///
/// # Errors
/// [`BatchError::TooLarge`] as soon as the limit is passed, [`BatchError::Decompress`] for a
/// malformed block (also one with bytes behind its end), [`BatchError::CodecLimit`] for a second
/// gzip member, a snappy chunk above 1 MiB or a zstd window above 8 MiB. `out` may then end in a
/// part of the content.
pub fn decompress(
    codec: Compression,
    bytes: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let mut sink = Sink::new(out, limit);
    match codec {
        Compression::None => sink.push(bytes),
        Compression::Gzip => gzip::decompress(bytes, &mut sink),
        Compression::Snappy => snappy::decompress(bytes, &mut sink),
        Compression::Lz4 => lz4::decompress(bytes, &mut sink),
        Compression::Zstd => zstd_codec::decompress(bytes, &mut sink),
    }
}

fn malformed(codec: Compression) -> BatchError {
    BatchError::Decompress {
        codec: codec.name(),
    }
}

/// The level, if any, when it is within the range.
fn check_level(
    codec: Compression,
    level: Option<i32>,
    lowest: i32,
    highest: i32,
) -> Result<(), BatchError> {
    match level {
        Some(level) if !(lowest..=highest).contains(&level) => Err(BatchError::Level {
            codec: codec.name(),
            level,
            lowest,
            highest,
        }),
        _ => Ok(()),
    }
}
