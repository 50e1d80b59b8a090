//! [`Spiller`]: moves producers to disk, in steps.

use std::io;
use std::sync::Arc;

use segment_storage::{DiskFile, Place};

use crate::config::Now;
use crate::log::PartitionLog;
use crate::producers::line::Line;
use crate::producers::{ProducerTable, ProducerView};
use crate::spill::file::{self, SpillFile};
use crate::spill::index::Location;
use crate::spill::plan::Plan;
use crate::spill::{AT_ONCE, FILE, Loaded};

/// The second file, while there are two.
pub(super) const TEMPORARY: &str = "evicted.tmp";
/// Producers that one step moves, at most.
pub(super) const STEP: usize = 512;
/// Bytes of them, about.
const STEP_BYTES: usize = 1 << 20;
/// Producers written together are one region of the file, and so are smaller lots up to this size.
const REGION_BYTES: u64 = 64 << 10;

/// A log behind its lock.
pub trait Guarded {
    /// Calls `f` with the log. The lock is held meanwhile, and not longer.
    fn with<R>(&self, f: impl FnOnce(&mut PartitionLog) -> R) -> R;
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The next step has something to do.
    More,
    /// Nothing is left to do.
    Done,
}

/// Moves producers of one log to disk and keeps their file small. Reads and writes without the
/// log's lock; the caller sees to it that there is one call at a time.
pub struct Spiller {
    pub(super) place: Place,
    pub(super) frame_bytes_max: usize,
    /// What is written to.
    pub(super) current: Option<Written>,
    /// What is being replaced by `current`.
    pub(super) old: Option<Written>,
    plan: Option<Plan>,
    /// Markers of producers that moved lie below it; where their data lies, the lines tell.
    pub(super) markers_end: u64,
}

/// A file that was written.
pub(super) struct Written {
    /// 0 or 1.
    pub(super) number: usize,
    pub(super) name: &'static str,
    pub(super) file: Arc<dyn DiskFile>,
    /// Below it nothing is read any more.
    pub(super) from: u64,
    pub(super) end: u64,
    /// Producers that were written to it.
    pub(super) producers: usize,
    pub(super) regions: Vec<Region>,
}

/// A range of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Nobody in it appended before that, in elapsed ms: nobody has expired as long as it has not.
    pub(super) oldest_ms: u64,
}

impl Spiller {
    pub(super) fn new(place: Place, table: &ProducerTable) -> Spiller {
        Spiller {
            place,
            frame_bytes_max: table.frame_bytes_max(),
            current: None,
            old: None,
            plan: None,
            markers_end: 0,
        }
    }

    /// Moves some of the producers that are too many, or tidies up the file.
    ///
    /// # Errors
    /// What the disk says. Nobody is forgotten: what could not be written stays in memory.
    pub fn step(&mut self, log: &impl Guarded, now: Now) -> io::Result<Progress> {
        let plan = match self.plan.take() {
            Some(plan) => Some(plan),
            None => Plan::make(log, now),
        };
        let Some(mut plan) = plan else {
            return self.compact(log, now);
        };
        let (lines, views) = self.pick(&mut plan, log);
        let locations = self.write(&views)?;
        plan.end_step(lines.len());
        let moved: Vec<_> = lines.into_iter().zip(locations).collect();
        for some in moved.chunks(AT_ONCE) {
            self.with_file(log, |log| {
                for (line, location) in some {
                    if log.producers.remove_unchanged(line) {
                        log.spill.set(line.producer_id, *location);
                        log.spill.evictions += 1;
                    }
                }
            });
        }
        if !plan.is_done() {
            self.plan = Some(plan);
        }
        Ok(Progress::More)
    }

    /// A producer that is on disk, but could not be read: rebuilt from the log. `None` when it is
    /// not on disk any more.
    ///
    /// # Errors
    /// When the log cannot be read either, or does not tell any more. The producer stays known.
    pub fn load(
        &mut self,
        log: &impl Guarded,
        producer_id: i64,
        now: Now,
    ) -> io::Result<Option<Loaded>> {
        let Some(loading) = log.with(|log| log.begin_load(producer_id)) else {
            return Ok(None);
        };
        // Somebody else may have rebuilt all of them meanwhile.
        if let Ok(loaded) = loading.read() {
            return Ok(Some(loaded));
        }
        let table = self.rebuilt(log, now)?;
        let view = table.get(producer_id).ok_or_else(|| {
            let what = "is neither in the file of evicted producers nor in the log";
            io::Error::other(format!("producer {producer_id} {what}"))
        })?;
        // A file that takes no writes is no reason to refuse this one.
        let _ = self.replace(log, &table);
        let loading = log.with(|log| log.begin_load(producer_id));
        Ok(loading.map(|loading| Loaded { loading, view }))
    }

    /// All producers that the log knows, in memory and on disk.
    ///
    /// # Errors
    /// When the log cannot be read, after the file could not.
    pub fn views(&mut self, log: &impl Guarded, now: Now) -> io::Result<Vec<ProducerView>> {
        if let Some(views) = self.read_views(log) {
            return Ok(views);
        }
        let table = self.rebuilt(log, now)?;
        self.replace(log, &table)?;
        self.read_views(log)
            .ok_or_else(|| io::Error::other("producers on disk cannot be read back"))
    }

