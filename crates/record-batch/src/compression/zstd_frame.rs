//! The window that a Zstandard frame declares (RFC 8878, 3.1.1.1), cut to what can be needed.
//!
//! A decoder sets its window aside before it has seen content, and streaming encoders declare 2 MiB
//! for a batch of 100 bytes. No reference reaches further back than the content is long, and the
//! content is limited, so the declaration is replaced by one that just covers the limit.

use std::io::{Chain, Read};

use super::malformed;
use crate::error::BatchError;
use crate::header::Compression;

/// The largest window that is accepted, 8 MiB.
pub(super) const WINDOW_BYTES_MAX: u64 = 1 << WINDOW_LOG_MAX;
pub(super) const WINDOW_LOG_MAX: u8 = 23;

/// The smallest that a declared one is cut to, 128 KiB: the window bounds the content of a block
/// too, and blocks have up to that much.
const WINDOW_LOG_MIN: u8 = 17;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const SINGLE_SEGMENT: u8 = 1 << 5;
const HEAD_BYTES: usize = 6;

/// The first bytes of a frame, with the window cut.
pub(super) struct Frame<'a> {
    head: [u8; HEAD_BYTES],
    rest: &'a [u8],
    /// The window, in bytes, that a decoder has to allow.
    pub(super) window_bytes: u64,
}

impl<'a> Frame<'a> {
    /// Looks at a frame whose content may have `limit` bytes.
    pub(super) fn new(bytes: &'a [u8], limit: usize) -> Result<Frame<'a>, BatchError> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or_else(error)?;
        if !head.starts_with(&MAGIC) {
            return Err(error());
        }
        let mut head = *head;
        let limit_bytes = u64::try_from(limit).unwrap_or(u64::MAX);
        let cut = (WINDOW_LOG_MIN..WINDOW_LOG_MAX)
            .find(|log| 1u64 << log >= limit_bytes)
            .unwrap_or(WINDOW_LOG_MAX);
        let is_single_segment = head[4] & SINGLE_SEGMENT != 0;
        let declared = if is_single_segment {
            declared_content(bytes)?
        } else {
            declared_window(head[5])
        };
        if is_single_segment && declared > limit_bytes {
            return Err(BatchError::TooLarge { limit });
        }
        if declared > WINDOW_BYTES_MAX {
            return Err(BatchError::CodecLimit {
                codec: "zstd",
                what: "a window above 8 MiB",
            });
        }
        if !is_single_segment && declared > 1 << cut {
            head[5] = (cut - 10) << 3;
        }
        Ok(Frame {
            head,
            rest,
            window_bytes: 1 << cut,
        })
    }

    /// The frame's bytes.
    pub(super) fn reader(&self) -> Chain<&[u8], &'a [u8]> {
        self.head.as_slice().chain(self.rest)
    }
}

/// A window descriptor: 5 bits of exponent, 3 bits of eighths.
fn declared_window(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 0b111)
}

/// The content size of a single-segment frame, whose window is its whole content.
fn declared_content(bytes: &[u8]) -> Result<u64, BatchError> {
    let descriptor = bytes[4];
    let (size, base) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
    let field = bytes
        .get(5 + dictionary..5 + dictionary + size)
        .ok_or_else(error)?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
        + base)
}

fn error() -> BatchError {
    malformed(Compression::Zstd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windowed(descriptor: u8) -> [u8; 7] {
        [0x28, 0xb5, 0x2f, 0xfd, 0, descriptor, 0xaa]
    }

    #[test]
    fn declared_windows_are_cut_to_the_limit_and_refused_above_8_mib() {
        assert_eq!(declared_window(0), 1 << 10);
        assert_eq!(declared_window((13 << 3) | 1), (8 << 20) + (1 << 20));
        let two_mib = windowed(11 << 3);
        let frame = Frame::new(&two_mib, 20 << 10).unwrap();
        assert_eq!((frame.window_bytes, frame.head[5]), (128 << 10, 7 << 3));
        let mut bytes = Vec::new();
        frame.reader().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, windowed(7 << 3));
        let frame = Frame::new(&two_mib, 3 << 20).unwrap();
        assert_eq!((frame.window_bytes, frame.head[5]), (4 << 20, 11 << 3));
        let eight = windowed(13 << 3);
        assert_eq!(Frame::new(&eight, 64 << 20).unwrap().head[5], 13 << 3);
        let nine = windowed((13 << 3) | 1);
        let error = Frame::new(&nine, 64 << 20).err();
        assert!(
            matches!(error, Some(BatchError::CodecLimit { codec: "zstd", .. })),
            "{error:?}"
        );
    }

    #[test]
    fn a_declared_content_above_the_limit_is_refused_before_memory_is_set_aside() {
        // Single segment, content size in 4 bytes: 32 MiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 2, 0xaa];
        assert_eq!(declared_content(&frame), Ok(32 << 20));
        let error = Frame::new(&frame, 1 << 20).err();
        assert_eq!(error, Some(BatchError::TooLarge { limit: 1 << 20 }));
        let error = Frame::new(&frame, 64 << 20).err();
        assert!(
            matches!(error, Some(BatchError::CodecLimit { codec: "zstd", .. })),
            "{error:?}"
        );
        // In 2 bytes, which count from 256, behind a dictionary id of 1 byte.
        assert_eq!(
            declared_content(&[0x28, 0xb5, 0x2f, 0xfd, 0x61, 9, 1, 1]),
            Ok(513)
        );
    }
}
