//! Files that the device does not give back: nothing is guessed, cut or written over, and when they
//! can be read again all is there.

use std::io;
use std::sync::Arc;

use segment_storage::codec::{self, CodecError};
use segment_storage::state_file::{self, StateFileError};
use segment_storage::{Disk, MemoryDisk, OpenError, SegmentedLog, SlotError, SlotFile, names};

use crate::harness::{
    DIRECTORY, TestLog, contents, numbered, path, place, place_on, segment_path, synced,
};
use crate::unreadable::{EIO, Unreadable};

/// Opens what a kill left while reads of `name` fail from `from` on; then when they do not.
fn open_while_failing(disk: &MemoryDisk, name: &str, from: u64) -> TestLog {
    let failing = Unreadable::new(disk.clone());
    let place = place_on(Arc::new(failing.clone()));
    let before = contents(disk);
    failing.fail(name, from);
    match SegmentedLog::open(place.clone(), synced(4096), 2, 0) {
        Err(OpenError::Io { file, source }) => {
            assert_eq!(file, format!("memory:{}", path(name)));
            assert_eq!(source.raw_os_error(), Some(EIO));
        }
        other => panic!("{name}: {:?}", other.map(|(_, found)| found)),
    }
    assert!(contents(disk) == before, "{name}: something was written");
    failing.mend();
    TestLog::open(place, synced(4096), 2)
}

#[test]
fn tail_that_cannot_be_read_is_not_cut() {
    for from in [0, 300] {
        let disk = MemoryDisk::new();
        let mut log = TestLog::new(&disk, synced(4096));
        log.append_numbered(10, 200);
        log.commit().unwrap();
        let log = open_while_failing(&disk.after_kill(), &names::segment(0), from);
        assert_eq!(log.found.corruption, None);
        assert_eq!(log.found.cut, []);
        assert_eq!(log.entries(), numbered(0, 10, 200));
    }
}

#[test]
fn sealed_segment_that_cannot_be_read_is_no_damage() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(40, 200);
    log.commit().unwrap();
    // Without its footer the whole file is looked at.
    let disk = disk.after_kill();
    disk.remove(&path(&names::footer(0))).unwrap();
    let log = open_while_failing(&disk, &names::segment(0), 0);
    assert_eq!(log.found.corruption, None);
    assert_eq!(log.found.footers_rebuilt, [names::segment(0)]);
    assert_eq!(log.entries(), numbered(0, 40, 200));
}

#[test]
fn prepared_file_that_cannot_be_read_is_not_removed() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(3, 200);
    // Written, but never synced: it still has the name it was prepared under.
    let disk = disk.after_kill();
    let names = disk.list(DIRECTORY).unwrap();
    let prepared = names.into_iter().find(|e| names::is_prepared(&e.name));
    let log = open_while_failing(&disk, &prepared.unwrap().name, 0);
    assert_eq!(log.found.removed, Vec::<String>::new());
    assert_eq!(log.entries(), numbered(0, 3, 200));
}

#[test]
fn marks_that_cannot_be_read_are_not_guessed() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(3, 200);
    log.commit().unwrap();
    let disk = disk.after_kill();
    let failing = Unreadable::new(disk.clone());
    let place = place_on(Arc::new(failing.clone()));
    failing.fail("marks", 0);
    let opened = SegmentedLog::open(place.clone(), synced(4096), 2, 0);
    match opened {
        Err(OpenError::Marks(SlotError::Io { file, source })) => {
            assert_eq!(file, format!("memory:{}", path("marks")));
            assert_eq!(source.raw_os_error(), Some(EIO));
        }
        other => panic!("{:?}", other.map(|(_, found)| found)),
    }
    failing.mend();
    let log = TestLog::open(place, synced(4096), 2);
    assert_eq!(log.entries(), numbered(0, 3, 200));
}

#[test]
fn marks_that_are_missing_are_not_made_anew() {
    let disk = MemoryDisk::new();
    TestLog::new(&disk, synced(4096)).close().unwrap();
    disk.remove(&path("marks")).unwrap();
    let before = contents(&disk);
    match SegmentedLog::open(place(disk.clone()), synced(4096), 2, 0) {
        Err(OpenError::Marks(SlotError::Io { source, .. })) => {
            assert_eq!(source.kind(), io::ErrorKind::NotFound);
        }
        other => panic!("{:?}", other.map(|(_, found)| found)),
    }
    assert!(contents(&disk) == before);
}

