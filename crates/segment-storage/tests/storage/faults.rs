//! Failed syncs and full disks (I10 to I13, R6, R7).

use std::any::Any;
use std::io;
use std::sync::Arc;

use segment_storage::{DirectoryEntry, Disk, DiskFile, MemoryDisk, WriteError, names};

use crate::harness::{
    TestLog, batch, create, files, numbered, path, place, place_on, segment_path, synced, value,
    written,
};

#[test]
fn failed_sync_fences_the_log_and_a_reopen_believes_only_the_device() {
    for visible in [synced(1 << 20), written(1 << 20)] {
        let disk = MemoryDisk::new();
        let mut log = TestLog::new(&disk, visible.clone());
        log.append_numbered(4, 100);
        log.commit().unwrap();
        log.append_numbered(3, 100);
        disk.fail_syncs(1);
        log.commit().unwrap_err();
        let reason = log.log.latch().reason().unwrap();
        assert_eq!((reason.operation, reason.errno), ("sync", Some(5)));
        // I10: not even now that syncs work again.
        let error = log.put(&batch(&[(0, b"x")])).unwrap_err();
        assert!(
            matches!(&error, WriteError::Latched(l) if l.errno == Some(5)),
            "{error}"
        );
        assert!(log.log.wanted().is_none());
        assert_eq!(log.log.synced_offset(), 4);
        assert!(log.entries().starts_with(&numbered(0, 4, 100)));

        // I11: the page cache still has all seven.
        let after = disk.after_kill();
        let cached = after.read_file(&segment_path(0)).unwrap();
        let seventh = value(6, 100);
        assert!(cached.windows(100).any(|w| w == seventh));
        let mut log = TestLog::open(place(after.clone()), visible.clone(), 2);
        assert_eq!(log.found.corruption, None);
        assert_eq!(log.entries(), numbered(0, 4, 100));
        let next = log.append(&[b"again"]);
        log.commit().unwrap();
        let log = TestLog::open(place(after.after_power_cut()), visible, 3);
        assert_eq!(log.entries().last(), Some(&(next, b"again".to_vec())));
    }
}

/// R7, for the marks: a start that only the page cache has must not cost any file.
#[test]
fn marks_are_believed_as_the_device_has_them() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(40, 200);
    log.commit().unwrap();
    disk.fail_syncs(1);
    log.drop_front(33).unwrap_err();
    assert_eq!(log.view().start(), 0);
    let disk = disk.after_kill();
    let log = TestLog::open(place(disk.clone()), synced(4096), 2);
    assert_eq!(log.entries(), numbered(0, 40, 200));
    let log = TestLog::open(place(disk.after_power_cut()), synced(4096), 3);
    assert_eq!(log.found.corruption, None);
    assert_eq!(log.entries(), numbered(0, 40, 200));
}

#[test]
fn failed_sync_of_names_fences_too() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(3, 100);
    disk.fail_name_syncs(1);
    log.commit().unwrap_err();
    assert_eq!((log.log.synced_offset(), log.view().published()), (0, 0));
    assert!(log.put(&batch(&[(0, b"x")])).is_err());
    for after in [disk.after_kill(), disk.after_power_cut()] {
        let log = TestLog::open(place(after), synced(1 << 20), 2);
        assert_eq!(log.found.corruption, None);
        // The contents were synced, under the name that was prepared.
        assert_eq!(log.entries(), numbered(0, 3, 100));
    }
}

#[test]
fn open_stops_where_what_is_there_cannot_be_synced() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(3, 100);
    log.commit().unwrap();
    let disk = disk.after_kill();
    for failing in 1..4 {
        let disk = disk.after_kill();
        disk.fail_syncs(failing);
        let opened =
            segment_storage::SegmentedLog::open(place(disk.clone()), synced(1 << 20), 2, 0);
        assert!(opened.is_err(), "R7: {failing}");
        disk.fail_syncs(0);
        let log = TestLog::open(place(disk), synced(1 << 20), 3);
        assert_eq!(log.entries(), numbered(0, 3, 100));
    }
}

/// I13: footers want space that is not there; the log closes all the same, cleanly.
#[test]
fn full_disk_seals_later_and_closes_now() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(16, 200);
    disk.set_free_bytes(0);
    // Cutting frees space: take that away as well.
    log.sync().unwrap();
    let segment = log.log.to_seal().unwrap();
    segment.cut().unwrap();
    disk.set_free_bytes(0);
    log.seal().unwrap();
    assert!(log.log.to_seal().is_some());
    assert_eq!(log.entries(), numbered(0, 16, 200));
    log.close().unwrap();
    disk.set_free_bytes(1 << 20);
    for after in [disk.after_kill(), disk.after_power_cut()] {
        let log = TestLog::open(place(after), synced(4096), 2);
        assert_eq!(log.found.corruption, None);
        assert_eq!(log.entries(), numbered(0, 16, 200));
    }
}

#[test]
fn close_cuts_what_was_rolled_and_not_sealed() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(40, 200);
    log.sync().unwrap();
    log.log.close().unwrap();
    for after in [disk.after_kill(), disk.after_power_cut()] {
        let log = TestLog::open(place(after), synced(4096), 2);
        assert_eq!(log.found.corruption, None);
        assert!(log.found.clean);
        assert_eq!(log.found.footers_rebuilt.len(), 2);
        assert_eq!(log.entries(), numbered(0, 40, 200));
    }
}

