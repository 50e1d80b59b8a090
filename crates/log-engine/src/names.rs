//! Named producers: one identity for each name, over all restarts, with one holder at a time.
//!
//! A holder is a process's, and the directory's lock proves that every earlier process is gone; so
//! who holds a name is kept in memory, and after a crash every name is free at once. What must
//! survive is small and does not grow with restarts: the id, the epoch that the next holder gets,
//! and how many partitions each topic had when the name first wrote there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};

use segment_storage::{Disk, StateFileError, state_file};
use serde::{Deserialize, Serialize};
use sync::Mutex;

use crate::producer::ProducerCore;

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "names";
const MAGIC: [u8; 4] = *b"OLNM";
const VERSION: u16 = 1;

/// Highest epoch that a holder gets. Kafka reserves the one above it.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// What is stored of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// Partitions of each topic, by its identity, that the name routes by.
    pub(crate) partitions: BTreeMap<u128, u32>,
    /// Positions that earlier ids of the name reached.
    pub(crate) carried: Vec<Carried>,
    /// Logs, by topic and partition, that lost what they knew of the name (I18).
    pub(crate) lost: BTreeSet<(u128, u32)>,
}

/// How far an earlier id of a name got in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) topic: u128,
    /// By how many partitions it routed.
    pub(crate) partitions: u32,
    pub(crate) partition: u32,
    pub(crate) last: u64,
    pub(crate) floor: u64,
}

impl Identity {
    /// Whether the name may have written to a topic.
    pub(crate) fn wrote_to(&self, topic: u128) -> bool {
        self.partitions.contains_key(&topic) || self.carried.iter().any(|c| c.topic == topic)
    }

    /// Whether the next holder needs another producer id.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.producer_epoch >= EPOCH_MAX
    }
}

/// Reads what is stored of all names.
///
/// # Errors
/// When the file is missing or damaged.
pub(crate) fn read(disk: &dyn Disk) -> Result<BTreeMap<String, Identity>, StateFileError> {
    let identities = state_file::read(disk, FILE, MAGIC, VERSION)?;
    identities.ok_or_else(|| StateFileError::Missing {
        file: disk.display(FILE),
    })
}

/// Stores all names, durably.
///
/// # Errors
/// What the disk says; the old ones stay.
pub(crate) fn write(disk: &dyn Disk, names: &BTreeMap<String, Identity>) -> io::Result<()> {
    state_file::write(disk, "", FILE, MAGIC, VERSION, names)
}

/// All names of a data directory.
pub(crate) struct Names {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
}

struct State {
    identities: BTreeMap<String, Identity>,
    holders: BTreeMap<String, Weak<ProducerCore>>,
}

impl Names {
    /// Makes the file of a new directory, durably. A directory without it has lost it: were that
    /// taken for no names, each would get another id, and store again what it has stored.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn create(disk: &dyn Disk) -> io::Result<()> {
        let none: BTreeMap<String, Identity> = BTreeMap::new();
        state_file::write(disk, "", FILE, MAGIC, VERSION, &none)
    }

    /// Reads the names of a directory.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<Names, StateFileError> {
        let identities = read(&*disk)?;
        Ok(Names {
            disk,
            state: Mutex::new(State {
                identities,
                holders: BTreeMap::new(),
            }),
        })
    }

    /// Changes what is stored of all names, durably, if that changes anything.
    ///
    /// # Errors
    /// What the disk says; everything is as before.
    pub(crate) fn update(&self, mut change: impl FnMut(&mut Identity)) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut identities = state.identities.clone();
        identities.values_mut().for_each(&mut change);
        if identities != state.identities {
            state_file::write(&*self.disk, "", FILE, MAGIC, VERSION, &identities)?;
            state.identities = identities;
        }
        Ok(())
    }

    /// All names with their ids.
    pub(crate) fn all(&self) -> Vec<(String, i64)> {
        let state = self.state.lock();
        state
            .identities
            .iter()
            .map(|(name, i)| (name.clone(), i.producer_id))
            .collect()
    }

    /// Who holds a name now.
    pub(crate) fn holder(&self, name: &str) -> Option<Arc<ProducerCore>> {
        self.state.lock().holders.get(name).and_then(Weak::upgrade)
    }

    /// Makes a producer the holder of a name.
    pub(crate) fn set_holder(&self, name: &str, producer: &Arc<ProducerCore>) {
        self.state
            .lock()
            .holders
            .insert(name.to_owned(), Arc::downgrade(producer));
    }

    /// Frees a name, if that producer still holds it.
    pub(crate) fn release(&self, name: &str, producer: &ProducerCore) {
        let mut state = self.state.lock();
        let held = state
            .holders
            .get(name)
            .is_some_and(|h| std::ptr::eq(h.as_ptr(), producer));
        if held {
            state.holders.remove(name);
        }
    }

    /// What is stored of a name.
    pub(crate) fn identity(&self, name: &str) -> Option<Identity> {
        self.state.lock().identities.get(name).cloned()
    }

    /// Stores a name's identity, durably.
    ///
    /// # Errors
    /// What the disk says; the old one stays.
    pub(crate) fn store(&self, name: &str, identity: Identity) -> io::Result<()> {
        let mut state = self.state.lock();
        let before = state.identities.insert(name.to_owned(), identity);
        let written = state_file::write(&*self.disk, "", FILE, MAGIC, VERSION, &state.identities);
        if written.is_err() {
            match before {
                Some(before) => state.identities.insert(name.to_owned(), before),
                None => state.identities.remove(name),
            };
        }
        written
    }
}
