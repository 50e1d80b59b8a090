//! One log: held first, so that nothing of it goes away, then copied.

use std::io;
use std::sync::Arc;

use segment_storage::{
    Check, Disk, DiskFile, Footer, LogStart, Marks, Place, ScanError, Scanner, SlotError,
    StableMark, footer, names, state_file,
};

use super::cut::{self, CutLog};
use super::{BackupError, files, io as io_error};
use crate::given_up;
use crate::lineage;

/// How often a log is looked at that retention makes shorter meanwhile.
const LOOKS: usize = 20;

/// What became of a log that was to be held.
pub(super) enum Held {
    /// It is held.
    Log(Box<HeldLog>),
    /// Its topic is not there any more, or it was cut below its start.
    Gone,
}

/// A log of which everything below the cut stays, whatever happens to its files.
pub(super) struct HeldLog {
    place: Place,
    cut: CutLog,
    mark: StableMark,
    start: LogStart,
    segments: Vec<HeldSegment>,
    /// End of the last batch, below the cut where the log jumped to its offset ceiling there.
    end: u64,
    linked: u64,
}

struct HeldSegment {
    base: u64,
    previous_end: u64,
    next_offset: u64,
    bytes: u64,
    footer: Option<Footer>,
    from: Origin,
}

enum Origin {
    /// It is in the copy already.
    Linked,
    Open(Arc<dyn DiskFile>),
    Later,
}

/// Why a look at a log came to nothing.
enum Stop {
    /// Files went away.
    Again,
    Error(BackupError),
}

impl From<BackupError> for Stop {
    fn from(error: BackupError) -> Stop {
        Stop::Error(error)
    }
}

impl HeldLog {
    /// Holds a log, and makes its directory in the copy.
    ///
    /// # Errors
    /// [`BackupError`].
    pub(super) fn hold(
        source: &Arc<dyn Disk>,
        target: &Arc<dyn Disk>,
        cut: &CutLog,
        open: &mut usize,
    ) -> Result<Held, BackupError> {
        let place = Place {
            disk: source.clone(),
            directory: cut.name.as_str().into(),
            log_id: cut.log_id,
        };
        for _ in 0..LOOKS {
            let left = *open;
            match look(&place, target, cut, open) {
                Ok(Some(held)) => return Ok(Held::Log(Box::new(held))),
                Ok(None) => return Ok(Held::Gone),
                Err(_) if cut::is_log_gone(source, cut.log_id) => return Ok(Held::Gone),
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Again) => {}
            }
            *open = left;
            remove_directory(target, &cut.name)?;
        }
        Err(BackupError::Changing { looks: LOOKS })
    }

    pub(super) fn name(&self) -> &str {
        &self.cut.name
    }

    /// The offset after the last record.
    pub(super) fn end(&self) -> u64 {
        self.cut.end
    }

    pub(super) fn linked(&self) -> u64 {
        self.linked
    }

    /// Copies what is not linked, and closes the copy cleanly. `false` when a file that could not
    /// be held is gone.
    ///
    /// # Errors
    /// [`BackupError`].
    pub(super) fn copy(
        self,
        target: &Arc<dyn Disk>,
        (floor, elapsed_ms): (i64, u64),
    ) -> Result<bool, BackupError> {
        let directory = &self.cut.name;
        for segment in &self.segments {
            let name = names::segment(segment.base);
            let path = self.place.path(&name);
            let file = match &segment.from {
                Origin::Linked => continue,
                Origin::Open(file) => file.clone(),
                Origin::Later => match self.place.disk.open(&path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                    opened => opened.map_err(|e| io_error(&self.place.disk, &path, e))?,
                },
            };
            let bytes = segment.bytes.min(file.len());
            let copy = files::copy_range(&*file, (0, bytes), target, &path)
                .map_err(|e| io_error(target, &path, e))?;
            let is_last = self.segments.last().is_some_and(|s| s.base == segment.base);
            let whole = (self.cut.log_id, segment.base, segment.previous_end);
            let footer = match segment.footer {
                Some(footer) => Some(footer),
                None if is_last => None,
                // Where it is damaged, the copy is as damaged, and opening it says so.
                None => Footer::of(&*copy, whole, bytes, Check::Crc).ok().map(|f| {
                    let (made, _) = f;
                    Footer {
                        last_append_ms: elapsed_ms,
                        ..made
                    }
                }),
            };
            if let Some(footer) = footer {
                let name = names::footer(segment.base);
                let (magic, version) = (footer::MAGIC, footer::VERSION);
                state_file::write(&**target, directory, &name, magic, version, &footer)
                    .map_err(|e| io_error(target, &self.place.path(&name), e))?;
            }
        }
        let mark = self.mark(elapsed_ms);
        let marks = Marks::create_with(target, directory, &mark, mark.jump_to, &self.start);
        marks
            .and_then(|marks| lineage::be_strict_below(&marks, floor))
            .and_then(|()| target.sync_names(directory))
            .map_err(|e| io_error(target, directory, e))?;
        Ok(true)
    }

    // Nothing lies above it.
    fn mark(&self, elapsed_ms: u64) -> StableMark {
        let (base, position, previous_end, last_append_ms) = match self.segments.last() {
            None => (0, 0, self.end, 0),
            Some(last) => {
                let known = match last.footer {
                    Some(footer) => footer.last_append_ms,
                    None if last.base == self.mark.segment_base => self.mark.last_append_ms,
                    None => elapsed_ms,
                };
                (last.base, last.bytes, last.previous_end, known)
            }
        };
        StableMark {
            log_id: self.cut.log_id,
            segment_base: base,
            position,
            next_offset: self.end,
            previous_end,
            jump_to: if self.cut.end > self.end {
                self.cut.end
            } else {
                0
            },
            generation: self.mark.generation,
            clean: true,
            last_append_ms,
        }
    }
}

