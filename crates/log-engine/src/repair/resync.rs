//! Where batches go on behind damage.
//!
//! Bytes inside of a record may look like a batch, so what is found is believed only where something
//! else names the place: the damaged batch's own length with the offset that must follow, an entry
//! of the index, or an unbroken row of batches from there to where the segment must end.

use std::io;

use record_batch::{Batch, BatchHeader, HEADER_BYTES};
use segment_storage::{Check, DiskFile, IndexFile, Place, ScanError, Scanner};

/// The damage, and what is known of the segment behind it.
pub(super) struct Gap {
    /// Position and offset at which a batch should begin.
    pub(super) from: (u64, u64),
    /// Bytes that must hold batches, and the offset after the last of them, if that is known.
    pub(super) limit: (u64, Option<u64>),
    pub(super) file_end: u64,
    /// Newest generation that there can be.
    pub(super) high: i32,
}

/// Positions and offsets that the index of a segment names.
pub(super) fn index_of(place: &Place, base: u64) -> Vec<(u64, u64)> {
    let index = IndexFile::read(place, base).ok().flatten();
    let index = index.filter(|i| (i.log_id, i.base_offset) == (place.log_id, base));
    let entry = |e: segment_storage::IndexEntry| {
        (u64::from(e.position), base + u64::from(e.relative_offset))
    };
    index.map_or_else(Vec::new, |i| i.entries.into_iter().map(entry).collect())
}

/// Where the next batch begins that certainly is one.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn after(
    file: &dyn DiskFile,
    gap: &Gap,
    index: &[(u64, u64)],
) -> io::Result<Option<(u64, u64)>> {
    let (position, expected) = gap.from;
    if let Some(header) = header_at(file, position, gap.file_end)? {
        let next = position + u64::try_from(header.size()).unwrap_or(u64::MAX);
        let offset = u64::try_from(header.next_offset()).unwrap_or(0);
        let is_own = u64::try_from(header.base_offset) == Ok(expected);
        if is_own && is_batch(file, gap, (next, offset))? {
            return Ok(Some((next, offset)));
        }
    }
    if let Some(found) = search(file, gap, index)? {
        return Ok(Some(found));
    }
    let (limit, limit_offset) = gap.limit;
    // What lies above the mark begins at a known place.
    if let Some(offset) = limit_offset
        && limit < gap.file_end
        && is_batch(file, gap, (limit, offset))?
    {
        return Ok(Some((limit, offset)));
    }
    Ok(None)
}

fn header_at(file: &dyn DiskFile, at: u64, end: u64) -> io::Result<Option<BatchHeader>> {
    let mut head = [0; HEADER_BYTES];
    if end.saturating_sub(at) < head.len() as u64 {
        return Ok(None);
    }
    file.read_at(&mut head, at)?;
    Ok(BatchHeader::read(&head).ok())
}

// Whether the batch there is whole, and has that offset.
fn is_batch(file: &dyn DiskFile, gap: &Gap, (at, offset): (u64, u64)) -> io::Result<bool> {
    let Some(header) = header_at(file, at, gap.file_end)? else {
        return Ok(false);
    };
    let left = gap.file_end - at;
    let size = header.size();
    let is_next = u64::try_from(header.base_offset) == Ok(offset)
        && offset > gap.from.1
        && (0..=gap.high).contains(&header.leader_epoch)
        && u64::try_from(size).is_ok_and(|size| size <= left);
    if !is_next {
        return Ok(false);
    }
    let mut bytes = vec![0; size];
    file.read_at(&mut bytes, at)?;
    Ok(Batch::parse(&bytes).is_ok())
}

fn search(file: &dyn DiskFile, gap: &Gap, index: &[(u64, u64)]) -> io::Result<Option<(u64, u64)>> {
    const WINDOW: u64 = 256 << 10;
    let head = HEADER_BYTES as u64;
    let (limit, limit_offset) = gap.limit;
    let mut at = gap.from.0 + 1;
    while at + head <= limit {
        let bytes = (WINDOW + head).min(limit - at);
        let mut window = vec![0; usize::try_from(bytes).unwrap_or(0)];
        file.read_at(&mut window, at)?;
        for (step, header) in window.windows(HEADER_BYTES).enumerate() {
            // The magic byte: most places are told by it alone.
            if header[16] != 2 {
                continue;
            }
            let Ok(header) = BatchHeader::read(header) else {
                continue;
            };
            let found = (
                at + step as u64,
                u64::try_from(header.base_offset).unwrap_or(0),
            );
            let below = limit_offset.is_none_or(|end| found.1 < end);
            if below
                && is_batch(file, gap, found)?
                && (index.contains(&found) || reaches(file, gap, found)?)
            {
                return Ok(Some(found));
            }
        }
        at += (bytes - head).max(1);
    }
    Ok(None)
}

// Whether batches lie back to back from there to where they must end.
fn reaches(file: &dyn DiskFile, gap: &Gap, from: (u64, u64)) -> io::Result<bool> {
    let (limit, limit_offset) = gap.limit;
    let mut scanner = Scanner::new(file, from, limit, (0, gap.high), Check::Crc);
    loop {
        match scanner.advance() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(limit_offset.is_none_or(|end| scanner.next_offset() == end)),
            Err(ScanError::Invalid { .. }) => return Ok(false),
            Err(ScanError::Read { source, .. }) => return Err(source),
        }
    }
}
