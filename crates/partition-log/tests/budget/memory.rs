//! What a partition with many more producers than its budget takes (I17).

use crate::batches::one;
use crate::driver::{Driver, budget};

const PRODUCERS: i64 = 200_000;
const MAX: usize = 10_000;

#[test]
fn two_hundred_thousand_producers_take_the_memory_of_their_budget() {
    let mut driver = Driver::new(budget(MAX));
    let mut most = 0;
    for id in 0..PRODUCERS {
        for sequence in 0..5 {
            driver.append(one(id, sequence)).unwrap();
        }
        if id % 256 == 0 {
            driver.commit();
            if driver.log.borrow().is_far_over_budget() {
                driver.settle();
            }
        }
        let found = driver.budget();
        // 200 bytes for each in memory, of which there may be a quarter more than there should
        // be; 14 for each on disk, and what the index takes before there are many.
        let bound = (MAX + MAX / 4) * 200 + found.evicted * 14 + 64_000;
        assert!(found.memory_bytes <= bound, "{found:?}, bound {bound}");
        most = most.max(found.memory_bytes);
    }
    let found = driver.budget();
    assert_eq!(found.in_memory + found.evicted, 200_000);
    assert!(found.in_memory <= MAX + MAX / 4);
    // Without a budget it is more than 128 bytes for each.
    assert!(most < 5_500_000, "{most} bytes");
    driver.commit();
    for id in (0..PRODUCERS).step_by(997) {
        assert!(driver.append(one(id, 2)).unwrap().duplicate, "{id}");
        assert!(driver.append(one(id, 6)).is_err(), "{id}");
        assert!(!driver.append(one(id, 5)).unwrap().duplicate, "{id}");
    }
    let mut driver = driver.reload();
    let found = driver.budget();
    let bound = MAX * 200 + found.evicted * 14 + 64_000;
    assert!(found.memory_bytes <= bound, "{found:?}, bound {bound}");
    assert_eq!(driver.views().len(), 200_000);
}
