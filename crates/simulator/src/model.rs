//! What one log must answer, and what it may look like after a crash. Written from the rules, not
//! from the engine; shares no code with it.

mod copied;
mod known;

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::SeenBatch;
use crate::violation::{Violation, violated};
use known::Known;

/// Why a batch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Fenced,
    OutOfOrder,
    SequenceReuse,
    Unknown,
    Forgotten,
}

/// What a log answers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is there, at this offset.
    Duplicate(u64),
    Refuse(Refusal),
}

/// How the last life of the engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Closed, without an error.
    Clean,
    /// The process is gone, the page cache is not.
    Kill,
    /// Only what was promised needs to be there.
    Power,
}

/// What does not change while a log lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) window: usize,
    pub(crate) kafka_unknown: bool,
    pub(crate) expiry_ms: u64,
    pub(crate) is_synced: bool,
    pub(crate) is_deleted_from: bool,
}

/// A batch of the log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) batch: SeenBatch,
    /// Somebody was promised that it survives a power cut.
    pub(crate) is_promised: bool,
    /// Somebody was told that it is there.
    pub(crate) is_acked: bool,
    at_ms: u64,
}

/// One log.
#[derive(Debug)]
pub(crate) struct LogModel {
    pub(crate) name: String,
    pub(crate) rules: Rules,
    /// All that was ever in it and was not lost, also what is deleted by now.
    entries: Vec<Entry>,
    start: u64,
    start_asked: u64,
    end: u64,
    may_jump: bool,
    /// The content at each offset that anybody was ever told of.
    shown: BTreeMap<u64, u64>,
    known: BTreeMap<i64, Known>,
    /// Producers that never expire, and their epochs.
    kept: BTreeMap<i64, i16>,
    /// Producers whose epoch is over, up to this one, because somebody was told that a batch of it
    /// is not written. The process that could have sent it ends with the engine.
    fenced: BTreeMap<i64, i16>,
    /// Producers whose epoch may be over: somebody asks about a batch of it, or tried to take their
    /// name over.
    perhaps_fenced: BTreeMap<i64, i16>,
    /// Producers that took leave.
    retired: BTreeSet<i64>,
    /// Ids up to it may have been lost with the log's tail.
    lost_below: i64,
}