    fn read_views(&self, log: &impl Guarded) -> Option<Vec<ProducerView>> {
        let mut read = Vec::new();
        for written in self.files() {
            let whole = (written.from, written.end);
            read.append(&mut self.scan(written, whole).ok()?);
        }
        log.with(|log| {
            let mut views: Vec<_> = log.producers.iter().collect();
            let all = log.known_producers();
            for (location, view) in read {
                if log.spill.is_at(view.producer_id, location) {
                    views.push(view);
                }
            }
            (views.len() == all).then_some(views)
        })
    }

    /// Removes the files, when the log is closed: they are of no use to the next open.
    pub fn discard(&mut self) {
        for written in [self.current.take(), self.old.take()].into_iter().flatten() {
            let _ = self.place.disk.remove(&self.place.path(written.name));
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Written> {
        [&self.current, &self.old].into_iter().flatten()
    }

    /// The producers in a range of a file, whether or not they are still of use.
    pub(super) fn scan(
        &self,
        written: &Written,
        (from, to): (u64, u64),
    ) -> io::Result<Vec<(Location, ProducerView)>> {
        let mut views = Vec::new();
        let file = written.open(self.frame_bytes_max);
        file.scan(from, to, |position, view| {
            views.extend(Location::new(written.number, position).map(|at| (at, view)));
        })?;
        Ok(views)
    }

    /// Writes producers; where they are. Until the log's index says so, nobody looks there.
    pub(super) fn write(&mut self, views: &[ProducerView]) -> io::Result<Vec<Location>> {
        if views.is_empty() {
            return Ok(Vec::new());
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.create()?,
        };
        let written = current.append(views);
        self.current = Some(current);
        written
    }

    /// With the log, which from now on may read what was written.
    pub(super) fn with_file<R>(
        &self,
        log: &impl Guarded,
        f: impl FnOnce(&mut PartitionLog) -> R,
    ) -> R {
        let current = self.current.as_ref();
        let current = current.map(|w| (w.number, w.open(self.frame_bytes_max)));
        log.with(|log| {
            if let Some((number, file)) = current {
                log.spill.files[number] = Some(file);
            }
            f(log)
        })
    }

    // Copies of producers that are to move. They stay in the table until they are written.
    fn pick(&mut self, plan: &mut Plan, log: &impl Guarded) -> (Vec<Line>, Vec<ProducerView>) {
        let (mut lines, mut views) = (Vec::new(), Vec::new());
        let (mut batches, most) = (0, STEP.min(plan.left));
        while lines.len() < most && batches * 20 < STEP_BYTES && plan.has_part() {
            let (asked, before) = (AT_ONCE.min(most - lines.len()), lines.len());
            log.with(|log| {
                let end = log.segments().view().published();
                let movable = log.producers.movable(plan.part(), end);
                let old = movable.filter(|(newest, _)| *newest <= plan.newest);
                for (_, line) in old.skip(plan.taken_of_part).take(asked) {
                    let view = log.producers.view_of(line);
                    batches += view.window.len();
                    if view.coordinator_epoch >= 0 || view.window.is_empty() {
                        self.markers_end = log.next_offset();
                    }
                    lines.push(*line);
                    views.push(view);
                }
            });
            plan.took(lines.len() - before, asked);
        }
        (lines, views)
    }

    fn create(&self) -> io::Result<Written> {
        let (number, name) = match &self.old {
            Some(old) => (
                1 - old.number,
                if old.name == FILE { TEMPORARY } else { FILE },
            ),
            None => (0, FILE),
        };
        let path = self.place.path(name);
        match self.place.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Written {
            number,
            name,
            file: self.place.disk.create(&path, 0)?,
            from: 0,
            end: 0,
            producers: 0,
            regions: Vec::new(),
        })
    }
}

impl Written {
    pub(super) fn open(&self, frame_bytes_max: usize) -> SpillFile {
        SpillFile {
            file: self.file.clone(),
            from: self.from,
            end: self.end,
            frame_bytes_max,
        }
    }

    fn append(&mut self, views: &[ProducerView]) -> io::Result<Vec<Location>> {
        let (mut bytes, mut locations) = (Vec::new(), Vec::with_capacity(views.len()));
        let at = |bytes: &Vec<u8>| self.end + u64::try_from(bytes.len()).unwrap_or(0);
        for view in views {
            let location = Location::new(self.number, at(&bytes));
            let full = || io::Error::other("the file of evicted producers has reached 32 GiB");
            locations.push(location.ok_or_else(full)?);
            file::encode(view.clone(), &mut bytes);
        }
        let (from, to) = (self.end, at(&bytes));
        self.file.write_at(&bytes, &[], from)?;
        self.end = to;
        self.producers += views.len();
        let oldest = views.iter().map(|view| view.last_append_ms).min();
        let oldest_ms = oldest.unwrap_or(u64::MAX);
        match self.regions.last_mut() {
            Some(last) if to - last.from <= REGION_BYTES => {
                last.to = to;
                last.oldest_ms = last.oldest_ms.min(oldest_ms);
            }
            _ => self.regions.push(Region {
                from,
                to,
                oldest_ms,
            }),
        }
        Ok(locations)
    }
}
