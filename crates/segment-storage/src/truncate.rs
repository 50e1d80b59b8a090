//! Giving up the end of a log on purpose: for repair and replication, never in normal running.

use std::io;

use crate::error::OpenError;
use crate::footer::{self, Footer};
use crate::marks::{LogStart, Marks, StableMark};
use crate::names;
use crate::scan::{Check, ScanError, Scanner};
use crate::segment::Place;
use crate::state_file;

/// Removes every batch that ends above `offset` from a log that is not open, so that the log ends
/// at the last batch boundary at or below it; returns that end. Offsets given up here are given
/// out again, which is why no running log does it (I9).
///
/// Readers that hold bytes of the log keep them: the file that holds the cut is replaced by a
/// shorter copy, and no file is shortened. A crash in between leaves a log that opens, at the old
/// end or below, and on which this can be repeated.
///
/// # Errors
/// [`OpenError`].
pub fn truncate(place: &Place, offset: u64) -> Result<u64, OpenError> {
    let marks = Marks::open(&place.disk, &place.directory)?;
    let (mark, start) = (marks.mark()?, marks.start()?);
    let fail = |source| OpenError::Io {
        file: place.display(""),
        source,
    };
    if offset < start.offset {
        return truncate_fully(place, offset).map(|()| offset);
    }
    let bases = bases(place).map_err(fail)?;
    if bases.is_empty() && offset >= mark.next_offset {
        return Ok(mark.next_offset);
    }
    let (base, position, end) = match bases.iter().copied().filter(|&b| b < offset).max() {
        Some(base) => match boundary(place, base, offset).map_err(fail)? {
            (0, _) => (base, 0, previous_end(place, &mark, base)),
            (position, end) => (base, position, end),
        },
        None => (offset, 0, offset),
    };
    // The mark goes down first: what lies above it may be damaged or missing from now on. It never
    // goes up, for what lies above it may not be durable.
    let lowered = if (base, position) < (mark.segment_base, mark.position) {
        StableMark {
            segment_base: base,
            position,
            next_offset: end,
            previous_end: previous_end(place, &mark, base),
            ..mark
        }
    } else {
        mark
    };
    let is_jump_kept = mark.jump_to > 0 && base >= mark.jump_to && position > 0;
    let lowered = StableMark {
        jump_to: if is_jump_kept { mark.jump_to } else { 0 },
        clean: false,
        ..lowered
    };
    marks
        .write_mark(&lowered)
        .and_then(|()| marks.write_ceiling(0))
        .map_err(fail)?;
    if start.offset > end {
        marks
            .write_start(&LogStart {
                offset: end,
                ..start
            })
            .map_err(fail)?;
    }
    marks.sync().map_err(fail)?;
    remove_above(place, base, position).map_err(fail)?;
    if position > 0 {
        replace(place, base, position).map_err(fail)?;
    }
    Ok(end)
}

/// Empties a log that is not open; it goes on at `offset`.
///
/// # Errors
/// [`OpenError`].
pub fn truncate_fully(place: &Place, offset: u64) -> Result<(), OpenError> {
    let marks = Marks::open(&place.disk, &place.directory)?;
    let fail = |source| OpenError::Io {
        file: place.display(""),
        source,
    };
    let (mark, start) = (marks.mark()?, marks.start()?);
    let lowered = StableMark {
        segment_base: offset,
        position: 0,
        next_offset: offset,
        previous_end: offset,
        jump_to: 0,
        clean: false,
        ..mark
    };
    let start = LogStart {
        offset,
        history_from: offset,
        strict_below: 0,
        forgotten_below: -1,
        ..start
    };
    // Footers go first: they would say of what a crash leaves that it must not be missing anything.
    remove_all(place, "footer")
        .and_then(|()| marks.write_start(&start))
        .and_then(|()| marks.write_mark(&lowered))
        .and_then(|()| marks.write_ceiling(0))
        .and_then(|()| marks.sync())
        .and_then(|()| remove_above(place, 0, 0))
        // Snapshots know producers of what is gone.
        .and_then(|()| remove_all(place, "snapshot"))
        .map_err(fail)
}

