//! The data directory's own files: format gate, lock, generation, topics.

use std::any::Any;
use std::sync::Arc;

use partition_log::Now;
use segment_storage::{Disk, SlotError, SlotFile, StateFileError, codec, state_file};
use serde::{Deserialize, Serialize};
use sync::Mutex;

use crate::config::Create;
use crate::env::Env;
use crate::error::OpenError;
use crate::names::{self, Names};
use crate::wording;

/// The lock, held while a writer has the directory open (I14).
pub(crate) const LOCK: &str = "lock";
/// The format gate: there exactly when the directory is an oncelog data directory.
pub(crate) const FORMAT: &str = "format";
/// Generation and elapsed time.
pub(crate) const GENERATION: &str = "generation";
/// All topics.
pub(crate) const TOPICS: &str = "topics";

/// All of its files.
pub(crate) const OWN: [&str; 6] = [
    LOCK,
    FORMAT,
    GENERATION,
    TOPICS,
    names::FILE,
    pid_allocator::FILE_NAME,
];

const FORMAT_MAGIC: [u8; 4] = *b"OLFM";
const GENERATION_MAGIC: [u8; 4] = *b"OLGN";
const TOPICS_MAGIC: [u8; 4] = *b"OLTP";
const VERSION: u16 = 1;

/// Longest downtime that counts as elapsed time, a day: the wall clock may have jumped (R24).
const DOWNTIME_MS_MAX: i64 = 86_400_000;

/// What a release must know to use the directory. Features that it does not know refuse it by
/// name; of the compatible ones it may still read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Format {
    /// Random; a restored backup gets another (I19).
    pub(crate) lineage: u128,
    pub(crate) incompatible_features: u64,
    pub(crate) compatible_features: u64,
}

/// How often the directory was opened for writing, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    pub(crate) generation: i32,
    #[serde(deserialize_with = "codec::number")]
    pub(crate) elapsed_ms: u64,
    pub(crate) wall_ms: i64,
}

/// Whether a topic is whole, or a crash interrupted its making or removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    Creating,
    Ready,
    Deleting,
}

/// A topic as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicEntry {
    pub(crate) name: String,
    pub(crate) id: u128,
    pub(crate) partitions: u32,
    pub(crate) config: Vec<(String, String)>,
    pub(crate) stage: Stage,
}

/// The directory of an open engine that writes.
pub(crate) struct Directory {
    disk: Arc<dyn Disk>,
    format: Format,
    generation: SlotFile,
    number: i32,
    identities: Mutex<u64>,
    lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

fn io(disk: &Arc<dyn Disk>, name: &str, source: std::io::Error) -> OpenError {
    OpenError::Io {
        file: disk.display(name),
        source,
    }
}

impl Directory {
    /// Locks the directory, makes it if it is to be made, and begins a new generation.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(env: &Env, create: Create) -> Result<(Directory, Now, bool), OpenError> {
        let disk = &env.disk;
        let lock = lock(env)?;
        let is_new = !exists(disk)?;
        match (is_new, create) {
            (true, Create::Never) => {
                return Err(OpenError::Missing {
                    directory: disk.display(""),
                });
            }
            (false, Create::New) => {
                return Err(OpenError::Exists {
                    directory: disk.display(""),
                });
            }
            (true, _) => make(env)?,
            (false, _) => {}
        }
        // What a killed process renamed may not be durable yet; what is built on it now must not
        // be undone by a power cut (R16).
        disk.sync_names("").map_err(|e| io(disk, "", e))?;
        let format = read_format(disk)?;
        let generation = SlotFile::open(disk, "", GENERATION, GENERATION_MAGIC, 1)?;
        generation.settle().map_err(|e| io(disk, GENERATION, e))?;
        let before: Generation = generation.read(0)?;
        let wall_ms = env.clock.wall_ms();
        let downtime = wall_ms
            .saturating_sub(before.wall_ms)
            .clamp(0, DOWNTIME_MS_MAX);
        let elapsed_ms = before.elapsed_ms + u64::try_from(downtime).unwrap_or(0);
        let number = before.generation.saturating_add(1);
        let directory = Directory {
            disk: disk.clone(),
            format,
            generation,
            number,
            // Another row in each generation, also where all have the same seed.
            identities: Mutex::new(env.seed ^ u64::from(number.unsigned_abs()).rotate_left(32)),
            lock: Mutex::new(Some(lock)),
        };
        let now = Now {
            elapsed_ms,
            wall_ms,
        };
        directory
            .save_time(now)
            .map_err(|e| io(disk, GENERATION, e))?;
        Ok((directory, now, is_new))
    }

