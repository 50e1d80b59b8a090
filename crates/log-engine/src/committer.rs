//! The committer: one sync for all who wait, one at a time per log, several logs side by side.
//!
//! A turn covers all that was written before it began, so whoever appends while one runs is
//! covered by the next; that is the group commit. No lock is held while the disk works (R23), and
//! no log waits for another's sync (I16).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use parking_lot::{Condvar, Mutex};
use segment_storage::{Check, ScanError};

use crate::ends::State;
use crate::env::Time;
use crate::panics::caught;
use crate::partition::PartitionState;
use crate::retention;

/// Threads that wait for syncs, at most. More logs than these that are dirty at once queue.
pub(crate) const WORKERS_MAX: usize = 8;

/// Where a partition stands with the committer.
#[derive(Default)]
pub(crate) struct Turn {
    phase: AtomicU8,
    /// Everything is to be synced, not only what was rolled.
    sync_all: AtomicBool,
    /// The marks file is to be synced too.
    sync_marks: AtomicBool,
    /// The log is to be held against its retention limits.
    retain: AtomicBool,
    /// Held by the one thread that takes the turn.
    running: Mutex<()>,
}

impl Turn {
    /// Waits for a turn that is under way.
    pub(crate) fn finish(&self) {
        drop(self.running.lock());
    }
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const RUNNING_AND_QUEUED: u8 = 3;

/// The partitions that want a turn, and the threads that take it.
#[derive(Default)]
pub(crate) struct Committer {
    queue: Mutex<Queue>,
    wanted: Condvar,
}

#[derive(Default)]
struct Queue {
    partitions: VecDeque<Arc<PartitionState>>,
    idle_workers: usize,
    workers: usize,
    is_stopped: bool,
}

impl Committer {
    /// Asks for a turn that syncs everything written so far.
    pub(crate) fn sync(&self, partition: &Arc<PartitionState>) -> bool {
        partition.turn.sync_all.store(true, Ordering::Release);
        self.enqueue(partition)
    }

    /// Asks for a turn that also holds the log against its retention limits.
    pub(crate) fn retain(&self, partition: &Arc<PartitionState>) -> bool {
        partition.turn.retain.store(true, Ordering::Release);
        self.enqueue(partition)
    }

    /// Asks for a turn that also makes the stable mark durable.
    pub(crate) fn sync_marks(&self, partition: &Arc<PartitionState>) -> bool {
        partition.turn.sync_marks.store(true, Ordering::Release);
        self.enqueue(partition)
    }

    /// Asks for a turn. Returns whether another worker would be of use.
    pub(crate) fn enqueue(&self, partition: &Arc<PartitionState>) -> bool {
        let phase = &partition.turn.phase;
        let mut seen = phase.load(Ordering::Acquire);
        loop {
            let next = match seen {
                IDLE => QUEUED,
                RUNNING => RUNNING_AND_QUEUED,
                // Also then a write of this very number, not only a look: it orders the request that
                // was stored before it with the worker's look at the requests after its own write.
                seen => seen,
            };
            match phase.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(IDLE) => break,
                Ok(_) => return false,
                Err(now) => seen = now,
            }
        }
        self.push(partition.clone())
    }

    fn push(&self, partition: Arc<PartitionState>) -> bool {
        let mut queue = self.queue.lock();
        queue.partitions.push_back(partition);
        let short = queue.idle_workers < queue.partitions.len();
        let more = short && queue.workers < WORKERS_MAX && !queue.is_stopped;
        if more {
            queue.workers += 1;
        }
        drop(queue);
        self.wanted.notify_one();
        more
    }

    /// Counts a worker that is started without having been asked for.
    pub(crate) fn add_worker(&self) {
        self.queue.lock().workers += 1;
    }

    /// The loop of a worker thread.
    pub(crate) fn work(&self, time: &Time) {
        loop {
            let mut queue = self.queue.lock();
            let partition = loop {
                if let Some(partition) = queue.partitions.pop_front() {
                    break partition;
                }
                if queue.is_stopped {
                    return;
                }
                queue.idle_workers += 1;
                self.wanted.wait(&mut queue);
                queue.idle_workers -= 1;
            };
            drop(queue);
            self.take_turn(partition, time);
        }
    }

