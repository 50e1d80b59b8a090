//! Where each id's newest row is: 24 bytes an id.

use hashbrown::HashTable;

/// Tables. Each grows on its own, so that nobody waits for more than a 256th of the entries to move.
const SHARDS: usize = 256;

/// An id: 128 bits that stand for its key, and the offset of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    // Not a u128: that would be aligned to 16 bytes, and the entry take 32.
    high: u64,
    low: u64,
    offset: u64,
}

impl Entry {
    pub(super) fn new(digest: u128, offset: u64) -> Entry {
        let (high, low) = halves(digest);
        Entry { high, low, offset }
    }

    pub(super) fn digest(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }
}

fn halves(digest: u128) -> (u64, u64) {
    let bytes = digest.to_be_bytes();
    let half = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte))
    };
    (half(&bytes[..8]), half(&bytes[8..]))
}

fn hash(entry: &Entry) -> u64 {
    entry.low
}

/// All ids. Two keys of one digest are two entries: digests are not identity.
#[derive(Debug)]
pub(super) struct Index {
    shards: Vec<HashTable<Entry>>,
    len: usize,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            len: 0,
        }
    }
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }

    /// Makes room for so many, evenly spread.
    pub(super) fn reserve(&mut self, ids: usize) {
        for shard in &mut self.shards {
            shard.reserve(ids / SHARDS, hash);
        }
    }

    fn shard(digest: u128) -> usize {
        usize::from(digest.to_be_bytes()[0])
    }

    /// The offsets that a digest stands for: mostly none or one.
    pub(super) fn offsets(&self, digest: u128) -> impl Iterator<Item = u64> + '_ {
        let wanted = Entry::new(digest, 0);
        let same = move |e: &&Entry| (e.high, e.low) == (wanted.high, wanted.low);
        self.shards[Self::shard(digest)]
            .iter_hash(wanted.low)
            .filter(same)
            .map(Entry::offset)
    }

    /// Whether the row at an offset is an id's newest.
    pub(super) fn contains(&self, digest: u128, offset: u64) -> bool {
        let wanted = Entry::new(digest, offset);
        let shard = &self.shards[Self::shard(digest)];
        shard.find(wanted.low, |e| *e == wanted).is_some()
    }

    /// Notes a row, in place of the one that it replaces if that is there.
    pub(super) fn put(&mut self, digest: u128, replaces: Option<u64>, offset: u64) {
        let entry = Entry::new(digest, offset);
        let shard = &mut self.shards[Self::shard(digest)];
        if let Some(old) = replaces.map(|old| Entry::new(digest, old))
            && let Some(found) = shard.find_mut(old.low, |e| *e == old)
        {
            *found = entry;
            return;
        }
        shard.insert_unique(entry.low, entry, hash);
        self.len += 1;
    }

    /// Forgets the id whose newest row is at an offset. Whether there was one.
    pub(super) fn remove(&mut self, digest: u128, offset: u64) -> bool {
        let wanted = Entry::new(digest, offset);
        let shard = &mut self.shards[Self::shard(digest)];
        let Ok(found) = shard.find_entry(wanted.low, |e| *e == wanted) else {
            return false;
        };
        found.remove();
        self.len -= 1;
        true
    }

    /// Forgets all rows below an offset.
    pub(super) fn retain_from(&mut self, offset: u64) {
        for shard in &mut self.shards {
            shard.retain(|e| e.offset >= offset);
        }
        self.len = self.shards.iter().map(HashTable::len).sum();
    }

    /// How many tables there are.
    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What one table has.
    pub(super) fn entries(&self, shard: usize) -> impl Iterator<Item = &Entry> {
        self.shards[shard].iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_24_bytes_and_keeps_its_digest() {
        assert_eq!(size_of::<Entry>(), 24);
        let digest = 0x0123_4567_89ab_cdef_1122_3344_5566_7788;
        let entry = Entry::new(digest, 7);
        assert_eq!((entry.digest(), entry.offset()), (digest, 7));
    }

    #[test]
    fn two_keys_of_one_digest_are_two_entries() {
        let mut index = Index::default();
        index.put(5, None, 10);
        index.put(5, None, 11);
        index.put(5, Some(10), 12);
        let mut offsets: Vec<u64> = index.offsets(5).collect();
        offsets.sort_unstable();
        assert_eq!((offsets, index.len()), (vec![11, 12], 2));
        assert!(index.remove(5, 11) && !index.remove(5, 11) && !index.remove(5, 10));
        assert_eq!((index.contains(5, 12), index.len()), (true, 1));
        index.retain_from(13);
        assert_eq!(index.len(), 0);
    }
}
