//! Who moves, who stays, and what is counted.

use partition_log::{Progress, Rejection, spill};
use record_batch::{ControlKind, ControlRecord, control_batch};
use segment_storage::DirectoryEntry;
use segment_storage::Disk;

use crate::batches::{Sent, one};
use crate::driver::{Driver, budget};

fn fill(driver: &mut Driver, ids: std::ops::Range<i64>) {
    for id in ids {
        driver.append(one(id, 0)).unwrap();
    }
    driver.commit();
}

#[test]
fn the_least_recently_appended_move_and_a_sixteenth_is_free_then() {
    let mut driver = Driver::new(budget(32));
    fill(&mut driver, 0..32);
    driver.settle();
    assert_eq!(driver.budget().evicted, 0, "the budget is not exceeded");
    // The first ones append again, so 10 and 11 are the least recent.
    for id in 0..10 {
        driver.append(one(id, 1)).unwrap();
    }
    fill(&mut driver, 32..33);
    driver.settle();
    let found = driver.budget();
    assert_eq!((found.max, found.in_memory, found.evicted), (32, 30, 3));
    assert_eq!((found.evictions, found.loads, found.rebuilds), (3, 0, 0));
    let evicted = [10, 11, 12];
    let stay: Vec<i64> = (0..33).filter(|id| !evicted.contains(id)).collect();
    assert_eq!(driver.in_memory(), stay);
    // Known all the same.
    let known: Vec<i64> = driver.views().iter().map(|v| v.producer_id).collect();
    assert_eq!(known, (0..33).collect::<Vec<_>>());
    assert!((0..33).all(|id| driver.log.borrow().is_known(id)));
    assert!(!driver.log.borrow().is_known(33));
}

#[test]
fn an_append_brings_its_producer_back() {
    let mut driver = Driver::new(budget(16));
    fill(&mut driver, 0..17);
    driver.settle();
    assert_eq!(driver.budget().evicted, 2);
    let again = driver.append(one(0, 0)).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (0, true));
    let next = driver.append(one(1, 1)).unwrap();
    assert_eq!((next.base_offset, next.duplicate), (17, false));
    let found = driver.budget();
    assert_eq!((found.evicted, found.evictions, found.loads), (0, 2, 2));
    assert_eq!(found.in_memory, 17);
    assert!(driver.in_memory().contains(&1));
}

#[test]
fn named_ones_and_open_transactions_and_what_is_not_visible_stay() {
    let mut driver = Driver::new(budget(16));
    let open = |id| Sent {
        transactional: true,
        ..one(id, 0)
    };
    driver.append(open(0)).unwrap();
    fill(&mut driver, 1..18);
    driver.log.borrow_mut().producers_mut().keep(1);
    // Not synced, so not visible.
    for id in 18..20 {
        driver.append(one(id, 0)).unwrap();
    }
    driver.settle();
    let stay: Vec<i64> = [0, 1].into_iter().chain(7..20).collect();
    assert_eq!(driver.in_memory(), stay);

    // With the transaction over, its producer can move.
    let marker = ControlRecord {
        kind: ControlKind::Commit,
        coordinator_epoch: 3,
    };
    driver.replicate(&control_batch(0, 0, marker, 0));
    fill(&mut driver, 20..22);
    driver.settle();
    assert!(!driver.in_memory().contains(&0));
    assert!(driver.in_memory().contains(&1));
    let views = driver.views();
    assert_eq!(views[0].coordinator_epoch, 3);
    assert_eq!(views[0].open_transaction_offset, None);
}

#[test]
fn a_marker_of_a_producer_on_disk_finds_it() {
    let mut driver = Driver::new(budget(16));
    fill(&mut driver, 0..17);
    driver.settle();
    let marker = ControlRecord {
        kind: ControlKind::Abort,
        coordinator_epoch: 5,
    };
    driver.replicate(&control_batch(0, 0, marker, 0));
    let views = driver.views();
    assert_eq!((views[0].coordinator_epoch, views[0].window.len()), (5, 1));
    assert_eq!(views.len(), 17);
}

