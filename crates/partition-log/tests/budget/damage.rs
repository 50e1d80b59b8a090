//! The file of producers on disk is a cache: what happens to it changes no answer (I25).

use std::io;

use partition_log::{AppendError, Progress};
use record_batch::Batch;

use crate::batches::one;
use crate::driver::{Driver, budget};

/// Producers 0 to 23 with two batches each, the first ten of them on disk.
fn some_on_disk() -> Driver {
    let mut driver = Driver::new(budget(16));
    for id in 0..24 {
        driver.append(one(id, 0)).unwrap();
        driver.append(one(id, 1)).unwrap();
        driver.commit();
    }
    driver.settle();
    assert_eq!(driver.budget().evicted, 9);
    driver
}

fn flip(driver: &Driver, position: u64) {
    driver.disk.corrupt(&Driver::file(), position, 4).unwrap();
}

fn len(driver: &Driver) -> u64 {
    u64::try_from(driver.disk.read_file(&Driver::file()).unwrap().len()).unwrap()
}

// Every producer, its repeats and its next batch, is answered as it should be.
fn check(mut driver: Driver) -> u64 {
    for id in (0..24).rev() {
        let first = driver.append(one(id, 0)).unwrap();
        let offset = u64::try_from(id * 2).unwrap();
        assert_eq!((first.base_offset, first.duplicate), (offset, true));
        assert!(driver.append(one(id, 1)).unwrap().duplicate, "{id}");
        assert!(driver.append(one(id, 3)).is_err(), "{id}");
        assert!(!driver.append(one(id, 2)).unwrap().duplicate, "{id}");
    }
    driver.budget().rebuilds
}

#[test]
fn a_flipped_bit_anywhere_changes_nothing() {
    let bytes = len(&some_on_disk());
    let mut rebuilt = 0;
    for position in 0..bytes {
        let driver = some_on_disk();
        flip(&driver, position);
        rebuilt += check(driver);
    }
    // Frames of 107 bytes lie at multiples of 16: what fills up matters to nobody.
    assert!(
        rebuilt >= bytes / 112 * 107 && rebuilt < bytes,
        "{rebuilt} of {bytes}"
    );
}

#[test]
fn a_file_that_is_cut_or_gone_changes_nothing() {
    for left in [0, 1, 9, 10, 50, 112, 400] {
        let driver = some_on_disk();
        let bytes = driver.disk.read_file(&Driver::file()).unwrap();
        let cut = &bytes[..left];
        // Zeros follow, as in a file that was cut and grew again.
        for (position, byte) in (0..).zip(&bytes).skip(cut.len()) {
            driver
                .disk
                .corrupt(&Driver::file(), position, *byte)
                .unwrap();
        }
        assert!(check(driver) > 0, "cut at {left}");
    }
    let driver = some_on_disk();
    // Open files outlive their names.
    segment_storage::Disk::remove(&driver.disk, &Driver::file()).unwrap();
    assert_eq!(check(driver), 0);
}

#[test]
fn one_rebuild_repairs_all() {
    let mut driver = some_on_disk();
    for position in 0..len(&driver) {
        flip(&driver, position);
    }
    driver.append(one(0, 2)).unwrap();
    assert_eq!(driver.budget().rebuilds, 1);
    for id in 1..9 {
        driver.append(one(id, 2)).unwrap();
    }
    assert_eq!(driver.budget().rebuilds, 1);
}

#[test]
fn a_damaged_file_is_listed_and_compacted_and_closed_all_the_same() {
    for last in [false, true] {
        let mut driver = some_on_disk();
        let before = driver.views();
        flip(&driver, if last { len(&driver) - 8 } else { 40 });
        let after = driver.views();
        let heads = |views: &[partition_log::ProducerView]| {
            let head = |v: &partition_log::ProducerView| (v.producer_id, v.window.clone());
            views.iter().map(head).collect::<Vec<_>>()
        };
        assert_eq!(heads(&before), heads(&after));
        flip(&driver, 40);
        check(driver.reload());
    }
}

