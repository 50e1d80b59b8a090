//! Keeping the journal short: the state of all groups is written to it anew, and its start moves up
//! to where that begins.
//!
//! Groups are written one after the other, each under its own lock, while the others go on. That is
//! sound because a replay takes a group's checkpoint in the place of what came before, and events
//! that do not fit change nothing; so the journal may begin anywhere, as long as a whole checkpoint
//! lies behind.

use std::collections::VecDeque;
use std::sync::Arc;

use sync::atomic::Ordering;

use super::coordinator::Group;
use super::error::GroupError;
use super::event::{Change, Event};
use crate::core::Core;

/// Bytes of events after which there is a checkpoint, at least; and not before there is twice as much
/// of them as the last checkpoint had.
const BYTES_MIN: u64 = 1 << 20;

/// How far the checkpoint is that is being made.
#[derive(Default)]
pub(super) struct Round {
    phase: Phase,
    last_bytes: u64,
}

#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    Writing {
        begin: u64,
        left: VecDeque<Arc<Group>>,
    },
    /// All of it lies between the two offsets.
    Written { begin: u64, last: u64 },
}

impl Core {
    /// Goes on with a checkpoint, or begins one if it is time. Waits for nothing; what fails for
    /// want of room is done at the next call.
    pub(crate) fn checkpoint_groups(self: &Arc<Core>) {
        let Ok(journal) = self.groups.journal() else {
            return;
        };
        if self.directory.is_none() {
            return;
        }
        let Some(mut round) = self.groups.checkpoint.try_lock() else {
            return;
        };
        if matches!(round.phase, Phase::Idle) {
            let written = self.groups.written_bytes.load(Ordering::Relaxed);
            if written < BYTES_MIN.max(round.last_bytes.saturating_mul(2)) {
                return;
            }
            let next = self.groups.numbers.load(Ordering::Acquire);
            let Ok(begin) = journal.write(self, &[Event::Numbers { next }], false) else {
                return;
            };
            self.groups.written_bytes.store(0, Ordering::Relaxed);
            let left = self.groups.list().into();
            round.phase = Phase::Writing { begin, left };
        }
        if let Phase::Writing { begin, left } = &mut round.phase {
            let begin = *begin;
            while let Some(group) = left.front() {
                if group.checkpoint(self).is_err() {
                    return;
                }
                left.pop_front();
            }
            let next = self.groups.numbers.load(Ordering::Acquire);
            let Ok(last) = journal.write(self, &[Event::Numbers { next }], true) else {
                return;
            };
            round.last_bytes = self.groups.written_bytes.swap(0, Ordering::Relaxed);
            round.phase = Phase::Written { begin, last };
        }
        if let Phase::Written { begin, last } = round.phase
            && journal.is_durable(last)
        {
            journal.state.consumed_to.fetch_max(begin, Ordering::AcqRel);
            let more = self.committer.retain(&journal.state);
            self.more_workers(more);
            round.phase = Phase::Idle;
        }
    }
}

impl Group {
    // All of the group, but what it knows of topics that are gone.
    fn checkpoint(&self, core: &Arc<Core>) -> Result<(), GroupError> {
        let mut inner = self.lock();
        let mut changes = Vec::new();
        let topics = core.topics.read();
        let is_there = |name: &str, id: u128| topics.get(name).is_some_and(|t| t.entry.id == id);
        let all: Vec<_> = inner.state.partitions.iter().collect();
        for ((topic, partition), progress) in all {
            let (topic, partition) = (topic.to_string(), *partition);
            changes.push(match is_there(&topic, progress.topic_id) {
                true => Change::Checkpoint {
                    topic,
                    partition,
                    progress: progress.into(),
                },
                false => Change::Dropped { topic, partition },
            });
        }
        for ((topic, partition), hold) in &inner.state.holds {
            if is_there(topic, hold.topic_id) {
                changes.push(Change::Held {
                    topic: topic.to_string(),
                    topic_id: hold.topic_id,
                    partition: *partition,
                    offset: Some(hold.offset),
                });
            }
        }
        drop(topics);
        // One a batch: each may be as large as a batch may be.
        for change in changes {
            self.write(core, &mut inner, &[change], false)?;
        }
        Ok(())
    }
}
