//! Damage that nobody noticed while it came about: in a slot, an index, or a whole file.

use segment_storage::{Disk, MemoryDisk};

use crate::harness::{
    DIRECTORY, TestLog, batch, path, place, read_all, segment_path, synced, value, written,
};

fn batch_bytes() -> u64 {
    batch(&[(0, &value(0, 1_000))]).len() as u64
}

const START_SLOTS: [u64; 2] = [2_048, 2_560];
const CEILING_SLOTS: [u64; 2] = [1_024, 1_536];

#[test]
fn no_slot_alone_knows_what_was_deleted() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4 * batch_bytes()));
    log.append_numbered(20, 1_000);
    log.commit().unwrap();
    for start in [3, 9, 14] {
        log.drop_front(start).unwrap();
        for slot in START_SLOTS {
            let damaged = disk.after_kill();
            damaged.corrupt(&path("marks"), slot + 20, 1).unwrap();
            let opened = TestLog::open(place(damaged), synced(1 << 20), 2);
            assert_eq!(opened.view().start(), start, "slot at {slot}");
        }
    }
}

#[test]
fn no_slot_alone_knows_what_was_shown() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(1 << 20));
    for _ in 0..3 {
        log.append_numbered(400, 10);
        log.raise_ceiling().unwrap();
        let marks = |disk: &MemoryDisk| {
            let shared: std::sync::Arc<dyn Disk> = std::sync::Arc::new(disk.clone());
            segment_storage::Marks::open(&shared, DIRECTORY).unwrap()
        };
        let ceiling = marks(&disk).ceiling().unwrap();
        assert!(ceiling >= log.view().published());
        for slot in CEILING_SLOTS {
            let damaged = disk.after_kill();
            damaged.corrupt(&path("marks"), slot + 20, 1).unwrap();
            assert_eq!(
                marks(&damaged).ceiling().unwrap(),
                ceiling,
                "slot at {slot} (I9)"
            );
        }
    }
}

#[test]
fn index_that_was_made_anew_is_written_when_the_log_closes() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(8 * batch_bytes()));
    log.append_numbered(40, 1_000);
    log.seal().unwrap();
    log.close().unwrap();
    let name = path("00000000000000000000.index");
    let good = disk.read_file(&name).unwrap();
    disk.corrupt(&name, 30, 1).unwrap();
    let log = TestLog::open(place(disk.clone()), synced(8 * batch_bytes()), 2);
    assert_eq!(read_all(log.view(), 3).unwrap().len(), 37);
    assert_eq!(log.view().index_rebuilds(), 1);
    log.close().unwrap();
    assert!(disk.read_file(&name).unwrap() == good);
}

#[test]
fn batches_of_another_log_are_not_those_below_the_mark() {
    let logs = [1_000, 900].map(|bytes| {
        let disk = MemoryDisk::new();
        let mut log = TestLog::new(&disk, synced(1 << 20));
        log.append_numbered(10, bytes);
        log.commit().unwrap();
        disk.after_kill()
    });
    for (ours, other) in [(0, 1), (1, 0)] {
        let disk = logs[ours].after_kill();
        let bytes = logs[other].read_file(&segment_path(0)).unwrap();
        disk.write_file(&segment_path(0), &bytes).unwrap();
        let log = TestLog::open(place(disk), synced(1 << 20), 2);
        let corruption = log.found.corruption.clone().unwrap();
        assert!(corruption.file.ends_with(&segment_path(0)), "{corruption}");
        assert_eq!(log.found.cut, []);
    }
}
