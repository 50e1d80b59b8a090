//! [`PartitionLog`]: the one writer of a partition. Decide, write, apply.

use std::io;
use std::sync::Arc;

use record_batch::{Batch, BatchError, BatchHeader, SourcePosition, Stamp, stamped_header};
use segment_storage::{Corruption, LogStart, Place, Recovered, SegmentedLog, WriteError};
use sync::Mutex;

use crate::config::{Now, PartitionConfig};
use crate::deletion::Deletion;
use crate::error::{AppendError, OpenError};
use crate::producer::Admission;
use crate::producers::ProducerTable;
use crate::reader::PartitionReader;
use crate::recovery::{self, Rebuilt};
use crate::snapshot;
use crate::snapshotter::Snapshotter;
use crate::spill::{self, Spill, Spiller};

/// Where a batch is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offset of its last record.
    pub last_offset: u64,
    /// It was there before: a repeat, answered with the first answer (D2).
    pub duplicate: bool,
    /// The log's own time of this append, ms since 1970, where the log keeps that; `None` for a
    /// duplicate, whose time is in the log.
    pub log_append_time: Option<i64>,
}

/// What the opener knows and the partition cannot.
#[derive(Debug, Clone, Copy)]
pub struct OpenContext {
    /// The data directory's new generation, stamped into each batch as leader epoch.
    pub generation: i32,
    /// The time.
    pub now: Now,
    /// Every producer id that was handed out before this open is below it, and none that is handed
    /// out after it.
    pub producer_id_bound: i64,
}

/// What an open found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The files.
    pub files: Recovered,
    /// The producers.
    pub producers: Rebuilt,
    /// Data was deleted and no snapshot that covers it is whole: producers may be forgotten that
    /// should not be. Unknown ones are refused until that is acknowledged (I18).
    pub history_lost: bool,
}

/// One partition, for its writer. See [`PartitionReader`] for everybody else.
pub struct PartitionLog {
    segments: SegmentedLog,
    pub(crate) producers: ProducerTable,
    /// The producers that are not in that table, but on disk.
    pub(crate) spill: Spill,
    /// Until it is taken.
    pub(crate) spiller: Option<Spiller>,
    config: Arc<PartitionConfig>,
    corruption: Option<Corruption>,
    /// Everything below it is reflected in `producers` (Kafka's `mapEndOffset`).
    map_end_offset: u64,
    /// Below it the log never held anything.
    history_from: u64,
    is_history_lost: bool,
    /// Held while files of snapshots change.
    snapshots: Arc<Mutex<()>>,
}

