//! All producers of a partition: what is known of them, and when they are forgotten.
//!
//! The table is a cache of the log. Replaying the log into an empty table, or inserting the
//! producers of a snapshot and replaying the rest, leads to the same answers (I20). It is changed
//! only after the bytes are in the log (R19).
//!
//! A producer is forgotten by expiry alone, or because its session ended cleanly; never for want
//! of memory: above a budget it moves to disk ([`crate::Spiller`]; I17, I18). A million producers with full windows of five take less than 200 bytes
//! each.

pub(crate) mod line;
mod moving;
mod table;
mod view;
mod window;

use std::collections::BTreeSet;

use record_batch::BatchHeader;

use self::line::{Line, Standing};
use self::table::{Lines, SHARDS};
pub(crate) use self::table::{Slot, hash};
pub use self::view::{ProducerView, WindowEntry};
use self::window::OlderBatches;
use crate::producer::{Admission, Claim, Fresh, ProducerConfig, Rejection, UnknownProducerPolicy};
use crate::sequence::Sequence;
use crate::sources::Sources;

/// The producers of one partition.
#[derive(Debug)]
pub struct ProducerTable {
    config: ProducerConfig,
    lines: Lines,
    older: OlderBatches,
    forgotten_below: i64,
    strict_below: i64,
    highest_id: i64,
    accepted_unknown: u64,
    /// Producers that are never forgotten, whose ids are registered elsewhere (named ones).
    kept: BTreeSet<i64>,
    sources: Sources,
}

impl ProducerTable {
    /// Parts that [`ProducerTable::expire_part`] can be asked for, one at a time.
    pub const PARTS: usize = SHARDS;

    /// A table without producers.
    pub fn new(config: ProducerConfig) -> ProducerTable {
        let config = ProducerConfig {
            window: config.window.clamp(5, 65_536),
            ..config
        };
        ProducerTable {
            config,
            lines: Lines::default(),
            older: OlderBatches::new(config.window),
            forgotten_below: -1,
            strict_below: -1,
            highest_id: -1,
            accepted_unknown: 0,
            kept: BTreeSet::new(),
            sources: Sources::default(),
        }
    }

    /// What is known of named producers beyond their sequences.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What is known of named producers beyond their sequences.
    pub fn sources_mut(&mut self) -> &mut Sources {
        &mut self.sources
    }

    /// Never forgets this producer, and accepts it at sequence 0 wherever it did not write yet:
    /// its id is registered durably elsewhere, so it cannot be one that was forgotten (I18).
    pub fn keep(&mut self, producer_id: i64) {
        self.kept.insert(producer_id);
    }

    /// Ends what [`ProducerTable::keep`] began: the producer expires as others do.
    pub fn release(&mut self, producer_id: i64) {
        self.kept.remove(&producer_id);
    }

    /// How this table judges, with the window as it is in force.
    pub fn config(&self) -> ProducerConfig {
        self.config
    }

    /// Decides about a client's data batch and changes nothing (see [`crate::producer`] for the
    /// rules). The header's counts must have been checked; its base offset is not looked at.
    /// `fingerprint` is the content check value, the CRC as sent.
    ///
    /// # Errors
    /// Every [`Rejection`]; the batch must not be appended.
    #[inline]
    pub fn admit(&self, header: &BatchHeader, fingerprint: u32) -> Result<Admission, Rejection> {
        if !header.has_producer() {
            return Ok(Admission::Unchecked);
        }
        let claim = match Claim::of(header, fingerprint) {
            Some(claim) if claim.epoch >= 0 => claim,
            _ => {
                return Err(Rejection::Identity {
                    producer_id: header.producer_id,
                    epoch: header.producer_epoch,
                    sequence: header.base_sequence,
                });
            }
        };
        let producer_id = claim.producer_id;
        self.sources.check(producer_id, claim.epoch)?;
        let found = self.lines.find(producer_id);
        let (slot, judged) = match found {
            Some((slot, line)) => (Some(slot), line.judged()),
            None => (None, Line::EMPTY.judged()),
        };
        let mut fresh = Fresh {
            producer_id,
            slot,
            judged,
            accepted_unknown: false,
        };
        match found {
            Some((_, line)) if line.epoch() >= 0 => {
                let known = Standing {
                    line,
                    older: &self.older,
                };
                if let Some(original) = claim.judge(&known, self.config.reuse)? {
                    return Ok(Admission::Duplicate(original));
                }
            }
            // Kafka's brokers store batches with an id and no epoch. That id has no sequence yet,
            // but it was not forgotten either.
            Some(_) => fresh.accepted_unknown = claim.judge_unknown(self.is_strict(&claim), -1)?,
            None => {
                let kept = self.kept.contains(&producer_id);
                let forgotten_below = if kept { -1 } else { self.forgotten_below };
                fresh.accepted_unknown =
                    claim.judge_unknown(self.is_strict(&claim), forgotten_below)?;
            }
        }
        Ok(Admission::Fresh(fresh))
    }

