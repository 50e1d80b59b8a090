//! The unclean half of an open: the mark's segment and all above it.

use std::io;
use std::sync::Arc;

use super::{Listing, Recovery, Stop, io_error};
use crate::names;
use crate::scan::{Check, Invalid, ScanError, Scanner};
use crate::segment::{Place, Segment};

/// What a scan of one file found.
pub(super) struct FileScan {
    /// Where the last valid batch ends, in bytes.
    pub(super) tail: u64,
    bytes: u64,
    next_offset: u64,
    first_generation: i32,
    pub(super) generation: i32,
    /// The offset of the batch that begins, or would, where the stable mark says that one does; in
    /// the mark's segment.
    offset_at_mark: Option<u64>,
    /// Why it ended before the file did.
    pub(super) invalid: Option<Invalid>,
}

impl Recovery {
    pub(super) fn scan_above(&mut self, listing: &Listing) -> Result<(), Stop> {
        let above: Vec<u64> = listing
            .segments
            .iter()
            .map(|s| s.0)
            .filter(|&base| base >= self.mark.segment_base)
            .collect();
        let last = self.found.segments.last().and_then(|s| s.footer());
        let mut low = last.map_or(0, |footer| footer.generations.1);
        let mut torn = None;
        for (at, &base) in above.iter().enumerate() {
            let name = names::segment(base);
            let first = base == self.mark.segment_base;
            let end = self.found.end.1;
            let previous_end = if first { self.mark.previous_end } else { end };
            if !first && base != end && !self.is_jump(base) {
                // A hole: what lies behind it reached the disk before what lies in it.
                let reason = format!("it begins at offset {base}, the file before ends at {end}");
                self.refuse_if_durable(&above[at..], listing, (end, low), |recovery| {
                    recovery.corrupt(&name, 0, end, reason)
                })?;
                torn = Some(at);
                break;
            }
            let scan = self.scan_file(&name, base, low)?;
            self.refuse_damage(base, &scan)?;
            if let Some(invalid) = &scan.invalid {
                let reason = format!("{invalid}, but the log went on durably after it");
                let known = (scan.next_offset, scan.generation);
                self.refuse_if_durable(&above[at + 1..], listing, known, |recovery| {
                    recovery.corrupt(&name, scan.tail, scan.next_offset, reason)
                })?;
            }
            if scan.tail == 0 {
                // Nothing of the file survived, and its name would be in the way of a new one.
                torn = Some(at);
                break;
            }
            low = scan.generation;
            self.keep(base, previous_end, &name, &scan)?;
        }
        if let Some(from) = torn {
            self.remove_segments(&above[from..])?;
        }
        self.adopt_prepared(&listing.prepared, low, torn.is_none())
    }

    /// Whether the log, opened at the mark, jumped to its ceiling, and this is where it went on.
    pub(super) fn is_jump(&self, base: u64) -> bool {
        let mark = self.mark;
        mark.jump_to == base && mark.jump_to > 0 && self.found.end.1 == mark.next_offset
    }

    // Below the mark, or in a segment with a footer, which is written only when all of it is
    // durable, nothing can be torn.
    fn refuse_damage(&self, base: u64, scan: &FileScan) -> Result<(), Stop> {
        let footer = self.read_footer(base)?;
        let in_footer = footer.map_or(0, |f| f.bytes);
        let in_mark = if base == self.mark.segment_base {
            self.mark.position
        } else {
            0
        };
        let durable = in_mark.max(in_footer);
        if scan.tail >= durable {
            return self.refuse_other_batches(base, scan);
        }
        let reason = match &scan.invalid {
            Some(invalid) => invalid.to_string(),
            None => format!("the file has {} bytes, expected {durable}", scan.bytes),
        };
        Err(self.corrupt(&names::segment(base), scan.tail, scan.next_offset, reason))
    }

