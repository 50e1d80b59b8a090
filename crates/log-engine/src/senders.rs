//! The sender: drives producers when an answer arrives, a batch has lingered, or a try is due.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

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
    /// By elapsed ms and, to tell them apart, by address. Each producer has at most one entry.
    timed: BTreeMap<(u64, usize), Arc<ProducerCore>>,
    times: HashMap<usize, u64>,
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
            .and_then(|ms| self.timed.remove(&(ms, address)));
        let Some(next_ms) = next_ms.filter(|_| !self.is_stopped) else {
            return (old, Some(producer));
        };
        self.times.insert(address, next_ms);
        (old, self.timed.insert((next_ms, address), producer))
    }
}

impl Senders {
    /// Whether the thread must be started: `true` once.
    pub(crate) fn starts(&self) -> bool {
        !std::mem::replace(&mut self.queue.lock().is_started, true)
    }

    /// Has a producer take a turn soon.
    pub(crate) fn push(&self, producer: Arc<ProducerCore>) {
        let mut queue = self.queue.lock();
        if !queue.is_stopped {
            queue.ready.push_back(producer);
            drop(queue);
            self.wanted.notify_one();
        }
    }

    /// The loop of the sender's thread.
    pub(crate) fn work(&self, time: &Time) {
        while let Some(producer) = self.next(time) {
            let (next_ms, is_done) = producer.turn();
            let next_ms = next_ms.filter(|_| !is_done);
            // Outside of the lock: the last handle of an engine may go with it.
            drop(self.queue.lock().schedule(producer, next_ms));
        }
    }

    fn next(&self, time: &Time) -> Option<Arc<ProducerCore>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_stopped {
                return None;
            }
            if let Some(producer) = queue.ready.pop_front() {
                return Some(producer);
            }
            let now_ms = time.now().elapsed_ms;
            match queue.timed.first_key_value().map(|(key, _)| *key) {
                Some(key) if key.0 <= now_ms => {
                    queue.times.remove(&key.1);
                    return queue.timed.remove(&key);
                }
                Some((at_ms, _)) => {
                    let wait = Duration::from_millis((at_ms - now_ms).min(1_000));
                    self.wanted.wait_for(&mut queue, wait);
                }
                None => self.wanted.wait(&mut queue),
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
        );
        drop(queue);
        // Outside of the lock: the last handle of an engine may go with them.
        drop(left);
        self.wanted.notify_all();
    }
}
