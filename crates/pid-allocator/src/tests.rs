//! Rows 123 to 130 of the conformance list, and what damage and repair do.

use std::collections::BTreeSet;
use std::io;

use proptest::prelude::*;
use segment_storage::codec;
use segment_storage::disk::memory::MemoryDisk;

use super::*;

mod edges;

fn shared(disk: &MemoryDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn create(disk: &MemoryDisk) -> PidAllocator {
    PidAllocator::create(shared(disk)).unwrap()
}

fn open(disk: &MemoryDisk) -> Result<PidAllocator, AllocateError> {
    PidAllocator::open(shared(disk))
}

fn take(ids: &PidAllocator, count: i64) -> Vec<i64> {
    (0..count).map(|_| ids.allocate().unwrap()).collect()
}

/// A file that says that the next block begins at `next_start`.
fn stored(next_start: i64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let mut slots = codec::encode(*b"OLPI", 1, &(1_u64, next_start));
    slots.resize(1024, 0);
    disk.write_file(FILE_NAME, &slots).unwrap();
    disk
}

#[test]
fn case_123_two_allocators_share_no_block() {
    let disk = MemoryDisk::new();
    let (first, second) = (create(&disk), open(&disk).unwrap());
    assert_eq!((take(&first, 1), take(&second, 1)), (vec![0], vec![1000]));
    assert_eq!(take(&first, 999), (1..1000).collect::<Vec<_>>());
    assert_eq!(take(&second, 999), (1001..2000).collect::<Vec<_>>());
    first.reserve(0).unwrap();
    second.reserve(0).unwrap();
    assert_eq!(
        (take(&first, 1), take(&second, 1)),
        (vec![2000], vec![3000])
    );
    assert_eq!((first.bound(), second.bound()), (3000, 4000));
    assert_eq!((first.first(), second.first()), (0, 1000));
}

#[test]
fn case_123_two_stores_are_independent() {
    let (first, second) = (create(&MemoryDisk::new()), create(&MemoryDisk::new()));
    assert_eq!((take(&first, 1), take(&second, 1)), (vec![0], vec![0]));
}

#[test]
fn case_124_crash_after_use_goes_on_in_a_later_block() {
    for used in [0, 1, 899, 900, 1000, 1500] {
        for crash in [MemoryDisk::after_kill, MemoryDisk::after_power_cut] {
            let disk = MemoryDisk::new();
            let ids = create(&disk);
            let mut last = -1;
            for _ in 0..used {
                last = ids.allocate().unwrap();
                if ids.needs_block() {
                    ids.reserve(0).unwrap();
                }
            }
            let bound = ids.bound();
            assert!(bound > last);
            let next = open(&crash(&disk)).unwrap().allocate().unwrap();
            assert_eq!(next, bound, "{used} ids used");
        }
    }
}

/// A power cut at each sync: while it is under way, nothing of the new block is handed out.
#[test]
fn case_125_crash_during_and_after_a_reservation() {
    let disk = MemoryDisk::new();
    let ids = create(&disk);
    let gate = disk.hold_syncs();
    let used = take(&ids, 1000);
    std::thread::scope(|scope| {
        let reserving = scope.spawn(|| ids.reserve(0));
        gate.wait_until_syncs_wait(1);
        assert!(matches!(
            ids.allocate(),
            Err(AllocateError::Exhausted { bound: 1000 })
        ));
        let next = open(&disk.after_power_cut()).unwrap().allocate().unwrap();
        assert_eq!(next, used.last().unwrap() + 1);
        drop(gate);
        reserving.join().unwrap().unwrap();
    });
    let next = open(&disk.after_power_cut()).unwrap().allocate().unwrap();
    assert_eq!(
        next, 2000,
        "the block that was reserved and not used is skipped"
    );
}

#[test]
fn case_125_power_cut_before_the_file_has_its_name_leaves_none() {
    let disk = MemoryDisk::new();
    disk.fail_name_syncs(1);
    assert!(matches!(
        PidAllocator::create(shared(&disk)),
        Err(AllocateError::Io { .. })
    ));
    assert!(matches!(
        open(&disk.after_power_cut()),
        Err(AllocateError::Missing { .. })
    ));
}

#[test]
fn case_126_no_block_is_said_at_once_and_ends_with_the_block() {
    let disk = MemoryDisk::new();
    let ids = create(&disk);
    take(&ids, 1000);
    let syncs = disk.syncs();
    for _ in 0..3 {
        let error = ids.allocate().unwrap_err();
        assert!(
            matches!(error, AllocateError::Exhausted { bound: 1000 }),
            "{error}"
        );
        assert!(error.is_retriable());
    }
    assert_eq!(disk.syncs(), syncs, "allocating never waits for the disk");
    ids.reserve(0).unwrap();
    assert_eq!(take(&ids, 1), [1000]);
}

#[test]
fn block_is_due_at_nine_tenths_and_reserved_once() {
    let disk = MemoryDisk::new();
    let ids = create(&disk);
    let syncs = disk.syncs();
    take(&ids, 899);
    assert!(!ids.needs_block());
    ids.reserve(0).unwrap();
    assert_eq!((disk.syncs(), ids.bound()), (syncs, 1000));
    take(&ids, 1);
    assert!(ids.needs_block());
    ids.reserve(0).unwrap();
    ids.reserve(0).unwrap();
    assert!(!ids.needs_block());
    assert_eq!((disk.syncs(), ids.bound()), (syncs + 1, 2000));
    assert_eq!(take(&ids, 1100), (900..2000).collect::<Vec<_>>());
}

#[test]
fn case_127_failed_reservation_is_not_repeated_within_50_ms() {
    let disk = MemoryDisk::new();
    let ids = create(&disk);
    take(&ids, 1000);
    disk.fail_syncs(2);
    assert!(matches!(ids.reserve(100), Err(AllocateError::Io { .. })));
    let syncs = disk.syncs();
    for (now_ms, expected_ms) in [(100, 50), (149, 1)] {
        match ids.reserve(now_ms) {
            Err(AllocateError::BackingOff { wait_ms }) => assert_eq!(wait_ms, expected_ms),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            ids.allocate(),
            Err(AllocateError::Exhausted { .. })
        ));
    }
    assert_eq!(disk.syncs(), syncs);
    assert!(matches!(ids.reserve(150), Err(AllocateError::Io { .. })));
    // A clock that was set back does not block reservations until it has caught up.
    ids.reserve(20).unwrap();
    let next = ids.allocate().unwrap();
    assert!(next >= 1000);
    assert!(open(&disk.after_power_cut()).unwrap().allocate().unwrap() > next);
}

