//! Segments and snapshots that the device does not give back while a log is opened.

use std::sync::Arc;

use partition_log::{Now, OpenContext, OpenError, Opened, PartitionLog, snapshot};
use segment_storage::{Disk, MemoryDisk, Place, ReadError, names};

use crate::harness::{Answer, DIRECTORY, LOG_ID, World, p7, segment_path, snapshot_path, strict};
use crate::unreadable::{EIO, Unreadable};

pub(crate) fn open(disk: &Unreadable) -> Result<(PartitionLog, Opened), OpenError> {
    let place = Place {
        disk: Arc::new(disk.clone()),
        directory: DIRECTORY.into(),
        log_id: LOG_ID,
    };
    let context = OpenContext {
        generation: 9,
        now: Now {
            elapsed_ms: 0,
            wall_ms: 1_700_000_000_000,
        },
        producer_id_bound: 1_000,
    };
    PartitionLog::open(place, strict(), context)
}

/// Two sealed segments, the second one empty of producer 7, and what a kill leaves of them.
fn killed() -> MemoryDisk {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.send(p7(1, 1));
    world.roll();
    world.send(p7(0, 0).of(8));
    world.roll();
    world.disk.after_kill()
}

#[test]
fn replay_that_cannot_read_ends_the_open_and_forgets_nobody() {
    let disk = Unreadable::new(killed());
    for offset in [2, 3] {
        // Whichever there are: the whole log is replayed.
        let _ = disk.disk.write_file(&snapshot_path(offset), b"damaged");
    }
    disk.fail(&names::segment(0), 0);
    match open(&disk).map(|(_, opened)| opened) {
        Err(OpenError::Replay(ReadError::Io { file, source })) => {
            assert_eq!(file, format!("memory:{}", segment_path(0)));
            assert_eq!(source.raw_os_error(), Some(EIO));
        }
        other => panic!("{other:?}"),
    }
    disk.mend();
    let (log, opened) = open(&disk).unwrap();
    assert_eq!(opened.producers.replayed, 3);
    let window = log.producers().get(7).unwrap().window;
    assert_eq!(window.len(), 2);
}

/// A snapshot is a cache: without it the log is replayed, to the same end.
#[test]
fn snapshot_that_cannot_be_read_is_replaced_by_a_replay() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.close();
    let disk = Unreadable::new(world.disk.after_kill());
    disk.fail(&names::snapshot(1), 0);
    let (log, opened) = open(&disk).unwrap();
    assert_eq!(opened.producers.snapshot, None);
    assert_eq!(opened.producers.damaged, [1]);
    assert_eq!(opened.producers.replayed, 1);
    assert_eq!(log.corruption(), None);
    world.reopen(disk.disk.after_kill());
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
}

#[test]
fn directory_that_cannot_be_listed_has_no_snapshots_and_says_so() {
    let disk = MemoryDisk::new();
    let place = Place {
        disk: Arc::new(disk),
        directory: DIRECTORY.into(),
        log_id: LOG_ID,
    };
    let error = snapshot::list(&place).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn removing_a_snapshot_tells_a_missing_one_from_one_that_stays() {
    let disk = MemoryDisk::new();
    disk.create_directory(DIRECTORY).unwrap();
    disk.create_directory(&snapshot_path(5)).unwrap();
    let place = crate::harness::place(&disk);
    snapshot::remove(&place, 4).unwrap();
    let error = snapshot::remove(&place, 5).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::IsADirectory);
    assert_eq!(snapshot::list(&place).unwrap(), Vec::<u64>::new());
}
