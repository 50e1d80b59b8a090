//! Making a damaged data directory one that opens: what is whole is kept, what is not is given up,
//! and nothing is thrown away.
//!
//! A log in which something is damaged below its stable mark is made anew of its whole batches, in
//! a directory of its own, which then takes the place of the damaged one. The engine's own files are
//! replaced where what they must say follows from the rest, taken for the worst: ids, generations
//! and offsets are skipped, never repeated. What does not follow is not guessed: it is refused, or
//! asked for. Whatever is replaced is set aside under a name with `.damaged.` in it.

mod own;
mod rebuild;
mod resync;
mod survey;

use std::io;
use std::path::Path;
use std::sync::Arc;

use pid_allocator::AllocateError;
use segment_storage::{Disk, Marks, Place, SlotError, names};

use self::own::Own;
use self::rebuild::{Surroundings, UNFINISHED};
use self::survey::Survey;
use crate::config::TopicConfig;
use crate::directory::{self, FORMAT, GENERATION, LOCK, Stage, TOPICS, TopicEntry};
use crate::env::Env;
use crate::error::{LogName, OpenError};
use crate::inspect::{self, Depth, InspectError, Problem};
use crate::lineage::{self, Random};
use crate::topics;
use crate::wording;

pub(crate) use self::rebuild::ASIDE;

/// What a repair may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Do it. Otherwise it is only said what would be done, and nothing is written.
    pub apply: bool,
    /// Begin a new lineage, as is needed where a directory went back in time: after a copy of its
    /// files was put back. Not needed for what [`Engine::snapshot_to`](crate::Engine::snapshot_to) made.
    pub new_lineage: bool,
    /// Have producer ids from here on handed out. Asked for where the allocator's file is lost:
    /// only who knows every id that was ever handed out can say it.
    pub producer_id_floor: Option<i64>,
}

/// Bytes, and records, that a repair gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// The file, as it is called before the repair.
    pub file: String,
    /// First byte.
    pub from: u64,
    /// The byte after the last; as `from` where the file is missing.
    pub to: u64,
    /// The offsets that are lost with it, from the first to the one after the last; `None` where it
    /// holds none, or where nobody can tell.
    pub offsets: Option<(u64, u64)>,
}

/// Something that is wrong, and what is done about it or why nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file or directory.
    pub file: String,
    /// What is wrong and what follows.
    pub what: String,
}

/// What a repair did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Whether it was done.
    pub applied: bool,
    /// Batches that are kept.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What is given up, byte by byte.
    pub given_up: Vec<GivenUp>,
    /// What is done.
    pub steps: Vec<Finding>,
    /// What is not, and what it takes.
    pub refused: Vec<Finding>,
    /// Where what was replaced is kept. Remove it when nothing of it is needed any more.
    pub set_aside: Vec<String>,
}

impl RepairReport {
    /// Whether there was nothing to do.
    pub fn is_whole(&self) -> bool {
        self.steps.is_empty() && self.refused.is_empty()
    }

    fn step(&mut self, file: impl Into<String>, what: impl Into<String>) {
        let (file, what) = (file.into(), what.into());
        self.steps.push(Finding { file, what });
    }

    fn refuse(&mut self, file: impl Into<String>, what: impl Into<String>) {
        let (file, what) = (file.into(), what.into());
        self.refused.push(Finding { file, what });
    }
}

/// Why a directory cannot be repaired at all. What was done until then is done, and the repair can
/// be run again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// It is in use, missing, or of another release.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be checked.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// An undamaged file of another release.
    #[error("{0}; nothing was changed, use the release that wrote it")]
    Release(SlotError),
    /// A file cannot be read.
    #[error(transparent)]
    Slots(SlotError),
    /// The floor for producer ids is too low, or too high.
    #[error(
        "producer id floor {floor} is not above {highest}, the highest id that is known to be in use"
    )]
    FloorTooLow {
        /// What was given.
        floor: i64,
        /// Highest id seen in the logs and names, or handed out by what the allocator says.
        highest: i64,
    },
    /// The allocator's file cannot be replaced.
    #[error(transparent)]
    ProducerIds(#[from] AllocateError),
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// File or directory.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

fn io(disk: &Arc<dyn Disk>, name: &str, source: io::Error) -> RepairError {
    RepairError::Io {
        file: disk.display(name),
        source,
    }
}

/// Repairs the data directory at `path`, or says what that would take. Takes the directory's lock
/// when it writes; nobody else may have it open either way.
///
/// # Errors
/// [`RepairError`]. What cannot be repaired is none: see [`RepairReport::refused`].
pub fn repair(path: &Path, options: &RepairOptions) -> Result<RepairReport, RepairError> {
    let missing = || OpenError::Missing {
        directory: path.display().to_string(),
    };
    if !path.is_dir() {
        return Err(missing().into());
    }
    let env = if options.apply {
        Env::os(path)
    } else {
        Env::os_read_only(path)
    };
    let env = env.map_err(|source| RepairError::Io {
        file: path.display().to_string(),
        source,
    })?;
    repair_env(&env, options)
}

/// As [`repair`], on any disk.
///
/// # Errors
/// As [`repair`].
pub fn repair_env(env: &Env, options: &RepairOptions) -> Result<RepairReport, RepairError> {
    let disk = &env.disk;
    let entries = disk.list("").map_err(|e| io(disk, "", e))?;
    let known = [FORMAT, GENERATION, TOPICS, pid_allocator::FILE_NAME];
    if !entries.iter().any(|entry| known.contains(&&*entry.name)) {
        let directory = disk.display("");
        return Err(OpenError::Missing { directory }.into());
    }
    let _lock = if options.apply {
        Some(directory::lock(env)?)
    } else if let Some(holder) = disk.lock_holder(LOCK).map_err(|e| io(disk, LOCK, e))? {
        let directory = disk.display("");
        let holder = wording::holder_now(&holder, &*env.clock);
        return Err(OpenError::DirectoryInUse { directory, holder }.into());
    } else {
        None
    };
    Repair {
        env,
        options,
        report: RepairReport {
            applied: options.apply,
            ..RepairReport::default()
        },
    }
    .run()
}

struct Repair<'a> {
    env: &'a Env,
    options: &'a RepairOptions,
    report: RepairReport,
}

