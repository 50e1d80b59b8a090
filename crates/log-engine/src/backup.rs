//! A consistent copy of a data directory, while appends go on.
//!
//! First it is decided where each log is cut, for all of them at one moment; then what lies below
//! is held (a hard link, or an open file, which outlives its removal); then it is copied. Locks of
//! logs are taken only for the first step, and for no longer than it takes to read a number of
//! each. The copy is a new lineage ([`lineage`]), closed cleanly: it is restored by opening it.

mod cut;
pub(crate) mod files;
mod log;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use pid_allocator::AllocateError;
use segment_storage::{Disk, OsDisk, SlotError, StateFileError};

use self::cut::Cut;
use self::log::{Held, HeldLog};
use crate::core::Core;
use crate::directory::{self, LOCK};
use crate::engine::Engine;
use crate::error::OpenError;
use crate::{lineage, names};

/// How often a copy begins again because topics were made or removed meanwhile.
const ATTEMPTS: usize = 10;

/// Files that are held open where they cannot be linked. Further ones are opened when their turn
/// comes; if one is gone by then, the copy begins again.
const OPEN_MAX: usize = 512;

/// What a copy holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Files of the copy.
    pub files: u64,
    /// How many of them are hard links, and take no further space.
    pub linked: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The offset after the last record, by log (`topic-partition`).
    pub end_offsets: BTreeMap<String, u64>,
}

/// Why there is no copy. What was copied so far is not taken for a data directory by anybody, and
/// the next backup to the same place removes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Something is there already.
    #[error("{path} exists and is not an empty directory; name another one")]
    Exists {
        /// What was named.
        path: String,
    },
    /// Somebody else makes a copy of that name just now.
    #[error("a backup to {path} is being made by {holder}; wait for it, or name another directory")]
    InUse {
        /// What was named.
        path: String,
        /// Process, host and time.
        holder: String,
    },
    /// The source cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The marks of a log cannot be read, so nobody knows what of it is durable.
    #[error("log {log}: {source}; run `oncelog repair`, then back up what is left")]
    Marks {
        /// `topic-partition`.
        log: String,
        /// What is wrong.
        source: SlotError,
    },
    /// The last segment of a log is damaged below the stable mark.
    #[error(
        "{file} is damaged at byte {position}: expected batches up to offset {expected}, found them up \
         to {found}; run `oncelog verify`, then `oncelog repair`"
    )]
    Damaged {
        /// The file.
        file: String,
        /// Bytes from its beginning.
        position: u64,
        /// Where the log ends.
        expected: u64,
        /// How far it can be read.
        found: u64,
    },
    /// Topics come and go, or named producers write without a pause in another process.
    #[error(
        "the data directory changed at each of {looks} looks; try again, or call Engine::snapshot_to in the process that writes"
    )]
    Changing {
        /// How often it was tried.
        looks: usize,
    },
    /// No producer ids are left for a new lineage.
    #[error(transparent)]
    ProducerIds(#[from] AllocateError),
    /// A sync of a log failed, so what was acknowledged of it before that it was durable is not
    /// known to be on the disk.
    #[error(
        "log {log} is fenced after a failed sync, and what was written to it last cannot be copied; \
         close the engine and open it again, then back up"
    )]
    Fenced {
        /// `topic-partition`.
        log: String,
    },
    /// The engine is closed.
    #[error("the engine is closed; open it again, or open it read-only")]
    Closed,
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// File or directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl From<StateFileError> for BackupError {
    fn from(error: StateFileError) -> BackupError {
        BackupError::Open(error.into())
    }
}

fn io(disk: &Arc<dyn Disk>, name: &str, source: io::Error) -> BackupError {
    BackupError::Io {
        file: disk.display(name),
        source,
    }
}

