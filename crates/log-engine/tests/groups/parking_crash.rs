//! A crash at every step of the disk while records are acknowledged and parked: each record is
//! either acknowledged, in the dead-letter topic once, or delivered again.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use log_engine::Engine;
use log_engine::storage::MemoryDisk;
use parking_lot::Mutex;

use crate::dead_letters::letters;
use crate::hooked_disk::{Hook, Op};
use crate::shop::{join, offsets, open, poll, position, settle, with_orders};
use crate::world::World;

/// Takes an image of the disk before a step.
struct Crash {
    disk: MemoryDisk,
    left: Mutex<Option<u64>>,
    images: Mutex<Option<(MemoryDisk, MemoryDisk)>>,
}

impl Hook for Crash {
    fn before(&self, _: Op, _: &str) -> io::Result<()> {
        let mut left = self.left.lock();
        match &mut *left {
            Some(0) => {
                *left = None;
                // Locked first, so that who is answered meanwhile sees that it is being taken.
                let mut images = self.images.lock();
                *images = Some((self.disk.after_kill(), self.disk.after_power_cut()));
            }
            Some(n) => *n -= 1,
            None => {}
        }
        Ok(())
    }
}

const RECORDS: u64 = 6;

// Parks every odd record, acknowledges the others. Returns which were parked, and which
// acknowledged, before the crash.
fn run(engine: &Engine, crash: &Crash) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut parked, mut acked) = (BTreeSet::new(), BTreeSet::new());
    let member = join(engine);
    loop {
        let deliveries = poll(&member, 4);
        if deliveries.is_empty() {
            return (parked, acked);
        }
        for delivery in deliveries {
            let offset = delivery.record().offset();
            let set = match offset % 2 {
                1 => {
                    delivery.blocking_park("odd", "").unwrap();
                    &mut parked
                }
                _ => {
                    delivery.blocking_ack().unwrap();
                    &mut acked
                }
            };
            if crash.images.lock().is_none() {
                set.insert(offset);
            }
        }
        settle(engine);
    }
}

fn parked_now(engine: &Engine) -> Vec<u64> {
    match engine.topic("orders.dlq") {
        Ok(_) => letters(engine).iter().map(|l| l.offset()).collect(),
        Err(_) => Vec::new(),
    }
}

fn check(world: &World, (parked, acked): &(BTreeSet<u64>, BTreeSet<u64>), is_cut: bool, at: &str) {
    let engine = open(world);
    let there: BTreeSet<u64> = parked_now(&engine).into_iter().collect();
    assert!(there.is_superset(parked), "{at}: {there:?} of {parked:?}");
    let member = join(&engine);
    let deliveries = poll(&member, 99);
    for offset in offsets(&deliveries) {
        assert!(!there.contains(&offset), "{at}: {offset} is parked");
        // A power cut may take acks of the last flush interval, nothing else does.
        assert!(is_cut || !acked.contains(&offset), "{at}: {offset} is done");
    }
    // Nothing is lost.
    let again: BTreeSet<u64> = offsets(&deliveries).into_iter().collect();
    for offset in 0..RECORDS {
        let is_accounted_for =
            again.contains(&offset) || there.contains(&offset) || offset % 2 == 0;
        assert!(is_accounted_for, "{at}: {offset} is gone");
    }
    for delivery in deliveries {
        match delivery.record().offset() % 2 {
            1 => delivery.blocking_park("odd", "").unwrap(),
            _ => delivery.blocking_ack().unwrap(),
        }
    }
    let mut all = parked_now(&engine);
    all.sort_unstable();
    assert_eq!(all, [1, 3, 5], "{at}");
    assert_eq!(position(&member), RECORDS, "{at}");
}

#[test]
fn a_record_is_parked_once_wherever_a_crash_comes() {
    let mut step = 0;
    loop {
        let world = World::new();
        with_orders(&world, RECORDS).close().unwrap();
        let crash = Arc::new(Crash {
            disk: world.disk.clone(),
            left: Mutex::new(Some(step)),
            images: Mutex::default(),
        });
        let engine = world.hooked(crash.clone()).driven().open().unwrap();
        let done = run(&engine, &crash);
        engine.close().unwrap();
        let Some((killed, cut)) = crash.images.lock().take() else {
            break;
        };
        let at = format!("before step {step}");
        check(&World::on(killed), &done, false, &format!("killed {at}"));
        check(&World::on(cut), &done, true, &format!("cut {at}"));
        step += 1;
    }
    assert!(step > 50, "only {step} steps");
}
