//! One real file: reserved and mapped, or written by position.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

use crate::disk::map::Map;
use crate::disk::published::{Published, end_of_write};
use crate::disk::{DiskFile, Prepare};

/// Largest write, in bytes, that is copied into the map, unless all its pages were touched before
/// ([`Prepare::Touch`]): then there is no limit. Larger ones are positional, which costs a system
/// call but no fault for each page, and dirties page by page what is synced next. Measured with
/// `benches/append.rs`, p50: 100 records of 1 KiB in touched pages 7.5 us through the map and 11 us
/// by position (100 B: 2.8 and 4.1 us); synced, in pages of zeros, 200 us and 150 us (100 B: even).
pub const MAP_COPY_LIMIT: usize = 16 * 1024;

/// Zeros are written in calls of this size: larger ones make page-cache folios of up to 1 MiB, and
/// each later store through the map would dirty all of it (R29).
const ZEROS: [u8; 4096] = [0; 4096];

/// Bytes of full pages from which on a sync ends their mapping first: it costs a system call, and
/// saves one interrupt of the other processors for each page.
const UNMAP_BYTES: u64 = 64 * 1024;

/// One open file.
#[derive(Debug)]
pub(super) struct OsFile {
    file: File,
    writable: bool,
    len: AtomicU64,
    published: Arc<Published>,
    /// Covers the reserved range, for stores and for reading; `None` where nothing is reserved.
    reserved: Option<Arc<Map>>,
    /// Largest write that is copied into `reserved`.
    copy_limit: AtomicUsize,
    /// Below it, pages of `reserved` were full at a sync, and their mapping was ended.
    unmapped: AtomicU64,
    /// Made at the first read that `reserved` does not cover, and again when the file outgrew it.
    for_reading: Mutex<Option<Arc<Map>>>,
}

impl OsFile {
    /// An existing file, as it is.
    pub(super) fn existing(file: File, writable: bool) -> io::Result<OsFile> {
        let len = file.metadata()?.len();
        Ok(OsFile {
            file,
            writable,
            len: AtomicU64::new(len),
            published: Arc::new(Published::new()),
            reserved: None,
            copy_limit: AtomicUsize::new(MAP_COPY_LIMIT),
            unmapped: AtomicU64::new(0),
            for_reading: Mutex::new(None),
        })
    }

    /// A writable file with `capacity` bytes reserved and mapped, or as it is where the file system
    /// cannot reserve (R3). On failure it has its old length.
    pub(super) fn reserve(file: File, capacity: u64) -> io::Result<OsFile> {
        let mut opened = OsFile::existing(file, true)?;
        let old = opened.len.load(Ordering::Relaxed);
        let capacity = capacity.max(old);
        if capacity == 0 {
            return Ok(opened);
        }
        let reserved = match allocate(&opened.file, capacity) {
            Ok(reserved) => reserved,
            Err(error) => {
                truncate(&opened.file, old)?;
                return Err(error.into());
            }
        };
        if reserved {
            let published = Arc::clone(&opened.published);
            match Map::writable(&opened.file, capacity, published) {
                Ok(map) => opened.reserved = Some(Arc::new(map)),
                Err(error) => {
                    truncate(&opened.file, old)?;
                    return Err(error);
                }
            }
            opened.len = AtomicU64::new(capacity);
        }
        Ok(opened)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    /// Undoes the beginning of a failed write that began at the end of the file: where nothing is
    /// reserved, a full disk refuses a write and leaves no part of it behind (I12).
    ///
    /// The kind of the returned error is one of a lack of space only if that succeeded, so that a
    /// caller may tell a refused write from a damaged file.
    fn undo(&self, error: io::Error, position: u64, written: usize) -> io::Error {
        if !is_lack_of_space(&error) {
            return error;
        }
        let len = self.len.load(Ordering::Relaxed);
        let undone = self.reserved.is_none()
            && (written == 0 || (position >= len && truncate(&self.file, len).is_ok()));
        if undone {
            error
        } else {
            io::Error::other(error)
        }
    }

    // Full pages are not written again, so their mapping is of no more use to the writer.
    fn unmap_full_pages(&self) {
        let Some(map) = &self.reserved else { return };
        let page = ZEROS.len() as u64;
        let full = self.published.end() / page * page;
        let unmapped = self.unmapped.load(Ordering::Relaxed);
        if full >= unmapped + UNMAP_BYTES {
            self.unmapped.store(full, Ordering::Relaxed);
            map.unmap_pages(unmapped..full);
        }
    }

    fn map_for_reading(&self, end: u64) -> io::Result<Arc<Map>> {
        let mut current = self.for_reading.lock();
        let mapped = match &*current {
            Some(map) if end <= map.len() => return Ok(Arc::clone(map)),
            Some(map) => map.len(),
            None => 0,
        };
        // Mapping past the end of a growing file is allowed, and keeps such reads from mapping
        // again each time; nothing beyond the published end is ever touched.
        let len = self.len().max(end).max(mapped.saturating_mul(2));
        let map = Arc::new(Map::read_only(
            &self.file,
            len,
            Arc::clone(&self.published),
        )?);
        *current = Some(Arc::clone(&map));
        Ok(map)
    }
}

impl DiskFile for OsFile {
    fn len(&self) -> u64 {
        // A file opened for reading may be growing under its writer, in another process.
        if !self.writable
            && let Ok(found) = self.file.metadata()
        {
            self.len.store(found.len(), Ordering::Relaxed);
        }
        self.len.load(Ordering::Relaxed)
    }

