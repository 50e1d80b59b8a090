//! The row of segments of one log: append, roll, sync, drop from the front.
//!
//! There is one writer at a time (the caller's lock). What takes time is cut out of it: a sync is
//! begun under the lock ([`SegmentedLog::begin_sync`]), done without it ([`SyncItem::sync`]) and
//! taken note of under it ([`SegmentedLog::synced`]); the next segment is prepared without it
//! ([`Wanted::prepare`]) and handed over under it ([`SegmentedLog::offer`]).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use record_batch::{BatchHeader, HEADER_BYTES};

use crate::disk::DiskFile;
use crate::error::WriteError;
use crate::index::{Index, IndexCursor};
use crate::latch::Latch;
use crate::marks::{LogStart, Marks, StableMark};
use crate::prepare::{Prepared, Wanted};
use crate::segment::{Place, Segment};
use crate::view::LogView;

/// A log's first segment, and the smallest: an idle log must not reserve much.
pub const SEGMENT_BYTES_MIN: u64 = 256 << 10;
/// The largest segment that positions in the index can name.
pub const SEGMENT_BYTES_LIMIT: u64 = 2 << 30;

/// How far ahead of use the offset ceiling is raised at least, in offsets.
const CEILING_STEP_MIN: u64 = 1_024;
const CEILING_STEP_MAX: u64 = 1 << 32;

/// When an append may be seen by readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Once it is durable (I28 at `synced`).
    Synced,
    /// Once it is written and below the offset ceiling (I9).
    Written,
}

/// How a log lays out its segments.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Capacity of the largest segment, in bytes: [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_LIMIT`],
    /// or less for tests.
    pub segment_bytes: u64,
    /// When appends become visible.
    pub visibility: Visibility,
}

/// The segment that takes appends.
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    index: Arc<Index>,
    cursor: IndexCursor,
    position: u64,
    capacity: u64,
}

/// A segment with unsynced bytes, and how far it was written.
#[derive(Clone)]
struct Dirty {
    segment: Arc<Segment>,
    end: Mark,
}

/// A place between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    position: u64,
    next_offset: u64,
}

/// One step of a commit: a segment to sync, up to where it was written when the commit began.
pub struct SyncItem(Dirty);

impl SyncItem {
    /// Syncs the segment and makes its name durable. Called without the log's lock.
    ///
    /// # Errors
    /// What the disk says. The log must be fenced then: [`SegmentedLog::latch`].
    pub fn sync(&self) -> io::Result<()> {
        self.0.segment.sync()
    }
}

/// The writer's side of one log.
pub struct SegmentedLog {
    place: Place,
    config: LogConfig,
    view: Arc<LogView>,
    marks: Arc<Marks>,
    latch: Latch,
    generation: i32,
    active: Option<Active>,
    prepared: Option<Prepared>,
    /// A prepared segment is being made somewhere.
    preparing: bool,
    /// Bytes of a batch that found no room; 0: nobody waits.
    needed_bytes: u64,
    prepared_count: u64,
    next_offset: u64,
    synced_offset: u64,
    ceiling: u64,
    ceiling_step: u64,
    ceiling_raised_ms: u64,
    dirty: VecDeque<Dirty>,
    unsealed: VecDeque<Arc<Segment>>,
    last_end: Mark,
    /// The last file was closed cleanly and may be taken up again.
    is_resting: bool,
    is_closed: bool,
}

/// What recovery found, of which a [`SegmentedLog`] is made.
pub(crate) struct Found {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) unsealed: VecDeque<Arc<Segment>>,
    pub(crate) end: (u64, u64),
    pub(crate) next_offset: u64,
    pub(crate) start: LogStart,
    pub(crate) ceiling: u64,
    pub(crate) prepared_count: u64,
}

