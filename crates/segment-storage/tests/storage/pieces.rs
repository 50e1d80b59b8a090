//! Footers, scans, stored numbers and marks, each alone.

use std::sync::Arc;

use record_batch::{Batch, BatchError, HEADER_BYTES, at, crc32c};
use segment_storage::codec::{self, CodecError, NUMBER_MAX};
use segment_storage::{
    Check, Disk, FooterBuilder, Invalid, Marks, MemoryDisk, ScanError, Scanner, SlotError, SlotFile,
};
use serde::{Deserialize, Serialize};

use crate::harness::{DIRECTORY, LOG_ID, create, path, place, stamped, value};

const MAGIC: [u8; 4] = *b"TEST";

/// A file of `count` batches of one record, and the same batches.
fn file(count: u64, generation: i32) -> (MemoryDisk, Vec<Vec<u8>>) {
    let batches: Vec<_> = (0..count)
        .map(|n| stamped(&[(0, &value(n, 50))], n, generation))
        .collect();
    let disk = MemoryDisk::new();
    disk.write_file("log", &batches.concat()).unwrap();
    (disk, batches)
}

#[test]
fn footer_hashes_every_header_and_tells_both_generations() {
    // As many headers as are hashed at once, one less, one more, and more than twice as many.
    for count in [1, 66, 67, 68, 200] {
        let mut builder = FooterBuilder::new((LOG_ID, 0, 0));
        let mut headers = Vec::new();
        for n in 0..count {
            let generation = if n == 0 { 3 } else { 5 };
            let bytes = stamped(&[(0, &value(n, 50))], n, generation);
            let batch = Batch::parse(&bytes).unwrap();
            builder.add(batch.header(), &bytes[..HEADER_BYTES], n + 1);
            headers.extend_from_slice(&bytes[..HEADER_BYTES]);
        }
        let footer = builder.finish(1_234);
        let expected = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &headers);
        assert_eq!(footer.header_hash, expected, "{count} batches");
        let highest = if count == 1 { 3 } else { 5 };
        assert_eq!(footer.generations, (3, highest));
        assert_eq!((footer.batches, footer.records), (count, count));
        assert_eq!((footer.next_offset, footer.bytes), (count, 1_234));
    }
}

#[test]
fn scan_hands_out_the_bytes_of_the_batch_it_is_at() {
    let (disk, batches) = file(3, 1);
    let file = disk.open("log").unwrap();
    for check in [Check::Crc, Check::Headers] {
        let mut scanner = Scanner::new(&*file, (0, 0), file.len(), (1, 1), check);
        let mut position = 0;
        for batch in &batches {
            scanner.advance().unwrap().unwrap();
            assert_eq!(scanner.batch_position(), position);
            assert!(scanner.header_bytes() == &batch[..HEADER_BYTES]);
            assert!(scanner.batch_bytes().unwrap() == &batch[..]);
            position += batch.len() as u64;
            assert_eq!((scanner.position(), scanner.generation()), (position, 1));
        }
        assert!(scanner.advance().unwrap().is_none());
        assert_eq!(scanner.next_offset(), 3);
    }
}

