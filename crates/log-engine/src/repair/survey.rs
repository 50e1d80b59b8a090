//! What of a log is whole: runs of batches, in the order of offsets, and what lies between them.

use std::io;
use std::sync::Arc;

use segment_storage::{
    Check, DiskFile, Footer, FooterBuilder, Invalid, LogStart, Marks, Place, ScanError, Scanner,
    SlotError, StableMark, footer, names, state_file,
};

use super::resync::{self, Gap};
use super::{GivenUp, RepairError, io as io_error};
use crate::given_up;

/// Batches back to back in one file.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// The file's name in the log's directory.
    pub(super) file: String,
    /// Bytes of that file.
    pub(super) range: (u64, u64),
    /// First offset, and the one after the last.
    pub(super) offsets: (u64, u64),
    /// Whether the file is this run and nothing else.
    pub(super) is_whole_file: bool,
    pub(super) last_append_ms: Option<u64>,
}

/// What the marks say, as far as they can be believed.
pub(super) struct KnownMarks {
    pub(super) mark: Option<StableMark>,
    pub(super) ceiling: Option<u64>,
    pub(super) start: Option<LogStart>,
}

/// What was found of a log.
pub(super) struct Survey {
    pub(super) place: Place,
    pub(super) marks: KnownMarks,
    pub(super) runs: Vec<Run>,
    /// In this order, with the offsets that are lost where that is known.
    pub(super) given_up: Vec<GivenUp>,
    /// What an earlier repair gave up.
    pub(super) given_up_before: Vec<(u64, u64)>,
    /// What is wrong, for people; nothing: the log is left alone.
    pub(super) damage: Vec<String>,
    /// Highest producer id and generation seen.
    pub(super) highest: (i64, i32),
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Whether the log's own time is in its batches.
    pub(super) is_log_append_time: bool,
    /// The offset that no offset known of reaches.
    pub(super) known_end: u64,
    /// Generation of the last batch.
    last_generation: i32,
}

struct File {
    name: String,
    base: u64,
    file: Arc<dyn DiskFile>,
    footer: Option<Footer>,
    has_bad_footer: bool,
}

impl Survey {
    /// Reads a log from end to end. `newest` is the directory's generation, if that is known.
    ///
    /// # Errors
    /// When it cannot be read, or is of another release.
    pub(super) fn of(place: Place, newest: Option<i32>) -> Result<Survey, RepairError> {
        let mut survey = Survey {
            marks: KnownMarks {
                mark: None,
                ceiling: None,
                start: None,
            },
            runs: Vec::new(),
            given_up: Vec::new(),
            given_up_before: Vec::new(),
            damage: Vec::new(),
            highest: (-1, 0),
            batches: 0,
            records: 0,
            bytes: 0,
            is_log_append_time: false,
            known_end: 0,
            last_generation: 0,
            place,
        };
        survey.read_marks()?;
        survey.read_given_up();
        let entries = match survey.place.disk.list(&survey.place.directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(survey.io("", e)),
        };
        let mut bases: Vec<u64> = entries
            .iter()
            .filter_map(|entry| names::offset_of(&entry.name, "log"))
            .collect();
        bases.sort_unstable();
        let high = newest.unwrap_or(i32::MAX);
        for (at, &base) in bases.iter().enumerate() {
            if survey.is_below_start(&bases, at) {
                continue;
            }
            let file = survey.open(names::segment(base), base)?;
            let next = bases.get(at + 1).copied();
            if !survey.walk(&file, next, high)? {
                break;
            }
        }
        survey.check_mark_is_reached();
        if !survey.damage.is_empty() {
            let prepared = entries.iter().filter(|e| names::is_prepared(&e.name));
            for entry in prepared {
                survey.adopt(&entry.name, high)?;
            }
        }
        Ok(survey)
    }

    /// The offset after the last batch that is kept.
    pub(super) fn end(&self) -> u64 {
        let none = self.marks.start.map_or(0, |start| start.offset);
        self.runs.last().map_or(none, |run| run.offsets.1)
    }

    fn io(&self, name: &str, source: io::Error) -> RepairError {
        io_error(&self.place.disk, &self.place.path(name), source)
    }

