//! The exact trace of what was done to a disk, from which every state that a crash may leave can be
//! made: see [`Crash`](super::Crash).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::SimulatedDisk;
use super::contents::Resize;
use super::page::Slot;
use super::tree::{NameChange, Tree};

/// One thing that was done.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A file or directory, which has no name yet.
    Created(u64, bool),
    Name(NameChange),
    Resized(u64, u64, Resize),
    /// A page as it was then, and the sectors that this write changed.
    Written(u64, usize, Slot, u8),
    /// A file, and how much had been done when its sync began.
    Synced(u64, usize),
    NamesSynced(u64),
}

#[derive(Clone)]
pub(super) struct Recorder {
    base: Tree,
    events: Vec<Event>,
}

impl Recorder {
    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

/// Everything that was done to a disk since [`SimulatedDisk::record`], in order: writes of pages,
/// changes of lengths and names, and syncs.
#[derive(Clone)]
pub struct Trace {
    pub(super) base: Tree,
    pub(super) events: Vec<Event>,
    paths: BTreeMap<u64, String>,
}

impl SimulatedDisk {
    /// Begins to record what is done. What was done before counts as durable, and locks as given up.
    pub fn record(&self) {
        let mut state = self.state();
        let mut base = state.tree.clone();
        base.settle_all();
        base.locks.clear();
        state.recorder = Some(Recorder {
            base,
            events: Vec::new(),
        });
    }

    /// How many things were done since [`SimulatedDisk::record`]: a place in the trace.
    pub fn recorded(&self) -> usize {
        self.state().recorder.as_ref().map_or(0, Recorder::len)
    }

    /// Ends the recording; `None` when there was none.
    pub fn take_trace(&self) -> Option<Trace> {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Recorder { base, events } = state.recorder.take()?;
        let mut directories = BTreeMap::from([(super::tree::ROOT, String::new())]);
        let mut paths = BTreeMap::new();
        for (path, number) in base.paths() {
            if base.is_directory(number) {
                directories.insert(number, path.clone());
            }
            paths.insert(number, path);
        }
        for event in &events {
            if let Event::Name(NameChange::Link((parent, leaf), number)) = event {
                let path = match directories.get(parent).map(String::as_str) {
                    None | Some("") => leaf.to_string(),
                    Some(parent) => format!("{parent}/{leaf}"),
                };
                directories.insert(*number, path.clone());
                paths.insert(*number, path);
            }
        }
        Some(Trace {
            base,
            events,
            paths,
        })
    }
}

impl Trace {
    /// How many things were done.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// One thing that was done, for people; files by the name that they got first.
    ///
    /// # Panics
    /// When nothing was done at that place.
    pub fn describe(&self, at: usize) -> String {
        let path = |number: &u64| self.paths.get(number).map_or("?", String::as_str);
        let leaf = |(directory, leaf): &(u64, Arc<str>)| format!("{}/{leaf}", path(directory));
        match &self.events[at] {
            Event::Created(number, true) => format!("directory {number}"),
            Event::Created(number, false) => format!("file {number}"),
            Event::Name(NameChange::Link(_, node)) => format!("create {}", path(node)),
            Event::Name(NameChange::Unlink(at, _)) => format!("remove {}", leaf(at)),
            Event::Name(NameChange::Rename(from, to, _)) => {
                format!("rename {} to {}", leaf(from), leaf(to))
            }
            Event::Resized(file, to, _) => format!("resize {} to {to}", path(file)),
            Event::Written(file, page, _, sectors) => {
                format!("write {} page {page} sectors {sectors:08b}", path(file))
            }
            Event::Synced(file, begun) => format!("sync {} of before {begun}", path(file)),
            Event::NamesSynced(directory) => format!("sync names in /{}", path(directory)),
        }
    }
}
