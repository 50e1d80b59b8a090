//! What fails, how, and what is left of it.

use super::*;

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.kind(),
    }
}

fn with(faults: Faults) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    disk.set_faults(faults);
    disk
}

#[test]
fn failed_sync_loses_what_was_dirty_though_it_stays_visible() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", &[0; 3 * 4096]);
    file.write_at(b"lost", b"", 0).unwrap();
    disk.fail_syncs(1);
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    file.write_at(b"kept", b"", 4096).unwrap();
    file.sync().unwrap();
    let on_device = |disk: &SimulatedDisk| {
        let left = outcomes(disk, 50, |disk| disk.read_file("a").unwrap());
        assert_eq!(left.len(), 1, "nothing is dirty");
        left.into_keys().next().unwrap()
    };
    let text = |bytes: &[u8], at: usize| String::from_utf8_lossy(&bytes[at..at + 4]).into_owned();
    let live = disk.read_file("a").unwrap();
    assert_eq!(
        (text(&live, 0), text(&live, 4096)),
        ("lost".into(), "kept".into())
    );
    let device = on_device(&disk);
    assert_eq!(
        (text(&device, 0), text(&device, 4096)),
        ("\0\0\0\0".into(), "kept".into())
    );

    let found = disk.kill();
    assert_eq!(text(&found.read_file("a").unwrap(), 0), "lost");
    found.open("a").unwrap().drop_cache().unwrap();
    assert_eq!(text(&found.read_file("a").unwrap(), 0), "\0\0\0\0");

    // The page is written as a whole when it is dirty again.
    file.write_at(b"!", b"", 4).unwrap();
    file.sync().unwrap();
    assert_eq!(text(&on_device(&disk), 0), "lost");
    let counts = disk.counts();
    assert_eq!(
        (
            counts.syncs,
            counts.failed_syncs,
            counts.pages_lost_by_syncs
        ),
        (3, 1, 1)
    );
}

#[test]
fn drawn_failure_of_a_sync_loses_any_part() {
    let disk = with(Faults {
        sync_errors: 0.5,
        ..Faults::NONE
    });
    let file = durable(&disk, "a", &[0; 2 * 4096]);
    let mut seen = std::collections::BTreeSet::new();
    let mut failed = 0;
    for round in 1..=100 {
        file.write_at(&[round; 2 * 4096], b"", 0).unwrap();
        let result = file.sync();
        let left = disk.power_cut(0).read_file("a").unwrap();
        let is_new = (left[0] == round, left[4096] == round);
        match result {
            Ok(()) => assert_eq!(is_new, (true, true)),
            Err(_) => {
                failed += 1;
                seen.insert(is_new);
            }
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!((30..70).contains(&failed), "{failed}");
    assert_eq!(disk.counts().failed_syncs, failed);
}

#[test]
fn failed_sync_of_a_directory_makes_nothing_durable() {
    let disk = SimulatedDisk::new(1).on(FileSystem::Strict);
    disk.create("a", 0).unwrap();
    disk.fail_name_syncs(1);
    assert_eq!(disk.sync_names("").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(outcomes(&disk, 50, |disk| names(disk, "")).len(), 2);
    disk.sync_names("").unwrap();
    assert_eq!(outcomes(&disk, 50, |disk| names(disk, "")).len(), 1);
    disk.set_faults(Faults {
        name_sync_errors: 1.0,
        ..Faults::NONE
    });
    assert!(disk.sync_names("").is_err());
    let counts = disk.counts();
    assert_eq!((counts.name_syncs, counts.failed_name_syncs), (3, 2));
}

#[test]
fn failed_reservation_leaves_nothing_behind() {
    let disk = SimulatedDisk::new(1);
    durable(&disk, "b", b"abc");
    disk.set_faults(Faults {
        reservation_errors: 1.0,
        ..Faults::NONE
    });
    let error = disk.create("a", 4096).err().unwrap();
    assert_eq!(error.raw_os_error(), Some(5));
    assert!(disk.extend("b", 4096).is_err());
    assert_eq!(names(&disk, ""), ["b"]);
    assert_eq!(disk.open("b").unwrap().len(), 3);
    disk.create("c", 0).unwrap();
    assert_eq!(disk.counts().failed_reservations, 2);
}

#[test]
fn full_disk_refuses_growth_and_nothing_else_until_there_is_space() {
    let disk = SimulatedDisk::new(1);
    disk.set_free_bytes(Some(10));
    let file = disk.create("a", 6).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4);
    let error = disk.create("b", 5).err().unwrap();
    assert_eq!(
        (error.kind(), error.raw_os_error()),
        (ErrorKind::StorageFull, Some(28))
    );
    assert_eq!(names(&disk, ""), ["a"]);
    assert_eq!(kind(disk.extend("a", 11)), ErrorKind::StorageFull);
    file.write_at(b"123456", b"", 0).unwrap();
    assert_eq!(
        kind(file.write_at(b"12345", b"", 6)),
        ErrorKind::StorageFull
    );
    assert_eq!(file.len(), 6);
    file.sync().unwrap();
    disk.set_free_bytes(Some(5));
    file.write_at(b"12345", b"", 6).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 0);
    disk.remove("a").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 11);
    disk.set_free_bytes(None);
    disk.create("b", 1 << 20).unwrap();
    assert_eq!(disk.counts().no_space, 3);
}

