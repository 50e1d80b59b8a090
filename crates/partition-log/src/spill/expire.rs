//! Forgetting producers on disk whose time is over.

use std::io;

use crate::config::Now;
use crate::spill::AT_ONCE;
use crate::spill::index::Location;
use crate::spill::spiller::{Guarded, Region, Spiller, Written};

impl Spiller {
    /// Forgets the producers on disk that have not appended for the configured time, as
    /// [`crate::PartitionLog::expire_producers`] does those in memory; returns how many.
    ///
    /// # Errors
    /// When they can be read neither from the file nor from the log. Nobody is forgotten then.
    pub fn expire(&mut self, log: &impl Guarded, now: Now) -> io::Result<usize> {
        if let Ok(expired) = self.expire_read(log, now) {
            return Ok(expired);
        }
        let table = self.rebuilt(log, now)?;
        self.replace(log, &table)?;
        self.expire_read(log, now)
    }

    fn expire_read(&mut self, log: &impl Guarded, now: Now) -> io::Result<usize> {
        let period_ms = log.with(|log| log.config().producer_expiry_ms);
        let is_due = |ms: u64| now.elapsed_ms.saturating_sub(ms) >= period_ms;
        let mut expired = 0;
        let mut looked_at: Vec<(usize, Vec<Region>)> = Vec::new();
        for written in self.files() {
            let mut regions = written.regions.clone();
            for region in regions.iter_mut().filter(|region| is_due(region.oldest_ms)) {
                let found = self.times(written, *region)?;
                region.oldest_ms = u64::MAX;
                for some in found.chunks(AT_ONCE) {
                    log.with(|log| {
                        for &(producer_id, location, last_append_ms) in some {
                            if !log.spill.is_at(producer_id, location) {
                                continue;
                            }
                            if is_due(last_append_ms) && !log.producers.is_kept(producer_id) {
                                log.spill.remove(producer_id);
                                log.producers.raise_forgotten_below(producer_id);
                                expired += 1;
                            } else {
                                region.oldest_ms = region.oldest_ms.min(last_append_ms);
                            }
                        }
                    });
                }
            }
            looked_at.push((written.number, regions));
        }
        for written in [&mut self.current, &mut self.old].into_iter().flatten() {
            let found = looked_at.iter_mut().find(|(n, _)| *n == written.number);
            if let Some((_, regions)) = found {
                written.regions = std::mem::take(regions);
            }
        }
        Ok(expired)
    }

    fn times(&self, written: &Written, region: Region) -> io::Result<Vec<(i64, Location, u64)>> {
        let read = self.scan(written, (region.from, region.to))?;
        let times = read
            .iter()
            .map(|(at, view)| (view.producer_id, *at, view.last_append_ms));
        Ok(times.collect())
    }
}
