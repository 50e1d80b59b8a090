//! Opening a log: what survived, what is cut, what is damaged.
//!
//! Damage is judged by position (R13, I24). Below the stable mark nothing is ever cut: such a log
//! opens for reading only, with its [`Corruption`]. Above it lies a tail that a crash may have
//! torn: it is cut at the first bytes that are not the next batch, and nothing behind is looked at
//! (R11). What is believed is what the device returns, not the page cache (R7). Every step can be
//! interrupted and repeated (I23).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use record_batch::{BatchHeader, HEADER_BYTES};

use crate::error::{Corruption, OpenError};
use crate::footer::{self, Footer};
use crate::log::{Found, LogConfig, SegmentedLog};
use crate::marks::{Marks, StableMark};
use crate::names;
use crate::scan::{Check, Invalid, ScanError, Scanner};
use crate::segment::{Place, Segment};
use crate::state_file;

/// What an open did, for people and for the layers above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The log was closed cleanly, and nothing had to be scanned.
    pub clean: bool,
    /// The torn tails that were cut: file, first byte given up, bytes.
    pub cut: Vec<(String, u64, u64)>,
    /// Files that were removed whole: behind a torn tail, never used, or below the log's start.
    pub removed: Vec<String>,
    /// Segments whose footer was missing and was made anew after a full check.
    pub footers_rebuilt: Vec<String>,
    /// Offsets below the ceiling that may have been shown and are not there any more (I8, I9).
    pub lost: Option<(u64, u64)>,
    /// Damage below the stable mark; the log takes no appends.
    pub corruption: Option<Corruption>,
}

/// The names in a log's directory that matter here.
struct Listing {
    segments: Vec<(u64, u64)>,
    prepared: Vec<(String, u64)>,
    footers: Vec<u64>,
}

