//! Many threads append for few producers while others move them to disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use partition_log::{AppendError, Appended, Guarded, PartitionLog, Spiller};
use record_batch::Batch;
use segment_storage::WriteError;

use crate::batches::{Sent, one};
use crate::driver::{Driver, budget};
use crate::random::Random;

const IDS: i64 = 48;
const ROUNDS: i32 = 400;

struct Shared {
    log: Mutex<PartitionLog>,
    spiller: Mutex<Spiller>,
    now: partition_log::Now,
}

struct Locked<'a>(&'a Mutex<PartitionLog>);

impl Guarded for Locked<'_> {
    fn with<R>(&self, f: impl FnOnce(&mut PartitionLog) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
}

impl Shared {
    fn append(&self, sent: Sent) -> Result<Appended, AppendError> {
        let bytes = sent.encode();
        let batch = Batch::parse(&bytes).unwrap();
        let mut loaded = None;
        loop {
            let mut log = self.log.lock().unwrap();
            if let Some(loaded) = loaded.take() {
                log.finish_load(loaded);
            }
            match log.append(&batch, self.now) {
                Err(AppendError::Write(WriteError::NoSegment { .. })) => {
                    if let Some(wanted) = log.segments_mut().wanted() {
                        let prepared = wanted.prepare().unwrap();
                        log.segments_mut().offer(prepared);
                    }
                }
                Err(AppendError::Evicted { producer_id }) => {
                    let loading = log.begin_load(producer_id).unwrap();
                    drop(log);
                    thread::yield_now();
                    loaded = Some(loading.read().unwrap());
                }
                Err(AppendError::NoRoom { .. }) => {
                    drop(log);
                    self.step();
                }
                done => return done,
            }
        }
    }

    fn step(&self) {
        let mut spiller = self.spiller.lock().unwrap();
        spiller.step(&Locked(&self.log), self.now).unwrap();
    }

    fn commit(&self) {
        let mut log: MutexGuard<'_, PartitionLog> = self.log.lock().unwrap();
        for item in log.segments().begin_sync(true) {
            item.sync().unwrap();
            log.segments_mut().synced(&item);
        }
    }
}

#[test]
fn every_batch_is_stored_once_and_found_again() {
    let driver = Driver::new(budget(16));
    let shared = Shared {
        now: driver.now(),
        log: Mutex::new(driver.log.into_inner()),
        spiller: Mutex::new(driver.spiller),
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let mover = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                shared.commit();
                shared.step();
                thread::yield_now();
            }
        });
        // Two threads send the same batches of the same producers: one of each is a duplicate.
        let senders: Vec<_> = (0..6)
            .map(|sender: i64| {
                let shared = &shared;
                scope.spawn(move || {
                    let mut random = Random::new(sender.unsigned_abs());
                    let mine: Vec<i64> = (0..IDS).filter(|id| id % 3 == sender % 3).collect();
                    let mut stored = 0_u64;
                    for sequence in 0..ROUNDS {
                        for &id in &mine {
                            match shared.append(one(id, sequence)) {
                                Ok(appended) => stored += u64::from(!appended.duplicate),
                                // The other one is more than a window ahead.
                                Err(AppendError::Rejected(_)) => {}
                                Err(other) => panic!("seed {sender}: {other}"),
                            }
                            // Whoever schedules the threads, there is pressure.
                            if random.chance(5) {
                                shared.commit();
                                shared.step();
                            }
                            if random.chance(5) {
                                let gap = shared.append(one(id, ROUNDS + 7));
                                assert!(matches!(gap, Err(AppendError::Rejected(_))));
                            }
                        }
                    }
                    stored
                })
            })
            .collect();
        let stored: u64 = senders.into_iter().map(|s| s.join().unwrap()).sum();
        done.store(true, Ordering::Relaxed);
        mover.join().unwrap();
        let sent = u64::try_from(i64::from(ROUNDS) * IDS).unwrap();
        assert_eq!(stored, sent, "each batch once, by whoever came first");
        assert_eq!(shared.log.lock().unwrap().next_offset(), sent);
    });
    let found = shared.log.lock().unwrap().budget();
    assert!(found.evictions > 500 && found.loads > 500, "{found:?}");
    let views = shared
        .spiller
        .lock()
        .unwrap()
        .views(&Locked(&shared.log), shared.now)
        .unwrap();
    assert_eq!(views.len(), usize::try_from(IDS).unwrap());
    for view in views {
        let newest = view.window.last().unwrap();
        assert_eq!((newest.last_sequence, view.window.len()), (ROUNDS - 1, 5));
    }
}
