//! Below the stable mark nothing is cut: the log opens for reading, and all that is not damaged can
//! be read (I24, I26, I27, R12, R13).

use segment_storage::{Disk, MemoryDisk, OpenError, ReadError, SegmentedLog, SlotError, names};

use crate::harness::{
    LOG_ID, TestLog, contents, numbered, path, place, read_all, segment_path, stamped, synced,
    value, written,
};

/// Forty batches of one record, sealed in segments of ten, closed cleanly or killed.
fn forty(is_closed: bool) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    for n in 0..4 {
        log.append_numbered(10, 1000);
        if n < 3 {
            log.log.roll();
        }
    }
    log.commit().unwrap();
    if is_closed {
        log.close().unwrap();
    }
    // With the indexes, which a power cut might take.
    disk.after_kill()
}

fn batch_bytes() -> u64 {
    stamped(&[(0, &value(0, 1000))], 0, 1).len() as u64
}

/// What can be read: after each error it goes on where the view says.
fn readable(log: &TestLog) -> (Vec<u64>, Vec<ReadError>) {
    let view = log.view();
    let (mut offsets, mut errors) = (Vec::new(), Vec::new());
    let mut from = view.start();
    loop {
        let mut cursor = segment_storage::Cursor::at(from);
        match view.read(&mut cursor, view.published(), 1) {
            Ok(Some(run)) => {
                for (offset, found) in crate::harness::entries_of(&run.bytes) {
                    assert!(found == value(offset, 1000), "offset {offset}");
                    offsets.push(offset);
                }
                from = cursor.offset;
            }
            Ok(None) => return (offsets, errors),
            Err(error) => {
                // I27: the reader stays, and the error repeats.
                assert_eq!(cursor.offset, from);
                let again = view.read(&mut cursor, view.published(), 1).unwrap_err();
                assert_eq!(again.to_string(), error.to_string());
                errors.push(error);
                match view.next_readable(from) {
                    Some(next) => {
                        assert!(next > from);
                        from = next;
                    }
                    None => return (offsets, errors),
                }
            }
        }
    }
}

fn without(gone: std::ops::Range<u64>) -> Vec<u64> {
    (0..40).filter(|offset| !gone.contains(offset)).collect()
}

/// Opens the damaged log twice: it says where, changes nothing, and shows all but `gone`.
fn assert_corrupt(disk: &MemoryDisk, file: &str, position: u64, gone: std::ops::Range<u64>) {
    let before = contents(disk);
    for generation in 2..4 {
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), generation);
        let corruption = log.found.corruption.clone().unwrap();
        assert_eq!(corruption.file, format!("memory:{file}"), "{corruption}");
        assert_eq!(corruption.position, position, "{corruption}");
        assert_eq!(log.found.cut, []);
        assert_eq!(log.found.removed, [""; 0]);
        let (offsets, errors) = readable(&log);
        assert_eq!(offsets, without(gone.clone()), "{corruption}");
        assert!(
            !errors.is_empty(),
            "what is missing is not passed over silently"
        );
        assert!(
            errors
                .iter()
                .all(|e| matches!(e, ReadError::Corrupt { .. })),
            "{errors:?}"
        );
        assert!(log.log.next_offset() >= 40);
    }
    assert!(before == contents(disk), "nothing is written");
}

#[test]
fn damaged_bytes_below_the_mark_are_reported_and_all_else_is_read() {
    // Offset 33 is in the last segment, in which the mark is: it was scanned by the open.
    let at = 3 * batch_bytes();
    for (byte, what) in [
        (500, "payload"),
        (17, "crc"),
        (3, "base offset"),
        (15, "leader epoch"),
        (16, "magic"),
        (9, "length"),
        (22, "attributes"),
        (60, "count"),
    ] {
        let disk = forty(false);
        disk.corrupt(&segment_path(30), at + byte, 0x20).unwrap();
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        let corruption = log.found.corruption.clone().unwrap();
        assert_eq!(
            (
                corruption.file.as_str(),
                corruption.position,
                corruption.offset
            ),
            (format!("memory:{}", segment_path(30)).as_str(), at, 33),
            "{what}"
        );
        let (offsets, errors) = readable(&log);
        assert!(offsets.starts_with(&without(33..40)), "{what}");
        if what == "leader epoch" {
            // No checksum covers it: the open finds it, a reader cannot.
            assert_eq!(offsets, without(0..0));
        } else {
            assert_eq!(errors.len(), 1, "{what}: {errors:?}");
        }
        if what == "payload" || what == "crc" {
            // The index, made anew from the headers, leads behind the damage.
            assert!(offsets.ends_with(&[37, 38, 39]), "{what}");
        }
    }
}

