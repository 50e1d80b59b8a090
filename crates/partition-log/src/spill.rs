//! The producer budget: producers above it move to disk, and are still known.
//!
//! [`crate::PartitionConfig::producers_max`] bounds the producers that a partition keeps in memory
//! (I17). Above it those that have expired go; then those that appended least recently are written
//! to a file beside the log, and 12 bytes of each stay in memory: its id and where it lies. Nobody
//! is forgotten by that (I18): a batch of such a producer is not judged before the producer is back
//! in memory, so it gets the answer that it would have got there.
//!
//! The file is a cache (I25). Each open makes it anew, and what cannot be read from it is rebuilt
//! from the log.
//!
//! There are two sides. [`PartitionLog`] holds the index, behind its lock, and never touches the
//! file: an append of a producer on disk gets [`crate::AppendError::Evicted`]; the caller reads the producer
//! without the lock ([`Loading::read`]), hands it over under it and appends again. [`Spiller`] does
//! the rest, in steps that take the lock for a moment each ([`Guarded`]).

mod expire;
mod file;
mod index;
mod plan;
mod rebuild;
mod rewrite;
mod spiller;

use std::io;
use std::sync::Arc;

use segment_storage::{Place, names, state_file};

use crate::AppendError;
use crate::log::PartitionLog;
use crate::producer::{Admission, Fresh, Rejection};
use crate::producers::{ProducerTable, ProducerView};
use file::SpillFile;
use index::{Index, Location};
pub use spiller::{Guarded, Progress, Spiller};

/// Name of the file, in the log's directory.
pub const FILE: &str = "evicted";

/// Producers of which a lock is held at once, so that it is held for microseconds.
const AT_ONCE: usize = 64;

/// How a partition's budget is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Producers that should be in memory at most ([`crate::PartitionConfig::producers_max`]).
    pub max: usize,
    /// Producers in memory.
    pub in_memory: usize,
    /// Producers that are known, but on disk.
    pub evicted: usize,
    /// How often a producer was moved to disk, since the open.
    pub evictions: u64,
    /// How often one was moved back, since the open.
    pub loads: u64,
    /// How often producers on disk had to be rebuilt from the log, since the open: their file was
    /// damaged.
    pub rebuilds: u64,
    /// Bytes in memory on behalf of all of them.
    pub memory_bytes: usize,
}

/// What the log knows of producers on disk; behind its lock.
pub(crate) struct Spill {
    index: Index,
    files: [Option<SpillFile>; 2],
    /// Producers of the index in each file.
    live: [usize; 2],
    max: usize,
    /// The budget, or more where so many producers cannot move.
    base: usize,
    evictions: u64,
    loads: u64,
    rebuilds: u64,
}

impl Spill {
    pub(crate) fn new(max: usize) -> Spill {
        Spill {
            index: Index::default(),
            files: [None, None],
            live: [0, 0],
            max,
            base: max,
            evictions: 0,
            loads: 0,
            rebuilds: 0,
        }
    }

    /// Whether a producer is on disk.
    pub(crate) fn holds(&self, producer_id: i64) -> bool {
        self.index.len() > 0 && self.index.get(producer_id).is_some()
    }

    /// A quarter above the budget: as far as producers may come while others are being moved. At
    /// this number no new one is taken in.
    fn limit(&self) -> usize {
        self.base.saturating_add(self.base / 4)
    }

    fn set(&mut self, producer_id: i64, location: Location) {
        if let Some(before) = self.index.set(producer_id, location) {
            self.live[before.file()] -= 1;
        }
        self.live[location.file()] += 1;
    }

    /// Forgets that a producer is on disk; whether it was.
    pub(crate) fn remove(&mut self, producer_id: i64) -> bool {
        let removed = self.index.remove(producer_id);
        if let Some(location) = removed {
            self.live[location.file()] -= 1;
        }
        removed.is_some()
    }

    fn is_at(&self, producer_id: i64, location: Location) -> bool {
        self.index.get(producer_id) == Some(location)
    }

    /// All producers on disk; the caller sees to it that none moves. Reads the disk.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub(crate) fn read_all(&self) -> io::Result<Vec<ProducerView>> {
        let mut views = Vec::with_capacity(self.index.len());
        for (number, file) in self.files.iter().enumerate() {
            let Some(file) = file else { continue };
            file.scan(file.from, file.end, |position, view| {
                let location = Location::new(number, position);
                if location.is_some_and(|at| self.is_at(view.producer_id, at)) {
                    views.push(view);
                }
            })?;
        }
        if views.len() == self.index.len() {
            Ok(views)
        } else {
            Err(io::Error::other("not all producers on disk can be read"))
        }
    }
}

/// Whether a batch was judged as one of a producer that is not known, and if so whether it would
/// be taken in.
#[inline]
pub(crate) fn judged_unknown(admission: &Result<Admission, Rejection>) -> Option<bool> {
    match admission {
        Ok(Admission::Fresh(Fresh { slot: None, .. })) => Some(true),
        Err(Rejection::UnknownProducer { .. } | Rejection::Forgotten { .. }) => Some(false),
        _ => None,
    }
}

/// A producer that is to be read from disk, without the log's lock.
pub struct Loading {
    producer_id: i64,
    location: Location,
    file: Option<SpillFile>,
}

impl Loading {
    /// Its id.
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// Reads the producer. One small read, mostly from the page cache.
    ///
    /// # Errors
    /// When it cannot be read back; [`Spiller::load`] rebuilds it.
    pub fn read(self) -> io::Result<Loaded> {
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let view = file.read(self.location.position(), self.producer_id)?;
        Ok(Loaded {
            loading: self,
            view,
        })
    }
}

