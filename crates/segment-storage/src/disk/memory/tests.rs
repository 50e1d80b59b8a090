//! What survives a kill and a power cut, and the faults.

use std::io::ErrorKind;

use super::*;
use crate::disk::{Prepare, contract};

#[test]
fn keeps_the_contract() {
    contract::check(|| (Box::new(MemoryDisk::new()), ()));
}

fn written(disk: &MemoryDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(name, 0).unwrap();
    file.write_at(bytes, b"", 0).unwrap();
    file
}

fn names(disk: &MemoryDisk, directory: &str) -> Vec<String> {
    disk.list(directory)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect()
}

#[test]
fn kill_keeps_everything_and_gives_up_locks() {
    let disk = MemoryDisk::new();
    let _lock = disk.lock("LOCK", "first").unwrap();
    let file = written(&disk, "a", b"abc");
    let after = disk.after_kill();
    assert_eq!(after.read_file("a").unwrap(), b"abc");
    after.lock("LOCK", "second").unwrap();
    file.write_at(b"X", b"", 0).unwrap();
    assert_eq!(after.read_file("a").unwrap(), b"abc");
    // The page cache is still not the device.
    assert_eq!(names(&after.after_power_cut(), ""), [""; 0]);
}

#[test]
fn power_cut_keeps_synced_contents_under_synced_names() {
    let disk = MemoryDisk::new();
    disk.create_directory("d").unwrap();
    let file = written(&disk, "d/a", b"abc");
    file.sync().unwrap();
    assert_eq!(names(&disk.after_power_cut(), ""), [""; 0]);
    disk.sync_names("").unwrap();
    assert_eq!(names(&disk.after_power_cut(), "d"), [""; 0]);
    disk.sync_names("d").unwrap();
    file.write_at(b"XYZ123", b"", 0).unwrap();
    assert_eq!(disk.after_power_cut().read_file("d/a").unwrap(), b"abc");
    file.sync().unwrap();
    assert_eq!(disk.after_power_cut().read_file("d/a").unwrap(), b"XYZ123");
}

#[test]
fn name_without_sync_of_contents_is_an_empty_file() {
    let disk = MemoryDisk::new();
    disk.create("a", 100)
        .unwrap()
        .write_at(b"abc", b"", 0)
        .unwrap();
    disk.sync_names("").unwrap();
    assert_eq!(disk.after_power_cut().read_file("a").unwrap(), b"");
}

#[test]
fn rename_and_removal_are_durable_after_sync_names() {
    let disk = MemoryDisk::new();
    disk.write_file("old", b"old").unwrap();
    disk.write_file("gone", b"gone").unwrap();
    written(&disk, "new", b"new").sync().unwrap();
    disk.rename("new", "old").unwrap();
    disk.remove("gone").unwrap();
    let before = disk.after_power_cut();
    assert_eq!(before.read_file("old").unwrap(), b"old");
    assert_eq!(names(&before, ""), ["gone", "old"]);
    disk.sync_names("").unwrap();
    let after = disk.after_power_cut();
    assert_eq!(after.read_file("old").unwrap(), b"new");
    assert_eq!(names(&after, ""), ["old"]);
}

#[test]
fn cut_is_durable_after_sync() {
    let disk = MemoryDisk::new();
    disk.write_file("a", b"abcdef").unwrap();
    let file = disk.open("a").unwrap();
    file.cut(2).unwrap();
    assert_eq!(disk.after_power_cut().read_file("a").unwrap(), b"abcdef");
    file.sync().unwrap();
    assert_eq!(disk.after_power_cut().read_file("a").unwrap(), b"ab");
}

#[test]
fn failed_sync_loses_what_was_dirty_though_it_stays_visible() {
    let disk = MemoryDisk::new();
    disk.write_file("a", &[0; 10]).unwrap();
    let file = disk.open("a").unwrap();
    file.write_at(b"lost", b"", 0).unwrap();
    disk.fail_syncs(1);
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    file.write_at(b"kept", b"", 6).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"lost\0\0kept");
    assert_eq!(
        disk.after_power_cut().read_file("a").unwrap(),
        b"\0\0\0\0\0\0kept"
    );
    assert_eq!(disk.after_kill().read_file("a").unwrap(), b"lost\0\0kept");

    let found = disk.after_kill();
    found.open("a").unwrap().drop_cache().unwrap();
    assert_eq!(found.read_file("a").unwrap(), b"\0\0\0\0\0\0kept");

    file.write_at(b"again", b"", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(
        disk.after_power_cut().read_file("a").unwrap(),
        b"again\0kept"
    );
    assert_eq!(disk.syncs(), 3);
}

