//! The contents of one file: what programs see, what the device has, and what lies in between.

use std::collections::{BTreeMap, BTreeSet};

use super::page::{PAGE_BYTES, Pages, SECTOR_BYTES, Slot};

/// How a file's length changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resize {
    /// It grew because blocks were reserved; they read as zeros whatever becomes of stores.
    Reserved,
    /// It grew because something was written behind its end.
    Appended,
    /// It was cut.
    Cut,
}

/// A change of the length that is not durable yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizeChange {
    /// Its place among all changes of names and lengths.
    pub(super) order: u64,
    pub(super) to: u64,
    pub(super) how: Resize,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    pub(super) live: Pages,
    pub(super) len: u64,
    pub(super) durable: Pages,
    pub(super) durable_len: u64,
    /// Bytes for which blocks were reserved.
    pub(super) reserved: u64,
    /// Pages that the device has not, with the time of their last write.
    pub(super) dirty: BTreeMap<usize, u64>,
    /// Pages that a failed sync marked clean although the device has other bytes (F4).
    pub(super) lost: BTreeSet<usize>,
    /// Changes of the length that are not durable, in order.
    pub(super) sizes: Vec<SizeChange>,
    /// A sync has begun that covers the changes before this place in their order.
    covered_before: u64,
    /// What the device had before it got what it has.
    pub(super) previous: BTreeMap<usize, Slot>,
    /// Pages that cannot be read from the device.
    pub(super) unreadable: BTreeSet<usize>,
}

/// A sync that has begun: what was written before is covered.
pub(super) struct BegunSync {
    time: u64,
    sizes_before: u64,
    pages: Vec<(usize, Slot)>,
}

/// A page that a write changed, and in which sectors.
pub(super) type Changed = (usize, u8);

/// Where a range of a file lies: page, first byte in the page, first byte in the range, bytes.
pub(super) fn pieces(
    position: u64,
    len: usize,
) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let start = usize::try_from(position).unwrap_or(usize::MAX);
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = start.saturating_add(done);
        let in_page = at % PAGE_BYTES;
        let bytes = (PAGE_BYTES - in_page).min(len - done);
        let piece = (at / PAGE_BYTES, in_page, done, bytes);
        done += bytes;
        (bytes > 0).then_some(piece)
    })
}

impl Contents {
    /// Whether the device has exactly what programs see.
    pub(super) fn is_durable(&self) -> bool {
        self.dirty.is_empty() && self.lost.is_empty() && self.sizes.is_empty()
    }

    pub(super) fn grow(&mut self, to: u64, how: Resize, order: u64) {
        if to <= self.len {
            return;
        }
        // Where a cut is not durable, the device still has old bytes there.
        let first = usize::try_from(self.len / PAGE_BYTES as u64).unwrap_or(usize::MAX);
        let stale: Vec<usize> = self.durable.written_from(first).collect();
        let stale = stale
            .into_iter()
            .filter(|&page| self.live.get(page).is_none());
        self.dirty.extend(stale.map(|page| (page, order)));
        self.len = to;
        if how == Resize::Reserved {
            self.reserved = self.reserved.max(to);
        }
        match self.sizes.last_mut() {
            Some(last)
                if (last.how, how) == (Resize::Appended, Resize::Appended)
                    && last.order >= self.covered_before =>
            {
                last.to = to;
            }
            _ => self.sizes.push(SizeChange { order, to, how }),
        }
    }

    pub(super) fn cut(&mut self, to: u64, order: u64, time: u64) -> Option<Changed> {
        let len = usize::try_from(to).unwrap_or(usize::MAX);
        let changed = self.live.cut(len);
        let pages = len.div_ceil(PAGE_BYTES);
        self.dirty.retain(|page, _| *page < pages);
        self.lost.retain(|page| *page < pages);
        if to < self.len {
            self.len = to;
            self.reserved = self.reserved.min(to);
            let how = Resize::Cut;
            self.sizes.push(SizeChange { order, to, how });
        }
        changed.then(|| {
            let page = len / PAGE_BYTES;
            self.dirty.insert(page, time);
            (page, sectors(len % PAGE_BYTES, PAGE_BYTES))
        })
    }

    /// Writes inside of the file; says what changed.
    pub(super) fn write(&mut self, bytes: &[u8], position: u64, time: u64) -> Vec<Changed> {
        let mut changed = Vec::new();
        for (page, start, from, len) in pieces(position, bytes.len()) {
            if self.live.write(page, start, &bytes[from..from + len]) {
                self.dirty.insert(page, time);
                self.lost.remove(&page);
                self.unreadable.remove(&page);
                changed.push((page, sectors(start, start + len)));
            }
        }
        changed
    }

