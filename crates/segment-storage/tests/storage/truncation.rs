//! Giving up the end of a log on purpose.

use segment_storage::{Disk, LogStart, MemoryDisk, names, truncate, truncate_fully};

use crate::harness::{
    DIRECTORY, TestLog, create, files, numbered, path, place, segment_path, synced, value, written,
};
use crate::recorder::Recorder;

/// Batches of two records, in segments of ten.
fn fifty(disk: &MemoryDisk, is_closed: bool) {
    let mut log = TestLog::new(disk, synced(1 << 20));
    for n in 0..25 {
        if n > 0 && n % 5 == 0 {
            log.log.roll();
        }
        let offset = log.log.next_offset();
        log.append(&[&value(offset, 100), &value(offset + 1, 100)]);
    }
    if is_closed {
        log.close().unwrap();
    } else {
        log.commit().unwrap();
    }
}

#[test]
fn log_ends_at_the_last_boundary_at_or_below_the_offset() {
    for is_closed in [true, false] {
        for offset in 0..55 {
            let disk = MemoryDisk::new();
            fifty(&disk, is_closed);
            let disk = disk.after_power_cut();
            let end = truncate(&place(disk.clone()), offset).unwrap();
            let expected = (offset / 2 * 2).min(50);
            assert_eq!(end, expected, "offset {offset}");
            for after in [disk.after_power_cut(), disk.after_kill()] {
                let mut log = TestLog::open(place(after.clone()), synced(1 << 20), 2);
                assert_eq!(log.found.corruption, None, "offset {offset}");
                assert_eq!(log.log.next_offset(), expected, "offset {offset}");
                assert_eq!(log.entries(), numbered(0, expected, 100), "offset {offset}");
                // Given up offsets are given out again, and last.
                assert_eq!(log.append(&[b"new"]), expected);
                log.close().unwrap();
                let log = TestLog::open(place(after.after_power_cut()), synced(1 << 20), 3);
                assert!(log.found.clean);
                let mut all = numbered(0, expected, 100);
                all.push((expected, b"new".to_vec()));
                assert_eq!(log.entries(), all, "offset {offset}");
            }
        }
    }
}

#[test]
fn unsynced_end_is_not_declared_durable() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    log.append_numbered(5, 100);
    log.commit().unwrap();
    log.append_numbered(20, 100);
    let disk = disk.after_kill();
    assert_eq!(truncate(&place(disk.clone()), 25).unwrap(), 25);
    let log = TestLog::open(place(disk.after_power_cut()), written(1 << 20), 2);
    assert_eq!(log.found.corruption, None);
    assert!(log.entries().starts_with(&numbered(0, 5, 100)));
}

#[test]
fn unsynced_files_before_the_end_are_not_declared_durable() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(4096));
    log.append_numbered(5, 200);
    log.commit().unwrap();
    log.append_numbered(35, 200);
    let disk = disk.after_kill();
    // Segments get their names when they are synced; these have, but not what they hold.
    for (from, to) in [("next-2.segment", 15), ("next-3.segment", 30)] {
        disk.rename(&path(from), &segment_path(to)).unwrap();
    }
    disk.sync_names(DIRECTORY).unwrap();
    assert_eq!(truncate(&place(disk.clone()), 35).unwrap(), 35);
    let log = TestLog::open(place(disk.after_power_cut()), written(4096), 2);
    assert_eq!(log.found.corruption, None);
    assert_eq!(log.entries(), numbered(0, 5, 200));
}

#[test]
fn jump_in_the_part_that_stays_is_kept() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    log.append_numbered(3, 100);
    log.commit().unwrap();
    let disk = disk.after_power_cut();
    let mut log = TestLog::open(place(disk.clone()), written(1 << 20), 2);
    log.append_numbered(4, 100);
    let disk = disk.after_kill();
    let open = |generation| TestLog::open(place(disk.clone()), synced(1 << 20), generation);
    let expected = |end| [numbered(0, 3, 100), numbered(1024, end, 100)].concat();
    assert_eq!(open(3).entries(), expected(1028));
    assert_eq!(truncate(&place(disk.clone()), 1026).unwrap(), 1026);
    assert_eq!(open(4).entries(), expected(1026));
    assert_eq!(truncate(&place(disk.clone()), 1024).unwrap(), 3);
    assert_eq!(open(5).entries(), expected(1024));
    assert_eq!(open(6).log.next_offset(), 3);
}

#[test]
fn start_in_the_part_that_goes_moves_down() {
    let disk = MemoryDisk::new();
    fifty(&disk, false);
    let disk = disk.after_power_cut();
    let mut log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    log.drop_front(34).unwrap();
    log.close().unwrap();
    let at_start = disk.after_kill();
    assert_eq!(truncate(&place(at_start.clone()), 34).unwrap(), 34);
    let log = TestLog::open(place(at_start), synced(1 << 20), 3);
    assert_eq!((log.view().start(), log.log.next_offset()), (34, 34));

    assert_eq!(truncate(&place(disk.clone()), 20).unwrap(), 20);
    let mut log = TestLog::open(place(disk.clone()), synced(1 << 20), 3);
    assert_eq!((log.view().start(), log.log.next_offset()), (20, 20));
    assert_eq!(log.entries(), []);
    assert_eq!(log.append(&[b"x"]), 20);
}

