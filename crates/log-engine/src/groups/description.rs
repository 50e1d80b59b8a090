//! What there is to say about groups.

use std::collections::BTreeSet;

use super::coordinator::Inner;
use super::error::GroupError;
use super::journal::Journal;
use super::opening::Replayed;
use super::state::{GroupState, Key};
use crate::core::Core;
use crate::engine::Engine;
use crate::partition::Source;

/// A group, described.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupDescription {
    /// Name.
    pub group: String,
    /// Its members in this process; where another process writes, none are known.
    pub members: Vec<u64>,
    /// The partitions that it knows, by topic and number.
    pub partitions: Vec<GroupPartition>,
}

/// How far a group is with one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct GroupPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Every record below is acknowledged. `None` where the group holds the partition, and has
    /// never read it.
    pub position: Option<u64>,
    /// The high watermark.
    pub end: u64,
    /// Offsets between the two.
    pub lag: u64,
    /// Records delivered and not acknowledged.
    pub in_flight: usize,
    /// Records acknowledged above the position.
    pub acked_above: usize,
    /// Id of the member that has it. Where another process writes, the last one that had it.
    pub member: Option<u64>,
    /// Its epoch; 0 before the first.
    pub epoch: u64,
    /// Retention keeps what is above.
    pub hold: Option<u64>,
    /// Where the position was when the log was found to end below it; a seek ends that.
    pub lost: Option<u64>,
}

impl Engine {
    /// All groups, by name. Works beside a writer, too; what is shown then is durable.
    ///
    /// # Errors
    /// [`GroupError::Unreadable`], [`GroupError::Closed`].
    pub fn groups(&self) -> Result<Vec<GroupDescription>, GroupError> {
        let core = self.core();
        if core.is_closed() {
            return Err(GroupError::Closed);
        }
        if core.directory.is_none() {
            return described_beside(core);
        }
        if let Some(error) = core.groups.unreadable.get() {
            return Err(GroupError::Unreadable(Box::new(error.clone())));
        }
        let groups = core.groups.list().into_iter().map(|group| {
            let inner = group.lock();
            let Inner { state, members, .. } = &*inner;
            let (state, members) = (state.clone(), members.keys().copied().collect::<Vec<_>>());
            drop(inner);
            let is_member = |id: u64| members.contains(&id);
            let partitions = partitions(core, &state, is_member);
            GroupDescription {
                group: group.name.to_string(),
                members,
                partitions,
            }
        });
        Ok(groups.collect())
    }
}

// Another process writes: what its journal says now.
fn described_beside(core: &Core) -> Result<Vec<GroupDescription>, GroupError> {
    let Some(journal) = Journal::find(core) else {
        return Ok(Vec::new());
    };
    let replayed =
        Replayed::of(&journal).map_err(|error| GroupError::Unreadable(Box::new(error)))?;
    let groups = replayed.groups.into_iter();
    let described = groups.map(|(group, state)| GroupDescription {
        group,
        members: Vec::new(),
        partitions: partitions(core, &state, |_| true),
    });
    Ok(described.collect())
}

fn partitions(
    core: &Core,
    state: &GroupState,
    is_member: impl Fn(u64) -> bool,
) -> Vec<GroupPartition> {
    let keys: BTreeSet<&Key> = state.partitions.keys().chain(state.holds.keys()).collect();
    let described = keys.into_iter().filter_map(|key| {
        let topic = core.topics.read().get(&key.0)?.clone();
        let log = topic.partitions.iter().find(|p| p.index == key.1)?;
        if let Source::Follower(follower) = &log.source {
            // What cannot be read now shows as it was last.
            let _ = follower.refresh();
        }
        let progress = state.partitions.get(key);
        let progress = progress.filter(|p| p.topic_id == topic.entry.id);
        let hold = state.holds.get(key);
        let hold = hold.filter(|hold| hold.topic_id == topic.entry.id);
        if progress.is_none() && hold.is_none() {
            return None;
        }
        let (start, end) = (log.reader.log_start_offset(), log.reader.high_watermark());
        let position = progress.map(|progress| progress.position());
        Some(GroupPartition {
            topic: key.0.to_string(),
            partition: key.1,
            position,
            end,
            lag: end.saturating_sub(position.unwrap_or(start)),
            in_flight: progress.map_or(0, |p| p.delivered.len()),
            acked_above: progress.map_or(0, |p| p.acked.len()),
            member: progress.and_then(|p| p.member).filter(|id| is_member(*id)),
            epoch: progress.map_or(0, |p| p.epoch),
            hold: hold.map(|hold| hold.offset),
            lost: progress.and_then(|p| p.lost),
        })
    });
    described.collect()
}
