//! Finds a producer's line: open addressing, in 256 shards by hash.
//!
//! A shard grows by half, and so moves a few thousand lines when there are a million; one table
//! would hold up the partition for tens of milliseconds. Linear probing, and removal shifts back
//! what follows, so there are no tombstones.

use crate::producers::line::Line;

/// Shards of a table.
pub(crate) const SHARDS: usize = 256;

/// Where a line is, until lines move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    shard: u8,
    index: u32,
}

/// The lines of all producers of a partition.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Most partitions of a topic never see a producer, so this waits for the first.
    shards: Option<Box<[Shard; SHARDS]>>,
    len: usize,
    /// Lines there is room for.
    capacity: usize,
}

impl Lines {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let shards = self
            .shards
            .as_ref()
            .map_or(0, |shards| size_of_val(&**shards));
        shards + self.capacity * size_of::<Line>()
    }

    /// The producer's slot and line.
    #[inline]
    pub(crate) fn find(&self, producer_id: i64) -> Option<(Slot, &Line)> {
        let hash = hash(producer_id);
        let shard = &self.shards.as_ref()?[usize::from(shard_of(hash))];
        let index = shard.find(producer_id, hash)?;
        // 2^32 lines would be 256 GiB.
        let slot = Slot {
            shard: shard_of(hash),
            index: u32::try_from(index).ok()?,
        };
        Some((slot, &shard.lines[index]))
    }

    /// The line in that slot, if the producer is still there.
    #[inline]
    pub(crate) fn at(&mut self, slot: Slot, producer_id: i64) -> Option<&mut Line> {
        let shard = &mut self.shards.as_mut()?[usize::from(slot.shard)];
        let line = shard.lines.get_mut(usize::try_from(slot.index).ok()?)?;
        (line.producer_id == producer_id).then_some(line)
    }

    /// The producer's line; a new one without an epoch when there is none. The id must not be
    /// negative.
    pub(crate) fn find_or_insert(&mut self, producer_id: i64) -> &mut Line {
        let hash = hash(producer_id);
        let shards = self
            .shards
            .get_or_insert_with(|| Box::new(std::array::from_fn(|_| Shard::default())));
        let shard = &mut shards[usize::from(shard_of(hash))];
        let index = match shard.find(producer_id, hash) {
            Some(index) => index,
            None => {
                let before = shard.lines.len();
                let index = shard.insert(Line::new(producer_id, -1), hash);
                self.capacity += shard.lines.len() - before;
                self.len += 1;
                index
            }
        };
        &mut shard.lines[index]
    }

    pub(crate) fn remove(&mut self, producer_id: i64) -> Option<Line> {
        let hash = hash(producer_id);
        let shard = &mut self.shards.as_mut()?[usize::from(shard_of(hash))];
        let index = shard.find(producer_id, hash)?;
        let before = shard.lines.len();
        let removed = shard.remove(index);
        shard.shrink();
        self.capacity = self.capacity - before + shard.lines.len();
        self.len -= 1;
        Some(removed)
    }

    /// Takes the lines for which `gone` holds out of one shard, and returns them. Room that is
    /// not needed any longer is given back.
    pub(crate) fn drain(&mut self, shard: usize, gone: impl Fn(&Line) -> bool) -> Vec<Line> {
        let Some(shard) = self
            .shards
            .as_mut()
            .and_then(|shards| shards.get_mut(shard))
        else {
            return Vec::new();
        };
        let before = shard.lines.len();
        let drained = shard.drain(gone);
        self.capacity = self.capacity - before + shard.lines.len();
        self.len -= drained.len();
        drained
    }

    /// The lines of one shard.
    pub(crate) fn shard(&self, shard: usize) -> impl Iterator<Item = &Line> {
        let shards = self.shards.as_ref();
        let found = shards.and_then(|shards| shards.get(shard));
        found
            .into_iter()
            .flat_map(|shard| &shard.lines)
            .filter(|line| !line.is_free())
    }

    /// All lines, shard by shard. The order follows from the calls made so far.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Line> {
        let shards = self.shards.iter().flat_map(|shards| shards.iter());
        shards
            .flat_map(|shard| &shard.lines)
            .filter(|line| !line.is_free())
    }
}

#[derive(Debug, Default)]
struct Shard {
    lines: Box<[Line]>,
    len: usize,
}

impl Shard {
    const SMALLEST: usize = 4;

