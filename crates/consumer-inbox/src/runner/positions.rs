//! Up to where all of a partition is committed, when deliveries end in any order.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

use crate::identity::Part;

#[derive(Debug, Default)]
struct Progress {
    epoch: u64,
    /// Delivered and not committed.
    open: BTreeSet<u64>,
    /// Above all that was delivered.
    next: u64,
}

/// The partitions of a member.
#[derive(Debug, Default)]
pub(crate) struct Positions(Mutex<HashMap<Part, Progress>>);

impl Positions {
    /// Begins anew in another epoch, where nothing below `from` comes any more.
    pub(crate) fn begin(&self, part: &Part, epoch: u64, from: u64) {
        let progress = Progress {
            epoch,
            open: BTreeSet::new(),
            next: from,
        };
        self.0.lock().insert(part.clone(), progress);
    }

    /// A record was delivered. Those of a partition come in order, but for those that come again.
    pub(crate) fn delivered(&self, part: &Part, epoch: u64, offset: u64) {
        let mut parts = self.0.lock();
        if let Some(progress) = parts.get_mut(part).filter(|p| p.epoch == epoch) {
            progress.open.insert(offset);
            progress.next = progress.next.max(offset + 1);
        }
    }

    /// The position once those records are committed, too; 0, which leaves it, if nobody knows.
    pub(crate) fn with(&self, part: &Part, epoch: u64, offsets: &BTreeSet<u64>) -> u64 {
        let parts = self.0.lock();
        let progress = parts.get(part).filter(|p| p.epoch == epoch);
        progress.map_or(0, |progress| {
            let mut open = progress.open.iter().filter(|open| !offsets.contains(open));
            open.next().copied().unwrap_or(progress.next)
        })
    }

    /// The records are committed.
    pub(crate) fn committed(&self, part: &Part, epoch: u64, offsets: &BTreeSet<u64>) {
        let mut parts = self.0.lock();
        if let Some(progress) = parts.get_mut(part).filter(|p| p.epoch == epoch) {
            progress.open.retain(|open| !offsets.contains(open));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_never_passes_a_record_that_is_open() {
        let (positions, part) = (Positions::default(), Part::new("g", "orders", 0));
        positions.begin(&part, 3, 10);
        for offset in [10, 12, 13] {
            positions.delivered(&part, 3, offset);
        }
        let with = |epoch, offsets: &[u64]| {
            positions.with(&part, epoch, &offsets.iter().copied().collect())
        };
        let committed = |offset| positions.committed(&part, 3, &BTreeSet::from([offset]));
        assert_eq!(with(3, &[12, 13]), 10);
        assert_eq!(with(3, &[10, 13]), 12);
        committed(13);
        assert_eq!(with(3, &[10]), 12);
        committed(10);
        assert_eq!(with(3, &[12]), 14);
        // Of an older owner.
        assert_eq!(with(2, &[12]), 0);
    }
}