    fn take_turn(&self, partition: Arc<PartitionState>, time: &Time) {
        // A read-modify-write, for the same reason as in `enqueue`.
        partition.turn.phase.swap(RUNNING, Ordering::AcqRel);
        turn(&partition, time);
        let again = partition.keep_budget(time);
        let phase = &partition.turn.phase;
        let idle = || phase.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if again || idle().is_err() {
            phase.store(QUEUED, Ordering::Release);
            self.push(partition);
        }
    }

    /// How many partitions want a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().partitions.len()
    }

    /// Takes the turn of the partition at `place` in the queue, on this thread.
    pub(crate) fn step(&self, place: usize, time: &Time) {
        let partition = self.queue.lock().partitions.remove(place);
        if let Some(partition) = partition {
            self.take_turn(partition, time);
        }
    }

    /// Ends the workers once they are idle.
    pub(crate) fn stop(&self) {
        self.queue.lock().is_stopped = true;
        self.wanted.notify_all();
    }
}

/// A turn that syncs everything, on this thread.
pub(crate) fn turn_now(partition: &PartitionState, time: &Time) {
    partition.turn.sync_all.store(true, Ordering::Release);
    turn(partition, time);
}

/// Makes durable what should be, publishes it, answers whoever waits, and seals what was rolled.
/// A failure fences the log for good (I10), and so does a panic (R25).
pub(crate) fn turn(partition: &PartitionState, time: &Time) {
    if let Err(panic) = caught(|| take_turn(partition, time)) {
        fence(partition, "turn", &panic);
    }
}

fn take_turn(partition: &PartitionState, time: &Time) {
    let _one_at_a_time = partition.turn.running.lock();
    let sync_all = partition.turn.sync_all.swap(false, Ordering::AcqRel);
    let sync_marks = partition.turn.sync_marks.swap(false, Ordering::AcqRel);
    let retain = partition.turn.retain.swap(false, Ordering::AcqRel);
    let Some(log) = partition.log() else { return };
    if partition.ends.state() == State::Deleted {
        return;
    }
    let is_latched = log.segments().latch().reason().is_some();
    let is_corrupt = log.corruption().is_some();
    drop(log);
    if is_latched {
        // A write that failed closed the latch; whoever waits has to know.
        partition.ends.set_state(State::Fenced);
    }
    if is_latched || is_corrupt {
        return;
    }
    let outcome = commit(partition, time, sync_all)
        .and_then(|()| seal(partition, time))
        .and_then(|()| raise_ceiling(partition, time))
        .and_then(|()| {
            if sync_marks {
                write_back_marks(partition)
            } else {
                Ok(())
            }
        });
    match outcome {
        Err(error) => fence(partition, "sync", &error),
        Ok(()) if retain => retention::retain(partition, time),
        Ok(()) => {}
    }
}

/// Ends a partition after a failure; everybody who waits gets the reason.
pub(crate) fn fence(partition: &PartitionState, operation: &'static str, error: &io::Error) {
    if let Some(log) = partition.log() {
        log.segments()
            .latch()
            .close(&partition.name(), operation, error);
    }
    partition.ends.set_state(State::Fenced);
}

fn commit(partition: &PartitionState, time: &Time, sync_all: bool) -> io::Result<()> {
    let Some(log) = partition.log() else {
        return Ok(());
    };
    if sync_all {
        partition.dirty_since_ms.store(0, Ordering::Relaxed);
        partition.unsynced_bytes.store(0, Ordering::Relaxed);
    }
    let items = log.segments().begin_sync(sync_all);
    drop(log);
    for item in items {
        item.sync()?;
        let Some(mut log) = partition.log() else {
            return Ok(());
        };
        log.segments_mut().synced(&item);
        partition.ends.set_synced(log.segments().synced_offset());
        let mark = log.segments().mark_after(&item);
        let marks = log.segments().marks().clone();
        drop(log);
        partition.ends.wake();
        if let Some(mark) = mark {
            marks.write_mark(&mark)?;
            note_mark(partition, time);
        }
    }
    Ok(())
}

