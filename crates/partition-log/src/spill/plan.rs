//! Who moves to disk: the producers that appended least recently.

use std::collections::BinaryHeap;

use crate::config::Now;
use crate::producers::ProducerTable;
use crate::spill::Guarded;

/// What a round of steps does.
pub(super) struct Plan {
    /// Producers whose newest batch lies at this offset or below move.
    pub(super) newest: u64,
    /// How many, at most.
    pub(super) left: usize,
    /// The part of the table that is next.
    part: usize,
    /// Producers of the part that were taken in the current step, and are still in the table.
    pub(super) taken_of_part: usize,
}

impl Plan {
    /// A plan that leaves room for a sixteenth of the budget; `None` when nobody has to move, or
    /// nobody can. Expired producers are forgotten first.
    ///
    /// Looks at every producer in memory, one part at a time under the lock.
    pub(super) fn make(log: &impl Guarded, now: Now) -> Option<Plan> {
        if !log.with(|log| log.is_over_budget()) {
            return None;
        }
        for part in 0..ProducerTable::PARTS {
            log.with(|log| {
                let period_ms = log.config().producer_expiry_ms;
                log.producers.expire_part(part, now.elapsed_ms, period_ms);
            });
        }
        let excess = log.with(|log| {
            let max = log.spill.max;
            let goal = max - max / 16;
            let is_over = log.is_over_budget();
            if is_over {
                log.producers.len() - goal
            } else {
                0
            }
        });
        if excess == 0 {
            return None;
        }
        let mut oldest = BinaryHeap::with_capacity(excess);
        for part in 0..ProducerTable::PARTS {
            log.with(|log| {
                let end = log.segments().view().published();
                for (newest, _) in log.producers.movable(part, end) {
                    if oldest.len() < excess {
                        oldest.push(newest);
                    } else if oldest.peek().is_some_and(|&highest| newest < highest) {
                        oldest.pop();
                        oldest.push(newest);
                    }
                }
            });
        }
        log.with(|log| {
            // Named, in a transaction, or not visible yet: the bound gives way, not the producers.
            let unmovable = log.producers.len().saturating_sub(oldest.len());
            let all = oldest.len() < excess;
            log.spill.base = log.spill.max.max(if all { unmovable } else { 0 });
        });
        let newest = *oldest.peek()?;
        Some(Plan {
            newest,
            left: oldest.len(),
            part: 0,
            taken_of_part: 0,
        })
    }

    pub(super) fn part(&self) -> usize {
        self.part
    }

    pub(super) fn has_part(&self) -> bool {
        self.part < ProducerTable::PARTS
    }

    /// Notes that of the current part `taken` were found where `asked` were wanted.
    pub(super) fn took(&mut self, taken: usize, asked: usize) {
        if taken < asked {
            self.part += 1;
            self.taken_of_part = 0;
        } else {
            self.taken_of_part += taken;
        }
    }

    /// Notes that a step ends, after which the `moved` are not in the table any more.
    pub(super) fn end_step(&mut self, moved: usize) {
        self.left = self.left.saturating_sub(moved);
        self.taken_of_part = 0;
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0 || !self.has_part()
    }
}
