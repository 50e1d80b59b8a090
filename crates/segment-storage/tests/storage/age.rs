//! When a segment was last appended to: over restarts and crashes (I31).

use segment_storage::{Footer, MemoryDisk, footer, names, state_file};

use crate::harness::{TestLog, path, place, synced};

fn age_of(disk: &MemoryDisk, base: u64) -> u64 {
    let path = path(&names::footer(base));
    let footer: Option<Footer> =
        state_file::read(disk, &path, footer::MAGIC, footer::VERSION).unwrap();
    footer.unwrap().last_append_ms
}

/// Appends at that elapsed time, as a partition does.
fn append(log: &mut TestLog, count: u64, now_ms: u64) {
    log.append_numbered(count, 100);
    log.log.note_append(now_ms);
}

fn open_at(disk: &MemoryDisk, generation: i32, now_ms: u64) -> TestLog {
    TestLog::open_at(place(disk.clone()), synced(1 << 20), generation, now_ms)
}

#[test]
fn what_a_crash_leaves_unsealed_keeps_the_age_that_the_mark_knows() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    append(&mut log, 3, 5_000);
    log.commit().unwrap();
    // The mark itself is not durable yet.
    for (mut disk, expected) in [(disk.after_kill(), 5_000), (disk.after_power_cut(), 70_000)] {
        // Each crash is followed by another; none makes the segment younger.
        for (generation, now_ms) in [(2, 70_000), (3, 80_000), (4, 90_000)] {
            drop(open_at(&disk, generation, now_ms));
            assert_eq!(age_of(&disk, 0), expected, "generation {generation}");
            disk = disk.after_power_cut();
        }
    }
}

#[test]
fn what_lies_above_the_mark_is_as_old_as_the_first_open_that_found_it() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    append(&mut log, 3, 5_000);
    log.commit().unwrap();
    append(&mut log, 3, 60_000);
    let disk = disk.after_kill();
    assert_eq!(open_at(&disk, 2, 70_000).entries().len(), 6);
    assert_eq!(age_of(&disk, 0), 70_000);
    let disk = disk.after_power_cut();
    drop(open_at(&disk, 3, 80_000));
    assert_eq!(age_of(&disk, 0), 70_000);
}

#[test]
fn clock_that_lost_a_minute_in_the_crash_makes_nothing_younger_than_now() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    append(&mut log, 3, 50_000);
    log.commit().unwrap();
    let disk = disk.after_kill();
    drop(open_at(&disk, 2, 10_000));
    assert_eq!(age_of(&disk, 0), 10_000);
}

#[test]
fn segment_that_rested_over_a_clean_close_keeps_its_age_when_it_is_sealed() {
    for goes_on in [false, true] {
        let disk = MemoryDisk::new();
        let mut log = TestLog::new(&disk, synced(4_000));
        append(&mut log, 5, 5_000);
        if !goes_on {
            // More than half full: the next append begins another segment.
            append(&mut log, 13, 6_000);
        }
        log.close().unwrap();
        let disk = disk.after_power_cut();
        // Twice, with nothing appended in between.
        let reopen = |generation, now_ms| {
            TestLog::open_at(place(disk.clone()), synced(4_000), generation, now_ms)
        };
        reopen(2, 70_000).close().unwrap();
        let mut log = reopen(3, 80_000);
        assert!(log.found.clean);
        if goes_on {
            // It takes the segment up again, but nothing is appended to it.
            let batch = crate::harness::batch(&[(0, b"x")]);
            assert!(log.put(&batch).is_err());
            log.feed().unwrap();
            log.log.roll();
        } else {
            append(&mut log, 1, 90_000);
        }
        log.commit().unwrap();
        let expected = if goes_on { 5_000 } else { 6_000 };
        assert_eq!(age_of(&disk, 0), expected, "goes on: {goes_on}");
    }
}

#[test]
fn footer_that_was_lost_is_made_again_with_an_age_that_stays() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    append(&mut log, 3, 5_000);
    log.log.roll();
    append(&mut log, 3, 6_000);
    log.commit().unwrap();
    assert_eq!(age_of(&disk, 0), 5_000);
    let disk = disk.after_power_cut();
    disk.corrupt(&path(&names::footer(0)), 20, 1).unwrap();
    let log = open_at(&disk, 2, 70_000);
    assert_eq!(log.found.footers_rebuilt.len(), 1);
    assert_eq!(age_of(&disk, 0), 70_000);
    let disk = disk.after_power_cut();
    drop(open_at(&disk, 3, 80_000));
    assert_eq!(age_of(&disk, 0), 70_000);
}

/// A copy, or a repaired log, knows of no append: its age counts from the open.
#[test]
fn mark_that_knows_no_time_makes_nothing_old() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(3, 100);
    log.commit().unwrap();
    assert_eq!(log.log.marks().mark().unwrap().last_append_ms, 0);
    let disk = disk.after_kill();
    drop(open_at(&disk, 2, 70_000));
    assert_eq!(age_of(&disk, 0), 70_000);
}
