//! The committer: one sync for all who wait, one at a time per log, several logs side by side.
//!
//! A turn covers all that was written before it began, so whoever appends while one runs is
//! covered by the next; that is the group commit. No lock is held while the disk works (R23), and
//! no log waits for another's sync (I16). What nobody waits for, sealing, snapshots and deletion,
//! are turns of another kind ([`crate::upkeep`]): they run beside the syncs of the same log, come
//! after those of all logs, and never take all of the workers.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use segment_storage::{Marks, SegmentedLog, StableMark};
use sync::atomic::{AtomicBool, AtomicU8, Ordering};
use sync::{Condvar, Mutex, MutexGuard};

use crate::ends::State;
use crate::env::Time;
use crate::panics::caught;
use crate::partition::PartitionState;
use crate::upkeep;

/// Threads that wait for syncs, at most. More logs than these that are dirty at once queue.
pub(crate) const WORKERS_MAX: usize = 8;
/// How many of them may be at the upkeep of logs at a time.
const UPKEEP_MAX: usize = WORKERS_MAX / 2;
/// How many syncs a single worker takes before a turn of upkeep that waits.
const WENT_FIRST_MAX: usize = 16;

/// What a turn is for. One of each kind runs at a time for each log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Makes durable what somebody waits for.
    Sync,
    /// Everything else.
    Upkeep,
}

/// Where a partition stands with the committer.
#[derive(Default)]
pub(crate) struct Turn {
    sync: Place,
    upkeep: Place,
    /// Everything is to be synced, not only what was rolled.
    sync_all: AtomicBool,
    /// The marks file is to be synced too.
    pub(crate) sync_marks: AtomicBool,
    /// The log is to be held against its retention limits.
    pub(crate) retain: AtomicBool,
    /// Held while a mark is made and written, so that none is written over a newer one. Locked
    /// before the log.
    marking: Mutex<()>,
    /// The log is closed: nothing of it is written any more.
    is_over: AtomicBool,
}

/// Where a partition stands with the turns of one kind.
#[derive(Default)]
struct Place {
    phase: AtomicU8,
    /// Held by the one thread that takes the turn.
    running: Mutex<()>,
}

impl Turn {
    fn place(&self, kind: Kind) -> &Place {
        match kind {
            Kind::Sync => &self.sync,
            Kind::Upkeep => &self.upkeep,
        }
    }

    /// Waits for a turn of that kind that is under way, and keeps others from beginning.
    pub(crate) fn hold(&self, kind: Kind) -> MutexGuard<'_, ()> {
        self.place(kind).running.lock()
    }

    /// Waits for turns that are under way.
    pub(crate) fn finish(&self) {
        drop(self.hold(Kind::Sync));
        drop(self.hold(Kind::Upkeep));
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
    syncs: VecDeque<Arc<PartitionState>>,
    upkeep: VecDeque<Arc<PartitionState>>,
    idle_workers: usize,
    workers: usize,
    /// Workers that take a turn of upkeep.
    keepers: usize,
    /// Syncs that went first since the last turn of upkeep was taken.
    went_first: usize,
    is_stopped: bool,
}

impl Queue {
    fn of(&mut self, kind: Kind) -> &mut VecDeque<Arc<PartitionState>> {
        match kind {
            Kind::Sync => &mut self.syncs,
            Kind::Upkeep => &mut self.upkeep,
        }
    }

    fn len(&self) -> usize {
        self.syncs.len() + self.upkeep.len()
    }

    // Somebody may wait for a sync, so those come first. But one worker of several sees to upkeep
    // whenever there is some, and a single one now and then: there may always be one more sync.
    fn next(&mut self) -> Option<(Arc<PartitionState>, Kind)> {
        let is_neglected = self.workers > 1 || self.went_first >= WENT_FIRST_MAX;
        let first = match self.keepers {
            0 if is_neglected && !self.upkeep.is_empty() => None,
            _ => self.syncs.pop_front(),
        };
        if let Some(partition) = first {
            self.went_first += usize::from(!self.upkeep.is_empty());
            return Some((partition, Kind::Sync));
        }
        if self.keepers >= UPKEEP_MAX {
            return None;
        }
        let partition = self.upkeep.pop_front()?;
        self.keepers += 1;
        self.went_first = 0;
        Some((partition, Kind::Upkeep))
    }
}

