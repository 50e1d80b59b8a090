//! A client that appends while a sync is under way, which no turn of a driven engine shows.

use std::sync::{Arc, Mutex};

use harness::history::BatchName;
use oncelog::testing::{Faults, SimulatedDisk};
use oncelog::{Partition, Pending};

use crate::facts::Sent;

/// The client; it acts on the thread that syncs, while that holds no lock.
#[derive(Clone)]
pub(crate) struct Interloper {
    state: Arc<Mutex<State>>,
}

struct State {
    partition: Partition,
    next: BatchName,
    is_awake: bool,
    calls: u32,
    /// Appended since the last time that somebody asked.
    sent: Vec<Sent>,
    /// Waits for its answer, with its offset.
    waiting: Vec<(BatchName, Pending)>,
}

/// Of how many syncs one is used.
const EVERY: u32 = 2;

impl Interloper {
    pub(crate) fn new(disk: &SimulatedDisk, partition: Partition, producer_id: i64) -> Interloper {
        let next = BatchName {
            producer_id,
            partition: partition.index(),
            sequence: 0,
        };
        let interloper = Interloper {
            state: Arc::new(Mutex::new(State {
                partition,
                next,
                is_awake: false,
                calls: 0,
                sent: Vec::new(),
                waiting: Vec::new(),
            })),
        };
        let acts = interloper.clone();
        let on = disk.clone();
        disk.on_slow_sync(move |_| acts.act(&on));
        disk.set_faults(Faults {
            slow_syncs: 1.0,
            sync_ms: 1..2,
            ..Faults::NONE
        });
        interloper
    }

    /// Whether it acts; not while the engine is opened or closed, which happens under locks.
    pub(crate) fn wake(&self, is_awake: bool) {
        self.state.lock().unwrap().is_awake = is_awake;
    }

    fn act(&self, disk: &SimulatedDisk) {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        if !state.is_awake || !state.calls.is_multiple_of(EVERY) {
            return;
        }
        let (batch, at) = (state.next, disk.recorded());
        // Without a segment that is ready it does nothing.
        if let Ok(pending) = state.partition.try_append(&batch.bytes()) {
            state.sent.push(Sent {
                batch,
                at,
                answered: None,
                durable: None,
            });
            state.waiting.push((batch, pending));
            state.next = batch.next();
        }
    }

    /// What it appended since, and which batches have their answer now, with their offsets.
    pub(crate) fn news(&self) -> (Vec<Sent>, Vec<(BatchName, u64)>) {
        let mut state = self.state.lock().unwrap();
        let waiting = std::mem::take(&mut state.waiting);
        let (done, waiting) = waiting
            .into_iter()
            .partition(|(_, pending)| pending.is_done());
        state.waiting = waiting;
        let answer = |(batch, pending): (BatchName, Pending)| (batch, pending.appended().offset);
        let done: Vec<(BatchName, Pending)> = done;
        (
            std::mem::take(&mut state.sent),
            done.into_iter().map(answer).collect(),
        )
    }
}
