//! The directory's own files: what they must say where they do not say it any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use pid_allocator::AllocateError;
use segment_storage::{
    Disk, Footer, Marks, SlotError, StateFileError, codec::CodecError, footer, names as file_names,
    slot_file::SLOT_BYTES, state_file,
};

use super::rebuild::{ASIDE, UNFINISHED, free_name};
use super::survey::Survey;
use super::{RepairError, RepairOptions, RepairReport, io};
use crate::directory::{self, Format, GENERATION, Generation, Stage, TOPICS, TopicEntry};
use crate::error::OpenError;
use crate::names::{self, Identity};
use crate::topics;

/// How far above the highest id seen a floor is safe that is proposed: further than ids that were
/// handed out and never used can be.
const PROPOSED_GAP: i64 = 1 << 32;

/// The directory's own files as they are.
pub(super) struct Own {
    pub(super) format: Result<Format, OpenError>,
    pub(super) times: Result<Generation, SlotError>,
    is_times_file_whole: bool,
    ids: Result<(i64, usize), AllocateError>,
    is_ids_file_long: bool,
    names: Result<BTreeMap<String, Identity>, StateFileError>,
    topics: Result<Vec<TopicEntry>, OpenError>,
}

// Of another release: nothing may be written over it (I26).
fn is_of_another_release(error: &OpenError) -> bool {
    let of_codec = |source: &CodecError| {
        matches!(
            source,
            CodecError::NewerVersion { .. } | CodecError::OlderVersion { .. } | CodecError::Body(_)
        )
    };
    match error {
        OpenError::NewerFormat { .. } => true,
        OpenError::StateFile(StateFileError::Codec { source, .. })
        | OpenError::SlotFile(SlotError::Codec { source, .. }) => of_codec(source),
        OpenError::StateFile(StateFileError::Io { .. }) => true,
        _ => false,
    }
}

impl Own {
    /// Reads them.
    ///
    /// # Errors
    /// When one is of another release, or the system refuses.
    pub(super) fn read(disk: &Arc<dyn Disk>) -> Result<Own, RepairError> {
        let format = directory::read_format(disk);
        let topics = directory::read_topics(disk);
        let names = names::read(&**disk);
        let times = directory::read_times(disk);
        let is_long = |name| {
            let file = disk.open(name);
            file.is_ok_and(|file| file.len() != 2 * SLOT_BYTES as u64)
        };
        let is_times_file_whole =
            matches!(directory::read_generation(disk), Ok((0.., 0))) && !is_long(GENERATION);
        let own = Own {
            format,
            is_times_file_whole,
            times,
            ids: pid_allocator::inspect(disk),
            is_ids_file_long: is_long(pid_allocator::FILE_NAME),
            names,
            topics,
        };
        let own = own.check()?;
        Ok(own)
    }

    fn check(mut self) -> Result<Own, RepairError> {
        self.format = refused(self.format)?;
        self.topics = refused(self.topics)?;
        self.names = match refused(self.names.map_err(OpenError::from))? {
            Ok(names) => Ok(names),
            Err(OpenError::StateFile(error)) => Err(error),
            Err(other) => return Err(other.into()),
        };
        if let Err(error @ SlotError::Codec { .. }) = self.times {
            return Err(RepairError::Release(error));
        }
        if let Err(error @ (AllocateError::Unreadable(_) | AllocateError::Io { .. })) = self.ids {
            return Err(RepairError::ProducerIds(error));
        }
        Ok(self)
    }

    pub(super) fn are_ids_damaged(&self) -> bool {
        !matches!(self.ids, Ok((_, 0))) || self.is_ids_file_long
    }

    pub(super) fn are_times_damaged(&self) -> bool {
        !self.is_times_file_whole
    }

    pub(super) fn are_times_changed(&self, times: &Generation) -> bool {
        self.are_times_damaged() || self.times.as_ref().is_ok_and(|own| own != times)
    }

    pub(super) fn highest_named_id(&self) -> i64 {
        let names = self.names.as_ref().ok();
        let ids = names
            .into_iter()
            .flatten()
            .map(|(_, identity)| identity.producer_id);
        ids.max().unwrap_or(-1)
    }

