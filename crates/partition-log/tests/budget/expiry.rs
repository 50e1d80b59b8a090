//! Producers on disk are forgotten when their time is over, as those in memory are, and not before.

use partition_log::{PartitionConfig, Rejection};

use crate::batches::one;
use crate::driver::{Driver, budget};

const PERIOD_MS: u64 = 1_000;

fn driver(producers_max: usize) -> Driver {
    Driver::new(PartitionConfig {
        producer_expiry_ms: PERIOD_MS,
        ..budget(producers_max)
    })
}

fn fill(driver: &mut Driver, ids: std::ops::Range<i64>) {
    for id in ids {
        driver.append(one(id, 0)).unwrap();
    }
    driver.commit();
    driver.settle();
}

#[test]
fn to_the_millisecond() {
    let mut driver = driver(16);
    fill(&mut driver, 0..20);
    assert_eq!(driver.budget().evicted, 5);
    driver.log.borrow_mut().producers_mut().keep(3);
    driver.now_ms = 10;
    // This one comes back, goes on, and moves again.
    driver.append(one(1, 1)).unwrap();
    driver.commit();
    fill(&mut driver, 20..40);
    let on_disk = driver.budget().evicted;
    assert!(!driver.in_memory().contains(&1));
    assert_eq!(driver.pass(PERIOD_MS - 11), 0);
    assert_eq!(driver.log.borrow().producers().forgotten_below(), -1);
    // Of 20 only the named one and the one that went on stay.
    assert_eq!(driver.pass(1), 18);
    assert_eq!(driver.log.borrow().producers().forgotten_below(), 19);
    assert_eq!(driver.budget().evicted, on_disk - 18);
    let ids: Vec<i64> = driver.views().iter().map(|v| v.producer_id).collect();
    assert_eq!(ids, [1, 3].into_iter().chain(20..40).collect::<Vec<_>>());
    let error = driver.append(one(0, 1)).unwrap_err().to_string();
    let forgotten = Rejection::Forgotten {
        producer_id: 0,
        forgotten_below: 19,
    };
    assert_eq!(error, forgotten.to_string());
    assert!(!driver.append(one(3, 1)).unwrap().duplicate);
    assert!(!driver.append(one(1, 2)).unwrap().duplicate);
    assert_eq!(driver.pass(10), 20);
}

#[test]
fn also_after_a_restart_and_a_rewrite() {
    let mut driver = driver(16);
    fill(&mut driver, 0..200);
    driver.now_ms = 500;
    fill(&mut driver, 200..400);
    let mut driver = driver.reload();
    assert_eq!(driver.budget().evicted, 385);
    assert_eq!(driver.pass(499), 0);
    assert_eq!(driver.pass(1), 200);
    while driver.step() == partition_log::Progress::More {}
    assert_eq!(driver.views().len(), 200);
    // Of those many come back, so that the file is rewritten; their times are what they were.
    for id in 200..300 {
        assert!(driver.append(one(id, 0)).unwrap().duplicate);
    }
    driver.settle();
    assert_eq!(driver.pass(499), 0);
    assert_eq!(driver.pass(1), 200);
    assert_eq!(driver.views().len(), 0);
    assert_eq!(driver.budget().rebuilds, 0);
}

#[test]
fn expired_ones_go_before_anybody_moves() {
    let mut driver = driver(16);
    fill(&mut driver, 0..16);
    driver.now_ms = PERIOD_MS;
    fill(&mut driver, 16..18);
    let found = driver.budget();
    assert_eq!((found.in_memory, found.evicted, found.evictions), (2, 0, 0));
    assert_eq!(driver.log.borrow().producers().forgotten_below(), 15);
}

#[test]
fn who_is_overdue_is_known_until_somebody_looks_even_if_the_file_is_damaged() {
    let mut driver = driver(16);
    fill(&mut driver, 0..40);
    let mut driver = driver.reload();
    driver.now_ms = 3 * PERIOD_MS;
    driver.disk.corrupt(&Driver::file(), 40, 1).unwrap();
    let first = driver.views()[0].producer_id;
    assert_eq!(first, 0);
    assert_eq!(driver.budget().rebuilds, 1);
    assert!(driver.append(one(0, 0)).unwrap().duplicate);
    assert_eq!(driver.pass(0), 40);
}

#[test]
fn a_damaged_file_makes_nobody_expire_early() {
    let mut driver = driver(16);
    fill(&mut driver, 0..40);
    driver.disk.corrupt(&Driver::file(), 40, 1).unwrap();
    assert_eq!(driver.pass(PERIOD_MS - 1), 0);
    // Rebuilt from the log, they appended now as far as anybody knows.
    assert_eq!(driver.pass(1), 15);
    assert_eq!(driver.budget().rebuilds, 1);
    assert_eq!(driver.budget().evicted, 25);
    assert_eq!(driver.pass(PERIOD_MS), 25);
}

/// While the file is replaced there are two. What is known of one is not believed of the other.
#[test]
fn expiry_between_two_steps_of_tidying_up() {
    let mut driver = driver(16);
    fill(&mut driver, 0..1_000);
    driver.now_ms = PERIOD_MS / 2;
    let replacing = |driver: &Driver| driver.names().contains(&"evicted.tmp".to_owned());
    // What moves back and forth leaves its place in the file unused, until that is tidied up.
    'rounds: for sequence in 1..10 {
        for id in 0..600 {
            driver.append(one(id, sequence)).unwrap();
            driver.commit();
            driver.step();
            if sequence > 1 && replacing(&driver) {
                break 'rounds;
            }
        }
    }
    assert!(replacing(&driver), "there is one file");
    assert_eq!(driver.pass(PERIOD_MS / 2), 400);
    driver.settle();
    assert!(!replacing(&driver));
    let views = driver.views();
    let ids: Vec<i64> = views.iter().map(|view| view.producer_id).collect();
    assert_eq!(ids, (0..600).collect::<Vec<_>>());
    assert_eq!(driver.budget().rebuilds, 0);
    assert_eq!(driver.pass(PERIOD_MS / 2), 600);
    assert_eq!(driver.budget().evicted, 0);
}