#[test]
fn where_nobody_can_move_the_bound_gives_way() {
    let mut driver = Driver::new(budget(16));
    for id in 0..1_000 {
        driver.log.borrow_mut().producers_mut().keep(id);
        driver.append(one(id, 0)).unwrap();
    }
    let found = driver.budget();
    assert_eq!((found.in_memory, found.evicted), (1_000, 0));
    assert!(driver.log.borrow().is_over_budget());
    // One that can move does, and only when it must.
    fill(&mut driver, 1_000..1_001);
    driver.settle();
    assert_eq!(driver.budget().evicted, 1);
    assert_eq!(driver.in_memory(), (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_flood_of_new_producers_stays_below_a_quarter_more() {
    let mut driver = Driver::new(budget(64));
    let mut most = 0;
    for id in 0..2_000 {
        driver.append(one(id, 0)).unwrap();
        driver.commit();
        most = most.max(driver.budget().in_memory);
    }
    assert_eq!(most, 80);
    assert_eq!(driver.log.borrow().known_producers(), 2_000);
}

#[test]
fn a_retired_producer_leaves_the_disk_too() {
    let mut driver = Driver::new(budget(16));
    fill(&mut driver, 0..17);
    driver.settle();
    driver.log.borrow_mut().retire_producer(0);
    assert_eq!(driver.budget().evicted, 1);
    let ids: Vec<i64> = driver.views().iter().map(|v| v.producer_id).collect();
    assert_eq!(ids, (1..17).collect::<Vec<_>>());
    let error = driver.append(one(0, 1)).unwrap_err().to_string();
    assert!(error.contains("unknown"), "{error}");
    let unknown = Rejection::UnknownProducer {
        producer_id: 0,
        got: 1,
    };
    assert_eq!(error, unknown.to_string());
}

#[test]
fn a_producer_that_changed_meanwhile_stays() {
    let mut driver = Driver::new(budget(16));
    fill(&mut driver, 0..18);
    driver.settle();
    // Read before it was loaded by somebody else, retired, and moved again.
    let loading = driver.log.borrow().begin_load(0).unwrap();
    let loaded = loading.read().unwrap();
    driver.append(one(0, 1)).unwrap();
    let now = driver.budget();
    driver.log.borrow_mut().finish_load(loaded);
    assert_eq!(driver.budget(), now, "it is in memory, and newer");
    let next = driver.append(one(0, 2)).unwrap();
    assert!(!next.duplicate);

    // The same, when it is on disk again, elsewhere.
    let stale = driver.log.borrow().begin_load(1).unwrap();
    assert_eq!(stale.producer_id(), 1);
    let stale = stale.read().unwrap();
    driver.append(one(1, 1)).unwrap();
    fill(&mut driver, 18..50);
    driver.settle();
    assert!(!driver.in_memory().contains(&1));
    driver.log.borrow_mut().finish_load(stale);
    assert!(
        !driver.in_memory().contains(&1),
        "an old state was taken in"
    );
    assert!(driver.append(one(1, 1)).unwrap().duplicate);
}

#[test]
fn what_was_read_long_ago_is_never_taken_in() {
    let mut driver = Driver::new(budget(16));
    let mut read_before = Vec::new();
    for round in 0..120 {
        for id in 0..40 {
            driver.append(one(id, round)).unwrap();
        }
        driver.commit();
        driver.settle();
        for id in 0..40 {
            let loading = driver.log.borrow().begin_load(id);
            read_before.extend(loading.map(|loading| loading.read().unwrap()));
        }
        if round % 10 != 9 {
            continue;
        }
        // The newest readings are right, the others are of files or places that were given up.
        let now = driver.views();
        let newest = read_before.len() - driver.budget().evicted;
        for loaded in read_before.drain(..newest) {
            driver.log.borrow_mut().finish_load(loaded);
        }
        read_before.clear();
        assert_eq!(driver.views(), now, "round {round}");
    }
}

#[test]
fn the_file_is_rewritten_when_most_of_it_is_of_no_use() {
    let mut driver = Driver::new(budget(16));
    let mut largest = 0;
    let len = |driver: &Driver| {
        let listed: Vec<DirectoryEntry> = driver.disk.list("t-0").unwrap();
        let of = |e: &&DirectoryEntry| e.name.starts_with(spill::FILE);
        listed.iter().filter(of).map(|e| e.len).sum::<u64>()
    };
    for round in 0..200 {
        for id in 0..40 {
            driver.append(one(id, round)).unwrap();
        }
        driver.commit();
        driver.settle();
        largest = largest.max(len(&driver));
        let spilled: Vec<_> = driver
            .names()
            .into_iter()
            .filter(|n| n.starts_with(spill::FILE))
            .collect();
        assert_eq!(spilled, [spill::FILE], "round {round}");
    }
    let found = driver.budget();
    assert!(found.evictions > 4_000 && found.rebuilds == 0, "{found:?}");
    // 25 of use, and as many again or 64 that are not, of 192 bytes at most.
    assert!(largest < 2 * (64 + 40) * 192, "{largest} bytes");
    for id in 0..40 {
        assert!(driver.append(one(id, 199)).unwrap().duplicate);
    }
}

#[test]
fn an_open_moves_what_is_too_much_and_gives_the_room_back() {
    let mut driver = Driver::new(budget(100_000));
    for id in 0..20_000 {
        driver.append(one(id, 0)).unwrap();
    }
    driver.commit();
    driver.close();
    let before = driver.budget().memory_bytes;
    let small = driver.reconfigured(budget(1_000));
    let found = small.budget();
    assert_eq!((found.in_memory, found.evicted), (938, 19_062));
    assert_eq!(small.log.borrow().producers().len(), 938);
    assert!(
        found.memory_bytes < before / 3,
        "{found:?}, {before} before"
    );
    let mut small = small.reload();
    assert_eq!(small.budget().evicted, 19_062);
    assert_eq!(small.views().len(), 20_000);
    assert!(small.append(one(0, 0)).unwrap().duplicate);
    small.close();
    assert!(!small.names().iter().any(|n| n.starts_with(spill::FILE)));
}

#[test]
fn what_an_earlier_run_left_is_removed() {
    let mut driver = Driver::new(budget(16));
    fill(&mut driver, 0..17);
    driver.settle();
    let mut driver = driver.kill().reconfigured(budget(17));
    assert!(!driver.names().iter().any(|n| n.starts_with(spill::FILE)));
    let done = driver.spiller.step(&driver.log, driver.now()).unwrap();
    assert_eq!(done, Progress::Done);
}

#[test]
fn an_eighth_above_the_budget_is_far() {
    let mut driver = Driver::new(budget(16));
    let is_far = |driver: &Driver| driver.log.borrow().is_far_over_budget();
    for id in 0..18 {
        driver.append(one(id, 0)).unwrap();
        assert!(!is_far(&driver), "{} producers", id + 1);
    }
    driver.append(one(18, 0)).unwrap();
    assert!(is_far(&driver));
    driver.commit();
    driver.settle();
    assert!(!is_far(&driver));
    let on_disk = (0..19).find(|id| !driver.in_memory().contains(id));
    let loading = driver.log.borrow().begin_load(on_disk.unwrap());
    assert_eq!(loading.map(|loading| loading.producer_id()), on_disk);
}

#[test]
fn a_file_that_is_in_use_is_left_alone() {
    let mut driver = Driver::new(budget(16));
    fill(&mut driver, 0..500);
    for id in 0..50 {
        driver.append(one(id, 1)).unwrap();
        driver.commit();
    }
    driver.settle();
    let before = (driver.disk.bytes_written(), driver.names());
    for _ in 0..10 {
        assert_eq!(driver.step(), Progress::Done);
    }
    assert_eq!((driver.disk.bytes_written(), driver.names()), before);
}
