//! What an open shows of a log that is damaged below its stable mark, and which footers it believes.

use segment_storage::{Disk, Footer, MemoryDisk, footer, names, state_file};

use crate::harness::{
    TestLog, entries_of, numbered, path, place, segment_path, stamped, synced, value, written,
};

fn batch_bytes() -> u64 {
    stamped(&[(0, &value(0, 1000))], 0, 1).len() as u64
}

fn footer_of(disk: &MemoryDisk, base: u64) -> Option<Footer> {
    let path = path(&names::footer(base));
    state_file::read(disk, &path, footer::MAGIC, footer::VERSION).unwrap()
}

/// Takes a byte off a segment, which no crash does below the mark.
fn shorten(disk: &MemoryDisk, base: u64) {
    let mut file = disk.read_file(&segment_path(base)).unwrap();
    file.truncate(file.len() - 1);
    disk.write_file(&segment_path(base), &file).unwrap();
}

/// Base offset, end of the segment before, and the end that a footer tells.
fn segments(log: &TestLog) -> Vec<(u64, u64, Option<u64>)> {
    let segments = log.view().segments();
    segments
        .iter()
        .map(|s| {
            (
                s.base_offset(),
                s.previous_end(),
                s.footer().map(|f| f.next_offset),
            )
        })
        .collect()
}

fn offsets_from(log: &TestLog, from: u64) -> Vec<u64> {
    let mut cursor = segment_storage::Cursor::at(from);
    let mut offsets = Vec::new();
    while let Some(run) = log
        .view()
        .read(&mut cursor, log.view().published(), 1)
        .unwrap()
    {
        offsets.extend(entries_of(&run.bytes).into_iter().map(|e| e.0));
    }
    offsets
}

#[test]
fn intact_segments_of_a_damaged_log_keep_their_footers() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    for _ in 0..3 {
        log.append_numbered(10, 1000);
        log.log.roll();
    }
    log.append_numbered(3, 1000);
    log.commit().unwrap();
    // Above the mark, and not synced.
    log.append_numbered(4, 1000);
    let killed = disk.after_kill();
    for has_footer in [true, false] {
        let disk = killed.after_kill();
        shorten(&disk, 10);
        if !has_footer {
            disk.remove(&path(&names::footer(10))).unwrap();
        }
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        assert!(log.found.corruption.is_some());
        assert_eq!(
            segments(&log),
            [
                (0, 0, Some(10)),
                (10, 10, None),
                (20, 20, Some(30)),
                (30, 30, None)
            ]
        );
        // Where the batches end that follow the mark, not where the reserved file does.
        assert_eq!(log.view().segments()[3].bytes().unwrap(), 7 * batch_bytes());
        assert_eq!(log.log.next_offset(), 37);
        assert_eq!(offsets_from(&log, 20), (20..37).collect::<Vec<_>>());
    }
}

/// A log that lost offsets 5 to 11 and went on at 1024.
fn jumped(is_marked: bool) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    log.append_numbered(5, 1000);
    log.commit().unwrap();
    log.append_numbered(7, 1000);
    let disk = disk.after_power_cut();
    let mut log = TestLog::open(place(disk.clone()), written(1 << 20), 2);
    assert_eq!(log.append(&[b"later"]), 1024);
    if is_marked {
        log.commit().unwrap();
    } else {
        for item in log.log.begin_sync(true) {
            item.sync().unwrap();
            log.log.synced(&item);
        }
    }
    disk.after_kill()
}

#[test]
fn damaged_log_that_jumped_still_tells_where_each_segment_follows() {
    for is_marked in [false, true] {
        for has_footer in [false, true] {
            let disk = jumped(is_marked);
            shorten(&disk, 0);
            if !has_footer {
                disk.remove(&path(&names::footer(0))).unwrap();
            }
            let log = TestLog::open(place(disk), written(1 << 20), 3);
            assert!(log.found.corruption.is_some());
            let shown = segments(&log);
            let said = format!("marked {is_marked}, footer {has_footer}");
            assert_eq!(shown[1..], [(1024, 5, None)], "{said}");
            if has_footer {
                assert_eq!(shown[0], (0, 0, None), "{said}");
            }
            assert_eq!(offsets_from(&log, 1024), [1024]);
        }
    }
}