impl PartitionLog {
    /// Opens the log in `place`: recovers the files, then the producers.
    ///
    /// # Errors
    /// [`OpenError`]. Damage below the stable mark is none: the log opens for reading, and
    /// [`PartitionLog::corruption`] says what is wrong (I24).
    pub fn open(
        place: Place,
        config: PartitionConfig,
        context: OpenContext,
    ) -> Result<(PartitionLog, Opened), OpenError> {
        let now_ms = context.now.elapsed_ms;
        let (mut segments, files) =
            SegmentedLog::open(place.clone(), config.log(), context.generation, now_ms)?;
        let view = segments.view().clone();
        let (end, tail) = (segments.next_offset(), segments.batches_end());
        let io = |source| segment_storage::OpenError::Io {
            file: place.display(""),
            source,
        };
        let mut start = segments
            .marks()
            .start()
            .map_err(segment_storage::OpenError::from)?;
        let mut corruption = files.corruption.clone();
        if corruption.is_none() {
            // Above the last batch they know more than the log (I20); at the beginning of the
            // log's history they are of a log that was given up whole.
            snapshot::remove_where(&place, |offset| {
                offset > tail || 0 < offset && offset <= start.history_from
            })
            .map_err(io)?;
        }
        let rebuilt = recovery::rebuild(&place, &view, &config, end, now_ms);
        let (mut producers, rebuilt) = match rebuilt {
            Ok(rebuilt) => rebuilt,
            Err(segment_storage::ReadError::Corrupt {
                file,
                position,
                reason,
            }) => {
                let reason = reason.to_string();
                let offset = view.start();
                corruption.get_or_insert(Corruption {
                    file,
                    position,
                    offset,
                    reason,
                });
                (ProducerTable::new(config.producers), Rebuilt::default())
            }
            Err(error) => return Err(error.into()),
        };
        let oldest = view.segments().first().map_or(tail, |s| s.previous_end());
        let deleted = oldest.min(view.start());
        let history_lost = deleted > start.history_from.max(rebuilt.snapshot.unwrap_or(0));
        let before = start;
        if history_lost {
            start.forgotten_below = start.forgotten_below.max(context.producer_id_bound - 1);
        }
        if files.lost.is_some() || history_lost {
            start.strict_below = start.strict_below.max(context.producer_id_bound);
        }
        if start != before && corruption.is_none() {
            segments.marks().write_start(&start).map_err(io)?;
            segments.marks().sync().map_err(io)?;
        }
        producers.raise_forgotten_below(start.forgotten_below);
        producers.set_strict_below(start.strict_below);
        if corruption.is_none() {
            let damaged = |offset| rebuilt.damaged.contains(&offset);
            snapshot::remove_where(&place, damaged).map_err(io)?;
            snapshot::prune(&place, view.start(), tail).map_err(io)?;
            spill::remove_stale(&place);
            // Not where a snapshot would hide that producers are forgotten, before whoever has to know has
            // noted it.
            if view.has_deleted() && !history_lost {
                // Left by a deletion. Without space for a snapshot of its producers it stays (I18).
                let newest = snapshot::list(&place).map_err(io)?.last().copied();
                let is_covered = newest == Some(tail);
                if is_covered || snapshot::write(&place, tail, &producers).is_ok() {
                    segments.drop_deleted().map_err(io)?;
                    snapshot::prune(&place, view.start(), tail).map_err(io)?;
                }
            }
        }
        let is_sound = corruption.is_none();
        let mut log = PartitionLog {
            segments,
            producers,
            spill: Spill::new(config.producers_max),
            spiller: None,
            config: Arc::new(config),
            corruption,
            map_end_offset: end,
            // What is lost is noted durably by now, so a snapshot hides nothing of it.
            history_from: if history_lost {
                deleted
            } else {
                start.history_from
            },
            is_history_lost: history_lost,
            snapshots: Arc::default(),
        };
        if is_sound {
            log = spill::settle(log, context.now);
        }
        Ok((
            log,
            Opened {
                files,
                producers: rebuilt,
                history_lost,
            },
        ))
    }

    /// Appends a batch from a producer, unless it is there already: answers a repeat with the
    /// first answer.
    ///
    /// # Errors
    /// [`AppendError`]. The log and what is known of its producers are then as before. The caller
    /// sees to [`AppendError::Evicted`] and [`AppendError::NoRoom`], and appends again.
    #[inline]
    pub fn append(&mut self, batch: &Batch<'_>, now: Now) -> Result<Appended, AppendError> {
        if let Some(corruption) = &self.corruption {
            return Err(corruption.clone().into());
        }
        self.segments.latch().check()?;
        self.check(batch)?;
        if !self.config.idempotence {
            let base_offset = self.write(batch, now)?;
            return Ok(self.fresh(base_offset, now));
        }
        let source = SourcePosition::of(batch)?;
        let fingerprint = record_batch::fingerprint(batch, self.config.log_append_time);
        let admission = self.producers.admit(batch.header(), fingerprint);
        if let Some(is_admitted) = spill::judged_unknown(&admission) {
            self.check_budget(batch.header().producer_id, is_admitted)?;
        }
        match admission? {
            Admission::Unchecked => {
                let base_offset = self.write(batch, now)?;
                Ok(self.fresh(base_offset, now))
            }
            Admission::Duplicate(original) => Ok(Appended {
                base_offset: original.base_offset,
                last_offset: original.base_offset + u64::from(original.count) - 1,
                duplicate: true,
                log_append_time: None,
            }),
            Admission::Fresh(fresh) => {
                let offset = self.write(batch, now)?;
                self.producers
                    .apply(fresh, batch.header(), fingerprint, offset, now.elapsed_ms);
                if let Some(position) = source {
                    let producer_id = batch.header().producer_id;
                    self.producers.sources_mut().apply(producer_id, position);
                }
                Ok(self.fresh(offset, now))
            }
        }
    }

