//! Snapshots: when they are written, which are kept, and that damaged ones change no answer.

use std::io;
use std::sync::Arc;

use harness::hooked_disk::{Hook, Op};
use partition_log::{PartitionConfig, ProducerTable, snapshot};
use segment_storage::{Disk, Place};

use crate::driver::{Driver, kafka, of, p7, plain};

fn name(offset: u64) -> String {
    format!("t-0/{offset:020}.snapshot")
}

#[test]
fn case_084_a_snapshot_is_one_file_named_after_its_offset() {
    let mut log = Driver::new(PartitionConfig::default());
    log.send(&p7(0, 0));
    log.send(&p7(1, 1));
    log.log.snapshot().unwrap();
    assert_eq!(log.snapshots(), [2]);
    assert!(
        log.disk
            .read_file("t-0/00000000000000000002.snapshot")
            .is_ok()
    );
    let none = |_| None;
    let read = snapshot::read(log.place(), 2, log.config.producers, none).unwrap();
    let all = |table: &ProducerTable| table.iter().collect::<Vec<_>>();
    assert_eq!(all(&read), all(log.log.producers()));
    assert_eq!(read.get(7).unwrap().window.len(), 2);
}

#[test]
fn case_085_no_second_snapshot_at_the_same_offset() {
    let mut log = Driver::new(PartitionConfig::default());
    log.send(&p7(0, 0));
    log.log.snapshot().unwrap();
    let written = log.disk.bytes_written();
    log.log.snapshot().unwrap();
    assert_eq!(log.disk.bytes_written(), written);
    assert_eq!(log.snapshots(), [1]);
    // A plain record moves the table's end, so there may be another one.
    log.send(&plain());
    log.log.snapshot().unwrap();
    assert_eq!(log.snapshots(), [1, 2]);
}

#[test]
fn case_089_a_damaged_snapshot_is_removed_and_changes_no_answer() {
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [Damage; 3] = [
        |_| Vec::new(),
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |_| b"garbage, garbage, garbage".repeat(4),
    ];
    for damage in damages {
        for older_is_there in [true, false] {
            let mut log = Driver::new(PartitionConfig::default());
            log.send(&p7(0, 0));
            if older_is_there {
                log.log.snapshot().unwrap();
            }
            log.send(&p7(1, 1));
            let mut log = log.reload_after(|_, disk| {
                let bytes = disk.read_file(&name(2)).unwrap();
                disk.write_file(&name(2), &damage(&bytes)).unwrap();
            });
            assert_eq!(log.opened.producers.damaged, [2]);
            assert_eq!(log.opened.producers.snapshot, older_is_there.then_some(1));
            let left: &[u64] = if older_is_there { &[1] } else { &[] };
            assert_eq!(log.snapshots(), left, "the damaged file is gone");
            assert_eq!(log.send(&p7(0, 0)), (0, true));
            assert_eq!(log.send(&p7(1, 1)), (1, true));
            assert_eq!(log.send(&p7(2, 2)), (2, false));
        }
    }
}

// Puts snapshots at these offsets, as a table of nobody.
fn put(place: &Place, offsets: &[u64]) {
    let table = ProducerTable::new(kafka().producers);
    for &offset in offsets {
        snapshot::write(place, offset, &table).unwrap();
    }
}

// 50 records, a segment begins at offset 5, and snapshots are put as asked for.
fn with_snapshots(offsets: &[u64]) -> Driver {
    let mut log = Driver::new(kafka());
    log.send(&of(8, 0, 4));
    log.roll();
    log.send(&of(8, 5, 49));
    log.reload_after(|place, _| {
        snapshot::remove_where(place, |_| true).unwrap();
        put(place, offsets);
    })
}

#[test]
fn case_090_stray_snapshots_are_removed_and_the_newest_is_kept() {
    assert_eq!(with_snapshots(&[2, 5, 42]).snapshots(), [5, 42]);
}

#[test]
fn case_091_all_stray_snapshots_below_the_log_are_removed() {
    let mut log = Driver::new(kafka());
    log.send(&of(8, 0, 41));
    log.roll();
    log.send(&of(8, 42, 49));
    log.log.delete_before(42, log.now()).unwrap();
    let log = log.reload_after(|place, _| {
        snapshot::remove_where(place, |_| true).unwrap();
        put(place, &[2, 5, 42]);
    });
    assert_eq!(log.log.reader().log_start_offset(), 42);
    assert_eq!(log.snapshots(), [42]);
}

#[test]
fn case_092_snapshots_outside_of_the_log_are_removed() {
    let mut log = Driver::new(kafka());
    log.send(&of(8, 0, 0));
    log.roll();
    log.send(&of(8, 1, 2));
    log.log.delete_before(1, log.now()).unwrap();
    let log = log.reload_after(|place, _| {
        snapshot::remove_where(place, |_| true).unwrap();
        put(place, &[1, 2, 3, 4, 5]);
    });
    let reader = log.log.reader();
    assert_eq!((reader.log_start_offset(), log.log.next_offset()), (1, 3));
    assert_eq!(log.snapshots(), [2, 3]);
}

#[test]
fn case_099_a_roll_writes_a_snapshot_at_the_new_base() {
    let mut log = Driver::new(PartitionConfig::default());
    log.send(&p7(0, 1));
    log.roll();
    assert_eq!(log.snapshots(), [2]);
    // Commits inside of the active segment keep it.
    log.send(&p7(2, 2));
    log.send(&p7(3, 3));
    assert_eq!(log.snapshots(), [2]);
    // The next one is due when the log has grown by four times a snapshot's size.
    for n in 4..40 {
        log.send(&p7(n, n));
    }
    log.roll();
    assert_eq!(log.snapshots(), [2, 40], "the older one is kept");
    let mut log = log.crash();
    assert_eq!(log.opened.producers.snapshot, Some(40));
    assert_eq!(log.send(&p7(39, 39)), (39, true));
}

/// Refuses every sync of a snapshot.
struct FailSnapshots;

impl Hook for FailSnapshots {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        if op == Op::Sync && name.contains(".snapshot") {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

#[test]
fn case_100_a_snapshot_that_cannot_be_synced_stops_nothing() {
    // Kafka's recovery point waits for the snapshot. Ours is the mark, and does not: a replay
    // begins at an older snapshot, damage is judged by the mark (R15).
    let log = Driver::new(PartitionConfig::default());
    let mut log = log.reload_hooked(Arc::new(FailSnapshots));
    assert_eq!(log.snapshots(), [0]);
    log.send(&p7(0, 2));
    log.roll();
    log.send(&p7(3, 3));
    assert_eq!(log.snapshots(), [0], "it has no final name");
    let mark = log.log.segments().marks().mark().unwrap();
    assert_eq!((mark.segment_base, mark.next_offset), (3, 4));
    assert!(log.log.segments().latch().reason().is_none());
    let mut log = log.crash();
    assert_eq!(log.send(&p7(0, 2)), (0, true));
    assert_eq!(log.send(&p7(4, 4)), (4, false));
}

#[test]
fn deleting_all_snapshots_changes_no_answer() {
    let mut log = Driver::new(PartitionConfig::default());
    for n in 0..7 {
        log.send(&p7(n, n));
    }
    let mut log = log.reload_after(|place, disk| {
        for offset in snapshot::list(place).unwrap() {
            disk.remove(&name(offset)).unwrap();
        }
    });
    assert_eq!(log.opened.producers.snapshot, None);
    assert_eq!(log.send(&p7(2, 2)), (2, true));
    assert_eq!(log.refusal(&p7(1, 1)), 45, "evicted, as before");
}
