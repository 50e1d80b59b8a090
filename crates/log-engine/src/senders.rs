//! The sender: drives producers when an answer arrives, a batch has lingered, or a try is due.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sync::{Condvar, Mutex, MutexGuard};

use crate::env::Time;
use crate::producer::ProducerCore;

/// Producers that want a turn, now or at a time.
#[derive(Default)]
pub(crate) struct Senders {
    queue: Mutex<Queue>,
    wanted: Condvar,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Arc<ProducerCore>>,
    /// By elapsed ms and, to tell them apart, by a running number. Each producer has at most one
    /// entry.
    timed: BTreeMap<(u64, u64), Arc<ProducerCore>>,
    /// Where each is in `timed`, by its address.
    times: HashMap<usize, (u64, u64)>,
    number: u64,
    is_times_turn: bool,
    /// To be dropped, outside of the lock.
    spent: Vec<Arc<ProducerCore>>,
    /// The producer whose turn it is, by address.
    busy: Option<usize>,
    is_started: bool,
    is_stopped: bool,
}

impl Queue {
    // Gives back what is not needed any more.
    fn schedule(
        &mut self,
        producer: Arc<ProducerCore>,
        next_ms: Option<u64>,
    ) -> (Option<Arc<ProducerCore>>, Option<Arc<ProducerCore>>) {
        let address = Arc::as_ptr(&producer).addr();
        let old = self
            .times
            .remove(&address)
            .and_then(|key| self.timed.remove(&key));
        let Some(next_ms) = next_ms.filter(|_| !self.is_stopped) else {
            return (old, Some(producer));
        };
        self.number += 1;
        let key = (next_ms, self.number);
        self.times.insert(address, key);
        (old, self.timed.insert(key, producer))
    }

    fn next_due(&mut self, now_ms: u64) -> Option<Arc<ProducerCore>> {
        let key = *self.timed.first_key_value()?.0;
        let producer = (key.0 <= now_ms).then(|| self.timed.remove(&key))??;
        self.times.remove(&Arc::as_ptr(&producer).addr());
        Some(producer)
    }

    /// Whose turn it is at `now_ms`, or else when it is somebody's.
    fn next(&mut self, now_ms: u64) -> Result<Arc<ProducerCore>, Option<u64>> {
        // In turns: there may always be one that is ready, and always one whose time has come.
        self.is_times_turn = !self.is_times_turn;
        let next = match self.is_times_turn {
            true => self.next_due(now_ms).or_else(|| self.ready.pop_front()),
            false => self.ready.pop_front().or_else(|| self.next_due(now_ms)),
        };
        self.busy = next.as_ref().map(|producer| Arc::as_ptr(producer).addr());
        next.ok_or_else(|| self.timed.first_key_value().map(|(key, _)| key.0))
    }
}

impl Senders {
    /// Whether the thread must be started: `true` once.
    pub(crate) fn starts(&self) -> bool {
        !std::mem::replace(&mut self.queue.lock().is_started, true)
    }

    /// The thread could not be started.
    pub(crate) fn did_not_start(&self) {
        self.queue.lock().is_started = false;
    }

    /// Has a producer take a turn soon.
    pub(crate) fn push(&self, producer: Arc<ProducerCore>) {
        let mut queue = self.queue.lock();
        if !queue.is_stopped {
            queue.ready.push_back(producer);
            drop(queue);
            self.wanted.notify_all();
        }
    }

    /// Has the sender's thread drop a handle: the last one of an engine may go with it.
    pub(crate) fn bury(&self, producer: Arc<ProducerCore>) {
        let mut queue = self.queue.lock();
        if !queue.is_stopped {
            queue.spent.push(producer);
            drop(queue);
            self.wanted.notify_all();
        }
    }

    /// Lets go of a producer that needs no turn any more. Waits for the one it may be taking.
    pub(crate) fn forget(&self, producer: &Arc<ProducerCore>) {
        let address = Arc::as_ptr(producer).addr();
        let is_other = |other: &Arc<ProducerCore>| !Arc::ptr_eq(other, producer);
        let mut queue = self.queue.lock();
        let timed = queue
            .times
            .remove(&address)
            .and_then(|key| queue.timed.remove(&key));
        queue.ready.retain(is_other);
        queue.spent.retain(is_other);
        while queue.busy == Some(address) && !queue.is_stopped {
            self.wanted.wait(&mut queue);
        }
        drop(queue);
        drop(timed);
    }

    /// The loop of the sender's thread.
    pub(crate) fn work(&self, time: &Time) {
        while let Some(producer) = self.next(time) {
            self.take_turn(producer);
        }
    }

    fn take_turn(&self, producer: Arc<ProducerCore>) {
        let turn = std::panic::AssertUnwindSafe(|| producer.turn());
        let (next_ms, is_done) = std::panic::catch_unwind(turn).unwrap_or_else(|_| {
            // A transport that panics costs its own producer, and no other.
            producer.abandon();
            (None, true)
        });
        let next_ms = next_ms.filter(|_| !is_done);
        let mut queue = self.queue.lock();
        let left = queue.schedule(producer, next_ms);
        drop(queue);
        // Outside of the lock: the last handle of an engine may go with it.
        drop(left);
        self.queue.lock().busy = None;
        self.wanted.notify_all();
    }

    /// How many producers have a turn to take now.
    pub(crate) fn waiting(&self, time: &Time) -> usize {
        let now_ms = time.now().elapsed_ms;
        let queue = self.queue.lock();
        let due = queue.timed.range(..=(now_ms, u64::MAX)).count();
        queue.ready.len() + due + usize::from(!queue.spent.is_empty())
    }

    /// Takes the turn of one producer, if one has it, on this thread.
    pub(crate) fn step(&self, time: &Time) {
        let mut queue = self.queue.lock();
        let spent = std::mem::take(&mut queue.spent);
        let next = queue.next(time.now().elapsed_ms);
        drop(queue);
        drop(spent);
        if let Ok(producer) = next {
            self.take_turn(producer);
        }
    }

    fn next(&self, time: &Time) -> Option<Arc<ProducerCore>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_stopped {
                return None;
            }
            let spent = std::mem::take(&mut queue.spent);
            if !spent.is_empty() {
                MutexGuard::unlocked(&mut queue, || drop(spent));
                continue;
            }
            let now_ms = time.now().elapsed_ms;
            match queue.next(now_ms) {
                Ok(producer) => return Some(producer),
                Err(Some(at_ms)) => {
                    let wait = Duration::from_millis((at_ms - now_ms).min(1_000));
                    self.wanted.wait_for(&mut queue, wait);
                }
                Err(None) => self.wanted.wait(&mut queue),
            }
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.is_stopped = true;
        queue.times.clear();
        let left = (
            std::mem::take(&mut queue.ready),
            std::mem::take(&mut queue.timed),
            std::mem::take(&mut queue.spent),
        );
        drop(queue);
        // Outside of the lock: the last handle of an engine may go with them.
        drop(left);
        self.wanted.notify_all();
    }
}