    pub(super) fn read(&self, position: u64, into: &mut [u8]) {
        for (page, start, from, len) in pieces(position, into.len()) {
            self.live.read(page, start, &mut into[from..from + len]);
        }
    }

    /// Whether a range cannot be read from the device, and is not in the cache either.
    pub(super) fn is_unreadable(&self, position: u64, len: usize) -> bool {
        !self.unreadable.is_empty()
            && pieces(position, len).any(|piece| self.unreadable.contains(&piece.0))
    }

    pub(super) fn begin_sync(&mut self, time: u64, sizes_before: u64) -> BegunSync {
        self.covered_before = sizes_before;
        let page = |page: &usize| (*page, self.live.get(*page).clone());
        BegunSync {
            time,
            sizes_before,
            pages: self.dirty.keys().map(page).collect(),
        }
    }

    /// Makes durable what a sync covers.
    pub(super) fn finish_sync(&mut self, begun: BegunSync) {
        self.commit_sizes(begun.sizes_before);
        let end = self.live_pages();
        for (page, slot) in begun.pages {
            if page < end {
                self.make_durable(page, slot);
            }
            self.clean(page, begun.time);
        }
    }

    /// Has the device forget what a sync covers, except pages that `survives` picks, and marks it
    /// clean, as Linux does (R6). The length is not lost.
    pub(super) fn fail_sync(&mut self, begun: BegunSync, mut survives: impl FnMut() -> bool) {
        for (page, slot) in begun.pages {
            let is_last = self
                .dirty
                .get(&page)
                .is_some_and(|&time| time <= begun.time);
            if survives() {
                self.make_durable(page, slot);
            } else if is_last {
                self.lost.insert(page);
            }
            self.clean(page, begun.time);
        }
    }

    fn clean(&mut self, page: usize, until: u64) {
        if self.dirty.get(&page).is_some_and(|&time| time <= until) {
            self.dirty.remove(&page);
        }
    }

    fn live_pages(&self) -> usize {
        usize::try_from(self.len.div_ceil(PAGE_BYTES as u64)).unwrap_or(usize::MAX)
    }

    pub(super) fn make_durable(&mut self, page: usize, slot: Slot) {
        let old = self.durable.set(page, slot);
        self.previous.insert(page, old);
    }

    /// Writes one dirty page back, as the system may at any time.
    pub(super) fn write_back(&mut self, page: usize) {
        let slot = self.live.get(page).clone();
        self.make_durable(page, slot);
        self.dirty.remove(&page);
    }

    /// Makes changes of the length durable, those before a place in the order of all.
    pub(super) fn commit_sizes(&mut self, before: u64) {
        let covered = self.sizes.partition_point(|change| change.order < before);
        for change in self.sizes.drain(..covered) {
            resize(&mut self.durable, &mut self.durable_len, change.to);
        }
    }

    /// Has the device know of another length.
    pub(super) fn resize_durable(&mut self, to: u64) {
        resize(&mut self.durable, &mut self.durable_len, to);
    }

    /// What the device has is all there is now; what is dirty stays in the cache.
    pub(super) fn drop_cache(&mut self) {
        for page in std::mem::take(&mut self.lost) {
            self.live.set(page, self.durable.get(page).clone());
        }
    }

    /// The device has `len` bytes and forgets the rest; nothing else is known of the file.
    pub(super) fn settle(&mut self, len: u64) {
        self.durable.cut(usize::try_from(len).unwrap_or(usize::MAX));
        self.durable_len = len;
        self.live = self.durable.clone();
        self.len = len;
        self.reserved = self.reserved.min(len);
        self.dirty.clear();
        self.lost.clear();
        self.sizes.clear();
    }
}

fn resize(pages: &mut Pages, len: &mut u64, to: u64) {
    if to < *len {
        pages.cut(usize::try_from(to).unwrap_or(usize::MAX));
    }
    *len = to;
}

/// The sectors of a page that hold any byte of a range.
pub(super) fn sectors(start: usize, end: usize) -> u8 {
    let (first, last) = (start / SECTOR_BYTES, end.div_ceil(SECTOR_BYTES));
    (first..last).fold(0, |mask, sector| mask | 1 << sector)
}
