//! What an inbox should do, in as few words as possible; shares no code with any.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::model::Below;
use crate::admission::Settlement;

/// Which record an id goes with: its origin time, partition and offset.
pub(super) type Carrier = (Option<u64>, usize, u64);

#[derive(Debug, Clone)]
pub(super) struct Id {
    is_done: bool,
    since: u64,
    payload: u8,
    result: Option<Bytes>,
    carrier: Carrier,
}

impl Id {
    /// Whether that made it go with another record.
    fn follow(&mut self, carrier: Carrier) -> bool {
        let follows = self.carrier != carrier && self.carrier.0 <= carrier.0;
        if follows {
            self.carrier = carrier;
        }
        follows
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) key: usize,
    pub(super) carrier: Carrier,
    pub(super) payload: u8,
    pub(super) redrive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Run,
    Done(Option<Bytes>),
    Busy,
    Parked,
    Mismatch(u8),
    Expired,
}

/// What a transaction would change.
#[derive(Debug, Clone, Default)]
pub(super) struct Writes {
    ids: BTreeMap<usize, Id>,
    seen: Vec<(usize, Carrier)>,
    pub(super) effects: BTreeMap<usize, u64>,
    pub(super) outgoing: Vec<u64>,
}

#[derive(Debug)]
pub(super) struct Tx {
    pub(super) part: usize,
    pub(super) epoch: u64,
    /// The position when it began.
    next: u64,
    losses: u64,
    /// What it admitted and did not settle, the record that the id goes with then, and what the transaction would have changed before.
    pub(super) admitted: Option<(Asked, Carrier, Writes)>,
    pub(super) writes: Writes,
    /// Ids that it was answered about.
    pub(super) touched: BTreeSet<usize>,
    /// Ids that are its own.
    pub(super) holds: BTreeSet<usize>,
}

/// What was committed.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    ids: BTreeMap<usize, Id>,
    floor: Option<u64>,
    next: [u64; 2],
    pub(super) effects: BTreeMap<usize, u64>,
    pub(super) outgoing: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: u64,
    pub(super) epochs: [u64; 2],
    /// Whether the store knows the epoch; not any more when it lost what it had.
    pub(super) assigned: [bool; 2],
    pub(super) stored: Stored,
    /// What is written behind, and what each later transaction made of it.
    written: Stored,
    behind: VecDeque<Stored>,
    /// How often all else was lost.
    losses: u64,
}

impl Model {
    /// The epoch that fences; 0 if none is known.
    pub(super) fn epoch(&self, part: usize) -> u64 {
        match self.assigned[part] {
            true => self.epochs[part],
            false => 0,
        }
    }

    /// The epoch that fences a transaction, if one does.
    pub(super) fn fence(&self, tx: &Tx) -> Option<u64> {
        let current = match tx.losses == self.losses {
            true => self.epoch(tx.part),
            false => 0,
        };
        Some(current).filter(|current| *current != tx.epoch)
    }

    pub(super) fn assign(&mut self, part: usize, epoch: u64) -> Option<u64> {
        (self.epochs[part], self.assigned[part]) = (epoch, true);
        Some(self.stored.next[part]).filter(|next| *next > 0)
    }

    pub(super) fn begin(&self, part: usize, epoch: u64) -> Tx {
        Tx {
            part,
            epoch,
            next: self.stored.next[part],
            losses: self.losses,
            admitted: None,
            writes: Writes::default(),
            touched: BTreeSet::new(),
            holds: BTreeSet::new(),
        }
    }

    /// Whether stores may differ: some look at the position when a transaction begins, some when it admits.
    pub(super) fn is_open(&self, tx: &Tx, offset: u64) -> bool {
        (tx.next..self.stored.next[tx.part]).contains(&offset)
    }

    pub(super) fn admit(&self, tx: &mut Tx, asked: Asked, is_held: bool) -> Answer {
        tx.touched.insert(asked.key);
        if asked.carrier.2 < self.stored.next[tx.part] {
            return Answer::Done(None);
        }
        let id = tx.writes.ids.get(&asked.key);
        let Some(id) = id.or_else(|| self.stored.ids.get(&asked.key)) else {
            if asked.carrier.0.is_some() && asked.carrier.0 <= self.stored.floor {
                return Answer::Expired;
            }
            return Model::run(tx, asked, asked.carrier, is_held);
        };
        if id.payload != asked.payload {
            return Answer::Mismatch(id.payload);
        }
        let mut newest = id.clone();
        let is_news = newest.follow(asked.carrier);
        if id.is_done || !asked.redrive {
            let answer = match id.is_done {
                true => Answer::Done(id.result.clone()),
                false => Answer::Parked,
            };
            if is_news {
                tx.writes.seen.push((asked.key, asked.carrier));
            }
            return answer;
        }
        Model::run(tx, asked, newest.carrier, is_held)
    }