    fn is_strict(&self, claim: &Claim) -> bool {
        self.config.unknown == UnknownProducerPolicy::Strict
            || claim.producer_id < self.strict_below
    }

    /// Takes in a batch that was admitted and is now in the log at `base_offset`. `header` and
    /// `fingerprint` are those it was admitted with, `now_ms` is the engine's elapsed time.
    ///
    /// # Panics
    /// When the producer has changed since the batch was admitted, or the header is another
    /// producer's: an error of the caller, after which the table would contradict the log.
    #[inline]
    pub fn apply(
        &mut self,
        fresh: Fresh,
        header: &BatchHeader,
        fingerprint: u32,
        base_offset: u64,
        now_ms: u64,
    ) {
        let claim = Claim::of(header, fingerprint);
        let claim = claim.filter(|claim| claim.producer_id == fresh.producer_id);
        assert!(claim.is_some(), "the admitted batch is not the one applied");
        let Some(claim) = claim else { return };
        let line = match fresh
            .slot
            .and_then(|slot| self.lines.at(slot, fresh.producer_id))
        {
            Some(line) => line,
            None => self.lines.find_or_insert(fresh.producer_id),
        };
        assert!(
            line.judged() == fresh.judged,
            "producer {} changed between admission and apply",
            fresh.producer_id
        );
        self.accepted_unknown += u64::from(fresh.accepted_unknown);
        self.highest_id = self.highest_id.max(fresh.producer_id);
        line.push(&mut self.older, &claim, base_offset);
        line.last_append_ms = now_ms;
        if claim.transactional && line.open_transaction().is_none() {
            line.set_open_transaction(Some(base_offset));
        }
    }

    /// Takes in any batch as the log has it: data, or with `control` (coordinator epoch, whether
    /// it commits) a transaction marker. Nothing is refused. Sequences that do not continue the
    /// window end it: earlier batches are no longer recognised. A marker or batch of another epoch
    /// empties it. A control batch whose marker compaction has removed only raises the epoch, so
    /// that fencing survives.
    pub fn replay(
        &mut self,
        header: &BatchHeader,
        fingerprint: u32,
        control: Option<(i32, bool)>,
        base_offset: u64,
        now_ms: u64,
    ) {
        if !header.has_producer() {
            return;
        }
        self.highest_id = self.highest_id.max(header.producer_id);
        let line = self.lines.find_or_insert(header.producer_id);
        line.last_append_ms = now_ms;
        if let Some((coordinator_epoch, _)) = control {
            line.set_epoch(&mut self.older, header.producer_epoch);
            line.coordinator_epoch = coordinator_epoch;
            line.set_open_transaction(None);
        } else if header.attributes.is_control() {
            let epoch = line.epoch().max(header.producer_epoch);
            line.set_epoch(&mut self.older, epoch);
        } else {
            if header.attributes.is_transactional() && line.open_transaction().is_none() {
                line.set_open_transaction(Some(base_offset));
            }
            match Claim::of(header, fingerprint) {
                Some(claim) => line.push(&mut self.older, &claim, base_offset),
                // A coordinator's data has no sequences. After it only 0 continues.
                None => {
                    line.set_epoch(&mut self.older, header.producer_epoch);
                    line.clear_window(&mut self.older);
                }
            }
        }
    }

    /// Forgets the producers whose last append is `period_ms` or longer ago, but for those with an
    /// open transaction, and returns how many. Both times are the engine's elapsed time (I31). The
    /// highest id among them raises [`ProducerTable::forgotten_below`] (I18).
    pub fn expire(&mut self, now_ms: u64, period_ms: u64) -> usize {
        (0..Self::PARTS)
            .map(|part| self.expire_part(part, now_ms, period_ms))
            .sum()
    }

    /// [`ProducerTable::keep`] for everybody who has a source position here.
    pub fn keep_named(&mut self) {
        let named = self.sources.positions().map(|(id, _)| id);
        self.kept.extend(named);
    }

