//! One partition of the engine: a [`PartitionLog`] behind its lock, and how far it is.
//!
//! Whoever appends does the work on its own thread, under a lock that is held for about a
//! microsecond and never across a call that can reach the disk (R23). Durability comes from the
//! committer; whoever asked for it waits for the partition's ends to pass its batch. A repeat of
//! a batch whose original still waits simply waits for the same end (I5).

use std::io;
use std::sync::Arc;

use partition_log::{AppendError as LogError, Now, PartitionLog, PartitionReader};
use record_batch::Batch;
use segment_storage::{Corruption, LogFollower, WriteError};
use sync::Mutex;
use sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::committer::Turn;
use crate::config::{Ack, TopicConfig};
use crate::ends::{Ends, State};
use crate::error::{AppendError, LogName, Unknown};
use crate::locked::LockedLog;
use crate::spilling::Spilling;

/// What an engine keeps of one partition.
pub(crate) struct PartitionState {
    pub(crate) topic: Arc<str>,
    pub(crate) index: u32,
    /// Only the engine itself writes it.
    pub(crate) is_internal: bool,
    pub(crate) config: TopicConfig,
    pub(crate) reader: PartitionReader,
    pub(crate) ends: Ends,
    pub(crate) source: Source,
    pub(crate) turn: Turn,
    pub(crate) feeding: Feeding,
    pub(crate) spilling: Spilling,
    /// Held while the log's start moves.
    pub(crate) deleting: Mutex<()>,
    /// Below it, all groups that the topic names have consumed everything, durably.
    pub(crate) consumed_to: AtomicU64,
    /// From it on, a group holds what is there; `u64::MAX`: none does.
    pub(crate) held_from: AtomicU64,
    /// Elapsed time since when there are unsynced bytes at `interval`; 0: none.
    pub(crate) dirty_since_ms: AtomicU64,
    /// Elapsed time since when the stable mark is unsynced; 0: it is synced.
    pub(crate) mark_since_ms: AtomicU64,
    /// Bytes appended since the last sync, for `flush.bytes`.
    pub(crate) unsynced_bytes: AtomicU64,
}

/// Where a partition's data comes from.
pub(crate) enum Source {
    /// This engine writes it.
    Writer(Box<Mutex<PartitionLog>>),
    /// Another process may write it; this one follows its stable mark.
    Follower(LogFollower),
    /// It could not be opened; the other logs of the directory are served.
    Damaged(Corruption),
}

/// The segment feeder's side of a partition.
#[derive(Default)]
pub(crate) struct Feeding {
    pub(crate) is_queued: AtomicBool,
    /// Turns of the feeder, successful or not, that this partition has seen.
    pub(crate) turns: AtomicU64,
    /// Held during a turn.
    pub(crate) running: Mutex<()>,
    /// Why the last turn failed, and how many bytes it wanted.
    pub(crate) failure: Mutex<Option<(u64, Arc<io::Error>)>>,
}

impl Feeding {
    /// Waits for a turn of the feeder that is under way.
    pub(crate) fn finish(&self) {
        drop(self.running.lock());
    }
}

/// A batch that is in the log. What that promises is only said by waiting for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) base_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) duplicate: bool,
    pub(crate) timestamp: Option<i64>,
}

/// What to do after an append has let go of the lock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Follow {
    /// The feeder should prepare a segment.
    pub(crate) feed: bool,
    /// The committer should take a turn: to sync what was rolled, or to raise the ceiling.
    pub(crate) turn: bool,
    /// The committer should see to the log's upkeep: seal what was rolled, or move producers to disk.
    pub(crate) upkeep: bool,
    /// The committer should sync everything.
    pub(crate) sync: bool,
    /// The timer should have the partition synced when its time comes.
    pub(crate) flush_later: bool,
}

impl PartitionState {
    pub(crate) fn new(
        (topic, index): (Arc<str>, u32),
        config: TopicConfig,
        reader: PartitionReader,
        source: Source,
    ) -> PartitionState {
        let state = PartitionState {
            is_internal: crate::groups::is_internal(&topic),
            topic,
            index,
            config,
            reader,
            ends: Ends::default(),
            spilling: Spilling::of(&source),
            source,
            turn: Turn::default(),
            feeding: Feeding::default(),
            deleting: Mutex::default(),
            consumed_to: AtomicU64::new(0),
            held_from: AtomicU64::new(u64::MAX),
            dirty_since_ms: AtomicU64::new(0),
            mark_since_ms: AtomicU64::new(0),
            unsynced_bytes: AtomicU64::new(0),
        };
        state.ends.set_synced(state.reader.high_watermark());
        state
    }