    // Whole batches that are not those that the mark was written for are another log's, or of
    // another time (I22).
    fn refuse_other_batches(&self, base: u64, scan: &FileScan) -> Result<(), Stop> {
        let (position, next_offset) = (self.mark.position, self.mark.next_offset);
        if base != self.mark.segment_base
            || position == 0
            || scan.offset_at_mark == Some(next_offset)
        {
            return Ok(());
        }
        let reason = match scan.offset_at_mark {
            Some(found) => format!("offset {found} is at the stable mark, expected {next_offset}"),
            None => format!("no batch begins at the stable mark (offset {next_offset})"),
        };
        Err(self.corrupt(&names::segment(base), position, base, reason))
    }

    // Segments are sealed oldest first: before one with a footer nothing can be torn. And a
    // generation begins only after recovery synced and marked everything before it: nor can the
    // log be torn behind a batch that lies above the mark, `known` by the offset after it and its
    // generation, where a later generation exists.
    fn refuse_if_durable(
        &self,
        later: &[u64],
        listing: &Listing,
        known: (u64, i32),
        corruption: impl FnOnce(&Recovery) -> Stop,
    ) -> Result<(), Stop> {
        for &base in later {
            let mut is_durable = listing.footers.contains(&base);
            if !is_durable && known.0 > self.mark.next_offset {
                let other = self.scan_file(&names::segment(base), base, 0)?;
                is_durable = other.tail > 0 && other.first_generation > known.1;
            }
            if is_durable {
                return Err(corruption(self));
            }
        }
        Ok(())
    }

    pub(super) fn scan_file(&self, name: &str, base: u64, low: i32) -> Result<FileScan, Stop> {
        let path = self.place.path(name);
        let scanned = (|| {
            let file = self.place.disk.open(&path)?;
            file.drop_cache()?;
            let generations = (low, self.generation);
            let mut scanner = Scanner::new(&*file, (0, base), file.len(), generations, Check::Crc);
            let mut first_generation = None;
            let mut offset_at_mark = None;
            loop {
                if scanner.position() == self.mark.position {
                    offset_at_mark = Some(scanner.next_offset());
                }
                let invalid = match scanner.advance() {
                    Ok(Some(header)) => {
                        first_generation.get_or_insert(header.leader_epoch);
                        continue;
                    }
                    Ok(None) => None,
                    Err(ScanError::Invalid { reason, .. }) => Some(reason),
                    Err(ScanError::Read { source, .. }) => return Err(source),
                };
                return Ok(FileScan {
                    tail: scanner.position(),
                    bytes: file.len(),
                    next_offset: scanner.next_offset(),
                    offset_at_mark,
                    first_generation: first_generation.unwrap_or(low),
                    generation: scanner.generation(),
                    invalid,
                });
            }
        })();
        scanned.map_err(|e: io::Error| Stop::Open(io_error(&self.place, name, e)))
    }

    // Cuts the torn tail off, and seals: an old file is never written into again (R8).
    pub(super) fn keep(
        &mut self,
        base: u64,
        previous_end: u64,
        name: &str,
        scan: &FileScan,
    ) -> Result<(), Stop> {
        let fail = |place: &Place, e| Stop::Open(io_error(place, name, e));
        let segment = Segment::resting(self.place.clone(), (base, previous_end), scan.tail);
        segment.note_append(self.age_from(base, scan.tail));
        if scan.tail < scan.bytes {
            if !matches!(scan.invalid, Some(Invalid::Unwritten)) {
                let given_up = scan.bytes - scan.tail;
                self.report
                    .cut
                    .push((self.place.display(name), scan.tail, given_up));
            }
            segment.cut().map_err(|e| fail(&self.place, e))?;
        }
        let footer = match self.read_footer(base)? {
            Some(f) if (f.bytes, f.next_offset) == (scan.tail, scan.next_offset) => f,
            _ => segment
                .write_footer(Check::Headers)
                .map_err(|e| self.scan_stop(name, base, e))?,
        };
        self.found.end = (footer.bytes, footer.next_offset);
        self.found
            .segments
            .push(Arc::new(Segment::sealed(self.place.clone(), footer)));
        Ok(())
    }
}
