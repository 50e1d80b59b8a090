//! Where each log is cut: at one moment for all of them.
//!
//! A batch of a named producer says below which position everything was durable in *all*
//! partitions. In a copy that holds it, that must be so: the cut must not be older in one log than
//! in another. Likewise the list of names must be the one of that moment, as far as it says what
//! the logs hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use segment_storage::{Disk, Marks, SlotError};

use super::BackupError;
use crate::core::Core;
use crate::directory::{self, Stage, TopicEntry};
use crate::ends::State;
use crate::error::LogName;
use crate::names::{self, Carried, Identity};
use crate::topics;

/// How often the marks of all logs are read until they were the same twice. Only needed beside a
/// writer in another process, while named producers write.
const LOOKS: usize = 1_000;

/// Where one log is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CutLog {
    /// `topic-partition`, its directory.
    pub(super) name: String,
    pub(super) log_id: u128,
    /// Everything below was durable.
    pub(super) end: u64,
}

/// What is copied.
pub(super) struct Cut {
    pub(super) topics: Vec<TopicEntry>,
    pub(super) logs: Vec<CutLog>,
    pub(super) names: BTreeMap<String, Identity>,
}

impl Cut {
    /// Cuts behind everything that was written before this is called or, where another process
    /// writes, behind what its marks say. `None` when a topic went away meanwhile.
    ///
    /// # Errors
    /// [`BackupError`].
    pub(super) fn of(core: &Core) -> Result<Option<Cut>, BackupError> {
        let disk = &core.disk;
        for _ in 0..LOOKS {
            let before = names::read(&**disk)?;
            let cut = match core.directory {
                Some(_) => Some(cut_here(core)?),
                None => cut_beside(disk, before.is_empty())?,
            };
            let Some((topics, logs)) = cut else {
                return Ok(None);
            };
            let names = names::read(&**disk)?;
            // What else changes of a name says nothing of what the logs hold.
            if carried(&before) == carried(&names) {
                return Ok(Some(Cut {
                    topics,
                    logs,
                    names,
                }));
            }
        }
        Err(BackupError::Changing { looks: LOOKS })
    }
}

// How far earlier ids of names got, by their logs.
fn carried(names: &BTreeMap<String, Identity>) -> BTreeMap<&str, &[Carried]> {
    names
        .iter()
        .filter(|(_, identity)| !identity.carried.is_empty())
        .map(|(name, identity)| (name.as_str(), identity.carried.as_slice()))
        .collect()
}

type Logs = (Vec<TopicEntry>, Vec<CutLog>);

fn cut_here(core: &Core) -> Result<Logs, BackupError> {
    let topics: Vec<_> = core.topics.read().values().cloned().collect();
    let partitions: Vec<_> = topics.iter().flat_map(|t| &t.partitions).collect();
    for partition in &partitions {
        core.commit_now(partition);
    }
    // Nobody else holds two of them at once, so the order does not matter. Ends rise under them only.
    let locks: Vec<_> = partitions.iter().map(|p| p.log()).collect();
    let ends: Vec<u64> = partitions.iter().map(|p| p.ends.synced()).collect();
    // What a weak level acknowledged is not durable where the sync failed, just now or before.
    let lost = partitions
        .iter()
        .zip(&locks)
        .zip(&ends)
        .find(|((p, log), end)| {
            let written = log.as_ref().map_or(0, |log| log.next_offset());
            p.ends.state() == State::Fenced && written > **end
        });
    if let Some(((partition, _), _)) = lost {
        let log = partition.name();
        return Err(BackupError::Fenced { log });
    }
    drop(locks);
    let ids = topics.iter().flat_map(|topic| {
        let id = topic.entry.id;
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        (0..count).map(move |index| topics::log_id(id, index))
    });
    let logs = partitions.iter().zip(ids).zip(ends);
    let logs = logs.map(|((partition, log_id), end)| CutLog {
        name: partition.name(),
        log_id,
        end,
    });
    let logs = logs.collect();
    Ok((topics.iter().map(|t| t.entry.clone()).collect(), logs))
}

// Marks only rise: where all are as they were at the look before, all were so between the two. Where
// no producer has a name, logs need not be cut at one moment.
fn cut_beside(disk: &Arc<dyn Disk>, is_nameless: bool) -> Result<Option<Logs>, BackupError> {
    let mut topics = directory::read_topics(disk)?;
    topics.retain(|topic| topic.stage == Stage::Ready);
    let mut before = None;
    for _ in 0..LOOKS {
        let Some(logs) = marks(disk, &topics)? else {
            return Ok(None);
        };
        if is_nameless || before.as_ref() == Some(&logs) {
            return Ok(Some((topics, logs)));
        }
        before = Some(logs);
    }
    Err(BackupError::Changing { looks: LOOKS })
}

fn marks(disk: &Arc<dyn Disk>, topics: &[TopicEntry]) -> Result<Option<Vec<CutLog>>, BackupError> {
    let mut logs = Vec::new();
    for topic in topics {
        for partition in 0..topic.partitions {
            let name = LogName(&topic.name, partition).to_string();
            let log_id = topics::log_id(topic.id, partition);
            let read = Marks::open(disk, &name)
                .and_then(|marks| Ok((marks.log_id(), marks.mark()?.next_offset)));
            match read {
                Ok((found, end)) if found == log_id => logs.push(CutLog { name, log_id, end }),
                // Removed, and perhaps made again, since the list was read.
                Ok(_) if is_gone(disk, topic) => return Ok(None),
                Err(_) if is_gone(disk, topic) => return Ok(None),
                Ok(_) => {
                    let (file, pair) = (disk.display(&name), 0);
                    let source = SlotError::Damaged { file, pair };
                    return Err(BackupError::Marks { log: name, source });
                }
                Err(source) => return Err(BackupError::Marks { log: name, source }),
            }
        }
    }
    Ok(Some(logs))
}

fn is_gone(disk: &Arc<dyn Disk>, topic: &TopicEntry) -> bool {
    let topics = directory::read_topics(disk);
    topics.is_ok_and(|topics| !topics.iter().any(|other| other.id == topic.id))
}

/// Whether a log's topic is not among the topics any more.
pub(super) fn is_log_gone(disk: &Arc<dyn Disk>, log_id: u128) -> bool {
    let holds = |topic: &TopicEntry| {
        topic.stage == Stage::Ready
            && (0..topic.partitions).any(|index| topics::log_id(topic.id, index) == log_id)
    };
    directory::read_topics(disk).is_ok_and(|topics| !topics.iter().any(holds))
}
