//! A log with damage below its stable mark: opened as it is, for reading only (I24).

use std::sync::Arc;

use super::{Listing, Recovery};
use crate::names;
use crate::scan::{Check, Scanner};
use crate::segment::Segment;

impl Recovery {
    /// Shows every file that is there. Nothing is cut, removed or written. What is damaged or
    /// missing is an error for whoever reads it; all else can be read.
    pub(super) fn show_what_is_there(&mut self, listing: &Listing) {
        self.found.segments.clear();
        self.found.resting = None;
        let mark = self.mark;
        let mut end = (mark.position, mark.next_offset);
        for (at, &(base, len)) in listing.segments.iter().enumerate() {
            let next = listing.segments.get(at + 1);
            if next.is_some_and(|next| next.0 <= self.found.start.offset) {
                continue;
            }
            let footer = self.read_footer(base).ok().flatten();
            let segment = match footer {
                Some(footer) if footer.bytes <= len => {
                    end = later(end, (footer.bytes, footer.next_offset));
                    Segment::sealed(self.place.clone(), footer)
                }
                _ => {
                    let previous_end = match footer {
                        Some(footer) => footer.previous_end,
                        None if base == mark.segment_base => mark.previous_end,
                        None if base == mark.jump_to => mark.next_offset,
                        None => base,
                    };
                    let bytes = if base < mark.segment_base {
                        len
                    } else {
                        let scanned = self.scan_from_mark(base, len);
                        end = later(end, scanned);
                        scanned.0
                    };
                    let whole = (base, previous_end);
                    Segment::resting(self.place.clone(), whole, bytes)
                }
            };
            self.found.segments.push(Arc::new(segment));
        }
        self.found.end = end;
    }

    // Where the batches end that follow the mark, or the beginning of a later file. A file that
    // does not even reach the mark is shown as it is.
    fn scan_from_mark(&self, base: u64, len: u64) -> (u64, u64) {
        let mark = self.mark;
        let boundary = if base == mark.segment_base {
            (mark.position, mark.next_offset)
        } else {
            (0, base)
        };
        let path = self.place.path(&names::segment(base));
        let Ok(file) = self.place.disk.open(&path) else {
            return (len, base);
        };
        if len < boundary.0 || file.drop_cache().is_err() {
            return (len.min(boundary.0), boundary.1);
        }
        let generations = (0, self.generation);
        let mut scanner = Scanner::new(&*file, boundary, len, generations, Check::Crc);
        while let Ok(Some(_)) = scanner.advance() {}
        (scanner.position(), scanner.next_offset())
    }
}

// The end with the higher offset.
fn later(one: (u64, u64), other: (u64, u64)) -> (u64, u64) {
    if other.1 > one.1 { other } else { one }
}