    /// The generation of this open.
    pub(crate) fn generation(&self) -> i32 {
        self.number
    }

    /// Lets another engine have the directory. Nothing may be written after it.
    pub(crate) fn unlock(&self) {
        drop(self.lock.lock().take());
    }

    /// Writes generation and elapsed time, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn save_time(&self, now: Now) -> std::io::Result<()> {
        let value = Generation {
            generation: self.number,
            elapsed_ms: now.elapsed_ms.min(codec::NUMBER_MAX),
            wall_ms: now.wall_ms,
        };
        self.generation.write(0, &value)?;
        self.generation.sync()?;
        // Into the other slot, too: were this one damaged, the next open would take the generation again.
        let _ = self.generation.repeat::<Generation>(0);
        Ok(())
    }

    /// Replaces the list of topics, durably.
    ///
    /// # Errors
    /// What the disk says; the old list stays.
    pub(crate) fn write_topics(&self, topics: &[TopicEntry]) -> std::io::Result<()> {
        write_topics(&*self.disk, topics)
    }

    /// An identity that no other log of this lineage has.
    pub(crate) fn fresh_identity(&self) -> u128 {
        let mut state = self.identities.lock();
        let mut half = || {
            // SplitMix64 (Steele, Lea, Flood 2014).
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        (u128::from(half()) << 64 | u128::from(half())) ^ self.format.lineage
    }
}

/// Takes the directory's lock.
///
/// # Errors
/// [`OpenError::DirectoryInUse`], or what the disk says.
pub(crate) fn lock(env: &Env) -> Result<Box<dyn Any + Send + Sync>, OpenError> {
    let disk = &env.disk;
    let holder = holder(env);
    disk.lock(LOCK, &holder)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::DirectoryInUse {
                directory: disk.display(""),
                holder: match disk.lock_holder(LOCK) {
                    Ok(Some(text)) if !text.is_empty() => wording::holder_now(&text, &*env.clock),
                    _ => "another process".to_owned(),
                },
            },
            _ => io(disk, LOCK, error),
        })
}

/// Whether the disk holds a data directory.
fn exists(disk: &Arc<dyn Disk>) -> Result<bool, OpenError> {
    let entries = disk.list("").map_err(|e| io(disk, "", e))?;
    if entries.iter().any(|e| e.name == FORMAT) {
        return Ok(true);
    }
    // What an interrupted making leaves may be made again; anything else is somebody's.
    let ours = |name: &str| {
        let whole = name
            .strip_suffix(state_file::TEMPORARY_SUFFIX)
            .unwrap_or(name);
        OWN.contains(&whole)
    };
    match entries.iter().find(|e| !ours(&e.name)) {
        Some(foreign) => Err(OpenError::NotADataDirectory {
            directory: disk.display(""),
            entry: foreign.name.clone(),
        }),
        None => Ok(false),
    }
}

