//! Up to where a consumer has committed all of a partition, though deliveries end in any order.

use std::collections::BTreeSet;

/// A partition that a consumer has.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) epoch: u64,
    /// Delivered, and not committed.
    open: BTreeSet<u64>,
    next: u64,
}

impl Progress {
    pub(super) fn new(epoch: u64, from: u64) -> Progress {
        Progress {
            epoch,
            open: BTreeSet::new(),
            next: from,
        }
    }

    pub(super) fn delivered(&mut self, offset: u64) {
        self.open.insert(offset);
        self.next = self.next.max(offset + 1);
    }

    /// The position once those offsets are committed, too.
    pub(super) fn with(&self, done: &BTreeSet<u64>) -> u64 {
        let first = self.open.difference(done).next();
        first.copied().unwrap_or(self.next)
    }

    pub(super) fn committed(&mut self, offset: u64) {
        self.open.remove(&offset);
    }
}