impl LogModel {
    pub(crate) fn new(name: String, rules: Rules) -> LogModel {
        LogModel {
            name,
            rules,
            entries: Vec::new(),
            start: 0,
            start_asked: 0,
            end: 0,
            may_jump: false,
            shown: BTreeMap::new(),
            known: BTreeMap::new(),
            kept: BTreeMap::new(),
            fenced: BTreeMap::new(),
            perhaps_fenced: BTreeMap::new(),
            retired: BTreeSet::new(),
            lost_below: -1,
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// A named producer was opened: its id never expires, and epochs before its own are over.
    pub(crate) fn keep(&mut self, producer_id: i64, epoch: i16) {
        self.kept.insert(producer_id, epoch);
    }

    /// Somebody was told that a batch of an epoch is not written.
    pub(crate) fn fence(&mut self, producer_id: i64, epoch: i16) {
        let fenced = self.fenced.entry(producer_id).or_default();
        *fenced = epoch.max(*fenced);
    }

    /// From now on an epoch may be over.
    pub(crate) fn perhaps_fence(&mut self, producer_id: i64, epoch: i16) {
        let fenced = self.perhaps_fenced.entry(producer_id).or_default();
        *fenced = epoch.max(*fenced);
    }

    pub(crate) fn retire(&mut self, producer_id: i64) {
        self.retired.insert(producer_id);
    }

    fn may_be_forgotten(&self, producer_id: i64, known: &Known, now_ms: u64) -> bool {
        let period = self.rules.expiry_ms;
        let is_silent = period > 0 && now_ms >= known.last_ms.saturating_add(period);
        self.retired.contains(&producer_id) || (is_silent && !self.kept.contains_key(&producer_id))
    }

    /// All answers that the rules allow.
    pub(crate) fn judge(&self, batch: &SeenBatch, now_ms: u64) -> Vec<Verdict> {
        let mut allowed = self.judge_unfenced(batch, now_ms);
        let (producer_id, epoch, _) = batch.identity;
        let is_perhaps_fenced = |fenced: &i16| epoch <= *fenced;
        if self
            .perhaps_fenced
            .get(&producer_id)
            .is_some_and(is_perhaps_fenced)
        {
            allowed.push(Verdict::Refuse(Refusal::Fenced));
        }
        if self
            .fenced
            .get(&producer_id)
            .is_some_and(|fenced| epoch <= *fenced)
        {
            allowed.retain(|verdict| *verdict != Verdict::Append);
            allowed.push(Verdict::Refuse(Refusal::Fenced));
        }
        allowed
    }

    fn judge_unfenced(&self, batch: &SeenBatch, now_ms: u64) -> Vec<Verdict> {
        let (producer_id, epoch, first) = batch.identity;
        if producer_id < 0 {
            return vec![Verdict::Append];
        }
        if self
            .kept
            .get(&producer_id)
            .is_some_and(|kept| epoch < *kept)
        {
            return vec![Verdict::Refuse(Refusal::Fenced)];
        }
        let mut allowed = Vec::new();
        if let Some(known) = self.known.get(&producer_id) {
            known.judge(batch, self.rules.window, &mut allowed);
            if !self.may_be_forgotten(producer_id, known, now_ms) {
                return allowed;
            }
        }
        let is_forgotten = |(id, known): (&i64, &Known)| {
            *id >= producer_id && self.may_be_forgotten(*id, known, now_ms)
        };
        let is_doubtful = producer_id <= self.lost_below || self.known.iter().any(is_forgotten);
        let is_strict = !self.rules.kafka_unknown;
        // Whoever was forgotten for its silence is refused from then on, at any sequence.
        let is_silent =
            self.known.contains_key(&producer_id) && !self.retired.contains(&producer_id);
        if !is_strict || (first == 0 && !is_silent) {
            allowed.push(Verdict::Append);
        }
        if first != 0 && (is_strict || is_doubtful) {
            allowed.push(Verdict::Refuse(Refusal::Unknown));
        }
        if is_doubtful && !self.kept.contains_key(&producer_id) {
            allowed.push(Verdict::Refuse(Refusal::Forgotten));
        }
        allowed
    }

    /// Takes in what the log answered: the first offset of a batch that is in the log now, whether
    /// it was there already, or why it is not.
    pub(crate) fn answered(
        &mut self,
        mut batch: SeenBatch,
        answer: Result<(u64, bool), Refusal>,
        now_ms: u64,
    ) -> Result<(), Violation> {
        let verdict = match answer {
            Ok((_, false)) => Verdict::Append,
            Ok((offset, true)) => Verdict::Duplicate(offset),
            Err(refusal) => Verdict::Refuse(refusal),
        };
        let allowed = self.judge(&batch, now_ms);
        if !allowed.contains(&verdict) {
            let invariant = match (verdict, allowed.first()) {
                (Verdict::Append, Some(Verdict::Duplicate(_))) => "I2",
                (Verdict::Append, _) => "I3",
                (Verdict::Duplicate(_), _) => "I5",
                (Verdict::Refuse(_), _) => "I6",
            };
            let (name, identity) = (&self.name, batch.identity);
            return violated(
                invariant,
                format!(
                    "log {name}: {identity:?} x{}: {verdict:?}, allowed: {allowed:?}",
                    batch.count
                ),
            );
        }
        if let Ok((offset, false)) = answer {
            if offset != self.end && !(self.may_jump && offset > self.end) {
                let (name, end) = (&self.name, self.end);
                return violated(
                    "I9",
                    format!("log {name}: {end} is next, {offset} was given"),
                );
            }
            batch.base_offset = offset;
            self.may_jump = false;
            self.check_reuse(&batch)?;
            self.remember(&batch, now_ms);
            self.end = offset + u64::from(batch.count);
            self.entries.push(Entry {
                batch,
                is_promised: false,
                is_acked: false,
                at_ms: now_ms,
            });
        }
        Ok(())
    }

    fn check_reuse(&self, batch: &SeenBatch) -> Result<(), Violation> {
        for (offset, content) in (batch.base_offset..).zip(&batch.contents) {
            if let Some(shown) = self.shown.get(&offset)
                && shown != content
            {
                let name = &self.name;
                return violated(
                    "I9",
                    format!("log {name} offset {offset} was shown as {shown:x}, now {content:x}"),
                );
            }
        }
        Ok(())
    }

    fn remember(&mut self, batch: &SeenBatch, now_ms: u64) {
        let producer_id = batch.identity.0;
        if producer_id < 0 {
            return;
        }
        let known = self.known.get(&producer_id);
        let is_doubtful = known.is_some_and(|k| self.may_be_forgotten(producer_id, k, now_ms));
        self.retired.remove(&producer_id);
        let known = self.known.entry(producer_id).or_default();
        known.remember(batch, self.rules.window, is_doubtful);
        known.last_ms = now_ms;
    }

    /// Somebody was told that the batch at an offset is there, `durably` or not.
    pub(crate) fn acked(&mut self, offset: u64, durably: bool) -> Result<(), Violation> {
        let Some(at) = self.place(offset) else {
            let name = &self.name;
            return violated(
                "I1",
                format!("log {name}: {offset} was acked and is not there"),
            );
        };
        for entry in &mut self.entries[..=at] {
            entry.is_promised |= durably;
        }
        let entry = &mut self.entries[at];
        entry.is_acked = true;
        for (offset, content) in (entry.batch.base_offset..).zip(&entry.batch.contents) {
            self.shown.insert(offset, *content);
        }
        Ok(())
    }

    // The entry that begins at an offset.
    fn place(&self, offset: u64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&offset, |entry| entry.batch.base_offset)
            .ok()
    }

    /// A reader at `cursor` was given a record. What a reader of a synced log sees is durable.
    pub(crate) fn read(
        &mut self,
        cursor: u64,
        offset: u64,
        content: Option<u64>,
    ) -> Result<(), Violation> {
        // A reader may still have what it fetched before it was deleted.
        let cursor = if offset < self.start {
            cursor
        } else {
            cursor.max(self.start)
        };
        let at = self.entries.partition_point(|entry| {
            entry.batch.base_offset + u64::from(entry.batch.count) <= cursor
        });
        let expected = self.entries.get(at).map(|entry| {
            let index = cursor.saturating_sub(entry.batch.base_offset);
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            (
                entry.batch.base_offset.max(cursor),
                entry.batch.contents.get(index).copied(),
            )
        });
        if expected != Some((offset, content)) {
            let name = &self.name;
            return violated(
                "I28",
                format!(
                    "log {name}: a reader at {cursor} got {offset} {content:x?}, not {expected:x?}"
                ),
            );
        }
        if self.rules.is_synced {
            for entry in &mut self.entries[..=at] {
                entry.is_promised = true;
            }
        }
        if let Some(content) = content {
            self.shown.insert(offset, content);
        }
        Ok(())
    }

    /// Somebody asks for everything below an offset to be deleted.
    pub(crate) fn deletion_asked(&mut self, offset: u64) {
        self.start_asked = self.start_asked.max(offset);
    }

    /// The log says where it begins.
    pub(crate) fn starts_at(&mut self, start: u64) -> Result<(), Violation> {
        let latest = match self.rules.is_deleted_from {
            true => self.end.max(self.start_asked),
            false => self.start_asked,
        };
        if start < self.start || start > latest.max(self.start) {
            let (name, old) = (&self.name, self.start);
            return violated(
                "I22",
                format!("log {name} began at {old}, now at {start}; {latest} was asked for"),
            );
        }
        self.start = start;
        // The end may have jumped, as far as the log was asked to be deleted.
        self.end = self.end.max(start);
        Ok(())
    }

    /// The log was opened again and holds `found`, from `start` on.
    pub(crate) fn recovered(
        &mut self,
        found: &[SeenBatch],
        start: u64,
        end: End,
        (ids, now_ms): (i64, u64),
    ) -> Result<(), Violation> {
        if end != End::Clean && !self.rules.is_synced {
            self.may_jump = true;
        }
        // Of a log that lost all that it had only the place is left where it goes on.
        if found.is_empty() && self.may_jump && start >= self.end {
            self.end = start;
            self.start_asked = start;
        }
        self.starts_at(start)?;
        self.fenced.clear();
        self.perhaps_fenced
            .retain(|id, _| self.kept.contains_key(id));
        let name = self.name.clone();
        let first = self.entries.partition_point(|entry| {
            entry.batch.base_offset + u64::from(entry.batch.count) <= start
        });
        let live = &self.entries[first..];
        for (at, batch) in found.iter().enumerate() {
            match live.get(at) {
                Some(entry) if entry.batch == *batch => {}
                Some(entry) => {
                    let expected = &entry.batch;
                    return violated(
                        "I22",
                        format!("log {name} after {end:?}: {batch:x?} where {expected:x?} was"),
                    );
                }
                None => {
                    return violated(
                        "I22",
                        format!("log {name} after {end:?}: nobody appended {batch:x?}"),
                    );
                }
            }
        }
        let must = match end {
            End::Clean | End::Kill => live.len(),
            End::Power => live
                .iter()
                .rposition(|e| e.is_promised)
                .map_or(0, |at| at + 1),
        };
        if found.len() < must {
            let missing = live.get(found.len());
            return violated(
                "I1",
                format!(
                    "log {name} after {end:?}: {} batches of {must}, missing {missing:x?}",
                    found.len()
                ),
            );
        }
        // The log cannot know that nothing was lost.
        if end != End::Clean {
            self.lost_below = self.lost_below.max(ids);
        }
        self.entries.truncate(first + found.len());
        let last = self.entries.last().map(|entry| &entry.batch);
        self.end = last
            .map_or(0, |batch| batch.base_offset + u64::from(batch.count))
            .max(start);
        self.replay(now_ms);
        Ok(())
    }

    // Who is known is what the log says.
    fn replay(&mut self, now_ms: u64) {
        self.known.clear();
        let retired = std::mem::take(&mut self.retired);
        let entries = std::mem::take(&mut self.entries);
        let period = self.rules.expiry_ms;
        for entry in &entries {
            self.remember(&entry.batch, entry.at_ms);
            // A producer that was silent for long is forgotten when the log is opened, but for what
            // it wrote since the last snapshot.
            if period > 0
                && now_ms >= entry.at_ms.saturating_add(period)
                && let Some(known) = self.known.get_mut(&entry.batch.identity.0)
            {
                known.doubtful_below = entry.batch.base_offset + 1;
            }
        }
        self.entries = entries;
        self.retired = retired;
    }
}