impl SegmentedLog {
    pub(crate) fn new(
        place: Place,
        config: LogConfig,
        marks: Arc<Marks>,
        generation: i32,
        found: Found,
    ) -> SegmentedLog {
        let view = LogView::new(place.clone(), found.segments, found.start.offset);
        view.published.store(found.next_offset, Ordering::Release);
        SegmentedLog {
            place,
            config,
            view: Arc::new(view),
            marks,
            latch: Latch::default(),
            generation,
            active: None,
            prepared: None,
            preparing: false,
            needed_bytes: 0,
            prepared_count: found.prepared_count,
            next_offset: found.next_offset,
            synced_offset: found.next_offset,
            ceiling: found.ceiling,
            ceiling_step: CEILING_STEP_MIN,
            ceiling_raised_ms: 0,
            dirty: VecDeque::new(),
            is_closed: false,
            is_resting: !found.unsealed.is_empty(),
            unsealed: found.unsealed,
            last_end: Mark {
                position: found.end.0,
                next_offset: found.end.1,
            },
        }
    }

    /// Notes when the log was last appended to, in the engine's elapsed ms, for retention by age.
    pub fn note_append(&self, elapsed_ms: u64) {
        if let Some(active) = &self.active {
            active.segment.note_append(elapsed_ms);
        }
    }

    /// The readers' side.
    pub fn view(&self) -> &Arc<LogView> {
        &self.view
    }

    /// The log's durable numbers.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// The latch that a failed sync closes.
    pub fn latch(&self) -> &Latch {
        &self.latch
    }

    /// Where the log is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The generation that is stamped into each batch as leader epoch.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The offset that the next record gets (log end offset).
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// Everything below it is durable.
    pub fn synced_offset(&self) -> u64 {
        self.synced_offset
    }

    /// Appends a batch: `header` as it goes to disk, base offset [`SegmentedLog::next_offset`],
    /// and the records behind it.
    ///
    /// # Errors
    /// [`WriteError`]. Unless latched, the log is exactly as before.
    ///
    /// # Panics
    /// When the header's base offset is not the next one (I4).
    pub fn append(
        &mut self,
        header: &BatchHeader,
        header_bytes: &[u8; HEADER_BYTES],
        records: &[u8],
    ) -> Result<(), WriteError> {
        assert_eq!(
            u64::try_from(header.base_offset),
            Ok(self.next_offset),
            "I4: a batch is appended at the log's end"
        );
        self.latch.check()?;
        let bytes = size(header_bytes.len()) + size(records.len());
        if bytes > self.config.segment_bytes {
            return Err(WriteError::TooLarge {
                bytes,
                limit: self.config.segment_bytes,
            });
        }
        self.make_room(bytes)?;
        let Some(active) = &mut self.active else {
            return Err(WriteError::NoSegment { bytes });
        };
        let position = active.position;
        if let Err(source) = active.file.write_at(header_bytes, records, position) {
            return Err(self.write_failed(bytes, source));
        }
        let next_offset = u64::try_from(header.next_offset()).unwrap_or(0);
        assert!(
            next_offset > self.next_offset,
            "I4: a batch has at least one offset"
        );
        let relative = self.next_offset - active.segment.base_offset();
        active
            .cursor
            .note(&active.index, relative, position, header.max_timestamp);
        active.segment.note_timestamp(active.cursor.max_timestamp());
        active.position = position + bytes;
        active.file.publish(active.position);
        let end = Mark {
            position: active.position,
            next_offset,
        };
        match self.dirty.back_mut() {
            Some(dirty) if Arc::ptr_eq(&dirty.segment, &active.segment) => dirty.end = end,
            _ => self.dirty.push_back(Dirty {
                segment: active.segment.clone(),
                end,
            }),
        }
        self.last_end = end;
        self.next_offset = next_offset;
        if self.config.visibility == Visibility::Written {
            self.publish(next_offset.min(self.ceiling));
        }
        Ok(())
    }

