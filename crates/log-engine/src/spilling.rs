//! The engine's side of the producer budget ([`partition_log::spill`]): who moves producers to disk
//! and back, and when.
//!
//! The committer moves them, after it has answered whoever waits. Only when a flood of new
//! producers outruns it does whoever brings one more move some itself, so that the bound holds
//! (I17). Whoever appends for a producer on disk reads it back. No lock of the log is held while
//! the disk works (R23).

use std::io;
use std::sync::Arc;

use partition_log::{
    AppendError as LogError, Appended, Guarded, Loaded, Loading, Now, PartitionLog, ProducerView,
    Progress, Spiller,
};
use record_batch::Batch;
use sync::Mutex;
use sync::atomic::{AtomicBool, Ordering};

use crate::committer;
use crate::env::Time;
use crate::error::{AppendError, ReadError};
use crate::locked::LockedLog;
use crate::panics::caught;
use crate::partition::{PartitionState, Source};

/// What an engine keeps of a partition's producers on disk.
#[derive(Default)]
pub(crate) struct Spilling {
    /// `None` where another process writes, and once the log is closed. Locked before the log.
    spiller: Mutex<Option<Spiller>>,
    /// There are more producers in memory than there should be: housekeeping asks for a turn.
    pub(crate) is_over: AtomicBool,
    /// The committer should move some.
    move_some: AtomicBool,
    /// The committer should forget whose time is over.
    expire: AtomicBool,
}

impl Spilling {
    pub(crate) fn of(source: &Source) -> Spilling {
        let spilling = Spilling::default();
        if let Source::Writer(log) = source {
            let mut log = log.lock();
            *spilling.spiller.lock() = Some(log.take_spiller());
            spilling.note(&log);
        }
        spilling
    }

    /// Looks at the log after an append; whether the committer should be asked for a turn now.
    #[inline]
    pub(crate) fn note(&self, log: &PartitionLog) -> bool {
        if !log.is_over_budget() {
            return false;
        }
        self.is_over.store(true, Ordering::Relaxed);
        log.is_far_over_budget() && !self.move_some.swap(true, Ordering::AcqRel)
    }

    /// Has the next turn move producers.
    pub(crate) fn want_moves(&self) {
        self.move_some.store(true, Ordering::Release);
    }

    /// Has the next turn forget producers whose time is over.
    pub(crate) fn want_expiry(&self) {
        self.expire.store(true, Ordering::Release);
    }

    /// Waits for what is under way; nothing is moved any more.
    pub(crate) fn close(&self) -> Option<Spiller> {
        self.spiller.lock().take()
    }
}

/// A log behind its lock.
struct Locked<'a>(&'a Mutex<PartitionLog>, &'a PartitionState);

impl Guarded for Locked<'_> {
    fn with<R>(&self, f: impl FnOnce(&mut PartitionLog) -> R) -> R {
        f(&mut LockedLog::new(self.0, self.1))
    }
}

impl PartitionState {
    fn with_spiller<T>(
        &self,
        f: impl FnOnce(&mut Spiller, &Locked<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut spiller = self.spilling.spiller.lock();
        let (Some(spiller), Source::Writer(log)) = (&mut *spiller, &self.source) else {
            return Err(io::Error::other("the log is closed"));
        };
        // What a panic leaves half moved is behind the latch, whosever thread it was (R25).
        caught(|| f(spiller, &Locked(log, self))).unwrap_or_else(|panic| {
            committer::fence(self, "moving producers", &panic);
            Err(panic)
        })
    }

    // A producer from disk; `None` when somebody else has brought it back.
    fn load(&self, loading: Loading, now: Now) -> io::Result<Option<Loaded>> {
        let producer_id = loading.producer_id();
        match loading.read() {
            Ok(loaded) => Ok(Some(loaded)),
            Err(_) => self.with_spiller(|spiller, log| spiller.load(log, producer_id, now)),
        }
    }

    fn make_room(&self, now: Now) -> io::Result<()> {
        self.with_spiller(|spiller, log| {
            if log.with(|log| log.has_room()) {
                return Ok(());
            }
            spiller.step(log, now).map(drop)
        })
    }

    /// The log, with a producer in memory if it is known at all; `None` where another process
    /// writes.
    ///
    /// # Errors
    /// When the producer is on disk, and cannot be read.
    pub(crate) fn log_with(&self, producer_id: i64, now: Now) -> io::Result<Option<LockedLog<'_>>> {
        let mut log = self.log();
        loop {
            let Some(found) = log else { return Ok(None) };
            let Some(loading) = found.begin_load(producer_id) else {
                return Ok(Some(found));
            };
            let is_full = !found.has_room();
            drop(found);
            if is_full {
                self.make_room(now)?;
            }
            let loaded = self.load(loading, now)?;
            log = self.log();
            if let (Some(log), Some(loaded)) = (&mut log, loaded) {
                log.finish_load(loaded);
            }
        }
    }

