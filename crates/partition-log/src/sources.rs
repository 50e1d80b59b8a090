//! What a partition knows of named producers beyond their sequences: how far their source is stored,
//! and which of their earlier holders may not write any more.

use std::collections::BTreeMap;

use record_batch::SourcePosition;

use crate::producer::Rejection;

/// Source positions and fences of one partition.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    positions: BTreeMap<i64, SourcePosition>,
    /// Lowest epoch that may still write. In memory alone: no holder survives the process.
    fences: BTreeMap<i64, i16>,
}

impl Sources {
    /// How far a producer's source is stored in this partition.
    pub fn position(&self, producer_id: i64) -> Option<SourcePosition> {
        self.positions.get(&producer_id).copied()
    }

    /// All positions, by producer id.
    pub fn positions(&self) -> impl Iterator<Item = (i64, SourcePosition)> {
        self.positions.iter().map(|(&id, &position)| (id, position))
    }

    /// Drops the positions of all other producers.
    pub fn retain(&mut self, is_kept: impl Fn(i64) -> bool) {
        self.positions.retain(|&id, _| is_kept(id));
    }

    /// Takes note of a batch that is in the log. Positions only rise.
    pub fn apply(&mut self, producer_id: i64, position: SourcePosition) {
        let known = self.positions.entry(producer_id).or_insert(position);
        known.last = known.last.max(position.last);
        known.floor = known.floor.max(position.floor);
    }

    /// Refuses every batch of a lower epoch from now on.
    pub fn fence(&mut self, producer_id: i64, epoch: i16) {
        let fence = self.fences.entry(producer_id).or_insert(epoch);
        *fence = epoch.max(*fence);
    }

    /// Passes what is not fenced.
    ///
    /// # Errors
    /// [`Rejection::Fenced`].
    #[inline]
    pub fn check(&self, producer_id: i64, epoch: i16) -> Result<(), Rejection> {
        if self.fences.is_empty() {
            return Ok(());
        }
        match self.fences.get(&producer_id) {
            Some(&current) if epoch < current => Err(Rejection::Fenced {
                producer_id,
                given: epoch,
                current,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_fences_only_rise() {
        let mut sources = Sources::default();
        sources.apply(7, SourcePosition { last: 9, floor: 3 });
        sources.apply(7, SourcePosition { last: 5, floor: 4 });
        assert_eq!(
            sources.position(7),
            Some(SourcePosition { last: 9, floor: 4 })
        );
        sources.fence(7, 3);
        sources.fence(7, 2);
        assert!(sources.check(7, 2).is_err());
        assert_eq!(sources.check(7, 3), Ok(()));
        assert_eq!(sources.check(8, 0), Ok(()));
    }
}
