//! Opening a log: what survived, what is cut, what is damaged.
//!
//! Damage is judged by position (R13, I24). Below the stable mark nothing is ever cut: such a log
//! opens for reading only, with its [`Corruption`]. Above it lies a tail that a crash may have
//! torn: it is cut at the first bytes that are not the next batch, and nothing behind is looked at
//! (R11). What is believed is what the device returns, not the page cache (R7). Every step can be
//! interrupted and repeated (I23).

mod adopt;
mod damaged;
mod scanned;

use std::io;
use std::sync::Arc;

use crate::codec::CodecError;
use crate::error::{Corruption, OpenError};
use crate::footer::{self, Footer};
use crate::log::{Found, LogConfig, SegmentedLog};
use crate::marks::{Marks, StableMark};
use crate::names;
use crate::scan::{Check, ScanError};
use crate::segment::{Place, Segment};
use crate::state_file::{self, StateFileError};

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

/// The names in a log's directory that matter here, lowest base offset first, with lengths.
struct Listing {
    segments: Vec<(u64, u64)>,
    prepared: Vec<String>,
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
            listing.prepared.push(entry.name);
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
    now_ms: u64,
    found: Found,
    report: Recovered,
}

impl SegmentedLog {
    /// Opens a log for writing: recovers what has to be recovered. `generation` is the new one,
    /// above all that were stamped before; `now_ms` is the engine's elapsed time.
    ///
    /// # Errors
    /// [`OpenError`] when nothing can be said of the log at all. Damage in a segment is no error
    /// here: see [`Recovered::corruption`].
    pub fn open(
        place: Place,
        config: LogConfig,
        generation: i32,
        now_ms: u64,
    ) -> Result<(SegmentedLog, Recovered), OpenError> {
        let marks = Arc::new(open_marks(&place)?);
        marks
            .settle()
            .map_err(|e| io_error(&place, crate::marks::FILE, e))?;
        let (mark, ceiling, start) = (marks.mark()?, marks.ceiling()?, marks.start()?);
        let listing = list(&place)?;
        let mut recovery = Recovery {
            place,
            mark,
            generation,
            now_ms,
            found: Found {
                segments: Vec::new(),
                resting: None,
                end: (0, 0),
                next_offset: 0,
                start,
            },
            report: Recovered::default(),
        };
        match recovery.run(&listing) {
            Ok(()) => {}
            Err(Stop::Open(error)) => return Err(error),
            Err(Stop::Corrupt(corruption)) => {
                recovery.report.corruption = Some(corruption);
                recovery.show_what_is_there(&listing);
            }
        }
        let Recovery {
            place,
            mut found,
            mut report,
            ..
        } = recovery;
        let tail = found.end.1;
        found.next_offset = tail.max(mark.jump_to).max(start.offset);
        // After a clean close nothing was appended, whatever the ceiling was raised to since.
        if ceiling > tail && !report.clean {
            report.lost = Some((tail, ceiling));
            found.next_offset = found.next_offset.max(ceiling);
        }
        let log = SegmentedLog::new(place, config, marks, generation, found);
        if report.corruption.is_none() && !report.clean {
            log.mark_recovered()
                .map_err(|e| io_error(log.place(), crate::marks::FILE, e))?;
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

/// Why recovery ends early.
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
    fn run(&mut self, listing: &Listing) -> Result<(), Stop> {
        let base_of_mark = self.mark.segment_base;
        if self.mark.next_offset < base_of_mark {
            let next = self.mark.next_offset;
            let reason =
                format!("the mark says offset {next} of a segment that begins at {base_of_mark}");
            return Err(self.corrupt(crate::marks::FILE, 0, next, reason));
        }
        let below: Vec<_> = listing
            .segments
            .iter()
            .filter(|(base, _)| *base < base_of_mark)
            .collect();
        for (at, &&(base, bytes)) in below.iter().enumerate() {
            let next = below.get(at + 1).map_or(base_of_mark, |s| s.0);
            let is_deleted = next <= self.found.start.offset;
            match self.open_sealed(base, bytes) {
                // Nobody can read it, whatever is wrong with it.
                Err(Stop::Corrupt(_)) if is_deleted => {
                    self.remove_deleted()?;
                    self.remove_segments(&[base])?;
                }
                opened => opened?,
            }
        }
        if self.found.segments.is_empty() {
            self.found.end = (0, self.mark.previous_end.max(self.found.start.offset));
        }
        if base_of_mark > 0 {
            self.check_continues(base_of_mark, self.mark.previous_end)?;
        }
        let at_mark = listing.segments.iter().find(|s| s.0 == base_of_mark);
        let above = listing.segments.iter().any(|s| s.0 > base_of_mark);
        match at_mark {
            Some(&(_, bytes)) if bytes >= self.mark.position => {
                if self.mark.clean && bytes == self.mark.position && !above {
                    self.report.clean = true;
                    self.rest_at_mark()?;
                    return self.remove_prepared(&listing.prepared);
                }
            }
            None if self.mark.position == 0 => {
                if self.found.segments.is_empty() {
                    self.found.end = (0, self.mark.next_offset);
                }
                if self.mark.clean && !above {
                    self.report.clean = true;
                    return self.remove_prepared(&listing.prepared);
                }
            }
            other => {
                let found = other.map_or("no file".to_owned(), |(_, b)| format!("{b} bytes"));
                let reason = format!("expected {} bytes, found {found}", self.mark.position);
                let file = names::segment(base_of_mark);
                return Err(self.corrupt(&file, 0, base_of_mark, reason));
            }
        }
        self.scan_above(listing)
    }

    // Clean: nothing above the mark, and nothing was ever written into a prepared file.
    fn rest_at_mark(&mut self) -> Result<(), Stop> {
        let mark = self.mark;
        let footer = self.read_footer(mark.segment_base)?;
        let segment = match footer {
            // It was rolled before the close.
            Some(footer) if footer.bytes == mark.position => {
                Arc::new(Segment::sealed(self.place.clone(), footer))
            }
            _ => {
                let whole = (mark.segment_base, mark.previous_end);
                let segment = Segment::resting(self.place.clone(), whole, mark.position);
                segment.note_append(self.age_from(mark.segment_base, mark.position));
                let segment = Arc::new(segment);
                self.found.resting = Some(segment.clone());
                segment
            }
        };
        self.found.segments.push(segment);
        self.found.end = (mark.position, mark.next_offset);
        Ok(())
    }

    // From when the age of a segment that ends at `tail` and has no footer counts: from its last
    // append where the mark knows that, else from now on (I31).
    fn age_from(&self, base: u64, tail: u64) -> u64 {
        let mark = &self.mark;
        let is_known = (base, tail) == (mark.segment_base, mark.position);
        match mark.last_append_ms {
            known if is_known && known > 0 => known.min(self.now_ms).max(1),
            _ => self.now_ms.max(1),
        }
    }

    fn corrupt(&self, name: &str, position: u64, offset: u64, reason: String) -> Stop {
        Stop::Corrupt(Corruption {
            file: self.place.display(name),
            position,
            offset,
            reason,
        })
    }

    // What was opened so far lies below the log's start: a deletion was interrupted.
    fn remove_deleted(&mut self) -> Result<(), Stop> {
        let opened = std::mem::take(&mut self.found.segments);
        let bases: Vec<u64> = opened.iter().map(|s| s.base_offset()).collect();
        self.remove_segments(&bases)
    }

    // The segment must begin where the one before it ended; where the log jumped to its ceiling,
    // it says so itself.
    fn check_continues(&mut self, base: u64, previous_end: u64) -> Result<(), Stop> {
        let before = self.found.segments.last().and_then(|s| s.footer());
        if before.is_some_and(|b| b.next_offset != previous_end)
            && previous_end <= self.found.start.offset
        {
            // What is missing in between is deleted, and so is what lies before it.
            self.remove_deleted()?;
        }
        let Some(before) = self.found.segments.last().and_then(|s| s.footer()) else {
            return if previous_end <= self.found.start.offset {
                Ok(())
            } else {
                let reason = format!("the segment that ends at offset {previous_end} is missing");
                let offset = self.found.start.offset;
                Err(self.corrupt(&names::segment(base), 0, offset, reason))
            };
        };
        if before.next_offset == previous_end && previous_end <= base {
            return Ok(());
        }
        let end = before.next_offset;
        if end < previous_end {
            let reason = format!("the segment that begins at offset {end} is missing");
            return Err(self.corrupt(&names::segment(end), 0, end, reason));
        }
        let reason = format!("it follows offset {previous_end}, but the file before ends at {end}");
        Err(self.corrupt(&names::segment(base), 0, end, reason))
    }

    // `None` where there is none, or a damaged one: the segment is then checked from end to end.
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
            // Undamaged, but of another release: it must not be written over (I26).
            Err(StateFileError::Codec {
                source:
                    source @ (CodecError::NewerVersion { .. }
                    | CodecError::OlderVersion { .. }
                    | CodecError::Body(_)),
                ..
            }) => Err(io_error(&self.place, &name, io::Error::other(source))),
            _ => Ok(None),
        }
    }