    fn write_at(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
        self.check_writable()?;
        let end = end_of_write(head, body, position)?;
        if let Some(map) = &self.reserved
            && head.len() + body.len() <= self.copy_limit.load(Ordering::Relaxed)
            && end <= map.len()
        {
            return map.put(head, body, position);
        }
        let _writing = self.published.begin_write(position)?;
        if let Err((error, written)) = write_all(&self.file, head, body, position) {
            return Err(self.undo(error, position, written));
        }
        self.len.fetch_max(end, Ordering::Relaxed);
        Ok(())
    }

    fn publish(&self, end: u64) {
        let known = self.len.load(Ordering::Relaxed);
        let len = if end <= known { known } else { self.len() };
        self.published.raise(end, len);
    }

    fn published(&self) -> u64 {
        self.published.end()
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.published.check_read(&range)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        match &self.reserved {
            Some(map) if range.end <= map.len() => map.slice(range),
            _ => self.map_for_reading(range.end)?.slice(range),
        }
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(into, position)
    }

    fn prepare(&self, from: u64, how: Prepare) -> io::Result<()> {
        self.check_writable()?;
        let _writing = self.published.begin_write(from)?;
        let len = self.len.load(Ordering::Relaxed);
        match how {
            Prepare::Zeros => {
                let page = ZEROS.len() as u64;
                let mut position = from;
                while position < len {
                    let end = ((position / page + 1) * page).min(len);
                    let zeros = usize::try_from(end - position).unwrap_or(ZEROS.len());
                    self.file.write_all_at(&ZEROS[..zeros], position)?;
                    position = end;
                }
                self.sync()
            }
            Prepare::Touch => {
                if let Some(map) = &self.reserved
                    && map.populate(from..len)
                {
                    self.copy_limit.store(usize::MAX, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.check_writable()?;
        self.unmap_full_pages();
        // Not the standard library's, which repeats an interrupted call (R6).
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        let writing = self.published.begin_write(length)?;
        if length > self.len.load(Ordering::Relaxed) {
            let kind = io::ErrorKind::InvalidInput;
            return Err(io::Error::new(kind, "a cut does not lengthen a file"));
        }
        truncate(&self.file, length)?;
        self.len.store(length, Ordering::Relaxed);
        writing.refuse_later_writes();
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.sync()?;
        Ok(rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }
}

/// Reserves the first `len` bytes; `false` where the file system cannot.
fn allocate(file: &File, len: u64) -> Result<bool, Errno> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn truncate(file: &File, len: u64) -> io::Result<()> {
    // The standard library repeats an interrupted call.
    file.set_len(len)
}

/// Writes both slices by position. On failure, says how much of them was written.
fn write_all(
    file: &File,
    head: &[u8],
    body: &[u8],
    position: u64,
) -> Result<(), (io::Error, usize)> {
    let mut slices = [IoSlice::new(head), IoSlice::new(body)];
    let mut rest = &mut slices[..];
    let mut written = 0;
    // Drops empty slices, so that nothing is left exactly when all is written.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match rustix::io::pwritev(file, rest, position + written as u64) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
            Ok(bytes) => {
                written += bytes;
                IoSlice::advance_slices(&mut rest, bytes);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err((error.into(), written)),
        }
    }
    Ok(())
}

/// Full disk, quota, or file-size limit (I12).
fn is_lack_of_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