/// A log, and what it belongs to.
struct Log {
    survey: Survey,
    config: TopicConfig,
}

impl Repair<'_> {
    fn run(mut self) -> Result<RepairReport, RepairError> {
        let disk = &self.env.disk;
        let own = Own::read(disk)?;
        self.finish_interrupted()?;
        let newest = own.times.as_ref().ok().map(|times| times.generation);
        let topics = own::topics(disk, &own, &mut self.report)?;
        let mut logs = Vec::new();
        for topic in topics.iter().filter(|topic| topic.stage == Stage::Ready) {
            let Ok(config) = topics::config_of(topic) else {
                let what = format!("topic {} has settings that are none", topic.name);
                self.report.refuse(disk.display(TOPICS), what);
                continue;
            };
            for partition in 0..topic.partitions {
                let survey = Survey::of(self.place(topic, partition), newest)?;
                let config = config.clone();
                logs.push(Log { survey, config });
            }
        }
        let highest = logs
            .iter()
            .fold((own.highest_named_id(), 0), |(id, generation), log| {
                let (other, later) = log.survey.highest;
                (other.max(id), later.max(generation))
            });
        // All that is refused is known before anything is written.
        let bound = own.id_bound(disk, self.options, highest.0, &mut self.report)?;
        let mut random = Random::new(self.env.seed ^ self.env.clock.wall_ms().unsigned_abs());
        let is_new_lineage = self.options.new_lineage || own.format.is_err();
        let bound = bound.map(|bound| match is_new_lineage {
            true => bound.saturating_add(random.gap()),
            false => bound,
        });
        let wall_ms = self.env.clock.wall_ms();
        let times = own.times_now(disk, highest.1, wall_ms, &mut self.report);
        for log in &logs {
            self.mend_log(log, bound.unwrap_or(i64::MAX), &times)?;
        }
        if self.options.apply {
            // The list names only logs that are whole.
            own.replace(disk, &topics, &mut self.report)?;
        }
        if is_new_lineage {
            let what = "a new lineage begins: producer ids are skipped by a random number above \
                        2^32, the generation is raised";
            self.report.step(disk.display(FORMAT), what);
        }
        if self.options.apply {
            self.replace_times(&own, bound, is_new_lineage, &times, &logs)?;
            if is_new_lineage {
                own::set_aside_if_damaged(disk, FORMAT, own.format.is_err(), &mut self.report)?;
                directory::write_format(&**disk, &random.format())
                    .map_err(|e| io(disk, FORMAT, e))?;
            }
        }
        self.mend_caches()?;
        Ok(self.report)
    }

    fn place(&self, topic: &TopicEntry, partition: u32) -> Place {
        let disk = &self.env.disk;
        let mut directory = LogName(&topic.name, partition).to_string();
        let unfinished = format!("{directory}{UNFINISHED}");
        // Where nothing is written, a log that an interrupted repair made is there under that name.
        if !self.options.apply
            && disk.list(&directory).is_err()
            && Marks::open(disk, &unfinished).is_ok()
        {
            directory = unfinished;
        }
        Place {
            disk: disk.clone(),
            directory: directory.into(),
            log_id: topics::log_id(topic.id, partition),
        }
    }

    // A log that is whole under its unfinished name takes its place; else that is begun again.
    fn finish_interrupted(&mut self) -> Result<(), RepairError> {
        let disk = &self.env.disk;
        for entry in disk.list("").map_err(|e| io(disk, "", e))? {
            let Some(name) = entry.name.strip_suffix(UNFINISHED) else {
                continue;
            };
            let is_whole = Marks::open(disk, &entry.name).is_ok() && disk.list(name).is_err();
            let what = match is_whole {
                true => "an interrupted repair had it made anew: it takes the log's place",
                false => "an interrupted repair left it: it is removed, and made again if needed",
            };
            self.report.step(disk.display(&entry.name), what);
            if self.options.apply {
                let done = match is_whole {
                    true => disk.rename(&entry.name, name),
                    false => disk.remove_directory(&entry.name),
                };
                done.and_then(|()| disk.sync_names(""))
                    .map_err(|e| io(disk, &entry.name, e))?;
            }
        }
        Ok(())
    }

    fn mend_log(
        &mut self,
        log: &Log,
        id_bound: i64,
        times: &directory::Generation,
    ) -> Result<(), RepairError> {
        let survey = &log.survey;
        self.report.batches += survey.batches;
        self.report.records += survey.records;
        self.report.bytes += survey.bytes;
        if survey.damage.is_empty() {
            return Ok(());
        }
        self.report.given_up.extend(survey.given_up.iter().cloned());
        let shown = survey.place.display("");
        let directory = shown.trim_end_matches('/');
        for what in &survey.damage {
            let what = wording::without_file(directory, what.clone());
            let step = format!("{what}; the log is made anew of what is whole");
            self.report.step(directory, step);
        }
        if self.options.apply {
            let around = Surroundings {
                config: &log.config,
                id_bound,
                generation: times.generation,
                elapsed_ms: times.elapsed_ms,
            };
            if let Some(aside) = rebuild::rebuild(survey, &around)? {
                self.report
                    .set_aside
                    .push(survey.place.disk.display(&aside));
            }
        }
        Ok(())
    }

    fn replace_times(
        &mut self,
        own: &Own,
        bound: Option<i64>,
        is_new_lineage: bool,
        times: &directory::Generation,
        logs: &[Log],
    ) -> Result<(), RepairError> {
        let disk = &self.env.disk;
        if let Some(bound) = bound
            && (is_new_lineage || own.are_ids_damaged() || self.options.producer_id_floor.is_some())
        {
            let is_damaged = own.are_ids_damaged();
            own::set_aside_if_damaged(
                disk,
                pid_allocator::FILE_NAME,
                is_damaged,
                &mut self.report,
            )?;
            pid_allocator::raise_floor(disk, bound)?;
        }
        if own.are_times_changed(times) || is_new_lineage {
            own::set_aside_if_damaged(disk, GENERATION, own.are_times_damaged(), &mut self.report)?;
            let times = directory::Generation {
                generation: times.generation.saturating_add(i32::from(is_new_lineage)),
                ..*times
            };
            directory::replace_times(disk, &times).map_err(|e| io(disk, GENERATION, e))?;
        }
        for log in logs.iter().filter(|_| is_new_lineage) {
            let directory = &log.survey.place.directory;
            let marks = Marks::open(disk, directory).map_err(RepairError::Slots)?;
            lineage::be_strict_below(&marks, bound.unwrap_or(0))
                .map_err(|e| io(disk, directory, e))?;
        }
        Ok(())
    }

    // What can be made anew from the logs is set aside; opening makes it. What else does not hold is
    // left, and said.
    fn mend_caches(&mut self) -> Result<(), RepairError> {
        let disk = &self.env.disk;
        let is_cache = |name: &str| {
            names::offset_of(name, "index").is_some()
                || names::offset_of(name, "snapshot").is_some()
        };
        let mut caches = Vec::new();
        for entry in disk.list("").map_err(|e| io(disk, "", e))? {
            if entry.is_directory && !entry.name.contains(ASIDE) {
                let files = disk
                    .list(&entry.name)
                    .map_err(|e| io(disk, &entry.name, e))?;
                let paths = files.iter().filter(|file| is_cache(&file.name));
                caches.extend(paths.map(|file| names::join(&entry.name, &file.name)));
            }
        }
        let mut problems = inspect::verify_disk(disk, Depth::Batches)?.problems;
        let flagged = |problems: &[Problem], path: &str| {
            let shown = disk.display(path);
            problems.iter().any(|problem| problem.file == shown)
        };
        let mut is_any = false;
        for path in caches.iter().filter(|path| flagged(&problems, path)) {
            is_any = true;
            let what = match path.ends_with(".index") {
                true => "it is set aside: opening makes it anew from the log",
                false => {
                    "it is set aside: opening makes it anew from the log, or refuses producers \
                     that it alone knew"
                }
            };
            self.report.step(disk.display(path), what);
            if self.options.apply {
                let aside = rebuild::free_name(disk, &path.replace('/', "."))?;
                disk.rename(path, &aside)
                    .and_then(|()| disk.sync_names(""))
                    .map_err(|e| io(disk, path, e))?;
                self.report.set_aside.push(disk.display(&aside));
            }
        }
        if !self.options.apply {
            return Ok(());
        }
        if is_any {
            problems = inspect::verify_disk(disk, Depth::Batches)?.problems;
        }
        for problem in problems {
            // Said already where it is refused.
            if !self.report.refused.iter().any(|f| f.file == problem.file) {
                self.report.refuse(problem.file, problem.what);
            }
        }
        Ok(())
    }
}
