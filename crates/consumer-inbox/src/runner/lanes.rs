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

/// What follows in a lane whose delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    Free,
    /// The record comes again, and the others wait for it.
    Wait(Place),
}

#[derive(Debug)]
struct Lane<T> {
    queue: VecDeque<(Place, T)>,
    is_running: bool,
    waits_for: Option<Place>,
}

impl<T> Lane<T> {
    fn is_ready(&self) -> bool {
        !self.is_running && self.waits_for.is_none() && !self.queue.is_empty()
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
        self.lanes.values().any(|lane| lane.waits_for.is_some())
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
            waits_for: None,
        });
        if let Some((_, old)) = lane.queue.iter_mut().find(|(at, _)| *at == place) {
            *old = item;
            return;
        }
        self.queued += 1;
        if lane.waits_for.as_ref() == Some(&place) {
            lane.waits_for = None;
            lane.queue.push_front((place, item));
        } else {
            // Of one partition and key, a lower offset goes first, also one that comes again late.
            let is_before = |at: &Place| at.0 == place.0 && at.1 == place.1 && at.2 > place.2;
            let at = lane.queue.iter().position(|(at, _)| is_before(at));
            let at = at.unwrap_or(lane.queue.len());
            lane.queue.insert(at, (place, item));
        }
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
                if !lane.queue.front().is_some_and(|(at, item)| fits(at, item)) {
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

    /// The lane's deliveries ended.
    pub(crate) fn finished(&mut self, id: LaneId, next: Next) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        lane.is_running = false;
        if let Next::Wait(place) = next
            && !matches!(id, LaneId::Alone(_))
        {
            // It may have come again already.
            let again = lane.queue.iter().position(|(at, _)| *at == place);
            match again.and_then(|at| lane.queue.remove(at)) {
                Some(found) => lane.queue.push_front(found),
                None => lane.waits_for = Some(place),
            }
        }
        if lane.is_ready() {
            self.ready.push_back(id);
        } else if lane.queue.is_empty() && lane.waits_for.is_none() {
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
            let lost = lane.waits_for.take_if(|(topic, p, _)| !is_ours(topic, *p));
            if lost.is_some() && lane.is_ready() {
                freed.insert(*id);
            }
        }
        self.queued = queued;
        self.ready.extend(freed);
        self.lanes.retain(|_, lane| {
            lane.is_running || lane.waits_for.is_some() || !lane.queue.is_empty()
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
        lanes.finished(lane, Next::Wait(place(0)));
        assert!(lanes.is_waiting());
        assert_eq!(all(&mut lanes), []);
        lanes.push(place(0), Some(b"k"), 100);
        let mut seen = Vec::new();
        while let Some((lane, item)) = one(&mut lanes) {
            seen.push(item);
            lanes.finished(lane, Next::Free);
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
        lanes.finished(lane, Next::Wait(place(0)));
        assert!(!lanes.is_waiting());
        assert_eq!(one(&mut lanes).map(|(_, item)| item), Some(100));
    }

    #[test]
    fn a_partition_that_is_gone_is_not_waited_for() {
        let mut lanes = Lanes::new(Order::Total);
        lanes.push(place(0), None, 0);
        lanes.push(("other".into(), 0, 7), None, 7);
        let (lane, _) = one(&mut lanes).unwrap();
        lanes.finished(lane, Next::Wait(place(0)));
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
                lanes.finished(lane, Next::Free);
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
}
