//! [`Deletion`]: a move of a partition's start.

use std::io;
use std::sync::Arc;

use segment_storage::{FrontDrop, Segment};

use crate::config::Now;
use crate::error::OpenError;
use crate::snapshot;
use crate::snapshotter::Snapshotter;

/// A move of a partition's start, cut into steps so that no lock is held while the disk works.
///
/// A snapshot remembers the producers of what goes (I18). A disk that is too full for it must not
/// keep anybody from deleting (I13): the start moves all the same, what an older snapshot covers
/// goes first, and the rest once there is space for a new one. What stays for want of space is not
/// seen by readers, and goes with a later deletion or the next open.
pub struct Deletion {
    /// The files' part of it.
    pub front: FrontDrop,
    pub(crate) start: u64,
    pub(crate) snapshotter: Snapshotter,
}

impl Deletion {
    /// Writes a snapshot that covers what will go, if there is none, then the new start.
    ///
    /// # Errors
    /// When the log cannot be read or the disk refuses other than for want of space; nothing has
    /// moved.
    pub fn write(&self, now: Now) -> io::Result<()> {
        match self.cover(now) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                let covered = self.snapshotter.covered_end().map_err(io::Error::other)?;
                self.front.keep_above(covered);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        self.front.write()
    }

    fn cover(&self, now: Now) -> Result<(), OpenError> {
        // What goes is sealed, and so durable: a snapshot of what may still be lost is not needed.
        let end = self.snapshotter.durable_end_below(self.start);
        let snapshots = self.snapshotter.snapshots()?;
        if snapshots.last().is_some_and(|&newest| newest >= end) {
            return Ok(());
        }
        match self.snapshotter.write_at(end, now) {
            Err(error) if is_full(&error) => {
                let segments = self.snapshotter.reader.view().segments();
                let ended = |s: &&Arc<Segment>| s.footer().is_some_and(|f| f.next_offset <= end);
                segments.iter().filter(ended).for_each(|s| s.remove_index());
                self.snapshotter.write_at(end, now)
            }
            done => done,
        }
    }

    /// Removes the files that are out of view, and snapshots that are not needed any more.
    ///
    /// # Errors
    /// What the disk says; the next open removes what is left.
    pub fn remove(&self, gone: &[Arc<Segment>]) -> io::Result<()> {
        self.front.remove(gone)?;
        let _one_at_a_time = self.snapshotter.changing.lock();
        // The log has gone on, and may have snapshots of what was appended since: none is above its end.
        snapshot::prune(&self.snapshotter.place, self.start, u64::MAX)
    }

    /// After something was removed on a disk that was too full: whether there is space now for what
    /// lets the rest go, which is written. Then take the rest out of view, and remove it.
    pub fn goes_on(&self, now: Now) -> bool {
        let goes_on = self.front.is_partial() && self.cover(now).is_ok();
        if goes_on {
            self.front.keep_above(u64::MAX);
        }
        goes_on
    }
}

fn is_full(error: &OpenError) -> bool {
    let OpenError::Storage(segment_storage::OpenError::Io { source, .. }) = error else {
        return false;
    };
    matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
