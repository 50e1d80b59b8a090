//! Offsets that were shown are never given out again, also where what was shown is lost (I9).

use segment_storage::MemoryDisk;

use crate::harness::{TestLog, batch, numbered, place, synced, value, written};

#[test]
fn nothing_is_shown_before_there_is_a_durable_ceiling() {
    let disk = MemoryDisk::new();
    let place = place(disk.clone());
    crate::harness::create(&place);
    let (log, found) = segment_storage::SegmentedLog::open(place, written(1 << 20), 1, 0).unwrap();
    assert!(found.clean);
    assert_eq!(log.ceiling(), 0);
    assert!(log.is_turn_due());
    let mut log = TestLog::open(crate::harness::place(disk.clone()), written(1 << 20), 2);
    assert_eq!(log.log.ceiling(), 1024);
    let durable = segment_storage::Marks::open(&log.log.place().disk, "t-0").unwrap();
    assert_eq!(durable.ceiling().unwrap(), 1024);
    log.append_numbered(2, 10);
    assert_eq!(log.entries(), numbered(0, 2, 10));
}

#[test]
fn log_goes_on_at_the_ceiling_after_a_crash_and_says_what_may_be_lost() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    log.append_numbered(5, 50);
    log.commit().unwrap();
    log.append_numbered(7, 50);
    assert_eq!(log.view().published(), 12);
    let after = disk.after_power_cut();
    let mut log = TestLog::open(place(after.clone()), written(1 << 20), 2);
    assert_eq!(log.entries(), numbered(0, 5, 50));
    assert_eq!(log.found.lost, Some((5, 1024)));
    assert_eq!((log.log.next_offset(), log.log.batches_end()), (1024, 5));
    assert_eq!(log.append(&[b"later"]), 1024);
    log.commit().unwrap();
    log.close().unwrap();

    // The jump is legal for every later open.
    let log = TestLog::open(place(after.clone()), written(1 << 20), 3);
    assert!(log.found.clean);
    assert_eq!(log.found.lost, None);
    assert_eq!(log.log.next_offset(), 1025);
    let mut expected = numbered(0, 5, 50);
    expected.push((1024, b"later".to_vec()));
    assert_eq!(log.entries(), expected);
    drop(log);
    let log = TestLog::open(place(after.after_kill()), written(1 << 20), 4);
    assert_eq!(log.entries(), expected);
}

#[test]
fn jump_that_no_batch_followed_survives_a_clean_close() {
    for reopened_as in [written(1 << 20), synced(1 << 20)] {
        let disk = MemoryDisk::new();
        let mut log = TestLog::new(&disk, written(1 << 20));
        log.append_numbered(5, 50);
        log.commit().unwrap();
        let disk = disk.after_power_cut();
        let log = TestLog::open(place(disk.clone()), reopened_as.clone(), 2);
        let next = log.log.next_offset();
        assert_eq!(next, 1024);
        log.close().unwrap();
        let mut log = TestLog::open(place(disk.clone()), reopened_as.clone(), 3);
        assert!(log.found.clean);
        assert_eq!(log.log.next_offset(), next);
        assert_eq!(log.append(&[b"x"]), next);
        // R10: never inside of a file.
        assert_eq!(log.view().segments().len(), 2);
        log.commit().unwrap();
        for after in [disk.after_kill(), disk.after_power_cut()] {
            let log = TestLog::open(place(after), reopened_as.clone(), 4);
            assert_eq!(log.found.corruption, None);
            assert_eq!(log.entries().last(), Some(&(next, b"x".to_vec())));
        }
    }
}

#[test]
fn no_offset_is_given_out_twice_over_many_crashes() {
    let mut disk = MemoryDisk::new();
    crate::harness::create(&place(disk.clone()));
    let mut shown = 0;
    for generation in 1..8 {
        let mut log = TestLog::open(place(disk.clone()), written(4096), generation);
        assert!(log.log.next_offset() >= shown, "generation {generation}");
        for n in 0..generation.unsigned_abs() {
            let at = log.append(&[&value(n.into(), 700)]);
            assert!(at >= shown, "generation {generation}: {at} was shown");
            shown = shown.max(log.view().published());
            if n % 3 == 0 {
                log.commit().unwrap();
            }
        }
        disk = disk.after_power_cut();
    }
}

#[test]
fn batch_that_reaches_over_the_ceiling_waits_for_the_raise() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    let records: Vec<(i64, &[u8])> = (0..300).map(|_| (0, &b"r"[..])).collect();
    for _ in 0..3 {
        log.append_at(&records);
    }
    assert_eq!((log.view().published(), log.log.ceiling()), (900, 1024));
    // 900 to 1199: one of its offsets lies above the ceiling, so none is shown.
    log.append_at(&records);
    assert_eq!(log.view().published(), 900);
    let after = disk.after_power_cut();
    let lost = TestLog::open(place(after), written(1 << 20), 2);
    assert!(lost.log.next_offset() >= 900);
    let ceiling = log.log.ceiling_due(50_000).unwrap();
    assert!(ceiling >= 1200 + 1024);
    log.append_at(&records);
    // Not durable yet: still not shown.
    assert_eq!(log.view().published(), 900);
    log.log.raise_ceiling(ceiling);
    assert_eq!(log.view().published(), 1500);
}

#[test]
fn clean_close_needs_no_jump() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    log.append_numbered(5, 50);
    log.close().unwrap();
    let log = TestLog::open(place(disk.after_power_cut()), written(1 << 20), 2);
    assert!(log.found.clean);
    assert_eq!(log.log.next_offset(), 5);
    assert_eq!(log.found.lost, None);
}

#[test]
fn log_at_synced_needs_no_ceiling() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(5, 50);
    log.commit().unwrap();
    log.append_numbered(5, 50);
    assert!(!log.log.is_turn_due());
    let mut log = TestLog::open(place(disk.after_power_cut()), synced(1 << 20), 2);
    assert_eq!((log.log.next_offset(), log.found.lost), (5, None));
    assert_eq!(log.put(&batch(&[(0, b"x")])).map_err(|_| ()), Err(()));
    assert_eq!(log.append(&[b"x"]), 5);
}

#[test]
fn ceiling_that_was_raised_for_nothing_makes_no_jump() {
    let disk = MemoryDisk::new();
    drop(TestLog::new(&disk, written(1 << 20)));
    let disk = disk.after_kill();
    let mut log = TestLog::open(place(disk.clone()), written(1 << 20), 2);
    assert!(log.found.clean);
    assert_eq!(log.append(&[b"first"]), 0);
    let log = TestLog::open(place(disk.after_kill()), written(1 << 20), 3);
    assert_eq!(log.entries(), [(0, b"first".to_vec())]);
}
