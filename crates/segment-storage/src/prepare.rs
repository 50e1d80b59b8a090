//! Making the next segment ready, off the append path.

use std::io;
use std::sync::Arc;

use crate::disk::{DiskFile, Prepare};
use crate::index::{Index, IndexCursor};
use crate::latch::Latch;
use crate::marks::Marks;
use crate::names;
use crate::segment::{Place, Segment};

/// A segment that a log wants.
pub struct Wanted {
    pub(crate) place: Place,
    pub(crate) marks: Arc<Marks>,
    pub(crate) latch: Latch,
    pub(crate) number: u64,
    pub(crate) capacity: u64,
    pub(crate) resume: Option<Arc<Segment>>,
    pub(crate) prepare: Prepare,
}

/// A segment ready for its first append.
pub struct Prepared {
    place: Place,
    resumed: Option<u64>,
    parts: Parts,
}

pub(crate) struct Parts {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) name: Option<String>,
    pub(crate) index: Index,
    pub(crate) cursor: IndexCursor,
    pub(crate) position: u64,
    /// Where the log rolls at the latest.
    pub(crate) capacity: u64,
    /// Whether the disk could reserve it.
    pub(crate) is_reserved: bool,
}

impl Wanted {
    /// Bytes that will be reserved.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Reserves, fills and syncs the segment. Called without the log's lock; takes milliseconds.
    /// Also takes the clean flag off the log's mark, durably, since appends follow.
    ///
    /// # Errors
    /// What the disk says: a full disk shows here, and leaves nothing behind (I12). When the mark
    /// could not be made durable the log is fenced: a second try would prove nothing (I10).
    pub fn prepare(self) -> io::Result<Prepared> {
        if let Err(error) = self.begin_writing() {
            self.latch.close(&self.place.directory, "sync", &error);
            return Err(error);
        }
        match self.resume.clone() {
            Some(segment) => self.resume(&segment),
            None => self.create(),
        }
    }

    // Nothing may be appended under a mark that says that nothing was.
    fn begin_writing(&self) -> io::Result<()> {
        let mark = self.marks.mark().map_err(io::Error::other)?;
        if mark.clean {
            self.marks.store_mark(&crate::marks::StableMark {
                clean: false,
                ..mark
            })?;
        }
        Ok(())
    }

    fn create(self) -> io::Result<Prepared> {
        let name = names::prepared(self.number);
        let path = self.place.path(&name);
        let file = self.place.disk.create(&path, self.capacity)?;
        let is_reserved = file.len() >= self.capacity;
        let mut ready = file.prepare(0, self.prepare);
        if self.prepare == Prepare::Zeros {
            // Where each commit is durable, the first one then survives even if making its file's
            // final name durable fails. Elsewhere nothing depends on this name (R16), and a busy
            // log would wait for the disk.
            ready = ready.and_then(|()| self.place.disk.sync_names(&self.place.directory));
        }
        if let Err(error) = ready {
            let _ = self.place.disk.remove(&path);
            return Err(error);
        }
        let index = Index::with_room_for(self.capacity);
        let cursor = IndexCursor::default();
        let parts = Parts {
            file,
            name: Some(name),
            index,
            cursor,
            position: 0,
            capacity: self.capacity,
            is_reserved,
        };
        Ok(Prepared {
            place: self.place,
            resumed: None,
            parts,
        })
    }

    fn resume(self, segment: &Segment) -> io::Result<Prepared> {
        let position = segment.bytes()?;
        let index = segment.index().map_err(io::Error::other)?;
        let max_timestamp = segment.max_timestamp().map_err(io::Error::other)?;
        let file = self.place.disk.extend(&segment.path(), self.capacity)?;
        let is_reserved = file.len() >= self.capacity;
        file.publish(position);
        file.prepare(position, self.prepare)?;
        let parts = Parts {
            file,
            name: None,
            index: Index::with_entries(&index.entries(), self.capacity),
            cursor: IndexCursor::behind(&index, max_timestamp),
            position,
            capacity: self.capacity,
            is_reserved,
        };
        Ok(Prepared {
            place: self.place,
            resumed: Some(segment.base_offset()),
            parts,
        })
    }
}

impl Prepared {
    pub(crate) fn room(&self) -> u64 {
        self.parts.capacity.saturating_sub(self.parts.position)
    }

    pub(crate) fn resumed(&self) -> Option<u64> {
        self.resumed
    }

    pub(crate) fn into_parts(self) -> Parts {
        self.parts
    }

    /// Removes it again, unused. What stays behind after a failure is removed at the next open.
    pub(crate) fn discard(self) {
        if let Some(name) = &self.parts.name {
            let _ = self.place.disk.remove(&self.place.path(name));
        }
    }
}
