//! Deleting the front of a log.

use segment_storage::{Disk, LogStart, MemoryDisk, ReadError, names};

use crate::harness::{
    TestLog, create, files, numbered, path, place, read_all, segment_path, synced, value,
};
use crate::recorder::Recorder;

/// Offsets 0 to 39 in segments of ten, the last of them active.
fn forty(disk: &MemoryDisk) -> TestLog {
    let mut log = TestLog::new(disk, synced(1 << 20));
    for n in 0..4 {
        if n > 0 {
            log.log.roll();
        }
        log.append_numbered(10, 100);
    }
    log.commit().unwrap();
    log
}

fn segments(disk: &MemoryDisk) -> Vec<u64> {
    let names = files(disk);
    names
        .iter()
        .filter_map(|n| names::offset_of(n, "log"))
        .collect()
}

#[test]
fn start_may_lie_anywhere_and_whole_segments_go() {
    for (start, left) in [
        (0, vec![0, 10, 20, 30]),
        (1, vec![0, 10, 20, 30]),
        (9, vec![0, 10, 20, 30]),
        (10, vec![10, 20, 30]),
        (25, vec![20, 30]),
        (30, vec![30]),
        (40, vec![30]),
    ] {
        let disk = MemoryDisk::new();
        let mut log = forty(&disk);
        log.drop_front(start).unwrap();
        assert_eq!(log.entries(), numbered(start, 40, 100), "start {start}");
        for after in [disk.after_kill(), disk.after_power_cut()] {
            assert_eq!(segments(&after), left, "start {start}");
            let footers = files(&after)
                .iter()
                .filter(|n| n.ends_with(".footer"))
                .count();
            assert_eq!(footers, left.len() - 1, "start {start}");
            let log = TestLog::open(place(after), synced(1 << 20), 2);
            assert_eq!(log.found.corruption, None);
            assert_eq!(log.view().start(), start);
            assert_eq!(log.entries(), numbered(start, 40, 100), "start {start}");
        }
        if start > 0 {
            let error = read_all(log.view(), start - 1).unwrap_err();
            assert!(
                matches!(error, ReadError::Deleted { asked, first } if (asked, first) == (start - 1, start)),
                "{error}"
            );
        }
    }
}

#[test]
fn start_never_moves_back() {
    let disk = MemoryDisk::new();
    let mut log = forty(&disk);
    log.drop_front(25).unwrap();
    let written = disk.bytes_written();
    log.drop_front(25).unwrap();
    log.drop_front(12).unwrap();
    assert_eq!(disk.bytes_written(), written);
    assert_eq!(log.view().start(), 25);
}

#[test]
#[should_panic(expected = "below the published end")]
fn start_above_the_published_end_is_an_error_of_the_caller() {
    let disk = MemoryDisk::new();
    let mut log = forty(&disk);
    log.append_numbered(1, 100);
    log.drop_front(41).unwrap();
}

/// The order in which names become durable is the file system's.
#[test]
fn interrupted_deletion_is_no_damage() {
    for gone in [vec![0], vec![10], vec![20], vec![0, 20], vec![10, 20]] {
        let disk = MemoryDisk::new();
        let mut log = forty(&disk);
        let before = disk.after_power_cut();
        log.drop_front(33).unwrap();
        // The start is durable, some of the files are not gone.
        let marks = disk.after_power_cut().read_file(&path("marks")).unwrap();
        before.write_file(&path("marks"), &marks).unwrap();
        for &base in &gone {
            before.remove(&segment_path(base)).unwrap();
            before.remove(&path(&names::footer(base))).unwrap();
        }
        let mut log = TestLog::open(place(before.clone()), synced(1 << 20), 2);
        assert_eq!(log.found.corruption, None, "{gone:?}");
        assert_eq!(log.entries(), numbered(33, 40, 100), "{gone:?}");
        log.log.drop_deleted().unwrap();
        assert_eq!(segments(&before), [30], "{gone:?}");
        log.append_numbered(1, 100);
        log.commit().unwrap();
        let log = TestLog::open(place(before.after_power_cut()), synced(1 << 20), 3);
        assert_eq!(log.entries(), numbered(33, 41, 100), "{gone:?}");
    }
}