    fn open_sealed(&mut self, base: u64, bytes: u64) -> Result<(), Stop> {
        let name = names::segment(base);
        let footer = match self.read_footer(base)? {
            Some(footer) => footer,
            None => self.rebuild_footer(base, bytes)?,
        };
        if footer.bytes != bytes {
            let said = footer.bytes;
            let reason = format!("the file has {bytes} bytes, its footer says {said}");
            return Err(self.corrupt(&name, bytes.min(said), base, reason));
        }
        self.check_continues(base, footer.previous_end)?;
        self.found.end = (footer.bytes, footer.next_offset);
        let segment = Segment::sealed(self.place.clone(), footer);
        self.found.segments.push(Arc::new(segment));
        Ok(())
    }

    fn rebuild_footer(&mut self, base: u64, bytes: u64) -> Result<Footer, Stop> {
        let name = names::segment(base);
        let before = self.found.segments.last().and_then(|s| s.footer()).copied();
        let previous_end = before.map_or(base, |f| f.next_offset);
        let segment = Segment::resting(self.place.clone(), (base, previous_end), bytes);
        segment.note_append(self.age_from(base, bytes));
        let footer = segment
            .checked_footer(Check::Crc)
            .map_err(|e| self.scan_stop(&name, base, e))?;
        // Only an open with a new generation jumps; else a file between the two is missing.
        if before.is_some_and(|b| base > b.next_offset && footer.generations.0 <= b.generations.1) {
            let reason = format!("the segment that begins at offset {previous_end} is missing");
            let missing = names::segment(previous_end);
            return Err(self.corrupt(&missing, 0, previous_end, reason));
        }
        segment
            .store_footer(footer)
            .map_err(|e| io_error(&self.place, &names::footer(base), e))?;
        self.report.footers_rebuilt.push(name);
        Ok(footer)
    }

    fn scan_stop(&self, name: &str, offset: u64, error: ScanError) -> Stop {
        match error {
            ScanError::Read { source, .. } => Stop::Open(io_error(&self.place, name, source)),
            ScanError::Invalid { position, reason } => {
                self.corrupt(name, position, offset, reason.to_string())
            }
        }
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
}