#[test]
fn a_disk_that_takes_no_writes_makes_nobody_forgotten() {
    let mut driver = some_on_disk();
    for position in 0..len(&driver) {
        flip(&driver, position);
    }
    driver.disk.set_free_bytes(0);
    // Segments that are there take appends; producers come back one by one.
    for id in 0..3 {
        assert!(!driver.append(one(id, 2)).unwrap().duplicate);
    }
    let found = driver.budget();
    assert_eq!((found.evicted, found.rebuilds, found.loads), (6, 0, 3));
    driver.commit();
    let error = driver.spiller.step(&driver.log, driver.now()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let error = driver.spiller.views(&driver.log, driver.now()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    driver.disk.set_free_bytes(1 << 30);
    driver.settle();
    assert_eq!(driver.views().len(), 24);
    assert!(driver.budget().evicted > 6);
}

#[test]
fn new_producers_are_refused_while_nobody_can_move_to_a_full_disk() {
    let mut driver = Driver::new(budget(16));
    for id in 0..20 {
        driver.append(one(id, 0)).unwrap();
        driver.commit();
    }
    driver.disk.set_free_bytes(0);
    let new = one(20, 0).encode();
    let append = |driver: &Driver| {
        let batch = Batch::parse(&new).unwrap();
        driver.log.borrow_mut().append(&batch, driver.now())
    };
    let refused = append(&driver).unwrap_err();
    assert!(
        matches!(
            refused,
            AppendError::NoRoom {
                producers: 20,
                max: 16
            }
        ),
        "{refused}"
    );
    assert!(driver.spiller.step(&driver.log, driver.now()).is_err());
    assert!(append(&driver).is_err());
    // Who would be refused anyway is told why; those who are known go on.
    let unknown = driver.append(one(21, 5)).unwrap_err();
    assert!(matches!(unknown, AppendError::Rejected(_)), "{unknown}");
    for id in 0..20 {
        driver.append(one(id, 1)).unwrap();
    }
    driver.commit();
    driver.disk.set_free_bytes(1 << 30);
    let moved = driver.spiller.step(&driver.log, driver.now()).unwrap();
    assert_eq!(moved, Progress::More);
    assert!(append(&driver).is_ok());
}

#[test]
fn what_neither_file_nor_log_knows_is_refused_not_taken_for_new() {
    let mut driver = some_on_disk();
    driver.roll();
    driver.append(one(23, 2)).unwrap();
    driver.commit();
    driver.delete_before(48);
    assert_eq!(driver.log.borrow().reader().log_start_offset(), 48);
    // Every cache that knows of the deleted data is gone.
    for name in driver.names() {
        if name.ends_with(".snapshot") {
            let path = format!("t-0/{name}");
            driver.disk.corrupt(&path, 30, 1).unwrap();
        }
    }
    flip(&driver, 40);
    let loading = driver.log.borrow().begin_load(0).unwrap();
    assert!(loading.read().is_err());
    let now = driver.now();
    let lost = driver.spiller.load(&driver.log, 0, now).err().unwrap();
    assert!(lost.to_string().contains("history is lost"), "{lost}");
    // It stays known, so it is asked for again each time.
    assert!(driver.log.borrow().is_known(0));
    let batch = one(0, 2).encode();
    let batch = Batch::parse(&batch).unwrap();
    let again = driver.log.borrow_mut().append(&batch, now).unwrap_err();
    assert!(matches!(again, AppendError::Evicted { producer_id: 0 }));
    // The others of the file are sound.
    assert!(driver.append(one(3, 1)).unwrap().duplicate);
    // No snapshot is written that does not know it.
    let snapshots = driver.names();
    driver.close();
    let written = |names: Vec<String>| names.iter().filter(|n| n.ends_with(".snapshot")).count();
    assert_eq!(written(driver.names()), written(snapshots));
}

/// Thousands on disk, so that they are written anew in several lots.
fn many_on_disk() -> Driver {
    let mut driver = Driver::new(budget(16));
    for id in 0..4_000 {
        driver.append(one(id, 0)).unwrap();
        driver.commit();
    }
    driver.settle();
    driver
}

#[test]
fn everybody_is_rebuilt_also_when_a_write_fails_in_between() {
    for fails in [false, true] {
        let mut driver = many_on_disk();
        flip(&driver, 20);
        if fails {
            driver.disk.fail_next_write(io::ErrorKind::StorageFull);
            let now = driver.now();
            let error = driver.spiller.views(&driver.log, now).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(driver.budget().rebuilds, 0);
        }
        let ids: Vec<i64> = driver.views().iter().map(|v| v.producer_id).collect();
        assert_eq!(ids, (0..4_000).collect::<Vec<_>>());
        assert_eq!(driver.budget().rebuilds, 1);
        driver.views();
        assert_eq!(driver.budget().rebuilds, 1, "what was rebuilt can be read");
    }
}

#[test]
fn damage_of_file_and_log_is_an_error_and_no_endless_attempt() {
    let mut driver = some_on_disk();
    let id = (0..24).find(|id| !driver.in_memory().contains(id)).unwrap();
    for position in 0..len(&driver) {
        flip(&driver, position);
    }
    let segment = "t-0/00000000000000000000.log";
    driver.disk.corrupt(segment, 70, 1).unwrap();
    let now = driver.now();
    let error = driver.spiller.load(&driver.log, id, now).err().unwrap();
    assert!(error.to_string().contains(segment), "{error}");
    assert!(driver.log.borrow().is_known(id));
}
