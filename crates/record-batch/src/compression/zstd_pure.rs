//! Zstandard in Rust (`ruzstd`): reads everything, writes at the lowest level.

use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::CompressionLevel;

use super::zstd_frame::Frame;
use super::{Sink, malformed};
use crate::error::BatchError;
use crate::header::Compression;

pub(super) fn compress(
    level: Option<i32>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    if let Some(level) = level.filter(|level| *level != 1) {
        return Err(BatchError::CodecMissing {
            codec: "zstd",
            level,
            feature: "zstd",
        });
    }
    ruzstd::encoding::compress(bytes, out, CompressionLevel::Fastest);
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), BatchError> {
    let error = || malformed(Compression::Zstd);
    let frame = Frame::new(bytes, sink.limit())?;
    let mut decoder =
        StreamingDecoder::new_with_max_window_size(frame.reader(), frame.window_bytes)
            .map_err(|_| error())?;
    sink.drain(&mut decoder, error)?;
    let (reader, decoder) = decoder.into_parts();
    let (_, rest) = reader.into_inner();
    // 0 is also what is reported when the frame does not declare it.
    let declared = decoder.content_size();
    let is_whole = declared == 0 || u64::try_from(sink.content().len()) == Ok(declared);
    let checksum = decoder.get_checksum_from_data();
    let is_intact = checksum.is_none() || checksum == decoder.get_calculated_checksum();
    if is_whole && is_intact && rest.is_empty() {
        Ok(())
    } else {
        Err(error())
    }
}