fn list(place: &Place) -> Result<Listing, OpenError> {
    let entries = place
        .disk
        .list(&place.directory)
        .map_err(|e| io_error(place, "", e))?;
    let mut listing = Listing {
        segments: Vec::new(),
        prepared: Vec::new(),
        footers: Vec::new(),
    };
    for entry in entries {
        if let Some(base) = names::offset_of(&entry.name, "log") {
            listing.segments.push((base, entry.len));
        } else if let Some(base) = names::offset_of(&entry.name, "footer") {
            listing.footers.push(base);
        } else if names::is_prepared(&entry.name) {
            listing.prepared.push((entry.name, entry.len));
        }
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

fn io_error(place: &Place, name: &str, source: io::Error) -> OpenError {
    OpenError::Io {
        file: place.display(name),
        source,
    }
}

/// Collects what an open finds.
struct Recovery {
    place: Place,
    mark: StableMark,
    generation: i32,
    found: Found,
    report: Recovered,
}

impl SegmentedLog {
    /// Opens a log for writing: recovers what has to be recovered. `generation` is the new one,
    /// above all that were stamped before.
    ///
    /// # Errors
    /// [`OpenError`] when nothing can be said of the log at all. Damage in a segment is no error
    /// here: see [`Recovered::corruption`].
    pub fn open(
        place: Place,
        config: LogConfig,
        generation: i32,
    ) -> Result<(SegmentedLog, Recovered), OpenError> {
        let marks = Arc::new(open_marks(&place)?);
        marks
            .settle()
            .map_err(|e| io_error(&place, crate::marks::FILE, e))?;
        let (mark, ceiling, start) = (marks.mark()?, marks.ceiling()?, marks.start()?);
        let listing = list(&place)?;
        let found = Found {
            segments: Vec::new(),
            unsealed: VecDeque::new(),
            end: (0, 0),
            next_offset: 0,
            start,
            ceiling: 0,
            prepared_count: 0,
        };
        let report = Recovered::default();
        let mut recovery = Recovery {
            place,
            mark,
            generation,
            found,
            report,
        };
        let outcome = recovery.run(listing, mark.clean);
        match outcome {
            Ok(()) => {}
            Err(Stop::Open(error)) => return Err(error),
            Err(Stop::Corrupt(corruption)) => {
                recovery.report.corruption = Some(corruption);
                recovery.found.end = (mark.position, mark.next_offset);
            }
        }
        let Recovery {
            place,
            mut found,
            mut report,
            ..
        } = recovery;
        let tail = found.end.1;
        found.next_offset = tail.max(ceiling).max(start.offset);
        if ceiling > tail && !report.clean {
            report.lost = Some((tail, ceiling));
        }
        let log = SegmentedLog::new(place, config, marks, generation, found);
        if report.corruption.is_none() && !report.clean {
            log.mark_recovered()
                .map_err(|e| io_error(log.place(), "marks", e))?;
        }
        Ok((log, report))
    }
}

fn open_marks(place: &Place) -> Result<Marks, OpenError> {
    let marks = Marks::open(&place.disk, &place.directory)?;
    if marks.log_id() != place.log_id {
        return Err(OpenError::Foreign {
            file: place.display(crate::marks::FILE),
            found: marks.log_id(),
            expected: place.log_id,
        });
    }
    Ok(marks)
}

enum Stop {
    Open(OpenError),
    Corrupt(Corruption),
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Stop {
        Stop::Open(error)
    }
}

impl Recovery {
    fn run(&mut self, listing: Listing, clean: bool) -> Result<(), Stop> {
        self.report.clean = clean;
        let below: Vec<_> = listing
            .segments
            .iter()
            .filter(|(base, _)| *base < self.mark.segment_base)
            .collect();
        for (at, &&(base, bytes)) in below.iter().enumerate() {
            let next = below.get(at + 1).map_or(self.mark.segment_base, |s| s.0);
            if next <= self.found.start.offset {
                self.remove_below_start(base)?;
            } else {
                self.open_sealed(base, bytes)?;
            }
        }
        if below.is_empty() {
            self.found.end = (0, self.mark.previous_end.max(self.found.start.offset));
        }
        let at_mark = listing
            .segments
            .iter()
            .find(|s| s.0 == self.mark.segment_base)
            .copied();
        let nothing_written = self.mark.position == 0;
        match at_mark {
            Some((base, bytes)) if bytes >= self.mark.position => {
                self.check_continues(base, self.mark.previous_end)?;
                if clean && bytes == self.mark.position {
                    self.rest_at_mark();
                    return self.remove_prepared(&listing.prepared);
                }
                self.report.clean = false;
            }
            None if nothing_written => {
                self.found.end = (0, self.mark.next_offset);
                self.report.clean = clean && listing.prepared.is_empty();
            }
            other => {
                let found = other.map_or("no file".to_owned(), |(_, b)| format!("{b} bytes"));
                let (position, offset) = (0, self.mark.segment_base);
                let reason = format!("expected {} bytes, found {found}", self.mark.position);
                let file = names::segment(self.mark.segment_base);
                return Err(self.corrupt(&file, position, offset, reason));
            }
        }
        self.scan_above(&listing)
    }

    // Clean: nothing above the mark, and nothing was ever written into a prepared file.
    fn rest_at_mark(&mut self) {
        let whole = (self.mark.segment_base, self.mark.previous_end);
        let segment = Arc::new(Segment::resting(
            self.place.clone(),
            whole,
            self.mark.position,
        ));
        self.found.segments.push(segment.clone());
        self.found.unsealed.push_back(segment);
        self.found.end = (self.mark.position, self.mark.next_offset);
    }

    fn corrupt(&self, name: &str, position: u64, offset: u64, reason: String) -> Stop {
        Stop::Corrupt(Corruption {
            file: self.place.display(name),
            position,
            offset,
            reason,
        })
    }

    fn remove_below_start(&mut self, base: u64) -> Result<(), Stop> {
        let segment = Segment::resting(self.place.clone(), (base, base), 0);
        segment
            .remove()
            .map_err(|e| io_error(&self.place, &names::segment(base), e))?;
        self.report.removed.push(names::segment(base));
        Ok(())
    }

    // The segment must begin where the one before it ended; where the log jumped to its ceiling,
    // it says so itself.
    fn check_continues(&self, base: u64, previous_end: u64) -> Result<(), Stop> {
        let Some(before) = self.found.segments.last().and_then(|s| s.footer()) else {
            return if previous_end <= self.found.start.offset || previous_end == 0 {
                Ok(())
            } else {
                let reason = format!("the segment that ends at offset {previous_end} is missing");
                Err(self.corrupt(&names::segment(base), 0, previous_end, reason))
            };
        };
        if before.next_offset == previous_end && previous_end <= base {
            return Ok(());
        }
        let end = before.next_offset;
        let reason = format!("it follows offset {previous_end}, but the file before ends at {end}");
        Err(self.corrupt(&names::segment(base), 0, end, reason))
    }

    fn read_footer(&self, base: u64) -> Result<Option<Footer>, OpenError> {
        let name = names::footer(base);
        let path = self.place.path(&name);
        let read =
            state_file::read::<Footer>(&*self.place.disk, &path, footer::MAGIC, footer::VERSION);
        match read {
            Ok(Some(f)) if f.log_id != self.place.log_id => Err(OpenError::Foreign {
                file: self.place.display(&name),
                found: f.log_id,
                expected: self.place.log_id,
            }),
            Ok(Some(f)) if f.base_offset == base => Ok(Some(f)),
            // Missing or damaged: the segment itself is checked from end to end instead.
            _ => Ok(None),
        }
    }

    fn open_sealed(&mut self, base: u64, bytes: u64) -> Result<(), Stop> {
        let name = names::segment(base);
        let previous_end = self
            .found
            .segments
            .last()
            .and_then(|s| s.footer())
            .map_or(base, |f| f.next_offset);
        let footer = match self.read_footer(base)? {
            Some(footer) => footer,
            None => {
                let resting = Segment::resting(self.place.clone(), (base, previous_end), bytes);
                let made = resting.write_footer(Check::Crc);
                self.report.footers_rebuilt.push(name.clone());
                made.map_err(|e| self.scan_stop(&name, base, e))?
            }
        };
        if footer.bytes != bytes {
            let reason = format!(
                "the file has {bytes} bytes, its footer says {}",
                footer.bytes
            );
            return Err(self.corrupt(&name, bytes.min(footer.bytes), base, reason));
        }
        self.check_continues(base, footer.previous_end)?;
        self.found.end = (footer.bytes, footer.next_offset);
        self.found
            .segments
            .push(Arc::new(Segment::sealed(self.place.clone(), footer)));
        Ok(())
    }

    fn scan_stop(&self, name: &str, offset: u64, error: ScanError) -> Stop {
        match error {
            ScanError::Read { source, .. } => Stop::Open(io_error(&self.place, name, source)),
            ScanError::Invalid { position, reason } => {
                self.corrupt(name, position, offset, reason.to_string())
            }
        }
    }

    /// The unclean half: the mark's segment and all above it.
    fn scan_above(&mut self, listing: &Listing) -> Result<(), Stop> {
        let above: Vec<u64> = listing
            .segments
            .iter()
            .map(|s| s.0)
            .filter(|&base| base >= self.mark.segment_base)
            .collect();
        let mut low = 0;
        let mut torn = None;
        for (at, &base) in above.iter().enumerate() {
            let name = names::segment(base);
            let first = base == self.mark.segment_base;
            let end = self.found.end.1;
            let previous_end = if first { self.mark.previous_end } else { end };
            let scan = self.scan_file(&name, base, low)?;
            if let Some(invalid) = &scan.invalid {
                self.refuse_damage_below_mark(base, &scan, invalid)?;
                self.refuse_if_later_generation(&above[at + 1..], &name, &scan, invalid)?;
            }
            let jumped = base > end && scan.first_generation > low;
            let continues = first || base == end || jumped;
            if !continues || scan.tail == 0 {
                // A hole: what lies behind it reached the disk before what lies in it. Or nothing
                // of the file survived, and its name would be in the way of a new one.
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

    fn refuse_damage_below_mark(
        &self,
        base: u64,
        scan: &FileScan,
        invalid: &Invalid,
    ) -> Result<(), Stop> {
        let below_mark = base == self.mark.segment_base && scan.tail < self.mark.position;
        // A footer is written only when all of the segment is durable.
        let below_footer = self.read_footer(base)?.is_some_and(|f| f.bytes > scan.tail);
        if below_mark || below_footer {
            let name = names::segment(base);
            return Err(self.corrupt(&name, scan.tail, scan.next_offset, invalid.to_string()));
        }
        Ok(())
    }

    // A generation begins only after recovery cut and synced everything before it, so nothing
    // before it can be torn.
    fn refuse_if_later_generation(
        &self,
        later: &[u64],
        name: &str,
        scan: &FileScan,
        invalid: &Invalid,
    ) -> Result<(), Stop> {
        for &base in later {
            let other = self.scan_file(&names::segment(base), base, 0)?;
            if other.tail > 0 && other.first_generation > scan.generation {
                let later = other.first_generation;
                let reason = format!("{invalid}, but generation {later} began after it");
                return Err(self.corrupt(name, scan.tail, scan.next_offset, reason));
            }
        }
        Ok(())
    }

    fn scan_file(&self, name: &str, base: u64, low: i32) -> Result<FileScan, Stop> {
        let path = self.place.path(name);
        let scanned = (|| {
            let file = self.place.disk.open(&path)?;
            file.drop_cache()?;
            let generations = (low, self.generation);
            let mut scanner = Scanner::new(&*file, (0, base), file.len(), generations, Check::Crc);
            let mut first_generation = None;
            loop {
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
                    first_generation: first_generation.unwrap_or(low),
                    generation: scanner.generation(),
                    invalid,
                });
            }
        })();
        scanned.map_err(|e: io::Error| Stop::Open(io_error(&self.place, name, e)))
    }

    // Cuts the torn tail off, and seals: an old file is never written into again (R8).
    fn keep(
        &mut self,
        base: u64,
        previous_end: u64,
        name: &str,
        scan: &FileScan,
    ) -> Result<(), Stop> {
        let fail = |place: &Place, e| Stop::Open(io_error(place, name, e));
        let segment = Segment::resting(self.place.clone(), (base, previous_end), scan.tail);
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
            Some(footer) if footer.bytes == scan.tail => footer,
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

    // Newest first, so that a crash in between leaves a shorter row and never a hole.
    fn remove_segments(&mut self, bases: &[u64]) -> Result<(), Stop> {
        for &base in bases.iter().rev() {
            let segment = Segment::resting(self.place.clone(), (base, base), 0);
            let name = names::segment(base);
            segment
                .remove()
                .and_then(|()| self.place.disk.sync_names(&self.place.directory))
                .map_err(|e| io_error(&self.place, &name, e))?;
            self.report.removed.push(name);
        }
        Ok(())
    }

    // The base offset of the batch that a prepared file begins with, if it holds any.
    fn first_offset(&self, name: &str) -> Result<Option<u64>, Stop> {
        let read = (|| {
            let file = self.place.disk.open(&self.place.path(name))?;
            file.drop_cache()?;
            let mut head = [0; HEADER_BYTES];
            if file.len() < head.len() as u64 {
                return Ok(None);
            }
            file.read_at(&mut head, 0)?;
            Ok(BatchHeader::read(&head)
                .ok()
                .and_then(|h| u64::try_from(h.base_offset).ok()))
        })();
        read.map_err(|e| Stop::Open(io_error(&self.place, name, e)))
    }

    // A segment may have been written before it had its own name: it is adopted where it
    // continues the log, else it was never visible to anybody.
    fn adopt_prepared(
        &mut self,
        prepared: &[(String, u64)],
        low: i32,
        whole: bool,
    ) -> Result<(), Stop> {
        let mut left: Vec<&str> = prepared.iter().map(|(name, _)| name.as_str()).collect();
        let mut low = low;
        let mut whole = whole;
        while whole {
            let end = self.found.end.1;
            let mut next: Option<(u64, usize)> = None;
            for (at, name) in left.iter().enumerate() {
                let base = self.first_offset(name)?;
                next = [next, base.map(|base| (base, at))]
                    .into_iter()
                    .flatten()
                    .min();
            }
            let Some((base, at)) = next else { break };
            let name = left.remove(at);
            let scan = self.scan_file(name, base, low)?;
            let jumped = base > end && scan.first_generation > low;
            if scan.tail == 0 || (base != end && !jumped) {
                left.push(name);
                break;
            }
            low = scan.generation;
            whole = matches!(scan.invalid, None | Some(Invalid::Unwritten));
            let segment = names::segment(base);
            self.place
                .disk
                .rename(&self.place.path(name), &self.place.path(&segment))
                .and_then(|()| self.place.disk.sync_names(&self.place.directory))
                .map_err(|e| io_error(&self.place, name, e))?;
            self.keep(base, end, &segment, &scan)?;
        }
        let left: Vec<_> = prepared
            .iter()
            .filter(|p| left.contains(&p.0.as_str()))
            .collect();
        self.remove_prepared(left)
    }

    fn remove_prepared<'a>(
        &self,
        prepared: impl IntoIterator<Item = &'a (String, u64)>,
    ) -> Result<(), Stop> {
        for (name, _) in prepared {
            let removed = self.place.disk.remove(&self.place.path(name));
            removed.map_err(|e| io_error(&self.place, name, e))?;
        }
        Ok(())
    }
}

struct FileScan {
    tail: u64,
    bytes: u64,
    next_offset: u64,
    first_generation: i32,
    generation: i32,
    invalid: Option<Invalid>,
}