fn note_mark(partition: &PartitionState, time: &Time) {
    if partition.mark_since_ms.load(Ordering::Relaxed) == 0 {
        partition
            .mark_since_ms
            .store(time.now().elapsed_ms.max(1), Ordering::Relaxed);
    }
}

/// Whether an error says that the disk is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

// With nobody waiting: cut what was rolled, write its footer, perhaps a snapshot, then let the mark
// pass it, durably (R9, R12, R15).
fn seal(partition: &PartitionState, time: &Time) -> io::Result<()> {
    loop {
        let Some(log) = partition.log() else {
            return Ok(());
        };
        let Some(segment) = log.segments().to_seal() else {
            return Ok(());
        };
        let snapshotter = log.snapshotter();
        let unsealed = log.segments().unsealed();
        drop(log);
        segment.cut()?;
        let mut sealed = segment.write_footer(Check::Headers);
        if matches!(&sealed, Err(ScanError::Read { source, .. }) if is_full(source)) {
            unsealed.iter().try_for_each(|segment| segment.cut())?;
            sealed = segment.write_footer(Check::Headers);
        }
        match sealed {
            Ok(_) => {}
            // No space for the side file: the segment stays as it is, and is sealed later (I13).
            Err(ScanError::Read { source, .. }) if is_full(&source) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        }
        // A snapshot is a cache: without it the next open replays more.
        let _ = snapshotter.after_seal(&segment, time.now());
        let Some(mut log) = partition.log() else {
            return Ok(());
        };
        log.segments_mut().sealed(&segment);
        let mark = log.segments().mark_now();
        drop(log);
        partition.segment_since_ms.store(0, Ordering::Relaxed);
        if let Some(mark) = mark {
            let Some(log) = partition.log() else {
                return Ok(());
            };
            let marks = log.segments().marks().clone();
            drop(log);
            marks.write_mark(&mark)?;
            marks.sync()?;
        }
    }
}

fn raise_ceiling(partition: &PartitionState, time: &Time) -> io::Result<()> {
    let Some(mut log) = partition.log() else {
        return Ok(());
    };
    let Some(ceiling) = log.segments_mut().ceiling_due(time.now().elapsed_ms) else {
        return Ok(());
    };
    let marks = log.segments().marks().clone();
    drop(log);
    marks.write_ceiling(ceiling)?;
    marks.sync()?;
    let Some(mut log) = partition.log() else {
        return Ok(());
    };
    log.segments_mut().raise_ceiling(ceiling);
    drop(log);
    partition.ends.wake();
    Ok(())
}

fn write_back_marks(partition: &PartitionState) -> io::Result<()> {
    partition.mark_since_ms.store(0, Ordering::Relaxed);
    let Some(log) = partition.log() else {
        return Ok(());
    };
    let marks = log.segments().marks().clone();
    drop(log);
    marks.sync()
}

/// Takes turns until nothing is unsynced or unsealed, and closes the log cleanly.
///
/// # Errors
/// What the disk says; the log is then recovered by the next open.
pub(crate) fn close(partition: &PartitionState, time: &Time) -> io::Result<()> {
    caught(|| close_log(partition, time)).unwrap_or_else(|panic| {
        fence(partition, "close", &panic);
        Err(panic)
    })
}

fn close_log(partition: &PartitionState, time: &Time) -> io::Result<()> {
    partition.turn.sync_all.store(true, Ordering::Release);
    turn(partition, time);
    let _one_at_a_time = partition.turn.running.lock();
    let spiller = partition.spilling.close();
    let Some(mut log) = partition.log() else {
        return Ok(());
    };
    if let Err(latched) = log.segments().latch().check() {
        return Err(io::Error::other(latched));
    }
    if log.corruption().is_some() || partition.ends.state() == State::Deleted {
        return Ok(());
    }
    // Nobody appends any more, so the lock may be held across the disk.
    let snapshot = match log.snapshot() {
        // A snapshot is a cache: without it the next open replays (I13).
        Err(error) if is_full(&error) => Ok(()),
        done => done,
    };
    let closed = snapshot.and_then(|()| log.segments_mut().close());
    drop(log);
    if let Some(mut spiller) = spiller {
        spiller.discard();
    }
    closed
}
