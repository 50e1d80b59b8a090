//! What a backup must hold.

use super::LogModel;
use crate::batch::SeenBatch;
use crate::violation::{Violation, violated};

impl LogModel {
    /// A copy was made just now, and holds `found`, from `start` on; the log goes on at `end` there,
    /// or behind where its offsets jump.
    pub(crate) fn copied(
        &self,
        found: &[SeenBatch],
        start: u64,
        end: Option<u64>,
    ) -> Result<(), Violation> {
        let first = self.entries.partition_point(|entry| {
            entry.batch.base_offset + u64::from(entry.batch.count) <= start
        });
        let live = &self.entries[first..];
        let must = live
            .iter()
            .rposition(|entry| entry.is_promised || entry.is_acked)
            .map_or(0, |at| at + 1);
        let is_prefix = found.len() <= live.len()
            && found
                .iter()
                .zip(live)
                .all(|(batch, entry)| *batch == entry.batch);
        let ends_at = found
            .last()
            .map_or(start, |batch| batch.base_offset + u64::from(batch.count));
        // A deletion that failed may have got as far as the file that the copy is made from.
        let latest = match self.rules.is_deleted_from {
            true => self.end.max(self.start_asked),
            false => self.start_asked,
        };
        if !is_prefix
            || found.len() < must
            || !(self.start..=latest.max(self.start)).contains(&start)
            || end.is_none_or(|end| end < ends_at)
        {
            let name = &self.name;
            return violated(
                "I19",
                format!(
                    "log {name}: a backup holds {} batches of {} ({must} were told of), from {start} \
                     (it begins at {}) to {ends_at}, and says it ends at {end:?}",
                    found.len(),
                    live.len(),
                    self.start
                ),
            );
        }
        Ok(())
    }
}
