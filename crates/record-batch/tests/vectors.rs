//! Batches that two other implementations (kafka-python and aiokafka) made and agree on.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers included"
)]

use bytes::Bytes;
use record_batch::{
    Batch, BatchBuilder, BatchError, Compression, ControlKind, ControlRecord, ProducerIdentity,
    Record, Records, Stamp, control_batch, parse_control, stamped_header,
};
use serde_json::Value;

struct Vector {
    name: String,
    bytes: Bytes,
    header: Value,
    records: Vec<Value>,
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn vectors() -> Vec<Vector> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/record_batches.json"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(all.len(), 32);
    let vector = |v: Value| Vector {
        name: v["name"].as_str().unwrap().to_owned(),
        bytes: unhex(v["hex"].as_str().unwrap()).into(),
        header: v["header"].clone(),
        records: v["records"].as_array().unwrap().clone(),
    };
    all.into_iter().map(vector).collect()
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|v| v.name == name).unwrap()
}

fn bytes_or_null(value: &Value) -> Option<Vec<u8>> {
    value.as_str().map(unhex)
}

fn assert_is(record: &Record, expected: &Value, name: &str) {
    assert_eq!(
        record.offset,
        expected["offset"].as_i64().unwrap(),
        "{name}"
    );
    assert_eq!(
        record.timestamp,
        expected["timestamp"].as_i64().unwrap(),
        "{name}"
    );
    assert_eq!(
        record.key.as_deref(),
        bytes_or_null(&expected["key"]).as_deref(),
        "{name}"
    );
    assert_eq!(
        record.value.as_deref(),
        bytes_or_null(&expected["value"]).as_deref(),
        "{name}"
    );
    let headers = expected["headers"].as_array().unwrap();
    assert_eq!(record.headers.len(), headers.len(), "{name}");
    for (header, expected) in record.headers.iter().zip(headers) {
        assert_eq!(header.key, expected[0].as_str().unwrap(), "{name}");
        assert_eq!(
            header.value.as_deref(),
            bytes_or_null(&expected[1]).as_deref(),
            "{name}"
        );
    }
}

/// Builds a batch of the same records, as a producer would have.
fn rebuilt(vector: &Vector) -> Result<Vec<u8>, BatchError> {
    let batch = Batch::parse(&vector.bytes)?;
    let header = batch.header();
    let mut builder = BatchBuilder::new().transactional(header.attributes.is_transactional());
    for record in batch.records()? {
        let record = record?;
        let headers: Vec<(&str, Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|h| (h.key.as_str(), h.value.as_deref()))
            .collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(record.timestamp, key, value, &headers)?;
    }
    let identity = header.has_producer().then_some(ProducerIdentity {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    });
    builder.build(identity).map(<[u8]>::to_vec)
}

#[test]
fn every_header_reads_as_stated() {
    for Vector {
        name,
        bytes,
        header: expected,
        ..
    } in vectors()
    {
        let batch = Batch::parse(&bytes).unwrap();
        let header = batch.header();
        let fields = [
            ("base_offset", header.base_offset),
            ("batch_length", header.batch_length.into()),
            ("partition_leader_epoch", header.leader_epoch.into()),
            ("magic", 2),
            ("crc", header.crc.into()),
            ("attributes", header.attributes.0.into()),
            ("last_offset_delta", header.last_offset_delta.into()),
            ("base_timestamp", header.base_timestamp),
            ("max_timestamp", header.max_timestamp),
            ("producer_id", header.producer_id),
            ("producer_epoch", header.producer_epoch.into()),
            ("base_sequence", header.base_sequence.into()),
            ("records_count", header.record_count.into()),
        ];
        assert_eq!(expected.as_object().unwrap().len(), fields.len());
        for (field, value) in fields {
            assert_eq!(expected[field].as_i64(), Some(value), "{name}: {field}");
        }
    }
}

#[test]
fn every_record_reads_as_stated() {
    let mut codecs = [0; 5];
    for Vector {
        name,
        bytes,
        records: expected,
        ..
    } in vectors()
    {
        let batch = Batch::parse(&bytes).unwrap();
        codecs[usize::from(batch.compression().id())] += 1;
        let copied: Result<Vec<_>, _> = batch.records().unwrap().collect();
        let shared: Result<Vec<_>, _> = Records::of(&bytes).unwrap().collect();
        let records = shared.unwrap();
        assert_eq!(copied.unwrap(), records, "{name}");
        assert_eq!(records.len(), expected.len(), "{name}");
        for (record, expected) in records.iter().zip(&expected) {
            assert_is(record, expected, &name);
        }
    }
    assert!(codecs.iter().all(|count| *count >= 2), "{codecs:?}");
}

#[test]
fn uncompressed_records_are_slices_of_the_batch() {
    let bytes = vector("aiokafka: 20 flights, none").bytes;
    let inside = bytes.as_ptr_range();
    for record in Records::of(&bytes).unwrap() {
        let value = record.unwrap().value.unwrap();
        assert!(inside.contains(&value.as_ptr()));
    }
}

#[test]
fn uncompressed_batches_are_built_byte_for_byte() {
    let mut compared = 0;
    for vector in vectors() {
        let batch = Batch::parse(&vector.bytes).unwrap();
        let by_producer = !vector.name.starts_with("stamped") && !vector.name.contains("control");
        if batch.compression() != Compression::None || !by_producer {
            continue;
        }
        let mut expected = vector.bytes.to_vec();
        // Java writes leader epoch -1 as we do, these libraries 0; it is outside of the CRC.
        expected[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        assert_eq!(rebuilt(&vector).unwrap(), expected, "{}", vector.name);
        compared += 1;
    }
    assert_eq!(compared, 16);
}

#[test]
fn stamped_batches_are_made_byte_for_byte() {
    let plain = vector("stamped: base offset 4711, leader epoch 5, CRC untouched");
    let by_producer = rebuilt(&plain).unwrap();
    let batch = Batch::parse(&by_producer).unwrap();
    let stamp = Stamp {
        base_offset: 4711,
        leader_epoch: 5,
        log_append_time: None,
    };
    assert_eq!(
        [&stamped_header(&batch, stamp), batch.payload()].concat(),
        plain.bytes
    );

    let append_time = vector("stamped: log-append time");
    let stamp = Stamp {
        log_append_time: Some(1_357_034_400_099),
        ..stamp
    };
    assert_eq!(
        [&stamped_header(&batch, stamp), batch.payload()].concat(),
        append_time.bytes
    );
}

#[test]
fn control_batches_are_made_and_read_byte_for_byte() {
    for (word, kind) in [
        ("abort", ControlKind::Abort),
        ("commit", ControlKind::Commit),
    ] {
        let Vector { bytes, .. } = vector(&format!(
            "control batch: {word} marker, coordinator epoch 17"
        ));
        let marker = ControlRecord {
            kind,
            coordinator_epoch: 17,
        };
        let record = Records::of(&bytes).unwrap().next().unwrap().unwrap();
        assert_eq!(parse_control(&record), Ok(Some(marker)));
        let built = control_batch(11, 2, marker, 1_357_034_400_000);
        let batch = Batch::parse(&built).unwrap();
        let stamp = Stamp {
            base_offset: 50,
            leader_epoch: 5,
            log_append_time: None,
        };
        assert_eq!(
            [&stamped_header(&batch, stamp), batch.payload()].concat(),
            bytes,
            "{word}"
        );
    }
}
