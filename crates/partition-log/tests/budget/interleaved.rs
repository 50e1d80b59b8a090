//! Appends between any two moments at which a step holds the lock: each answer is right all the
//! same. One thread, so that a seed makes the same run again.

use std::cell::{Cell, RefCell};

use partition_log::{AppendError, Guarded, Now, PartitionLog, Spiller};
use record_batch::Batch;
use segment_storage::WriteError;

use crate::batches::one;
use crate::driver::{Driver, budget};
use crate::random::Random;

const IDS: u64 = 120;

/// A log in which others do something before each time that the lock is taken.
struct Busy<'a> {
    log: &'a RefCell<PartitionLog>,
    state: RefCell<State>,
    percent: Cell<u64>,
    now: Now,
}

struct State {
    random: Random,
    /// The next sequence of each producer.
    next: Vec<i32>,
    appends: u64,
    loads: u64,
}

impl Guarded for Busy<'_> {
    fn with<R>(&self, f: impl FnOnce(&mut PartitionLog) -> R) -> R {
        let happens = self.state.borrow_mut().random.chance(self.percent.get());
        if happens {
            self.append();
        }
        f(&mut self.log.borrow_mut())
    }
}

impl Busy<'_> {
    fn append(&self) {
        let mut state = self.state.borrow_mut();
        let id = state.random.id(IDS);
        let at = usize::try_from(id).unwrap();
        let mut log = self.log.borrow_mut();
        if state.random.chance(5) {
            log.retire_producer(id);
            state.next[at] = 0;
            return;
        }
        let next = state.next[at];
        let repeat = next > 0 && state.random.chance(20);
        let bytes = one(id, if repeat { next - 1 } else { next }).encode();
        let batch = Batch::parse(&bytes).unwrap();
        loop {
            match log.append(&batch, self.now) {
                Ok(appended) => {
                    assert_eq!(appended.duplicate, repeat, "{id}:{next}");
                    state.next[at] += i32::from(!repeat);
                    state.appends += 1;
                    return;
                }
                Err(AppendError::Write(WriteError::NoSegment { .. })) => {
                    let prepared = log.segments_mut().wanted().unwrap().prepare().unwrap();
                    log.segments_mut().offer(prepared);
                }
                Err(AppendError::Evicted { producer_id }) => {
                    let loading = log.begin_load(producer_id).unwrap();
                    // Damaged: only the one who is being interleaved can repair that.
                    let Ok(loaded) = loading.read() else { return };
                    log.finish_load(loaded);
                    state.loads += 1;
                }
                Err(AppendError::NoRoom { .. }) => return,
                Err(other) => panic!("{id}:{next}: {other}"),
            }
        }
    }
}

fn run(seed: u64, damage: bool) -> (u64, u64) {
    let driver = Driver::new(budget(16));
    let file = Driver::file();
    let (disk, now) = (driver.disk.clone(), driver.now());
    let mut spiller: Spiller = driver.spiller;
    let busy = Busy {
        log: &driver.log,
        state: RefCell::new(State {
            random: Random::new(seed),
            next: vec![0; usize::try_from(IDS).unwrap()],
            appends: 0,
            loads: 0,
        }),
        percent: Cell::new(0),
        now,
    };
    let commit = || {
        let mut log = driver.log.borrow_mut();
        for item in log.segments().begin_sync(true) {
            item.sync().unwrap();
            log.segments_mut().synced(&item);
        }
    };
    for round in 0..60 {
        for _ in 0..20 {
            busy.append();
        }
        commit();
        if damage && round % 7 == 6 {
            for position in 0..disk.read_file(&file).map_or(0, |f| f.len() as u64) {
                disk.corrupt(&file, position, 1).unwrap();
            }
        }
        // A step takes the lock some 600 times.
        busy.percent.set([0, 2, 20][round % 3]);
        for _ in 0..4 {
            spiller.step(&busy, now).unwrap();
        }
        if round % 5 == 0 {
            assert_eq!(spiller.expire(&busy, now).unwrap(), 0);
        }
        busy.percent.set(0);
        commit();
        let views = spiller.views(&busy, now).unwrap();
        let state = busy.state.borrow();
        for view in &views {
            let next = state.next[usize::try_from(view.producer_id).unwrap()];
            let newest = view.window.last().unwrap().last_sequence;
            assert_eq!(newest + 1, next, "seed {seed}, {}", view.producer_id);
        }
        let known = state.next.iter().filter(|&&next| next > 0).count();
        assert_eq!(views.len(), known, "seed {seed}");
    }
    let state = busy.state.borrow();
    (state.appends, state.loads)
}

#[test]
fn a_step_can_be_interrupted_anywhere() {
    let (mut appends, mut loads) = (0, 0);
    for seed in 0..40 {
        let found = run(seed, false);
        appends += found.0;
        loads += found.1;
    }
    assert!(appends > 50_000 && loads > 20_000, "{appends}, {loads}");
}

#[test]
fn also_while_everything_is_being_rebuilt() {
    for seed in 100..120 {
        run(seed, true);
    }
}