    pub(crate) fn name(&self) -> String {
        LogName(&self.topic, self.index).to_string()
    }

    /// The log, for its writer; `None` where another process writes it.
    pub(crate) fn log(&self) -> Option<LockedLog<'_>> {
        match &self.source {
            Source::Writer(log) => Some(LockedLog::new(log, self)),
            Source::Follower(_) | Source::Damaged(_) => None,
        }
    }

    /// As [`PartitionState::log`]; `None` also while somebody else has it.
    pub(crate) fn try_log(&self) -> Option<LockedLog<'_>> {
        match &self.source {
            Source::Writer(log) => LockedLog::try_new(log, self),
            Source::Follower(_) | Source::Damaged(_) => None,
        }
    }

    /// Puts a batch into the log, or finds it there. Waits for the disk only where the producer is
    /// on it, or room for a producer must be made first.
    #[inline]
    pub(crate) fn write(
        &self,
        batch: &Batch<'_>,
        level: Ack,
        now: Now,
    ) -> (Result<Written, AppendError>, Follow) {
        let Some(mut log) = self.log() else {
            let error = match &self.source {
                Source::Damaged(corruption) => AppendError::Corrupted(corruption.clone()),
                _ => AppendError::ReadOnly,
            };
            return (Err(error), Follow::default());
        };
        if let Err(error) = self.check_open() {
            return (Err(error), Follow::default());
        }
        if let Some(refused) = self.backlogged(&log, batch) {
            return refused;
        }
        let appended = match log.append(batch, now) {
            Err(error @ (LogError::Evicted { .. } | LogError::NoRoom { .. })) => {
                match self.append_postponed(log, error, batch, now) {
                    Ok((again, appended)) => {
                        log = again;
                        appended
                    }
                    Err(error) => return (Err(error), Follow::default()),
                }
            }
            appended => appended,
        };
        let mut follow = Follow {
            feed: log.segments().is_segment_wanted(),
            ..Follow::default()
        };
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                drop(log);
                let error = self.refused(error);
                if matches!(error, AppendError::LogFenced(_)) {
                    // What was appended before the failure is in doubt, and its owners wait.
                    self.ends.set_state(State::Fenced);
                }
                return (Err(error), follow);
            }
        };
        follow.turn = log.segments().is_turn_due();
        follow.upkeep = log.segments().is_seal_due() | self.spilling.note(&log);
        drop(log);
        let written = Written {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            duplicate: appended.duplicate,
            timestamp: match appended.log_append_time {
                None if !self.config.log_append_time() => Some(batch.header().max_timestamp),
                time => time,
            },
        };
        if level == Ack::Synced {
            follow.sync |= self.ends.synced() <= written.last_offset;
        }
        if !appended.duplicate {
            self.note_unsynced(batch.bytes().len(), now, &mut follow);
        }
        if self.config.ack() != Ack::Synced {
            self.ends.wake();
        }
        (Ok(written), follow)
    }

    // Appends that outrun the seals of their log wait for one, as for a segment that is not prepared yet.
    #[inline]
    fn backlogged(
        &self,
        log: &PartitionLog,
        batch: &Batch<'_>,
    ) -> Option<(Result<Written, AppendError>, Follow)> {
        let segments = log.segments();
        let bytes = u64::try_from(batch.bytes().len()).unwrap_or(u64::MAX);
        let waits = segments.is_backlogged(bytes) && segments.latch().reason().is_none();
        waits.then(|| {
            let (topic, partition) = (self.topic.clone(), self.index);
            let follow = Follow {
                turn: segments.is_turn_due(),
                upkeep: segments.is_seal_due(),
                ..Follow::default()
            };
            (Err(AppendError::NotReady { topic, partition }), follow)
        })
    }

    /// Whether another try to append may be answered otherwise than the one before which `feeding.turns` was `seen`. A fenced log feeds
    /// and seals no more, and says so.
    pub(crate) fn has_turned(&self, seen: u64) -> bool {
        self.feeding.turns.load(Ordering::Acquire) != seen || self.ends.state() == State::Fenced
    }

    /// Tells whoever waits for a segment that there may be one, or why there is none: how many bytes it
    /// wanted, and what the disk said.
    pub(crate) fn fed(&self, failure: Option<(u64, Arc<io::Error>)>) {
        *self.feeding.failure.lock() = failure;
        self.feeding.turns.fetch_add(1, Ordering::AcqRel);
        self.ends.wake();
    }

    // At `interval` the committer is due when enough bytes are unsynced; the timer sees to the rest.
    fn note_unsynced(&self, bytes: usize, now: Now, follow: &mut Follow) {
        let is_first = |since: &AtomicU64| {
            let is_first = since.load(Ordering::Relaxed) == 0;
            if is_first {
                since.store(now.elapsed_ms.max(1), Ordering::Relaxed);
            }
            is_first
        };
        if self.config.ack() == Ack::Interval {
            follow.flush_later = is_first(&self.dirty_since_ms);
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            let before = self.unsynced_bytes.fetch_add(bytes, Ordering::Relaxed);
            follow.sync |= before + bytes >= self.config.flush_bytes();
        }
    }

    /// Whether groups have consumed anything that is still there.
    pub(crate) fn is_consumed(&self) -> bool {
        self.consumed_to.load(Ordering::Acquire) > self.reader.log_start_offset()
    }

    /// Has every later append be told that the engine is closed. Appends look at it under the lock,
    /// so none comes after this call.
    pub(crate) fn refuse_appends(&self) {
        let _locked = self.log();
        self.ends.begin_close();
    }

    pub(crate) fn check_open(&self) -> Result<(), AppendError> {
        match self.ends.state() {
            State::Open | State::Fenced if self.ends.is_closing() => Err(AppendError::Closed),
            State::Open | State::Fenced => Ok(()),
            State::Closed => Err(AppendError::Closed),
            State::Deleted => Err(AppendError::TopicDeleted {
                topic: self.topic.clone(),
            }),
        }
    }

    pub(crate) fn refused(&self, error: LogError) -> AppendError {
        use LogError as Log;
        let (topic, partition) = (self.topic.clone(), self.index);
        match error {
            Log::Batch(error) => AppendError::Invalid(error),
            Log::TooLarge { bytes, limit } => {
                let size = |n| u64::try_from(n).unwrap_or(u64::MAX);
                let (bytes, limit) = (size(bytes), size(limit));
                AppendError::TooLarge {
                    topic,
                    bytes,
                    limit,
                    setting: "max.message.bytes",
                }
            }
            Log::Rejected(rejection) => AppendError::Rejected {
                topic,
                partition,
                rejection,
            },
            Log::Write(WriteError::NoSegment { .. }) => AppendError::NotReady { topic, partition },
            Log::Write(WriteError::TooLarge { bytes, limit }) => AppendError::TooLarge {
                topic,
                bytes,
                limit,
                setting: "segment.bytes",
            },
            Log::Write(WriteError::NoSpace { bytes, source, .. }) => {
                self.no_space(bytes, Arc::new(source))
            }
            Log::Write(WriteError::Latched(latched)) => AppendError::LogFenced(latched),
            Log::Corrupted(corruption) => AppendError::Corrupted(corruption),
            // The log's other refusals are for replicas alone.
            other => AppendError::Io {
                topic,
                partition,
                source: Arc::new(io::Error::other(other)),
            },
        }
    }

    pub(crate) fn no_space(&self, needed: u64, source: Arc<io::Error>) -> AppendError {
        let (topic, partition) = (self.topic.clone(), self.index);
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        if !full {
            return AppendError::Io {
                topic,
                partition,
                source,
            };
        }
        let place = self.log().map(|log| log.segments().place().clone());
        let free = place.and_then(|p| p.disk.free_bytes().ok()).unwrap_or(0);
        AppendError::NoSpace {
            topic,
            partition,
            needed,
            free,
            source,
        }
    }

    /// Whether a batch is as durable as `level` promises; `None`: not yet.
    pub(crate) fn promised(
        &self,
        written: &Written,
        level: Ack,
    ) -> Option<Result<(), AppendError>> {
        let end = written.last_offset + 1;
        // Before the ends: what a close or a failure came after was reached all the same.
        let state = self.ends.state();
        let reached = match level {
            Ack::Synced => self.ends.synced() >= end,
            Ack::Interval | Ack::Memory => self.reader.high_watermark() >= end,
        };
        if reached {
            return Some(Ok(()));
        }
        let why = match state {
            State::Open => return None,
            State::Deleted => {
                return Some(Err(AppendError::TopicDeleted {
                    topic: self.topic.clone(),
                }));
            }
            State::Closed => Unknown::Closed,
            State::Fenced => {
                let log = self.log();
                match log.as_ref().and_then(|log| log.segments().latch().reason()) {
                    Some(latched) => Unknown::Fenced(latched.clone()),
                    None => Unknown::Closed,
                }
            }
        };
        Some(Err(self.unknown(written, why)))
    }

    pub(crate) fn unknown(&self, written: &Written, why: Unknown) -> AppendError {
        AppendError::OutcomeUnknown {
            topic: self.topic.clone(),
            partition: self.index,
            offset: Some(written.base_offset),
            why,
            id: None,
        }
    }
}