    fn make_room(&mut self, bytes: u64) -> Result<(), WriteError> {
        let fits = |a: &Active| {
            a.position + bytes <= a.capacity
                && self.next_offset - a.segment.base_offset() < u64::from(u32::MAX) / 2
        };
        if !self.active.as_ref().is_some_and(fits) {
            match self.prepared.take() {
                Some(prepared) if prepared.room() >= bytes => self.roll_into(prepared),
                // Too small for this batch: it is dropped, and a larger one asked for.
                small => {
                    if let Some(prepared) = small {
                        prepared.discard();
                    }
                    self.needed_bytes = bytes;
                    return Err(WriteError::NoSegment { bytes });
                }
            }
        }
        Ok(())
    }

    fn write_failed(&mut self, bytes: u64, source: io::Error) -> WriteError {
        let log = self.place.display("");
        let full = source.kind() == io::ErrorKind::StorageFull
            || source.kind() == io::ErrorKind::QuotaExceeded
            || source.kind() == io::ErrorKind::FileTooLarge;
        let reserved = self.active.as_ref().is_some_and(|a| a.capacity != u64::MAX);
        if full && !reserved {
            // Half a batch may lie behind the end. The file is cut there and takes no more
            // writes; the next append asks for another one.
            self.roll();
            return WriteError::NoSpace { log, bytes, source };
        }
        self.latch.close(&log, "write", &source).into()
    }

    fn roll_into(&mut self, prepared: Prepared) {
        self.roll();
        let base_offset = match prepared.resumed() {
            Some(base_offset) => base_offset,
            None => self.next_offset,
        };
        let previous_end = match prepared.resumed() {
            Some(_) => self
                .view
                .segments
                .load()
                .last()
                .map_or(0, |s| s.previous_end()),
            None => self.last_end.next_offset,
        };
        let parts = prepared.into_parts();
        let segment = Arc::new(Segment::active(
            self.place.clone(),
            (base_offset, previous_end),
            parts.file.clone(),
            parts.name,
            (parts.index, parts.cursor.max_timestamp()),
        ));
        let mut segments = self.view.segments.load().as_ref().clone();
        if segments
            .last()
            .is_some_and(|s| s.base_offset() == base_offset)
        {
            segments.pop();
        }
        segments.push(segment.clone());
        self.view.segments.store(Arc::new(segments));
        let index = match segment.index() {
            Ok(index) => index,
            // It was given one a moment ago, so it reads nothing.
            Err(_) => Arc::new(Index::with_room_for(0)),
        };
        self.active = Some(Active {
            segment,
            file: parts.file,
            index,
            cursor: parts.cursor,
            position: parts.position,
            capacity: parts.capacity,
        });
        self.needed_bytes = 0;
    }

    /// Ends the active segment, so that the next append begins another. Without effect on an
    /// empty one. The next commit seals it.
    pub fn roll(&mut self) {
        self.is_resting = false;
        if let Some(active) = self.active.take_if(|a| a.position > 0) {
            self.unsealed.push_back(active.segment);
        }
    }

    /// Bytes in the active segment; 0 when there is none.
    pub fn active_bytes(&self) -> u64 {
        self.active.as_ref().map_or(0, |a| a.position)
    }

    /// What segment should be prepared now, ahead of need or because an append found none.
    /// `None` when nothing is due, or it is being prepared already.
    pub fn wanted(&mut self) -> Option<Wanted> {
        if !self.is_segment_wanted() || self.latch.reason().is_some() {
            return None;
        }
        self.preparing = true;
        self.prepared_count += 1;
        let segments = self.view.segments.load();
        let last = segments.last();
        let resume = match (&self.active, last) {
            // After a clean close the log goes on in its last file, unless that is half full.
            (None, Some(last)) if self.is_resting => {
                let fits = self.last_end.position + self.needed_bytes;
                (fits.saturating_mul(2) <= self.config.segment_bytes).then(|| last.clone())
            }
            _ => None,
        };
        let least = SEGMENT_BYTES_MIN.max(self.needed_bytes.saturating_mul(2));
        let doubled = self
            .last_end
            .position
            .max(self.active_capacity() / 2)
            .saturating_mul(2);
        let capacity = doubled.next_power_of_two().max(least.next_power_of_two());
        let capacity = capacity
            .min(self.config.segment_bytes)
            .max(self.needed_bytes);
        let prepare = match self.config.visibility {
            Visibility::Synced => crate::disk::Prepare::Zeros,
            Visibility::Written => crate::disk::Prepare::Touch,
        };
        Some(Wanted {
            place: self.place.clone(),
            marks: self.marks.clone(),
            number: self.prepared_count,
            capacity,
            resume,
            prepare,
        })
    }

