//! Appending, rolling, preparing.

use std::io;

use segment_storage::{
    Cursor, Disk, MemoryDisk, OsDisk, SEGMENT_BYTES_MIN, Visibility, WriteError,
};

use crate::harness::{
    TestLog, batch, config, create, entries_of, files, numbered, path, place, segment_path, synced,
    value, written,
};

#[test]
fn what_is_appended_is_read_over_rolls() {
    for visibility in [Visibility::Synced, Visibility::Written] {
        let disk = MemoryDisk::new();
        let mut log = TestLog::new(&disk, config(4096, visibility));
        log.append_numbered(100, 200);
        log.commit().unwrap();
        assert_eq!(log.entries(), numbered(0, 100, 200), "{visibility:?}");
        let bases: Vec<u64> = log
            .view()
            .segments()
            .iter()
            .map(|s| s.base_offset())
            .collect();
        assert_eq!(bases, [0, 15, 30, 45, 60, 75, 90], "{visibility:?}");
    }
}

#[test]
fn the_same_on_real_files() {
    let root = tempfile::tempdir().unwrap();
    let disk = OsDisk::open(root.path().to_owned()).unwrap();
    let place = place(disk);
    create(&place);
    let mut log = TestLog::open(place.clone(), synced(1 << 20), 1);
    // Large batches take the positional way, small ones the map.
    for n in 0..60 {
        log.append(&[&value(n, if n % 3 == 0 { 60_000 } else { 100 })]);
        if n % 7 == 0 {
            log.commit().unwrap();
        }
    }
    log.commit().unwrap();
    let expected: Vec<_> = (0..60)
        .map(|n| (n, value(n, if n % 3 == 0 { 60_000 } else { 100 })))
        .collect();
    assert_eq!(log.entries(), expected);
    log.close().unwrap();
    let again = TestLog::open(place, synced(1 << 20), 2);
    assert!(again.found.clean);
    assert_eq!(again.entries(), expected);
}

#[test]
fn capacity_begins_at_256_kib_and_doubles_with_each_roll() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(2 << 20));
    let mut capacities = Vec::new();
    for n in 0..400 {
        let bytes = batch(&[(0, &value(n, 20_000))]);
        if let Err(error) = log.put(&bytes) {
            assert!(matches!(error, WriteError::NoSegment { bytes: b } if b > 20_000));
            let wanted = log.log.wanted().unwrap();
            capacities.push(wanted.capacity());
            log.log.offer(wanted.prepare().unwrap());
            log.put(&bytes).unwrap();
        }
    }
    let min = SEGMENT_BYTES_MIN;
    assert_eq!(
        capacities,
        [min, 2 * min, 4 * min, 8 * min, 8 * min, 8 * min]
    );
}

#[test]
fn next_segment_is_wanted_when_half_is_used_and_doubles_too() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4 << 20));
    log.append(&[&value(0, 100_000)]);
    assert!(!log.log.is_segment_wanted());
    assert!(log.log.wanted().is_none());
    log.append(&[&value(1, 100_000)]);
    assert!(log.log.is_segment_wanted());
    let wanted = log.log.wanted().unwrap();
    assert_eq!(wanted.capacity(), 2 * SEGMENT_BYTES_MIN);
    // One at a time.
    assert!(!log.log.is_segment_wanted());
    assert!(log.log.wanted().is_none());
    log.log.offer(wanted.prepare().unwrap());
    assert!(log.log.wanted().is_none());
    // The roll takes it without asking.
    let bytes = batch(&[(0, &value(2, 100_000))]);
    assert_eq!(log.put(&bytes).unwrap(), 2);
    assert_eq!(log.view().segments().len(), 2);
    // From the second segment on a quarter is enough.
    assert!(!log.log.is_segment_wanted());
    log.append(&[&value(3, 50_000)]);
    assert!(log.log.is_segment_wanted());
    log.commit().unwrap();
    assert_eq!(log.log.next_offset(), 4);
    assert_eq!(log.entries()[..3], numbered(0, 3, 100_000));
}

#[test]
fn failed_preparation_is_asked_for_again() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    disk.set_free_bytes(1000);
    let bytes = batch(&[(0, b"first")]);
    let before = (log.log.next_offset(), files(&disk));
    for _ in 0..3 {
        let error = log.put(&bytes).unwrap_err();
        assert!(matches!(error, WriteError::NoSegment { .. }), "{error}");
        let error = log.feed().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        // I12: no offset, no file.
        assert_eq!((log.log.next_offset(), files(&disk)), before);
    }
    disk.set_free_bytes(1 << 20);
    log.put(&bytes).unwrap_err();
    log.feed().unwrap();
    assert_eq!(log.put(&bytes).unwrap(), 0);
}