#[test]
fn ceiling_right_at_the_end_is_no_loss() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    log.append_numbered(5, 1000);
    log.commit().unwrap();
    for (ceiling, lost) in [(5, None), (6, Some((5, 6)))] {
        let disk = disk.after_kill();
        let shared: std::sync::Arc<dyn Disk> = std::sync::Arc::new(disk.clone());
        let marks = segment_storage::Marks::open(&shared, "t-0").unwrap();
        marks.store_ceiling(ceiling).unwrap();
        let log = TestLog::open(place(disk), written(1 << 20), 2);
        assert_eq!(log.found.lost, lost);
        assert_eq!(log.log.next_offset(), ceiling);
    }
}

#[test]
fn cut_tells_the_file_the_place_and_the_bytes() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(3, 1000);
    log.commit().unwrap();
    log.append_numbered(1, 1000);
    let disk = disk.after_kill();
    let bytes = disk.read_file(&segment_path(0)).unwrap().len() as u64;
    let tail = 3 * batch_bytes();
    disk.corrupt(&segment_path(0), tail + 100, 1).unwrap();
    let log = TestLog::open(place(disk), synced(1 << 20), 2);
    let file = format!("memory:{}", segment_path(0));
    assert_eq!(log.found.cut, [(file, tail, bytes - tail)]);
    assert_eq!(log.entries(), numbered(0, 3, 1000));
}

/// The footer that a log of three batches has for its first segment.
fn footer_of_three() -> Vec<u8> {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(3, 1000);
    log.log.roll();
    log.commit().unwrap();
    disk.read_file(&path(&names::footer(0))).unwrap()
}

/// R12: a footer says what was sealed. Whole as it is, it may be another segment's.
#[test]
fn footer_that_is_not_of_what_was_scanned_is_made_anew() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(5, 1000);
    // Durable, but no mark says so.
    for item in log.log.begin_sync(true) {
        item.sync().unwrap();
        log.log.synced(&item);
    }
    let disk = disk.after_kill();
    disk.write_file(&path(&names::footer(0)), &footer_of_three())
        .unwrap();
    let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    assert_eq!(log.found.corruption, None);
    assert_eq!(log.entries(), numbered(0, 5, 1000));
    assert_eq!(footer_of(&disk, 0).unwrap().bytes, 5 * batch_bytes());
}

#[test]
fn footer_that_is_not_of_what_was_closed_is_not_believed() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(5, 1000);
    log.close().unwrap();
    disk.write_file(&path(&names::footer(0)), &footer_of_three())
        .unwrap();
    let mut log = TestLog::open(place(disk), synced(1 << 20), 2);
    assert!(log.found.clean);
    assert_eq!(log.entries(), numbered(0, 5, 1000));
    log.append_numbered(1, 1000);
    log.commit().unwrap();
    assert_eq!(log.entries(), numbered(0, 6, 1000));
}

#[test]
fn footer_of_another_segment_is_not_believed() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    for _ in 0..2 {
        log.append_numbered(10, 1000);
        log.log.roll();
    }
    log.append_numbered(1, 1000);
    log.close().unwrap();
    let other = disk.read_file(&path(&names::footer(0))).unwrap();
    disk.write_file(&path(&names::footer(10)), &other).unwrap();
    let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    assert_eq!(log.found.corruption, None);
    assert_eq!(log.found.footers_rebuilt, [names::segment(10)]);
    assert_eq!(log.entries(), numbered(0, 21, 1000));
    assert_eq!(footer_of(&disk, 10).unwrap().base_offset, 10);
}

/// A footer that was written before the crash stays as it is, with the time of the last append.
#[test]
fn footer_above_the_mark_is_kept() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(5, 1000);
    log.log.note_append(5_000);
    log.log.roll();
    for item in log.log.begin_sync(true) {
        item.sync().unwrap();
        log.log.synced(&item);
    }
    let segment = log.log.to_seal().unwrap();
    segment.cut().unwrap();
    segment
        .write_footer(segment_storage::Check::Headers)
        .unwrap();
    let disk = disk.after_kill();
    let before = footer_of(&disk, 0).unwrap();
    assert_eq!(before.last_append_ms, 5_000);
    let log = TestLog::open_at(place(disk.clone()), synced(1 << 20), 2, 70_000);
    assert_eq!(log.entries(), numbered(0, 5, 1000));
    assert_eq!(footer_of(&disk, 0).unwrap(), before);
}