    /// Appends a batch that was `refused` for the sake of the budget; what the log says to it then,
    /// and the log, whose lock is still held.
    ///
    /// # Errors
    /// When the disk does not do what the budget needs; the batch was not judged.
    #[cold]
    pub(crate) fn append_postponed<'a>(
        &'a self,
        mut log: LockedLog<'a>,
        mut refused: LogError,
        batch: &Batch<'_>,
        now: Now,
    ) -> Result<(LockedLog<'a>, Result<Appended, LogError>), AppendError> {
        loop {
            drop(log);
            let again = match refused {
                LogError::Evicted { producer_id } => self.log_with(producer_id, now),
                LogError::NoRoom { .. } => self.make_room(now).map(|()| self.log()),
                other => return Err(self.refused(other)),
            };
            log = match again {
                Ok(Some(log)) => log,
                Ok(None) => return Err(AppendError::ReadOnly),
                Err(source) => return Err(self.producers_error(source)),
            };
            self.check_open()?;
            refused = match log.append(batch, now) {
                Err(refused @ (LogError::Evicted { .. } | LogError::NoRoom { .. })) => refused,
                done => return Ok((log, done)),
            };
        }
    }

    fn producers_error(&self, source: io::Error) -> AppendError {
        if let Err(closed) = self.check_open() {
            return closed;
        }
        AppendError::Producers {
            topic: self.topic.clone(),
            partition: self.index,
            source: Arc::new(source),
        }
    }

    /// What the committer does about producers after a turn; whether it should come again. A panic
    /// fences the log (R25).
    pub(crate) fn keep_budget(&self, time: &Time) -> bool {
        caught(|| self.move_producers(time)).unwrap_or_else(|panic| {
            committer::fence(self, "moving producers", &panic);
            false
        })
    }

    fn move_producers(&self, time: &Time) -> bool {
        let spilling = &self.spilling;
        if spilling.expire.swap(false, Ordering::AcqRel) {
            // Who cannot be looked at stays known, and is looked at next time.
            let _ = self.with_spiller(|spiller, log| spiller.expire(log, time.now()));
        }
        if !spilling.move_some.swap(false, Ordering::AcqRel) {
            return false;
        }
        spilling.is_over.store(false, Ordering::Relaxed);
        match self.with_spiller(|spiller, log| spiller.step(log, time.now())) {
            Ok(Progress::More) => {
                spilling.want_moves();
                true
            }
            // Who could not move yet, because what it appended is not published, may later, and
            // without another append: housekeeping looks again.
            Ok(Progress::Done) => {
                if self.log().is_some_and(|log| log.is_over_budget()) {
                    spilling.is_over.store(true, Ordering::Relaxed);
                }
                false
            }
            // Nobody is forgotten; housekeeping asks again.
            Err(_) => {
                spilling.is_over.store(true, Ordering::Relaxed);
                false
            }
        }
    }

    /// All producers that are known, in memory and on disk.
    ///
    /// # Errors
    /// When those on disk cannot be read.
    pub(crate) fn all_producers(&self, now: Now) -> Result<Vec<ProducerView>, ReadError> {
        let Some(log) = self.log() else {
            return Ok(Vec::new());
        };
        if log.budget().evicted == 0 {
            return Ok(log.producers().iter().collect());
        }
        drop(log);
        self.with_spiller(|spiller, log| spiller.views(log, now))
            .map_err(|source| self.read_error(source))
    }

    /// What a reader of producers is told when the disk fails.
    pub(crate) fn read_error(&self, source: io::Error) -> ReadError {
        let file = self.name();
        segment_storage::ReadError::Io {
            file,
            source: source.into(),
        }
        .into()
    }
}