impl Engine {
    /// Copies the data directory to `path` while it is in use: everything that was acknowledged
    /// before the call, at any level, is in the copy, and durable there when this returns. The
    /// directory at `path` must be missing or empty; it appears whole or not at all. Sealed
    /// segments are hard links where the file system allows that.
    ///
    /// The copy is restored by opening it. It is another lineage: other producer ids are handed out
    /// there than here, so both may be used. Named producers, and what is known of all producers,
    /// come along.
    ///
    /// An engine that is open for reading only copies what is durable by the stable marks, which a
    /// running writer moves after every commit, once the segments before are sealed.
    ///
    /// Waits for the disk: seconds for large logs where links are not possible.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn snapshot_to(&self, path: impl AsRef<Path>) -> Result<BackupReport, BackupError> {
        let path = path.as_ref();
        let shown = || path.display().to_string();
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
                BackupError::Exists { path: shown() }
            }
            _ => BackupError::Io {
                file: shown(),
                source,
            },
        };
        let unfinished = OsDisk::unfinished(path).map_err(refused)?;
        let root = Arc::new(OsDisk::open(unfinished).map_err(refused)?);
        let target: Arc<dyn Disk> = root.clone();
        // It becomes the copy's own lock file. One that was left by a crash is held by nobody.
        let holder = format!("process {}", std::process::id());
        let lock = target.lock(LOCK, &holder).map_err(|source| {
            if source.kind() != io::ErrorKind::WouldBlock {
                return refused(source);
            }
            let holder = target.lock_holder(LOCK).ok().flatten();
            BackupError::InUse {
                path: shown(),
                holder: holder.unwrap_or_else(|| "another process".to_owned()),
            }
        })?;
        // Whoever finished a copy while this waited for nothing has moved this very directory away.
        OsDisk::unfinished(path).map_err(refused)?;
        let report = copy(self.core(), &target)?;
        root.move_to(path).map_err(refused)?;
        drop(lock);
        Ok(report)
    }

    /// As [`Engine::snapshot_to`], to any disk, which must be empty: for tests and simulations. The
    /// format gate is written last, so before that nobody takes it for a data directory.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn snapshot_to_disk(&self, target: &Arc<dyn Disk>) -> Result<BackupReport, BackupError> {
        let entries = target.list("").map_err(|e| io(target, "", e))?;
        if entries.iter().any(|entry| entry.name != LOCK) {
            let path = target.display("");
            return Err(BackupError::Exists { path });
        }
        copy(self.core(), target)
    }
}

fn copy(core: &Core, target: &Arc<dyn Disk>) -> Result<BackupReport, BackupError> {
    if core.is_closed() {
        return Err(BackupError::Closed);
    }
    for _ in 0..ATTEMPTS {
        clear(target)?;
        if let Some(report) = attempt(core, target)? {
            return Ok(report);
        }
    }
    let looks = ATTEMPTS;
    Err(BackupError::Changing { looks })
}

// What an interrupted copy, or an attempt that has to begin again, left.
fn clear(target: &Arc<dyn Disk>) -> Result<(), BackupError> {
    for entry in target.list("").map_err(|e| io(target, "", e))? {
        let removed = match &*entry.name {
            LOCK => Ok(()),
            name if entry.is_directory => target.remove_directory(name),
            name => target.remove(name),
        };
        removed.map_err(|e| io(target, &entry.name, e))?;
    }
    Ok(())
}

// `None` when a topic went away meanwhile.
fn attempt(core: &Core, target: &Arc<dyn Disk>) -> Result<Option<BackupReport>, BackupError> {
    let source = &core.disk;
    core.save_time();
    directory::read_format(source)?;
    let Some(cut) = Cut::of(core)? else {
        return Ok(None);
    };
    let mut report = BackupReport::default();
    let mut held = Vec::new();
    let mut open = OPEN_MAX;
    for log in &cut.logs {
        match HeldLog::hold(source, target, log, &mut open)? {
            Held::Log(log) => held.push(*log),
            Held::Gone => return Ok(None),
        }
    }
    // Read after the cut: every id that a copied batch bears was reserved by then.
    let (bound, _) = pid_allocator::inspect(source)?;
    let times = directory::read_times(source).map_err(OpenError::from)?;
    let (floor, format) = {
        let mut random = core.random.lock();
        (bound.saturating_add(random.gap()), random.format())
    };
    for log in held {
        let end = log.end();
        report.linked += log.linked();
        report.end_offsets.insert(log.name().to_owned(), end);
        if !log.copy(target, (floor, times.elapsed_ms))? {
            return Ok(None);
        }
    }
    lineage::begin(target, times, floor)?;
    names::write(&**target, &cut.names).map_err(|e| io(target, names::FILE, e))?;
    directory::write_topics(&**target, &cut.topics)
        .map_err(|e| io(target, directory::TOPICS, e))?;
    directory::write_format(&**target, &format).map_err(|e| io(target, directory::FORMAT, e))?;
    files::count(target, &mut report)?;
    Ok(Some(report))
}