#[test]
fn batch_above_the_segment_size_is_refused_whole() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append(&[b"first"]);
    let largest = 4096 - batch(&[(0, &[0; 2000])]).len() + 2000;
    let fits = vec![7; largest];
    let error = log.try_append(&[(0, &[&fits[..], &[7]].concat())]);
    assert!(
        matches!(
            error,
            Err(WriteError::TooLarge {
                bytes: 4097,
                limit: 4096
            })
        ),
        "{error:?}"
    );
    assert_eq!(log.append(&[&fits]), 1);
    log.commit().unwrap();
    assert_eq!(log.entries(), [(0, b"first".to_vec()), (1, fits)]);
}

#[test]
fn batch_larger_than_what_was_prepared_gets_a_larger_one() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(8 << 20));
    log.append_numbered(2, 100_000);
    log.feed().unwrap();
    assert!(files(&disk).contains(&"next-2.segment".to_owned()));
    let large = value(2, 3_000_000);
    let bytes = batch(&[(0, &large)]);
    assert!(matches!(log.put(&bytes), Err(WriteError::NoSegment { .. })));
    assert!(!files(&disk).contains(&"next-2.segment".to_owned()));
    log.feed().unwrap();
    assert_eq!(log.put(&bytes).unwrap(), 2);
    log.commit().unwrap();
    assert_eq!(log.entries().len(), 3);
}

#[test]
fn refused_append_leaves_no_trace() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(10, 200);
    let image = (
        log.log.next_offset(),
        log.view().segments().len(),
        log.log.active_bytes(),
    );
    let bytes = batch(&[(0, &[1; 3000])]);
    assert!(matches!(log.put(&bytes), Err(WriteError::NoSegment { .. })));
    let after = (
        log.log.next_offset(),
        log.view().segments().len(),
        log.log.active_bytes(),
    );
    assert_eq!(image, after);
    // A batch that still fits goes on in the old segment.
    assert_eq!(log.put(&batch(&[(0, &value(10, 200))])).unwrap(), 10);
    log.commit().unwrap();
    assert_eq!(log.entries(), numbered(0, 11, 200));
}

#[test]
fn failed_write_into_a_reserved_file_fences() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(3, 10);
    log.commit().unwrap();
    disk.fail_next_write(io::ErrorKind::StorageFull);
    let error = log.try_append(&[(0, b"x")]).unwrap_err();
    assert!(
        matches!(&error, WriteError::Latched(l) if l.operation == "write"),
        "{error}"
    );
    let error = log.try_append(&[(0, b"x")]).unwrap_err();
    assert!(
        matches!(&error, WriteError::Latched(l) if l.operation == "write"),
        "{error}"
    );
    assert_eq!(log.log.next_offset(), 3);
    // Reads go on.
    assert_eq!(log.entries(), numbered(0, 3, 10));
}

#[test]
fn only_what_is_synced_is_shown_at_synced() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(20, 200);
    assert_eq!((log.view().published(), log.log.synced_offset()), (0, 0));
    assert_eq!(log.entries(), []);
    let items = log.log.begin_sync(true);
    assert_eq!(items.len(), 2);
    // Written while the sync runs: not covered by it.
    log.append_numbered(2, 200);
    items[0].sync().unwrap();
    log.log.synced(&items[0]);
    assert_eq!(log.view().published(), 15);
    items[1].sync().unwrap();
    log.log.synced(&items[1]);
    assert_eq!((log.view().published(), log.log.synced_offset()), (20, 20));
    assert_eq!(log.entries(), numbered(0, 20, 200));
    assert!(log.log.is_dirty());
    log.commit().unwrap();
    assert_eq!(log.entries(), numbered(0, 22, 200));
}

#[test]
#[should_panic(expected = "oldest first")]
fn segments_are_noted_as_synced_in_order() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(20, 200);
    let items = log.log.begin_sync(true);
    items[1].sync().unwrap();
    log.log.synced(&items[1]);
}

#[test]
fn rolled_segments_alone_are_synced_where_nobody_waits() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(4096));
    log.append_numbered(10, 200);
    assert_eq!(log.log.begin_sync(false).len(), 0);
    assert!(!log.log.is_turn_due());
    log.append_numbered(10, 200);
    assert_eq!(log.log.begin_sync(false).len(), 1);
    assert_eq!(log.log.begin_sync(true).len(), 2);
    assert!(log.log.is_turn_due());
}