#[test]
fn case_128_invalid_blocks_are_ignored() {
    for invalid in [-1, i64::MIN] {
        match open(&stored(invalid)) {
            Err(AllocateError::InvalidBound {
                stored, least: 0, ..
            }) => assert_eq!(stored, invalid),
            other => panic!("{other:?}"),
        }
    }
    // Below what was handed out already: somebody put an older file there.
    let disk = MemoryDisk::new();
    let ids = create(&disk);
    let older = disk.read_file(FILE_NAME).unwrap();
    take(&ids, 1000);
    ids.reserve(0).unwrap();
    take(&ids, 1000);
    let file = disk.open(FILE_NAME).unwrap();
    file.write_at(&older, &[], 0).unwrap();
    let error = ids.reserve(0).unwrap_err();
    assert!(
        matches!(
            error,
            AllocateError::InvalidBound {
                stored: 1000,
                least: 2000,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        ids.allocate(),
        Err(AllocateError::Exhausted { bound: 2000 })
    ));
}

#[test]
fn case_129_end_of_the_ids_is_permanent() {
    let last_start = i64::MAX - 1000;
    let disk = stored(last_start);
    let ids = open(&disk).unwrap();
    assert_eq!(take(&ids, 1000), (last_start..i64::MAX).collect::<Vec<_>>());
    assert!(!ids.needs_block());
    let error = ids.allocate().unwrap_err();
    assert!(
        matches!(error, AllocateError::OutOfIds { next: i64::MAX }),
        "{error}"
    );
    assert!(!error.is_retriable());

    for next_start in [last_start + 1, i64::MAX] {
        let ids = open(&stored(next_start)).unwrap();
        assert!(
            matches!(ids.allocate(), Err(AllocateError::OutOfIds { next }) if next == next_start)
        );
        ids.reserve(0).unwrap();
        assert!(ids.allocate().is_err());
    }
}

#[test]
fn case_130_many_threads_get_distinct_ids() {
    const THREADS: usize = 8;
    const EACH: usize = 2_500;
    let disk = MemoryDisk::new();
    let ids = create(&disk);
    let taken: Vec<Vec<i64>> = std::thread::scope(|scope| {
        let take = || {
            let mut taken = Vec::new();
            while taken.len() < EACH {
                match ids.allocate() {
                    Ok(id) => taken.push(id),
                    Err(error) => assert!(matches!(error, AllocateError::Exhausted { .. })),
                }
                if ids.needs_block() {
                    ids.reserve(0).unwrap();
                }
            }
            taken
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(take)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for of_one_thread in &taken {
        assert!(of_one_thread.is_sorted_by(|left, right| left < right));
    }
    let distinct: BTreeSet<i64> = taken.into_iter().flatten().collect();
    assert_eq!(distinct.len(), THREADS * EACH);
    assert_eq!(
        distinct.last(),
        Some(&i64::try_from(THREADS * EACH - 1).unwrap()),
        "none was skipped"
    );
}

#[test]
fn damaged_slots_refuse_until_repaired() {
    let disk = MemoryDisk::new();
    take(&create(&disk), 10);
    disk.corrupt(FILE_NAME, 20, 1).unwrap();
    let next = open(&disk).unwrap().allocate().unwrap();
    assert!(next >= 10, "one slot is enough: {next}");
    for slot in [20, 532] {
        disk.corrupt(FILE_NAME, slot, 4).unwrap();
    }
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, AllocateError::Damaged { .. }), "{error}");
    assert!(!error.is_retriable());
    let text = error.to_string();
    assert!(text.starts_with("memory:producer-ids is damaged"), "{text}");
    assert!(
        text.contains("oncelog repair --apply --producer-id-floor N"),
        "{text}"
    );

    assert_eq!(raise_floor(&shared(&disk), 123_456).unwrap(), 123_456);
    assert_eq!(take(&open(&disk.after_power_cut()).unwrap(), 1), [123_456]);
}

#[test]
fn floor_is_only_ever_raised() {
    let disk = MemoryDisk::new();
    let floor = |floor| raise_floor(&shared(&disk), floor);
    assert_eq!(floor(5_000).unwrap(), 5_000, "a missing file is made");
    assert_eq!(floor(10).unwrap(), 5_000);
    assert_eq!(take(&open(&disk).unwrap(), 1), [5_000]);
    assert_eq!(floor(10).unwrap(), 6_000);
    for invalid in [-1, i64::MAX - 999] {
        assert!(matches!(
            floor(invalid),
            Err(AllocateError::InvalidFloor { .. })
        ));
    }
    assert_eq!(raise_floor(&shared(&stored(-7)), 8).unwrap(), 8);
}

#[test]
fn new_directory_is_told_from_one_that_lost_its_file() {
    let disk = MemoryDisk::new();
    assert!(matches!(open(&disk), Err(AllocateError::Missing { .. })));
    create(&disk);
    match PidAllocator::create(shared(&disk)) {
        Err(AllocateError::Io { source, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        }
        other => panic!("{other:?}"),
    }
}

/// What a power cut during unsynced writes may leave: the bytes of the new image up to `torn_at`
/// bytes into what differs, those of the device after it.
fn power_cut_with_a_torn_write(disk: &MemoryDisk, torn_at: usize) -> MemoryDisk {
    let after = disk.after_power_cut();
    let mut found = after.read_file(FILE_NAME).unwrap();
    let live = disk.read_file(FILE_NAME).unwrap();
    let differing = (0..found.len())
        .filter(|at| found[*at] != live[*at])
        .take(torn_at);
    differing
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|at| found[at] = live[at]);
    after.write_file(FILE_NAME, &found).unwrap();
    after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// I15: over uses, reservations, failed syncs, kills, power cuts and torn slots in any order, no
    /// id is handed out twice.
    #[test]
    fn case_124_no_id_is_ever_handed_out_twice(
        steps in proptest::collection::vec((0..6, 0..1_200_i64, 0..12_usize), 1..25),
    ) {
        let mut disk = MemoryDisk::new();
        let mut ids = create(&disk);
        let mut highest = -1;
        let mut now_ms = 0;
        for (step, count, torn_at) in steps {
            now_ms += 50;
            match step {
                0..=1 => {
                    for _ in 0..count {
                        let Ok(id) = ids.allocate() else { break };
                        prop_assert!(id > highest, "{} after {}", id, highest);
                        highest = id;
                    }
                }
                2 => ids.reserve(now_ms).unwrap(),
                3 => {
                    disk.fail_syncs(1);
                    let _failed_if_due = ids.reserve(now_ms);
                    disk.fail_syncs(0);
                }
                4 => {
                    disk = disk.after_kill();
                    ids = open(&disk).unwrap();
                }
                _ => {
                    disk = power_cut_with_a_torn_write(&disk, torn_at);
                    ids = open(&disk).unwrap();
                }
            }
            prop_assert!(highest < ids.bound());
        }
    }
}

#[test]
fn damage_to_either_slot_never_repeats_an_id() {
    for slot in 0..2u64 {
        for runs in 1..4 {
            let disk = MemoryDisk::new();
            let mut highest = -1;
            PidAllocator::create(Arc::new(disk.clone())).unwrap();
            for _ in 0..runs {
                let ids = PidAllocator::open(Arc::new(disk.clone())).unwrap();
                highest = ids.allocate().unwrap();
            }
            disk.corrupt(FILE_NAME, 512 * slot + 20, 0x40).unwrap();
            let ids = PidAllocator::open(Arc::new(disk.clone())).unwrap();
            let next = ids.allocate().unwrap();
            assert!(
                next > highest,
                "slot {slot}, {runs} runs: {next} after {highest}"
            );
            // The damage is healed: the skip is not repeated.
            let again = PidAllocator::open(Arc::new(disk.clone()))
                .unwrap()
                .allocate()
                .unwrap();
            assert_eq!(again, next + BLOCK);
        }
    }
}
