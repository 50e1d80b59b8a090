//! Which delivery may run now: one of each lane at a time, so many in all.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use super::policy::Order;

/// Where a record is.
pub(crate) type Place = (Arc<str>, u32, u64);

/// What waits for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LaneId {
    All,
    Key(u64),
    Alone(u64),
}

#[derive(Debug)]
struct Lane<T> {
    queue: VecDeque<(Place, T)>,
    is_running: bool,
    /// Records that come again, and others wait for them.
    waits_for: Vec<Place>,
}

impl<T> Lane<T> {
    fn is_ready(&self) -> bool {
        !self.is_running && self.front().is_some()
    }

    /// The first one, if none is awaited that goes before it: only later ones of its partition do not.
    fn front(&self) -> Option<&(Place, T)> {
        let is_later =
            |at: &Place, front: &Place| (&at.0, at.1) == (&front.0, front.1) && at.2 > front.2;
        let front = self.queue.front()?;
        let is_free = self.waits_for.iter().all(|at| is_later(at, &front.0));
        is_free.then_some(front)
    }

    /// Of one partition a lower offset goes first, also one that comes again late; one that was awaited goes before other partitions, too.
    fn insert(&mut self, place: Place, item: T, was_awaited: bool) {
        let is_same = |at: &Place| (&at.0, at.1) == (&place.0, place.1);
        let goes_before = |at: &Place| match is_same(at) {
            true => at.2 > place.2,
            false => was_awaited,
        };
        let at = self.queue.iter().position(|(at, _)| goes_before(at));
        let at = at.unwrap_or(self.queue.len());
        self.queue.insert(at, (place, item));
    }
}

/// Lanes of deliveries.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    order: Order,
    hasher: BuildHasherDefault<DefaultHasher>,
    lanes: HashMap<LaneId, Lane<T>>,
    ready: VecDeque<LaneId>,
    queued: usize,
    last: u64,
}

impl<T> Lanes<T> {
    pub(crate) fn new(order: Order) -> Lanes<T> {
        Lanes {
            order,
            hasher: BuildHasherDefault::<DefaultHasher>::default(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            queued: 0,
            last: 0,
        }
    }

    /// How many wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether a record must come again before others go on.
    pub(crate) fn is_waiting(&self) -> bool {
        self.lanes.values().any(|lane| !lane.waits_for.is_empty())
    }

    fn lane_of(&mut self, place: &Place, key: Option<&[u8]>) -> LaneId {
        match (self.order, key) {
            (Order::Total, _) => LaneId::All,
            (Order::ByKey, Some(key)) => {
                LaneId::Key(self.hasher.hash_one((&place.0, place.1, key)))
            }
            (Order::ByKey, None) | (Order::None, _) => {
                self.last += 1;
                LaneId::Alone(self.last)
            }
        }
    }

    /// Adds a delivery. One that its lane waits for goes first; one that waits already is replaced by its newer delivery.
    pub(crate) fn push(&mut self, place: Place, key: Option<&[u8]>, item: T) {
        let id = self.lane_of(&place, key);
        let lane = self.lanes.entry(id).or_insert_with(|| Lane {
            queue: VecDeque::new(),
            is_running: false,
            waits_for: Vec::new(),
        });
        if let Some((_, old)) = lane.queue.iter_mut().find(|(at, _)| *at == place) {
            *old = item;
            return;
        }
        self.queued += 1;
        let awaited = lane.waits_for.len();
        lane.waits_for.retain(|at| *at != place);
        lane.insert(place, item, lane.waits_for.len() < awaited);
        if lane.is_ready() && !self.ready.contains(&id) {
            self.ready.push_back(id);
        }
    }

    /// The next ones that may run together, at most `max`: of one partition, and those of one lane in their order. Their lanes are busy until
    /// [`finished`](Lanes::finished). One that does not `join` others runs alone.
    pub(crate) fn take(&mut self, max: usize, join: impl Fn(&T) -> bool) -> Vec<(LaneId, T)> {
        let mut taken: Vec<(LaneId, T)> = Vec::new();
        let mut of: Option<(Arc<str>, u32)> = None;
        let mut later = VecDeque::new();
        while taken.len() < max {
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.is_ready()) else {
                continue;
            };
            while taken.len() < max {
                let fits = |(topic, partition, _): &Place, item: &T| match &of {
                    None => true,
                    Some(of) => (&of.0, of.1) == (topic, *partition) && join(item),
                };
                if !lane.front().is_some_and(|(at, item)| fits(at, item)) {
                    break;
                }
                let Some(((topic, partition, _), item)) = lane.queue.pop_front() else {
                    break;
                };
                lane.is_running = true;
                self.queued -= 1;
                of = Some((topic, partition));
                let is_alone = !join(&item);
                taken.push((id, item));
                if is_alone {
                    return taken;
                }
            }
            if !lane.is_running {
                later.push_back(id);
            }
        }
        later.append(&mut self.ready);
        self.ready = later;
        taken
    }

