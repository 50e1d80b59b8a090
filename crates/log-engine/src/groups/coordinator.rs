//! One group in this process: its state behind a lock, its members, and what is not stored (which
//! deliveries are out, and until when).
//!
//! The lock is held for microseconds and never across the disk (I16): an event is written to the
//! journal's memory and then applied, so the journal has a group's events in the order in which
//! they happened. Whoever finds no room there lets go, waits, and decides anew.
//!
//! Locks are taken in this order, and none of them twice: a member's readers, the checkpoint, a
//! group, the list of topics, a log. The list of groups and an index of dead letters are never held
//! together with a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, MutexGuard};

use super::assignment::{self, Subscriptions};
use super::error::GroupError;
use super::event::{Change, Event};
use super::holds::Replaced;
use super::journal::Journal;
use super::state::{GroupState, Key, Progress};
use crate::core::Core;
use crate::signal::Signal;
use crate::topics::TopicState;

/// Assignments that are written as one batch.
const CHANGES_PER_BATCH: usize = 1_000;

/// A group, shared by its members and their deliveries.
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    inner: Mutex<Inner>,
    /// Changes whenever there may be something to deliver that was not there before.
    version: AtomicU64,
    changed: Signal,
}

/// What a group's lock guards.
#[derive(Default)]
pub(super) struct Inner {
    pub(super) state: GroupState,
    pub(super) members: BTreeMap<u64, MemberState>,
    pub(super) runtime: BTreeMap<Key, Runtime>,
    pub(super) replaced: Replaced,
    /// The topics that the partitions were shared out of: identity and number of partitions.
    seen: BTreeMap<Arc<str>, (u128, usize)>,
    /// Members came or went since the partitions were shared out.
    pub(super) is_unsettled: bool,
    pub(super) is_deleted: bool,
}

/// A member, as its group knows it.
#[derive(Debug, Clone)]
pub(super) struct MemberState {
    pub(super) topics: BTreeSet<Arc<str>>,
    pub(super) session_ms: u64,
    /// When it last polled or settled, elapsed ms.
    pub(super) seen_ms: u64,
    /// Polls that wait: whoever waits is there.
    pub(super) polling: usize,
}

impl MemberState {
    fn is_alive(&self, now_ms: u64) -> bool {
        self.polling > 0 || now_ms <= self.ends_ms()
    }

    pub(super) fn ends_ms(&self) -> u64 {
        self.seen_ms.saturating_add(self.session_ms)
    }
}

/// What is known of a partition for as long as the process lives.
#[derive(Debug, Default)]
pub(super) struct Runtime {
    /// Deliveries that are out, or nacked, by offset. One that is not here is due at once.
    pub(super) shown: BTreeMap<u64, Shown>,
    /// Where the journal has the present epoch, if it was written by this process.
    pub(super) epoch_at: Option<u64>,
    /// Where the journal has the last event of the partition.
    touched: Option<u64>,
    /// A position, and where in the journal it is.
    written: Option<(u64, u64)>,
    /// A position that is durable.
    durable: u64,
}

/// When a delivery is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) due_ms: u64,
    /// Nobody has it: it was given back, and waits.
    pub(super) is_nacked: bool,
}

impl Runtime {
    /// When an offset that is delivered and not acknowledged may be delivered again.
    pub(super) fn due_ms(&self, offset: u64) -> u64 {
        self.shown.get(&offset).map_or(0, |shown| shown.due_ms)
    }

    /// Whether the partition's epoch can be shown.
    pub(super) fn is_epoch_durable(&self, journal: &Journal) -> bool {
        self.epoch_at.is_none_or(|at| journal.is_durable(at))
    }

    // The highest position known to be durable, and not above the present one.
    fn durable_position(&mut self, position: u64, journal: &Journal) -> u64 {
        if self.touched.is_none_or(|at| journal.is_durable(at)) {
            self.durable = position;
            self.written = None;
        } else if let Some((at, written)) = self.written
            && journal.is_durable(at)
        {
            self.durable = written;
            self.written = None;
        }
        if self.written.is_none()
            && let Some(at) = self.touched.filter(|at| !journal.is_durable(*at))
        {
            self.written = Some((at, position));
        }
        self.durable = self.durable.min(position);
        self.durable
    }
}