    /// Below which number every producer id is, from now on; `None` where somebody has to say it.
    ///
    /// # Errors
    /// [`RepairError::FloorTooLow`].
    pub(super) fn id_bound(
        &self,
        disk: &Arc<dyn Disk>,
        options: &RepairOptions,
        highest: i64,
        report: &mut RepairReport,
    ) -> Result<Option<i64>, RepairError> {
        let file = disk.display(pid_allocator::FILE_NAME);
        // With one slot lost, opening skips what that may have reserved; so does this.
        let known = match self.ids {
            Ok((bound, 0)) => Some(bound),
            Ok((bound, _)) => Some(bound.saturating_add(pid_allocator::SKIP)),
            Err(_) => None,
        };
        let least = highest.max(known.unwrap_or(0) - 1);
        if let Some(floor) = options.producer_id_floor {
            if floor <= least {
                return Err(RepairError::FloorTooLow {
                    floor,
                    highest: least,
                });
            }
            report.step(file, format!("producer ids from {floor} on are handed out"));
            return Ok(Some(floor));
        }
        match known {
            Some(bound) if bound > highest => {
                if self.are_ids_damaged() {
                    let what = "one of its two slots is damaged, or it is too long: it is written \
                                anew, past every id that the lost slot can have reserved";
                    report.step(file, what);
                }
                Ok(Some(bound))
            }
            _ => {
                let (found, floor) = match known {
                    Some(bound) => (
                        format!(
                            "it says that ids from {bound} on are free, but {highest} is in use"
                        ),
                        highest.saturating_add(PROPOSED_GAP),
                    ),
                    None => (
                        "what it says is lost".to_owned(),
                        highest.saturating_add(PROPOSED_GAP),
                    ),
                };
                report.refuse(
                    file,
                    format!(
                        "{found}, and an id may be in use that no log shows. The highest in the logs \
                         and names is {highest}. Run `oncelog repair --apply --producer-id-floor N` \
                         with N above every producer id ever handed out; {floor} is, if fewer than \
                         2^32 were handed out and never used"
                    ),
                );
                Ok(None)
            }
        }
    }

    /// Generation and elapsed time, from the file or, where that is lost, from the logs.
    pub(super) fn times_now(
        &self,
        disk: &Arc<dyn Disk>,
        highest: i32,
        wall_ms: i64,
        report: &mut RepairReport,
    ) -> Generation {
        let file = disk.display(GENERATION);
        let known = self.times.as_ref().ok().copied();
        let known = known.filter(|times| times.generation >= 0);
        if self.is_times_file_whole
            && let Some(times) = known
            && times.generation >= highest
        {
            return times;
        }
        let generation = known
            .map_or(0, |times| times.generation)
            .max(highest)
            .saturating_add(1);
        let elapsed_ms = known.map_or(0, |times| times.elapsed_ms);
        let what = format!(
            "it is damaged, or behind the logs: it goes on with generation {generation}, above every \
             one that is stamped into a batch"
        );
        report.step(file, what);
        Generation {
            generation,
            elapsed_ms,
            wall_ms,
        }
    }

    /// Writes the list of topics and the names anew where they were damaged.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn replace(
        &self,
        disk: &Arc<dyn Disk>,
        topics: &[TopicEntry],
        report: &mut RepairReport,
    ) -> Result<(), RepairError> {
        let is_same = self.topics.as_ref().is_ok_and(|own| own == topics);
        if !is_same {
            set_aside_if_damaged(disk, TOPICS, true, report)?;
            directory::write_topics(&**disk, topics).map_err(|e| io(disk, TOPICS, e))?;
        }
        if self.names.is_err() {
            set_aside_if_damaged(disk, names::FILE, true, report)?;
            names::write(&**disk, &BTreeMap::new()).map_err(|e| io(disk, names::FILE, e))?;
        }
        Ok(())
    }
}

fn refused<T>(read: Result<T, OpenError>) -> Result<Result<T, OpenError>, RepairError> {
    match read {
        Err(error) if is_of_another_release(&error) => Err(error.into()),
        other => Ok(other),
    }
}

/// Copies a damaged file beside itself, before another one takes its place.
///
/// # Errors
/// What the disk says.
pub(super) fn set_aside_if_damaged(
    disk: &Arc<dyn Disk>,
    name: &str,
    is_damaged: bool,
    report: &mut RepairReport,
) -> Result<(), RepairError> {
    if !is_damaged {
        return Ok(());
    }
    let Ok(file) = disk.open(name) else {
        return Ok(());
    };
    let aside = free_name(disk, name)?;
    crate::backup::files::copy_range(&*file, (0, file.len()), disk, &aside)
        .and_then(|_| disk.sync_names(""))
        .map_err(|e| io(disk, &aside, e))?;
    report.set_aside.push(disk.display(&aside));
    Ok(())
}