    fn with_capacity(capacity: usize) -> Shard {
        Shard {
            lines: vec![Line::EMPTY; capacity].into_boxed_slice(),
            len: 0,
        }
    }

    #[inline]
    fn find(&self, producer_id: i64, hash: u64) -> Option<usize> {
        if self.lines.is_empty() {
            return None;
        }
        let mut index = home(hash, self.lines.len());
        loop {
            let found = self.lines[index].producer_id;
            if found == producer_id {
                return Some(index);
            }
            if found == Line::FREE {
                return None;
            }
            index = self.after(index);
        }
    }

    fn insert(&mut self, line: Line, hash: u64) -> usize {
        // One in five stays free, which also ends every search.
        if (self.len + 1) * 5 > self.lines.len() * 4 {
            let larger = (self.lines.len() + self.lines.len() / 2).max(Shard::SMALLEST);
            self.rebuild(larger);
        }
        self.place(line, hash)
    }

    fn place(&mut self, line: Line, hash: u64) -> usize {
        let mut index = home(hash, self.lines.len());
        while !self.lines[index].is_free() {
            index = self.after(index);
        }
        self.lines[index] = line;
        self.len += 1;
        index
    }

    fn rebuild(&mut self, capacity: usize) {
        let old = std::mem::replace(self, Shard::with_capacity(capacity));
        for line in old.lines.iter().filter(|line| !line.is_free()) {
            self.place(*line, hash(line.producer_id));
        }
    }

    /// A line may lie anywhere from its home to the next free one. So whatever follows the hole
    /// and whose home is not after the hole moves into it.
    fn remove(&mut self, mut hole: usize) -> Line {
        let removed = self.lines[hole];
        let mut index = self.after(hole);
        while !self.lines[index].is_free() {
            let home = home(hash(self.lines[index].producer_id), self.lines.len());
            if self.steps(home, index) >= self.steps(hole, index) {
                self.lines[hole] = self.lines[index];
                hole = index;
            }
            index = self.after(index);
        }
        self.lines[hole] = Line::EMPTY;
        self.len -= 1;
        removed
    }

    /// Gives back room of which less than a quarter is used.
    fn shrink(&mut self) {
        if self.lines.len() > Shard::SMALLEST && self.len * 4 < self.lines.len() {
            self.rebuild((self.len + self.len / 2).max(Shard::SMALLEST));
        }
    }

    fn drain(&mut self, gone: impl Fn(&Line) -> bool) -> Vec<Line> {
        let occupied = self.lines.iter().filter(|line| !line.is_free());
        let drained: Vec<Line> = occupied.copied().filter(|line| gone(line)).collect();
        if !drained.is_empty() {
            for line in &mut self.lines {
                if !line.is_free() && gone(line) {
                    *line = Line::EMPTY;
                }
            }
            let left = self.len - drained.len();
            self.rebuild(if left == 0 {
                0
            } else {
                (left + left / 2).max(Shard::SMALLEST)
            });
        }
        drained
    }

    fn after(&self, index: usize) -> usize {
        if index + 1 == self.lines.len() {
            0
        } else {
            index + 1
        }
    }

    /// Steps from one index on to another, around the end.
    fn steps(&self, from: usize, to: usize) -> usize {
        if from <= to {
            to - from
        } else {
            to + self.lines.len() - from
        }
    }
}

/// Ids mostly rise one by one, which a multiplication by 2^64 / golden ratio spreads evenly; the
/// product's upper half is folded in for ids that differ in their high bits. No random part: the
/// same calls must lead to the same table.
#[inline]
pub(crate) fn hash(producer_id: i64) -> u64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let id = producer_id.cast_unsigned();
    let product = u128::from(id) * u128::from(GOLDEN);
    // Half of 128 bits, so it fits.
    let upper = u64::try_from(product >> 64).unwrap_or(0);
    id.wrapping_mul(GOLDEN) ^ upper
}

/// The highest eight bits.
#[inline]
fn shard_of(hash: u64) -> u8 {
    hash.to_be_bytes()[0]
}

