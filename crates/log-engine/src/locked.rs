//! A log behind its lock, which a panic fences.
//!
//! The lock has no poison. A panic in the middle of a change leaves the log's parts at odds with each
//! other: the file may hold a batch that its producers do not know. So whoever unwinds out of a
//! change closes the log's latch before the lock is free, and then wakes whoever waits (R25, I32).

use std::io;
use std::ops::{Deref, DerefMut};

use partition_log::PartitionLog;
use sync::{Mutex, MutexGuard};

use crate::ends::State;
use crate::partition::PartitionState;

/// A locked log. Dropped by a panic after it was changed, it fences the log.
pub(crate) struct LockedLog<'a> {
    // In this order: the latch is closed under the lock, and nobody is woken under it.
    held: Held<'a>,
    fenced: Fenced<'a>,
}

struct Held<'a> {
    log: MutexGuard<'a, PartitionLog>,
    partition: &'a PartitionState,
    breaks: Breaks,
}

struct Fenced<'a> {
    partition: &'a PartitionState,
    breaks: Breaks,
}

/// Whether a panic now is one that broke the log.
#[derive(Clone, Copy)]
struct Breaks {
    was_panicking: bool,
    is_changed: bool,
}

impl Breaks {
    #[inline]
    fn now(self) -> bool {
        self.is_changed && !self.was_panicking && std::thread::panicking()
    }
}

impl<'a> LockedLog<'a> {
    /// Waits for the lock.
    #[inline]
    pub(crate) fn new(
        log: &'a Mutex<PartitionLog>,
        partition: &'a PartitionState,
    ) -> LockedLog<'a> {
        LockedLog::over(log.lock(), partition)
    }

    /// `None` while somebody else has the lock.
    pub(crate) fn try_new(
        log: &'a Mutex<PartitionLog>,
        partition: &'a PartitionState,
    ) -> Option<LockedLog<'a>> {
        log.try_lock().map(|log| LockedLog::over(log, partition))
    }

    #[inline]
    fn over(log: MutexGuard<'a, PartitionLog>, partition: &'a PartitionState) -> LockedLog<'a> {
        let breaks = Breaks {
            was_panicking: std::thread::panicking(),
            is_changed: false,
        };
        LockedLog {
            held: Held {
                log,
                partition,
                breaks,
            },
            fenced: Fenced { partition, breaks },
        }
    }
}

impl Deref for LockedLog<'_> {
    type Target = PartitionLog;

    #[inline]
    fn deref(&self) -> &PartitionLog {
        &self.held.log
    }
}

impl DerefMut for LockedLog<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut PartitionLog {
        self.held.breaks.is_changed = true;
        self.fenced.breaks.is_changed = true;
        &mut self.held.log
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.breaks.now() {
            let error = io::Error::other("a thread panicked in the middle of it");
            let latch = self.log.segments().latch();
            latch.close(&self.partition.name(), "a change", &error);
        }
    }
}

impl Drop for Fenced<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.breaks.now() {
            self.partition.ends.set_state(State::Fenced);
        }
    }
}