/// R12: a footer stays true.
#[test]
fn sealed_last_file_is_not_taken_up_again() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(3, 200);
    log.log.roll();
    log.close().unwrap();
    let sealed = disk.read_file(&segment_path(0)).unwrap();
    let mut log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    assert!(log.found.clean);
    log.append_numbered(1, 200);
    log.commit().unwrap();
    assert!(sealed == disk.read_file(&segment_path(0)).unwrap());
    assert_eq!(log.view().segments().len(), 2);
    assert_eq!(log.entries(), numbered(0, 4, 200));
}

#[test]
fn last_file_is_taken_up_again_until_it_is_half_full() {
    let disk = MemoryDisk::new();
    TestLog::new(&disk, synced(8192)).close().unwrap();
    let mut segments = Vec::new();
    for round in 0..8 {
        let mut log = TestLog::open(place(disk.clone()), synced(8192), round + 2);
        assert!(log.found.clean, "round {round}");
        log.append_numbered(4, 200);
        segments.push(log.view().segments().len());
        log.close().unwrap();
    }
    // Four of 4,096 bytes in all: full enough for a file of its own.
    assert_eq!(segments, [1, 1, 1, 1, 2, 2, 2, 2]);
    let log = TestLog::open(place(disk), synced(8192), 20);
    assert_eq!(log.entries(), numbered(0, 32, 200));
}

#[test]
fn sealing_goes_on_when_space_returns() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(16, 200);
    log.sync().unwrap();
    log.log.to_seal().unwrap().cut().unwrap();
    disk.set_free_bytes(0);
    log.seal().unwrap();
    assert!(disk.read_file(&path(&names::footer(0))).is_err());
    disk.set_free_bytes(1 << 20);
    log.seal().unwrap();
    assert!(disk.read_file(&path(&names::footer(0))).is_ok());
    assert!(log.log.to_seal().is_none());
}

#[test]
fn deleting_the_front_works_on_a_full_disk() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(40, 200);
    log.commit().unwrap();
    disk.set_free_bytes(0);
    log.drop_front(33).unwrap();
    assert_eq!(log.entries(), numbered(33, 40, 200));
    assert!(disk.free_bytes().unwrap() > 0);
}

/// A disk that cannot reserve: files grow as they are written.
struct Unreserving(MemoryDisk);

impl Disk for Unreserving {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.0.create_directory(name)
    }
    fn create(&self, name: &str, _: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create(name, 0)
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name)
    }
    fn extend(&self, name: &str, _: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name)
    }
    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        self.0.list(directory)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn remove_directory(&self, name: &str) -> io::Result<()> {
        self.0.remove_directory(name)
    }
    fn sync_names(&self, directory: &str) -> io::Result<()> {
        self.0.sync_names(directory)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
    fn lock(&self, name: &str, holder: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.0.lock(name, holder)
    }
    fn lock_holder(&self, name: &str) -> io::Result<Option<String>> {
        self.0.lock_holder(name)
    }
    fn display(&self, name: &str) -> String {
        self.0.display(name)
    }
}

#[test]
fn without_reserved_blocks_a_full_disk_refuses_one_append() {
    let disk = MemoryDisk::new();
    let place = place_on(Arc::new(Unreserving(disk.clone())));
    create(&place);
    let mut log = TestLog::open(place.clone(), synced(1 << 20), 1);
    log.append_numbered(3, 1000);
    log.commit().unwrap();
    disk.set_free_bytes(500);
    let error = log.try_append(&[(0, &value(3, 1000))]).unwrap_err();
    assert!(matches!(error, WriteError::NoSpace { .. }), "{error}");
    assert!(log.log.latch().reason().is_none());
    assert_eq!((log.log.next_offset(), log.entries().len()), (3, 3));
    // Here the segment is new, and its first write is refused as well.
    let error = log.try_append(&[(0, &value(3, 1000))]).unwrap_err();
    assert!(matches!(error, WriteError::NoSpace { .. }), "{error}");
    disk.set_free_bytes(1 << 20);
    log.append_numbered(2, 1000);
    log.commit().unwrap();
    assert_eq!(log.entries(), numbered(0, 5, 1000));
    log.close().unwrap();
    let log = TestLog::open(place, synced(1 << 20), 2);
    assert!(log.found.clean);
    assert_eq!(log.entries(), numbered(0, 5, 1000));
}

#[test]
fn log_closes_cleanly_when_the_first_write_of_a_segment_was_refused() {
    let disk = MemoryDisk::new();
    let place = place_on(Arc::new(Unreserving(disk.clone())));
    create(&place);
    let mut log = TestLog::open(place.clone(), synced(1 << 20), 1);
    log.append_numbered(3, 1000);
    log.log.roll();
    log.commit().unwrap();
    disk.set_free_bytes(500);
    log.try_append(&[(0, &value(3, 1000))]).unwrap_err();
    disk.set_free_bytes(1 << 20);
    log.close().unwrap();
    let log = TestLog::open(place, synced(1 << 20), 2);
    assert_eq!(log.found.corruption, None);
    assert!(log.found.clean);
    assert_eq!(log.entries(), numbered(0, 3, 1000));
    assert_eq!(files(&disk).len(), 3, "{:?}", files(&disk));
}

#[test]
fn without_reserved_blocks_segments_still_end_at_their_size() {
    let disk = MemoryDisk::new();
    let place = place_on(Arc::new(Unreserving(disk.clone())));
    create(&place);
    let mut log = TestLog::open(place, synced(4096), 1);
    log.append_numbered(40, 200);
    log.commit().unwrap();
    assert_eq!(log.view().segments().len(), 3);
    assert!(disk.read_file(&segment_path(0)).unwrap().len() <= 4096);
}
