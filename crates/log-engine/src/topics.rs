//! Topics: made, found and removed, so that a crash in between leaves a whole one or none.

use std::sync::Arc;

use partition_log::{OpenContext, Opened, PartitionLog, PartitionReader};
use pid_allocator::PidAllocator;
use segment_storage::{Corruption, LogFollower, LogView, Place, Recovered};
use sync::Mutex;

use crate::committer;
use crate::config::TopicConfig;
use crate::core::Core;
use crate::directory::{Stage, TopicEntry};
use crate::ends::State;
use crate::env::Time;
use crate::error::{LogName, OpenError, TopicError};
use crate::partition::{PartitionState, Source};
use crate::upkeep::{self, is_full};
use crate::wording;

/// Most partitions of a topic.
pub(crate) const PARTITIONS_MAX: u32 = 10_000;

/// A topic of an open engine.
pub(crate) struct TopicState {
    pub(crate) entry: TopicEntry,
    pub(crate) name: Arc<str>,
    pub(crate) config: TopicConfig,
    pub(crate) partitions: Vec<Arc<PartitionState>>,
}

/// Checks a topic's name before it reaches a path (I42).
///
/// # Errors
/// [`TopicError::IllegalName`].
pub(crate) fn check_name(name: &str) -> Result<(), TopicError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let ok = (1..=249).contains(&name.len()) && name.bytes().all(legal);
    if ok && name != "." && name != ".." {
        Ok(())
    } else {
        Err(TopicError::IllegalName {
            name: name.to_owned(),
        })
    }
}

fn check_partitions(partitions: u32) -> Result<(), TopicError> {
    if (1..=PARTITIONS_MAX).contains(&partitions) {
        return Ok(());
    }
    Err(TopicError::PartitionCount { partitions })
}

/// The identity of a topic's partition: no two logs of a lineage have the same.
pub(crate) fn log_id(topic_id: u128, partition: u32) -> u128 {
    topic_id.rotate_left(32) ^ u128::from(partition)
}

/// The settings of a stored topic. One that this release does not know was checked at the format
/// gate, so what is left are values that were valid when they were stored.
pub(crate) fn config_of(entry: &TopicEntry) -> Result<TopicConfig, TopicError> {
    let mut config = TopicConfig::default();
    for (key, value) in &entry.config {
        config.set(key, value)?;
    }
    Ok(config)
}

pub(crate) fn place(core: &Core, entry: &TopicEntry, partition: u32) -> Place {
    Place {
        disk: core.disk.clone(),
        directory: LogName(&entry.name, partition).to_string().into(),
        log_id: log_id(entry.id, partition),
    }
}

// Damage that leaves nothing of the log to serve; the other logs are served all the same.
fn corruption_of(place: &Place, error: &partition_log::OpenError) -> Option<Corruption> {
    use segment_storage::{OpenError as Storage, SlotError};
    let partition_log::OpenError::Storage(storage) = error else {
        return None;
    };
    let damaged = match storage {
        Storage::Marks(SlotError::Io { source, .. }) => {
            source.kind() == std::io::ErrorKind::NotFound
        }
        Storage::Marks(_) | Storage::Foreign { .. } => true,
        _ => false,
    };
    let file = match storage {
        Storage::Foreign { file, .. } => file.clone(),
        _ => place.display(segment_storage::marks::FILE),
    };
    damaged.then(|| Corruption {
        reason: wording::without_file(&file, storage.to_string()),
        file,
        position: 0,
        offset: 0,
    })
}

// Opens one log of a topic, for writing or, where another process writes it, for reading.
fn open_partition(
    core: &Core,
    (entry, name, config): (&TopicEntry, &Arc<str>, &TopicConfig),
    index: u32,
    context: Option<OpenContext>,
    report: &mut impl FnMut(String, Opened),
) -> Result<Arc<PartitionState>, OpenError> {
    let place = place(core, entry, index);
    let log = place.directory.to_string();
    let fail = |source| OpenError::Log {
        log: log.clone(),
        source,
    };
    let opened = match context {
        Some(context) => {
            PartitionLog::open(place.clone(), config.partition(), context).map(|(opened, found)| {
                report(log.clone(), found);
                (
                    opened.reader(),
                    Source::Writer(Box::new(Mutex::new(opened))),
                )
            })
        }
        None => LogFollower::open(place.clone())
            .map_err(Into::into)
            .map(|follower| {
                let reader = PartitionReader::new(follower.view().clone());
                (reader, Source::Follower(follower))
            }),
    };
    let (reader, source) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let Some(corruption) = corruption_of(&place, &error) else {
                return Err(fail(error));
            };
            let files = Recovered {
                corruption: Some(corruption.clone()),
                ..Default::default()
            };
            report(
                log.clone(),
                Opened {
                    files,
                    ..Opened::default()
                },
            );
            let view = Arc::new(LogView::empty(place));
            (PartitionReader::new(view), Source::Damaged(corruption))
        }
    };
    let id = (name.clone(), index);
    Ok(Arc::new(PartitionState::new(
        id,
        config.clone(),
        reader,
        source,
    )))
}

