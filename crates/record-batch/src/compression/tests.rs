//! Frames of our own and of others, damaged ones, and bombs.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Text that compresses, but not to nothing.
fn text(bytes: usize) -> Vec<u8> {
    let mut state = 2013u32;
    let words = [
        &b"EWR,"[..],
        b"LGA,",
        b"UA,1545,",
        b"2013,",
        b"N14228,",
        b"\xff\x00\x17",
    ];
    let mut text = Vec::with_capacity(bytes + 8);
    while text.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(words[usize::from(state.to_be_bytes()[0]) % words.len()]);
    }
    text.truncate(bytes);
    text
}

fn compressed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(codec, None, bytes, &mut out).unwrap();
    out
}

fn decompressed(codec: Compression, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    decompress(codec, bytes, limit, &mut out)?;
    Ok(out)
}

#[test]
fn every_codec_gives_back_what_it_was_given_behind_what_was_there() {
    for codec in CODECS {
        for bytes in [1, 17, 1000, 32 << 10, (64 << 10) + 1, 300_000] {
            let content = text(bytes);
            let mut block = b"in front".to_vec();
            compress(codec, None, &content, &mut block).unwrap();
            let mut out = b"before".to_vec();
            decompress(codec, &block[8..], bytes, &mut out).unwrap();
            assert_eq!(out[..6], *b"before");
            assert!(out[6..] == content, "{codec:?}, {bytes} bytes");
            assert!(
                bytes < 1000 || block.len() < bytes,
                "{codec:?} does not compress"
            );
        }
    }
}

#[test]
fn one_byte_above_the_limit_is_refused() {
    for codec in CODECS {
        for bytes in [100, 200_000] {
            let block = compressed(codec, &text(bytes));
            let error = decompressed(codec, &block, bytes - 1);
            assert_eq!(
                error,
                Err(BatchError::TooLarge { limit: bytes - 1 }),
                "{codec:?}"
            );
        }
    }
}

#[test]
fn bombs_are_refused_and_no_memory_beyond_the_limit_is_reserved() {
    let zeros = vec![0; 16 << 20];
    for codec in CODECS {
        let bomb = compressed(codec, &zeros);
        assert!(bomb.len() < 1 << 20, "{codec:?} makes no bomb");
        for limit in [0, 1, 1000, 100_000, 3 << 20] {
            let mut out = Vec::new();
            let error = decompress(codec, &bomb, limit, &mut out);
            assert_eq!(error, Err(BatchError::TooLarge { limit }), "{codec:?}");
            assert!(
                out.capacity() <= limit + (64 << 10),
                "{codec:?}: {}",
                out.capacity()
            );
        }
    }
}

#[test]
fn a_declared_size_is_not_believed() {
    // A raw snappy block of 4 GiB, and the same in a chunk.
    let raw = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06".to_vec();
    framed.extend_from_slice(&raw);
    for block in [&raw[..], &framed] {
        let mut out = Vec::new();
        let error = decompress(Compression::Snappy, block, 1 << 20, &mut out);
        assert_eq!(error, Err(BatchError::TooLarge { limit: 1 << 20 }));
        assert_eq!(out.capacity(), 0);
    }
    // An LZ4 frame with blocks of 4 MiB that has one of 3 bytes.
    let info = FrameInfo::new().block_size(BlockSize::Max4MB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&[7; 100]).unwrap();
    let frame = encoder.finish().unwrap();
    let mut out = Vec::new();
    decompress(Compression::Lz4, &frame, 64 << 20, &mut out).unwrap();
    assert_eq!(out, [7; 100]);
    assert!(out.capacity() < 64 << 10, "{}", out.capacity());
}

