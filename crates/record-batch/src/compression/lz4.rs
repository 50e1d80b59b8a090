//! The LZ4 frame format, one frame.
//!
//! Frames are written by the library. They are read here block by block straight into the output,
//! because the library's reader sets aside what a frame's header declares (up to 12 MiB) before it
//! has seen any content.

use std::io::Write;

use lz4_flex::block::{DecompressError, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::{Sink, malformed};
use crate::error::BatchError;
use crate::header::Compression;

const MAGIC: u32 = 0x184d_2204;

/// How far back a block may refer, where blocks are linked.
const WINDOW_BYTES: usize = 64 << 10;

/// A byte of a compressed block stands for at most 255 bytes of content, the token of a sequence
/// for a few more.
const RATIO_MAX: usize = 255;

pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    // As Kafka's Java client: blocks of 64 KiB, independent, no checksums (the batch has its own).
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    // Writing to memory cannot fail.
    let full = || BatchError::Full { bytes: bytes.len() };
    encoder.write_all(bytes).map_err(|_| full())?;
    encoder.finish().map_err(|_| full())?;
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), BatchError> {
    let mut input = Input(bytes);
    let frame = Frame::read(&mut input)?;
    loop {
        let word = input.word()?;
        if word == 0 {
            break;
        }
        let is_raw = word >> 31 == 1;
        let length = usize::try_from(word & (u32::MAX >> 1)).map_err(|_| error())?;
        if length > frame.block_bytes {
            return Err(error());
        }
        let data = input.take(length)?;
        if frame.has_block_checksums && input.word()? != XxHash32::oneshot(0, data) {
            return Err(error());
        }
        if is_raw {
            sink.push(data)?;
        } else {
            frame.decompress_block(data, sink)?;
        }
    }
    if frame.has_content_checksum && input.word()? != XxHash32::oneshot(0, sink.content()) {
        return Err(error());
    }
    let content = u64::try_from(sink.content().len()).map_err(|_| error())?;
    if frame
        .content_bytes
        .is_some_and(|declared| declared != content)
        || !input.0.is_empty()
    {
        return Err(error());
    }
    Ok(())
}

struct Frame {
    /// The most bytes that a block may have, compressed or not: 64 KiB to 4 MiB.
    block_bytes: usize,
    is_linked: bool,
    has_block_checksums: bool,
    has_content_checksum: bool,
    content_bytes: Option<u64>,
}

impl Frame {
    fn read(input: &mut Input<'_>) -> Result<Frame, BatchError> {
        if input.word()? != MAGIC {
            return Err(error());
        }
        let descriptor = input.0;
        let &[flags, block_size] = input.array()?;
        // Version 1, no reserved bit, no dictionary.
        if flags & 0b1100_0011 != 0b0100_0000 || block_size & 0b1000_1111 != 0 {
            return Err(error());
        }
        let block_bytes = match block_size >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(error()),
        };
        let content_bytes = if flags & 0b1000 != 0 {
            Some(input.long()?)
        } else {
            None
        };
        let hashed = &descriptor[..descriptor.len() - input.0.len()];
        let [_, _, checksum, _] = XxHash32::oneshot(0, hashed).to_be_bytes();
        if input.array()? != &[checksum] {
            return Err(error());
        }
        Ok(Frame {
            block_bytes,
            is_linked: flags & 0b10_0000 == 0,
            has_block_checksums: flags & 0b1_0000 != 0,
            has_content_checksum: flags & 0b100 != 0,
            content_bytes,
        })
    }

    fn decompress_block(&self, data: &[u8], sink: &mut Sink<'_>) -> Result<(), BatchError> {
        let room = sink.room();
        let too_large = sink.too_large();
        let length = data.len().saturating_mul(RATIO_MAX).saturating_add(64);
        let length = length.min(self.block_bytes).min(room);
        let (before, fresh) = sink.extend(length)?;
        let window = if self.is_linked {
            before.len().min(WINDOW_BYTES)
        } else {
            0
        };
        let dictionary = &before[before.len() - window..];
        match decompress_into_with_dict(data, fresh, dictionary) {
            Ok(written) => {
                sink.retract(length - written);
                Ok(())
            }
            Err(DecompressError::OutputTooSmall { .. }) if length == room => Err(too_large),
            Err(_) => Err(error()),
        }
    }
}

fn error() -> BatchError {
    malformed(Compression::Lz4)
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BatchError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(error)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], BatchError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(error)?;
        self.0 = rest;
        Ok(taken)
    }

    #[expect(
        clippy::little_endian_bytes,
        reason = "the frame format is little-endian"
    )]
    fn word(&mut self) -> Result<u32, BatchError> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    #[expect(
        clippy::little_endian_bytes,
        reason = "the frame format is little-endian"
    )]
    fn long(&mut self) -> Result<u64, BatchError> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }
}
