//! The frame around everything that is stored with serde: the only user of bincode.
//!
//! ```text
//! magic (4) | version (u16) | body length in bytes (u32) | body | CRC-32 of all before (u32)
//! ```
//!
//! All numbers are big-endian; the body is bincode 2 with fixed-width, big-endian integers. The CRC
//! is CRC-32 (ISO-HDLC) by crc32fast. A successor of bincode is a change to this file and a new
//! version of each frame.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes around the body.
pub const OVERHEAD: usize = 4 + 2 + 4 + 4;

/// Largest body in bytes that is written. Bounds what a reader must hold in memory.
pub const BODY_BYTES_MAX: usize = 2 << 30;

/// Largest memory in bytes that a body may ask for while it is decoded. Above its own size, since
/// values may be larger in memory than when stored; and by its size, since a length in it that is
/// wrong must not ask for more than there is (R28).
const DECODED_BYTES_MAX: usize = 8 << 30;
const MEDIUM_BODY_BYTES: usize = 4 << 20;
const MEDIUM_DECODED_BYTES: usize = 1 << 30;
const SMALL_BODY_BYTES: usize = 64 << 10;
const SMALL_DECODED_BYTES: usize = 16 << 20;

const BODY: usize = OVERHEAD - size_of::<u32>();

const _: () = assert!(BODY_BYTES_MAX < u32::MAX as usize, "a body length is a u32");

/// Why bytes are not a frame of the expected kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Not the kind of file that was expected.
    #[error("magic is {found:02x?}, expected {expected:02x?}")]
    Magic {
        /// Of the expected kind.
        expected: [u8; 4],
        /// In the frame.
        found: [u8; 4],
    },
    /// Written by a newer release.
    #[error(
        "version {found} is newer than {supported}, the newest that this release reads; use a newer release"
    )]
    NewerVersion {
        /// In the frame.
        found: u16,
        /// Newest that can be read.
        supported: u16,
    },
    /// Written by a release whose layout is no longer read.
    #[error(
        "version {found} is older than {supported}, the only one that this release reads; use an older release"
    )]
    OlderVersion {
        /// In the frame.
        found: u16,
        /// The one that can be read.
        supported: u16,
    },
    /// Cut off, or followed by something.
    #[error("{found} bytes are there, the frame has {expected}")]
    Length {
        /// Bytes that the frame says it has; the least a frame can have when even that is cut off.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Damaged.
    #[error("stored CRC is {stored:08x}, computed {computed:08x}")]
    Crc {
        /// At the end of the frame.
        stored: u32,
        /// Over the bytes before it.
        computed: u32,
    },
    /// Undamaged, but not the expected type.
    #[error("the body does not decode: {0}")]
    Body(#[source] BodyError),
}

/// Why an undamaged body does not decode.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(BodyProblem);

#[derive(Debug, thiserror::Error)]
enum BodyProblem {
    #[error(transparent)]
    Decode(#[from] bincode::error::DecodeError),
    #[error("{decoded} of {stored} bytes were decoded")]
    Rest { decoded: usize, stored: usize },
}

fn configuration<const LIMIT: usize>() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_big_endian()
        .with_fixed_int_encoding()
        .with_limit::<LIMIT>()
}

/// Stores `value` in a frame.
///
/// # Panics
/// If the type cannot be stored (its `Serialize` fails, as for a sequence of unknown length), or
/// the body exceeds [`BODY_BYTES_MAX`].
pub fn encode<T: Serialize>(magic: [u8; 4], version: u16, value: &T) -> Vec<u8> {
    let mut frame = begin(magic, version);
    #[expect(
        clippy::expect_used,
        reason = "writing to memory fails only for types we never store"
    )]
    bincode::serde::encode_into_std_write(value, &mut frame, configuration::<DECODED_BYTES_MAX>())
        .expect("only types with a known length are stored");
    finish(frame)
}

/// A body that is encoded already as one frame.
///
/// # Panics
/// As [`encode`].
pub(crate) fn frame(magic: [u8; 4], version: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = begin(magic, version);
    frame.extend_from_slice(body);
    finish(frame)
}

fn begin(magic: [u8; 4], version: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    frame.extend_from_slice(&magic);
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame
}

fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    let bytes = frame.len() - BODY;
    assert!(
        bytes <= BODY_BYTES_MAX,
        "a body of {bytes} bytes exceeds {BODY_BYTES_MAX}"
    );
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    frame[BODY - size_of::<u32>()..BODY].copy_from_slice(&length.to_be_bytes());
    let crc = crc32fast::hash(&frame);
    frame.extend_from_slice(&crc.to_be_bytes());
    frame
}

/// Reads a value from bytes that are exactly one frame.
///
/// # Errors
/// [`CodecError`].
pub fn decode<T: DeserializeOwned>(
    magic: [u8; 4],
    version: u16,
    bytes: &[u8],
) -> Result<T, CodecError> {
    let (body, rest) = open_frame(magic, version, bytes)?;
    if !rest.is_empty() {
        return Err(followed(bytes, rest));
    }
    decode_body(body)
}

