//! Another process reads along: what is below the stable mark, writing nothing (R20).

use segment_storage::{Disk, LogFollower, MemoryDisk, OpenError, OsDisk, ReadError};

use crate::harness::{
    LOG_ID, TestLog, contents, create, numbered, place, read_all, synced, value, written,
};

#[test]
fn follower_shows_what_is_marked_and_follows_rolls_and_deletion() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    let follower = LogFollower::open(place(disk.clone())).unwrap();
    assert_eq!(read_all(follower.view(), 0).unwrap(), []);
    let mut end = 0;
    for round in 0..30 {
        log.append_numbered(round % 4, 300);
        let before = contents(&disk);
        follower.refresh().unwrap();
        // Written and not committed: not shown.
        assert_eq!(follower.view().published(), end, "round {round}");
        log.commit().unwrap();
        assert!(round % 4 == 0 || before != contents(&disk));
        let before = contents(&disk);
        follower.refresh().unwrap();
        end = log.log.next_offset();
        assert_eq!(follower.view().published(), end, "round {round}");
        let start = log.view().start();
        assert_eq!(
            read_all(follower.view(), start).unwrap(),
            numbered(start, end, 300)
        );
        assert!(before == contents(&disk), "a follower writes nothing");
        if round % 7 == 6 {
            log.drop_front(end - 5).unwrap();
            let error = {
                follower.refresh().unwrap();
                read_all(follower.view(), 0).unwrap_err()
            };
            assert!(
                matches!(error, ReadError::Deleted { asked: 0, first } if first == end - 5),
                "{error}"
            );
        }
    }
    assert_eq!(follower.bytes_above_mark().unwrap(), 0);
    log.close().unwrap();
    follower.refresh().unwrap();
    assert_eq!(follower.view().published(), end);
}

#[test]
fn real_files_are_followed_through_a_disk_for_reading() {
    let root = tempfile::tempdir().unwrap();
    let writing = place(OsDisk::open(root.path().to_owned()).unwrap());
    create(&writing);
    let mut log = TestLog::open(writing, synced(64 << 10), 1);
    let reading = place(OsDisk::read_only(root.path().to_owned()).unwrap());
    let follower = LogFollower::open(reading).unwrap();
    for _ in 0..40 {
        log.append_numbered(3, 2000);
        log.commit().unwrap();
        follower.refresh().unwrap();
        let end = log.log.next_offset();
        assert_eq!(follower.view().published(), end);
        assert_eq!(
            read_all(follower.view(), end - 3).unwrap(),
            numbered(end - 3, end, 2000)
        );
    }
    log.drop_front(100).unwrap();
    follower.refresh().unwrap();
    assert_eq!(
        read_all(follower.view(), 100).unwrap(),
        numbered(100, 120, 2000)
    );
}

#[test]
fn times_of_what_was_appended_since_are_found() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_at(&[(10, &value(0, 500))]);
    log.commit().unwrap();
    let follower = LogFollower::open(place(disk.clone())).unwrap();
    let found = |timestamp| {
        follower.refresh().unwrap();
        let view = follower.view();
        view.batch_for_timestamp(timestamp, view.published())
            .unwrap()
            .is_some()
    };
    assert!(found(10));
    assert!(!found(11));
    log.append_at(&[(20, &value(1, 500))]);
    log.commit().unwrap();
    assert!(found(20));
    assert!(!found(21));
}

#[test]
fn bytes_above_the_mark_are_those_that_recovery_would_find() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(4096));
    log.append_numbered(10, 200);
    log.commit().unwrap();
    let marked: u64 = log.log.active_bytes();
    log.append_numbered(10, 200);
    let disk = disk.after_kill();
    let follower = LogFollower::open(place(disk.clone())).unwrap();
    let above = follower.bytes_above_mark().unwrap();
    assert_eq!(above, marked);
    assert_eq!(read_all(follower.view(), 0).unwrap(), numbered(0, 10, 200));
    drop(TestLog::open(place(disk.clone()), written(4096), 2));
    follower.refresh().unwrap();
    assert_eq!(read_all(follower.view(), 0).unwrap(), numbered(0, 20, 200));
    assert_eq!(follower.bytes_above_mark().unwrap(), 0);
}

#[test]
fn deleted_segment_of_the_mark_does_not_disturb() {
    // The mark lags behind two rolled segments, and the first is deleted.
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(20, 200);
    log.sync().unwrap();
    log.append_numbered(1, 200);
    let segment = log.log.to_seal().unwrap();
    segment.cut().unwrap();
    segment
        .write_footer(segment_storage::Check::Headers)
        .unwrap();
    log.log.sealed(&segment);
    log.drop_front(17).unwrap();
    let mark = log.log.marks().mark().unwrap();
    assert_eq!((mark.segment_base, mark.next_offset), (0, 15));
    let follower = LogFollower::open(place(disk.clone())).unwrap();
    assert_eq!(read_all(follower.view(), 17).unwrap(), []);

    for after in [disk.after_power_cut(), disk.after_kill()] {
        let log = TestLog::open(place(after), synced(4096), 2);
        assert_eq!(log.found.corruption, None);
        let entries = log.entries();
        assert!(
            entries.starts_with(&numbered(17, 20, 200)),
            "{}",
            entries.len()
        );
    }
    log.commit().unwrap();
    follower.refresh().unwrap();
    assert_eq!(
        read_all(follower.view(), 17).unwrap(),
        numbered(17, 21, 200)
    );
}

#[test]
fn a_lost_segment_of_the_mark_is_no_empty_log() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(3, 200);
    log.close().unwrap();
    let file = place(disk.clone()).path(&format!("{:020}.log", 0));
    disk.remove(&file).unwrap();
    let follower = LogFollower::open(place(disk)).unwrap();
    let error = read_all(follower.view(), 0).unwrap_err();
    assert!(error.to_string().contains(".log"), "{error}");
}

#[test]
fn other_logs_are_refused() {
    let disk = MemoryDisk::new();
    drop(TestLog::new(&disk, synced(4096)));
    let mut other = place(disk.clone());
    other.log_id = LOG_ID + 1;
    assert!(matches!(
        LogFollower::open(other),
        Err(OpenError::Foreign { .. })
    ));
    disk.remove("t-0/marks").unwrap();
    assert!(matches!(
        LogFollower::open(place(disk)),
        Err(OpenError::Marks(_))
    ));
}