    /// The lane's deliveries ended, and these records come again.
    pub(crate) fn finished(&mut self, id: LaneId, again: Vec<Place>) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        lane.is_running = false;
        if !matches!(id, LaneId::Alone(_)) {
            for place in again {
                // It may have come again already.
                let found = lane.queue.iter().position(|(at, _)| *at == place);
                match found.and_then(|at| lane.queue.remove(at)) {
                    Some((place, item)) => lane.insert(place, item, true),
                    None => lane.waits_for.push(place),
                }
            }
        }
        if lane.is_ready() {
            self.ready.push_back(id);
        } else if lane.queue.is_empty() && lane.waits_for.is_empty() {
            self.lanes.remove(&id);
        }
    }

    /// Drops what waits and is not to be kept, and waits for no record of a partition that is not.
    pub(crate) fn retain(
        &mut self,
        mut keep: impl FnMut(&Place, &T) -> bool,
        is_ours: impl Fn(&str, u32) -> bool,
    ) {
        let mut queued = 0;
        let mut freed = HashSet::new();
        for (id, lane) in &mut self.lanes {
            lane.queue.retain(|(place, item)| keep(place, item));
            queued += lane.queue.len();
            lane.waits_for.retain(|(topic, p, _)| is_ours(topic, *p));
            if lane.is_ready() && !self.ready.contains(id) {
                freed.insert(*id);
            }
        }
        self.queued = queued;
        self.ready.extend(freed);
        self.lanes.retain(|_, lane| {
            lane.is_running || !lane.waits_for.is_empty() || !lane.queue.is_empty()
        });
    }

    /// All that waits, taken out.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.queued = 0;
        self.ready.clear();
        let lanes = self.lanes.values_mut();
        let all = lanes.flat_map(|lane| lane.queue.drain(..).map(|(_, item)| item));
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        ("orders".into(), 0, offset)
    }

    fn all(lanes: &mut Lanes<u64>) -> Vec<u64> {
        std::iter::from_fn(|| one(lanes).map(|(_, item)| item)).collect()
    }

    fn one(lanes: &mut Lanes<u64>) -> Option<(LaneId, u64)> {
        lanes.take(1, |_| true).pop()
    }

    #[test]
    fn a_key_waits_for_its_record_that_comes_again_and_others_do_not() {
        let mut lanes = Lanes::new(Order::ByKey);
        for (offset, key) in [(0, b"k"), (1, b"k"), (2, b"l"), (3, b"k")] {
            lanes.push(place(offset), Some(key), offset);
        }
        let (lane, first) = one(&mut lanes).unwrap();
        assert_eq!((first, all(&mut lanes)), (0, vec![2]));
        lanes.finished(lane, vec![place(0)]);
        assert!(lanes.is_waiting());
        assert_eq!(all(&mut lanes), []);
        lanes.push(place(0), Some(b"k"), 100);
        let mut seen = Vec::new();
        while let Some((lane, item)) = one(&mut lanes) {
            seen.push(item);
            lanes.finished(lane, Vec::new());
        }
        assert_eq!(seen, [100, 1, 3]);
        assert_eq!(lanes.queued(), 0);
    }

    #[test]
    fn a_record_that_came_again_before_its_delivery_ended_is_not_waited_for() {
        let mut lanes = Lanes::new(Order::Total);
        lanes.push(place(0), None, 0);
        lanes.push(place(1), None, 1);
        let (lane, _) = one(&mut lanes).unwrap();
        lanes.push(place(0), None, 100);
        lanes.finished(lane, vec![place(0)]);
        assert!(!lanes.is_waiting());
        assert_eq!(one(&mut lanes).map(|(_, item)| item), Some(100));
    }

    #[test]
    fn a_partition_that_is_gone_is_not_waited_for() {
        let mut lanes = Lanes::new(Order::Total);
        lanes.push(place(0), None, 0);
        lanes.push(("other".into(), 0, 7), None, 7);
        let (lane, _) = one(&mut lanes).unwrap();
        lanes.finished(lane, vec![place(0)]);
        lanes.retain(|at, _| &*at.0 == "other", |topic, _| topic == "other");
        assert_eq!(one(&mut lanes).map(|(_, item)| item), Some(7));
    }

    #[test]
    fn without_order_nobody_waits() {
        let mut lanes = Lanes::new(Order::None);
        for offset in 0..3 {
            lanes.push(place(offset), Some(b"k"), offset);
        }
        assert_eq!(all(&mut lanes), [0, 1, 2]);
    }

    #[test]
    fn what_runs_together_is_of_one_partition_and_what_failed_before_runs_alone() {
        let mut lanes = Lanes::new(Order::ByKey);
        let records = [
            (0, 0, b"k"),
            (1, 1, b"l"),
            (0, 2, b"k"),
            (0, 3, b"m"),
            (0, 4, b"k"),
            (0, 5, b"n"),
        ];
        for (partition, offset, key) in records {
            let at = ("orders".into(), partition, offset);
            lanes.push(at, Some(key), offset);
        }
        let mut take = |max| {
            let taken = lanes.take(max, |offset| *offset != 4);
            let offsets: Vec<_> = taken.iter().map(|(_, item)| *item).collect();
            for (lane, _) in taken {
                lanes.finished(lane, Vec::new());
            }
            offsets
        };
        assert_eq!(take(3), [0, 2, 3]);
        assert_eq!(take(3), [1]);
        assert_eq!(take(3), [5]);
        assert_eq!(take(3), [4]);
        assert_eq!(take(3), []);
        assert_eq!(lanes.queued(), 0);
    }

    #[test]
    fn of_several_that_come_again_none_is_overtaken() {
        for order in [Order::ByKey, Order::Total] {
            let mut lanes = Lanes::new(order);
            for offset in 0..6 {
                lanes.push(place(offset), Some(b"k"), offset);
            }
            let taken = lanes.take(4, |_| true);
            lanes.finished(taken[0].0, vec![place(1), place(2), place(3)]);
            assert_eq!(all(&mut lanes), []);
            let mut seen = Vec::new();
            // One after another, the last first.
            for again in [3, 1, 2] {
                lanes.push(place(again), Some(b"k"), 100 + again);
                while let Some((lane, item)) = one(&mut lanes) {
                    seen.push(item);
                    lanes.finished(lane, Vec::new());
                }
            }
            assert_eq!(seen, [101, 102, 103, 4, 5], "{order:?}");
            assert!(!lanes.is_waiting());
        }
    }
}
