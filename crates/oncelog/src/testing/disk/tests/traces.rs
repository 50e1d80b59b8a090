//! Traces, and the disks that a crash in them may leave.

use std::collections::BTreeSet;

use super::*;

fn all(_: usize) -> Kept {
    Kept::Whole
}

fn none(_: usize) -> Kept {
    Kept::Lost
}

#[test]
fn crash_that_keeps_everything_is_the_disk_at_that_moment() {
    let disk = SimulatedDisk::new(1);
    durable(&disk, "old", b"old");
    disk.record();
    let mut moments = Vec::new();
    let mut note = |disk: &SimulatedDisk| moments.push((disk.recorded(), disk.fingerprint()));
    note(&disk);
    disk.create_directory("d").unwrap();
    note(&disk);
    let file = disk.create("d/a", 10_000).unwrap();
    note(&disk);
    file.write_at(&[7; 300], b"x", 4000).unwrap();
    note(&disk);
    file.sync().unwrap();
    note(&disk);
    file.write_at(b"grown", b"", 20_000).unwrap();
    note(&disk);
    disk.rename("d/a", "d/b").unwrap();
    note(&disk);
    disk.sync_names("d").unwrap();
    file.cut(4100).unwrap();
    note(&disk);
    disk.remove("old").unwrap();
    file.sync().unwrap();
    note(&disk);
    disk.remove_directory("d").unwrap();
    note(&disk);
    let trace = disk.take_trace().unwrap();
    assert_eq!(trace.len(), moments.last().unwrap().0);
    for (position, fingerprint) in moments {
        let mut crash = trace.crash_at_start();
        while crash.position() < position {
            assert!(crash.advance());
        }
        assert_eq!(crash.image(all).fingerprint(), fingerprint, "at {position}");
    }
    assert!(disk.take_trace().is_none());
}

#[test]
fn what_was_synced_survives_whatever_is_lost() {
    let disk = SimulatedDisk::new(1);
    disk.record();
    let file = written(&disk, "a", b"abc");
    file.sync().unwrap();
    file.write_at(b"X", b"", 0).unwrap();
    disk.sync_names("").unwrap();
    let trace = disk.take_trace().unwrap();
    let mut crash = trace.crash_at_start();
    let mut lists = Vec::new();
    loop {
        let image = crash.image(none);
        lists.push((names(&image, "").len(), crash.unsynced()));
        if !crash.advance() {
            break;
        }
    }
    // Created, named, resized, written, synced, written, names synced.
    assert_eq!(
        lists,
        [
            (0, 0),
            (0, 0),
            (0, 1),
            (0, 2),
            (0, 3),
            (0, 1),
            (0, 2),
            (1, 1)
        ]
    );
    assert_eq!(crash.image(none).read_file("a").unwrap(), b"abc");
    assert_eq!(crash.image(all).read_file("a").unwrap(), b"Xbc");
    assert_eq!(crash.describe(0), "5: write a page 0 sectors 00000001");
}

#[test]
fn sync_covers_what_was_done_before_it_began() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", b"--");
    disk.record();
    file.write_at(b"1", b"", 0).unwrap();
    let gate = disk.hold_syncs();
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync());
        gate.wait_until_syncs_wait(1);
        file.write_at(b"2", b"", 1).unwrap();
        drop(gate);
        sync.join().unwrap().unwrap();
    });
    let trace = disk.take_trace().unwrap();
    let mut crash = trace.crash_at_start();
    while crash.advance() {}
    assert_eq!(crash.unsynced(), 1);
    // Both bytes are in one sector, and so is the image that the sync may have written.
    assert_eq!(crash.image(none).read_file("a").unwrap(), b"1-");
    assert_eq!(crash.image(all).read_file("a").unwrap(), b"12");
}

#[test]
fn every_combination_of_what_is_not_synced_can_be_made() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", &[0; 8192]);
    disk.record();
    file.write_at(b"1", b"", 0).unwrap();
    file.write_at(b"2", b"", 600).unwrap();
    file.write_at(b"3", b"", 5000).unwrap();
    disk.create("b", 0).unwrap();
    let trace = disk.take_trace().unwrap();
    let mut crash = trace.crash_at_start();
    while crash.advance() {}
    assert_eq!(crash.unsynced(), 4);
    let mut seen = BTreeSet::new();
    for combination in 0..16_u32 {
        let image = crash.image(|item| match combination >> item & 1 {
            0 => Kept::Lost,
            _ => Kept::Whole,
        });
        let bytes = image.read_file("a").unwrap();
        let left = (bytes[0], bytes[600], bytes[5000], names(&image, "").len());
        let kept = |item: u32, byte: u8| {
            if combination >> item & 1 == 1 {
                byte
            } else {
                0
            }
        };
        let expected = (kept(0, b'1'), kept(1, b'2'), kept(2, b'3'));
        assert_eq!((left.0, left.1, left.2), expected);
        seen.insert(image.fingerprint());
    }
    assert_eq!(seen.len(), 16);
}

#[test]
fn write_can_be_torn_between_its_sectors() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", &[b'-'; 4096]);
    disk.record();
    file.write_at(&[b'N'; 1536], b"", 1024).unwrap();
    let trace = disk.take_trace().unwrap();
    let mut crash = trace.crash_at_start();
    while crash.advance() {}
    assert_eq!(crash.sectors(0), 0b0001_1100);
    let image = crash.image(|item| Kept::first(crash.sectors(item), 2));
    let bytes = image.read_file("a").unwrap();
    let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
    assert_eq!(sectors, b"--NN----");
}

#[test]
fn killed_process_leaves_everything_and_what_was_not_synced_is_not() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", &[1; 5000]);
    disk.record();
    file.write_at(&[2; 100], b"", 0).unwrap();
    file.sync().unwrap();
    file.write_at(&[3; 5000], b"", 4000).unwrap();
    disk.create("b", 100).unwrap();
    disk.rename("a", "c").unwrap();
    let now = disk.fingerprint();
    let trace = disk.take_trace().unwrap();
    let mut crash = trace.crash_at_start();
    while crash.advance() {}
    let killed = crash.killed().on(FileSystem::Strict);
    assert_eq!(killed.fingerprint(), now);
    let left = outcomes(&killed, 50, SimulatedDisk::fingerprint);
    let left: BTreeSet<u64> = left.into_keys().collect();
    assert_eq!(left, BTreeSet::from([now, crash.image(none).fingerprint()]));
    // What it writes again is durable with its next sync.
    killed.open("c").unwrap().sync().unwrap();
    killed.sync_names("").unwrap();
    assert_eq!(
        outcomes(&killed, 50, |disk| disk.read_file("c").unwrap()).len(),
        1
    );
}
