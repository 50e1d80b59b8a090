//! Batches with a right CRC and wrong contents, cut and concatenated ones, and bombs.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers included"
)]

use record_batch::{
    Batch, BatchBuilder, BatchError, Compression, HEADER_BYTES, MAX_DECOMPRESSED_BYTES, Record,
    Records, at, compress, crc32c, decompressed_limit,
};

/// A batch of one record with these bytes as its records and a right CRC.
fn batch_of(compression: Compression, record_count: i32, payload: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, None, &[]).unwrap();
    let mut batch = builder.build(None).unwrap()[..HEADER_BYTES].to_vec();
    batch.extend_from_slice(payload);
    let length = i32::try_from(batch.len() - at::LEADER_EPOCH).unwrap();
    batch[at::BATCH_LENGTH..at::LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
    batch[at::ATTRIBUTES + 1] = compression.id();
    batch[at::LAST_OFFSET_DELTA..at::BASE_TIMESTAMP]
        .copy_from_slice(&(record_count - 1).to_be_bytes());
    batch[at::RECORD_COUNT..at::RECORDS].copy_from_slice(&record_count.to_be_bytes());
    let crc = crc32c(&batch[at::ATTRIBUTES..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn read(payload: &[u8], record_count: i32) -> Result<Vec<Record>, BatchError> {
    let batch = batch_of(Compression::None, record_count, payload);
    Batch::parse(&batch)?.records()?.collect()
}

/// Length 6, attributes, timestamp delta 0, offset delta 0, key null, value empty, no headers.
const RECORD: [u8; 7] = [12, 0, 0, 0, 1, 0, 0];

#[test]
fn malformed_records_are_refused_by_name_and_position() {
    assert_eq!(read(&RECORD, 1).unwrap().len(), 1);
    let mut second = RECORD;
    second[3] = 2;
    let good = [RECORD, second].concat();
    assert_eq!(read(&good, 2).unwrap().len(), 2);

    let refused =
        |record_count, payload: &[u8], at: usize, expected: &str| match read(payload, record_count)
        {
            Err(BatchError::Record { index, what }) => {
                assert_eq!((index, what), (at, expected), "{payload:?}");
            }
            other => panic!("{payload:?}: {other:?}"),
        };
    refused(1, &[], 0, "it ends within a field");
    refused(
        1,
        &good,
        1,
        "more bytes follow than the batch's record count accounts for",
    );
    refused(2, &RECORD, 1, "it ends within a field");
    refused(2, &good[..13], 1, "a length exceeds the bytes left");
    refused(1, &[1, 0, 0, 0, 1, 0, 0], 0, "a length is negative");
    refused(1, &[0xff; 7], 0, "a varint does not end");
    // The record's length is longer, and shorter, than its fields.
    refused(
        1,
        &[14, 0, 0, 0, 1, 0, 0, 0],
        0,
        "it is longer than its fields",
    );
    refused(1, &[10, 0, 0, 0, 1, 0, 0], 0, "it ends within a field");
    // Key and value: -2, and beyond the record though not beyond the batch.
    refused(1, &[12, 0, 0, 0, 3, 0, 0], 0, "a length is negative");
    refused(
        2,
        &[&[12, 0, 0, 0, 1, 4, 0], &second[..]].concat(),
        0,
        "a length exceeds the bytes left",
    );
    // Headers: count -1, count beyond the record, key null, key not UTF-8.
    refused(
        1,
        &[12, 0, 0, 0, 1, 0, 1],
        0,
        "its header count is negative",
    );
    refused(
        1,
        &[16, 0, 0, 0, 1, 0, 4, 0, 0],
        0,
        "its header count exceeds the bytes left",
    );
    refused(1, &[16, 0, 0, 0, 1, 0, 2, 1, 1], 0, "a header key is null");
    refused(
        1,
        &[18, 0, 0, 0, 1, 0, 2, 2, 0xff, 1],
        0,
        "a header key is not UTF-8",
    );
    // Offsets: the same twice, backwards from 1 to 0, and behind the batch's last.
    let offset = "its offset is not above the one before and within the batch";
    refused(2, &[RECORD, RECORD].concat(), 1, offset);
    refused(2, &[second, RECORD].concat(), 1, offset);
    refused(1, &second, 0, offset);
    refused(1, &[12, 0, 0, 1, 1, 0, 0], 0, offset);
}

#[test]
fn nothing_comes_after_an_error() {
    let batch = batch_of(Compression::None, 2, &RECORD);
    let mut records = Batch::parse(&batch).unwrap().records().unwrap();
    assert!(records.next().unwrap().is_ok());
    assert!(records.next().unwrap().is_err());
    assert!(records.next().is_none());
}

#[test]
fn batches_come_off_a_run_one_by_one() {
    let first = batch_of(Compression::None, 1, &RECORD);
    let second = batch_of(Compression::None, 2, &RECORD);
    let run = [&first[..], &second, &first[..30]].concat();
    let (batch, rest) = Batch::parse_first(&run).unwrap();
    assert_eq!(batch.bytes(), first);
    let (batch, rest) = Batch::parse_first(rest).unwrap();
    assert_eq!(
        (batch.bytes(), batch.header().record_count),
        (&second[..], 2)
    );
    assert_eq!(
        Batch::parse_first(rest).unwrap_err(),
        BatchError::Short { bytes: 30 }
    );
    // Exactly one is another matter.
    assert!(matches!(Batch::parse(&run), Err(BatchError::Length { .. })));
    assert!(matches!(
        Batch::parse_first(&first[..65]),
        Err(BatchError::Length { .. })
    ));
}

#[test]
fn lengths_magic_and_codec_are_judged() {
    let good = batch_of(Compression::None, 1, &RECORD);
    for batch_length in [-1, 0, 48, i32::MAX, i32::MIN] {
        let mut bad = good.clone();
        bad[at::BATCH_LENGTH..at::LEADER_EPOCH].copy_from_slice(&i32::to_be_bytes(batch_length));
        assert_eq!(
            Batch::parse(&bad).unwrap_err(),
            BatchError::Length { batch_length }
        );
    }
    let mut old = good.clone();
    old[at::MAGIC] = 1;
    assert_eq!(
        Batch::parse(&old).unwrap_err(),
        BatchError::Magic { found: 1 }
    );
    let mut unknown = good;
    unknown[at::ATTRIBUTES + 1] = 6;
    let crc = crc32c(&unknown[at::ATTRIBUTES..]);
    unknown[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(
        Batch::parse(&unknown).unwrap_err(),
        BatchError::UnknownCompression { id: 6 }
    );
}

#[test]
fn records_may_be_missing_after_compaction_and_keep_their_offsets() {
    let mut builder = BatchBuilder::new();
    for i in 0..5u8 {
        builder.push(i.into(), None, Some(&[i]), &[]).unwrap();
    }
    let all = builder.build(None).unwrap().to_vec();
    // Each record has 8 bytes; the first, the third and the last are compacted away.
    let kept = [&all[69..77], &all[85..93]].concat();
    let mut batch = batch_of(Compression::None, 5, &kept);
    batch[at::RECORD_COUNT..at::RECORDS].copy_from_slice(&2i32.to_be_bytes());
    let crc = crc32c(&batch[at::ATTRIBUTES..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    let batch = Batch::parse(&batch).unwrap();
    let offsets: Vec<i64> = batch
        .records()
        .unwrap()
        .map(|r| r.unwrap().offset)
        .collect();
    assert_eq!(offsets, [1, 3]);
    assert!(batch.check_from_producer().is_err());
}

#[test]
fn bombs_are_refused_by_ratio_and_by_size() {
    assert_eq!(decompressed_limit(100), 102_400);
    assert_eq!(decompressed_limit(1 << 20), MAX_DECOMPRESSED_BYTES);
    let zeros = vec![0; MAX_DECOMPRESSED_BYTES + 1];
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut bomb = Vec::new();
        compress(codec, None, &zeros, &mut bomb).unwrap();
        let limit = decompressed_limit(bomb.len());
        let batch = batch_of(codec, 1, &bomb);
        let error = Batch::parse(&batch).unwrap().records().unwrap_err();
        assert_eq!(error, BatchError::TooLarge { limit }, "{codec:?}");
        assert_eq!(
            Records::of(&batch.into()).unwrap_err(),
            BatchError::TooLarge { limit }
        );
    }
}

#[test]
fn what_we_compress_we_can_read_again_even_a_million_zeros() {
    let zeros = vec![0; 1 << 20];
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = BatchBuilder::new().compression(codec);
        builder.push(0, None, Some(&zeros), &[]).unwrap();
        let batch = Batch::parse(builder.build(None).unwrap()).unwrap();
        let record = batch.records().unwrap().next().unwrap().unwrap();
        assert_eq!(record.value.unwrap(), zeros, "{codec:?}");
        // Zstd shrinks them to less than a 1,024th, so they are left as they are.
        let expected = if codec == Compression::Zstd {
            Compression::None
        } else {
            codec
        };
        assert_eq!(batch.compression(), expected);
    }
}
