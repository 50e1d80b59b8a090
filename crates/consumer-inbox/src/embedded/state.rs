//! What is known at a moment: the index, the few rows that are in memory, floors, partitions, outputs. No I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use super::event::{Event, Row};
use super::index::Index;
use crate::id_row::{IdRow, IdState};
use crate::identity::{DedupKey, Part, Scope};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) index: Index,
    /// Rows that cannot be read yet, because they are not durable, and rows in work, by offset.
    warm: HashMap<u64, Warm>,
    /// Offsets of rows written by this process, oldest first, until they are durable.
    unsynced: VecDeque<u64>,
    pub(super) floors: HashMap<Scope, Floor>,
    pub(super) parts: HashMap<Part, Owned>,
    /// Where the outputs are that were not forwarded, by number.
    pub(super) outputs: BTreeMap<u64, u64>,
    /// Behind the last event by which something was forgotten.
    pub(super) forgotten_end: u64,
    /// Which transaction has which id.
    pub(super) open: HashMap<DedupKey, u64>,
    pub(super) last_tx: u64,
    /// Batches written by this process.
    pub(super) writes: u64,
    /// Where the next sweep of a scope goes on.
    pub(super) sweeps: HashMap<Scope, u64>,
}

/// A row in memory.
#[derive(Debug)]
pub(super) struct Warm {
    pub(super) key: Bytes,
    pub(super) row: IdRow,
}

/// Up to when ids of a scope may have been forgotten, and the event that says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    pub(super) ms: u64,
    pub(super) at: u64,
}

/// A partition's owner and position, and the event that says so.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Owned {
    pub(super) epoch: u64,
    pub(super) next: u64,
    pub(super) at: u64,
}

impl State {
    /// How many records of the log are alive.
    pub(super) fn alive(&self) -> usize {
        self.index.len() + self.floors.len() + self.parts.len() + self.outputs.len()
    }

    pub(super) fn warm(&self, offset: u64) -> Option<&Warm> {
        self.warm.get(&offset)
    }

    /// Keeps a row in memory for as long as it is in work.
    pub(super) fn keep_warm(&mut self, offset: u64, key: Bytes, row: IdRow) {
        self.warm.insert(offset, Warm { key, row });
    }

    /// Lets go of the rows that can be read now, but for those in work.
    pub(super) fn cool(&mut self, durable_end: u64) {
        while self.unsynced.front().is_some_and(|at| *at < durable_end) {
            let Some(at) = self.unsynced.pop_front() else {
                return;
            };
            let is_busy = |warm: &Warm| matches!(warm.row.state, IdState::Busy { .. });
            if self.warm.get(&at).is_some_and(|warm| !is_busy(warm)) {
                self.warm.remove(&at);
            }
        }
    }

    /// Notes a row that this process wrote.
    pub(super) fn put_row(&mut self, digest: u128, offset: u64, row: Row) {
        self.index.put(digest, row.replaces, offset);
        if let Some(old) = row.replaces {
            self.warm.remove(&old);
        }
        self.keep_warm(offset, row.key, row.row);
        self.unsynced.push_back(offset);
    }

    /// Notes that a row's copy counts from now on. It cannot be read before it is durable.
    pub(super) fn move_row(&mut self, digest: u128, from: u64, to: u64, row: Row) {
        self.index.put(digest, Some(from), to);
        // One in memory knows the lease, too.
        let warm = self.warm.remove(&from).unwrap_or(Warm {
            key: row.key,
            row: row.row,
        });
        self.warm.insert(to, warm);
        self.unsynced.push_back(to);
    }

    /// Notes an event that is no row: of this process, or of one before.
    pub(super) fn apply(&mut self, offset: u64, event: Event) {
        match event {
            Event::Forgotten {
                scope,
                floor_ms,
                rows,
            } => {
                for (digest, at) in rows {
                    self.index.remove(digest, at);
                    self.warm.remove(&at);
                }
                if let Some(ms) = floor_ms {
                    self.floors.insert(scope, Floor { ms, at: offset });
                }
                self.forgotten_end = self.forgotten_end.max(offset + 1);
            }
            Event::Part { part, epoch, next } => {
                let at = offset;
                self.parts.insert(part, Owned { epoch, next, at });
            }
            Event::Output { number, .. } => {
                self.outputs.insert(number.unwrap_or(offset + 1), offset);
            }
            Event::Forwarded { through } => {
                self.outputs = self.outputs.split_off(&through.saturating_add(1));
            }
            Event::Stated { at, event } => self.apply(at, *event),
            Event::Entries(entries) => {
                for (digest, at) in entries {
                    self.index.put(digest, None, at);
                }
            }
            Event::Outputs(entries) => {
                let numbers = entries.into_iter();
                let numbers = numbers.filter_map(|(n, at)| Some((u64::try_from(n).ok()?, at)));
                self.outputs.extend(numbers);
            }
            Event::Row(_) | Event::Begin { .. } | Event::End { .. } => {}
        }
    }

    /// Whether what the event at an offset says still counts, so that a copy of it must outlive it. Not for rows.
    pub(super) fn is_alive(&self, offset: u64, event: &Event) -> bool {
        match event {
            Event::Forgotten { scope, .. } => {
                self.floors.get(scope).is_some_and(|f| f.at == offset)
            }
            Event::Part { part, .. } => self.parts.get(part).is_some_and(|p| p.at == offset),
            Event::Output { number, .. } => {
                self.outputs.get(&number.unwrap_or(offset + 1)) == Some(&offset)
            }
            // What they count for is below them, and gone with them.
            _ => false,
        }
    }

    /// Drops what a snapshot says of records below the log's start: they were copied before they went.
    pub(super) fn begin_at(&mut self, start: u64) {
        self.index.retain_from(start);
        self.outputs.retain(|_, at| *at >= start);
    }
}