#[test]
fn space_comes_and_goes() {
    let disk = with(Faults {
        no_space: 0.5,
        ..Faults::NONE
    });
    let file = disk.create("a", 0).unwrap();
    let mut refused = 0;
    for byte in 0..100 {
        let before = file.len();
        match file.write_at(b"x", b"", before) {
            Ok(()) => assert_eq!(file.len(), before + 1, "{byte}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull);
                assert_eq!(file.len(), before);
                refused += 1;
            }
        }
    }
    assert!((30..70).contains(&refused), "{refused}");
    assert_eq!(disk.counts().no_space, refused);
}

#[test]
fn short_write_leaves_a_part_and_stores_never_fail() {
    let disk = with(Faults {
        short_writes: 1.0,
        ..Faults::NONE
    });
    let mut lens = std::collections::BTreeSet::new();
    for n in 0..50 {
        let file = disk.create(&format!("a{n}"), 0).unwrap();
        let error = file.write_at(b"head", b"body", 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
        let left = disk.read_file(&format!("a{n}")).unwrap();
        assert!(b"headbody".starts_with(&left), "{left:?}");
        lens.insert(left.len());
    }
    assert_eq!(
        lens.into_iter().collect::<Vec<_>>(),
        (0..8).collect::<Vec<_>>()
    );
    assert_eq!(disk.counts().short_writes, 50);
    let reserved = disk.create("r", 8192).unwrap();
    reserved.write_at(b"head", b"body", 0).unwrap();
    assert!(reserved.write_at(b"x", b"", 8192).is_err());
}

#[test]
fn read_errors_come_and_go_and_bad_pages_stay() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", &[5; 3 * 4096]);
    file.publish(3 * 4096);
    disk.make_unreadable("a", 5000).unwrap();
    let mut bytes = [0; 10];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(
        file.read_at(&mut bytes, 4090).unwrap_err().raw_os_error(),
        Some(5)
    );
    assert_eq!(file.read(8000..8193).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(file.read(8192..8193).unwrap(), [5].as_slice());
    disk.open("a")
        .unwrap()
        .write_at(b"again", b"", 4096)
        .unwrap();
    file.read_at(&mut bytes, 4090).unwrap();
    assert_eq!(&bytes[4..], b"\x05\x05agai");
    disk.set_faults(Faults {
        read_errors: 0.5,
        ..Faults::NONE
    });
    let failed = (0..100)
        .filter(|_| file.read_at(&mut bytes, 0).is_err())
        .count();
    assert!((30..70).contains(&failed), "{failed}");
    assert_eq!(disk.counts().read_errors, 2 + failed as u64);
}

#[test]
fn damage_is_on_the_device_and_what_is_dirty_hides_it() {
    let disk = SimulatedDisk::new(1);
    let file = durable(&disk, "a", b"abc");
    disk.corrupt("a", 1, 0x01).unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"acc");
    assert_eq!(kind(disk.corrupt("a", 3, 1)), ErrorKind::UnexpectedEof);
    file.write_at(b"ABC", b"", 0).unwrap();
    disk.corrupt("a", 1, 0x01).unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"ABC");
}

