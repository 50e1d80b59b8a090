//! Consumer groups: who reads which partition, how far it is, and what was delivered and not yet
//! acknowledged.
//!
//! All of it is a pure state machine ([`state`]) that changes by events, and events are records of
//! one internal topic ([`journal`]). Opening replays them from the last [`checkpoint`].

use std::collections::BTreeMap;
use std::sync::Arc;

use sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, OnceLock, RwLock};

mod assignment;
mod builder;
mod checkpoint;
mod coordinator;
mod dead_letter;
mod delivery;
mod description;
mod error;
mod event;
mod holds;
mod journal;
mod member;
mod opening;
mod park;
mod polling;
mod reading;
mod records;
mod redrive;
mod settle;
mod state;

pub use builder::ConsumerGroup;
pub use dead_letter::DeadLetter;
pub use delivery::{Delivery, Receipt};
pub use description::{GroupDescription, GroupPartition};
pub use error::{GroupError, JournalError};
pub(crate) use journal::is_internal;
pub use member::Member;

use crate::core::Core;
use checkpoint::Round;
use coordinator::Group;
use dead_letter::DeadLetters;
use journal::Journal;

/// Most groups of an engine.
const GROUPS_MAX: usize = 10_000;

/// What an engine keeps of groups.
#[derive(Default)]
pub(crate) struct Groups {
    all: RwLock<BTreeMap<Arc<str>, Arc<Group>>>,
    journal: OnceLock<Journal>,
    /// Held while the internal topic is made.
    making: Mutex<()>,
    /// Why the journal could not be replayed.
    unreadable: OnceLock<JournalError>,
    /// The last number that was given to an epoch or a member.
    numbers: AtomicU64,
    /// Bytes written to the journal since the last checkpoint.
    written_bytes: AtomicU64,
    checkpoint: Mutex<Round>,
    /// Held while what retention looks at is set.
    publishing: Mutex<()>,
    dead_letters: Mutex<BTreeMap<Arc<str>, Arc<DeadLetters>>>,
    /// When a poll that waits should look again, elapsed ms; `u64::MAX`: nothing is due.
    next_due_ms: AtomicU64,
}

/// Names of groups with commas between, each once; `None` when one of them cannot be a name.
pub(crate) fn names(list: &str) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    if list.trim().is_empty() {
        return Some(names);
    }
    for name in list.split(',').map(str::trim) {
        builder::check_group_name(name).ok()?;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Some(names)
}

impl Groups {
    /// The journal of an engine that has one.
    ///
    /// # Errors
    /// [`GroupError::Unreadable`]; [`GroupError::Closed`] when there is none.
    fn journal(&self) -> Result<&Journal, GroupError> {
        if let Some(error) = self.unreadable.get() {
            return Err(GroupError::Unreadable(Box::new(error.clone())));
        }
        self.journal.get().ok_or(GroupError::Closed)
    }

    /// A number for an epoch or a member that none had before, over all groups and all opens: an
    /// epoch rises also where a group or a topic is deleted and made again.
    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn group(&self, name: &str) -> Option<Arc<Group>> {
        self.all.read().get(name).cloned()
    }

    fn list(&self) -> Vec<Arc<Group>> {
        self.all.read().values().cloned().collect()
    }

    // One that was deleted, unless another has the name by now.
    fn forget(&self, group: &Arc<Group>) {
        let mut all = self.all.write();
        if all.get(&group.name).is_some_and(|g| Arc::ptr_eq(g, group)) {
            all.remove(&group.name);
        }
    }

    /// When the timer should have polls look again, elapsed ms.
    pub(crate) fn next_due_ms(&self) -> u64 {
        self.next_due_ms.load(Ordering::Acquire)
    }

    /// Notes that a poll that waits should look again at that time.
    fn wake_at(&self, due_ms: u64) {
        self.next_due_ms.fetch_min(due_ms, Ordering::AcqRel);
    }

    /// Ends all waiting: the engine closes.
    pub(crate) fn wake_all(&self) {
        for group in self.list() {
            group.wake();
        }
    }
}

impl Core {
    /// Has polls look again when the time of a delivery is over, or of a member.
    pub(crate) fn look_at_groups(self: &Arc<Core>) {
        let now_ms = self.time.now().elapsed_ms;
        if self.groups.next_due_ms() <= now_ms {
            // Whoever finds nothing to deliver says anew when something is due.
            self.groups.next_due_ms.store(u64::MAX, Ordering::Release);
            self.groups.wake_all();
        }
    }

    /// The group of that name, made if it is missing, and the internal topic with it.
    ///
    /// # Errors
    /// [`GroupError`].
    fn group_or_new(self: &Arc<Core>, name: &str) -> Result<Arc<Group>, GroupError> {
        self.check_groups()?;
        if let Some(group) = self.groups.group(name) {
            return Ok(group);
        }
        if self.groups.journal.get().is_none() {
            let _one_at_a_time = self.groups.making.lock();
            if self.groups.journal.get().is_none() {
                let journal = Journal::make(self)?;
                let _ = self.groups.journal.set(journal);
            }
        }
        let mut all = self.groups.all.write();
        if let Some(group) = all.get(name) {
            return Ok(group.clone());
        }
        if all.len() >= GROUPS_MAX {
            let limit = GROUPS_MAX;
            return Err(GroupError::TooManyGroups { limit });
        }
        let name: Arc<str> = name.into();
        let group = Arc::new(Group::new(name.clone(), state::GroupState::default()));
        all.insert(name, group.clone());
        Ok(group)
    }

    /// Whether groups can be used at all.
    fn check_groups(&self) -> Result<(), GroupError> {
        if self.is_closed() {
            return Err(GroupError::Closed);
        }
        if self.directory.is_none() {
            return Err(GroupError::ReadOnly);
        }
        match self.groups.unreadable.get() {
            Some(error) => Err(GroupError::Unreadable(Box::new(error.clone()))),
            None => Ok(()),
        }
    }
}