/// As [`decode`], for a frame that is padded with zeros to the size of its slot.
///
/// # Errors
/// [`CodecError`]; anything but zeros after the frame is [`CodecError::Length`].
pub fn decode_prefix<T: DeserializeOwned>(
    magic: [u8; 4],
    version: u16,
    bytes: &[u8],
) -> Result<T, CodecError> {
    decode_body(open_prefix(magic, version, bytes)?)
}

/// The greatest offset, position or time that is believed: no log gets there, and what is counted on from it still fits
/// into Kafka's `i64`.
pub const NUMBER_MAX: u64 = 1 << 62;

/// A number at most [`NUMBER_MAX`], for `#[serde(deserialize_with)]`. A greater one comes from no write of ours,
/// whatever the checksum says.
///
/// # Errors
/// The decoder's, with the number.
pub fn number<'de, D: serde::Deserializer<'de>>(decoder: D) -> Result<u64, D::Error> {
    let number = <u64 as serde::Deserialize>::deserialize(decoder)?;
    if number > NUMBER_MAX {
        let text = format!("{number} is above {NUMBER_MAX}");
        return Err(serde::de::Error::custom(text));
    }
    Ok(number)
}

/// The body of a frame that is padded with zeros, checked but not decoded.
pub(crate) fn open_prefix(magic: [u8; 4], version: u16, bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (body, rest) = open_frame(magic, version, bytes)?;
    if rest.iter().all(|byte| *byte == 0) {
        Ok(body)
    } else {
        Err(followed(bytes, rest))
    }
}

fn followed(bytes: &[u8], rest: &[u8]) -> CodecError {
    let found = bytes.len() as u64;
    CodecError::Length {
        expected: found - rest.len() as u64,
        found,
    }
}

/// The body of the frame at the beginning, and what follows the frame.
fn open_frame(magic: [u8; 4], version: u16, bytes: &[u8]) -> Result<(&[u8], &[u8]), CodecError> {
    let cut_off = |expected: u64| CodecError::Length {
        expected,
        found: bytes.len() as u64,
    };
    let found = *bytes
        .first_chunk::<4>()
        .ok_or_else(|| cut_off(OVERHEAD as u64))?;
    if found != magic {
        return Err(CodecError::Magic {
            expected: magic,
            found,
        });
    }
    let Some(&[_, _, _, _, v0, v1, l0, l1, l2, l3]) = bytes.first_chunk::<BODY>() else {
        return Err(cut_off(OVERHEAD as u64));
    };
    let frame_len = u64::from(u32::from_be_bytes([l0, l1, l2, l3])) + OVERHEAD as u64;
    let (frame, rest) = usize::try_from(frame_len)
        .ok()
        .and_then(|len| bytes.split_at_checked(len))
        .ok_or_else(|| cut_off(frame_len))?;
    let (checked, crc) = frame
        .split_last_chunk::<4>()
        .ok_or_else(|| cut_off(frame_len))?;
    let (stored, computed) = (u32::from_be_bytes(*crc), crc32fast::hash(checked));
    if stored != computed {
        return Err(CodecError::Crc { stored, computed });
    }
    // After the CRC, so that a damaged version is not taken for a newer one.
    match u16::from_be_bytes([v0, v1]) {
        found if found > version => Err(CodecError::NewerVersion {
            found,
            supported: version,
        }),
        found if found < version => Err(CodecError::OlderVersion {
            found,
            supported: version,
        }),
        _ => Ok((&checked[BODY..], rest)),
    }
}

fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    let read = if body.len() <= SMALL_BODY_BYTES {
        bincode::serde::decode_from_slice(body, configuration::<SMALL_DECODED_BYTES>())
    } else if body.len() <= MEDIUM_BODY_BYTES {
        bincode::serde::decode_from_slice(body, configuration::<MEDIUM_DECODED_BYTES>())
    } else {
        bincode::serde::decode_from_slice(body, configuration::<DECODED_BYTES_MAX>())
    };
    let (value, decoded) = read.map_err(|error| CodecError::Body(BodyError(error.into())))?;
    if decoded == body.len() {
        Ok(value)
    } else {
        let rest = BodyProblem::Rest {
            decoded,
            stored: body.len(),
        };
        Err(CodecError::Body(BodyError(rest)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    const MAGIC: [u8; 4] = *b"TEST";

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Value {
        number: i64,
        name: String,
        list: Vec<(u16, Option<bool>)>,
    }

    fn value() -> Value {
        Value {
            number: -2,
            name: "orders".to_owned(),
            list: vec![(513, None), (7, Some(true))],
        }
    }

    #[test]
    fn frame_is_laid_out_as_documented() {
        let frame = encode(MAGIC, 0x0102, &(0x0a0b_u16, -1_i64));
        assert_eq!(frame[..10], *b"TEST\x01\x02\0\0\0\x0a");
        assert_eq!(
            frame[10..20],
            [0x0a, 0x0b, 255, 255, 255, 255, 255, 255, 255, 255]
        );
        assert_eq!(frame[20..], crc32fast::hash(&frame[..20]).to_be_bytes());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let frame = encode(MAGIC, 1, &value());
        for byte in 0..frame.len() {
            for bit in 0..8 {
                let mut damaged = frame.clone();
                damaged[byte] ^= 1 << bit;
                let error = decode::<Value>(MAGIC, 1, &damaged).unwrap_err();
                match byte {
                    0..4 => assert!(matches!(error, CodecError::Magic { .. }), "{error}"),
                    6..10 => assert!(
                        matches!(error, CodecError::Length { .. } | CodecError::Crc { .. }),
                        "{error}"
                    ),
                    _ => assert!(matches!(error, CodecError::Crc { .. }), "{error}"),
                }
            }
        }
    }

    #[test]
    fn every_cut_is_found() {
        let frame = encode(MAGIC, 1, &value());
        for len in 0..frame.len() {
            let error = decode::<Value>(MAGIC, 1, &frame[..len]).unwrap_err();
            assert!(matches!(error, CodecError::Length { found, .. } if found == len as u64));
            assert!(decode_prefix::<Value>(MAGIC, 1, &frame[..len]).is_err());
        }
    }

    #[test]
    fn only_a_prefix_may_be_followed_by_zeros() {
        let mut padded = encode(MAGIC, 1, &value());
        let expected = padded.len() as u64;
        padded.resize(512, 0);
        assert_eq!(decode_prefix::<Value>(MAGIC, 1, &padded).unwrap(), value());
        let error = decode::<Value>(MAGIC, 1, &padded).unwrap_err();
        assert!(
            matches!(error, CodecError::Length { expected: e, found: 512 } if e == expected),
            "{error}"
        );
        padded[511] = 1;
        assert!(decode_prefix::<Value>(MAGIC, 1, &padded).is_err());
        assert!(decode_prefix::<Value>(MAGIC, 1, &[0; 512]).is_err());
    }

    #[test]
    fn other_versions_are_named() {
        let frame = encode(MAGIC, 3, &value());
        let newer = decode::<Value>(MAGIC, 2, &frame).unwrap_err();
        assert!(
            matches!(
                newer,
                CodecError::NewerVersion {
                    found: 3,
                    supported: 2
                }
            ),
            "{newer}"
        );
        let older = decode::<Value>(MAGIC, 4, &frame).unwrap_err();
        assert!(
            matches!(
                older,
                CodecError::OlderVersion {
                    found: 3,
                    supported: 4
                }
            ),
            "{older}"
        );
    }

    #[test]
    fn other_type_is_an_error() {
        let shorter = decode::<u16>(MAGIC, 1, &encode(MAGIC, 1, &7_u32)).unwrap_err();
        assert!(matches!(shorter, CodecError::Body(_)), "{shorter}");
        let longer = decode::<u64>(MAGIC, 1, &encode(MAGIC, 1, &7_u32)).unwrap_err();
        assert!(matches!(longer, CodecError::Body(_)), "{longer}");
        // A list and a text that claim to be larger than memory.
        let claim = encode(MAGIC, 1, &u64::MAX);
        assert!(matches!(
            decode::<Vec<u64>>(MAGIC, 1, &claim),
            Err(CodecError::Body(_))
        ));
        assert!(matches!(
            decode::<String>(MAGIC, 1, &claim),
            Err(CodecError::Body(_))
        ));
    }

    proptest! {
        #[test]
        fn stored_value_is_read_back(
            number: i64,
            name in ".{0,40}",
            list in proptest::collection::vec(any::<(u16, Option<bool>)>(), 0..40),
        ) {
            let value = Value { number, name, list };
            let frame = encode(MAGIC, 1, &value);
            prop_assert_eq!(decode::<Value>(MAGIC, 1, &frame).unwrap(), value);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut framed = MAGIC.to_vec();
            framed.extend(&bytes);
            prop_assert!(decode::<Value>(MAGIC, 1, &bytes).is_err());
            prop_assert!(decode::<Value>(MAGIC, 1, &framed).is_err());
        }
    }

    #[test]
    fn length_that_asks_for_more_than_the_body_can_hold_is_refused_before_memory_is_taken() {
        let mut body = (64_u64 << 20).to_be_bytes().to_vec();
        body.extend_from_slice(b"a few bytes");
        let error = decode::<String>(MAGIC, 1, &frame(MAGIC, 1, &body)).unwrap_err();
        assert!(format!("{error:?}").contains("LimitExceeded"), "{error:?}");
        let long = "x".repeat(3 * SMALL_BODY_BYTES);
        let read: String = decode(MAGIC, 1, &encode(MAGIC, 1, &long)).unwrap();
        assert!(read == long);
    }
}