    fn run(tx: &mut Tx, asked: Asked, carrier: Carrier, is_held: bool) -> Answer {
        if is_held {
            return Answer::Busy;
        }
        tx.holds.insert(asked.key);
        tx.admitted = Some((asked, carrier, tx.writes.clone()));
        Answer::Run
    }

    pub(super) fn settle(&self, tx: &mut Tx, how: &Settlement) {
        let Some((asked, carrier, before)) = tx.admitted.take() else {
            return;
        };
        let (is_done, result) = match how {
            Settlement::Done(result) => (true, result.clone()),
            Settlement::Parked | Settlement::Released => {
                tx.writes = before;
                (false, None)
            }
        };
        if *how == Settlement::Released {
            if !tx.writes.ids.contains_key(&asked.key) {
                tx.holds.remove(&asked.key);
            }
            return;
        }
        let id = Id {
            is_done,
            since: self.now,
            payload: asked.payload,
            result,
            carrier,
        };
        tx.writes.ids.insert(asked.key, id);
    }

    /// Of a transaction that is not fenced.
    pub(super) fn commit(&mut self, tx: Tx, next: u64) {
        let stored = &mut self.stored;
        let moves = next > stored.next[tx.part];
        let Writes {
            ids,
            seen,
            effects,
            outgoing,
        } = tx.writes;
        let changes = !(ids.is_empty() && seen.is_empty() && outgoing.is_empty());
        stored.ids.extend(ids);
        for (key, carrier) in seen {
            if let Some(id) = stored.ids.get_mut(&key) {
                id.follow(carrier);
            }
        }
        for (key, count) in effects {
            *stored.effects.entry(key).or_default() += count;
        }
        stored.outgoing.extend(outgoing);
        stored.next[tx.part] = stored.next[tx.part].max(next);
        if moves || changes {
            self.behind.push_back(self.stored.clone());
        }
    }

    /// The ids that may go, oldest first, with their origin times; of each partition another offset is the log's first.
    pub(super) fn below(&self, b: Below, log_starts: [u64; 2]) -> Vec<(Option<u64>, usize)> {
        let old = |id: &Id, window: u64| id.since + window < self.now;
        let goes = |id: &Id| {
            let settled = match id.is_done {
                false => b.parked.is_some_and(|age| old(id, age.max(b.window))),
                true => old(id, b.window),
            };
            let (origin, part, offset) = id.carrier;
            settled && offset < log_starts[part] && origin.is_none_or(|ms| ms < b.origin)
        };
        let ids = self.stored.ids.iter().filter(|(_, id)| goes(id));
        let mut ids: Vec<_> = ids.map(|(key, id)| (id.carrier.0, *key)).collect();
        ids.sort();
        ids
    }

    pub(super) fn forget(&mut self, keys: &[(Option<u64>, usize)]) {
        for (origin, key) in keys {
            self.stored.ids.remove(key);
            self.stored.floor = self.stored.floor.max(*origin);
        }
        if !keys.is_empty() {
            self.behind.push_back(self.stored.clone());
        }
    }

    /// Writes up to so many transactions behind: how many there were.
    pub(super) fn write_behind(&mut self, max: usize) -> usize {
        let count = self.behind.len().min(max);
        if let Some(last) = self.behind.drain(..count).next_back() {
            self.written = last;
        }
        count
    }

    /// What was forwarded is gone on both sides.
    pub(super) fn forwarded(&mut self, records: &[u64]) {
        for stored in [&mut self.stored, &mut self.written] {
            stored.outgoing.retain(|record| !records.contains(record));
        }
    }

    /// Only what was written behind is left.
    pub(super) fn lose(&mut self) {
        self.stored = self.written.clone();
        self.behind.clear();
        self.losses += 1;
        self.assigned = [false; 2];
    }
}