impl Inner {
    // After the journal has it, at `offset`.
    fn apply(&mut self, change: &Change, offset: u64) {
        if let Change::Held {
            topic, partition, ..
        } = change
        {
            self.note_replaced((topic.as_str().into(), *partition), offset);
        }
        self.state.apply(change);
        let (topic, partition, is_new_epoch) = match change {
            Change::Assigned {
                topic, partition, ..
            }
            | Change::Sought {
                topic, partition, ..
            } => (topic, *partition, true),
            Change::Delivered {
                topic, partition, ..
            }
            | Change::Acked {
                topic, partition, ..
            }
            | Change::Clamped {
                topic, partition, ..
            } => (topic, *partition, false),
            Change::Dropped { topic, partition } => {
                self.runtime.remove(&(topic.as_str().into(), *partition));
                return;
            }
            Change::Deleted => return self.runtime.clear(),
            Change::Released { .. } | Change::Held { .. } | Change::Checkpoint { .. } => return,
        };
        let key = (topic.as_str().into(), partition);
        let position = self
            .state
            .partitions
            .get(&key)
            .map_or(0, Progress::position);
        let runtime = self.runtime.entry(key).or_default();
        runtime.touched = Some(offset);
        runtime.durable = runtime.durable.min(position);
        if is_new_epoch {
            runtime.shown.clear();
            runtime.epoch_at = Some(offset);
            // What was written of the epoch before says nothing of this one.
            runtime.written = None;
        }
        if let Change::Acked { runs, .. } = change {
            for offset in super::event::Run::offsets(runs) {
                runtime.shown.remove(&offset);
            }
        }
    }

    /// Whether a member has a partition, in an epoch that can be shown.
    pub(super) fn owns(&self, member: u64, key: &Key, journal: &Journal) -> bool {
        let progress = self.state.partitions.get(key);
        progress.is_some_and(|progress| progress.member == Some(member))
            && self
                .runtime
                .get(key)
                .is_none_or(|runtime| runtime.is_epoch_durable(journal))
    }

    /// Notes that a member is there.
    pub(super) fn touch(&mut self, member: u64, now_ms: u64) {
        if let Some(state) = self.members.get_mut(&member) {
            state.seen_ms = state.seen_ms.max(now_ms);
        }
    }
}

