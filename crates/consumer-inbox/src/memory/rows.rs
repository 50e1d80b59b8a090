//! The rows of all scopes, in order of origin time, and the floors.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use crate::dedup_store::Horizon;
use crate::id_row::IdRow;
use crate::identity::{BizId, DedupKey, Scope};

/// Rows looked at in one piece of a sweep, for which claims wait: well below a millisecond.
const SWEEP_PIECE: usize = 1_024;

/// Where a row is in its scope's order.
pub(super) type Place = (Option<u64>, BizId);

#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: HashMap<DedupKey, IdRow>,
    by_origin: HashMap<Scope, BTreeSet<Place>>,
    floors: HashMap<Scope, u64>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, key: &DedupKey) -> Option<&IdRow> {
        self.rows.get(key)
    }

    pub(super) fn floor(&self, scope: &Scope) -> Option<u64> {
        self.floors.get(scope).copied()
    }

    pub(super) fn put(&mut self, key: &DedupKey, row: IdRow) {
        let origin_ms = row.origin.ms;
        let old = self.rows.insert(key.clone(), row);
        if old.as_ref().is_some_and(|old| old.origin.ms == origin_ms) {
            return;
        }
        let order = self.by_origin.entry(key.scope.clone()).or_default();
        if let Some(old) = old {
            order.remove(&(old.origin.ms, key.id.clone()));
        }
        order.insert((origin_ms, key.id.clone()));
    }

    /// One piece of a sweep, at most `max` rows, behind `from`: how many went, and where it stopped, or none
    /// at the end.
    pub(super) fn sweep_piece(
        &mut self,
        below: &Horizon,
        now_ms: u64,
        max: usize,
        from: Option<Place>,
    ) -> (usize, Option<Place>) {
        let Some(order) = self.by_origin.get_mut(&below.scope) else {
            return (0, None);
        };
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        let piece = order.range((start, Bound::Unbounded)).take(SWEEP_PIECE);
        let piece: Vec<Place> = piece.cloned().collect();
        let mut gone = 0;
        let mut last = None;
        for place in &piece {
            if gone == max {
                break;
            }
            last = Some(place.clone());
            let key = DedupKey::new(below.scope.clone(), place.1.clone());
            if !self
                .rows
                .get(&key)
                .is_some_and(|row| row.is_below(below, now_ms))
            {
                continue;
            }
            // The floor rises with the deletion: nobody sees the one without the other.
            if let Some(origin_ms) = place.0 {
                let floor = self.floors.entry(below.scope.clone()).or_default();
                *floor = origin_ms.max(*floor);
            }
            self.rows.remove(&key);
            order.remove(place);
            gone += 1;
        }
        let more = piece.len() == SWEEP_PIECE && gone < max;
        (gone, last.filter(|_| more))
    }
}

/// A whole sweep: pieces, between which `locked` lets others in.
pub(super) fn sweep(
    max: usize,
    mut piece: impl FnMut(usize, Option<Place>) -> (usize, Option<Place>),
) -> usize {
    let (mut all, mut from) = (0, None);
    loop {
        let (gone, last) = piece(max - all, from);
        all += gone;
        match last {
            Some(last) if all < max => from = Some(last),
            _ => return all,
        }
    }
}
