//! The segments of a log, each walked once: what lies below the stable mark, or was sealed, must be
//! whole; what lies above may be torn by a crash, or be written just now.

use std::sync::Arc;

use record_batch::{Batch, BatchHeader};
use segment_storage::{
    Check, DiskFile, Footer, FooterBuilder, Invalid, Place, ScanError, Scanner, names,
};

use super::findings::Findings;
use super::indexes::IndexCheck;
use super::marks::{self, Known};
use super::producers::Producers;
use super::snapshots::Snapshots;
use super::verify::Depth;

/// A segment, and how much of it is certain.
pub(super) struct Certain<'a> {
    pub(super) base_offset: u64,
    pub(super) file: &'a dyn DiskFile,
    pub(super) footer: Option<Footer>,
    /// Where the segment before it ended, as its footer or the mark says.
    pub(super) previous_end: Option<u64>,
    pub(super) bytes: u64,
}

/// Where the batches end so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing came yet.
    Beginning,
    /// Damage: what follows cannot be told to continue it.
    Unknown,
    /// The next offset, and the newest generation.
    At(u64, i32),
}

/// Walks the segments of one log in order.
pub(super) struct Segments {
    pub(super) place: Place,
    pub(super) known: Known,
    pub(super) depth: Depth,
    /// The newest generation of the directory.
    pub(super) generation: i32,
    pub(super) end: End,
    /// The offset after the last batch that is certain.
    pub(super) certain_end: u64,
    pub(super) producers: Option<Producers>,
    pub(super) snapshots: Snapshots,
    /// Whole batches above the mark, in bytes.
    pub(super) above: u64,
    /// Offsets that a repair gave up.
    pub(super) given_up: Vec<(u64, u64)>,
    /// Where walks above the mark ended early, for the generations behind them.
    torn: Vec<Torn>,
}

struct Torn {
    name: String,
    position: u64,
    generation: i32,
    reason: Invalid,
}

impl Segments {
    pub(super) fn new(
        place: Place,
        (known, generation): (Known, i32),
        depth: Depth,
        producers: Option<Producers>,
        snapshots: Snapshots,
    ) -> Segments {
        Segments {
            place,
            known,
            depth,
            generation,
            end: End::Beginning,
            certain_end: known.mark.map_or(0, |mark| mark.next_offset),
            producers,
            snapshots,
            above: 0,
            given_up: Vec::new(),
            torn: Vec::new(),
        }
    }

    /// What follows is not known to continue what was read.
    pub(super) fn lose_track(&mut self) {
        self.end = End::Unknown;
        self.snapshots.lose_track();
        if let Some(producers) = &mut self.producers {
            producers.forget();
        }
    }

    /// Whether the segment begins where the one before it ended (I24: none is missing).
    pub(super) fn check_continues(&mut self, segment: &Certain<'_>, findings: &mut Findings) {
        let base = segment.base_offset;
        let file = self.place.display(&names::segment(base));
        let what = match (self.end, segment.previous_end) {
            (End::Beginning, Some(before)) => {
                let begins = before == 0
                    || before <= self.known.start_offset()
                    || self.known.start.is_none()
                    || marks::is_start_moved(&self.place, &self.known);
                (!begins).then(|| {
                    format!("the segment before it, which ends at offset {before}, is missing")
                })
            }
            (End::At(end, _), Some(before)) => (before != end || before > base).then(|| {
                format!(
                    "it follows offset {before}, but the segment before it ends at {end}: \
                         one is missing"
                )
            }),
            (End::At(end, _), None) => (base < end)
                .then(|| format!("it begins at {base}, but the segment before it ends at {end}")),
            (End::Beginning | End::Unknown, _) => None,
        };
        if let Some(what) = what {
            findings.problem(file, None, "I24", what);
            self.lose_track();
        }
    }

