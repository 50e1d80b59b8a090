//! The rows of the conformance list that concern a batch alone, by number.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers included"
)]

use record_batch::{
    Attributes, Batch, BatchBuilder, BatchError, Compression, ControlKind, ControlRecord,
    ProducerIdentity, Record, Stamp, at, control_batch, crc32c, fingerprint, parse_control,
    stamped_header,
};

const TIME: i64 = 1_357_034_400_000;
const MAX_SEQUENCE: i32 = i32::MAX;

fn built(records: u8, base_sequence: i32, compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new().compression(compression);
    for i in 0..records {
        let value = [i; 40];
        builder
            .push(TIME + i64::from(i), Some(b"key"), Some(&value), &[])
            .unwrap();
    }
    let identity = ProducerIdentity {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence,
    };
    builder.build(Some(identity)).unwrap().to_vec()
}

/// A batch of three records with a field changed and a right CRC again.
fn with(field_at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = built(3, 0, Compression::None);
    batch[field_at..field_at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&batch[at::ATTRIBUTES..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// What a client that sends it is told.
fn refused(batch: &[u8]) -> BatchError {
    Batch::parse(batch)
        .and_then(|b| b.check_from_producer())
        .unwrap_err()
}

#[test]
fn case_001_crc_survives_stamping() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let bytes = built(3, 0, compression);
        let batch = Batch::parse(&bytes).unwrap();
        let stamp = Stamp {
            base_offset: 1 << 40,
            leader_epoch: 9,
            log_append_time: None,
        };
        let stamped = [&stamped_header(&batch, stamp), batch.payload()].concat();
        let read = Batch::parse(&stamped).unwrap();
        assert_eq!(read.header().base_offset, 1 << 40);
        assert_eq!(read.header().leader_epoch, 9);
        assert_eq!(read.header().crc, batch.header().crc);
        assert_eq!(stamped[16..], bytes[16..]);
        assert_eq!(
            read.records().unwrap().last().unwrap().unwrap().offset,
            (1 << 40) + 2
        );
    }
}

#[test]
fn case_002_every_flipped_bit_from_byte_21_on_is_a_wrong_crc() {
    let bytes = built(3, 0, Compression::None);
    for bit in at::ATTRIBUTES * 8..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = Batch::parse(&damaged).unwrap_err();
        assert!(
            matches!(error, BatchError::Crc { .. }),
            "bit {bit}: {error}"
        );
    }
    // The CRC itself.
    let mut damaged = bytes;
    damaged[at::CRC] ^= 1;
    assert!(matches!(
        Batch::parse(&damaged),
        Err(BatchError::Crc { .. })
    ));
}

#[test]
fn case_003_log_append_time_is_stamped_with_a_new_crc() {
    let bytes = built(3, 0, Compression::Snappy);
    let batch = Batch::parse(&bytes).unwrap();
    let append_time = Some(TIME + 5000);
    let stamp = Stamp {
        base_offset: 10,
        leader_epoch: 1,
        log_append_time: append_time,
    };
    let stamped = [&stamped_header(&batch, stamp), batch.payload()].concat();
    let read = Batch::parse(&stamped).unwrap();
    assert_eq!(read.header().max_timestamp, TIME + 5000);
    assert!(read.header().attributes.is_log_append_time());
    assert_eq!(read.compression(), Compression::Snappy);
    assert_ne!(read.header().crc, batch.header().crc);
    for record in read.records().unwrap() {
        assert_eq!(record.unwrap().timestamp, TIME + 5000);
    }
    // The fingerprint for such logs does not see the stamp, the other one would.
    assert_eq!(fingerprint(&read, true), fingerprint(&batch, true));
    assert_ne!(fingerprint(&read, false), fingerprint(&batch, false));
    // Stamping with what is there already changes nothing.
    let again = stamped_header(&read, stamp);
    assert_eq!(again, stamped[..61]);
}

#[test]
fn case_004_sequences_wrap_within_a_batch() {
    let bytes = built(3, MAX_SEQUENCE - 1, Compression::None);
    let batch = Batch::parse(&bytes).unwrap();
    batch.check_from_producer().unwrap();
    assert_eq!(batch.header().last_sequence(), 0);
    let records: Vec<Record> = batch.records().unwrap().map(Result::unwrap).collect();
    let sequences: Vec<_> = records.iter().map(|r| r.sequence).collect();
    assert_eq!(
        sequences,
        [Some(MAX_SEQUENCE - 1), Some(MAX_SEQUENCE), Some(0)]
    );
}

