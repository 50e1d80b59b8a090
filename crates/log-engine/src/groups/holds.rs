//! What groups tell retention: up to where the groups that a topic names have consumed it, and from
//! where on something is held. Both are numbers beside the partition; the log knows nothing of groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use sync::atomic::Ordering;

use super::coordinator::Inner;
use super::journal::Journal;
use super::state::{Hold, Key};
use crate::core::Core;

/// A hold that was replaced by one whose event is not durable yet, and where that is.
pub(super) type Replaced = BTreeMap<Key, (u64, Hold)>;

impl Inner {
    /// Before a hold changes by an event at `offset` of the journal.
    pub(super) fn note_replaced(&mut self, key: Key, offset: u64) {
        let Some(hold) = self.state.holds.get(&key) else {
            return;
        };
        // The lower one, where the change before is not durable either.
        let lowest = match self.replaced.get(&key) {
            Some((_, before)) if before.topic_id == hold.topic_id => Hold {
                offset: before.offset.min(hold.offset),
                ..*hold
            },
            _ => *hold,
        };
        self.replaced.insert(key, (offset, lowest));
    }

    /// What of a group's holds counts: while a change is not durable, what was before it, too.
    fn holds_now<'a>(&'a self, journal: &'a Journal) -> impl Iterator<Item = (&'a Key, Hold)> {
        let before = self
            .replaced
            .iter()
            .filter(|(_, (at, _))| !journal.is_durable(*at))
            .map(|(key, (_, hold))| (key, *hold));
        self.state
            .holds
            .iter()
            .map(|(key, hold)| (key, *hold))
            .chain(before)
    }
}

impl Core {
    /// Sets both numbers of every partition anew.
    pub(crate) fn publish_groups(&self) {
        // Whoever changed a hold before this call finds it published after it.
        let _one_at_a_time = self.groups.publishing.lock();
        let topics: Vec<_> = self.topics.read().values().cloned().collect();
        let Ok(journal) = self.groups.journal() else {
            if self.groups.unreadable.get().is_some() {
                for partition in topics.iter().flat_map(|topic| &topic.partitions) {
                    partition.held_from.store(0, Ordering::Release);
                    partition.consumed_to.store(0, Ordering::Release);
                }
            }
            return;
        };
        let mut held: BTreeMap<(u128, u32), u64> = BTreeMap::new();
        for group in self.groups.list() {
            for ((_, partition), hold) in group.lock().holds_now(journal) {
                let from = held.entry((hold.topic_id, *partition)).or_insert(u64::MAX);
                *from = hold.offset.min(*from);
            }
        }
        for topic in topics.iter().filter(|t| !super::is_internal(&t.name)) {
            let groups: Vec<_> = topic
                .config
                .consumed_by()
                .iter()
                .map(|name| self.groups.group(name))
                .collect();
            for partition in &topic.partitions {
                let from = held.get(&(topic.entry.id, partition.index)).copied();
                partition
                    .held_from
                    .store(from.unwrap_or(u64::MAX), Ordering::Release);
                let key = (Arc::clone(&topic.name), partition.index);
                let position = |group: &Option<Arc<super::Group>>| match group {
                    Some(group) => group.durable_position(topic.entry.id, &key, journal),
                    None => 0,
                };
                let slowest = groups.iter().map(position).min().unwrap_or(0);
                partition.consumed_to.store(slowest, Ordering::Release);
            }
        }
    }
}
