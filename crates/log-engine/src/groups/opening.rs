//! Opening: the groups as the journal has them, held against the logs as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use sync::atomic::Ordering;

use super::coordinator::Group;
use super::error::{GroupError, JournalError};
use super::event::{Change, Event};
use super::journal::Journal;
use super::state::GroupState;
use crate::core::Core;
use crate::partition::{PartitionState, Source};
use crate::segment_feeder;

/// All groups as events say, and the highest number that an epoch or a member had.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) groups: BTreeMap<String, GroupState>,
    pub(super) numbers: u64,
}

impl Replayed {
    /// What a journal says.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(super) fn of(journal: &Journal) -> Result<Replayed, JournalError> {
        let mut replayed = Replayed::default();
        journal.replay(|_, event| replayed.take(event))?;
        Ok(replayed)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Numbers { next } => self.numbers = self.numbers.max(next),
            Event::Group {
                name,
                change: Change::Deleted,
            } => drop(self.groups.remove(&name)),
            Event::Group { name, change } => {
                let state = self.groups.entry(name).or_default();
                state.apply(&change);
                let numbers = match &change {
                    Change::Assigned { epoch, member, .. } => *epoch.max(member),
                    Change::Sought { epoch, .. } => *epoch,
                    Change::Checkpoint { .. } => {
                        let all = state.partitions.values();
                        all.map(|p| p.epoch.max(p.member.unwrap_or(0)))
                            .max()
                            .unwrap_or(0)
                    }
                    _ => 0,
                };
                self.numbers = self.numbers.max(numbers);
            }
        }
    }
}

impl Core {
    /// Replays the journal, if there is one. A journal that cannot be read costs the groups, not the
    /// engine: they say so, and retention deletes nothing, for it might be held.
    pub(crate) fn open_groups(self: &Arc<Core>) {
        let Some(journal) = Journal::find(self) else {
            return;
        };
        let opened = Replayed::of(&journal).and_then(|replayed| {
            let _ = self.groups.journal.set(journal.clone());
            self.groups
                .numbers
                .store(replayed.numbers, Ordering::Release);
            let mut all = self.groups.all.write();
            for (name, state) in replayed.groups {
                let name: Arc<str> = name.into();
                all.insert(name.clone(), Arc::new(Group::new(name, state)));
            }
            drop(all);
            match self.directory {
                Some(_) => self.clamp_groups(&journal),
                None => Ok(()),
            }
        });
        if let Err(error) = opened {
            let _ = self.groups.unreadable.set(error);
        }
        self.publish_groups();
    }

    // A log may end below what a group knows of it: in a copy that was cut between the two. The
    // offsets above are given to other records, which must not count as consumed.
    fn clamp_groups(self: &Arc<Core>, journal: &Journal) -> Result<(), JournalError> {
        for group in self.groups.list() {
            let mut inner = group.lock();
            let mut changes = Vec::new();
            for (key, progress) in &inner.state.partitions {
                let topics = self.topics.read();
                let topic = topics
                    .get(&key.0)
                    .filter(|t| t.entry.id == progress.topic_id);
                let state = topic.and_then(|t| t.partitions.iter().find(|p| p.index == key.1));
                if let Some(end) = state.and_then(|state| end_of(state))
                    && progress.is_beyond(end)
                {
                    changes.push(Change::Clamped {
                        topic: key.0.to_string(),
                        partition: key.1,
                        end,
                    });
                }
            }
            let mut written = group.write(self, &mut inner, &changes, true);
            if written.as_ref().is_err_and(GroupError::is_not_ready) {
                // Nobody else does it yet: the threads are not started.
                segment_feeder::turn(&journal.state);
                written = group.write(self, &mut inner, &changes, true);
            }
            if let Err(GroupError::Journal(source)) = written {
                return Err(JournalError::Write(source));
            }
        }
        Ok(())
    }
}

// Where a log ends; `None` where damage hides that.
fn end_of(state: &PartitionState) -> Option<u64> {
    let log = match &state.source {
        Source::Writer(_) => state.log()?,
        Source::Follower(_) | Source::Damaged(_) => return None,
    };
    log.corruption().is_none().then(|| log.next_offset())
}