    /// Walks the certain part of a segment.
    pub(super) fn walk(&mut self, segment: &Certain<'_>, findings: &mut Findings) {
        let base = segment.base_offset;
        let name = self.place.display(&names::segment(base));
        let low = match self.end {
            End::At(_, generation) => generation,
            End::Beginning | End::Unknown => 0,
        };
        let sealed_bytes = segment.footer.map(|footer| footer.bytes);
        let mut index = IndexCheck::open(&self.place, base, sealed_bytes, findings);
        let previous_end = segment.previous_end.unwrap_or(base);
        if self.given_up.iter().any(|range| range.1 == base)
            && let Some(producers) = &mut self.producers
        {
            producers.skip();
        }
        let mut made = FooterBuilder::new((self.place.log_id, base, previous_end));
        let generations = (low, self.generation);
        let bytes = segment.bytes;
        let mut scanner = Scanner::new(segment.file, (0, base), bytes, generations, Check::Crc);
        let mut is_mark_seen = !self.is_mark_in(base);
        if self.end == End::Beginning {
            self.begin(base);
        }
        let damage = loop {
            is_mark_seen |= self.check_mark(base, &scanner, findings);
            let header = match scanner.advance() {
                Ok(None) => break None,
                Ok(Some(header)) => header,
                Err(error) => break Some(error),
            };
            let (position, next_offset) = (scanner.batch_position(), scanner.next_offset());
            made.add(&header, scanner.header_bytes(), next_offset);
            let records = u64::try_from(header.record_count).unwrap_or(0);
            findings.count(records, scanner.position() - position);
            let base_offset = u64::try_from(header.base_offset).unwrap_or(0);
            if let Some(index) = &mut index {
                index.batch(position, base_offset, header.max_timestamp);
            }
            if self.depth == Depth::Records {
                check_records(&mut scanner, &header, (&name, position), findings);
            }
            self.snapshots.reach(base_offset, findings);
            self.judge(&header, base_offset, (&name, position), findings);
            self.snapshots.replay(&header, base_offset, &mut scanner);
        };
        if let Some(index) = index {
            index.finish(scanner.position(), findings);
        }
        if let Some(error) = damage {
            report_damage(&name, &error, segment, findings);
            self.lose_track();
            return;
        }
        self.end = End::At(scanner.next_offset(), scanner.generation());
        self.certain_end = self.certain_end.max(scanner.next_offset());
        if !is_mark_seen {
            let position = self.known.mark.map_or(0, |mark| mark.position);
            let what = format!(
                "the stable mark at byte {position} of {name} is not between two batches, or above its end"
            );
            let file = self.place.display(segment_storage::marks::FILE);
            findings.problem(file, None, "R15", what);
        }
        if let Some(footer) = segment.footer {
            self.compare_footer(&name, footer, made.finish(bytes), findings);
        }
    }

    // The log's batches, as far as they are here, begin at `base`.
    fn begin(&mut self, base: u64) {
        let history_from = self.known.start.map_or(0, |start| start.history_from);
        self.snapshots.begin(base, base > history_from);
        if let Some(producers) = &mut self.producers
            && base > history_from
        {
            producers.miss_beginnings();
        }
    }

    fn is_mark_in(&self, base: u64) -> bool {
        let mark = self.known.mark.filter(|mark| mark.position > 0);
        mark.is_some_and(|mark| mark.segment_base == base)
    }

    // Whether the walk is at the mark; the offset there must be the mark's.
    fn check_mark(&self, base: u64, scanner: &Scanner<'_>, findings: &mut Findings) -> bool {
        let Some(mark) = self.known.mark.filter(|_| self.is_mark_in(base)) else {
            return false;
        };
        if scanner.position() != mark.position {
            return false;
        }
        let (expected, found) = (mark.next_offset, scanner.next_offset());
        if expected != found {
            let position = mark.position;
            let name = self.place.display(&names::segment(base));
            let what = format!(
                "the mark says that offset {expected} follows byte {position}, found {found}"
            );
            findings.problem(name, position, "R15", what);
        }
        true
    }

    fn judge(
        &mut self,
        header: &BatchHeader,
        base_offset: u64,
        (name, position): (&str, u64),
        findings: &mut Findings,
    ) {
        let Some(producers) = &mut self.producers else {
            return;
        };
        producers.note_id(header, name, position);
        let snapshots = &self.snapshots;
        let id = header.producer_id;
        let is_repeat = |first, count| snapshots.remembers(id, first, count);
        if let Some((invariant, what)) = producers.judge(header, base_offset, is_repeat) {
            let what = format!("batch at offset {base_offset}: {what}");
            findings.problem(name, position, invariant, what);
        }
    }