/// The topics: as listed, with those that the list does not know but whose logs are there.
///
/// # Errors
/// When logs cannot be read.
pub(super) fn topics(
    disk: &Arc<dyn Disk>,
    own: &Own,
    report: &mut RepairReport,
) -> Result<Vec<TopicEntry>, RepairError> {
    let file = disk.display(TOPICS);
    if own.names.is_err() {
        let what = "the names are lost, and nothing else tells which producer id a name has: each \
                    name begins anew, and stores again what its source sends again. Put an undamaged \
                    copy of the file back first, if there is one";
        report.step(disk.display(names::FILE), what);
        let (from, to) = (0, disk.open(names::FILE).map_or(0, |file| file.len()));
        let file = disk.display(names::FILE);
        let offsets = None;
        report.given_up.push(super::GivenUp {
            file,
            from,
            to,
            offsets,
        });
    }
    let mut topics = own
        .topics
        .as_ref()
        .map_or_else(|_| Vec::new(), Clone::clone);
    if own.topics.is_err() {
        let what = "it is lost: made anew from the directories of the logs";
        report.step(file.as_str(), what);
    }
    for entry in disk.list("").map_err(|e| io(disk, "", e))? {
        if !entry.is_directory || entry.name.contains(ASIDE) || entry.name.ends_with(UNFINISHED) {
            continue;
        }
        let Some((name, partition)) = split(&entry.name) else {
            continue;
        };
        let listed = topics.iter_mut().find(|topic| topic.name == name);
        if listed
            .as_ref()
            .is_some_and(|topic| topic.stage != Stage::Ready || partition < topic.partitions)
        {
            continue;
        }
        let shown = disk.display(&entry.name);
        let Some(log_id) = log_id(disk, &entry.name) else {
            if is_log(disk, &entry.name) {
                let what = "a log that no topic has, and of which nothing says whose it is; move it away, or put its file `marks` back";
                report.refuse(shown, what);
            }
            continue;
        };
        let id = (log_id ^ u128::from(partition)).rotate_right(32);
        // The list is whole and knows the topic: adding the partition was interrupted, or failed, and
        // nobody wrote to it. Adding partitions again takes it over.
        if own.topics.is_ok()
            && listed.as_ref().is_some_and(|topic| topic.id == id)
            && disk.list(&entry.name).is_ok_and(|files| files.len() == 1)
        {
            continue;
        }
        match listed {
            Some(topic) if topic.id == id => topic.partitions = partition + 1,
            Some(topic) => {
                let name = &topic.name;
                let what = format!("a log of another topic of the name {name}; move it away");
                report.refuse(shown, what);
                continue;
            }
            None => topics.push(TopicEntry {
                name: name.to_owned(),
                id,
                partitions: partition + 1,
                config: settings(disk, &entry.name, log_id)?,
                stage: Stage::Ready,
            }),
        }
        let what = format!(
            "it belongs to no topic: it becomes partition {partition} of {name}, with default settings \
             where it is the first (ack synced, nothing is deleted)"
        );
        report.step(shown, what);
    }
    Ok(topics)
}

fn split(folder: &str) -> Option<(&str, u32)> {
    let (name, number) = folder.rsplit_once('-')?;
    let partition = number.parse().ok()?;
    let is_exact = crate::error::LogName(name, partition).to_string() == folder;
    (is_exact && topics::check_name(name).is_ok() && partition < topics::PARTITIONS_MAX)
        .then_some((name, partition))
}

fn is_log(disk: &Arc<dyn Disk>, directory: &str) -> bool {
    let files = disk.list(directory).unwrap_or_default();
    files
        .iter()
        .any(|file| file.name.ends_with(".log") || file.name == segment_storage::marks::FILE)
}

// Which log it is, by its marks or, without them, by a footer.
fn log_id(disk: &Arc<dyn Disk>, directory: &str) -> Option<u128> {
    if let Ok(marks) = Marks::open(disk, directory) {
        return Some(marks.log_id());
    }
    let files = disk.list(directory).ok()?;
    files.iter().find_map(|file| {
        file_names::offset_of(&file.name, "footer")?;
        let path = file_names::join(directory, &file.name);
        let (magic, version) = (footer::MAGIC, footer::VERSION);
        let footer: Option<Footer> = state_file::read(&**disk, &path, magic, version).ok()?;
        footer.map(|footer| footer.log_id)
    })
}

// What of the settings shows in the batches: a repeat is compared with other bytes there.
fn settings(
    disk: &Arc<dyn Disk>,
    directory: &str,
    log_id: u128,
) -> Result<Vec<(String, String)>, RepairError> {
    let place = segment_storage::Place {
        disk: disk.clone(),
        directory: directory.into(),
        log_id,
    };
    let survey = Survey::of(place, None)?;
    let time = (
        "message.timestamp.type".to_owned(),
        "LogAppendTime".to_owned(),
    );
    Ok(if survey.is_log_append_time {
        vec![time]
    } else {
        Vec::new()
    })
}