#[test]
fn index_leads_behind_a_damaged_header_of_a_sealed_segment() {
    // The last takes the offset of the batch before: the base offset has no checksum.
    for (byte, bit) in [(3, 0x20), (16, 0x20), (9, 0x20), (7, 1)] {
        let disk = forty(true);
        // A clean open does not scan sealed segments; a reader finds the damage.
        disk.corrupt(&segment_path(10), 3 * batch_bytes() + byte, bit)
            .unwrap();
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        assert!(log.found.clean);
        for _ in 0..2 {
            let (offsets, errors) = readable(&log);
            assert_eq!(errors.len(), 1);
            // The next entry of the index is that of offset 14.
            assert_eq!(offsets, without(13..14), "byte {byte}");
        }
        // I27: whoever begins behind the damage does not notice it.
        assert_eq!(read_all(log.view(), 14).unwrap(), numbered(14, 40, 1000));
        assert!(read_all(log.view(), 12).is_err());
    }
}

#[test]
fn damaged_batch_that_the_index_names_hides_nothing_behind_it() {
    for byte in [3, 16, 9, 500] {
        let disk = forty(true);
        // With 1,000 bytes each, every fifth batch or so has an entry: 14 is one.
        disk.corrupt(&segment_path(10), 4 * batch_bytes() + byte, 0x20)
            .unwrap();
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        for _ in 0..2 {
            let (offsets, errors) = readable(&log);
            assert_eq!(errors.len(), 1);
            assert_eq!(offsets, without(14..18), "byte {byte}");
            let segments = log.view().segments();
            let index = segments[1].index().unwrap().entries();
            assert!(
                index.iter().any(|e| e.relative_offset == 8),
                "byte {byte}: {index:?}"
            );
        }
    }
}

#[test]
fn sealed_segment_of_another_length_is_corruption() {
    for is_closed in [true, false] {
        let whole = 10 * batch_bytes();
        for (len, gone) in [
            (7 * batch_bytes(), 17..20),
            (7 * batch_bytes() + 300, 17..20),
            (7 * batch_bytes() + 10, 17..20),
            (0, 10..20),
        ] {
            let disk = forty(is_closed);
            let mut file = disk.read_file(&segment_path(10)).unwrap();
            assert_eq!(file.len() as u64, whole);
            file.truncate(usize::try_from(len).unwrap());
            disk.write_file(&segment_path(10), &file).unwrap();
            assert_corrupt(&disk, &segment_path(10), len, gone);
        }
        let disk = forty(is_closed);
        let mut file = disk.read_file(&segment_path(10)).unwrap();
        file.extend([0; 100]);
        disk.write_file(&segment_path(10), &file).unwrap();
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        assert_eq!(log.found.corruption.clone().unwrap().position, whole);
        // All that the footer knows is there.
        assert_eq!(readable(&log).0, without(0..0));
    }
}

#[test]
fn mark_before_its_segment_is_corruption() {
    let disk = forty(true);
    let shared = place(disk.clone()).disk;
    let marks = segment_storage::Marks::open(&shared, crate::harness::DIRECTORY).unwrap();
    let mut mark = marks.mark().unwrap();
    assert_eq!((mark.segment_base, mark.next_offset), (30, 40));
    mark.next_offset = 29;
    marks.store_mark(&mark).unwrap();
    let log = TestLog::open(place(disk), synced(1 << 20), 2);
    let corruption = log.found.corruption.clone().unwrap().to_string();
    assert!(corruption.contains("offset 29 of a segment that begins at 30"));
    assert!(readable(&log).0.starts_with(&without(30..40)));
}

/// A batch from elsewhere that ends where the next file has begun long since.
#[test]
fn no_offset_is_read_from_two_files() {
    for is_closed in [true, false] {
        let disk = forty(is_closed);
        let values: Vec<Vec<u8>> = (0..15).map(|n| value(n, 1000)).collect();
        let records: Vec<(i64, &[u8])> = values.iter().map(|v| (0, &v[..])).collect();
        let foreign = stamped(&records, 0, 1);
        disk.write_file(&segment_path(0), &foreign).unwrap();
        disk.remove(&path(&names::footer(0))).unwrap();
        // Its footer is made anew, and does not go with the file behind it.
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        assert!(log.found.corruption.is_some());
        let (offsets, errors) = readable(&log);
        assert_eq!(offsets, without(0..10));
        let text = errors[0].to_string();
        assert!(
            text.contains("ends at offset 15, and the next file begins at 10"),
            "{text}"
        );
    }
}

