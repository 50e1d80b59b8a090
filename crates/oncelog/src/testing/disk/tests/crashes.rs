//! What a kill keeps, and what is durable.

use super::*;

#[test]
fn kill_keeps_everything_and_gives_up_locks() {
    let disk = SimulatedDisk::new(1).on(FileSystem::Loose);
    let _lock = disk.lock("LOCK", "first").unwrap();
    let file = written(&disk, "a", b"abc");
    let after = disk.kill();
    assert_eq!(after.read_file("a").unwrap(), b"abc");
    let _other = after.lock("LOCK", "second").unwrap();
    file.write_at(b"X", b"", 0).unwrap();
    assert_eq!(after.read_file("a").unwrap(), b"abc");
    assert_eq!(disk.read_file("a").unwrap(), b"Xbc");
    // The page cache is still not the device.
    let left = outcomes(&after, 100, |disk| {
        names(disk, "").contains(&"a".to_owned())
    });
    assert_eq!(left.len(), 2);
    assert_eq!(after.counts().kills, 1);
}

#[test]
fn synced_contents_under_synced_names_always_survive() {
    for file_system in [FileSystem::Ordered, FileSystem::Loose, FileSystem::Strict] {
        let disk = SimulatedDisk::new(1).on(file_system);
        disk.create_directory("d").unwrap();
        disk.sync_names("").unwrap();
        let file = written(&disk, "d/a", b"abc");
        file.sync().unwrap();
        disk.sync_names("d").unwrap();
        file.write_at(b"XYZ", b"", 4096).unwrap();
        for seed in 0..200 {
            let left = disk.power_cut(seed).read_file("d/a").unwrap();
            assert_eq!(&left[..3], b"abc", "seed {seed}");
        }
    }
}

#[test]
fn power_cut_draws_from_its_seed_alone() {
    let disk = SimulatedDisk::new(1).on(FileSystem::Loose);
    for name in ["a", "b", "c"] {
        written(&disk, name, &[7; 20_000]);
    }
    let prints: Vec<u64> = (0..20)
        .map(|seed| disk.power_cut(seed).fingerprint())
        .collect();
    let again: Vec<u64> = (0..20)
        .map(|seed| disk.power_cut(seed).fingerprint())
        .collect();
    assert_eq!(prints, again);
    let different: std::collections::BTreeSet<u64> = prints.into_iter().collect();
    assert!(different.len() > 10, "{}", different.len());
}

#[test]
fn space_of_what_a_cut_took_is_free_again() {
    let disk = SimulatedDisk::new(1).on(FileSystem::Strict);
    disk.set_free_bytes(Some(10_000));
    disk.create("a", 6_000).unwrap();
    let free = outcomes(&disk, 50, |disk| {
        (names(disk, "").len(), disk.free_bytes().unwrap())
    });
    let free: Vec<_> = free.into_keys().collect();
    assert_eq!(free, [(0, 10_000), (1, 4_000)]);
}

#[test]
fn bytes_that_were_read_never_change() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", &[1; 10_000]);
    file.publish(10_000);
    let bytes = file.read(0..10_000).unwrap();
    disk.corrupt("a", 5_000, 0xff).unwrap();
    disk.remove("a").unwrap();
    assert!(bytes.iter().all(|byte| *byte == 1));
}

#[test]
fn fingerprint_tells_names_lengths_and_bytes() {
    let disk = SimulatedDisk::new(1);
    let mut seen = std::collections::BTreeSet::from([disk.fingerprint()]);
    let mut changed = |disk: &SimulatedDisk| assert!(seen.insert(disk.fingerprint()));
    let file = disk.create("a", 0).unwrap();
    changed(&disk);
    file.write_at(&[0; 9], b"", 0).unwrap();
    changed(&disk);
    file.write_at(b"x", b"", 8).unwrap();
    changed(&disk);
    file.write_at(b"x", b"", 8 + 4096).unwrap();
    changed(&disk);
    disk.rename("a", "b").unwrap();
    changed(&disk);
    disk.create_directory("c").unwrap();
    changed(&disk);
    let same = durable(&SimulatedDisk::new(2), "a", b"");
    drop(same);
}