impl Committer {
    /// Asks for a turn that syncs everything written so far.
    pub(crate) fn sync(&self, partition: &Arc<PartitionState>) -> bool {
        partition.turn.sync_all.store(true, Ordering::Release);
        self.enqueue(partition, Kind::Sync)
    }

    /// Asks for a turn that also holds the log against its retention limits.
    pub(crate) fn retain(&self, partition: &Arc<PartitionState>) -> bool {
        partition.turn.retain.store(true, Ordering::Release);
        self.enqueue(partition, Kind::Upkeep)
    }

    /// Asks for a turn that also makes the stable mark durable.
    pub(crate) fn sync_marks(&self, partition: &Arc<PartitionState>) -> bool {
        partition.turn.sync_marks.store(true, Ordering::Release);
        self.enqueue(partition, Kind::Upkeep)
    }

    /// Asks for a turn. Returns whether another worker would be of use, and must be started.
    pub(crate) fn enqueue(&self, partition: &Arc<PartitionState>, kind: Kind) -> bool {
        if !begin_waiting(partition, kind) {
            return false;
        }
        let mut queue = self.queue.lock();
        queue.of(kind).push_back(partition.clone());
        let short = queue.idle_workers < queue.len();
        let more = short && queue.workers < WORKERS_MAX && !queue.is_stopped;
        if more {
            queue.workers += 1;
        }
        drop(queue);
        self.wanted.notify_one();
        more
    }

    fn push(&self, partition: Arc<PartitionState>, kind: Kind) {
        self.queue.lock().of(kind).push_back(partition);
        self.wanted.notify_one();
    }

    /// Counts a worker that is started without having been asked for.
    pub(crate) fn add_worker(&self) {
        self.queue.lock().workers += 1;
    }

    /// A worker that was counted could not be started.
    pub(crate) fn remove_worker(&self) {
        self.queue.lock().workers -= 1;
    }

    /// The loop of a worker thread; `start` starts another one.
    pub(crate) fn work(&self, time: &Time, start: &dyn Fn()) {
        loop {
            let mut queue = self.queue.lock();
            let (partition, kind) = loop {
                if let Some(next) = queue.next() {
                    break next;
                }
                if queue.is_stopped {
                    return;
                }
                queue.idle_workers += 1;
                self.wanted.wait(&mut queue);
                queue.idle_workers -= 1;
            };
            drop(queue);
            self.take_turn(partition, kind, time, start);
            if kind == Kind::Upkeep {
                self.queue.lock().keepers -= 1;
            }
        }
    }

    fn take_turn(&self, partition: Arc<PartitionState>, kind: Kind, time: &Time, start: &dyn Fn()) {
        let place = partition.turn.place(kind);
        // A read-modify-write, for the same reason as in `begin_waiting`.
        place.phase.swap(RUNNING, Ordering::AcqRel);
        let again = match kind {
            Kind::Sync => {
                turn(&partition, time);
                // This worker may have another sync to take, and no time for it.
                if upkeep::is_due(&partition) && self.enqueue(&partition, Kind::Upkeep) {
                    start();
                }
                false
            }
            Kind::Upkeep => {
                let goes_on = upkeep::turn(&partition, time);
                partition.keep_budget(time) || goes_on
            }
        };
        let phase = &place.phase;
        let idle = || phase.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if again || idle().is_err() {
            phase.store(QUEUED, Ordering::Release);
            self.push(partition, kind);
        }
    }

    /// How many turns are wanted.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().len()
    }

    /// Takes the turn at `place` in the queue, on this thread.
    pub(crate) fn step(&self, place: usize, time: &Time) {
        let mut queue = self.queue.lock();
        let syncs = queue.syncs.len();
        let (kind, place) = match place.checked_sub(syncs) {
            None => (Kind::Sync, place),
            Some(place) => (Kind::Upkeep, place),
        };
        let partition = queue.of(kind).remove(place);
        drop(queue);
        if let Some(partition) = partition {
            self.take_turn(partition, kind, time, &|| ());
        }
    }

    /// Ends the workers once they are idle.
    pub(crate) fn stop(&self) {
        self.queue.lock().is_stopped = true;
        self.wanted.notify_all();
    }
}