#[test]
fn missing_segments_are_corruption() {
    for is_closed in [true, false] {
        for (missing, reported) in [(0, 10), (10, 10), (20, 20), (30, 30)] {
            let disk = forty(is_closed);
            disk.remove(&segment_path(missing)).unwrap();
            assert_corrupt(&disk, &segment_path(reported), 0, missing..missing + 10);
        }
        // With the footer that would tell.
        let disk = forty(is_closed);
        disk.remove(&segment_path(10)).unwrap();
        disk.remove(&path(&names::footer(20))).unwrap();
        assert_corrupt(&disk, &segment_path(10), 0, 10..20);
    }
}

#[test]
fn segment_of_the_mark_that_is_too_short_is_corruption() {
    for is_closed in [true, false] {
        for len in [5 * batch_bytes(), 5 * batch_bytes() + 200] {
            let disk = forty(is_closed);
            let mut file = disk.read_file(&segment_path(30)).unwrap();
            file.truncate(usize::try_from(len).unwrap());
            disk.write_file(&segment_path(30), &file).unwrap();
            let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
            let reason = log.found.corruption.clone().unwrap().reason;
            assert!(reason.contains("expected"), "{reason}");
            let (offsets, errors) = readable(&log);
            assert_eq!(offsets, without(35..40));
            assert_eq!(errors.len(), 1, "{errors:?}");
        }
    }
}

#[test]
fn missing_or_damaged_footers_are_made_anew_after_a_full_check() {
    for is_closed in [true, false] {
        let disk = forty(is_closed);
        disk.remove(&path(&names::footer(0))).unwrap();
        disk.corrupt(&path(&names::footer(10)), 20, 1).unwrap();
        disk.write_file(&path(&names::footer(20)), b"").unwrap();
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        assert_eq!(log.found.corruption, None);
        let rebuilt: Vec<_> = [0, 10, 20].map(names::segment).to_vec();
        assert_eq!(log.found.footers_rebuilt, rebuilt);
        assert_eq!(log.entries(), numbered(0, 40, 1000));
        drop(log);
        let log = TestLog::open(place(disk.after_power_cut()), synced(1 << 20), 3);
        assert_eq!(log.found.footers_rebuilt, [""; 0]);
    }
    // The full check finds what a reader would.
    let disk = forty(true);
    disk.remove(&path(&names::footer(10))).unwrap();
    disk.corrupt(&segment_path(10), 500, 1).unwrap();
    let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    assert_eq!(log.found.corruption.clone().unwrap().position, 0);
    assert!(disk.read_file(&path(&names::footer(10))).is_err());
}

fn open_error(disk: &MemoryDisk) -> OpenError {
    let before = contents(disk);
    let opened = SegmentedLog::open(place(disk.clone()), synced(1 << 20), 2, 0);
    let error = opened.err().unwrap();
    assert!(before == contents(disk), "I26: nothing is written");
    error
}

