//! Batches, their records, and what is compressed in them.

use record_batch::{
    Attributes, Batch, BatchBuilder, Compression, HEADER_BYTES, HeaderKey, Record, SourcePosition,
    Stamp, at, compress, crc32c, decompressed_limit, fingerprint, parse_control, stamped_header,
};

use crate::input::Input;

/// Most bytes that may come out of a compressed block here.
const LIMIT: usize = 1 << 20;

/// As they are, and once more with a right length and a right CRC.
pub fn batch_parse(data: &[u8]) {
    look_at(data);
    if data.len() >= HEADER_BYTES {
        let mut mended = data.to_vec();
        mend(&mut mended);
        look_at(&mended);
    }
    let mut rest = data;
    while let Ok((batch, left)) = Batch::parse_first(rest) {
        assert!(left.len() < rest.len() && !batch.bytes().is_empty());
        rest = left;
    }
}

/// Gives bytes the length, magic and CRC of a batch.
pub(crate) fn mend(bytes: &mut [u8]) {
    let length = i32::try_from(bytes.len() - at::LEADER_EPOCH).unwrap();
    bytes[at::BATCH_LENGTH..at::LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
    bytes[at::MAGIC] = 2;
    let crc = crc32c(&bytes[at::ATTRIBUTES..]);
    bytes[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

fn look_at(bytes: &[u8]) {
    let Ok(batch) = Batch::parse(bytes) else {
        return;
    };
    assert_eq!(batch.bytes(), bytes);
    let header = *batch.header();
    assert_eq!(header.size(), bytes.len());
    let _ = batch.check_from_producer();
    let _ = SourcePosition::of(&batch);
    let prints = [true, false].map(|time| fingerprint(&batch, time));
    let stamp = Stamp {
        base_offset: 77,
        leader_epoch: 3,
        log_append_time: None,
    };
    let stored = [&stamped_header(&batch, stamp)[..], batch.payload()].concat();
    let stored = Batch::parse(&stored).expect("a stamped batch is one");
    assert_eq!(stored.header().base_offset, 77);
    assert_eq!(prints, [true, false].map(|time| fingerprint(&stored, time)));
    let Ok(records) = batch.records_with_limit(LIMIT) else {
        return;
    };
    let mut last = None;
    let mut count = 0;
    let mut is_whole = true;
    for record in records {
        let Ok(record) = record else {
            is_whole = false;
            break;
        };
        let _ = parse_control(&record);
        assert!(last.is_none_or(|last| last < record.offset), "offsets rise");
        assert!(record.offset <= header.last_offset());
        last = Some(record.offset);
        count += 1;
    }
    if is_whole {
        assert_eq!(i64::from(header.record_count), count);
    } else {
        assert!(count <= i64::from(header.record_count));
    }
}

/// A payload in any codec, in a batch whose header fits it; what is read is built and read again.
pub fn records(data: &[u8]) {
    let mut input = Input(data);
    let attributes = i16::from(input.u8()) & (0b111 | Attributes::CONTROL);
    let count = i32::from(input.u8());
    let delta = i32::from(input.u8());
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[at::ATTRIBUTES..at::LAST_OFFSET_DELTA].copy_from_slice(&attributes.to_be_bytes());
    let last = (count - 1).max(delta - 128);
    bytes[at::LAST_OFFSET_DELTA..at::BASE_TIMESTAMP].copy_from_slice(&last.to_be_bytes());
    bytes[at::BASE_TIMESTAMP..at::PRODUCER_ID].fill(input.u8());
    bytes[at::PRODUCER_ID..at::RECORD_COUNT].fill(0xff);
    bytes[at::RECORD_COUNT..at::RECORDS].copy_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(input.bytes(usize::MAX));
    mend(&mut bytes);
    look_at(&bytes);
    let Ok(batch) = Batch::parse(&bytes) else {
        return;
    };
    let Ok(read) = batch.records_with_limit(LIMIT) else {
        return;
    };
    let Ok(records) = read.collect::<Result<Vec<Record>, _>>() else {
        return;
    };
    let compression = batch.compression();
    let mut builder = BatchBuilder::new().compression(compression);
    for record in &records {
        let headers: Vec<_> = record.headers.iter().map(header).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .push(record.timestamp, key, value, &headers)
            .unwrap();
    }
    let Ok(built) = builder.build(None) else {
        assert!(records.is_empty());
        return;
    };
    let again: Vec<Record> = Batch::parse(built)
        .unwrap()
        .records()
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(again.len(), records.len());
    for (again, before) in again.iter().zip(&records) {
        assert_eq!((&again.key, &again.value), (&before.key, &before.value));
        assert_eq!(again.headers, before.headers);
        assert_eq!(again.timestamp, before.timestamp);
    }
}

fn header(header: &record_batch::Header) -> (&str, Option<&[u8]>) {
    let key: &HeaderKey = &header.key;
    (key.as_str(), header.value.as_deref())
}

/// A block in any codec, and bytes that are compressed and read again.
pub fn decompress(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.u8();
    let codec = Compression::from_id(choice % 5).unwrap();
    let limit = usize::from(input.u16()) << (choice >> 5);
    let block = input.bytes(usize::MAX);
    let mut out = Vec::new();
    let done = record_batch::decompress(codec, block, limit, &mut out);
    assert!(out.len() <= limit, "I37: {} above {limit}", out.len());
    let mut again = Vec::new();
    let natural = decompressed_limit(block.len()).min(LIMIT);
    let wide = record_batch::decompress(codec, block, natural, &mut again);
    if done.is_ok() && wide.is_ok() {
        assert!(out == again, "the limit changes what comes out");
    }
    let mut small = Vec::new();
    if compress(codec, None, block, &mut small).is_ok() {
        let mut back = Vec::new();
        record_batch::decompress(codec, &small, block.len(), &mut back).unwrap();
        assert!(back == block);
    }
}
