//! What a log knows of one producer.

use std::collections::VecDeque;

use super::{Refusal, Verdict};
use crate::batch::SeenBatch;

#[derive(Debug, Default)]
pub(super) struct Known {
    epoch: i16,
    /// First sequence, count, offset, hash; the newest last, all of the epoch.
    batches: VecDeque<(i32, u32, u64, u64)>,
    /// Batches below this offset may have been forgotten before the others came.
    pub(super) doubtful_below: u64,
    pub(super) last_ms: u64,
}

impl Known {
    fn next(&self) -> Option<i32> {
        let (first, count, ..) = self.batches.back()?;
        // Sequences go from 0 to i32::MAX and around.
        let next = (i64::from(*first) + i64::from(*count)) % (1 << 31);
        i32::try_from(next).ok()
    }

    /// Takes in a batch that is in the log. `is_doubtful`: what came before may be forgotten.
    pub(super) fn remember(&mut self, batch: &SeenBatch, window: usize, is_doubtful: bool) {
        let (_, epoch, first) = batch.identity;
        if self.epoch != epoch || self.next().is_some_and(|next| next != first) {
            self.batches.clear();
        } else if is_doubtful {
            self.doubtful_below = batch.base_offset;
        }
        self.epoch = epoch;
        self.batches
            .push_back((first, batch.count, batch.base_offset, batch.hash));
        while self.batches.len() > window {
            self.batches.pop_front();
        }
    }

    /// Rows D2, D4 and D7 to D14 of the decision table.
    pub(super) fn judge(&self, batch: &SeenBatch, window: usize, allowed: &mut Vec<Verdict>) {
        let (_, epoch, first) = batch.identity;
        if epoch < self.epoch {
            return allowed.push(Verdict::Refuse(Refusal::Fenced));
        }
        let is_next = match self.next() {
            Some(next) if epoch == self.epoch => next == first,
            _ => first == 0,
        };
        let known = self.batches.iter().rev().take(window);
        let mut known = known.filter(|known| (known.0, known.1) == (first, batch.count));
        let found = known.next().filter(|_| epoch == self.epoch);
        if let Some(&(_, _, offset, hash)) = found {
            allowed.push(match hash == batch.hash {
                true => Verdict::Duplicate(offset),
                false => Verdict::Refuse(Refusal::SequenceReuse),
            });
            if offset >= self.doubtful_below {
                return;
            }
        }
        allowed.push(match is_next {
            true => Verdict::Append,
            false => Verdict::Refuse(Refusal::OutOfOrder),
        });
    }
}