    fn active_capacity(&self) -> u64 {
        self.active.as_ref().map_or(0, |a| {
            if a.capacity == u64::MAX {
                0
            } else {
                a.capacity
            }
        })
    }

    /// Whether [`SegmentedLog::wanted`] would ask for a segment. Cheap.
    pub fn is_segment_wanted(&self) -> bool {
        if self.prepared.is_some() || self.preparing {
            return false;
        }
        match &self.active {
            None => self.needed_bytes > 0,
            Some(active) => self.needed_bytes > 0 || active.position >= active.capacity / 2,
        }
    }

    /// Takes a prepared segment over.
    pub fn offer(&mut self, prepared: Prepared) {
        self.preparing = false;
        if self.is_closed {
            prepared.discard();
            return;
        }
        if let Some(resumed) = prepared.resumed() {
            // It takes appends at once: nothing but the end of the file can be next.
            self.unsealed.retain(|s| s.base_offset() != resumed);
            self.is_resting = false;
            self.roll_into(prepared);
        } else {
            self.prepared = Some(prepared);
            self.needed_bytes = 0;
        }
    }

    /// Takes note that preparing failed; the next append asks again.
    pub fn prepare_failed(&mut self) {
        self.preparing = false;
        self.needed_bytes = 0;
    }

    /// What has to be synced, oldest first; empty when everything is durable. Unless `all` is
    /// asked for, only what was rolled.
    pub fn begin_sync(&self, all: bool) -> Vec<SyncItem> {
        let is_active = |d: &Dirty| {
            self.active
                .as_ref()
                .is_some_and(|a| Arc::ptr_eq(&a.segment, &d.segment))
        };
        self.dirty
            .iter()
            .filter(|d| all || !is_active(d))
            .cloned()
            .map(SyncItem)
            .collect()
    }

    /// Whether the committer should take a turn although nobody waits for the disk: to seal what
    /// was rolled, or to raise the ceiling ahead of need.
    pub fn is_turn_due(&self) -> bool {
        let rolled = !self.unsealed.is_empty() && !self.is_resting;
        rolled || self.is_ceiling_due()
    }

    fn is_ceiling_due(&self) -> bool {
        self.config.visibility == Visibility::Written
            && self.next_offset + self.ceiling_step / 2 > self.ceiling
    }