    fn read_marks(&mut self) -> Result<(), RepairError> {
        let place = self.place.clone();
        let file = place.display(segment_storage::marks::FILE);
        let marks = match Marks::open(&place.disk, &place.directory) {
            Ok(marks) if marks.log_id() == place.log_id => marks,
            Ok(marks) => {
                let found = marks.log_id();
                self.damage.push(format!("{file} is of log {found:032x}"));
                return Ok(());
            }
            Err(error @ SlotError::Codec { .. }) => return Err(RepairError::Release(error)),
            Err(error) => {
                self.damage.push(error.to_string());
                return Ok(());
            }
        };
        self.marks.mark = marks.mark().ok();
        self.highest.1 = self.marks.mark.map_or(0, |mark| mark.generation);
        let [_, ceiling, start] = marks.damaged_slots().map_err(RepairError::Slots)?;
        // With one slot gone the other one may be an older value.
        self.marks.ceiling = marks.ceiling().ok();
        self.marks.start = marks
            .start()
            .ok()
            .filter(|start| start.log_id == place.log_id);
        let len = place
            .disk
            .open(&place.path(segment_storage::marks::FILE))
            .map_or(0, |file| file.len());
        if ceiling > 0 || start > 0 || self.marks.start.is_none() || len != Marks::BYTES {
            self.damage.push(format!(
                "{file}: slots of it are damaged, or it is too long"
            ));
        }
        if let Some(mark) = self.marks.mark {
            self.known_end = mark.next_offset.max(mark.jump_to);
            if !mark.clean {
                self.known_end = self.known_end.max(self.marks.ceiling.unwrap_or(0));
            }
        }
        Ok(())
    }

    fn read_given_up(&mut self) {
        let place = &self.place;
        match given_up::read(&place.disk, &place.directory, place.log_id) {
            Ok(ranges) => self.given_up_before = ranges,
            Err(error) => self.damage.push(error.to_string()),
        }
    }

    // Nobody can read it; opening for writing removes it.
    fn is_below_start(&self, bases: &[u64], at: usize) -> bool {
        let start = self.marks.start.map_or(0, |start| start.offset);
        bases.get(at + 1).is_some_and(|next| *next <= start)
    }

    fn open(&mut self, name: String, base: u64) -> Result<File, RepairError> {
        let place = &self.place;
        let file = place.disk.open(&place.path(&name));
        let file = file.map_err(|e| io_error(&place.disk, &place.path(&name), e))?;
        let side = place.path(&names::footer(base));
        let read = state_file::read::<Footer>(&*place.disk, &side, footer::MAGIC, footer::VERSION);
        let is_there = !matches!(&read, Ok(None));
        let is_own = |f: &Footer| (f.log_id, f.base_offset) == (place.log_id, base);
        let footer = read.ok().flatten().filter(is_own);
        Ok(File {
            name,
            base,
            file,
            has_bad_footer: is_there && footer.is_none(),
            footer,
        })
    }

    // How many bytes of a segment cannot be torn, and the offset behind them.
    fn certain(&self, file: &File, next: Option<u64>) -> (u64, Option<u64>) {
        let at_mark = self
            .marks
            .mark
            .filter(|mark| mark.segment_base == file.base);
        match (file.footer, at_mark, self.marks.mark) {
            (Some(footer), ..) => (footer.bytes, Some(footer.next_offset)),
            (None, Some(mark), _) => (mark.position, Some(mark.next_offset)),
            (None, None, Some(mark)) if file.base < mark.segment_base => (file.file.len(), next),
            _ => (0, None),
        }
    }

