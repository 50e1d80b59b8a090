//! What a group knows, as a pure state machine: it changes by events alone, has no clock and does
//! no IO. The same events give the same state, before a crash and after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::{Change, Run};

/// A partition of a topic, by name and number.
pub(crate) type Key = (Arc<str>, u32);

/// All that is stored of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupState {
    pub(crate) partitions: BTreeMap<Key, Progress>,
    pub(crate) holds: BTreeMap<Key, Hold>,
}

/// What retention must keep for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) topic_id: u128,
    /// First offset that stays.
    pub(crate) offset: u64,
}

/// How far a group is with one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) topic_id: u128,
    /// Rises with each owner and each seek.
    pub(crate) epoch: u64,
    /// The epoch in which the position was set last, other than by consuming.
    pub(crate) sought: u64,
    /// The owner, if it was not released since.
    pub(crate) member: Option<u64>,
    /// Everything below was delivered at least once, or is no record.
    pub(crate) next: u64,
    /// How often each record was delivered that is not acknowledged.
    pub(crate) delivered: BTreeMap<u64, u32>,
    /// Acknowledged at or above the position.
    pub(crate) acked: BTreeSet<u64>,
    /// The position that the group had when the log was found to end below it. Until a seek.
    pub(crate) lost: Option<u64>,
}

/// What an acknowledgement finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The delivery is the record's last one.
    Current,
    /// The record is acknowledged.
    Acked,
    /// The partition is in another epoch.
    Fenced { epoch: u64 },
    /// The record was delivered again since.
    Superseded { delivery: u32 },
    /// It was never delivered.
    Unknown,
}

impl Progress {
    /// The low-water mark: everything below is acknowledged, or is no record. Committed.
    pub(crate) fn position(&self) -> u64 {
        let lowest = self.delivered.first_key_value().map(|(offset, _)| *offset);
        lowest.map_or(self.next, |offset| offset.min(self.next))
    }

    /// How many more records may be delivered when at most `limit` offsets are kept one by one:
    /// delivered and open, or acknowledged out of order.
    pub(crate) fn room(&self, limit: usize) -> usize {
        if self.delivered.is_empty() {
            // What is acknowledged above goes as soon as it is passed.
            return limit;
        }
        limit.saturating_sub(self.delivered.len() + self.acked.len())
    }

    /// What a delivery of a record stands for.
    pub(crate) fn standing(&self, offset: u64, epoch: u64, delivery: u32) -> Standing {
        if epoch != self.epoch {
            return Standing::Fenced { epoch: self.epoch };
        }
        match self.delivered.get(&offset) {
            Some(&last) if last == delivery => Standing::Current,
            Some(&last) if last > delivery => Standing::Superseded { delivery: last },
            Some(_) => Standing::Unknown,
            None if offset < self.next || self.acked.contains(&offset) => Standing::Acked,
            None => Standing::Unknown,
        }
    }

    fn deliver(&mut self, runs: &[Run], next: u64) {
        for offset in Run::offsets(runs) {
            let is_acked = self.acked.contains(&offset);
            let is_over = offset < self.next && !self.delivered.contains_key(&offset);
            if !is_acked && !is_over {
                *self.delivered.entry(offset).or_default() += 1;
            }
        }
        self.next = self.next.max(next);
        self.trim();
    }

    fn ack(&mut self, runs: &[Run]) {
        for offset in Run::offsets(runs) {
            // One that is not delivered yet: a dead letter says so, and the delivery was lost.
            if self.delivered.remove(&offset).is_some() || offset >= self.next {
                self.acked.insert(offset);
            }
        }
        self.trim();
    }

    // What lies below the position says nothing more.
    fn trim(&mut self) {
        let position = self.position();
        while self.acked.first().is_some_and(|offset| *offset < position) {
            self.acked.pop_first();
        }
    }

    fn seek(&mut self, epoch: u64, position: u64) {
        *self = Progress {
            topic_id: self.topic_id,
            epoch,
            sought: epoch,
            member: self.member,
            next: position,
            ..Progress::default()
        };
    }

    fn clamp(&mut self, end: u64) {
        let position = self.position();
        if position > end {
            self.lost = Some(position);
        }
        self.next = self.next.min(end);
        self.delivered.retain(|offset, _| *offset < end);
        self.acked.retain(|offset| *offset < end);
    }

    /// Whether the group knows of offsets that a log which ends at `end` does not have.
    pub(crate) fn is_beyond(&self, end: u64) -> bool {
        let last = |offset: Option<&u64>| offset.is_some_and(|offset| *offset >= end);
        self.next > end
            || last(self.delivered.keys().next_back())
            || last(self.acked.iter().next_back())
    }
}

impl GroupState {
    /// What the group knows of a partition.
    pub(crate) fn get(&self, topic: &str, partition: u32) -> Option<&Progress> {
        // An owned key, since a pair cannot be borrowed in parts.
        self.partitions.get(&(Arc::from(topic), partition))
    }

    /// Takes an event in. One that does not fit changes nothing.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Assigned {
                topic,
                topic_id,
                partition,
                epoch,
                member,
                start,
            } => {
                let progress = self.entry(topic, *partition);
                if *epoch <= progress.epoch {
                    return;
                }
                if progress.topic_id != *topic_id {
                    *progress = Progress {
                        topic_id: *topic_id,
                        sought: *epoch,
                        next: *start,
                        ..Progress::default()
                    };
                }
                progress.epoch = *epoch;
                progress.member = Some(*member);
            }
            Change::Released {
                topic,
                partition,
                epoch,
            } => self.within(topic, *partition, *epoch, |p| p.member = None),
            Change::Delivered {
                topic,
                partition,
                epoch,
                runs,
                next,
            } => self.within(topic, *partition, *epoch, |p| p.deliver(runs, *next)),
            Change::Acked {
                topic,
                partition,
                epoch,
                runs,
            } => self.within(topic, *partition, *epoch, |p| p.ack(runs)),
            Change::Sought {
                topic,
                partition,
                epoch,
                position,
            } => {
                let progress = self.entry(topic, *partition);
                if *epoch > progress.epoch {
                    progress.seek(*epoch, *position);
                }
            }
            Change::Clamped {
                topic,
                partition,
                end,
            } => self.entry(topic, *partition).clamp(*end),
            Change::Held {
                topic,
                topic_id,
                partition,
                offset,
            } => {
                let (key, topic_id) = ((topic.as_str().into(), *partition), *topic_id);
                match *offset {
                    Some(offset) => self.holds.insert(key, Hold { topic_id, offset }),
                    None => self.holds.remove(&key),
                };
            }
            Change::Dropped { topic, partition } => {
                let key = (topic.as_str().into(), *partition);
                self.partitions.remove(&key);
                self.holds.remove(&key);
            }
            Change::Deleted => *self = GroupState::default(),
            Change::Checkpoint {
                topic,
                partition,
                progress,
            } => *self.entry(topic, *partition) = progress.into(),
        }
    }

    fn entry(&mut self, topic: &str, partition: u32) -> &mut Progress {
        self.partitions
            .entry((topic.into(), partition))
            .or_default()
    }

    fn within(
        &mut self,
        topic: &str,
        partition: u32,
        epoch: u64,
        change: impl FnOnce(&mut Progress),
    ) {
        if let Some(progress) = self.partitions.get_mut(&(topic.into(), partition))
            && progress.epoch == epoch
        {
            change(progress);
        }
    }
}

#[cfg(test)]
mod tests;