#[test]
fn files_of_another_log_or_release_are_refused() {
    let disk = forty(false);
    let mut other = place(disk.clone());
    other.log_id = LOG_ID + 1;
    let error = SegmentedLog::open(other, synced(1 << 20), 2, 0)
        .err()
        .unwrap();
    let OpenError::Foreign {
        file,
        found,
        expected,
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((found, expected), (&LOG_ID, &(LOG_ID + 1)));
    assert_eq!(file, "memory:t-0/marks");

    // A footer of another log.
    let elsewhere = MemoryDisk::new();
    let mut foreign_place = place(elsewhere.clone());
    foreign_place.log_id = 7;
    elsewhere.create_directory("t-0").unwrap();
    segment_storage::Marks::create(&foreign_place.disk, "t-0", 7).unwrap();
    let mut foreign = TestLog::open(foreign_place, synced(1 << 20), 1);
    foreign.append(&[b"x"]);
    foreign.log.roll();
    foreign.commit().unwrap();
    let footer = elsewhere.read_file(&path(&names::footer(0))).unwrap();
    let disk = forty(false);
    disk.write_file(&path(&names::footer(0)), &footer).unwrap();
    assert!(matches!(
        open_error(&disk),
        OpenError::Foreign { found: 7, .. }
    ));

    // A footer of a release to come.
    let disk = forty(false);
    let place = place(disk.clone());
    segment_storage::state_file::write(
        &*place.disk,
        "t-0",
        &names::footer(10),
        segment_storage::footer::MAGIC,
        segment_storage::footer::VERSION + 1,
        &0u8,
    )
    .unwrap();
    let error = open_error(&disk).to_string();
    assert!(error.contains("newer"), "{error}");
}

#[test]
fn marks_survive_one_damaged_slot_of_each_pair_and_not_two() {
    for pair in 0..3 {
        for slot in 0..2 {
            let disk = forty(false);
            disk.corrupt("t-0/marks", (pair * 2 + slot) * 512 + 30, 1)
                .unwrap();
            let log = TestLog::open(place(disk), synced(1 << 20), 2);
            assert_eq!(log.found.corruption, None, "pair {pair}, slot {slot}");
            assert_eq!(
                log.entries(),
                numbered(0, 40, 1000),
                "pair {pair}, slot {slot}"
            );
        }
        let disk = forty(false);
        disk.corrupt("t-0/marks", pair * 1024 + 30, 1).unwrap();
        disk.corrupt("t-0/marks", pair * 1024 + 512 + 30, 1)
            .unwrap();
        let error = open_error(&disk);
        assert!(
            matches!(&error, OpenError::Marks(SlotError::Damaged { pair: p, .. }) if *p as u64 == pair),
            "{error}"
        );
    }
    let disk = forty(false);
    disk.remove("t-0/marks").unwrap();
    assert!(matches!(
        open_error(&disk),
        OpenError::Marks(SlotError::Io { .. })
    ));
}

/// R13: two opens ago the mark was lower. It comes back, with the data of a later generation.
#[test]
fn damage_before_a_later_generation_is_corruption_whatever_the_mark_says() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    log.append_numbered(3, 1000);
    log.commit().unwrap();
    log.append_numbered(7, 1000);
    let disk = disk.after_kill();
    let old_marks = disk.read_file("t-0/marks").unwrap();
    let mut log = TestLog::open(place(disk.clone()), written(1 << 20), 2);
    assert_eq!(log.append(&[b"later"]), 1024);
    log.commit().unwrap();
    let disk = disk.after_power_cut();
    disk.write_file("t-0/marks", &old_marks).unwrap();
    disk.remove(&path(&names::footer(0))).unwrap();

    let above = disk.after_kill();
    above
        .corrupt(&segment_path(0), 5 * batch_bytes() + 100, 1)
        .unwrap();
    let log = TestLog::open(place(above), written(1 << 20), 3);
    let corruption = log.found.corruption.clone().unwrap();
    assert_eq!(
        (corruption.position, corruption.offset),
        (5 * batch_bytes(), 5),
        "{corruption}"
    );

    // A sealed segment above the mark is not torn either, but it may be incomplete by its footer.
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    let old_marks = disk.read_file("t-0/marks").unwrap();
    log.append_numbered(10, 1000);
    log.log.roll();
    log.append_numbered(1, 1000);
    log.commit().unwrap();
    let disk = disk.after_power_cut();
    disk.write_file("t-0/marks", &old_marks).unwrap();
    for len in [5 * batch_bytes(), 5 * batch_bytes() + 99] {
        for has_footer in [true, false] {
            let damaged = disk.after_kill();
            let mut file = damaged.read_file(&segment_path(0)).unwrap();
            file.truncate(usize::try_from(len).unwrap());
            damaged.write_file(&segment_path(0), &file).unwrap();
            if !has_footer {
                damaged.remove(&path(&names::footer(0))).unwrap();
            }
            let log = TestLog::open(place(damaged), synced(1 << 20), 3);
            if has_footer {
                let corruption = log.found.corruption.clone().unwrap();
                assert_eq!(corruption.position, 5 * batch_bytes(), "{corruption}");
            } else {
                // Nothing tells this from a tail that a crash took.
                assert_eq!(log.found.corruption, None);
                assert_eq!(log.entries(), numbered(0, 5, 1000));
            }
        }
    }
}

/// R13, R15: footers are written oldest first.
#[test]
fn damage_before_a_sealed_segment_is_corruption() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    let old_marks = disk.read_file("t-0/marks").unwrap();
    for _ in 0..2 {
        log.append_numbered(10, 1000);
        log.log.roll();
    }
    log.append_numbered(1, 1000);
    log.commit().unwrap();
    let disk = disk.after_power_cut();
    disk.write_file("t-0/marks", &old_marks).unwrap();
    disk.remove(&path(&names::footer(0))).unwrap();
    disk.corrupt(&segment_path(0), 5 * batch_bytes() + 100, 1)
        .unwrap();
    let log = TestLog::open(place(disk.clone()), synced(1 << 20), 3);
    let corruption = log.found.corruption.clone().unwrap();
    assert_eq!(corruption.position, 5 * batch_bytes(), "{corruption}");
    assert_eq!(log.log.next_offset(), 21);
    // The same where a whole file is gone.
    disk.remove(&segment_path(0)).unwrap();
    let log = TestLog::open(place(disk), synced(1 << 20), 4);
    assert!(log.found.corruption.is_some());
    assert_eq!(readable(&log).0, (10..21).collect::<Vec<_>>());
}