#[test]
fn snappy_chunks_have_at_most_one_mib_and_plain_blocks_as_much_as_the_limit() {
    let content = text((1 << 20) + 1);
    let raw = snap::raw::Encoder::new().compress_vec(&content).unwrap();
    assert!(decompressed(Compression::Snappy, &raw, 2 << 20).unwrap() == content);
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    framed.extend_from_slice(&i32::try_from(raw.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&raw);
    let error = decompressed(Compression::Snappy, &framed, 2 << 20);
    let what = "a chunk above 1 MiB";
    assert_eq!(
        error,
        Err(BatchError::CodecLimit {
            codec: "snappy",
            what
        })
    );
}

#[test]
fn lz4_frames_of_every_kind_are_read() {
    let content = text(700_000);
    for block_size in [
        BlockSize::Max64KB,
        BlockSize::Max256KB,
        BlockSize::Max1MB,
        BlockSize::Max4MB,
    ] {
        for block_mode in [BlockMode::Independent, BlockMode::Linked] {
            for options in 0..8 {
                let info = FrameInfo::new()
                    .block_size(block_size)
                    .block_mode(block_mode)
                    .block_checksums(options & 1 != 0)
                    .content_checksum(options & 2 != 0)
                    .content_size((options & 4 != 0).then_some(700_000));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                // In small pieces, so that blocks do refer back.
                for piece in content.chunks(10_000) {
                    encoder.write_all(piece).unwrap();
                }
                let frame = encoder.finish().unwrap();
                let result = decompressed(Compression::Lz4, &frame, 700_000);
                assert!(
                    result.unwrap() == content,
                    "{block_size:?} {block_mode:?} {options}"
                );
            }
        }
    }
}

#[test]
fn lz4_checksums_are_checked() {
    let info = FrameInfo::new()
        .block_checksums(true)
        .content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info.content_size(Some(100)), Vec::new());
    encoder.write_all(&[7; 100]).unwrap();
    let frame = encoder.finish().unwrap();
    assert_eq!(
        decompressed(Compression::Lz4, &frame, 100),
        Ok(vec![7; 100])
    );
    // Magic, flags, block size, content size, header checksum, and the checksums at the end.
    for at in [0, 4, 5, 6, 14, frame.len() - 12, frame.len() - 1] {
        let mut damaged = frame.clone();
        damaged[at] ^= 1;
        let error = Err(BatchError::Decompress { codec: "lz4" });
        assert_eq!(
            decompressed(Compression::Lz4, &damaged, 100),
            error,
            "byte {at}"
        );
    }
}

#[test]
fn lz4_blocks_above_the_size_that_the_frame_declares_are_refused() {
    // A compressed block of 100,000 zeros, and a raw one of bytes without repetition.
    let raw = (0..50_000u16).flat_map(u16::to_be_bytes).collect();
    for content in [vec![0; 100_000], raw] {
        let info = FrameInfo::new().block_size(BlockSize::Max256KB);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&content).unwrap();
        let mut frame = encoder.finish().unwrap();
        assert!(decompressed(Compression::Lz4, &frame, 1 << 20).unwrap() == content);
        // The same blocks in a frame that declares 64 KiB.
        frame[5] = 0x40;
        frame[6] = twox_hash::XxHash32::oneshot(0, &frame[4..6]).to_be_bytes()[2];
        let error = decompressed(Compression::Lz4, &frame, 1 << 20);
        assert_eq!(error, Err(BatchError::Decompress { codec: "lz4" }));
    }
}

#[test]
fn zstd_frames_of_other_encoders_are_read_and_their_checksum_is_checked() {
    let hello = |head: &[u8], tail: &[u8]| {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
        frame.extend_from_slice(head);
        // The last block, raw, of 5 bytes.
        frame.extend_from_slice(&[0x29, 0, 0]);
        frame.extend_from_slice(b"hello");
        frame.extend_from_slice(tail);
        decompressed(Compression::Zstd, &frame, 100)
    };
    let error = Err(BatchError::Decompress { codec: "zstd" });
    // Single segment with its size; a window of 2 MiB; and the same with the wrong size.
    assert_eq!(hello(&[0x20, 5], &[]), Ok(b"hello".to_vec()));
    assert_eq!(hello(&[0, 11 << 3], &[]), Ok(b"hello".to_vec()));
    assert_eq!(hello(&[0x20, 6], &[]), error);
    // With a checksum: the low half of XXH64, little-endian.
    assert_eq!(
        hello(&[0x24, 5], &[0xa3, 0x6d, 0x9f, 0x88]),
        Ok(b"hello".to_vec())
    );
    assert_eq!(hello(&[0x24, 5], &[0xa3, 0x6d, 0x9f, 0x89]), error);
}