#[test]
fn damage_in_what_is_deleted_disturbs_nobody() {
    let disk = MemoryDisk::new();
    let mut log = forty(&disk);
    let before = disk.after_power_cut();
    log.drop_front(33).unwrap();
    let marks = disk.after_power_cut().read_file(&path("marks")).unwrap();
    before.write_file(&path("marks"), &marks).unwrap();
    let mut file = before.read_file(&segment_path(10)).unwrap();
    file.truncate(77);
    before.write_file(&segment_path(10), &file).unwrap();
    let log = TestLog::open(place(before), synced(1 << 20), 2);
    assert_eq!(log.found.corruption, None);
    assert_eq!(log.entries(), numbered(33, 40, 100));
}

#[test]
fn what_could_not_go_then_goes_after_the_next_open() {
    let disk = MemoryDisk::new();
    let mut log = forty(&disk);
    // Rolled, but not sealed yet; and the mark is in it.
    log.log.roll();
    log.append(&[&value(40, 100)]);
    log.sync().unwrap();
    log.drop_front(41).unwrap();
    assert_eq!(segments(&disk), [30, 40]);
    log.seal().unwrap();
    let disk = disk.after_kill();
    let mut log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    assert_eq!(segments(&disk), [30, 40]);
    let gone = log.log.drop_deleted().unwrap();
    assert_eq!(gone.len(), 1);
    assert_eq!(segments(&disk.after_power_cut()), [40]);
    assert_eq!(log.entries(), []);
    assert_eq!(log.log.next_offset(), 41);
}

/// A slot that is written while it is being synced may be torn, and then the mark before it counts:
/// what that one names must be there.
#[test]
fn mark_written_during_the_sync_of_the_start_takes_no_segment_that_is_needed() {
    let recorder = Recorder::default();
    let place = place(recorder.clone());
    create(&place);
    let mut log = TestLog::open(place, synced(1 << 20), 1);
    for _ in 0..3 {
        log.append_numbered(10, 100);
        log.log.roll();
    }
    log.sync().unwrap();
    // The mark that is durable is behind the newest one.
    log.append_numbered(10, 100);
    log.seal().unwrap();
    let item = log.log.begin_sync(true).pop().unwrap();
    item.sync().unwrap();
    log.log.synced(&item);
    let newest = log.log.mark_after(&item).unwrap();
    let marks = log.log.marks().clone();
    assert_eq!(newest.segment_base, 30);
    assert_eq!(marks.synced_mark().unwrap().segment_base, 20);
    let start = LogStart {
        offset: 30,
        ..marks.start().unwrap()
    };
    let dropping = log.log.begin_drop(start).unwrap();
    *recorder.on_sync.lock() = Some(Box::new(move || marks.write_mark(&newest).unwrap()));
    dropping.write().unwrap();
    let gone = log.log.dropped(&dropping);
    dropping.remove(&gone).unwrap();
    // The slot that was written, and not synced since, is lost, torn, or whole.
    let slots = |disk: &MemoryDisk| {
        let bytes = disk.read_file(&path("marks")).unwrap();
        [bytes[..512].to_vec(), bytes[512..1024].to_vec()]
    };
    let (lost, whole) = (recorder.disk.after_power_cut(), recorder.disk.after_kill());
    let (before, after) = (slots(&lost), slots(&whole));
    let differs = [before[0] != after[0], before[1] != after[1]];
    let torn = recorder.disk.after_power_cut();
    let slot = match differs {
        [true, false] => 0,
        [false, true] => 1,
        other => panic!("{other:?}"),
    };
    torn.corrupt(&path("marks"), slot * 512 + 30, 1).unwrap();
    for disk in [lost, torn, whole] {
        let log = TestLog::open(crate::harness::place(disk), synced(1 << 20), 2);
        assert_eq!(log.found.corruption, None);
        assert_eq!(log.entries(), numbered(30, 40, 100));
    }
}
