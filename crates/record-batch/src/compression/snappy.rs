//! Snappy, in the framing of the xerial library that Kafka's Java client writes: a header of 16
//! bytes, then chunks of a big-endian length and a raw block each. Other clients send one raw
//! block without framing, which is read too.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{Sink, malformed};
use crate::error::BatchError;
use crate::header::Compression;

/// Eight bytes of magic, the version and the lowest compatible version, both 1.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const MAGIC: &[u8] = HEADER.split_at(8).0;

/// Bytes of content in each chunk that we write, as in the Java client.
const CHUNK_BYTES: usize = 32 << 10;

/// The most bytes of content that a chunk may have.
const CHUNK_BYTES_MAX: usize = 1 << 20;

pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let full = || BatchError::Full { bytes: bytes.len() };
    out.extend_from_slice(&HEADER);
    let mut encoder = Encoder::new();
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + max_compress_len(chunk.len()), 0);
        let written = encoder
            .compress(chunk, &mut out[block_at..])
            .map_err(|_| full())?;
        let length = i32::try_from(written).map_err(|_| full())?;
        out[length_at..block_at].copy_from_slice(&length.to_be_bytes());
        out.truncate(block_at + written);
    }
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), BatchError> {
    let mut decoder = Decoder::new();
    if !bytes.starts_with(MAGIC) {
        return block(&mut decoder, bytes, usize::MAX, sink);
    }
    // Java looks at the magic alone; versions other than 1 never came to be.
    let mut rest = bytes
        .get(HEADER.len()..)
        .ok_or_else(|| malformed(Compression::Snappy))?;
    while !rest.is_empty() {
        let chunk = rest.split_first_chunk().and_then(|(length, rest)| {
            let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let (chunk, behind) = chunk.ok_or_else(|| malformed(Compression::Snappy))?;
        block(&mut decoder, chunk, CHUNK_BYTES_MAX, sink)?;
        rest = behind;
    }
    Ok(())
}

/// Decompresses one raw block. It begins with the length of its content, which is judged before
/// anything is reserved for it.
fn block(
    decoder: &mut Decoder,
    bytes: &[u8],
    most: usize,
    sink: &mut Sink<'_>,
) -> Result<(), BatchError> {
    let error = |_| malformed(Compression::Snappy);
    let length = decompress_len(bytes).map_err(error)?;
    if length > sink.room() {
        return Err(sink.too_large());
    }
    if length > most {
        return Err(BatchError::CodecLimit {
            codec: "snappy",
            what: "a chunk above 1 MiB",
        });
    }
    let (_, fresh) = sink.extend(length)?;
    let written = decoder.decompress(bytes, fresh).map_err(error)?;
    if written == length {
        Ok(())
    } else {
        Err(malformed(Compression::Snappy))
    }
}