/// A producer that was read, to be handed over under the log's lock.
pub struct Loaded {
    loading: Loading,
    view: ProducerView,
}

impl PartitionLog {
    /// Refuses, for now, a batch that was judged as one of a producer that is not known: when the
    /// producer is on disk, or when it was admitted and there is no room for another producer.
    pub(crate) fn check_budget(
        &self,
        producer_id: i64,
        is_admitted: bool,
    ) -> Result<(), AppendError> {
        self.check_in_memory(producer_id)?;
        if !is_admitted || self.has_room() {
            return Ok(());
        }
        let (producers, max) = (self.producers.len(), self.spill.max);
        Err(AppendError::NoRoom { producers, max })
    }

    /// Refuses, for now, a batch of a producer that is on disk.
    pub(crate) fn check_in_memory(&self, producer_id: i64) -> Result<(), AppendError> {
        if self.spill.holds(producer_id) {
            return Err(AppendError::Evicted { producer_id });
        }
        Ok(())
    }

    /// Begins to bring a producer back into memory; `None` when it is not on disk.
    pub fn begin_load(&self, producer_id: i64) -> Option<Loading> {
        let location = self.spill.index.get(producer_id)?;
        Some(Loading {
            producer_id,
            location,
            file: self.spill.files[location.file()].clone(),
        })
    }

    /// Brings a producer back into memory, if it still is where it was read.
    pub fn finish_load(&mut self, loaded: Loaded) {
        let Loaded { loading, view } = loaded;
        let (id, location) = (loading.producer_id, loading.location);
        // A file that came later may have the same number, and the producer at the same position.
        let same = match (&self.spill.files[location.file()], &loading.file) {
            (Some(now), Some(then)) => Arc::ptr_eq(&now.file, &then.file),
            (None, None) => true,
            _ => false,
        };
        if same && self.spill.is_at(id, location) {
            self.spill.remove(id);
            self.producers.insert(view);
            self.spill.loads += 1;
        }
    }

    /// Whether a producer is known, in memory or on disk.
    pub fn is_known(&self, producer_id: i64) -> bool {
        self.producers.contains(producer_id) || self.spill.holds(producer_id)
    }

    /// Whether a producer may come into memory.
    pub fn has_room(&self) -> bool {
        self.producers.len() < self.spill.limit()
    }

    /// Whether there are more producers in memory than there should be.
    #[inline]
    pub fn is_over_budget(&self) -> bool {
        self.producers.len() > self.spill.max
    }

    /// Whether there are so many more that nobody should wait for the next housekeeping.
    #[inline]
    pub fn is_far_over_budget(&self) -> bool {
        self.producers.len() > self.spill.base.saturating_add(self.spill.base / 8)
    }

    /// Producers that are known: in memory and on disk.
    pub fn known_producers(&self) -> usize {
        self.producers.len() + self.spill.index.len()
    }

    /// How the budget is used.
    pub fn budget(&self) -> Budget {
        Budget {
            max: self.spill.max,
            in_memory: self.producers.len(),
            evicted: self.spill.index.len(),
            evictions: self.spill.evictions,
            loads: self.spill.loads,
            rebuilds: self.spill.rebuilds,
            memory_bytes: self.producers.memory_bytes() + self.spill.index.memory_bytes(),
        }
    }

    /// The one that moves producers to disk. There is one for each open log: what the first call
    /// returns knows what the open has moved.
    pub fn take_spiller(&mut self) -> Spiller {
        let taken = self.spiller.take();
        taken.unwrap_or_else(|| Spiller::new(self.segments().place().clone(), &self.producers))
    }
}

/// Removes what an earlier run left: its producers on disk, and files that it did not finish. The
/// latter are named by offsets that may never come again, so nobody else would remove them.
pub(crate) fn remove_stale(place: &Place) {
    let Ok(entries) = place.disk.list(&place.directory) else {
        return;
    };
    let is_unfinished = |name: &str| {
        let whole = name.strip_suffix(state_file::TEMPORARY_SUFFIX);
        let is = |extension| whole.is_some_and(|w| names::offset_of(w, extension).is_some());
        is("snapshot") || is("footer") || is("index")
    };
    for entry in entries {
        let name = entry.name.as_str();
        if name == FILE || name == spiller::TEMPORARY || is_unfinished(name) {
            // It is in the way of nobody but the next one, who tries again.
            let _ = place.disk.remove(&place.path(&entry.name));
        }
    }
}

/// Moves what a freshly opened log has above its budget. What cannot be moved stays in memory, and
/// later steps try again.
pub(crate) fn settle(log: PartitionLog, now: crate::Now) -> PartitionLog {
    if !log.is_over_budget() {
        return log;
    }
    let log = std::cell::RefCell::new(log);
    let mut spiller = log.with(PartitionLog::take_spiller);
    while let Ok(Progress::More) = spiller.step(&log, now) {}
    let mut log = log.into_inner();
    log.producers.compact();
    log.spiller = Some(spiller);
    log
}

impl Guarded for std::cell::RefCell<PartitionLog> {
    fn with<R>(&self, f: impl FnOnce(&mut PartitionLog) -> R) -> R {
        f(&mut self.borrow_mut())
    }
}

impl ProducerTable {
    fn frame_bytes_max(&self) -> usize {
        file::frame_bytes_max(self.config().window)
    }
}
