//! Which producers are on disk, and where: 12 bytes each.

use crate::producers::hash;

/// Where a producer lies: in which of two files, and at which multiple of [`Location::STEP`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location(u32);

impl Location {
    /// Bytes that positions are multiples of.
    pub(crate) const STEP: u64 = 16;

    const SECOND: u32 = 1 << 31;

    /// `None` beyond 32 GiB.
    pub(crate) fn new(file: usize, position: u64) -> Option<Location> {
        let step = u32::try_from(position / Location::STEP).ok()?;
        let second = if file == 0 { 0 } else { Location::SECOND };
        (step < Location::SECOND).then_some(Location(step | second))
    }

    /// 0 or 1.
    pub(crate) fn file(self) -> usize {
        usize::from(self.0 >= Location::SECOND)
    }

    pub(crate) fn position(self) -> u64 {
        u64::from(self.0 % Location::SECOND) * Location::STEP
    }
}

/// An id, halved so that it needs no alignment to eight bytes, and where it is.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: (u32, u32),
    location: Location,
}

const _: () = assert!(size_of::<Entry>() == 12);

/// Sorted lists, in shards by hash: adding to one of a million entries moves a few kilobytes.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Most partitions never need it.
    shards: Option<Box<[Vec<Entry>]>>,
    len: usize,
    capacity: usize,
}

impl Index {
    /// Shards, to be looked at one at a time.
    pub(crate) const SHARDS: usize = 1024;

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let shards = self.shards.as_ref().map_or(0, |shards| shards.len());
        shards * size_of::<Vec<Entry>>() + self.capacity * size_of::<Entry>()
    }

    pub(crate) fn get(&self, producer_id: i64) -> Option<Location> {
        let shard = self.shards.as_ref()?.get(shard_of(producer_id))?;
        let at = find(shard, producer_id).ok()?;
        Some(shard[at].location)
    }

    /// Notes where a producer is; returns where it was.
    pub(crate) fn set(&mut self, producer_id: i64, location: Location) -> Option<Location> {
        let shards = self
            .shards
            .get_or_insert_with(|| vec![Vec::new(); Index::SHARDS].into_boxed_slice());
        let shard = &mut shards[shard_of(producer_id)];
        match find(shard, producer_id) {
            Ok(at) => Some(std::mem::replace(&mut shard[at].location, location)),
            Err(at) => {
                let before = shard.capacity();
                if shard.len() == before {
                    // Not twice as much: the room counts.
                    shard.reserve_exact((before / 8).max(4));
                    self.capacity += shard.capacity() - before;
                }
                let id = halves(producer_id);
                shard.insert(at, Entry { id, location });
                self.len += 1;
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, producer_id: i64) -> Option<Location> {
        let shard = self.shards.as_mut()?.get_mut(shard_of(producer_id))?;
        let at = find(shard, producer_id).ok()?;
        let removed = shard.remove(at).location;
        self.len -= 1;
        let before = shard.capacity();
        if shard.len() * 2 < before {
            shard.shrink_to(shard.len() + shard.len() / 8);
            self.capacity = self.capacity - before + shard.capacity();
        }
        Some(removed)
    }

    /// The producers of one shard.
    pub(crate) fn shard(&self, shard: usize) -> impl Iterator<Item = (i64, Location)> {
        let found = self.shards.as_ref().and_then(|shards| shards.get(shard));
        found
            .into_iter()
            .flatten()
            .map(|entry| (whole(entry.id), entry.location))
    }
}

fn find(shard: &[Entry], producer_id: i64) -> Result<usize, usize> {
    shard.binary_search_by_key(&halves(producer_id), |entry| entry.id)
}

fn halves(producer_id: i64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = producer_id.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

fn whole((high, low): (u32, u32)) -> i64 {
    (i64::from(high) << 32) | i64::from(low)
}

/// The highest ten bits.
fn shard_of(producer_id: i64) -> usize {
    usize::try_from(hash(producer_id) >> 54).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Location {
        Location::new(usize::from(n % 2 == 1), n * Location::STEP).unwrap()
    }

    #[test]
    fn a_location_is_a_file_and_a_position() {
        for file in [0, 1] {
            for position in [0, 16, (32 << 30) - 16] {
                let location = Location::new(file, position).unwrap();
                assert_eq!((location.file(), location.position()), (file, position));
            }
            assert_eq!(Location::new(file, 32 << 30), None);
        }
    }

    #[test]
    fn what_is_set_is_found_until_it_is_removed() {
        for stride in [1, 1 << 31, 1 << 40] {
            let mut index = Index::default();
            let ids: Vec<i64> = (0..5_000).map(|n| n * stride).collect();
            for (&id, n) in ids.iter().zip(0..) {
                assert_eq!(index.set(id, at(n)), None);
            }
            assert_eq!(index.set(ids[7], at(9_000)), Some(at(7)));
            assert_eq!(index.set(ids[7], at(7)), Some(at(9_000)));
            for (&id, n) in ids.iter().zip(0..) {
                assert_eq!(index.get(id), Some(at(n)), "stride {stride}");
                assert_eq!(index.get(id + 1).is_some(), stride == 1 && n + 1 < 5_000);
            }
            let mut listed: Vec<i64> = (0..Index::SHARDS)
                .flat_map(|s| index.shard(s).map(|(id, _)| id))
                .collect();
            listed.sort_unstable();
            assert_eq!(listed, ids);
            for &id in ids.iter().filter(|&&id| id / stride % 10 != 3) {
                assert!(index.remove(id).is_some());
                assert_eq!((index.remove(id), index.get(id)), (None, None));
            }
            assert_eq!(index.len(), 500);
            assert_eq!(index.get(ids[13]), Some(at(13)));
        }
    }

    #[test]
    fn an_entry_takes_twelve_bytes_and_an_eighth() {
        let mut index = Index::default();
        for id in 0..400_000 {
            index.set(id, at(1));
        }
        let fixed = Index::SHARDS * size_of::<Vec<Entry>>();
        let each = (index.memory_bytes() - fixed).div_ceil(400_000);
        assert!((12..=14).contains(&each), "{each} bytes");
        for id in 0..399_000 {
            index.remove(id);
        }
        assert!(
            index.memory_bytes() < fixed + 1_000 * 24 + Index::SHARDS * 24,
            "{} bytes stay",
            index.memory_bytes()
        );
    }

    #[test]
    fn room_that_is_left_goes_down_to_an_eighth_above_what_is_used() {
        // Of one shard, so that it is known when its room changes.
        let ids: Vec<i64> = (0..).filter(|&id| shard_of(id) == 3).take(64).collect();
        let mut index = Index::default();
        for &id in &ids {
            index.set(id, at(2));
        }
        let room = |index: &Index| {
            let shards = index.shards.as_ref().unwrap();
            let room: usize = shards.iter().map(Vec::capacity).sum();
            assert_eq!(index.capacity, room);
            let bytes = Index::SHARDS * size_of::<Vec<Entry>>() + room * size_of::<Entry>();
            assert_eq!(index.memory_bytes(), bytes);
            room
        };
        let mut before = room(&index);
        assert!((64..=72).contains(&before), "{before}");
        for (&id, left) in ids.iter().zip((0..64).rev()) {
            index.remove(id).unwrap();
            let expected = if left * 2 < before {
                left + left / 8
            } else {
                before
            };
            assert_eq!(room(&index), expected, "{left} are left");
            before = expected;
        }
    }
}