// Whether the partition has to be put into the queue; else it is there, or comes again.
fn begin_waiting(partition: &PartitionState, kind: Kind) -> bool {
    let phase = &partition.turn.place(kind).phase;
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
            Ok(before) => return before == IDLE,
            Err(now) => seen = now,
        }
    }
}

/// A turn that syncs everything, on this thread.
pub(crate) fn turn_now(partition: &PartitionState, time: &Time) {
    partition.turn.sync_all.store(true, Ordering::Release);
    turn(partition, time);
}

/// Makes durable what should be, publishes it, and answers whoever waits.
/// A failure fences the log for good (I10), and so does a panic (R25).
pub(crate) fn turn(partition: &PartitionState, time: &Time) {
    if let Err(panic) = caught(|| take_turn(partition, time)) {
        fence(partition, "turn", &panic);
    }
}

fn take_turn(partition: &PartitionState, time: &Time) {
    let _one_at_a_time = partition.turn.hold(Kind::Sync);
    let sync_all = partition.turn.sync_all.swap(false, Ordering::AcqRel);
    if !is_writable(partition) {
        return;
    }
    let outcome = commit(partition, time, sync_all).and_then(|()| raise_ceiling(partition, time));
    if let Err(error) = outcome {
        fence(partition, "sync", &error);
    }
}

/// Whether a turn may write anything.
pub(crate) fn is_writable(partition: &PartitionState) -> bool {
    let Some(log) = partition.log() else {
        return false;
    };
    let is_over = partition.turn.is_over.load(Ordering::Acquire);
    if is_over || partition.ends.state() == State::Deleted {
        return false;
    }
    let is_latched = log.segments().latch().reason().is_some();
    let is_corrupt = log.corruption().is_some();
    drop(log);
    if is_latched {
        // A write that failed closed the latch; whoever waits has to know.
        partition.ends.set_state(State::Fenced);
    }
    !is_latched && !is_corrupt
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
        // Fenced meanwhile by what runs beside it: then nobody is told a success (I10).
        if log.segments().latch().reason().is_some() {
            return Ok(());
        }
        log.segments_mut().synced(&item);
        partition.ends.set_synced(log.segments().synced_offset());
        drop(log);
        partition.ends.wake();
        if write_mark(partition, |log| log.mark_after(&item))?.is_some() {
            note_mark(partition, time);
        }
    }
    Ok(())
}

/// Writes the stable mark that `mark` makes, if it makes one; the file, to be synced.
///
/// # Errors
/// What the disk says.
pub(crate) fn write_mark(
    partition: &PartitionState,
    mark: impl FnOnce(&SegmentedLog) -> Option<StableMark>,
) -> io::Result<Option<Arc<Marks>>> {
    let _in_order = partition.turn.marking.lock();
    let Some(log) = partition.log() else {
        return Ok(None);
    };
    let segments = log.segments();
    if segments.latch().reason().is_some() {
        return Ok(None);
    }
    let Some(mark) = mark(segments) else {
        return Ok(None);
    };
    let marks = segments.marks().clone();
    drop(log);
    marks.write_mark(&mark)?;
    Ok(Some(marks))
}

fn note_mark(partition: &PartitionState, time: &Time) {
    if partition.mark_since_ms.load(Ordering::Relaxed) == 0 {
        partition
            .mark_since_ms
            .store(time.now().elapsed_ms.max(1), Ordering::Relaxed);
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
    marks.store_ceiling(ceiling)?;
    let Some(mut log) = partition.log() else {
        return Ok(());
    };
    if log.segments().latch().reason().is_some() {
        return Ok(());
    }
    log.segments_mut().raise_ceiling(ceiling);
    drop(log);
    partition.ends.wake();
    Ok(())
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
    upkeep::turn(partition, time);
    let _one_at_a_time = (
        partition.turn.hold(Kind::Sync),
        partition.turn.hold(Kind::Upkeep),
        // Nor is a segment prepared, which would begin to write into a log that was closed cleanly.
        partition.feeding.running.lock(),
    );
    partition.turn.is_over.store(true, Ordering::Release);
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
        Err(error) if upkeep::is_full(&error) => Ok(()),
        done => done,
    };
    let closed = snapshot.and_then(|()| log.segments_mut().close());
    drop(log);
    if let Some(mut spiller) = spiller {
        spiller.discard();
    }
    closed
}