    // Whether what follows the file can be looked at.
    fn walk(&mut self, file: &File, next: Option<u64>, high: i32) -> Result<bool, RepairError> {
        let mark = self.marks.mark;
        let is_below_mark = mark.is_some_and(|mark| file.base < mark.segment_base);
        let (certain, certain_end) = self.certain(file, next);
        if !self.joins(file, certain > 0 || mark.is_none() || self.is_later(file)?) {
            return Ok(false);
        }
        if file.has_bad_footer || is_below_mark && file.footer.is_none() {
            let name = self.place.display(&names::footer(file.base));
            self.damage
                .push(format!("{name} is missing, damaged or another segment's"));
        }
        let before = self.runs.len();
        let gaps_before = self.given_up.len();
        let len = file.file.len();
        let footer = file.footer;
        let mut made = FooterBuilder::new((
            self.place.log_id,
            file.base,
            footer.map_or(file.base, |f| f.previous_end),
        ));
        let mut from = (0, file.base);
        loop {
            let limit = len.max(from.0);
            let mut scanner = Scanner::new(&*file.file, from, limit, (0, high), Check::Crc);
            let stopped = loop {
                match scanner.advance() {
                    Ok(Some(header)) => {
                        made.add(&header, scanner.header_bytes(), scanner.next_offset());
                        self.batches += 1;
                        self.records += u64::try_from(header.record_count).unwrap_or(0);
                        self.highest.0 = self.highest.0.max(header.producer_id);
                        self.highest.1 = self.highest.1.max(header.leader_epoch);
                        self.last_generation = header.leader_epoch;
                        self.is_log_append_time |= header.attributes.is_log_append_time();
                    }
                    Ok(None) => break None,
                    Err(ScanError::Invalid { reason, .. }) => break Some(reason),
                    Err(ScanError::Read { source, .. }) => return Err(self.io(&file.name, source)),
                }
            };
            let end = (scanner.position(), scanner.next_offset());
            if end.0 > from.0 {
                self.bytes += end.0 - from.0;
                self.runs.push(Run {
                    file: file.name.clone(),
                    range: (from.0, end.0),
                    offsets: (from.1, end.1),
                    is_whole_file: from.0 == 0 && end.0 == len,
                    last_append_ms: footer.map(|footer| footer.last_append_ms),
                });
            }
            if end.0 >= certain {
                self.finish_file(file, end.0, stopped.as_ref());
                break;
            }
            let why = match &stopped {
                Some(reason) => reason.to_string(),
                None => format!("the file has {len} bytes, expected {certain}"),
            };
            let name = self.place.display(&file.name);
            self.damage.push(format!("{name}, byte {}: {why}", end.0));
            let gap = Gap {
                from: end,
                limit: (certain.min(len), certain_end),
                file_end: len,
                high,
            };
            let again = if end.0 < len {
                let index = resync::index_of(&self.place, file.base);
                resync::after(&*file.file, &gap, &index).map_err(|e| self.io(&file.name, e))?
            } else {
                None
            };
            let (to, to_offset) = match again {
                Some((position, offset)) => (position, Some(offset)),
                None => (certain, certain_end),
            };
            self.give_up(&file.name, (end.0, to), (end.1, to_offset));
            match again {
                Some(next) => from = next,
                None => {
                    if len > certain {
                        self.give_up(&file.name, (certain, len), (0, Some(0)));
                    }
                    break;
                }
            }
        }
        let is_one = self.runs.len() == before + 1 && self.given_up.len() == gaps_before;
        if let Some(footer) = footer
            && is_one
        {
            let made = Footer {
                last_append_ms: footer.last_append_ms,
                ..made.finish(footer.bytes)
            };
            if made != footer {
                let name = self.place.display(&file.name);
                self.damage.push(format!(
                    "{name} is not what its footer says, though each of its batches is whole"
                ));
            }
        }
        Ok(true)
    }

    // Whether the file continues what was read, be it behind a hole.
    fn joins(&mut self, file: &File, is_certain: bool) -> bool {
        let base = file.base;
        let mark = self.marks.mark;
        let at_mark = mark.filter(|mark| mark.segment_base == base && mark.position > 0);
        let previous_end = file
            .footer
            .map(|footer| footer.previous_end)
            .or(at_mark.map(|mark| mark.previous_end));
        let start = self.marks.start.map_or(0, |start| start.offset);
        let Some(end) = self.runs.last().map(|run| run.offsets.1) else {
            let before = previous_end.unwrap_or(start);
            if self.marks.start.is_some() && before > start && self.given_up.is_empty() {
                self.miss((start, before), base);
            }
            return true;
        };
        let jumps = mark.is_some_and(|mark| mark.jump_to == base && mark.next_offset == end);
        let is_known = self.given_up_before.contains(&(end, base));
        let is_noted = self
            .given_up
            .last()
            .is_some_and(|g| g.offsets.is_some_and(|o| o.1 == base));
        if base == end || jumps || is_known || is_noted {
            return match previous_end {
                Some(before) if before != end && !is_noted => {
                    let name = self.place.display(&names::footer(base));
                    self.damage
                        .push(format!("{name} says that it follows {before}, not {end}"));
                    true
                }
                _ => true,
            };
        }
        if base < end {
            let name = self.place.display(&file.name);
            self.damage.push(format!(
                "{name} begins at {base}, the file before ends at {end}"
            ));
            let bytes = file.file.len();
            self.give_up(&file.name, (0, bytes), (base, None));
            return false;
        }
        if previous_end == Some(end) {
            return true;
        }
        // Where nothing says that it must be there, it was torn by a crash; opening judges that.
        if is_certain {
            self.miss((end, previous_end.unwrap_or(base)), base);
        }
        is_certain
    }