#[test]
fn case_009_control_batches_are_not_taken_from_clients() {
    let bits = Attributes::CONTROL | Attributes::TRANSACTIONAL;
    assert_eq!(
        refused(&with(at::ATTRIBUTES, &bits.to_be_bytes())),
        BatchError::Control
    );
    let marker = ControlRecord {
        kind: ControlKind::Commit,
        coordinator_epoch: 1,
    };
    assert_eq!(
        refused(&control_batch(7, 0, marker, TIME)),
        BatchError::Control
    );
}

#[test]
fn case_010_batches_without_records_are_not_taken_from_clients() {
    let emptied = with(at::RECORD_COUNT, &0i32.to_be_bytes());
    let error = BatchError::Count {
        record_count: 0,
        last_offset_delta: 2,
    };
    assert_eq!(refused(&emptied), error);
    // As compaction leaves it, only the header, it may lie in a log.
    let mut header_only = emptied[..61].to_vec();
    header_only[at::BATCH_LENGTH..at::LEADER_EPOCH].copy_from_slice(&49i32.to_be_bytes());
    let crc = crc32c(&header_only[at::ATTRIBUTES..]);
    header_only[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    let batch = Batch::parse(&header_only).unwrap();
    assert_eq!(batch.header().next_offset(), 3);
    assert_eq!(batch.records().unwrap().count(), 0);
}

#[test]
fn case_011_the_record_count_must_match_the_last_offset_delta() {
    for (record_count, last_offset_delta) in [
        (2, 2),
        (4, 2),
        (i32::MAX, 2),
        (-1, 2),
        (3, i32::MAX),
        (3, -1),
        (0, -1),
        (3, i32::MIN),
    ] {
        let mut bytes = with(at::RECORD_COUNT, &i32::to_be_bytes(record_count));
        bytes[at::LAST_OFFSET_DELTA..at::BASE_TIMESTAMP]
            .copy_from_slice(&i32::to_be_bytes(last_offset_delta));
        let crc = crc32c(&bytes[at::ATTRIBUTES..]);
        bytes[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        let error = BatchError::Count {
            record_count,
            last_offset_delta,
        };
        assert_eq!(refused(&bytes), error);
        // Fewer records may lie in a log, nothing else.
        if (record_count, last_offset_delta) != (2, 2) && last_offset_delta != i32::MAX {
            assert_eq!(Batch::parse(&bytes).unwrap_err(), error);
        }
    }
}

#[test]
fn case_012_a_producer_id_needs_a_base_sequence() {
    let (producer_id, producer_epoch, base_sequence) = (7, 0, -1);
    let error = BatchError::Identity {
        producer_id,
        producer_epoch,
        base_sequence,
    };
    assert_eq!(
        refused(&with(at::BASE_SEQUENCE, &(-1i32).to_be_bytes())),
        error
    );
}

#[test]
fn case_013_client_batches_begin_at_offset_0() {
    let error = BatchError::BaseOffset { base_offset: 5 };
    assert_eq!(refused(&with(at::BASE_OFFSET, &5i64.to_be_bytes())), error);
}

#[test]
fn case_018_markers_that_are_short_or_of_negative_version_are_refused() {
    let parse = |key: &[u8], value: &[u8]| {
        parse_control(&Record {
            offset: 0,
            timestamp: TIME,
            sequence: None,
            key: Some(key.to_vec().into()),
            value: Some(value.to_vec().into()),
            headers: Vec::new(),
        })
    };
    let value = [0, 0, 0, 0, 0, 17];
    let commit = Ok(Some(ControlRecord {
        kind: ControlKind::Commit,
        coordinator_epoch: 17,
    }));
    assert_eq!(parse(&[0, 0, 0, 1], &value), commit);
    // Newer versions, with more bytes.
    assert_eq!(parse(&[0, 9, 0, 1, 5], &[0, 9, 0, 0, 0, 17, 5]), commit);
    // Other types end no transaction, whatever their value.
    assert_eq!(parse(&[0, 0, 0, 2], &[]), Ok(None));
    for (key, value) in [
        (&[0, 0, 0][..], &value[..]),
        (&[], &value),
        (&[0, 0, 0, 1], &value[..5]),
        (&[0, 0, 0, 0], &[]),
        (&[0xff, 0xff, 0, 1], &value),
        (&[0, 0, 0, 1], &[0xff, 0xff, 0, 0, 0, 17]),
    ] {
        let result = parse(key, value);
        assert!(
            matches!(result, Err(BatchError::ControlRecord { .. })),
            "{key:?} {value:?}"
        );
    }
}

#[test]
fn case_050_a_producer_id_needs_an_epoch() {
    let (producer_id, producer_epoch, base_sequence) = (7, -1, 0);
    let error = BatchError::Identity {
        producer_id,
        producer_epoch,
        base_sequence,
    };
    assert_eq!(
        refused(&with(at::PRODUCER_EPOCH, &(-1i16).to_be_bytes())),
        error
    );
}