    /// Whether there are unsynced bytes, or rolled segments to seal.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.unsealed.is_empty() && !self.is_resting
    }

    /// Takes note that an item was synced: its batches are durable.
    ///
    /// # Panics
    /// When items come in another order than they were begun in (I1).
    pub fn synced(&mut self, item: &SyncItem) {
        let SyncItem(Dirty { segment, end }) = item;
        let Some(front) = self.dirty.front() else {
            return;
        };
        assert!(
            Arc::ptr_eq(&front.segment, segment),
            "I1: segments are synced oldest first"
        );
        if front.end == *end {
            self.dirty.pop_front();
        }
        assert!(
            end.next_offset >= self.synced_offset,
            "I1: the synced end only rises"
        );
        self.synced_offset = end.next_offset;
        if self.config.visibility == Visibility::Synced {
            self.publish(end.next_offset);
        }
    }

    fn publish(&mut self, end: u64) {
        // There is one writer, so between the two nobody else raises it.
        if end > self.view.published.load(Ordering::Relaxed) {
            self.view.published.store(end, Ordering::Release);
        }
    }

    /// The stable mark that may be written after an item was synced; `None` while an earlier
    /// segment still waits for its footer (R15).
    pub fn mark_after(&self, item: &SyncItem) -> Option<StableMark> {
        let SyncItem(Dirty { segment, end }) = item;
        let earlier = self
            .unsealed
            .iter()
            .any(|s| s.base_offset() < segment.base_offset());
        (!earlier).then(|| self.mark(segment, *end, false))
    }

    /// The stable mark at the synced end, once everything before it is sealed; `None` where the
    /// synced end lies in a segment that was rolled since.
    pub fn mark_now(&self) -> Option<StableMark> {
        let active = self.active.as_ref()?;
        let all = self.unsealed.is_empty() && self.dirty.is_empty();
        all.then(|| self.mark(&active.segment, self.last_end, false))
    }

    fn mark(&self, segment: &Segment, end: Mark, clean: bool) -> StableMark {
        StableMark {
            log_id: self.place.log_id,
            segment_base: segment.base_offset(),
            position: end.position,
            next_offset: end.next_offset,
            previous_end: segment.previous_end(),
            generation: self.generation,
            clean,
        }
    }

    /// The oldest segment that was rolled and synced, and waits for its seal: cut it
    /// ([`Segment::cut`]), write its footer ([`Segment::write_footer`]), both without the lock,
    /// then call [`SegmentedLog::sealed`].
    pub fn to_seal(&self) -> Option<Arc<Segment>> {
        let oldest = self.unsealed.front()?;
        let dirty = self.dirty.iter().any(|d| Arc::ptr_eq(&d.segment, oldest));
        // The last file of a cleanly closed log stays open for more.
        (!dirty && !self.is_resting).then(|| oldest.clone())
    }

    /// Takes note that a segment was sealed.
    pub fn sealed(&mut self, segment: &Arc<Segment>) {
        self.unsealed.retain(|s| !Arc::ptr_eq(s, segment));
    }

    /// The offset ceiling in force (I9). Not used where only durable records are visible.
    pub fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// The ceiling to raise to, when half of the last step is used: write it
    /// ([`Marks::write_ceiling`]), sync, then call [`SegmentedLog::raise_ceiling`]. Steps double
    /// while raises come less than a second apart, and halve otherwise.
    pub fn ceiling_due(&mut self, now_ms: u64) -> Option<u64> {
        if !self.is_ceiling_due() {
            return None;
        }
        let soon = now_ms.saturating_sub(self.ceiling_raised_ms) < 1_000;
        self.ceiling_step = match soon && self.ceiling > 0 {
            true => self.ceiling_step.saturating_mul(2).min(CEILING_STEP_MAX),
            false => (self.ceiling_step / 2).max(CEILING_STEP_MIN),
        };
        self.ceiling_raised_ms = now_ms;
        Some(self.next_offset + self.ceiling_step)
    }

    /// Raises the ceiling, after [`Marks::write_ceiling`] and a sync, and publishes what waited.
    pub fn raise_ceiling(&mut self, ceiling: u64) {
        self.ceiling = self.ceiling.max(ceiling);
        if self.config.visibility == Visibility::Written {
            self.publish(self.next_offset.min(self.ceiling));
        }
    }

    /// Closes cleanly: everything must be synced and sealed. Cuts the last file, and says with
    /// a synced mark that nothing lies above it.
    ///
    /// # Errors
    /// What the disk says; the log is closed, but not cleanly, and recovers when opened.
    ///
    /// # Panics
    /// When there are unsynced bytes.
    pub fn close(&mut self) -> io::Result<()> {
        assert!(
            self.dirty.is_empty(),
            "I1: a log is closed when all of it is durable"
        );
        self.is_closed = true;
        if let Some(prepared) = self.prepared.take() {
            prepared.discard();
        }
        let segments = self.view.segments.load_full();
        let active = self.active.take().map(|a| a.segment);
        if let Some(segment) = &active {
            segment.cut()?;
        }
        let mark = match segments.last() {
            Some(last) => self.mark(last, self.last_end, true),
            None => StableMark {
                clean: true,
                generation: self.generation,
                ..self.empty_mark()
            },
        };
        // A jump to the ceiling that no batch followed yet must survive; else none is needed.
        let jump = if self.next_offset > mark.next_offset {
            self.next_offset
        } else {
            0
        };
        self.marks.write_ceiling(jump)?;
        self.marks.write_mark(&mark)?;
        self.marks.sync()
    }

    /// After recovery: everything that was found is durable.
    pub(crate) fn mark_recovered(&self) -> io::Result<()> {
        let mark = match self.view.segments.load().last() {
            Some(last) => self.mark(last, self.last_end, false),
            None => self.empty_mark(),
        };
        self.marks.write_mark(&mark)?;
        self.marks.sync()
    }

    fn empty_mark(&self) -> StableMark {
        StableMark {
            log_id: self.place.log_id,
            segment_base: 0,
            position: 0,
            next_offset: self.last_end.next_offset,
            previous_end: self.last_end.next_offset,
            generation: self.generation,
            clean: false,
        }
    }

    /// Moves the log's start up, durably, then removes the segments that lie wholly below it. The
    /// active segment stays. A start that is not above the present one changes nothing. All steps
    /// of [`SegmentedLog::begin_drop`] in one, for callers without a lock.
    ///
    /// # Errors
    /// What the disk says; the start may have moved durably, and files be left, which the next
    /// call or open removes.
    ///
    /// # Panics
    /// When `start` is above the published end (row 117: the caller refuses that).
    pub fn drop_front(&mut self, start: LogStart) -> io::Result<Vec<Arc<Segment>>> {
        let Some(dropping) = self.begin_drop(start) else {
            return Ok(Vec::new());
        };
        dropping.write()?;
        let gone = self.dropped(&dropping);
        dropping.remove(&gone)?;
        Ok(gone)
    }

    /// Begins to move the log's start up: [`FrontDrop::write`] without the lock, then
    /// [`SegmentedLog::dropped`] under it, then [`FrontDrop::remove`] without it. One at a time for
    /// each log. `None` when the start is not above the present one.
    ///
    /// # Panics
    /// When `start` is above the published end.
    pub fn begin_drop(&self, start: LogStart) -> Option<FrontDrop> {
        assert!(
            start.offset <= self.view.published(),
            "the start stays below the published end"
        );
        let (place, marks) = (self.place.clone(), self.marks.clone());
        (start.offset > self.view.start()).then_some(FrontDrop {
            place,
            marks,
            start,
        })
    }

    /// Takes what lies below the new start out of the readers' view, and says what it was.
    pub fn dropped(&mut self, dropping: &FrontDrop) -> Vec<Arc<Segment>> {
        let start = dropping.start.offset;
        self.view.start.store(start, Ordering::Release);
        let segments = self.view.segments.load_full();
        let keep = segments
            .partition_point(|s| s.base_offset() <= start)
            .max(1)
            - 1;
        let is_sealed = |s: &&Arc<Segment>| s.footer().is_some();
        let gone: Vec<_> = segments[..keep]
            .iter()
            .take_while(is_sealed)
            .cloned()
            .collect();
        self.view
            .segments
            .store(Arc::new(segments[gone.len()..].to_vec()));
        gone
    }
}

/// A move of a log's start, cut into steps so that no lock is held while the disk works.
pub struct FrontDrop {
    place: Place,
    marks: Arc<Marks>,
    start: LogStart,
}

impl FrontDrop {
    /// Makes the new start durable, before anything below it is removed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self) -> io::Result<()> {
        self.marks.write_start(&self.start)?;
        self.marks.sync()
    }

    /// Removes the files of segments that are out of view. What a failure leaves, the next open
    /// removes.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove(&self, gone: &[Arc<Segment>]) -> io::Result<()> {
        for segment in gone {
            segment.remove()?;
        }
        if !gone.is_empty() {
            self.place.disk.sync_names(&self.place.directory)?;
        }
        Ok(())
    }
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