/// R9, R12, R15: the mark passes a segment only after its footer, and a sealed file ends at its
/// last batch.
#[test]
fn mark_waits_for_the_footer() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(20, 200);
    let items = log.log.begin_sync(true);
    assert!(log.log.to_seal().is_none(), "unsynced");
    let mut marks = Vec::new();
    for item in &items {
        item.sync().unwrap();
        log.log.synced(item);
        marks.push(log.log.mark_after(item));
    }
    let first = marks[0].unwrap();
    assert_eq!((first.segment_base, first.next_offset), (0, 15));
    assert_eq!(marks[1], None);
    assert_eq!(log.log.mark_now(), None);

    let segment = log.log.to_seal().unwrap();
    assert_eq!(segment.base_offset(), 0);
    assert!(segment.footer().is_none());
    segment.cut().unwrap();
    segment.cut().unwrap();
    let footer = segment.write_footer(segment_storage::Check::Crc).unwrap();
    let len = disk.read_file(&segment_path(0)).unwrap().len();
    assert_eq!((footer.bytes, footer.bytes), (first.position, len as u64));
    assert_eq!(
        (
            footer.base_offset,
            footer.next_offset,
            footer.batches,
            footer.records
        ),
        (0, 15, 15, 15)
    );
    assert_eq!(footer.generations, (1, 1));
    assert_eq!(log.log.mark_now(), None, "not noted as sealed yet");
    log.log.sealed(&segment);
    let now = log.log.mark_now().unwrap();
    assert_eq!(
        (
            now.segment_base,
            now.next_offset,
            now.previous_end,
            now.clean
        ),
        (15, 20, 15, false)
    );
    assert!(log.log.to_seal().is_none());
    assert!(disk.read_file(&path("00000000000000000000.footer")).is_ok());
}

#[test]
fn roll_ends_a_segment_early_and_an_empty_one_not_at_all() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.log.roll();
    log.append(&[b"a"]);
    log.log.roll();
    log.log.roll();
    log.append(&[b"b"]);
    log.commit().unwrap();
    let bases: Vec<u64> = log
        .view()
        .segments()
        .iter()
        .map(|s| s.base_offset())
        .collect();
    assert_eq!(bases, [0, 1]);
    assert_eq!(log.entries(), [(0, b"a".to_vec()), (1, b"b".to_vec())]);
}

#[test]
fn a_batch_is_read_whole_from_any_of_its_offsets_and_runs_respect_the_limits() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    for n in 0..50 {
        let values: Vec<Vec<u8>> = (0..4).map(|k| value(n * 4 + k, 300)).collect();
        let values: Vec<&[u8]> = values.iter().map(|v| &v[..]).collect();
        log.append(&values);
    }
    log.commit().unwrap();
    let view = log.view();
    for offset in 0..200 {
        let mut cursor = Cursor::at(offset);
        let run = view.read(&mut cursor, 200, 1).unwrap().unwrap();
        let entries = entries_of(&run.bytes);
        let first = offset / 4 * 4;
        assert_eq!(entries, numbered(first, first + 4, 300), "offset {offset}");
        assert_eq!(cursor.offset, first + 4);
    }
    let mut cursor = Cursor::at(3);
    let run = view.read(&mut cursor, 12, usize::MAX).unwrap().unwrap();
    assert_eq!(entries_of(&run.bytes), numbered(0, 12, 300));
    assert!(view.read(&mut cursor, 12, usize::MAX).unwrap().is_none());
    let mut cursor = Cursor::at(0);
    let run = view.read(&mut cursor, 200, 5000).unwrap().unwrap();
    assert!(run.bytes.len() <= 5000 && run.bytes.len() > 3000);
    // A cursor that is moved by hand forgets where it was.
    cursor.offset = 2;
    let run = view.read(&mut cursor, 200, 1).unwrap().unwrap();
    assert_eq!(entries_of(&run.bytes)[0].0, 0);
}

#[test]
fn other_handles_see_the_published_end_of_a_file_only() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(3, 10);
    let before = disk.bytes_written();
    log.append_numbered(1, 10);
    // R29: an append writes its batch and nothing else.
    let batch = batch(&[(0, &value(3, 10))]);
    assert_eq!(disk.bytes_written() - before, batch.len() as u64);
    assert_eq!(disk.free_bytes().unwrap(), u64::MAX);
}