fn remove_all(place: &Place, extension: &str) -> io::Result<()> {
    for entry in place.disk.list(&place.directory)? {
        if names::offset_of(&entry.name, extension).is_some() {
            remove(place, &entry.name)?;
        }
    }
    place.disk.sync_names(&place.directory)
}

// Where the segment before `base` ended. Footers know; a segment without one has nothing before it
// that was sealed.
fn previous_end(place: &Place, mark: &StableMark, base: u64) -> u64 {
    if base == mark.segment_base {
        return mark.previous_end;
    }
    let path = place.path(&names::footer(base));
    let footer = state_file::read::<Footer>(&*place.disk, &path, footer::MAGIC, footer::VERSION);
    match footer {
        Ok(Some(footer)) => footer.previous_end,
        _ => base,
    }
}

fn bases(place: &Place) -> io::Result<Vec<u64>> {
    let entries = place.disk.list(&place.directory)?;
    Ok(entries
        .iter()
        .filter_map(|e| names::offset_of(&e.name, "log"))
        .collect())
}

// Where the first batch that ends above `offset` begins.
fn boundary(place: &Place, base: u64, offset: u64) -> io::Result<(u64, u64)> {
    let file = place.disk.open(&place.path(&names::segment(base)))?;
    let any = (0, i32::MAX);
    let mut scanner = Scanner::new(&*file, (0, base), file.len(), any, Check::Headers);
    let mut kept = (0, base);
    loop {
        match scanner.advance() {
            Ok(Some(_)) if scanner.next_offset() <= offset => {
                kept = (scanner.position(), scanner.next_offset());
            }
            Ok(_) | Err(ScanError::Invalid { .. }) => return Ok(kept),
            Err(ScanError::Read { source, .. }) => return Err(source),
        }
    }
}

// Segments above the one kept, newest first; all of them when nothing of that one is kept.
fn remove_above(place: &Place, base: u64, position: u64) -> io::Result<()> {
    let mut bases = bases(place)?;
    bases.retain(|&b| b > base || position == 0 && b >= base);
    bases.reverse();
    for b in bases {
        for name in [names::index(b), names::footer(b), names::segment(b)] {
            remove(place, &name)?;
        }
        place.disk.sync_names(&place.directory)?;
    }
    for entry in place.disk.list(&place.directory)? {
        if names::is_prepared(&entry.name) {
            remove(place, &entry.name)?;
        }
    }
    place.disk.sync_names(&place.directory)
}

fn remove(place: &Place, name: &str) -> io::Result<()> {
    match place.disk.remove(&place.path(name)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn replace(place: &Place, base: u64, bytes: u64) -> io::Result<()> {
    const CHUNK: u64 = 1 << 20;
    let name = names::segment(base);
    let old = place.disk.open(&place.path(&name))?;
    if old.len() == bytes {
        // Of a file that damage has shortened, the footer says more.
        remove(place, &names::footer(base))?;
        return place.disk.sync_names(&place.directory);
    }
    let temporary = names::prepared(u64::MAX);
    remove(place, &temporary)?;
    let new = place.disk.create(&place.path(&temporary), 0)?;
    let mut position = 0;
    while position < bytes {
        let chunk = usize::try_from(CHUNK.min(bytes - position)).unwrap_or(0);
        let mut buffer = vec![0; chunk];
        old.read_at(&mut buffer, position)?;
        new.write_at(&buffer, &[], position)?;
        position += CHUNK.min(bytes - position);
    }
    new.sync()?;
    remove(place, &names::footer(base))?;
    remove(place, &names::index(base))?;
    place
        .disk
        .rename(&place.path(&temporary), &place.path(&name))?;
    place.disk.sync_names(&place.directory)
}