    // A generation begins only after recovery synced everything before it (R13).
    fn is_later(&self, file: &File) -> Result<bool, RepairError> {
        let any = (0, i32::MAX);
        let len = file.file.len();
        let mut scanner = Scanner::new(&*file.file, (0, file.base), len, any, Check::Crc);
        match scanner.advance() {
            Ok(Some(header)) => Ok(header.leader_epoch > self.last_generation),
            Ok(None) | Err(ScanError::Invalid { .. }) => Ok(false),
            Err(ScanError::Read { source, .. }) => Err(self.io(&file.name, source)),
        }
    }

    fn miss(&mut self, offsets: (u64, u64), base: u64) {
        let name = self.place.display(&names::segment(base));
        let (from, to) = offsets;
        self.damage.push(format!(
            "before {name} the offsets from {from} to {to} are missing"
        ));
        self.given_up.push(GivenUp {
            file: self.place.display(&names::segment(from)),
            from: 0,
            to: 0,
            offsets: Some((from, to)),
        });
    }

    fn give_up(&mut self, name: &str, bytes: (u64, u64), offsets: (u64, Option<u64>)) {
        let known = offsets.1.map(|to| (offsets.0, to));
        self.known_end = self.known_end.max(offsets.1.unwrap_or(0)).max(offsets.0);
        self.given_up.push(GivenUp {
            file: self.place.display(name),
            from: bytes.0,
            to: bytes.1,
            offsets: known.filter(|(from, to)| from < to),
        });
    }

    // What lies behind the batches of a file: a reserved tail, or what a crash tore.
    fn finish_file(&mut self, file: &File, end: u64, stopped: Option<&Invalid>) {
        let len = file.file.len();
        let is_at_clean_mark = self
            .marks
            .mark
            .is_some_and(|mark| mark.clean && mark.segment_base == file.base);
        let is_sealed = file.footer.is_some();
        let expected = match file.footer {
            Some(footer) => footer.bytes,
            None => end,
        };
        if is_sealed && len > expected || is_at_clean_mark && len > end {
            let name = self.place.display(&file.name);
            self.damage
                .push(format!("{name} has {len} bytes, expected {expected}"));
        }
        if end < len && stopped.is_some_and(|reason| !matches!(reason, Invalid::Unwritten)) {
            self.give_up(&file.name, (end, len), (0, Some(0)));
        }
    }

    fn check_mark_is_reached(&mut self) {
        let Some(mark) = self.marks.mark else { return };
        let is_noted = |g: &GivenUp| g.offsets.is_some_and(|(_, to)| to >= mark.next_offset);
        if self.end() < mark.next_offset && mark.position > 0 && !self.given_up.iter().any(is_noted)
        {
            let (found, expected) = (self.end(), mark.next_offset);
            let file = self.place.display(&names::segment(mark.segment_base));
            self.damage.push(format!(
                "{file} is missing or too short: the batches end at offset {found}, expected {expected}"
            ));
            self.given_up.push(GivenUp {
                file,
                from: 0,
                to: mark.position,
                offsets: Some((found, expected)),
            });
        }
    }

    // A segment is written before it has its own name.
    fn adopt(&mut self, name: &str, high: i32) -> Result<(), RepairError> {
        let end = self.end();
        let mut file = self.open(name.to_owned(), end)?;
        file.footer = None;
        file.has_bad_footer = false;
        let mut scanner = Scanner::new(
            &*file.file,
            (0, end),
            file.file.len(),
            (0, high),
            Check::Crc,
        );
        if matches!(scanner.advance(), Ok(Some(_))) {
            self.walk(&file, None, high)?;
        }
        Ok(())
    }
}