#[test]
fn each_kind_of_damage_changes_what_it_says() {
    let disk = SimulatedDisk::new(1);
    let mut bytes = vec![1; 2 * 4096];
    bytes[4096..].fill(2);
    let file = durable(&disk, "a", &bytes);
    durable(&disk, "b", &[9; 100]);
    file.write_at(&[3; 4096], b"", 0).unwrap();
    file.sync().unwrap();
    bytes[..4096].fill(3);
    for seed in 0..100 {
        for damage in [
            Damage::BitFlip,
            Damage::StalePage,
            Damage::ZeroedSector,
            Damage::MisplacedPage,
        ] {
            let left = disk.kill();
            let Some(done) = left.damage(seed, damage, |name| name == "a") else {
                assert_eq!(left.read_file("a").unwrap(), bytes, "{damage:?} {seed}");
                continue;
            };
            let at = done.position as usize;
            let found = left.read_file("a").unwrap();
            assert_eq!((done.damage, done.file.as_str()), (damage, "a"));
            assert_eq!(found.len(), bytes.len());
            assert_eq!(left.read_file("b").unwrap(), [9; 100]);
            let wrong = (0..found.len()).filter(|&at| found[at] != bytes[at]);
            let wrong: Vec<usize> = wrong.collect();
            match damage {
                Damage::BitFlip => {
                    assert_eq!(wrong, [at]);
                    assert_eq!((found[at] ^ bytes[at]).count_ones(), 1);
                }
                Damage::StalePage => {
                    let old = if at == 0 { 1 } else { 0 };
                    assert!(found[at..at + 4096].iter().all(|byte| *byte == old));
                    assert_eq!(wrong.len(), 4096);
                }
                Damage::ZeroedSector => {
                    assert!(found[at..at + 512].iter().all(|byte| *byte == 0));
                    assert_eq!(wrong.len(), 512);
                }
                _ => {
                    let other = if at == 0 { 2 } else { 3 };
                    assert!(found[at..at + 4096].iter().all(|byte| *byte == other));
                    assert_eq!(wrong.len(), 4096);
                }
            }
        }
    }
}

#[test]
fn slow_sync_tells_how_long_it_takes() {
    let disk = with(Faults {
        slow_syncs: 1.0,
        sync_ms: 10..20,
        ..Faults::NONE
    });
    let passed = Arc::new(Mutex::new(Vec::new()));
    let told = passed.clone();
    let inner = disk.clone();
    // No lock is held: the disk can be asked.
    disk.on_slow_sync(move |ms| told.lock().unwrap().push((ms, inner.counts().syncs)));
    let file = written(&disk, "a", b"abc");
    file.sync().unwrap();
    disk.kill().open("a").unwrap().sync().unwrap();
    let passed = passed.lock().unwrap();
    assert!(
        passed.iter().all(|(ms, _)| (10..20).contains(ms)),
        "{passed:?}"
    );
    assert_eq!(passed.len(), 2);
    assert_eq!(disk.counts().slow_syncs, 1);
}

#[test]
fn sync_at_a_gate_covers_what_was_written_before_it() {
    let disk = SimulatedDisk::new(1).on(FileSystem::Strict);
    let file = durable(&disk, "a", b"");
    file.write_at(b"before", b"", 0).unwrap();
    let gate = disk.hold_syncs();
    std::thread::scope(|scope| {
        let syncs = [scope.spawn(|| file.sync()), scope.spawn(|| file.sync())];
        gate.wait_until_syncs_wait(2);
        assert_eq!(gate.waiting_syncs(), 2);
        file.write_at(b"after", b"", 6).unwrap();
        drop(gate);
        for sync in syncs {
            sync.join().unwrap().unwrap();
        }
    });
    let left = outcomes(&disk, 50, |disk| disk.read_file("a").unwrap());
    let left: Vec<_> = left.into_keys().collect();
    assert_eq!(left, [b"before".to_vec(), b"beforeafter".to_vec()]);
}

#[test]
fn faults_draw_from_streams_of_their_own() {
    let failed_syncs = |read_errors: f64| {
        let disk = with(Faults {
            sync_errors: 0.5,
            read_errors,
            ..Faults::NONE
        });
        let file = durable(&disk, "a", b"abc");
        let failed = |_| {
            let _ = file.read_at(&mut [0; 2], 0);
            file.sync().is_err()
        };
        (0..50).map(failed).collect::<Vec<_>>()
    };
    assert_eq!(failed_syncs(0.0), failed_syncs(0.7));
}

#[test]
fn counts_name_what_happened() {
    let disk = SimulatedDisk::new(1);
    let file = written(&disk, "a", b"abc");
    file.sync().unwrap();
    let counts = disk.kill().counts();
    assert_eq!(
        counts.to_string(),
        "writes 1, bytes_written 3, syncs 1, kills 1"
    );
    let mut sum = counts;
    sum.add(&counts);
    assert_eq!(sum.bytes_written, 6);
}
