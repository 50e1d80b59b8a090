//! Each producer's sequences, in offset order: no repeat (I2), no gap (I3), no id that was never
//! handed out (I15). Written apart from the engine's own judgement, so that an error there shows.

use std::collections::HashMap;

use partition_log::{PartitionConfig, Sequence, UnknownProducerPolicy};
use record_batch::BatchHeader;

use super::findings::Findings;

/// What the batches so far say of a producer.
#[derive(Debug, Clone, Copy)]
struct Standing {
    epoch: i16,
    /// The sequence after the newest batch; `None` when only a marker was seen.
    next: Option<Sequence>,
    /// First sequence, count and offset of the newest batch.
    newest: (Sequence, u32, u64),
    /// Batches of it may have been given up since.
    may_skip: bool,
}

/// A violation, for [`Findings::problem`].
pub(super) type Violation = (&'static str, String);

/// The producers of one log.
pub(super) struct Producers {
    known: HashMap<i64, Standing>,
    /// Under `strict` every producer begins at 0, unless its beginning is not here any more.
    is_strict: bool,
    /// Whether the topic checks sequences at all.
    is_checked: bool,
    /// Batches may be missing before the ones seen: deleted, or behind damage.
    beginnings_missing: bool,
    /// Batches that do not continue their producer, where that may be no error.
    discontinued: u64,
    /// Ids at or above it were never handed out; `None`: not judged.
    id_bound: Option<i64>,
    /// Batches of such ids, the highest of them, and where the first one is.
    strangers: Option<(u64, i64, String, u64)>,
}

impl Producers {
    pub(super) fn new(config: &PartitionConfig, id_bound: Option<i64>) -> Producers {
        let is_strict = config.producers.unknown == UnknownProducerPolicy::Strict;
        Producers {
            known: HashMap::new(),
            is_strict,
            is_checked: config.idempotence,
            beginnings_missing: false,
            discontinued: 0,
            id_bound: id_bound.filter(|_| is_strict),
            strangers: None,
        }
    }

    /// From here on a producer may be seen for the first time anywhere in its sequences.
    pub(super) fn miss_beginnings(&mut self) {
        self.beginnings_missing = true;
    }

    /// Batches were given up here by a repair: producers may go on behind a gap, and repeat nothing.
    pub(super) fn skip(&mut self) {
        self.known
            .values_mut()
            .for_each(|standing| standing.may_skip = true);
        self.beginnings_missing = true;
    }

    /// Batches were skipped: what is known of the producers may be old.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.beginnings_missing = true;
    }

    /// Takes note of a batch's producer id.
    pub(super) fn note_id(&mut self, header: &BatchHeader, file: &str, position: u64) {
        let id = header.producer_id;
        if self.id_bound.is_some_and(|bound| id >= bound) {
            let (batches, highest, ..) = self
                .strangers
                .get_or_insert_with(|| (0, id, file.to_owned(), position));
            *batches += 1;
            *highest = id.max(*highest);
        }
    }

    /// Judges the next batch of the log. `is_repeat` says whether a batch with these first
    /// sequence and count is among the producer's last ones.
    pub(super) fn judge(
        &mut self,
        header: &BatchHeader,
        base_offset: u64,
        is_repeat: impl Fn(i32, u32) -> bool,
    ) -> Option<Violation> {
        if !self.is_checked || !header.has_producer() {
            return None;
        }
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        let sequence = Sequence::new(header.base_sequence);
        let Some(first) = sequence.filter(|_| !header.attributes.is_control()) else {
            // A marker, or what a coordinator wrote: it has no sequence, and counts as an epoch.
            if let Some(standing) = self.known.get_mut(&id)
                && epoch > standing.epoch
            {
                (standing.epoch, standing.next) = (epoch, None);
            }
            return None;
        };
        let count = header.last_offset_delta.max(0).cast_unsigned() + 1;
        let newest = Standing {
            epoch,
            next: Some(first.advance(count)),
            newest: (first, count, base_offset),
            may_skip: false,
        };
        let Some(known) = self.known.get(&id).copied() else {
            self.known.insert(id, newest);
            let expected = self.is_strict && !self.beginnings_missing && first != Sequence::ZERO;
            return expected.then(|| {
                let first = first.get();
                let what = format!(
                    "producer {id}, epoch {epoch}: its first batch here has sequence {first}, expected 0"
                );
                ("I3", what)
            });
        };
        let violation = self.judge_known(&known, (id, epoch), (first, count), is_repeat);
        // A repeat says nothing of where its producer goes on.
        if violation.as_ref().is_none_or(|(number, _)| *number != "I2") {
            self.known.insert(id, newest);
        }
        violation
    }

    fn judge_known(
        &mut self,
        known: &Standing,
        (id, epoch): (i64, i16),
        (first, count): (Sequence, u32),
        is_repeat: impl Fn(i32, u32) -> bool,
    ) -> Option<Violation> {
        let (expected, got) = match known.next {
            _ if epoch < known.epoch => {
                let what = format!(
                    "producer {id}: epoch {epoch} after epoch {}, which fences it",
                    known.epoch
                );
                return self.discontinue("I3", what);
            }
            Some(next) if epoch == known.epoch => (next, first),
            _ => (Sequence::ZERO, first),
        };
        if expected == got {
            return None;
        }
        let (first, last) = (first.get(), first.advance(count).retreat(1).get());
        let behind = got.distance(expected);
        let what = format!(
            "producer {id}, epoch {epoch}: expected sequence {}, found {first} to {last}; the \
             producer's batch before it is at offset {}",
            expected.get(),
            known.newest.2
        );
        let is_gap = epoch > known.epoch || behind > Sequence::COUNT / 2;
        if is_gap && known.may_skip {
            return None;
        }
        if is_gap {
            return self.discontinue("I3", what);
        }
        let exactly = (known.newest.0, known.newest.1) == (got, count) || is_repeat(first, count);
        let what = format!("{what}: these sequences were appended before");
        if exactly {
            Some(("I2", what))
        } else {
            self.discontinue("I2", what)
        }
    }

    // Under `kafka` a producer that was forgotten may go on anywhere.
    fn discontinue(&mut self, invariant: &'static str, what: String) -> Option<Violation> {
        if self.is_strict {
            return Some((invariant, what));
        }
        self.discontinued += 1;
        None
    }

    /// Reports what concerns the log as a whole.
    pub(super) fn finish(self, log: &str, findings: &mut Findings) {
        if let Some((batches, highest, file, position)) = self.strangers {
            let bound = self.id_bound.unwrap_or(0);
            let what = format!(
                "{batches} batches have producer ids at or above {bound}, the highest is {highest}: \
                 ids that were not handed out yet and will be, to others; run `oncelog repair \
                 --apply --producer-id-floor {}`",
                highest.saturating_add(1)
            );
            findings.problem(file, position, "I15", what);
        }
        if self.discontinued > 0 {
            let count = self.discontinued;
            findings.note(format!(
                "{log}: {count} batches do not continue their producer; under producer.unknown=kafka \
                 one that was forgotten may go on anywhere"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use record_batch::{Batch, BatchBuilder, ProducerIdentity};

    use super::*;

    fn header(producer_id: i64, producer_epoch: i16, base_sequence: i32, count: u8) -> BatchHeader {
        let mut builder = BatchBuilder::new();
        for n in 0..count {
            builder.push(0, None, Some(&[n]), &[]).unwrap();
        }
        let identity = ProducerIdentity {
            producer_id,
            producer_epoch,
            base_sequence,
        };
        *Batch::parse(builder.build(Some(identity)).unwrap())
            .unwrap()
            .header()
    }

    fn producers(unknown: UnknownProducerPolicy) -> Producers {
        let mut config = PartitionConfig::default();
        config.producers.unknown = unknown;
        Producers::new(&config, Some(100))
    }

    /// The invariant that each batch violates, `""` for none.
    fn judged(producers: &mut Producers, batches: &[(i64, i16, i32, u8)]) -> Vec<&'static str> {
        let judge = |(offset, &(id, epoch, sequence, count)): (u64, &(i64, i16, i32, u8))| {
            let header = header(id, epoch, sequence, count);
            let violation = producers.judge(&header, offset, |_, _| false);
            violation.map_or("", |(invariant, _)| invariant)
        };
        (0..).zip(batches).map(judge).collect()
    }

    #[test]
    fn contiguous_sequences_pass_over_the_wrap_and_an_epoch() {
        let mut producers = producers(UnknownProducerPolicy::Strict);
        producers.miss_beginnings();
        let wrap = i32::MAX - 1;
        let batches = [
            (1, 0, wrap, 3),
            (2, 0, 0, 2),
            (1, 0, 1, 4),
            (1, 1, 0, 1),
            (2, 0, 2, 1),
            (1, 1, 1, 1),
        ];
        assert_eq!(judged(&mut producers, &batches), [""; 6]);
    }

    #[test]
    fn repeats_gaps_and_old_epochs_are_told_apart() {
        let mut producers = producers(UnknownProducerPolicy::Strict);
        let batches = [
            (1, 0, 0, 2),
            (1, 0, 0, 2), // repeated whole
            (1, 0, 2, 2), // goes on behind the original
            (1, 0, 0, 2), // repeated, and not the newest
            (1, 0, 3, 2), // overlaps
            (1, 0, 4, 2), // goes on
            (1, 0, 7, 1), // gap
            (1, 0, 8, 1),
            (1, 2, 1, 1), // an epoch begins at 0
            (1, 1, 0, 1), // fenced
            (5, 0, 3, 1), // so does a producer
        ];
        let expected = ["", "I2", "", "I2", "I2", "", "I3", "", "I3", "I3", "I3"];
        assert_eq!(judged(&mut producers, &batches), expected);
    }

    #[test]
    fn kafka_lets_a_forgotten_producer_go_on_anywhere_but_not_repeat_its_newest_batch() {
        let mut producers = producers(UnknownProducerPolicy::Kafka);
        let batches = [(1, 0, 7, 2), (1, 0, 20, 1), (1, 0, 20, 1), (1, 0, 3, 1)];
        assert_eq!(judged(&mut producers, &batches), ["", "", "I2", ""]);
        producers.note_id(&header(500, 0, 0, 1), "f", 0);
        let mut findings = Findings::default();
        producers.finish("t-0", &mut findings);
        let report = findings.into_report();
        assert!(report.ok);
        assert!(report.notes[0].contains("2 batches"), "{:?}", report.notes);
    }

    #[test]
    fn ids_that_were_never_handed_out_are_one_problem() {
        let mut producers = producers(UnknownProducerPolicy::Strict);
        for (id, position) in [(99, 0), (100, 61), (140, 122), (101, 183)] {
            producers.note_id(&header(id, 0, 0, 1), "f", position);
        }
        let mut findings = Findings::default();
        producers.finish("t-0", &mut findings);
        let report = findings.into_report();
        assert_eq!(report.problems.len(), 1);
        let problem = &report.problems[0];
        assert_eq!((problem.invariant, problem.position), ("I15", Some(61)));
        assert!(
            problem.what.contains("3 batches") && problem.what.contains("floor 141"),
            "{problem:?}"
        );
    }
}
