//! The batches before a producer's newest one, kept apart from its line.
//!
//! Most producers have none (one batch, or none since the epoch rose), so room for them is taken
//! when needed. Room is handed out from chunks: growing moves nothing and asks for no large block.

use std::collections::VecDeque;

use crate::sequence::Sequence;

/// What is remembered of one batch. How many sequences it has follows from the batch after it:
/// the batches of a window are contiguous (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    pub(crate) base_offset: u64,
    pub(crate) first: Sequence,
    pub(crate) fingerprint: u32,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// Where the older batches of one producer are; its line holds this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    /// Meaningless while `len` is 0.
    index: u32,
    len: u32,
}

impl Handle {
    pub(crate) const NONE: Handle = Handle { index: 0, len: 0 };

    /// Older batches of the producer.
    pub(crate) fn len(self) -> u32 {
        self.len
    }
}

/// Older batches of a window of five.
const NARROW: usize = 4;

/// The older batches of all producers.
#[derive(Debug)]
pub(crate) struct OlderBatches {
    /// Older batches of one producer at most.
    limit: u32,
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// A window of five: one cache line, the oldest first.
    Narrow(Slab<[Entry; NARROW]>),
    /// Wider windows: rings that grow as they fill. `entries` is the room of all of them.
    Wide {
        rings: Slab<VecDeque<Entry>>,
        entries: usize,
    },
}

impl OlderBatches {
    /// For windows of `window` batches, the newest included.
    pub(crate) fn new(window: u32) -> OlderBatches {
        let limit = window - 1;
        let store = if index(limit) == NARROW {
            Store::Narrow(Slab::default())
        } else {
            Store::Wide {
                rings: Slab::default(),
                entries: 0,
            }
        };
        OlderBatches { limit, store }
    }

    /// The producer's older batch number `at`, 0 being the oldest.
    #[inline]
    pub(crate) fn get(&self, handle: Handle, at: u32) -> Entry {
        match &self.store {
            Store::Narrow(slab) => slab.get(handle.index)[index(at)],
            Store::Wide { rings, .. } => rings.get(handle.index)[index(at)],
        }
    }

    /// Adds a batch. The oldest ones leave when there are too many, or when this one, which ends
    /// before `next`, and `count` sequences after it would make the window span all sequences.
    #[inline]
    pub(crate) fn push(&mut self, handle: &mut Handle, entry: Entry, next: Sequence, count: u32) {
        let full = handle.len == self.limit;
        let oldest = match &mut self.store {
            Store::Narrow(slab) => {
                if handle.len == 0 {
                    handle.index = slab.take();
                }
                let entries = slab.get_mut(handle.index);
                if full {
                    entries.copy_within(1.., 0);
                    entries[NARROW - 1] = entry;
                } else {
                    entries[index(handle.len)] = entry;
                }
                entries[0]
            }
            Store::Wide { rings, entries } => {
                if handle.len == 0 {
                    handle.index = rings.take();
                }
                let ring = rings.get_mut(handle.index);
                if full {
                    ring.pop_front();
                }
                *entries -= ring.capacity();
                ring.push_back(entry);
                *entries += ring.capacity();
                ring[0]
            }
        };
        handle.len += u32::from(!full);
        if oldest.first.distance(next) + count >= Sequence::COUNT {
            self.shorten(handle, next, count);
        }
    }

    #[cold]
    fn shorten(&mut self, handle: &mut Handle, next: Sequence, count: u32) {
        while handle.len > 0 && self.get(*handle, 0).first.distance(next) + count >= Sequence::COUNT
        {
            self.pop_oldest(handle);
        }
    }

    /// Forgets the oldest batch, of which there must be one.
    fn pop_oldest(&mut self, handle: &mut Handle) {
        if handle.len == 1 {
            return self.clear(handle);
        }
        match &mut self.store {
            Store::Narrow(slab) => slab.get_mut(handle.index).rotate_left(1),
            Store::Wide { rings, .. } => {
                rings.get_mut(handle.index).pop_front();
            }
        }
        handle.len -= 1;
    }

    /// Forgets all, and gives the room back.
    pub(crate) fn clear(&mut self, handle: &mut Handle) {
        if handle.len > 0 {
            match &mut self.store {
                Store::Narrow(slab) => slab.give(handle.index),
                Store::Wide { rings, entries } => {
                    *entries -= rings.get(handle.index).capacity();
                    *rings.get_mut(handle.index) = VecDeque::new();
                    rings.give(handle.index);
                }
            }
        }
        *handle = Handle::NONE;
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.store {
            Store::Narrow(slab) => slab.memory_bytes(),
            Store::Wide { rings, entries } => rings.memory_bytes() + entries * size_of::<Entry>(),
        }
    }
}