    /// [`ProducerTable::expire`] for one part of the producers, `part` being less than
    /// [`ProducerTable::PARTS`]: with a million producers one part takes microseconds, all of them
    /// milliseconds.
    pub fn expire_part(&mut self, part: usize, now_ms: u64, period_ms: u64) -> usize {
        let kept = &self.kept;
        let expired = self.lines.drain(part, |line| {
            line.open_transaction().is_none()
                && !kept.contains(&line.producer_id)
                && now_ms.saturating_sub(line.last_append_ms) >= period_ms
        });
        for line in &expired {
            let mut line = *line;
            line.clear_window(&mut self.older);
            self.raise_forgotten_below(line.producer_id);
        }
        expired.len()
    }

    /// Drops a producer whose session was closed with nothing in doubt: every batch it ever sent
    /// is answered, so none can come again. Does not count as forgotten. A producer with an open
    /// transaction stays; returns whether it was dropped.
    pub fn retire(&mut self, producer_id: i64) -> bool {
        let open = |(_, line): (Slot, &Line)| line.open_transaction().is_some();
        if self.lines.find(producer_id).is_none_or(open) {
            return false;
        }
        if let Some(mut line) = self.lines.remove(producer_id) {
            line.clear_window(&mut self.older);
        }
        true
    }

    /// Highest id that ever expired here; -1 for none. An unknown id up to it is refused at any
    /// sequence under `strict`.
    pub fn forgotten_below(&self) -> i64 {
        self.forgotten_below
    }

    /// Raises [`ProducerTable::forgotten_below`] to `id`, or leaves it if it is higher.
    pub fn raise_forgotten_below(&mut self, id: i64) {
        self.forgotten_below = self.forgotten_below.max(id);
    }

    /// Judges unknown ids below `id` by `strict` whatever the policy: after an open that may have
    /// lost data, the history of those ids may be what was lost (I8).
    pub fn set_strict_below(&mut self, id: i64) {
        self.strict_below = id;
    }

    /// The bound of [`ProducerTable::set_strict_below`]; -1 at first, which is below every id.
    pub fn strict_below(&self) -> i64 {
        self.strict_below
    }

    /// Producers known.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether no producer is known.
    pub fn is_empty(&self) -> bool {
        self.lines.len() == 0
    }

    /// Bytes allocated on behalf of this table (I17), without what the allocator adds.
    pub fn memory_bytes(&self) -> usize {
        self.lines.memory_bytes() + self.older.memory_bytes()
    }

    /// Highest id that was ever in this table; -1 for none.
    pub fn highest_id(&self) -> i64 {
        self.highest_id
    }

    /// What is known of a producer.
    pub fn get(&self, producer_id: i64) -> Option<ProducerView> {
        let (_, line) = self.lines.find(producer_id)?;
        Some(
            Standing {
                line,
                older: &self.older,
            }
            .view(),
        )
    }

    /// All producers, in an order that follows from the calls made so far.
    pub fn iter(&self) -> impl Iterator<Item = ProducerView> {
        self.lines.iter().map(|line| {
            Standing {
                line,
                older: &self.older,
            }
            .view()
        })
    }

    /// Takes in a producer from a snapshot, in place of what is known of it. Of a window that is
    /// longer than this table's, or has a hole, the newest part is kept. A negative id is ignored.
    pub fn insert(&mut self, view: ProducerView) {
        if view.producer_id < 0 {
            return;
        }
        self.highest_id = self.highest_id.max(view.producer_id);
        let line = self.lines.find_or_insert(view.producer_id);
        line.clear_window(&mut self.older);
        *line = Line::new(view.producer_id, view.epoch);
        line.last_append_ms = view.last_append_ms;
        line.coordinator_epoch = view.coordinator_epoch;
        line.set_open_transaction(view.open_transaction_offset);
        for entry in &view.window {
            let ends = Sequence::new(entry.first_sequence).zip(Sequence::new(entry.last_sequence));
            let Some((first, last)) = ends else {
                line.clear_window(&mut self.older);
                continue;
            };
            let claim = Claim {
                producer_id: view.producer_id,
                epoch: view.epoch,
                first,
                count: first.distance(last) + 1,
                fingerprint: entry.fingerprint,
                transactional: false,
            };
            line.push(&mut self.older, &claim, entry.base_offset);
        }
    }

    /// First batches with a sequence other than 0 that [`UnknownProducerPolicy::Kafka`] let in.
    pub fn accepted_unknown(&self) -> u64 {
        self.accepted_unknown
    }
}
