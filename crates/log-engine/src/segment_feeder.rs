//! The segment feeder: prepares the next segment ahead of need, and the next block of producer
//! ids. Off the append path; it never touches a segment in use.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Condvar, Mutex};

use crate::ends::State;
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
        while let Some(request) = self.next() {
            match request {
                Request::Segment(partition) => turn(&partition),
                Request::ProducerIds => reserve_producer_ids(),
                Request::SaveTime => save_time(),
            }
        }
    }

    fn next(&self) -> Option<Request> {
        let mut queue = self.queue.lock();
        loop {
            if std::mem::take(&mut queue.is_block_wanted) {
                return Some(Request::ProducerIds);
            }
            if let Some(partition) = queue.partitions.pop_front() {
                return Some(Request::Segment(partition));
            }
            if queue.is_stopped {
                return None;
            }
            if std::mem::take(&mut queue.is_time_due) {
                return Some(Request::SaveTime);
            }
            self.wanted.wait(&mut queue);
        }
    }

    /// Ends the thread once its queue is empty.
    pub(crate) fn stop(&self) {
        self.queue.lock().is_stopped = true;
        self.wanted.notify_all();
    }
}

/// Prepares a segment for a partition, if it wants one, and tells whoever waits for it.
pub(crate) fn turn(partition: &PartitionState) {
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
        drop(log);
        *partition.feeding.failure.lock() = failure;
    }
    partition.feeding.turns.fetch_add(1, Ordering::AcqRel);
    partition.ends.wake();
}