/// Items in chunks, found by number, used again after they were given back.
#[derive(Debug, Default)]
struct Slab<T> {
    chunks: Vec<Box<[T]>>,
    /// Numbers below were handed out at least once.
    used: u32,
    free: Vec<u32>,
}

/// Items of a chunk.
const CHUNK: u32 = 32;

impl<T: Default> Slab<T> {
    /// An item's number. Its content is what the last user left.
    fn take(&mut self) -> u32 {
        if let Some(number) = self.free.pop() {
            return number;
        }
        if self.used.is_multiple_of(CHUNK) {
            self.chunks.push((0..CHUNK).map(|_| T::default()).collect());
        }
        let number = self.used;
        // 2^32 items would be 256 GiB.
        self.used += 1;
        number
    }

    fn give(&mut self, number: u32) {
        self.free.push(number);
        if self.free.len() == index(self.used) {
            *self = Slab {
                chunks: Vec::new(),
                used: 0,
                free: Vec::new(),
            };
        }
    }

    #[inline]
    fn get(&self, number: u32) -> &T {
        &self.chunks[index(number / CHUNK)][index(number % CHUNK)]
    }

    #[inline]
    fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[index(number / CHUNK)][index(number % CHUNK)]
    }

    fn memory_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Box<[T]>>()
            + self.chunks.len() * index(CHUNK) * size_of::<T>()
            + self.free.capacity() * size_of::<u32>()
    }
}

/// Memory is addressed with at least 32 bits wherever this is built.
fn index(number: u32) -> usize {
    const { assert!(usize::BITS >= 32) };
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(older: &mut OlderBatches, handle: &mut Handle, n: u32) {
        let first = Sequence::ZERO.advance(n);
        let entry = Entry {
            base_offset: u64::from(n),
            first,
            fingerprint: n,
        };
        older.push(handle, entry, first.advance(1), 1);
    }

    fn offsets(older: &OlderBatches, handle: Handle) -> Vec<u64> {
        (0..handle.len())
            .map(|at| older.get(handle, at).base_offset)
            .collect()
    }

    #[test]
    fn the_oldest_leaves_when_full() {
        for window in [5, 6, 100] {
            let mut older = OlderBatches::new(window);
            let mut handle = Handle::NONE;
            for n in 0..1000 {
                push(&mut older, &mut handle, n);
                let kept = (n + 1).min(window - 1);
                let expected: Vec<u64> = (n + 1 - kept..=n).map(u64::from).collect();
                assert_eq!(offsets(&older, handle), expected, "window {window}");
            }
        }
    }

    #[test]
    fn room_that_was_given_back_is_used_again() {
        for window in [5, 50] {
            let mut older = OlderBatches::new(window);
            let mut handles = vec![Handle::NONE; 100];
            for (n, handle) in (0..).zip(&mut handles) {
                push(&mut older, handle, n);
                push(&mut older, handle, n + 1000);
            }
            let full = older.memory_bytes();
            for handle in &mut handles[1..] {
                older.clear(handle);
            }
            for (n, handle) in (1..).zip(&mut handles[1..]) {
                push(&mut older, handle, n + 2000);
            }
            assert_eq!(offsets(&older, handles[0]), [0, 1000]);
            assert_eq!(offsets(&older, handles[99]), [2099]);
            // The list of what is free is all that came on top.
            assert!(older.memory_bytes() <= full + 128 * 4, "window {window}");
            for handle in &mut handles {
                older.clear(handle);
            }
            assert_eq!(older.memory_bytes(), 0, "window {window}");
        }
    }

    #[test]
    fn the_only_older_batch_leaves_when_both_would_span_all_sequences() {
        for window in [5, 6] {
            for (count, kept) in [((1 << 30) - 1, 1), (1 << 30, 0)] {
                let mut older = OlderBatches::new(window);
                let mut handle = Handle::NONE;
                let next = Sequence::ZERO.advance(1 << 30);
                older.push(&mut handle, Entry::default(), next, count);
                assert_eq!(handle.len(), kept, "window {window}, {count} sequences");
                assert_eq!(older.memory_bytes() == 0, kept == 0);
            }
        }
    }

    #[test]
    fn all_room_is_counted() {
        let mut slab = Slab::<[Entry; NARROW]>::default();
        for _ in 0..=CHUNK {
            slab.take();
        }
        for number in 0..5 {
            slab.give(number);
        }
        let lists = slab.chunks.capacity() * 16 + slab.free.capacity() * 4;
        assert!(slab.free.capacity() >= 5);
        assert_eq!(slab.memory_bytes(), lists + 2 * 32 * NARROW * 16);
    }
}