/// Where among `capacity` lines a search begins: the 32 bits below the shard's, scaled.
#[inline]
fn home(hash: u64, capacity: usize) -> usize {
    let fraction = (hash << 8) >> 32;
    let scaled = fraction.wrapping_mul(u64::try_from(capacity).unwrap_or(u64::MAX)) >> 32;
    // Less than the capacity, so it fits.
    usize::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(lines: &Lines) -> Vec<i64> {
        let mut ids: Vec<i64> = lines.iter().map(|line| line.producer_id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn finds_what_is_there_after_any_order_of_removals() {
        // Multiples of 2^48 share most of their hash, so these probe far.
        for stride in [1, 1000, 1 << 48] {
            for step in [1_i64, 7, 501] {
                let mut lines = Lines::default();
                for n in 0..997 {
                    lines.find_or_insert(n * stride);
                }
                for n in 0..997 {
                    let removed = (n * step) % 997 * stride;
                    assert_eq!(lines.remove(removed).map(|l| l.producer_id), Some(removed));
                    assert!(lines.find(removed).is_none());
                    for later in n + 1..997 {
                        let kept = (later * step) % 997 * stride;
                        let found = lines.find(kept).map(|(_, line)| line.producer_id);
                        assert_eq!(found, Some(kept), "stride {stride} step {step} n {n}");
                    }
                }
                assert_eq!(lines.len(), 0);
            }
        }
    }

    #[test]
    fn draining_keeps_the_others_and_gives_room_back() {
        let mut lines = Lines::default();
        for id in 0..10_000 {
            lines.find_or_insert(id);
        }
        let full = lines.memory_bytes();
        let mut drained = 0;
        for shard in 0..SHARDS {
            drained += lines.drain(shard, |line| line.producer_id % 10 != 0).len();
        }
        assert_eq!((drained, lines.len()), (9_000, 1_000));
        assert_eq!(ids(&lines), (0..1_000).map(|n| n * 10).collect::<Vec<_>>());
        assert!((0..10_000).all(|id| lines.find(id).is_some() == (id % 10 == 0)));
        assert!(
            lines.memory_bytes() < full / 4,
            "{} of {full}",
            lines.memory_bytes()
        );
        for shard in 0..SHARDS {
            lines.drain(shard, |_| true);
        }
        assert_eq!((lines.len(), lines.capacity), (0, 0));
    }

    fn filled(capacity: usize, lines: i64) -> Shard {
        let mut shard = Shard::with_capacity(capacity);
        for id in 0..lines {
            shard.insert(Line::new(id, 0), hash(id));
        }
        shard
    }

    #[test]
    fn shard_grows_above_four_fifths_and_shrinks_below_a_quarter() {
        assert_eq!(filled(5, 4).lines.len(), 5);
        assert_eq!(filled(5, 5).lines.len(), 7);
        for (capacity, lines, expected) in [
            (16, 12, 16),
            (16, 4, 16),
            (16, 3, 4),
            (100, 24, 36),
            (4, 0, 4),
        ] {
            let mut shard = filled(capacity, lines);
            shard.shrink();
            assert_eq!(shard.lines.len(), expected, "{lines} of {capacity}");
            assert!((0..lines).all(|id| shard.find(id, hash(id)).is_some()));
        }
        for (left, expected) in [(10, 15), (1, 4), (0, 0)] {
            let mut shard = filled(100, 30);
            assert_eq!(
                shard.drain(|line| line.producer_id >= left).len(),
                30 - usize::try_from(left).unwrap()
            );
            assert_eq!(shard.lines.len(), expected, "{left} are left");
        }
        let mut lines = Lines::default();
        for id in 0..10_000 {
            lines.find_or_insert(id);
        }
        let full = lines.memory_bytes();
        for id in 100..10_000 {
            lines.remove(id);
        }
        let left = lines.memory_bytes();
        assert!(left < full / 4, "{left} of {full}");
    }

    #[test]
    fn ids_spread_over_shards_and_homes() {
        for stride in [1, 2, 1000, 1 << 20, 1 << 40] {
            let mut lines = Lines::default();
            for n in 0..50_000 {
                lines.find_or_insert(n * stride);
            }
            let mut probes = 0;
            for shard in lines.shards.as_ref().unwrap().iter() {
                assert!(
                    shard.len < 50_000 / 256 * 2,
                    "stride {stride}: {} lines",
                    shard.len
                );
                for (index, line) in shard.lines.iter().enumerate().filter(|(_, l)| !l.is_free()) {
                    let home = home(hash(line.producer_id), shard.lines.len());
                    probes += shard.steps(home, index) + 1;
                }
            }
            assert!(probes < 50_000 * 4, "stride {stride}: {probes} probes");
        }
    }
}
