//! Reading a log that another process may be writing: up to its stable mark, without a lock.

use std::io;
use std::sync::Arc;

use record_batch::{BatchHeader, HEADER_BYTES};
use sync::Mutex;
use sync::atomic::Ordering;

use crate::error::OpenError;
use crate::footer::{self, Footer};
use crate::marks::Marks;
use crate::names;
use crate::scan::{Check, Scanner};
use crate::segment::{Place, Segment};
use crate::state_file;
use crate::view::LogView;

/// Follows a log of another process. Writes nothing.
pub struct LogFollower {
    place: Place,
    view: Arc<LogView>,
    /// One refresh at a time: an older row of segments must not replace a newer one, or a reader
    /// would take what is missing in it for a gap.
    refreshing: Mutex<()>,
}

impl LogFollower {
    /// Opens a log for reading what is durable of it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(place: Place) -> Result<LogFollower, OpenError> {
        let start = Marks::open(&place.disk, &place.directory)?.start()?;
        let view = Arc::new(LogView::new(place.clone(), Vec::new(), start.offset));
        let follower = LogFollower {
            place,
            view,
            refreshing: Mutex::default(),
        };
        follower.refresh()?;
        Ok(follower)
    }

    /// What can be read, up to the stable mark at the last refresh.
    pub fn view(&self) -> &Arc<LogView> {
        &self.view
    }

    /// Where the log is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Looks what became durable since.
    ///
    /// # Errors
    /// [`OpenError`]; what was visible before stays so.
    pub fn refresh(&self) -> Result<(), OpenError> {
        let _one_at_a_time = self.refreshing.lock();
        let marks = Marks::open(&self.place.disk, &self.place.directory)?;
        if marks.log_id() != self.place.log_id {
            return Err(OpenError::Foreign {
                file: self.place.display(crate::marks::FILE),
                found: marks.log_id(),
                expected: self.place.log_id,
            });
        }
        let (mark, start) = (marks.mark()?, marks.start()?);
        self.view.start.fetch_max(start.offset, Ordering::AcqRel);
        if mark.position > 0 {
            let io = |source| OpenError::Io {
                file: self.place.display(""),
                source,
            };
            let known = self.view.segments.load_full();
            let mut segments = Vec::new();
            for base in self.bases().map_err(io)? {
                if base > mark.segment_base {
                    continue;
                }
                let same = known.iter().find(|s| s.base_offset() == base);
                match same {
                    Some(segment) if base < mark.segment_base && segment.footer().is_some() => {
                        segments.push(segment.clone());
                    }
                    Some(segment)
                        if base == mark.segment_base
                            && segment.follow(mark.position).map_err(io)? =>
                    {
                        segments.push(segment.clone());
                    }
                    _ => segments.extend(self.open_segment(base, &mark).map_err(io)?),
                }
            }
            // What vanished while this looked was deleted, and the start says so.
            let start = marks.start()?;
            self.view.start.fetch_max(start.offset, Ordering::AcqRel);
            // What is below the mark and not deleted is there, or reading it says that it is not.
            let is_found = segments
                .iter()
                .any(|s| s.base_offset() == mark.segment_base);
            if !is_found && start.offset < mark.next_offset {
                segments.extend(self.open_segment(mark.segment_base, &mark).map_err(io)?);
            }
            self.view.segments.store(Arc::new(segments));
        }
        self.view
            .published
            .fetch_max(mark.next_offset, Ordering::AcqRel);
        Ok(())
    }

    fn bases(&self) -> io::Result<Vec<u64>> {
        let entries = self.place.disk.list(&self.place.directory)?;
        Ok(entries
            .iter()
            .filter_map(|e| names::offset_of(&e.name, "log"))
            .collect())
    }

    fn open_segment(
        &self,
        base: u64,
        mark: &crate::marks::StableMark,
    ) -> io::Result<Option<Arc<Segment>>> {
        if base == mark.segment_base {
            let whole = (base, mark.previous_end);
            let segment = Segment::resting(self.place.clone(), whole, mark.position);
            return Ok(Some(Arc::new(segment)));
        }
        let path = self.place.path(&names::footer(base));
        let footer =
            state_file::read::<Footer>(&*self.place.disk, &path, footer::MAGIC, footer::VERSION);
        Ok(match footer {
            Ok(Some(footer)) => Some(Arc::new(Segment::sealed(self.place.clone(), footer))),
            // Below the mark without a footer: it was lost, or retention is removing the segment.
            _ => match self
                .place
                .disk
                .open(&self.place.path(&names::segment(base)))
            {
                Ok(file) => {
                    let whole = (base, 0);
                    let segment = Segment::resting(self.place.clone(), whole, file.len());
                    Some(Arc::new(segment))
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            },
        })
    }

    /// Bytes of whole batches above the stable mark. They are there after a writer was killed;
    /// opening the log for writing recovers them.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn bytes_above_mark(&self) -> Result<u64, OpenError> {
        let marks = Marks::open(&self.place.disk, &self.place.directory)?;
        let mark = marks.mark()?;
        let io = |source| OpenError::Io {
            file: self.place.display(""),
            source,
        };
        let mut end = mark.next_offset;
        let mut bytes = 0;
        for (base, name) in self.above(end).map_err(io)? {
            let from = match base {
                b if b == mark.segment_base => mark.position,
                b if b > mark.segment_base => 0,
                _ => continue,
            };
            let file = self.place.disk.open(&self.place.path(&name)).map_err(io)?;
            let boundary = (from, if from == 0 { base } else { end });
            if file.len() > from {
                let any = (0, i32::MAX);
                let mut scanner = Scanner::new(&*file, boundary, file.len(), any, Check::Crc);
                while let Ok(Some(_)) = scanner.advance() {}
                bytes += scanner.position() - from;
                end = scanner.next_offset();
            }
        }
        Ok(bytes)
    }

    // The segments by base offset and name, with those prepared ones that hold batches from
    // `offset` on: a segment gets its own name when it is first synced.
    fn above(&self, offset: u64) -> io::Result<Vec<(u64, String)>> {
        let mut segments: Vec<_> = self
            .bases()?
            .into_iter()
            .map(|base| (base, names::segment(base)))
            .collect();
        for entry in self.place.disk.list(&self.place.directory)? {
            let mut head = [0; HEADER_BYTES];
            if names::is_prepared(&entry.name)
                && let Ok(file) = self.place.disk.open(&self.place.path(&entry.name))
                && file.read_at(&mut head, 0).is_ok()
                && let Ok(header) = BatchHeader::read(&head)
                && let Ok(base) = u64::try_from(header.base_offset)
                && base >= offset
            {
                segments.push((base, entry.name));
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }
}
