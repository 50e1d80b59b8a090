//! Users' handle on a topic, and what it tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use partition_log::Budget;
use sync::atomic::Ordering;

use crate::config::TopicConfig;
use crate::engine::Handle;
use crate::error::TopicError;
use crate::handle::Partition;
use crate::partition::{PartitionState, Source};
use crate::topics::TopicState;

/// A topic. Cheap to clone; keeps the engine open.
#[derive(Clone)]
pub struct Topic {
    pub(crate) engine: Arc<Handle>,
    pub(crate) state: Arc<TopicState>,
}

/// A topic, described.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TopicDescription {
    /// Name.
    pub name: String,
    /// Identity; another one when the topic is deleted and made again.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub id: u128,
    /// Offsets between log start and high watermark, over all partitions. Without transactions,
    /// and without a crash at a weaker level than `synced`, that is the number of records.
    pub records: u64,
    /// The partitions.
    pub partitions: Vec<PartitionDescription>,
    /// All settings.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::settings"))]
    pub config: Vec<(&'static str, String)>,
}

/// A partition, described.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Number, from 0.
    pub partition: u32,
    /// First offset that can be read.
    pub log_start_offset: u64,
    /// The offset up to which readers see the log.
    pub high_watermark: u64,
    /// The offset below which no transaction is open.
    pub last_stable_offset: u64,
    /// The offset that the next record gets.
    pub log_end_offset: u64,
    /// Bytes of batches on disk.
    pub size_bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// Producers known, in memory or on disk.
    pub producers: usize,
    /// Those of them that are on disk: more than `producers.max` are known.
    pub producers_evicted: usize,
    /// How often a producer was moved to disk, since the open.
    pub producer_evictions: u64,
    /// How often one was moved back, since the open.
    pub producer_loads: u64,
    /// How often producers on disk were rebuilt from the log because their file was damaged, since
    /// the open.
    pub producer_rebuilds: u64,
    /// Batches accepted from unknown producers in mid-sequence, since the open.
    pub accepted_unknown: u64,
    /// Below it, all groups of `retention.consumed.by` have consumed everything, durably, and
    /// retention deletes. `None` where the topic names no groups.
    pub consumed_to: Option<u64>,
    /// From it on, a group holds what is there, and neither size, age nor consumption delete it.
    pub held_from: Option<u64>,
    /// `open`, or why it takes no appends.
    pub state: String,
}

impl Topic {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Its identity.
    pub fn id(&self) -> u128 {
        self.state.entry.id
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u32 {
        self.state.entry.partitions
    }

    /// Its settings.
    pub fn config(&self) -> &TopicConfig {
        &self.state.config
    }

    /// One of its partitions, from 0.
    ///
    /// # Errors
    /// [`TopicError::UnknownPartition`].
    pub fn partition(&self, partition: u32) -> Result<Partition, TopicError> {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let state = self.state.partitions.get(index).ok_or_else(|| {
            let (name, partitions) = (self.name().to_owned(), self.partitions());
            TopicError::UnknownPartition {
                name,
                partition,
                partitions,
            }
        })?;
        let level = self.state.config.ack();
        Ok(Partition {
            engine: self.engine.clone(),
            state: state.clone(),
            level,
        })
    }

    /// Deletes what every one of some groups has consumed: in each partition everything below the
    /// slowest group's position. Each item is a group's positions by partition: the next offset it
    /// will read. A partition that some group does not name is left alone.
    ///
    /// # Errors
    /// [`TopicError`]; partitions before the failing one are done.
    pub fn delete_consumed(&self, groups: &[BTreeMap<u32, u64>]) -> Result<(), TopicError> {
        for partition in 0..self.partitions() {
            let positions = groups.iter().map(|group| group.get(&partition).copied());
            let slowest = positions.min().flatten();
            if let Some(position) = slowest {
                self.partition(partition)?.delete_before(position)?;
            }
        }
        Ok(())
    }

    /// What it holds.
    pub fn describe(&self) -> TopicDescription {
        let partitions: Vec<_> = self.state.partitions.iter().map(|p| describe(p)).collect();
        TopicDescription {
            name: self.name().to_owned(),
            id: self.id(),
            records: partitions
                .iter()
                .map(|p| p.high_watermark - p.log_start_offset)
                .sum(),
            partitions,
            config: self.state.config.entries(),
        }
    }
}

fn describe(state: &PartitionState) -> PartitionDescription {
    if let Source::Follower(follower) = &state.source {
        // What cannot be read now shows as it was last.
        let _ = follower.refresh();
    }
    let segments = state.reader.view().segments();
    let size_bytes = segments.iter().filter_map(|s| s.bytes().ok()).sum();
    let high_watermark = state.reader.high_watermark();
    let (mut log_end_offset, mut producers, mut accepted_unknown) = (high_watermark, 0, 0);
    let mut budget = Budget::default();
    let mut status = match &state.source {
        Source::Damaged(corruption) => corruption.to_string(),
        _ => "open".to_owned(),
    };
    if let Some(log) = state.log() {
        log_end_offset = log.next_offset();
        producers = log.known_producers();
        budget = log.budget();
        accepted_unknown = log.producers().accepted_unknown();
        if let Some(reason) = log.segments().latch().reason() {
            status = reason.to_string();
        } else if let Some(corruption) = log.corruption() {
            status = corruption.to_string();
        }
    }
    let names_groups = !state.config.consumed_by().is_empty();
    let held_from = state.held_from.load(Ordering::Acquire);
    PartitionDescription {
        partition: state.index,
        log_start_offset: state.reader.log_start_offset(),
        high_watermark,
        last_stable_offset: state.reader.last_stable_offset(),
        log_end_offset,
        size_bytes,
        segments: segments.len(),
        producers,
        producers_evicted: budget.evicted,
        producer_evictions: budget.evictions,
        producer_loads: budget.loads,
        producer_rebuilds: budget.rebuilds,
        accepted_unknown,
        consumed_to: names_groups.then(|| state.consumed_to.load(Ordering::Acquire)),
        held_from: Some(held_from).filter(|&from| from < u64::MAX),
        state: status,
    }
}
