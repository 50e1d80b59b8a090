//! Gzip (RFC 1952), one member.

use std::io::Write;

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::{Sink, check_level, malformed};
use crate::error::BatchError;
use crate::header::Compression;

pub(super) fn compress(
    level: Option<i32>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    check_level(Compression::Gzip, level, 0, 9)?;
    let level = level.and_then(|l| u32::try_from(l).ok());
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = GzEncoder::new(out, level);
    // Writing to memory cannot fail.
    let written = encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish().map(drop));
    written.map_err(|_| BatchError::Full { bytes: bytes.len() })
}

pub(super) fn decompress(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), BatchError> {
    let mut decoder = GzDecoder::new(bytes);
    sink.drain(&mut decoder, || malformed(Compression::Gzip))?;
    let rest = decoder.into_inner();
    if rest.starts_with(&[0x1f, 0x8b]) {
        return Err(BatchError::CodecLimit {
            codec: "gzip",
            what: "more than one member",
        });
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(malformed(Compression::Gzip))
    }
}