fn remove_directory(target: &Arc<dyn Disk>, name: &str) -> Result<(), BackupError> {
    match target.remove_directory(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(target, name, e)),
        _ => Ok(()),
    }
}

fn again_if_gone(disk: &Arc<dyn Disk>, name: &str) -> impl Fn(io::Error) -> Stop {
    let (disk, name) = (disk.clone(), name.to_owned());
    move |error| match error.kind() {
        io::ErrorKind::NotFound => Stop::Again,
        _ => Stop::Error(io_error(&disk, &name, error)),
    }
}

// `None` when the log begins behind the cut by now.
fn look(
    place: &Place,
    target: &Arc<dyn Disk>,
    cut: &CutLog,
    open: &mut usize,
) -> Result<Option<HeldLog>, Stop> {
    let (disk, directory) = (&place.disk, &cut.name);
    let fail = |source: SlotError| BackupError::Marks {
        log: cut.name.clone(),
        source,
    };
    let marks = Marks::open(disk, directory).map_err(fail)?;
    if marks.log_id() != cut.log_id {
        return Err(Stop::Again);
    }
    let (mark, start) = (marks.mark().map_err(fail)?, marks.start().map_err(fail)?);
    target
        .create_directory(directory)
        .map_err(|e| io_error(target, directory, e))?;
    let is_at_jump = mark.jump_to == cut.end && mark.jump_to > mark.next_offset;
    let mut held = HeldLog {
        place: place.clone(),
        cut: cut.clone(),
        mark,
        start,
        segments: Vec::new(),
        end: if is_at_jump {
            mark.next_offset
        } else {
            cut.end
        },
        linked: 0,
    };
    let gone = again_if_gone(disk, directory);
    let entries = disk.list(directory).map_err(&gone)?;
    let bases = || {
        let names = entries.iter().map(|entry| &entry.name);
        names.filter_map(|name| names::offset_of(name, "log"))
    };
    for base in bases().filter(|&base| base < cut.end) {
        held.hold_segment(target, base, open)?;
    }
    if let Some(last) = held.segments.last() {
        held.end = last.next_offset;
        if last.next_offset < cut.end && !is_at_jump && !bases().any(|base| base == cut.end) {
            let damaged = BackupError::Damaged {
                file: disk.display(&place.path(&names::segment(last.base))),
                position: last.bytes,
                expected: cut.end,
                found: last.next_offset,
            };
            return Err(damaged.into());
        }
    }
    for entry in &entries {
        let snapshot = names::offset_of(&entry.name, "snapshot");
        if snapshot.is_some_and(|offset| offset <= held.end) || entry.name == given_up::FILE {
            let path = place.path(&entry.name);
            let file = disk.open(&path).map_err(again_if_gone(disk, &path))?;
            files::copy_range(&*file, (0, file.len()), target, &path)
                .map_err(|e| io_error(target, &path, e))?;
        }
    }
    // Read after everything is held: what is below it may be missing, and nothing else.
    held.start = marks.start().map_err(fail)?;
    if held.start.offset > held.cut.end {
        return Ok(None);
    }
    // A hole in a log that stays as it is is damage, and copied as such.
    if held.has_hole() && disk.list(directory).map_err(&gone)? != entries {
        return Err(Stop::Again);
    }
    Ok(Some(held))
}

