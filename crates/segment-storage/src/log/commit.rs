//! What a commit syncs, what it may mark as durable, and the clean close.

use std::io;
use std::sync::Arc;

use super::{SegmentedLog, UNSEALED_MAX, Visibility};
use crate::marks::StableMark;
use crate::segment::Segment;

/// A segment with unsynced bytes, and how far it was written.
#[derive(Clone)]
pub(super) struct Dirty {
    pub(super) segment: Arc<Segment>,
    pub(super) end: Mark,
}

/// A place between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) position: u64,
    pub(super) next_offset: u64,
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

impl SegmentedLog {
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

    /// Whether the committer should take a turn although nobody waits for the disk: to sync what
    /// was rolled, so that it can be sealed, or to raise the ceiling ahead of need.
    #[inline]
    pub fn is_turn_due(&self) -> bool {
        let rolled = !self.unsealed.is_empty() && !self.is_resting;
        rolled && self.is_rolled_dirty() || self.is_ceiling_due()
    }

    // Segments are synced oldest first, so the newest says it.
    fn is_rolled_dirty(&self) -> bool {
        let newest = self.unsealed.back();
        newest.is_some_and(|segment| self.is_segment_dirty(segment))
    }

    fn is_segment_dirty(&self, segment: &Arc<Segment>) -> bool {
        self.dirty.iter().any(|d| Arc::ptr_eq(&d.segment, segment))
    }

    /// Whether a batch of so many bytes would begin another segment although so many wait for their
    /// seal already that its append had better wait for one of them.
    #[inline]
    pub fn is_backlogged(&self, bytes: u64) -> bool {
        self.unsealed.len() >= UNSEALED_MAX && !self.has_room(bytes)
    }

    /// Whether there is something for [`SegmentedLog::to_seal`].
    #[inline]
    pub fn is_seal_due(&self) -> bool {
        !self.unsealed.is_empty() && self.to_seal().is_some()
    }

    fn is_ceiling_due(&self) -> bool {
        self.config.visibility == Visibility::Written && self.ceiling.is_due(self.next_offset)
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
        self.synced_end = Some(item.0.clone());
        if self.config.visibility == Visibility::Synced {
            self.publish(end.next_offset);
        }
    }

    /// The stable mark that may be written after an item was synced; `None` while an earlier
    /// segment still waits for its footer (R15).
    pub fn mark_after(&self, item: &SyncItem) -> Option<StableMark> {
        self.mark_at(&item.0)
    }

    fn mark_at(&self, Dirty { segment, end }: &Dirty) -> Option<StableMark> {
        let earlier = self
            .unsealed
            .iter()
            .any(|s| s.base_offset() < segment.base_offset());
        (!earlier).then(|| self.mark(segment, *end, false))
    }

    /// The stable mark at the synced end, once everything before it is sealed; `None` where nothing
    /// was synced since the open.
    pub fn mark_now(&self) -> Option<StableMark> {
        self.mark_at(self.synced_end.as_ref()?)
    }

    fn mark(&self, segment: &Segment, end: Mark, clean: bool) -> StableMark {
        StableMark {
            log_id: self.place.log_id,
            segment_base: segment.base_offset(),
            position: end.position,
            next_offset: end.next_offset,
            previous_end: segment.previous_end(),
            jump_to: 0,
            generation: self.generation,
            clean,
            last_append_ms: segment.last_append_ms(),
        }
    }

    /// The oldest segment that was rolled and synced, and waits for its seal: cut it
    /// ([`Segment::cut`]), write its footer ([`Segment::write_footer`]), both without the lock,
    /// then call [`SegmentedLog::sealed`].
    pub fn to_seal(&self) -> Option<Arc<Segment>> {
        let oldest = self.unsealed.front()?;
        let dirty = self.is_segment_dirty(oldest);
        // The last file of a cleanly closed log stays open for more.
        (!dirty && !self.is_resting).then(|| oldest.clone())
    }

    /// All segments that were rolled and synced and are not sealed yet, oldest first: their reserved
    /// tails may be the space that a seal needs.
    pub fn unsealed(&self) -> Vec<Arc<Segment>> {
        let rolled = self.unsealed.iter().filter(|_| !self.is_resting);
        rolled
            .filter(|s| !self.is_segment_dirty(s))
            .cloned()
            .collect()
    }

    /// Takes note that a segment was sealed.
    pub fn sealed(&mut self, segment: &Arc<Segment>) {
        self.unsealed.retain(|s| !Arc::ptr_eq(s, segment));
    }

    /// The offset ceiling in force (I9). Not used where only durable records are visible.
    pub fn ceiling(&self) -> u64 {
        self.ceiling.offset()
    }

    /// The ceiling to raise to, when half of the last step is used: write it
    /// ([`crate::Marks::store_ceiling`]), then call [`SegmentedLog::raise_ceiling`]. Steps grow
    /// while raises come less than a second apart, and halve otherwise.
    pub fn ceiling_due(&mut self, now_ms: u64) -> Option<u64> {
        self.is_ceiling_due()
            .then(|| self.ceiling.ask(self.next_offset, now_ms))
    }

    /// Raises the ceiling, after [`crate::Marks::store_ceiling`], and publishes what waited.
    pub fn raise_ceiling(&mut self, ceiling: u64) {
        let shown = self.ceiling.raise(ceiling, self.next_offset);
        if self.config.visibility == Visibility::Written {
            self.publish(shown);
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
        self.discard_unwritten();
        // Those still without a footer, for want of space, must not keep their reserved tails.
        for segment in self.unsealed.iter().filter(|_| !self.is_resting) {
            segment.cut()?;
        }
        if let Some(active) = self.active.take() {
            active.segment.cut()?;
        }
        for segment in self.view.segments.load().iter() {
            segment.store_rebuilt_index();
        }
        let mark = self.mark_at_end(true);
        // A jump to the ceiling that no batch followed yet must survive; else none is needed.
        self.marks.write_ceiling(mark.jump_to)?;
        self.marks.write_mark(&mark)?;
        self.marks.sync()
    }

    // A segment whose first write was refused holds nothing, and no mark may name it.
    fn discard_unwritten(&mut self) {
        if let Some(active) = self.active.take_if(|a| a.position == 0) {
            let mut segments = self.view.segments.load().as_ref().clone();
            segments.retain(|s| !Arc::ptr_eq(s, &active.segment));
            self.view.segments.store(Arc::new(segments));
            // What stays behind is removed at the next open.
            let _ = active.segment.remove();
        }
    }

    /// After recovery: everything that was found is durable.
    pub(crate) fn mark_recovered(&self) -> io::Result<()> {
        self.marks.write_mark(&self.mark_at_end(false))?;
        self.marks.sync()
    }

    // The mark behind the last batch. Says where the next segment begins, if not there.
    fn mark_at_end(&self, clean: bool) -> StableMark {
        let end = self.last_end;
        let jump_to = (self.next_offset > end.next_offset).then_some(self.next_offset);
        let mark = match self.view.segments.load().last() {
            Some(last) => self.mark(last, end, clean),
            None => StableMark {
                log_id: self.place.log_id,
                segment_base: 0,
                position: 0,
                next_offset: end.next_offset,
                previous_end: end.next_offset,
                jump_to: 0,
                generation: self.generation,
                clean,
                last_append_ms: 0,
            },
        };
        StableMark {
            jump_to: jump_to.unwrap_or(0),
            ..mark
        }
    }
}