#[test]
fn failed_name_sync_makes_nothing_durable() {
    let disk = MemoryDisk::new();
    disk.create("a", 0).unwrap();
    disk.fail_name_syncs(1);
    assert_eq!(disk.sync_names("").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(names(&disk.after_power_cut(), ""), [""; 0]);
    disk.sync_names("").unwrap();
    assert_eq!(names(&disk.after_power_cut(), ""), ["a"]);
    assert_eq!(disk.name_syncs(), 2);
}

#[test]
fn failed_write_writes_nothing_and_fails_once() {
    let disk = MemoryDisk::new();
    let file = written(&disk, "a", b"abc");
    disk.fail_next_write(ErrorKind::Other);
    assert_eq!(
        file.write_at(b"X", b"", 0).unwrap_err().kind(),
        ErrorKind::Other
    );
    assert_eq!(disk.read_file("a").unwrap(), b"abc");
    file.write_at(b"X", b"", 0).unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"Xbc");
    assert_eq!(disk.bytes_written(), 4);
}

#[test]
fn full_disk_refuses_growth_and_nothing_else() {
    let disk = MemoryDisk::new();
    disk.set_free_bytes(10);
    let file = disk.create("a", 6).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4);
    let error = disk.create("b", 5).err().unwrap();
    assert_eq!(
        (error.kind(), error.raw_os_error()),
        (ErrorKind::StorageFull, Some(28))
    );
    assert_eq!(names(&disk, ""), ["a"]);
    assert_eq!(
        disk.extend("a", 11).err().unwrap().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(file.len(), 6);
    file.write_at(b"123456", b"", 0).unwrap();
    let refused = file.write_at(b"12345", b"", 6).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    assert_eq!(file.len(), 6);
    file.write_at(b"1234", b"", 6).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 0);
    file.sync().unwrap();
    disk.remove("a").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 10);
}

#[test]
fn corruption_is_in_both_images() {
    let disk = MemoryDisk::new();
    disk.write_file("a", b"abc").unwrap();
    disk.corrupt("a", 1, 0x01).unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"acc");
    assert_eq!(disk.after_power_cut().read_file("a").unwrap(), b"acc");
    assert_eq!(
        disk.corrupt("a", 3, 1).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
}

#[test]
fn prepared_zeros_are_durable() {
    let disk = MemoryDisk::new();
    let file = disk.create("a", 100).unwrap();
    file.prepare(0, Prepare::Zeros).unwrap();
    disk.sync_names("").unwrap();
    assert_eq!(disk.after_power_cut().read_file("a").unwrap(), [0; 100]);
    assert_eq!((disk.bytes_written(), disk.syncs()), (100, 1));
}

#[test]
fn sync_at_a_gate_covers_what_was_written_before_it() {
    let disk = MemoryDisk::new();
    disk.write_file("a", b"").unwrap();
    let file = disk.open("a").unwrap();
    file.write_at(b"before", b"", 0).unwrap();
    let gate = disk.hold_syncs();
    std::thread::scope(|scope| {
        let syncs = [scope.spawn(|| file.sync()), scope.spawn(|| file.sync())];
        gate.wait_until_syncs_wait(2);
        assert_eq!(gate.waiting_syncs(), 2);
        file.write_at(b"after", b"", 6).unwrap();
        assert_eq!(disk.after_power_cut().read_file("a").unwrap(), b"");
        drop(gate);
        for sync in syncs {
            sync.join().unwrap().unwrap();
        }
    });
    assert_eq!(disk.waiting_syncs(), 0);
    assert_eq!(disk.after_power_cut().read_file("a").unwrap(), b"before");
    file.sync().unwrap();
    assert_eq!(
        disk.after_power_cut().read_file("a").unwrap(),
        b"beforeafter"
    );
}
