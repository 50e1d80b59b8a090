//! Keeping the file small: once most of it is of no more use, the rest moves to another file.

use std::io;

use crate::config::Now;
use crate::spill::spiller::{Guarded, Progress, Spiller};
use crate::spill::{AT_ONCE, FILE};

/// Producers that may lie about without being of use, however few are.
const DEAD_MIN: usize = 64;

impl Spiller {
    /// Moves a region to the new file, if there is one or should be one.
    ///
    /// # Errors
    /// What the disk says; the rest stays where it is, and the next call goes on.
    pub(super) fn compact(&mut self, log: &impl Guarded, now: Now) -> io::Result<Progress> {
        if self.old.is_none() {
            let Some(current) = &self.current else {
                return Ok(Progress::Done);
            };
            let live = log.with(|log| log.spill.live[current.number]);
            if current.producers.saturating_sub(live) <= live.max(DEAD_MIN) {
                return Ok(Progress::Done);
            }
            self.old = self.current.take();
        }
        let Some(old) = &self.old else {
            return Ok(Progress::Done);
        };
        let live = log.with(|log| log.spill.live[old.number]);
        let region = old.regions.last().copied().filter(|_| live > 0);
        let Some(region) = region else {
            self.drop_old(log);
            return Ok(Progress::Done);
        };
        let Ok(found) = self.scan(old, (region.from, region.to)) else {
            let table = self.rebuilt(log, now)?;
            self.replace(log, &table)?;
            // A disk that loses everything again must not keep anybody busy for ever.
            return Ok(Progress::Done);
        };
        let mut moving = Vec::new();
        for some in found.chunks(AT_ONCE) {
            log.with(|log| {
                let live = some
                    .iter()
                    .filter(|(at, v)| log.spill.is_at(v.producer_id, *at));
                moving.extend(live.cloned());
            });
        }
        let (before, views): (Vec<_>, Vec<_>) = moving.into_iter().unzip();
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
        if let Some(old) = &mut self.old {
            old.regions.pop();
        }
        Ok(Progress::More)
    }

    /// Gives up the file that was replaced, and its name to the other one.
    pub(super) fn drop_old(&mut self, log: &impl Guarded) {
        let Some(old) = self.old.take() else { return };
        log.with(|log| log.spill.files[old.number] = None);
        let disk = &self.place.disk;
        // Names are for people and the next open alone: this run holds the files open.
        let _ = match &mut self.current {
            Some(current) if current.name != FILE => {
                let name = std::mem::replace(&mut current.name, FILE);
                let renamed = disk.rename(&self.place.path(name), &self.place.path(FILE));
                if renamed.is_err() {
                    current.name = name;
                }
                renamed
            }
            _ => disk.remove(&self.place.path(old.name)),
        };
    }
}
