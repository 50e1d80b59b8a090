//! Where in a segment an offset or a timestamp is: sparse, in memory, rebuilt whenever in doubt.
//!
//! One entry about every 4 KiB of batches: offset and position where a batch begins, and the
//! largest timestamp of all batches *before* it in the segment, so that both columns only rise.
//! The file of it is a cache (I25): an entry is believed only after the batch at its position was
//! read and begins with the offset that the entry names.

use serde::{Deserialize, Serialize};
use sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// Bytes of batches between two entries, at least.
pub const INTERVAL_BYTES: u64 = 4096;

/// An entry: where a batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Offset of the batch, less the segment's base offset.
    pub relative_offset: u32,
    /// Bytes from the file's beginning.
    pub position: u32,
    /// Largest timestamp of the batches before it, ms since 1970; `i64::MIN` without any.
    pub timestamp_before: i64,
}

/// The index of one segment. One writer appends while readers search; they share no lock: an
/// entry is written before the count that covers it is (Release), and the count is read first
/// (Acquire).
#[derive(Debug)]
pub struct Index {
    // Offset in the high half, position in the low one.
    places: Box<[AtomicU64]>,
    timestamps: Box<[AtomicI64]>,
    len: AtomicUsize,
}

/// What the writer keeps beside the index to know when the next entry is due.
#[derive(Debug, Clone, Copy)]
pub struct IndexCursor {
    next_position: u64,
    max_timestamp: i64,
}

impl Default for IndexCursor {
    fn default() -> IndexCursor {
        // The segment's first batch needs no entry: a search without one begins at 0.
        IndexCursor {
            next_position: INTERVAL_BYTES,
            max_timestamp: i64::MIN,
        }
    }
}

impl IndexCursor {
    /// Goes on behind what an index holds.
    pub fn behind(index: &Index, max_timestamp: i64) -> IndexCursor {
        let last = index
            .len()
            .checked_sub(1)
            .map_or(0, |at| index.entry(at).position);
        IndexCursor {
            next_position: u64::from(last) + INTERVAL_BYTES,
            max_timestamp,
        }
    }

    /// Largest timestamp noted so far, `i64::MIN` without any.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Notes a batch that begins at `position`; adds an entry when one is due.
    pub fn note(&mut self, index: &Index, relative_offset: u64, position: u64, timestamp: i64) {
        if position >= self.next_position {
            index.push(relative_offset, position, self.max_timestamp);
            self.next_position = position + INTERVAL_BYTES;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }
}

impl Index {
    /// An empty index with room for a segment of `segment_bytes`.
    pub fn with_room_for(segment_bytes: u64) -> Index {
        let entries = usize::try_from(segment_bytes / INTERVAL_BYTES + 1).unwrap_or(0);
        Index {
            places: (0..entries).map(|_| AtomicU64::new(0)).collect(),
            timestamps: (0..entries).map(|_| AtomicI64::new(0)).collect(),
            len: AtomicUsize::new(0),
        }
    }

    /// An index with these entries and room for more, up to `segment_bytes`.
    pub fn with_entries(entries: &[IndexEntry], segment_bytes: u64) -> Index {
        let index = Index::with_room_for(segment_bytes);
        for e in entries {
            index.push(
                u64::from(e.relative_offset),
                u64::from(e.position),
                e.timestamp_before,
            );
        }
        index
    }

    // Only the segment's writer calls this. Without room (more entries than the segment's size can
    // ask for) or beyond 4 GiB, the entry is left out: a search walks a little further.
    fn push(&self, relative_offset: u64, position: u64, timestamp_before: i64) {
        let at = self.len.load(Ordering::Relaxed);
        let (Ok(offset), Ok(position)) = (u32::try_from(relative_offset), u32::try_from(position))
        else {
            return;
        };
        if let (Some(place), Some(timestamp)) = (self.places.get(at), self.timestamps.get(at)) {
            place.store(
                u64::from(offset) << 32 | u64::from(position),
                Ordering::Relaxed,
            );
            timestamp.store(timestamp_before, Ordering::Relaxed);
            self.len.store(at + 1, Ordering::Release);
        }
    }

    /// Entries so far.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entry(&self, at: usize) -> IndexEntry {
        let place = self.places[at].load(Ordering::Relaxed);
        IndexEntry {
            relative_offset: u32::try_from(place >> 32).unwrap_or(u32::MAX),
            position: u32::try_from(place & u64::from(u32::MAX)).unwrap_or(u32::MAX),
            timestamp_before: self.timestamps[at].load(Ordering::Relaxed),
        }
    }

    // The last entry for which `before` holds; it must hold for a prefix of the entries.
    fn last_where(&self, before: impl Fn(&IndexEntry) -> bool) -> Option<IndexEntry> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(&self.entry(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1).map(|at| self.entry(at))
    }

    /// The last entry at or below an offset; `None`: walk from the beginning.
    pub fn floor_offset(&self, relative_offset: u64) -> Option<IndexEntry> {
        self.last_where(|e| u64::from(e.relative_offset) <= relative_offset)
    }

    /// The last entry before which every timestamp is below `timestamp`.
    pub fn floor_timestamp(&self, timestamp: i64) -> Option<IndexEntry> {
        self.last_where(|e| e.timestamp_before < timestamp)
    }

    /// The first entry above an offset: where reading can go on behind damaged bytes.
    pub fn above_offset(&self, relative_offset: u64) -> Option<IndexEntry> {
        let below = |e: &IndexEntry| u64::from(e.relative_offset) <= relative_offset;
        let (len, mut at) = (self.len(), 0);
        while at < len && below(&self.entry(at)) {
            at += 1;
        }
        (at < len).then(|| self.entry(at))
    }

    /// All entries, for the file.
    pub fn entries(&self) -> Vec<IndexEntry> {
        (0..self.len()).map(|at| self.entry(at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Index {
        let index = Index::with_room_for(1 << 20);
        let mut cursor = IndexCursor::default();
        // Batches of 1,000 bytes with ten offsets each; timestamps go back now and then.
        for i in 0..100u64 {
            let timestamp = i64::try_from(i % 7).unwrap() + i64::try_from(i).unwrap();
            cursor.note(&index, i * 10, i * 1000, timestamp);
        }
        index
    }

    #[test]
    fn an_entry_about_every_interval() {
        let entries = filled().entries();
        assert_eq!(entries.len(), 19);
        assert_eq!(entries[0].position, 5000);
        assert!(
            entries
                .windows(2)
                .all(|w| w[1].position - w[0].position >= 4096)
        );
        assert!(
            entries
                .windows(2)
                .all(|w| w[1].timestamp_before >= w[0].timestamp_before)
        );
    }

    #[test]
    fn floors_are_the_last_entry_that_qualifies() {
        let index = filled();
        let entries = index.entries();
        for relative in 0..1000 {
            let naive = entries
                .iter()
                .rev()
                .find(|e| u64::from(e.relative_offset) <= relative);
            assert_eq!(
                index.floor_offset(relative),
                naive.copied(),
                "offset {relative}"
            );
        }
        for timestamp in -5..120 {
            let naive = entries
                .iter()
                .rev()
                .find(|e| e.timestamp_before < timestamp);
            assert_eq!(
                index.floor_timestamp(timestamp),
                naive.copied(),
                "timestamp {timestamp}"
            );
        }
        assert_eq!(index.above_offset(49).unwrap().relative_offset, 50);
        assert_eq!(index.above_offset(2000), None);
    }

    #[test]
    fn entries_come_back_from_the_file() {
        let entries = filled().entries();
        assert_eq!(Index::with_entries(&entries, 1 << 20).entries(), entries);
    }
}