impl HeldLog {
    // Segments may be removed while they are looked at, the oldest first.
    fn has_hole(&self) -> bool {
        let mut pairs = self.segments.windows(2);
        let first = self.segments.first().map_or(self.end, |s| s.previous_end);
        first > self.start.offset || pairs.any(|pair| pair[0].next_offset != pair[1].previous_end)
    }

    fn hold_segment(
        &mut self,
        target: &Arc<dyn Disk>,
        base: u64,
        open: &mut usize,
    ) -> Result<(), Stop> {
        let place = self.place.clone();
        let disk = &place.disk;
        let (path, side) = (
            place.path(&names::segment(base)),
            place.path(&names::footer(base)),
        );
        let again = again_if_gone(disk, &path);
        let read = state_file::read::<Footer>(&**disk, &side, footer::MAGIC, footer::VERSION);
        let footer = read.ok().flatten().filter(|footer| {
            let is_own = (footer.log_id, footer.base_offset) == (self.cut.log_id, base);
            is_own && footer.next_offset <= self.cut.end
        });
        let before = self.segments.last().map(|s| s.next_offset);
        let segment = if let Some(footer) = footer {
            let is_linked = files::link(disk, target, (&side, &side)).map_err(&again)?
                && files::link(disk, target, (&path, &path)).map_err(&again)?;
            let from = if is_linked {
                // A cache: without it the index is made anew.
                let index = place.path(&names::index(base));
                let has_index = matches!(files::link(disk, target, (&index, &index)), Ok(true));
                self.linked += 2 + u64::from(has_index);
                Origin::Linked
            } else {
                let file = disk.open(&path).map_err(&again)?;
                Origin::of(file, open)
            };
            HeldSegment {
                base,
                previous_end: footer.previous_end,
                next_offset: footer.next_offset,
                bytes: footer.bytes,
                footer: Some(footer),
                from,
            }
        } else {
            let file = disk.open(&path).map_err(&again)?;
            let walked = self.walk(&file, base);
            let (bytes, next_offset) = walked.map_err(|e| io_error(disk, &path, e))?;
            HeldSegment {
                base,
                previous_end: match before {
                    _ if self.mark.segment_base == base => self.mark.previous_end,
                    Some(end) => end,
                    None => base,
                },
                next_offset,
                bytes,
                footer: None,
                from: Origin::of(file, open),
            }
        };
        self.segments.push(segment);
        Ok(())
    }

    // Where the batches of a segment without a footer end, at the cut at the latest.
    fn walk(&self, file: &Arc<dyn DiskFile>, base: u64) -> io::Result<(u64, u64)> {
        let mark = &self.mark;
        let boundary = if mark.segment_base == base && mark.next_offset <= self.cut.end {
            (mark.position, mark.next_offset)
        } else {
            (0, base)
        };
        let any = (0, i32::MAX);
        let end = file.len().max(boundary.0);
        let mut scanner = Scanner::new(&**file, boundary, end, any, Check::Headers);
        while scanner.next_offset() < self.cut.end {
            match scanner.advance() {
                Ok(Some(_)) => {}
                Ok(None) | Err(ScanError::Invalid { .. }) => break,
                Err(ScanError::Read { source, .. }) => return Err(source),
            }
        }
        Ok((scanner.position(), scanner.next_offset()))
    }
}

impl Origin {
    fn of(file: Arc<dyn DiskFile>, open: &mut usize) -> Origin {
        if *open == 0 {
            return Origin::Later;
        }
        *open -= 1;
        Origin::Open(file)
    }
}