    // The footer's own CRC held, so where they differ the segment is not what was sealed.
    fn compare_footer(&self, name: &str, footer: Footer, made: Footer, findings: &mut Findings) {
        let side = self.place.display(&names::footer(footer.base_offset));
        // When it was last appended to is not in the segment.
        let made = Footer {
            last_append_ms: footer.last_append_ms,
            ..made
        };
        if made != footer {
            let shown = |f: &Footer| {
                format!(
                    "{} batches, {} records, offsets to {}, generations {} to {}, \
                     largest timestamp {}, hash {:016x}",
                    f.batches,
                    f.records,
                    f.next_offset,
                    f.generations.0,
                    f.generations.1,
                    f.max_timestamp,
                    f.header_hash
                )
            };
            let what = format!("{side} says {}; found {}", shown(&footer), shown(&made));
            findings.problem(name, None, "R12", what);
        }
        if let Some(mark) = self.known.mark
            && mark.segment_base == footer.base_offset
            && mark.position > 0
            && mark.previous_end != footer.previous_end
        {
            let what = format!(
                "it says that the segment before ended at {}, the stable mark says {}",
                footer.previous_end, mark.previous_end
            );
            findings.problem(side, None, "R12", what);
        }
    }

    /// Walks what lies above the mark: it may end anywhere, but where it does is told.
    pub(super) fn walk_above(
        &mut self,
        name: &str,
        file: &Arc<dyn DiskFile>,
        (position, offset): (u64, u64),
        findings: &mut Findings,
    ) {
        let shown = self.place.display(name);
        let generations = (0, self.generation);
        let end = file.len().max(position);
        let mut scanner = Scanner::new(&**file, (position, offset), end, generations, Check::Crc);
        let mut first_generation = None;
        let stopped = loop {
            match scanner.advance() {
                Ok(Some(header)) => {
                    first_generation.get_or_insert(header.leader_epoch);
                }
                Ok(None) => break None,
                Err(ScanError::Invalid { reason, .. }) => break Some(reason),
                Err(ScanError::Read { source, .. }) => {
                    findings.note(format!(
                        "{shown}: cannot be read above the stable mark: {source}"
                    ));
                    break None;
                }
            }
        };
        if let Some(first) = first_generation {
            self.check_torn_before(first, findings);
        }
        self.above += scanner.position() - position;
        if let Some(first) = first_generation {
            // Snapshots up to the mark can be compared, later ones not: this is not replayed.
            self.snapshots.reach(self.certain_end, findings);
            self.lose_track();
            self.end = End::At(scanner.next_offset(), scanner.generation().max(first));
        }
        let Some(reason) = stopped else { return };
        let at = scanner.position();
        if !matches!(reason, Invalid::Unwritten) {
            let left = end - at;
            findings.note(format!(
                "{shown}: {left} bytes from byte {at} on, above the stable mark, are no whole \
                 batches ({reason}): torn by a crash, or being written; opening for writing cuts them off"
            ));
        }
        let generation = match (first_generation, self.end) {
            (Some(_), _) => scanner.generation(),
            (None, End::At(_, generation)) => generation,
            (None, _) => self.generation,
        };
        self.torn.push(Torn {
            name: shown,
            position: at,
            generation,
            reason,
        });
    }

    // A generation begins only after recovery synced and cut everything before it (R13).
    fn check_torn_before(&mut self, first_generation: i32, findings: &mut Findings) {
        for torn in std::mem::take(&mut self.torn) {
            if torn.generation < first_generation {
                let what = format!(
                    "{}, but generation {first_generation} began after it",
                    torn.reason
                );
                findings.problem(torn.name, torn.position, "I24", what);
            } else {
                self.torn.push(torn);
            }
        }
    }
}

fn report_damage(name: &str, error: &ScanError, segment: &Certain<'_>, findings: &mut Findings) {
    match error {
        ScanError::Invalid { position, reason } => {
            let below = if segment.footer.is_some() {
                "in a sealed segment"
            } else {
                "below the stable mark"
            };
            let what = format!("{reason}; this is {below}, so no crash explains it");
            findings.problem(name, *position, "I24", what);
        }
        ScanError::Read { position, source } => {
            findings.problem(name, *position, "I27", format!("cannot be read: {source}"));
        }
    }
}

fn check_records(
    scanner: &mut Scanner<'_>,
    header: &BatchHeader,
    (name, position): (&str, u64),
    findings: &mut Findings,
) {
    let Ok(bytes) = scanner.batch_bytes() else {
        return;
    };
    let mut found = 0;
    let read = Batch::parse(bytes)
        .and_then(|batch| batch.records())
        .and_then(|records| {
            for record in records {
                record?;
                found += 1;
            }
            Ok(())
        });
    if let Err(error) = read {
        findings.problem(name, position, "R10", format!("its records: {error}"));
    } else if found != header.record_count {
        let what = format!(
            "the batch says {} records, found {found}",
            header.record_count
        );
        findings.problem(name, position, "R10", what);
    }
}