/// Makes the files of a new directory; the format gate last, for it says that the rest is whole.
fn make(env: &Env) -> Result<(), OpenError> {
    let disk = &env.disk;
    let zero = Generation {
        generation: 0,
        elapsed_ms: 0,
        wall_ms: env.clock.wall_ms(),
    };
    SlotFile::create(disk, "", GENERATION, GENERATION_MAGIC, 1, |slots| {
        slots.write(0, &zero)
    })
    .map_err(|e| io(disk, GENERATION, e))?;
    let none: [TopicEntry; 0] = [];
    state_file::write(&**disk, "", TOPICS, TOPICS_MAGIC, VERSION, &none.as_slice())
        .map_err(|e| io(disk, TOPICS, e))?;
    Names::create(&**disk).map_err(|e| io(disk, names::FILE, e))?;
    match pid_allocator::PidAllocator::create(disk.clone()) {
        // Left by a making that was interrupted. No id of it can be in use, but none is repeated.
        Err(pid_allocator::AllocateError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => drop(made?),
    }
    let lineage = u128::from(env.seed) << 64 | u128::from(env.seed.rotate_left(17));
    let format = Format {
        lineage,
        incompatible_features: 0,
        compatible_features: 0,
    };
    state_file::write(&**disk, "", FORMAT, FORMAT_MAGIC, VERSION, &format)
        .map_err(|e| io(disk, FORMAT, e))
}

/// Reads the format gate and refuses what this release does not know.
///
/// # Errors
/// [`OpenError::NewerFormat`], or that the file is missing or damaged.
pub(crate) fn read_format(disk: &Arc<dyn Disk>) -> Result<Format, OpenError> {
    let format: Option<Format> = state_file::read(&**disk, FORMAT, FORMAT_MAGIC, VERSION)?;
    let format = format.ok_or_else(|| OpenError::Missing {
        directory: disk.display(""),
    })?;
    if format.incompatible_features != 0 {
        let (file, features) = (disk.display(FORMAT), format.incompatible_features);
        return Err(OpenError::NewerFormat { file, features });
    }
    Ok(format)
}

/// Reads the generation as its file has it, and how many of its slots are damaged or torn.
///
/// # Errors
/// When the file is missing or damaged.
pub(crate) fn read_generation(disk: &Arc<dyn Disk>) -> Result<(i32, usize), SlotError> {
    let slots = SlotFile::open(disk, "", GENERATION, GENERATION_MAGIC, 1)?;
    let damaged = slots.damaged_slots(0)?;
    let Generation { generation, .. } = slots.read(0)?;
    Ok((generation, damaged))
}

/// Reads the list of topics.
///
/// # Errors
/// When the file is missing or damaged.
pub(crate) fn read_topics(disk: &Arc<dyn Disk>) -> Result<Vec<TopicEntry>, OpenError> {
    let topics = state_file::read(&**disk, TOPICS, TOPICS_MAGIC, VERSION)?;
    let file = || disk.display(TOPICS);
    Ok(topics.ok_or_else(|| StateFileError::Missing { file: file() })?)
}

/// Generation and elapsed time as their file has them.
///
/// # Errors
/// When the file is missing or damaged.
pub(crate) fn read_times(disk: &Arc<dyn Disk>) -> Result<Generation, SlotError> {
    SlotFile::open(disk, "", GENERATION, GENERATION_MAGIC, 1)?.read(0)
}

/// Makes the file of generation and elapsed time, or puts a new one in its place, durably.
///
/// # Errors
/// What the disk says.
pub(crate) fn replace_times(disk: &Arc<dyn Disk>, times: &Generation) -> std::io::Result<()> {
    SlotFile::create(disk, "", GENERATION, GENERATION_MAGIC, 1, |slots| {
        // Into both slots: that one of them is not valid shall mean damage.
        slots.write(0, times)?;
        slots.write(0, times)
    })
    .map(drop)
}

/// Writes the list of topics, durably.
///
/// # Errors
/// What the disk says; the old list stays.
pub(crate) fn write_topics(disk: &dyn Disk, topics: &[TopicEntry]) -> std::io::Result<()> {
    state_file::write(disk, "", TOPICS, TOPICS_MAGIC, VERSION, &topics)
}

/// Writes the format gate, durably.
///
/// # Errors
/// What the disk says; the old one stays.
pub(crate) fn write_format(disk: &dyn Disk, format: &Format) -> std::io::Result<()> {
    state_file::write(disk, "", FORMAT, FORMAT_MAGIC, VERSION, format)
}

/// What the lock says of its holder: for people, nothing decides by it.
fn holder(env: &Env) -> String {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    wording::holder(std::process::id(), &host, &*env.clock)
}
