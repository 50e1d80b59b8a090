//! [`Deletion`]: a move of a partition's start.

use std::io;
use std::sync::Arc;

use segment_storage::{FrontDrop, Segment};

use crate::config::Now;
use crate::snapshot;
use crate::snapshotter::Snapshotter;

/// A move of a partition's start, cut into steps so that no lock is held while the disk works.
pub struct Deletion {
    /// The files' part of it.
    pub front: FrontDrop,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) snapshotter: Snapshotter,
}

impl Deletion {
    /// Writes a snapshot that covers what will go, if there is none, then the new start.
    ///
    /// # Errors
    /// When the log cannot be read or the disk refuses; nothing has moved.
    pub fn write(&self, now: Now) -> io::Result<()> {
        // What goes is sealed, and so durable: a snapshot of what may still be lost is not needed.
        let end = self.snapshotter.durable_end_below(self.start);
        let snapshots = snapshot::list(&self.snapshotter.place)?;
        if snapshots.last().is_none_or(|&newest| newest < end) {
            self.snapshotter
                .write_at(end, now)
                .map_err(io::Error::other)?;
        }
        self.front.write()
    }

    /// Removes the files that are out of view, and snapshots that are not needed any more.
    ///
    /// # Errors
    /// What the disk says; the next open removes what is left.
    pub fn remove(&self, gone: &[Arc<Segment>]) -> io::Result<()> {
        self.front.remove(gone)?;
        snapshot::prune(&self.snapshotter.place, self.start, self.end)
    }
}