impl TopicState {
    /// Opens the logs of a topic, for writing or, where another process writes them, for reading.
    ///
    /// # Errors
    /// [`OpenError::Log`] naming the log.
    pub(crate) fn open(
        core: &Core,
        entry: TopicEntry,
        context: Option<OpenContext>,
        mut report: impl FnMut(String, Opened),
    ) -> Result<TopicState, OpenError> {
        let name: Arc<str> = entry.name.as_str().into();
        let config = check_name(&entry.name)
            .and_then(|()| check_partitions(entry.partitions))
            .and_then(|()| config_of(&entry))
            .map_err(|source| OpenError::Io {
                file: core.disk.display(crate::directory::TOPICS),
                source: std::io::Error::other(source),
            })?;
        let whole = (&entry, &name, &config);
        let open = |index| open_partition(core, whole, index, context, &mut report);
        let partitions = (0..entry.partitions).map(open).collect::<Result<_, _>>()?;
        Ok(TopicState {
            entry,
            name,
            config,
            partitions,
        })
    }
}

// Ends the segment in use, which cuts off what is reserved behind its last batch.
pub(crate) fn give_back_reserve(partition: &PartitionState, time: &Time) {
    if let Some(mut log) = partition.log() {
        log.segments_mut().roll();
    }
    committer::turn(partition, time);
    upkeep::turn(partition, time);
}

pub(crate) fn io_error(core: &Core, name: &str, source: std::io::Error) -> TopicError {
    TopicError::Io {
        file: core.disk.display(name),
        source,
    }
}

impl Core {
    // The list as it should be: all topics, and those of which something may be left.
    fn entries(&self, leftovers: &[TopicEntry]) -> Vec<TopicEntry> {
        let topics = self.topics.read();
        let whole = topics.values().map(|topic| &topic.entry);
        whole.chain(leftovers).cloned().collect()
    }

    fn write_topics(&self, entries: &[TopicEntry]) -> Result<(), TopicError> {
        self.check_writable()?
            .write_topics(entries)
            .map_err(|e| io_error(self, crate::directory::TOPICS, e))
    }

    fn check_writable(&self) -> Result<&crate::directory::Directory, TopicError> {
        if self.is_closed() {
            return Err(TopicError::Closed);
        }
        self.directory.as_ref().ok_or(TopicError::ReadOnly)
    }

