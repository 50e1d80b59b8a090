//! When producers cannot be read from their file: they are made anew from the log.

use std::io;

use crate::config::{Now, PartitionConfig};
use crate::producers::ProducerTable;
use crate::recovery;
use crate::spill::AT_ONCE;
use crate::spill::index::{Index, Location};
use crate::spill::spiller::{Guarded, STEP, Spiller};

/// How often a log is read whose front is being deleted meanwhile.
const ATTEMPTS: usize = 3;

impl Spiller {
    /// Everything that the log tells of producers. Nobody expires here: that somebody is missing
    /// must mean that the log does not know.
    ///
    /// # Errors
    /// When the log cannot be read, or producers' histories are no longer in it.
    pub(super) fn rebuilt(&self, log: &impl Guarded, now: Now) -> io::Result<ProducerTable> {
        let (view, marks, config) = log.with(|log| {
            let segments = log.segments();
            (
                segments.view().clone(),
                segments.marks().clone(),
                log.config().clone(),
            )
        });
        let config = PartitionConfig {
            producer_expiry_ms: u64::MAX,
            ..(*config).clone()
        };
        let history_from = marks.start().map_err(io::Error::other)?.history_from;
        let mut attempts = 0;
        loop {
            attempts += 1;
            // Whoever is on disk has no batch above what was visible when it went there.
            let end = view.published();
            if end < self.markers_end {
                let what = "its last transaction marker is not synced yet; append again";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, what));
            }
            let rebuilt = recovery::rebuild(&self.place, &view, &config, end, now.elapsed_ms);
            // What is deleted must be covered by a snapshot, or some of it was missed.
            let segments = view.segments();
            let oldest = segments.first().map_or(u64::MAX, |s| s.previous_end());
            let deleted = oldest.min(view.start());
            match rebuilt {
                Ok((table, found)) if deleted <= history_from.max(found.snapshot.unwrap_or(0)) => {
                    return Ok(table);
                }
                Ok(_) if attempts == ATTEMPTS => {
                    let what = "the log's producer history is lost with deleted data";
                    return Err(io::Error::other(what));
                }
                Err(error) if attempts == ATTEMPTS => return Err(io::Error::other(error)),
                _ => {}
            }
        }
    }

    /// Writes all producers that are on disk anew, as `table` has them, and reads nothing of what
    /// was written before any more.
    ///
    /// # Errors
    /// What the disk says; the rest is where it was.
    pub(super) fn replace(&mut self, log: &impl Guarded, table: &ProducerTable) -> io::Result<()> {
        let from = self.current.as_ref().map_or(0, |current| current.end);
        let mut some: Vec<(i64, Location)> = Vec::new();
        let mut kept_regions = Vec::new();
        if let Some(current) = &mut self.current {
            kept_regions = std::mem::take(&mut current.regions);
        }
        let mut replaced = Ok(());
        for shard in 0..Index::SHARDS {
            log.with(|log| some.extend(log.spill.index.shard(shard)));
            if replaced.is_ok() && (some.len() >= STEP || shard + 1 == Index::SHARDS) {
                replaced = self.move_to_end(log, table, &some);
                some.clear();
            }
        }
        if let Err(error) = replaced {
            if let Some(current) = &mut self.current {
                kept_regions.append(&mut current.regions);
                current.regions = kept_regions;
            }
            return Err(error);
        }
        if let Some(current) = &mut self.current {
            current.from = from;
        }
        self.drop_old(log);
        self.with_file(log, |log| log.spill.rebuilds += 1);
        Ok(())
    }

    fn move_to_end(
        &mut self,
        log: &impl Guarded,
        table: &ProducerTable,
        some: &[(i64, Location)],
    ) -> io::Result<()> {
        let known = some
            .iter()
            .filter_map(|&(id, at)| Some((table.get(id)?, at)));
        let (views, before): (Vec<_>, Vec<_>) = known.unzip();
        let locations = self.write(&views)?;
        let moved: Vec<_> = views.iter().zip(before).zip(locations).collect();
        for some in moved.chunks(AT_ONCE) {
            self.with_file(log, |log| {
                for ((view, before), after) in some {
                    if log.spill.is_at(view.producer_id, *before) {
                        log.spill.set(view.producer_id, *after);
                    }
                }
            });
        }
        Ok(())
    }
}
