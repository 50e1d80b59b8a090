//! The last ids, lost slots, reservations that fail in a row, and what inspecting tells.

use super::*;

#[test]
fn last_block_can_still_be_reserved_when_all_before_it_are_used() {
    let last_start = i64::MAX - BLOCK;
    let ids = open(&stored(last_start - BLOCK)).unwrap();
    take(&ids, BLOCK);
    match ids.allocate() {
        Err(AllocateError::Exhausted { bound }) => assert_eq!(bound, last_start),
        other => panic!("{other:?}"),
    }
    ids.reserve(0).unwrap();
    assert_eq!(take(&ids, 1), [last_start]);
}

/// One slot holds the last synced bound, the other one what so many failed reservations made of it.
#[test]
fn lost_slot_may_have_been_ahead_by_every_failure_in_a_row() {
    let disk = MemoryDisk::new();
    let ids = create(&disk);
    take(&ids, BLOCK);
    disk.fail_syncs(999);
    for n in 0..999 {
        assert!(matches!(
            ids.reserve(n * BACKOFF_MS),
            Err(AllocateError::Io { .. })
        ));
    }
    ids.reserve(999 * BACKOFF_MS).unwrap();
    assert_eq!(take(&ids, BLOCK).last(), Some(&1_000_999));
    let mut next = [20, 532].map(|slot| {
        let damaged = disk.after_power_cut();
        damaged.corrupt(FILE_NAME, slot, 4).unwrap();
        open(&damaged).unwrap().allocate().unwrap()
    });
    next.sort_unstable();
    // The slot that was lost held 1,001,000, or 1,000.
    assert_eq!(next, [1_000 + 1_002_000, 1_001_000 + 1_002_000]);
}

#[test]
fn lost_slot_skips_as_long_as_a_block_is_left_behind() {
    let last_start = i64::MAX - BLOCK;
    let ids = open(&stored(last_start - SKIP)).unwrap();
    assert_eq!(take(&ids, 1), [last_start]);
}

#[test]
fn a_thousand_failures_in_a_row_end_the_reservations_until_the_next_open() {
    let disk = MemoryDisk::new();
    let ids = create(&disk);
    take(&ids, BLOCK);
    disk.fail_syncs(1_000);
    for n in 0..1_000 {
        assert!(ids.reserve(n * BACKOFF_MS).is_err());
    }
    let syncs = disk.syncs();
    match ids.reserve(1_000 * BACKOFF_MS) {
        Err(AllocateError::Io { source, .. }) => {
            assert!(source.to_string().contains("open the directory again"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.syncs(), syncs);
    assert!(open(&disk.after_kill()).unwrap().allocate().unwrap() >= BLOCK);
}

#[test]
fn inspecting_tells_the_bound_and_the_damage_and_changes_nothing() {
    let disk = MemoryDisk::new();
    let look = || inspect(&shared(&disk));
    assert!(matches!(look(), Err(AllocateError::Missing { .. })));
    let ids = create(&disk);
    take(&ids, 901);
    ids.reserve(0).unwrap();
    let before = disk.read_file(FILE_NAME).unwrap();
    assert_eq!(look().unwrap(), (2_000, 0));
    assert_eq!(disk.read_file(FILE_NAME).unwrap(), before);
    disk.corrupt(FILE_NAME, 20, 1).unwrap();
    let (bound, damaged) = look().unwrap();
    assert!(bound == 1_000 || bound == 2_000, "{bound}");
    assert_eq!(damaged, 1);
    disk.corrupt(FILE_NAME, 532, 1).unwrap();
    assert!(matches!(look(), Err(AllocateError::Damaged { .. })));
}

#[test]
fn a_directory_in_the_place_of_the_file_is_not_a_missing_file() {
    let disk = MemoryDisk::new();
    disk.create_directory(FILE_NAME).unwrap();
    match open(&disk) {
        Err(AllocateError::Io { source, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::IsADirectory);
        }
        other => panic!("{other:?}"),
    }
}