    /// Makes a topic. It is in the list before its directories are made, as one that is being
    /// made, and counts once it is whole.
    ///
    /// # Errors
    /// [`TopicError`].
    pub(crate) fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
    ) -> Result<Arc<TopicState>, TopicError> {
        check_name(name)?;
        check_partitions(partitions)?;
        let mut leftovers = self.topic_changes.lock();
        // Under the lock: once a close has had it, nothing is written here any more.
        let directory = self.check_writable()?;
        if let Some(topic) = self.topics.read().get(name) {
            let (name, partitions) = (name.to_owned(), topic.entry.partitions);
            return Err(TopicError::Exists { name, partitions });
        }
        self.remove_leftovers(&mut leftovers)?;
        let config = config
            .entries()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let mut entry = TopicEntry {
            name: name.to_owned(),
            id: directory.fresh_identity(),
            partitions,
            config: config.collect(),
            stage: Stage::Creating,
        };
        let made = self.make_topic(&mut entry, &leftovers);
        match made {
            Ok(topic) => {
                let name = topic.name.clone();
                self.topics.write().insert(name, topic.clone());
                Ok(topic)
            }
            Err(error) => {
                entry.stage = Stage::Deleting;
                leftovers.push(entry);
                // What cannot be removed now is when the next topic is made, or the next open.
                let _ = self.remove_leftovers(&mut leftovers);
                Err(error)
            }
        }
    }

    fn make_topic(
        &self,
        entry: &mut TopicEntry,
        leftovers: &[TopicEntry],
    ) -> Result<Arc<TopicState>, TopicError> {
        let directory = self.check_writable()?;
        let list = |entry: &TopicEntry| {
            let mut entries = self.entries(leftovers);
            entries.push(entry.clone());
            self.write_topics(&entries)
        };
        list(entry)?;
        self.make_logs(entry, 0)?;
        entry.stage = Stage::Ready;
        list(entry)?;
        let context = self.open_context(directory);
        let topic = TopicState::open(self, entry.clone(), Some(context), |_, _| {})
            .map_err(|e| TopicError::Open(Box::new(e)))?;
        Ok(Arc::new(topic))
    }

    // Removes topics that could not be made or removed whole. They are listed as such before
    // anything of them goes, so that a crash finds each of them whole or on its way out.
    fn remove_leftovers(&self, leftovers: &mut Vec<TopicEntry>) -> Result<(), TopicError> {
        if leftovers.is_empty() {
            return Ok(());
        }
        self.write_topics(&self.entries(leftovers))?;
        while let Some(entry) = leftovers.last() {
            self.remove_logs(entry)?;
            leftovers.pop();
        }
        self.write_topics(&self.entries(leftovers))
    }

    pub(crate) fn open_context(&self, directory: &crate::directory::Directory) -> OpenContext {
        OpenContext {
            generation: directory.generation(),
            now: self.time.now(),
            producer_id_bound: self.producer_ids.as_ref().map_or(0, PidAllocator::first),
        }
    }

    /// Adds partitions to a topic, up to `partitions` in all. What is there stays where it is.
    ///
    /// # Errors
    /// [`TopicError`]; the topic is as it was.
    pub(crate) fn add_partitions(
        &self,
        name: &str,
        partitions: u32,
    ) -> Result<Arc<TopicState>, TopicError> {
        let leftovers = self.topic_changes.lock();
        let directory = self.check_writable()?;
        let Some(topic) = self.topics.read().get(name).cloned() else {
            let name = name.to_owned();
            return Err(TopicError::UnknownTopic { name });
        };
        let before = topic.entry.partitions;
        if !(before..=PARTITIONS_MAX).contains(&partitions) {
            return Err(TopicError::PartitionCount { partitions });
        }
        let entry = TopicEntry {
            partitions,
            ..topic.entry.clone()
        };
        self.make_logs(&entry, before)?;
        let mut entries = self.entries(&leftovers);
        for stored in entries.iter_mut().filter(|stored| stored.name == name) {
            stored.partitions = partitions;
        }
        self.write_topics(&entries)?;
        let context = Some(self.open_context(directory));
        let mut all = topic.partitions.clone();
        for index in before..partitions {
            let whole = (&entry, &topic.name, &topic.config);
            let opened = open_partition(self, whole, index, context, &mut |_, _| {});
            all.push(opened.map_err(|e| TopicError::Open(Box::new(e)))?);
        }
        let (name, config) = (topic.name.clone(), topic.config.clone());
        let topic = Arc::new(TopicState {
            entry,
            name: name.clone(),
            config,
            partitions: all,
        });
        self.topics.write().insert(name, topic.clone());
        Ok(topic)
    }

    /// Finishes what a crash interrupted: topics that were not whole are removed.
    ///
    /// # Errors
    /// [`TopicError`].
    pub(crate) fn settle_topics(
        &self,
        entries: Vec<TopicEntry>,
    ) -> Result<Vec<TopicEntry>, TopicError> {
        let (ready, others): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| entry.stage == Stage::Ready);
        if others.is_empty() {
            return Ok(ready);
        }
        for entry in &others {
            self.remove_logs(entry)?;
        }
        self.write_topics(&ready)?;
        Ok(ready)
    }

    /// Removes a topic. Whoever waits on it is told; readers keep the bytes that they hold.
    ///
    /// # Errors
    /// [`TopicError`].
    pub(crate) fn delete_topic(&self, name: &str) -> Result<(), TopicError> {
        let mut leftovers = self.topic_changes.lock();
        self.check_writable()?;
        let Some(topic) = self.topics.read().get(name).cloned() else {
            return Err(TopicError::UnknownTopic {
                name: name.to_owned(),
            });
        };
        let before = self.entries(&leftovers);
        let mut entries = before.clone();
        for entry in entries.iter_mut().filter(|entry| entry.name == name) {
            entry.stage = Stage::Deleting;
        }
        let mut listed = self.write_topics(&entries);
        if matches!(&listed, Err(TopicError::Io { source, .. }) if is_full(source)) {
            // The engine can always delete (I13): give back what the topic has reserved, then
            // there is space for the list.
            for partition in &topic.partitions {
                give_back_reserve(partition, &self.time);
            }
            listed = self.write_topics(&entries);
        }
        if let Err(error) = listed {
            // The new list may have its name all the same; the topic is there, and must stay.
            let _ = self.write_topics(&before);
            return Err(error);
        }
        self.topics.write().remove(name);
        for partition in &topic.partitions {
            // Under the lock, so that no append is halfway.
            let log = partition.log();
            partition.ends.set_state(State::Deleted);
            drop(log);
            partition.ends.wake();
        }
        // What is under way ends on open descriptors; none of its results count.
        for partition in &topic.partitions {
            partition.turn.finish();
            partition.feeding.finish();
            // A move of the log's start removes files by name: not those of a topic made after it.
            drop(partition.deleting.lock());
            drop(partition.spilling.close());
        }
        leftovers.push(TopicEntry {
            stage: Stage::Deleting,
            ..topic.entry.clone()
        });
        self.remove_leftovers(&mut leftovers)
    }
}