/// Repair: what lies before the damage is kept.
#[test]
fn damaged_log_is_cut_at_the_damage() {
    for (what, damage) in [
        (
            "flipped",
            (|disk: &MemoryDisk| disk.corrupt(&segment_path(20), 700, 1).unwrap())
                as fn(&MemoryDisk),
        ),
        ("shorter", |disk| {
            let mut file = disk.read_file(&segment_path(20)).unwrap();
            let bytes = file.len() / 5 * 2;
            file.truncate(bytes);
            disk.write_file(&segment_path(20), &file).unwrap();
        }),
        ("missing", |disk| disk.remove(&segment_path(30)).unwrap()),
    ] {
        let disk = MemoryDisk::new();
        fifty(&disk, false);
        let disk = disk.after_kill();
        damage(&disk);
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        let offset = match &log.found.corruption {
            Some(corruption) if what == "missing" => corruption.offset,
            // Below the mark, where an open does not scan.
            _ => 24,
        };
        drop(log);
        let end = truncate(&place(disk.clone()), offset).unwrap();
        assert!(end == 24 || what == "missing" && end == 30, "{what}: {end}");
        let log = TestLog::open(place(disk.clone()), synced(1 << 20), 3);
        assert_eq!(log.found.corruption, None, "{what}");
        assert_eq!(log.entries(), numbered(0, end, 100), "{what}");
    }
}

#[test]
fn full_truncation_empties_the_log_and_takes_its_snapshots() {
    for offset in [0, 15, 29, 50, 1000] {
        let disk = MemoryDisk::new();
        fifty(&disk, true);
        disk.write_file(&path(&names::snapshot(10)), b"").unwrap();
        truncate_fully(&place(disk.clone()), offset).unwrap();
        assert_eq!(files(&disk), ["marks"]);
        let disk = disk.after_power_cut();
        assert_eq!(files(&disk), ["marks"]);
        let mut log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
        assert_eq!(
            (log.view().start(), log.log.next_offset()),
            (offset, offset)
        );
        assert_eq!(log.entries(), []);
        let start = log.log.marks().start().unwrap();
        assert_eq!((start.offset, start.history_from), (offset, offset));
        assert_eq!(log.append(&[b"x"]), offset);
        log.commit().unwrap();
        for after in [disk.after_kill(), disk.after_power_cut()] {
            let log = TestLog::open(place(after), synced(1 << 20), 3);
            assert_eq!(log.entries(), [(offset, b"x".to_vec())]);
        }
    }
}

#[test]
fn crash_at_every_step_leaves_a_log_that_can_be_truncated_again() {
    for (is_closed, offset, fully) in [
        (true, 23, false),
        (false, 23, false),
        (true, 40, false),
        (true, 29, true),
    ] {
        let recorder = Recorder::default();
        create(&place(recorder.clone()));
        let mut log = TestLog::open(place(recorder.clone()), synced(1 << 20), 1);
        for n in 0..25 {
            if n > 0 && n % 5 == 0 {
                log.log.roll();
            }
            let offset = log.log.next_offset();
            log.append(&[&value(offset, 100), &value(offset + 1, 100)]);
        }
        if is_closed {
            log.close().unwrap();
        } else {
            log.commit().unwrap();
        }
        recorder.take_images();
        let cut = |disk: MemoryDisk| {
            if fully {
                truncate_fully(&place(disk), offset).map(|()| offset)
            } else {
                truncate(&place(disk), offset)
            }
        };
        if fully {
            truncate_fully(&place(recorder.clone()), offset).unwrap();
        } else {
            truncate(&place(recorder.clone()), offset).unwrap();
        }
        let images = recorder.take_images();
        assert!(images.len() > 10);
        for image in images {
            let what = &image.step;
            let log = TestLog::open(place(image.disk.after_kill()), synced(1 << 20), 2);
            assert_eq!(log.found.corruption, None, "{what}");
            let end = log.log.next_offset();
            let start = log.view().start();
            assert!(end <= 50, "{what}");
            if !fully {
                assert!(end >= 22, "{what}: {end}");
                assert_eq!(log.entries(), numbered(start, end, 100), "{what}");
            }
            drop(log);
            // Once more, without opening it in between, and after it.
            for opened in [false, true] {
                let disk = image.disk.after_kill();
                if opened {
                    drop(TestLog::open(place(disk.clone()), synced(1 << 20), 2));
                }
                let end = cut(disk.clone()).unwrap();
                let log = TestLog::open(place(disk), synced(1 << 20), 3);
                assert_eq!(log.found.corruption, None, "{what}, {opened}");
                assert_eq!(log.log.next_offset(), end, "{what}, {opened}");
                let from = if fully { end } else { 0 };
                assert_eq!(log.entries(), numbered(from, end, 100), "{what}, {opened}");
            }
        }
    }
}

#[test]
fn nothing_but_the_log_is_touched() {
    let disk = MemoryDisk::new();
    fifty(&disk, true);
    disk.write_file(&path("other"), b"other").unwrap();
    truncate(&place(disk.clone()), 10).unwrap();
    truncate_fully(&place(disk.clone()), 7).unwrap();
    assert_eq!(disk.read_file(&path("other")).unwrap(), b"other");
    let left: Vec<_> = disk
        .list(DIRECTORY)
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(left, ["marks", "other"]);
    let log = TestLog::open(place(disk), synced(1 << 20), 2);
    let start: LogStart = log.log.marks().start().unwrap();
    assert_eq!(start.forgotten_below, -1);
}
