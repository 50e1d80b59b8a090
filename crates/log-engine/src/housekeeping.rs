//! The timer: what has to be done now and then, and when an interval is over. It waits for nothing
//! but time; what can reach the disk it hands to the committer or the feeder (I16).

use std::sync::Arc;
use std::time::Duration;

use pid_allocator::PidAllocator;
use sync::atomic::{AtomicU64, Ordering};
use sync::{Condvar, Mutex};

use crate::committer::Kind;
use crate::core::Core;
use crate::partition::{PartitionState, Source};

/// How often waiting appends look at their deadline, marks that moved are synced, and so on.
const HOUSEKEEPING_MS: u64 = 1_000;
/// A mark that moved is synced at most this much later (R14).
const MARK_SYNC_MS: u64 = 5_000;
/// How often producers that fell silent are looked for, as in Kafka.
const EXPIRY_CHECK_MS: u64 = 600_000;
/// How often logs are held against their retention limits.
const RETENTION_CHECK_MS: u64 = 10_000;
/// How often the elapsed time is saved: what a crash takes from it.
const SAVE_TIME_MS: u64 = 60_000;
/// How often a log of another process is looked at while somebody waits for it.
const FOLLOW_MS: u64 = 50;

/// When the timer's work is due.
#[derive(Default)]
pub(crate) struct Timer {
    state: Mutex<TimerState>,
    wanted: Condvar,
    next_housekeeping_ms: AtomicU64,
    next_expiry_ms: AtomicU64,
    next_retention_ms: AtomicU64,
    next_save_ms: AtomicU64,
}

#[derive(Default)]
struct TimerState {
    /// Partitions at `interval` with unsynced bytes.
    flushes: Vec<Arc<PartitionState>>,
    is_stopped: bool,
}

impl Timer {
    /// Has a partition at `interval` synced when its time comes.
    pub(crate) fn flush_later(&self, partition: &Arc<PartitionState>) {
        self.state.lock().flushes.push(partition.clone());
        self.wanted.notify_one();
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.wanted.notify_all();
    }
}

impl Core {
    /// The loop of the timer's thread.
    pub(crate) fn keep_time(self: &Arc<Core>) {
        loop {
            let mut state = self.timer.state.lock();
            if state.is_stopped {
                return;
            }
            let now_ms = self.time.now().elapsed_ms;
            let mut wait_ms = if self.directory.is_some() {
                200
            } else {
                FOLLOW_MS
            };
            for partition in &state.flushes {
                let since = partition.dirty_since_ms.load(Ordering::Relaxed);
                let due = since + partition.config.flush_ms();
                wait_ms = wait_ms.min(due.saturating_sub(now_ms)).max(1);
            }
            let groups_ms = self.groups.next_due_ms().saturating_sub(now_ms);
            wait_ms = wait_ms.min(groups_ms).max(1);
            self.timer
                .wanted
                .wait_for(&mut state, Duration::from_millis(wait_ms));
            drop(state);
            self.look_at_clock();
        }
    }

    /// Asks for the turns whose time has come.
    pub(crate) fn look_at_clock(self: &Arc<Core>) {
        let mut due = Vec::new();
        let now_ms = self.time.now().elapsed_ms;
        self.timer.state.lock().flushes.retain(|partition| {
            let since = partition.dirty_since_ms.load(Ordering::Relaxed);
            let is_due = now_ms >= since + partition.config.flush_ms();
            if is_due && since > 0 {
                due.push(partition.clone());
            }
            !is_due && since > 0
        });
        for partition in due {
            self.commit(&partition);
        }
        self.look_at_groups();
        self.tick();
    }

    /// What has to be done now and then.
    fn tick(self: &Arc<Core>) {
        let now = self.time.now();
        let due = |at: &AtomicU64, every: u64| {
            let is_due = now.elapsed_ms >= at.load(Ordering::Relaxed);
            if is_due {
                at.store(now.elapsed_ms + every, Ordering::Relaxed);
            }
            is_due
        };
        if self.directory.is_none() {
            for partition in self.partitions() {
                if let Source::Follower(follower) = &partition.source
                    && partition.ends.is_waited_for()
                {
                    // What cannot be read now is tried again; a reader that reads sees the error.
                    let _ = follower.refresh();
                    partition.ends.wake();
                }
            }
            return;
        }
        if !due(&self.timer.next_housekeeping_ms, HOUSEKEEPING_MS) {
            return;
        }
        for producer in self.live_producers() {
            producer.wake_senders();
        }
        let expire = due(&self.timer.next_expiry_ms, EXPIRY_CHECK_MS);
        let retain = due(&self.timer.next_retention_ms, RETENTION_CHECK_MS);
        self.checkpoint_groups();
        self.publish_groups();
        for partition in self.partitions() {
            self.keep_house(&partition, now.elapsed_ms, expire);
            if retain && (partition.config.limits_retention() || partition.is_consumed()) {
                let more = self.committer.retain(&partition);
                self.more_workers(more);
            }
        }
        if due(&self.timer.next_save_ms, SAVE_TIME_MS) {
            self.feeder.want_time_saved();
        }
        self.reserve_producer_ids_later();
    }

    fn reserve_producer_ids_later(&self) {
        if self
            .producer_ids
            .as_ref()
            .is_some_and(PidAllocator::needs_block)
        {
            self.feeder.want_producer_ids();
        }
    }

    fn keep_house(self: &Arc<Core>, partition: &Arc<PartitionState>, now_ms: u64, expire: bool) {
        if partition.ends.is_waited_for() {
            partition.ends.wake();
        }
        let mark_since = partition.mark_since_ms.load(Ordering::Relaxed);
        if mark_since > 0 && now_ms >= mark_since + MARK_SYNC_MS {
            let more = self.committer.sync_marks(partition);
            self.more_workers(more);
        }
        // A log that is busy just now is looked at the next time: nobody is waited for here.
        if let Some(mut log) = partition.try_log() {
            let since_ms = log.segments().active_since_ms();
            if since_ms > 0 && now_ms >= since_ms + partition.config.segment_ms() {
                log.segments_mut().roll();
                drop(log);
                let more = self.committer.enqueue(partition, Kind::Sync);
                self.more_workers(more);
            }
        }
        let mut moves = partition.spilling.is_over.load(Ordering::Relaxed);
        if moves {
            partition.spilling.want_moves();
        }
        if expire && let Some(mut log) = partition.log() {
            log.expire_producers(self.time.now());
            if log.budget().evicted > 0 {
                partition.spilling.want_expiry();
                moves = true;
            }
        }
        if moves {
            let more = self.committer.enqueue(partition, Kind::Upkeep);
            self.more_workers(more);
        }
    }
}