    // Steps 3, 4, 6 and 7 of the order in which Kafka's broker validates; 5 is `Batch::parse`.
    #[inline]
    fn check(&self, batch: &Batch<'_>) -> Result<(), AppendError> {
        let sound = batch.check_from_producer();
        if let Err(error @ BatchError::BaseOffset { .. }) = sound {
            return Err(error.into());
        }
        let (bytes, limit) = (batch.bytes().len(), self.config.batch_bytes_max);
        if bytes > limit {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        sound?;
        let (bytes, limit) = (
            u64::try_from(bytes).unwrap_or(u64::MAX),
            self.config.segment_bytes,
        );
        if bytes > limit {
            return Err(WriteError::TooLarge { bytes, limit }.into());
        }
        Ok(())
    }

    // The answer for the batch that was written last.
    fn fresh(&self, base_offset: u64, now: Now) -> Appended {
        Appended {
            base_offset,
            last_offset: self.map_end_offset - 1,
            duplicate: false,
            log_append_time: self.config.log_append_time.then_some(now.wall_ms),
        }
    }

    // Returns the batch's base offset.
    #[inline]
    fn write(&mut self, batch: &Batch<'_>, now: Now) -> Result<u64, AppendError> {
        let base_offset = self.segments.next_offset();
        let log_append_time = self.config.log_append_time.then_some(now.wall_ms);
        let stamp = Stamp {
            base_offset: i64::try_from(base_offset).unwrap_or(i64::MAX),
            leader_epoch: self.segments.generation(),
            log_append_time,
        };
        let header_bytes = stamped_header(batch, stamp);
        let header = BatchHeader {
            base_offset: stamp.base_offset,
            max_timestamp: log_append_time.unwrap_or(batch.header().max_timestamp),
            ..*batch.header()
        };
        self.segments
            .append(&header, &header_bytes, batch.payload())?;
        self.segments.note_append(now.elapsed_ms.max(1));
        let next_offset = self.segments.next_offset();
        assert_eq!(
            self.map_end_offset, base_offset,
            "I20: the table reflects the whole log"
        );
        self.map_end_offset = next_offset;
        Ok(base_offset)
    }

    /// Appends a batch that another log, or a coordinator, has accepted already: as it is given,
    /// offsets included (Kafka's REPLICATION origin). Nothing is refused for its size or sequence.
    ///
    /// # Errors
    /// [`AppendError::NotAtEnd`], [`AppendError::Evicted`], or what the files say.
    pub fn append_replicated(&mut self, batch: &Batch<'_>, now: Now) -> Result<(), AppendError> {
        if let Some(corruption) = &self.corruption {
            return Err(corruption.clone().into());
        }
        let (expected, found) = (self.segments.next_offset(), batch.header().base_offset);
        if u64::try_from(found) != Ok(expected) {
            return Err(AppendError::NotAtEnd { expected, found });
        }
        self.check_in_memory(batch.header().producer_id)?;
        let generation = self.segments.generation();
        let stamp = Stamp {
            base_offset: found,
            leader_epoch: generation,
            log_append_time: None,
        };
        let header_bytes = stamped_header(batch, stamp);
        self.segments
            .append(batch.header(), &header_bytes, batch.payload())?;
        self.segments.note_append(now.elapsed_ms.max(1));
        let fingerprint = record_batch::fingerprint(batch, self.config.log_append_time);
        let control = recovery::marker_of(batch);
        let now_ms = now.elapsed_ms;
        self.producers
            .replay(batch.header(), fingerprint, control, expected, now_ms);
        if let Ok(Some(position)) = SourcePosition::of(batch) {
            let producer_id = batch.header().producer_id;
            self.producers.sources_mut().apply(producer_id, position);
        }
        self.map_end_offset = self.segments.next_offset();
        Ok(())
    }

    /// The files, for those who sync, prepare and seal them.
    pub fn segments(&self) -> &SegmentedLog {
        &self.segments
    }

    /// The files, for those who sync, prepare and seal them.
    pub fn segments_mut(&mut self) -> &mut SegmentedLog {
        &mut self.segments
    }

    /// Log end offset: what the next record gets.
    pub fn next_offset(&self) -> u64 {
        self.segments.next_offset()
    }

    /// Everything below it is reflected in the producer table; equals the log end offset.
    pub fn map_end_offset(&self) -> u64 {
        self.map_end_offset
    }

    /// What is known of the producers in memory, to be changed: kept, or fenced.
    pub fn producers_mut(&mut self) -> &mut ProducerTable {
        &mut self.producers
    }

    /// Whether producers may be forgotten that should not be (I18).
    pub fn is_history_lost(&self) -> bool {
        self.is_history_lost
    }

    /// What is known of the producers in memory.
    pub fn producers(&self) -> &ProducerTable {
        &self.producers
    }

    /// How the partition behaves.
    pub fn config(&self) -> &Arc<PartitionConfig> {
        &self.config
    }

    /// Damage below the stable mark, if the open or the replay found any.
    pub fn corruption(&self) -> Option<&Corruption> {
        self.corruption.as_ref()
    }

    /// A reader's handle.
    pub fn reader(&self) -> PartitionReader {
        PartitionReader::new(self.segments.view().clone())
    }

    /// Forgets producers in memory that have not appended for the configured time; returns how
    /// many. Those on disk are [`Spiller::expire`]'s.
    pub fn expire_producers(&mut self, now: Now) -> usize {
        self.producers
            .expire(now.elapsed_ms, self.config.producer_expiry_ms)
    }

    /// Drops a producer whose session was closed with nothing in doubt; see I18.
    pub fn retire_producer(&mut self, producer_id: i64) {
        if !self.producers.retire(producer_id) {
            self.spill.remove(producer_id);
        }
    }

    /// What a snapshot of the sealed part needs, to be written without the log's lock.
    pub fn snapshotter(&self) -> Snapshotter {
        Snapshotter {
            place: self.segments.place().clone(),
            reader: self.reader(),
            config: self.config.clone(),
            forgotten_below: self.producers.forgotten_below(),
            durable_end: self
                .segments
                .synced_offset()
                .min(self.segments.batches_end()),
            history_from: self.history_from,
            changing: self.snapshots.clone(),
        }
    }

    /// Writes the snapshot of a log that is closing: everything in it must be durable.
    ///
    /// # Errors
    /// What the disk says; the next open replays the log instead.
    pub fn snapshot(&self) -> io::Result<()> {
        if self.corruption.is_some() {
            return Ok(());
        }
        let place = self.segments.place();
        let end = self.segments.batches_end();
        assert!(
            end <= self.segments.synced_offset(),
            "R15: a snapshot follows the data"
        );
        if snapshot::list(place)?.last() == Some(&end) {
            return Ok(());
        }
        // Without those on disk it would know less than the log, and what is not written is replayed.
        let Ok(evicted) = self.spill.read_all() else {
            return Ok(());
        };
        snapshot::write_with(place, end, &self.producers, evicted)?;
        snapshot::prune(place, self.segments.view().start(), end)
    }

    /// Moves the log's start up to `start` and deletes what lies wholly below. Producers stay
    /// known, in memory and over a restart: a snapshot that covers what goes is written first
    /// (I18). All steps of [`PartitionLog::begin_delete`] in one.
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// # Panics
    /// When `start` lies above the high watermark (the caller answers 1 OFFSET_OUT_OF_RANGE).
    pub fn delete_before(&mut self, start: u64, now: Now) -> io::Result<()> {
        let Some(deletion) = self.begin_delete(start)? else {
            return Ok(());
        };
        deletion.write(now)?;
        loop {
            let gone = self.segments.dropped(&deletion.front);
            deletion.remove(&gone)?;
            if gone.is_empty() || !deletion.goes_on(now) {
                return Ok(());
            }
        }
    }

    /// Begins to move the log's start: [`Deletion::write`] without the lock, then
    /// [`SegmentedLog::dropped`] under it, then [`Deletion::remove`] without it; the last two again
    /// while [`Deletion::goes_on`]. One at a time. `None` when the start is there already, and
    /// nothing below it is left.
    ///
    /// # Errors
    /// When the marks cannot be read, or the log is damaged.
    ///
    /// # Panics
    /// When `start` lies above the high watermark.
    pub fn begin_delete(&self, start: u64) -> io::Result<Option<Deletion>> {
        if let Some(corruption) = &self.corruption {
            return Err(io::Error::other(corruption.clone()));
        }
        let before = self.segments.marks().start().map_err(io::Error::other)?;
        let front = self.segments.begin_drop(LogStart {
            offset: start,
            ..before
        });
        Ok(front.map(|front| Deletion {
            front,
            start: start.max(before.offset),
            snapshotter: self.snapshotter(),
        }))
    }
}
