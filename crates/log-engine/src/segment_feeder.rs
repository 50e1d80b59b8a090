//! The segment feeder: prepares the next segment ahead of need, and the next block of producer
//! ids. Off the append path; it never touches a segment in use.

use std::collections::VecDeque;
use std::sync::Arc;

use sync::atomic::Ordering;
use sync::{Condvar, Mutex};

use crate::committer;
use crate::ends::State;
use crate::panics::caught;
use crate::partition::PartitionState;

/// The partitions that want a segment, and the thread that prepares it.
#[derive(Default)]
pub(crate) struct Feeder {
    queue: Mutex<Queue>,
    wanted: Condvar,
}

#[derive(Default)]
struct Queue {
    partitions: VecDeque<Arc<PartitionState>>,
    is_block_wanted: bool,
    is_time_due: bool,
    is_stopped: bool,
}

/// What the feeder is asked for.
enum Request {
    Segment(Arc<PartitionState>),
    ProducerIds,
    SaveTime,
}

impl Request {
    fn answer(self, reserve_producer_ids: &impl Fn(), save_time: &impl Fn()) {
        match self {
            Request::Segment(partition) => turn(&partition),
            Request::ProducerIds => reserve_producer_ids(),
            // As with a failure, the time is saved later.
            Request::SaveTime => drop(caught(save_time)),
        }
    }
}

impl Queue {
    fn next(&mut self) -> Option<Request> {
        if std::mem::take(&mut self.is_block_wanted) {
            return Some(Request::ProducerIds);
        }
        // Before the segments, of which there may always be one more.
        if !self.is_stopped && std::mem::take(&mut self.is_time_due) {
            return Some(Request::SaveTime);
        }
        self.partitions.pop_front().map(Request::Segment)
    }
}

impl Feeder {
    /// Asks for a segment for a partition.
    pub(crate) fn enqueue(&self, partition: &Arc<PartitionState>) {
        if !partition.feeding.is_queued.swap(true, Ordering::AcqRel) {
            self.queue.lock().partitions.push_back(partition.clone());
            self.wanted.notify_one();
        }
    }

    /// Asks for a block of producer ids.
    pub(crate) fn want_producer_ids(&self) {
        self.queue.lock().is_block_wanted = true;
        self.wanted.notify_one();
    }

    /// Asks for the elapsed time to be saved. The timer itself never waits for the disk: whoever
    /// waits for a disk that hangs depends on it for an answer (I32).
    pub(crate) fn want_time_saved(&self) {
        self.queue.lock().is_time_due = true;
        self.wanted.notify_one();
    }

    /// The loop of the feeder's thread.
    pub(crate) fn work(&self, reserve_producer_ids: impl Fn(), save_time: impl Fn()) {
        loop {
            let mut queue = self.queue.lock();
            let request = loop {
                if let Some(request) = queue.next() {
                    break request;
                }
                if queue.is_stopped {
                    return;
                }
                self.wanted.wait(&mut queue);
            };
            drop(queue);
            request.answer(&reserve_producer_ids, &save_time);
        }
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        let queue = self.queue.lock();
        queue.partitions.len() + usize::from(queue.is_block_wanted) + usize::from(queue.is_time_due)
    }

    /// Answers one request, if there is one, on this thread.
    pub(crate) fn step(&self, reserve_producer_ids: impl Fn(), save_time: impl Fn()) {
        let request = self.queue.lock().next();
        if let Some(request) = request {
            request.answer(&reserve_producer_ids, &save_time);
        }
    }

    /// Ends the thread once its queue is empty.
    pub(crate) fn stop(&self) {
        self.queue.lock().is_stopped = true;
        self.wanted.notify_all();
    }
}

/// Prepares a segment for a partition, if it wants one, and tells whoever waits for it. A panic
/// fences the log (R25).
pub(crate) fn turn(partition: &PartitionState) {
    if let Err(panic) = caught(|| prepare(partition)) {
        committer::fence(partition, "preparing a segment", &panic);
        partition.feeding.turns.fetch_add(1, Ordering::AcqRel);
        partition.ends.wake();
    }
}

fn prepare(partition: &PartitionState) {
    partition.feeding.is_queued.store(false, Ordering::Release);
    let _running = partition.feeding.running.lock();
    if partition.ends.state() == State::Deleted {
        return;
    }
    let Some(mut log) = partition.log() else {
        return;
    };
    let wanted = log.segments_mut().wanted();
    drop(log);
    if let Some(wanted) = wanted {
        let capacity = wanted.capacity();
        let prepared = wanted.prepare();
        let Some(mut log) = partition.log() else {
            return;
        };
        let failure = match prepared {
            Ok(prepared) => {
                log.segments_mut().offer(prepared);
                None
            }
            Err(error) => {
                log.segments_mut().prepare_failed();
                Some((capacity, Arc::new(error)))
            }
        };
        let is_fenced = log.segments().latch().reason().is_some();
        drop(log);
        *partition.feeding.failure.lock() = failure;
        if is_fenced {
            partition.ends.set_state(State::Fenced);
        }
    }
    partition.feeding.turns.fetch_add(1, Ordering::AcqRel);
    partition.ends.wake();
}