impl Group {
    /// A group with what the journal has of it.
    pub(super) fn new(name: Arc<str>, state: GroupState) -> Group {
        let inner = Inner {
            state,
            ..Inner::default()
        };
        Group {
            name,
            inner: Mutex::new(inner),
            version: AtomicU64::new(0),
            changed: Signal::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Writes changes and takes them in, in order. With `soon`, they are synced at once.
    ///
    /// # Errors
    /// [`GroupError`]; nothing changed, or, of more than a batch, only what came first.
    pub(super) fn write(
        &self,
        core: &Arc<Core>,
        inner: &mut Inner,
        changes: &[Change],
        soon: bool,
    ) -> Result<(), GroupError> {
        let journal = core.groups.journal()?;
        for changes in changes.chunks(CHANGES_PER_BATCH) {
            let event = |change: &Change| Event::Group {
                name: self.name.to_string(),
                change: change.clone(),
            };
            let events: Vec<_> = changes.iter().map(event).collect();
            let last = journal.write(core, &events, soon)?;
            for change in changes {
                inner.apply(change, last);
            }
        }
        let gives_more = |change: &Change| {
            !matches!(
                change,
                Change::Delivered { .. } | Change::Checkpoint { .. } | Change::Held { .. }
            )
        };
        if changes.iter().any(gives_more) {
            self.wake();
        }
        Ok(())
    }

    /// A number that changes before [`Group::wait`] ends.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Has every poll that waits look again.
    pub(super) fn wake(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.changed.notify();
    }

    /// Waits until the version is another one.
    pub(super) async fn wait(&self, seen: u64) {
        self.changed
            .wait(|| (self.version() != seen).then_some(()))
            .await;
    }

    /// Looks whether members fell silent, or topics changed, and shares the partitions out again
    /// if so. `starts` are where a group begins in logs that it has not met before; those that are
    /// not named it begins at their start.
    ///
    /// # Errors
    /// [`GroupError`]; looked at again by the next call.
    pub(super) fn look(
        &self,
        core: &Arc<Core>,
        inner: &mut Inner,
        me: u64,
        starts: &BTreeMap<Key, u64>,
    ) -> Result<(), GroupError> {
        let now_ms = core.time.now().elapsed_ms;
        let alive = |id: u64, state: &MemberState| id == me || state.is_alive(now_ms);
        let members: Subscriptions = inner
            .members
            .iter()
            .filter(|(id, state)| alive(**id, state))
            .map(|(id, state)| (*id, state.topics.clone()))
            .collect();
        let topics = subscribed(core, &members);
        let seen = topics
            .iter()
            .map(|(name, topic)| (name.clone(), (topic.entry.id, topic.partitions.len())))
            .collect();
        let is_same = members.len() == inner.members.len() && seen == inner.seen;
        if is_same && !inner.is_unsettled {
            return Ok(());
        }
        let changes = self.share_out(core, inner, (&members, &topics), starts);
        self.write(core, inner, &changes, true)?;
        inner.members.retain(|id, _| members.contains_key(id));
        inner.seen = seen;
        inner.is_unsettled = false;
        Ok(())
    }

    fn share_out(
        &self,
        core: &Core,
        inner: &Inner,
        (members, topics): (&Subscriptions, &BTreeMap<Arc<str>, Arc<TopicState>>),
        starts: &BTreeMap<Key, u64>,
    ) -> Vec<Change> {
        let partitions: BTreeSet<Key> = topics
            .iter()
            .flat_map(|(name, topic)| topic.partitions.iter().map(|p| (name.clone(), p.index)))
            .collect();
        let id = |key: &Key| topics.get(&key.0).map(|topic| topic.entry.id);
        let present = |key: &Key| {
            let progress = inner.state.partitions.get(key)?;
            progress
                .member
                .filter(|_| id(key) == Some(progress.topic_id))
        };
        let owners = assignment::assign(&partitions, members, present);
        let mut changes = Vec::new();
        for (key, member) in &owners {
            let Some(topic) = topics.get(&key.0) else {
                continue;
            };
            if present(key) == Some(*member) {
                continue;
            }
            let state = topic.partitions.iter().find(|p| p.index == key.1);
            let first = state.map_or(0, |state| state.reader.log_start_offset());
            changes.push(Change::Assigned {
                topic: key.0.to_string(),
                topic_id: topic.entry.id,
                partition: key.1,
                epoch: core.groups.next_number(),
                member: *member,
                start: starts.get(key).copied().unwrap_or(first),
            });
        }
        for (key, progress) in &inner.state.partitions {
            if progress.member.is_some() && !owners.contains_key(key) {
                changes.push(Change::Released {
                    topic: key.0.to_string(),
                    partition: key.1,
                    epoch: progress.epoch,
                });
            }
        }
        changes
    }

    /// Takes a member out, and shares its partitions out to the others.
    pub(super) fn leave(&self, core: &Arc<Core>, member: u64) {
        let mut inner = self.lock();
        if inner.members.remove(&member).is_none() {
            return;
        }
        inner.is_unsettled = true;
        // Without room the next poll of another member does it.
        let _ = self.look(core, &mut inner, member, &BTreeMap::new());
        drop(inner);
        self.wake();
    }

    /// The durable position in a partition, for retention. 0 where the group knows nothing of it.
    pub(super) fn durable_position(&self, topic_id: u128, key: &Key, journal: &Journal) -> u64 {
        let mut inner = self.lock();
        let Inner { state, runtime, .. } = &mut *inner;
        match state.partitions.get(key) {
            Some(progress) if progress.topic_id == topic_id && progress.lost.is_none() => runtime
                .entry(key.clone())
                .or_default()
                .durable_position(progress.position(), journal),
            _ => 0,
        }
    }
}

// The topics that anybody subscribes to and that are there.
fn subscribed(core: &Core, members: &Subscriptions) -> BTreeMap<Arc<str>, Arc<TopicState>> {
    let names: BTreeSet<&Arc<str>> = members.values().flatten().collect();
    let topics = core.topics.read();
    names
        .into_iter()
        .filter_map(|name| Some((name.clone(), topics.get(name)?.clone())))
        .collect()
}