fn refused(bytes: &[u8], generations: (i32, i32), check: Check) -> Option<Invalid> {
    let disk = MemoryDisk::new();
    disk.write_file("log", bytes).unwrap();
    let file = disk.open("log").unwrap();
    let mut scanner = Scanner::new(&*file, (0, 0), file.len(), generations, check);
    match scanner.advance() {
        Ok(_) => None,
        Err(ScanError::Invalid {
            position: 0,
            reason,
        }) => Some(reason),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn scan_takes_generations_from_the_lowest_to_the_highest() {
    let batch = stamped(&[(0, b"x")], 0, 4);
    for (generations, is_taken) in [
        ((4, 4), true),
        ((0, 4), true),
        ((4, 9), true),
        ((0, 3), false),
        ((5, 9), false),
    ] {
        let reason = refused(&batch, generations, Check::Headers);
        assert_eq!(reason.is_none(), is_taken, "{generations:?}: {reason:?}");
    }
}

#[test]
fn scan_tells_a_header_without_its_records_from_a_torn_header() {
    let batch = stamped(&[(0, b"x")], 0, 1);
    let bytes = batch.len() as u64;
    assert!(matches!(
        refused(&batch[..HEADER_BYTES], (0, 9), Check::Crc),
        Some(Invalid::BeyondEnd { bytes: b, left: 61 }) if b == bytes
    ));
    assert!(matches!(
        refused(&batch[..HEADER_BYTES - 1], (0, 9), Check::Crc),
        Some(Invalid::Batch(BatchError::Short { bytes: 60 }))
    ));
    for zeros in [1, 60, 61, 100] {
        let reason = refused(&vec![0; zeros], (0, 9), Check::Crc);
        assert!(
            matches!(reason, Some(Invalid::Unwritten)),
            "{zeros}: {reason:?}"
        );
    }
}

/// A batch whose counts are other than it was built with, its checksum right.
fn counted(record_count: i32, last_offset_delta: i32) -> Vec<u8> {
    let mut bytes = stamped(&[(0, b"x")], 0, 1);
    bytes[at::RECORD_COUNT..at::RECORD_COUNT + 4].copy_from_slice(&record_count.to_be_bytes());
    bytes[at::LAST_OFFSET_DELTA..at::LAST_OFFSET_DELTA + 4]
        .copy_from_slice(&last_offset_delta.to_be_bytes());
    let crc = crc32c(&bytes[at::ATTRIBUTES..]).to_be_bytes();
    bytes[at::CRC..at::CRC + 4].copy_from_slice(&crc);
    bytes
}

#[test]
fn scan_of_headers_refuses_counts_that_no_batch_has() {
    for (record_count, last_offset_delta, is_taken) in [
        (1, 0, true),
        // What compaction leaves of a batch.
        (0, 0, true),
        (0, 7, true),
        (-1, 0, false),
        (1, -1, false),
        (i32::MIN, i32::MIN, false),
    ] {
        let reason = refused(
            &counted(record_count, last_offset_delta),
            (0, 9),
            Check::Headers,
        );
        let is_count = matches!(reason, Some(Invalid::Batch(BatchError::Count { .. })));
        assert_eq!(reason.is_none(), is_taken, "{record_count}: {reason:?}");
        assert_eq!(is_count, !is_taken, "{record_count}: {reason:?}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Numbered {
    #[serde(deserialize_with = "codec::number")]
    number: u64,
}

#[test]
fn body_of_every_size_is_read() {
    for bytes in [1, 64 << 10, 100 << 10, 4 << 20, 5 << 20] {
        let value = "x".repeat(bytes);
        let frame = codec::encode(MAGIC, 1, &value);
        let read: String = codec::decode(MAGIC, 1, &frame).unwrap();
        assert!(read == value, "{bytes}");
    }
}

#[test]
fn number_above_all_that_can_be_is_not_believed() {
    let read = |number| {
        let frame = codec::encode(MAGIC, 1, &Numbered { number });
        codec::decode::<Numbered>(MAGIC, 1, &frame)
    };
    for number in [0, 1, NUMBER_MAX - 1, NUMBER_MAX] {
        assert_eq!(read(number).unwrap(), Numbered { number });
    }
    for number in [NUMBER_MAX + 1, u64::MAX] {
        let error = read(number).unwrap_err();
        assert!(matches!(error, CodecError::Body(_)), "{error}");
    }
}

#[test]
fn marks_of_a_new_log_forbid_no_producer_and_know_of_no_damage() {
    let disk = MemoryDisk::new();
    create(&place(disk.clone()));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let marks = Marks::open(&shared, DIRECTORY).unwrap();
    let start = marks.start().unwrap();
    assert_eq!((start.strict_below, start.forgotten_below), (0, -1));
    assert_eq!((start.offset, start.history_from), (0, 0));
    assert_eq!(marks.damaged_slots().unwrap(), [0, 0, 0]);
    let bytes = disk.read_file(&path("marks")).unwrap().len();
    assert_eq!(u64::try_from(bytes).unwrap(), Marks::BYTES);
    // Of the ceiling one, of the start both.
    for slot in [1_024, 2_048, 2_560] {
        disk.corrupt(&path("marks"), slot + 20, 1).unwrap();
    }
    assert_eq!(marks.damaged_slots().unwrap(), [0, 1, 2]);
    assert!(matches!(
        marks.start(),
        Err(SlotError::Damaged { pair: 2, .. })
    ));
}

fn slots(disk: &MemoryDisk) -> SlotFile {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    SlotFile::create(&disk, "", "slots", MAGIC, 1, |slots| slots.write(0, &1_u32)).unwrap()
}

#[test]
fn slot_that_was_never_written_is_not_damaged() {
    let disk = MemoryDisk::new();
    let slots = slots(&disk);
    assert_eq!(slots.damaged_slots(0).unwrap(), 0);
    assert_eq!(slots.valid_slots(0).unwrap(), 1);
    disk.corrupt("slots", 600, 1).unwrap();
    assert_eq!(slots.damaged_slots(0).unwrap(), 1);
}

/// A value whose sync failed is perhaps not on the device: the one before it must not give way.
#[test]
fn value_whose_sync_failed_is_not_repeated_over_the_synced_one() {
    let disk = MemoryDisk::new();
    let slots = slots(&disk);
    slots.write(0, &2_u32).unwrap();
    slots.sync().unwrap();
    slots.write(0, &3_u32).unwrap();
    disk.fail_syncs(1);
    slots.sync().unwrap_err();
    let before = disk.read_file("slots").unwrap();
    slots.repeat::<u32>(0).unwrap();
    assert!(disk.read_file("slots").unwrap() == before);
    slots.sync().unwrap();
    assert_eq!(slots.read_synced::<u32>(0).unwrap(), 2);
    let disk: Arc<dyn Disk> = Arc::new(disk.after_power_cut());
    let slots = SlotFile::open(&disk, "", "slots", MAGIC, 1).unwrap();
    assert_eq!(slots.read::<u32>(0).unwrap(), 2);
}