#[test]
fn bytes_behind_the_block_and_cut_blocks_are_refused() {
    for codec in CODECS {
        let block = compressed(codec, &text(5000));
        let error = Err(BatchError::Decompress {
            codec: codec.name(),
        });
        let mut longer = block.clone();
        longer.push(0);
        assert_eq!(decompressed(codec, &longer, 5000), error);
        assert_eq!(decompressed(codec, &block[..block.len() - 1], 5000), error);
        assert_eq!(decompressed(codec, &[], 5000), error);
    }
    let mut twice = compressed(Compression::Gzip, b"one");
    twice.extend(compressed(Compression::Gzip, b"two"));
    let what = "more than one member";
    let error = Err(BatchError::CodecLimit {
        codec: "gzip",
        what,
    });
    assert_eq!(decompressed(Compression::Gzip, &twice, 5000), error);
}

#[test]
fn levels_are_taken_where_they_exist() {
    let content = text(50_000);
    let at = |codec, level| {
        let mut out = Vec::new();
        compress(codec, Some(level), &content, &mut out).map(|()| out.len())
    };
    assert!(at(Compression::Gzip, 9).unwrap() < at(Compression::Gzip, 1).unwrap());
    let (codec, level, lowest, highest) = ("gzip", 10, 0, 9);
    let error = BatchError::Level {
        codec,
        level,
        lowest,
        highest,
    };
    assert_eq!(at(Compression::Gzip, 10), Err(error));
    assert!(at(Compression::Lz4, 1).is_ok());
    assert!(matches!(
        at(Compression::Lz4, 9),
        Err(BatchError::Level { highest: 1, .. })
    ));
    assert!(matches!(
        at(Compression::Snappy, 0),
        Err(BatchError::Level { lowest: 1, .. })
    ));
    assert!(at(Compression::Zstd, 1).is_ok());
}

#[cfg(not(feature = "zstd"))]
#[test]
fn a_zstd_level_that_needs_the_c_library_names_the_feature() {
    let error = compress(Compression::Zstd, Some(3), b"x", &mut Vec::new());
    let (codec, level, feature) = ("zstd", 3, "zstd");
    assert_eq!(
        error,
        Err(BatchError::CodecMissing {
            codec,
            level,
            feature
        })
    );
}

#[cfg(feature = "zstd")]
#[test]
fn both_zstd_implementations_read_each_other_at_every_level() {
    let content = text(400_000);
    let mut pure = Vec::new();
    zstd_pure::compress(None, &content, &mut pure).unwrap();
    let mut out = Vec::new();
    zstd_c::decompress(&pure, &mut Sink::new(&mut out, content.len())).unwrap();
    assert!(out == content);
    for level in [-5, 1, 3, 9, 19, 22] {
        let mut c = Vec::new();
        zstd_c::compress(Some(level), &content, &mut c).unwrap();
        let mut out = Vec::new();
        zstd_pure::decompress(&c, &mut Sink::new(&mut out, content.len())).unwrap();
        assert!(out == content, "level {level}");
    }
    let error = compress(Compression::Zstd, Some(23), b"x", &mut Vec::new());
    assert!(
        matches!(error, Err(BatchError::Level { highest: 22, .. })),
        "{error:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_blocks_never_panic_nor_pass_the_limit(
        which in 0usize..4,
        bytes in 1usize..3000,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let codec = CODECS[which];
        let mut block = compressed(codec, &text(bytes));
        for (at, byte) in damage {
            let at = at.index(block.len());
            block[at] = byte;
        }
        let mut out = Vec::new();
        let _ = decompress(codec, &block, 2000, &mut out);
        prop_assert!(out.len() <= 2000 && out.capacity() <= 2000 + (64 << 10));
    }

    #[test]
    fn random_blocks_never_panic(
        which in 0usize..4,
        framed: bool,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let codec = CODECS[which];
        let mut block = Vec::new();
        if framed {
            // Past the magic and the first fields.
            block.extend_from_slice(match codec {
                Compression::Gzip => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff][..],
                Compression::Snappy => b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x20",
                Compression::Lz4 => &[4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82],
                _ => &[0x28, 0xb5, 0x2f, 0xfd, 0, 11 << 3],
            });
        }
        block.extend_from_slice(&bytes);
        let mut out = Vec::new();
        let _ = decompress(codec, &block, 1 << 16, &mut out);
        prop_assert!(out.len() <= 1 << 16);
    }
}