/// Each look at a pair of slots says that it could not look.
#[test]
fn slots_that_cannot_be_read_are_neither_damaged_nor_empty() {
    const MAGIC: [u8; 4] = *b"TEST";
    let failing = Unreadable::new(MemoryDisk::new());
    let disk: Arc<dyn Disk> = Arc::new(failing.clone());
    let made = SlotFile::create(&disk, "", "slots", MAGIC, 2, |slots| {
        slots.write(0, &7_u32)?;
        slots.write(1, &8_u32)
    });
    made.unwrap();
    let slots = SlotFile::open(&disk, "", "slots", MAGIC, 2).unwrap();
    slots.write(1, &9_u32).unwrap();
    slots.sync().unwrap();
    // The second pair only.
    failing.fail("slots", 1024);
    assert_eq!(slots.read::<u32>(0).unwrap(), 7);
    let is_eio = |error: SlotError| match error {
        SlotError::Io { file, source } => {
            assert_eq!(
                (file.as_str(), source.raw_os_error()),
                ("memory:slots", Some(EIO))
            );
        }
        other => panic!("{other:?}"),
    };
    is_eio(slots.read::<u32>(1).unwrap_err());
    is_eio(slots.read_synced::<u32>(1).unwrap_err());
    is_eio(slots.damaged_slots(1).unwrap_err());
    let error = slots.valid_slots(1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EIO));
    for written in [slots.write(1, &10_u32), slots.repeat::<u32>(1)] {
        assert_eq!(written.unwrap_err().raw_os_error(), Some(EIO));
    }
    failing.mend();
    assert_eq!(slots.read::<u32>(1).unwrap(), 9);
    assert_eq!(slots.read_synced::<u32>(1).unwrap(), 9);
    let shown = format!("{slots:?}");
    assert!(
        shown.contains("memory:slots") && shown.contains("pairs: 2"),
        "{shown}"
    );
}

/// A reader in another process may see a slot while it is being written, and looks again.
#[test]
fn slot_that_is_being_written_is_looked_at_again() {
    let torn = Unreadable::new(MemoryDisk::new());
    let disk: Arc<dyn Disk> = Arc::new(torn.clone());
    let made = SlotFile::create(&disk, "", "slots", *b"TEST", 1, |slots| {
        slots.write(0, &7_u32)?;
        slots.write(0, &8_u32)
    });
    made.unwrap();
    let slots = SlotFile::open(&disk, "", "slots", *b"TEST", 1).unwrap();
    for (reads, value, damaged) in [(0, 8, 0), (2, 8, 0), (3, 7, 1)] {
        torn.tear_reads(reads);
        assert_eq!(slots.read::<u32>(0).unwrap(), value, "{reads} torn reads");
        torn.tear_reads(reads);
        assert_eq!(slots.damaged_slots(0).unwrap(), damaged, "{reads}");
    }
}

#[test]
fn state_file_that_cannot_be_read_is_not_a_missing_one() {
    let failing = Unreadable::new(MemoryDisk::new());
    let name = "state";
    state_file::write(&failing, "", name, *b"TEST", 1, &5_u32).unwrap();
    failing.fail(name, 0);
    match state_file::read::<u32>(&failing, name, *b"TEST", 1) {
        Err(StateFileError::Io { file, source }) => {
            assert_eq!(
                (file.as_str(), source.raw_os_error()),
                ("memory:state", Some(EIO))
            );
        }
        other => panic!("{other:?}"),
    }
    failing.mend();
    let read = state_file::read::<u32>(&failing, name, *b"TEST", 1).unwrap();
    assert_eq!(read, Some(5));
    failing.disk.create_directory("other").unwrap();
    let read = state_file::read::<u32>(&failing, "other", *b"TEST", 1);
    assert!(matches!(read, Err(StateFileError::Io { .. })), "{read:?}");
}

/// Each file is read whole, so its length is looked at first.
#[test]
fn state_file_that_is_too_long_is_refused_before_it_is_read() {
    let longest = u64::try_from(codec::BODY_BYTES_MAX + codec::OVERHEAD).unwrap();
    let disk = Unreadable::new(MemoryDisk::new());
    state_file::write(&disk, "", "state", *b"TEST", 1, &5_u32).unwrap();
    disk.fail("state", 0);
    for (len, is_read) in [(longest, true), (longest + 1, false)] {
        disk.pretend_len(len);
        match state_file::read::<u32>(&disk, "state", *b"TEST", 1) {
            Err(StateFileError::Io { .. }) => assert!(is_read, "{len}"),
            Err(StateFileError::Codec {
                source: CodecError::Length { expected, found },
                ..
            }) => {
                assert!(!is_read, "{len}");
                assert_eq!((expected, found), (longest, len));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn state_file_on_a_full_disk_fails_for_that_and_the_old_one_stays() {
    let disk = Unreadable::new(MemoryDisk::new());
    state_file::write(&disk, "", "state", *b"TEST", 1, &5_u32).unwrap();
    disk.fill_up();
    let error = state_file::write(&disk, "", "state", *b"TEST", 1, &6_u32).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let read = state_file::read::<u32>(&disk, "state", *b"TEST", 1).unwrap();
    assert_eq!(read, Some(5));
    // What is in the way is said, too.
    let disk = MemoryDisk::new();
    disk.create_directory("cache.tmp").unwrap();
    let error = state_file::write_cache(&disk, "", "cache", *b"TEST", 1, &6_u32).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
}
#[test]
fn short_segment_is_refused_by_its_length_before_it_is_read() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(40, 200);
    log.commit().unwrap();
    let disk = disk.after_kill();
    let mut file = disk.read_file(&segment_path(0)).unwrap();
    file.truncate(100);
    disk.write_file(&segment_path(0), &file).unwrap();
    let failing = Unreadable::new(disk);
    failing.fail(&names::segment(0), 0);
    let place = place_on(Arc::new(failing));
    let (_, found) = SegmentedLog::open(place, synced(4096), 2, 0).unwrap();
    let corruption = found.corruption.unwrap();
    assert_eq!(corruption.position, 100);
}
