//! What holds for any records and for any bytes.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers included"
)]

use proptest::prelude::*;
use record_batch::{
    Batch, BatchBuilder, Compression, ProducerIdentity, Record, Records, at, crc32c,
    record_size_upper_bound,
};

#[derive(Debug, Clone)]
struct Sent {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sent {
    fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.headers
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_deref()))
            .collect()
    }
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..300))
}

fn sent() -> impl Strategy<Value = Sent> {
    let header = (any::<String>(), bytes());
    (
        any::<i64>(),
        bytes(),
        bytes(),
        prop::collection::vec(header, 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| Sent {
            timestamp,
            key,
            value,
            headers,
        })
}

fn codec() -> impl Strategy<Value = Compression> {
    (0u8..5).prop_map(|id| Compression::from_id(id).unwrap())
}

fn assert_same(record: &Record, sent: &Sent) {
    assert_eq!(record.timestamp, sent.timestamp);
    assert_eq!(record.key.as_deref(), sent.key.as_deref());
    assert_eq!(record.value.as_deref(), sent.value.as_deref());
    let headers: Vec<(&str, Option<&[u8]>)> = record
        .headers
        .iter()
        .map(|h| (h.key.as_str(), h.value.as_deref()))
        .collect();
    assert_eq!(headers, sent.headers());
}

proptest! {
    #[test]
    fn what_is_built_reads_as_it_was_pushed(
        all in prop::collection::vec(sent(), 1..30),
        compression in codec(),
        transactional: bool,
        base_sequence in prop_oneof![0..=i32::MAX, i32::MAX - 20..=i32::MAX],
    ) {
        let mut builder =
            BatchBuilder::new().compression(compression).transactional(transactional);
        // A builder that was used before gives the same.
        builder.push(1, None, Some(b"before"), &[]).unwrap();
        builder.build(None).unwrap();
        builder.clear();
        for sent in &all {
            let before = builder.size_upper_bound();
            let (key, value, headers) = (sent.key.as_deref(), sent.value.as_deref(), sent.headers());
            builder.push(sent.timestamp, key, value, &headers).unwrap();
            let length = |b: Option<&[u8]>| b.map_or(0, <[u8]>::len);
            let bound = record_size_upper_bound(length(key), length(value), &headers);
            prop_assert!(builder.size_upper_bound() - before <= bound);
        }
        prop_assert_eq!(builder.len(), all.len());
        let bound = builder.size_upper_bound();
        let identity = ProducerIdentity { producer_id: 7, producer_epoch: 3, base_sequence };
        let first = builder.build(Some(identity)).unwrap().to_vec();
        // What the builder says of its batch is what everybody else reads.
        let said = builder.build_batch(Some(identity)).unwrap();
        let (built, said) = (said.bytes(), *said.header());
        prop_assert_eq!(&first[..], built);
        let batch = Batch::parse(built).unwrap();
        prop_assert_eq!(*batch.header(), said);
        batch.check_from_producer().unwrap();
        let header = batch.header();
        prop_assert_eq!(header.attributes.is_transactional(), transactional);
        prop_assert_eq!(header.base_timestamp, all[0].timestamp);
        prop_assert_eq!(Some(header.max_timestamp), all.iter().map(|s| s.timestamp).max());
        if batch.compression() == Compression::None {
            prop_assert_eq!(built.len(), bound);
        } else {
            prop_assert_eq!(batch.compression(), compression);
        }
        let records: Vec<Record> = batch.records().unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(records.len(), all.len());
        for ((record, sent), i) in records.iter().zip(&all).zip(0..) {
            assert_same(record, sent);
            prop_assert_eq!(record.offset, i);
            let sequence = (i64::from(base_sequence) + i) % (1 << 31);
            prop_assert_eq!(record.sequence.map(i64::from), Some(sequence));
        }
        let shared: Vec<Record> =
            Records::of(&first.clone().into()).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(shared, records);
    }

    #[test]
    fn random_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Batch::parse(&bytes).is_err());
    }

    /// Past the CRC: any bytes as header fields and as records.
    #[test]
    fn random_contents_with_a_right_crc_never_panic(
        fields in prop::collection::vec(any::<u8>(), 40),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        plausible: bool,
        compression in codec(),
    ) {
        let mut batch = vec![0; 21];
        batch.extend(fields);
        batch.extend(payload);
        let length = i32::try_from(batch.len() - at::LEADER_EPOCH).unwrap();
        batch[at::BATCH_LENGTH..at::LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
        batch[at::MAGIC] = 2;
        if plausible {
            batch[at::ATTRIBUTES + 1] = compression.id();
            batch[at::LAST_OFFSET_DELTA] = 0;
            batch[at::RECORD_COUNT..at::RECORDS].copy_from_slice(&2i32.to_be_bytes());
        }
        let crc = crc32c(&batch[at::ATTRIBUTES..]);
        batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        let Ok(batch) = Batch::parse(&batch) else { return Ok(()) };
        let _ = batch.check_from_producer();
        let _ = (batch.header().next_offset(), batch.header().last_sequence());
        let Ok(records) = batch.records() else { return Ok(()) };
        // At most one error, and at most a record for every 7 bytes.
        prop_assert!(records.count() <= 200 / 7 + 1);
    }

    /// One wrong byte within the records of a batch whose CRC is right.
    #[test]
    fn damaged_records_never_panic_nor_leave_the_batch(
        all in prop::collection::vec(sent(), 1..10),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut builder = BatchBuilder::new();
        for sent in &all {
            let headers = sent.headers();
            builder.push(sent.timestamp, sent.key.as_deref(), sent.value.as_deref(), &headers)
                .unwrap();
        }
        let mut batch = builder.build(None).unwrap().to_vec();
        let at = at::RECORDS + at.index(batch.len() - at::RECORDS);
        batch[at] = byte;
        let crc = crc32c(&batch[at::ATTRIBUTES..]);
        batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        let read: Vec<_> = Batch::parse(&batch).unwrap().records().unwrap().collect();
        let good = read.iter().filter(|r| r.is_ok()).count();
        prop_assert!(good <= all.len());
        prop_assert!(good == all.len() || read.last().unwrap().is_err());
    }
}
