//! Giving up the front of a log.

use std::io;
use std::sync::Arc;

use sync::atomic::{AtomicU64, Ordering};

use super::SegmentedLog;
use crate::marks::{LogStart, Marks};
use crate::segment::{Place, Segment};

impl SegmentedLog {
    /// Moves the log's start up, durably, then removes the segments that lie wholly below it. The
    /// active segment stays. A start that is not above the present one changes nothing, but what an
    /// earlier move left is removed. All steps of [`SegmentedLog::begin_drop`] in one, for callers
    /// without a lock.
    ///
    /// # Errors
    /// What the disk says; the start may have moved durably, and files be left, which the next
    /// open removes.
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

    /// Removes what lies below the start already: what a crash, or a segment that was not sealed
    /// then, has left. The caller makes sure first that nothing else is needed of it.
    ///
    /// # Errors
    /// What the disk says; the next open removes what is left.
    pub fn drop_deleted(&mut self) -> io::Result<Vec<Arc<Segment>>> {
        let start = self.marks.start().map_err(io::Error::other)?;
        let mark = self.marks.synced_mark().map_err(io::Error::other)?;
        let dropping = FrontDrop {
            place: self.place.clone(),
            marks: self.marks.clone(),
            start,
            mark_base: AtomicU64::new(mark.segment_base),
            keep_above: AtomicU64::new(u64::MAX),
        };
        let gone = self.dropped(&dropping);
        dropping.remove(&gone)?;
        Ok(gone)
    }

    /// Begins to move the log's start up: [`FrontDrop::write`] without the lock, then
    /// [`SegmentedLog::dropped`] under it, then [`FrontDrop::remove`] without it. One at a time for
    /// each log. `None` when the start is not above the present one, and nothing below it is left.
    ///
    /// # Panics
    /// When `start` is above the published end.
    pub fn begin_drop(&self, start: LogStart) -> Option<FrontDrop> {
        assert!(
            start.offset <= self.view.published(),
            "the start stays below the published end"
        );
        let present = self.view.start();
        (start.offset > present || self.view.has_deleted()).then(|| FrontDrop {
            place: self.place.clone(),
            marks: self.marks.clone(),
            start: LogStart {
                offset: start.offset.max(present),
                ..start
            },
            mark_base: AtomicU64::new(0),
            keep_above: AtomicU64::new(u64::MAX),
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
        // The segment that the stable mark is in stays until the mark has moved on: a mark that names
        // a file that is gone would look like damage.
        let mark_base = dropping.mark_base.load(Ordering::Relaxed);
        let keep_above = dropping.keep_above.load(Ordering::Relaxed);
        let may_go = |s: &&Arc<Segment>| {
            let ended = s.footer().is_some_and(|f| f.next_offset <= keep_above);
            ended && s.base_offset() < mark_base
        };
        let gone: Vec<_> = segments[..keep]
            .iter()
            .take_while(may_go)
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
    /// Base offset of the segment that the durable stable mark is in.
    mark_base: AtomicU64,
    keep_above: AtomicU64,
}

impl FrontDrop {
    /// Has segments that end above `offset` stay for now, though they lie below the start.
    /// `u64::MAX`: none, as in the beginning.
    pub fn keep_above(&self, offset: u64) {
        self.keep_above.store(offset, Ordering::Relaxed);
    }

    /// Whether [`FrontDrop::keep_above`] holds something back.
    pub fn is_partial(&self) -> bool {
        self.keep_above.load(Ordering::Relaxed) < u64::MAX
    }

    /// Makes the new start durable, before anything below it is removed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self) -> io::Result<()> {
        self.marks.store_start(&self.start)?;
        // Not the newest: one that the committer wrote while the sync ran may be torn by a power
        // cut, and then the one before it counts.
        let mark = self.marks.synced_mark().map_err(io::Error::other)?;
        self.mark_base.store(mark.segment_base, Ordering::Relaxed);
        Ok(())
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
