//! The marks file while it is synced and written at the same time.

use std::io;
use std::sync::Arc;
use std::thread;

use segment_storage::marks::{LogStart, StableMark};
use segment_storage::{Disk, Marks, MemoryDisk};

const LOG_ID: u128 = 7;

fn mark(next_offset: u64) -> StableMark {
    StableMark {
        log_id: LOG_ID,
        segment_base: 0,
        position: next_offset * 100,
        next_offset,
        previous_end: 0,
        jump_to: 0,
        generation: 1,
        clean: false,
        last_append_ms: 1,
    }
}

fn marks(disk: &MemoryDisk) -> Marks {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_directory("t-0").unwrap();
    disk.sync_names("").unwrap();
    Marks::create(&disk, "t-0", LOG_ID).unwrap()
}

// Were it written at once, the sync could not say which of the two it made durable; and a log that
// is committed all the time would have no durable mark but the first.
#[test]
fn a_mark_that_is_written_during_a_sync_waits_for_its_end() {
    let disk = MemoryDisk::new();
    let marks = marks(&disk);
    marks.write_mark(&mark(1)).unwrap();
    let gate = disk.hold_syncs();
    thread::scope(|scope| {
        let sync = scope.spawn(|| marks.sync());
        gate.wait_until_syncs_wait(1);
        // Nobody waits, and the newest one counts.
        marks.write_mark(&mark(2)).unwrap();
        marks.write_mark(&mark(3)).unwrap();
        assert_eq!(marks.mark().unwrap().next_offset, 1);
        drop(gate);
        sync.join().unwrap().unwrap();
    });
    assert_eq!(marks.synced_mark().unwrap().next_offset, 1);
    assert_eq!(marks.mark().unwrap().next_offset, 3);
    let after = |disk: MemoryDisk| {
        let disk: Arc<dyn Disk> = Arc::new(disk);
        Marks::open(&disk, "t-0").unwrap().mark().unwrap()
    };
    assert!(after(disk.after_power_cut()).next_offset >= 1);
    assert_eq!(after(disk.after_kill()).next_offset, 3);
    marks.sync().unwrap();
    assert_eq!(after(disk.after_power_cut()).next_offset, 3);
}

#[test]
fn what_is_stored_beside_a_sync_that_fails_is_durable_or_refused() {
    let disk = MemoryDisk::new();
    let marks = marks(&disk);
    let gate = disk.hold_syncs();
    disk.fail_syncs(1);
    thread::scope(|scope| {
        let first = scope.spawn(|| marks.sync());
        gate.wait_until_syncs_wait(1);
        let second = scope.spawn(|| marks.store_ceiling(2_048));
        drop(gate);
        let (first, second): (io::Result<()>, _) = (first.join().unwrap(), second.join().unwrap());
        assert!(first.is_err(), "the sync that ran has the failure");
        second.unwrap();
    });
    let disk: Arc<dyn Disk> = Arc::new(disk.after_power_cut());
    let reopened = Marks::open(&disk, "t-0").unwrap();
    assert_eq!(reopened.ceiling().unwrap(), 2_048);
    let start: LogStart = reopened.start().unwrap();
    assert_eq!(start.offset, 0);
}
