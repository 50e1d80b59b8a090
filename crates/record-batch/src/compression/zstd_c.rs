//! Zstandard by the C library: faster, and every level.

use std::io::{Read, Write};

use zstd::stream::read::Decoder;

use super::zstd_frame::{Frame, WINDOW_LOG_MAX};
use super::{Sink, check_level, malformed};
use crate::error::BatchError;
use crate::header::Compression;

/// Kafka's default.
const LEVEL: i32 = 3;

pub(super) fn compress(
    level: Option<i32>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let range = zstd::compression_level_range();
    check_level(Compression::Zstd, level, *range.start(), *range.end())?;
    let full = |_| BatchError::Full { bytes: bytes.len() };
    let mut encoder =
        zstd::stream::write::Encoder::new(out, level.unwrap_or(LEVEL)).map_err(full)?;
    // The highest levels would choose windows that readers refuse.
    encoder
        .window_log(u32::from(WINDOW_LOG_MAX))
        .map_err(full)?;
    encoder.write_all(bytes).map_err(full)?;
    encoder.finish().map_err(full)?;
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), BatchError> {
    let error = || malformed(Compression::Zstd);
    let frame = Frame::new(bytes, sink.limit())?;
    let mut decoder = Decoder::with_buffer(frame.reader())
        .map_err(|_| error())?
        .single_frame();
    decoder
        .window_log_max(frame.window_bytes.ilog2())
        .map_err(|_| error())?;
    sink.drain(&mut decoder, error)?;
    let mut rest = decoder.finish();
    if rest.read(&mut [0]).is_ok_and(|n| n == 0) {
        Ok(())
    } else {
        Err(error())
    }
}
