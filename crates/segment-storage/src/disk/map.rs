//! One file, mapped: raw stores above the published end, shared slices below it.
//!
//! This is the only file of the project that contains `unsafe`. What makes it sound:
//!
//! - A Rust reference covers only bytes below the published end ([`Map::slice`] checks, and the
//!   owner inside of each `Bytes` shows exactly the checked range, never the whole map).
//! - Those bytes never change again (I9): stores are raw copies to other bytes ([`Map::put`] and
//!   the positional writes of the same file go through [`Published::begin_write`]), and the end is
//!   not raised over a write in progress.
//! - They stay backed: a file is never cut below its published end, and the page in which a cut
//!   falls stays. Removing the file removes a name only.
//!
//! Outside of what the types can hold, and documented at [`DiskFile`](super::DiskFile): one handle
//! writes a file at a time, and no other process changes it (I14, the lock of the data directory).
#![expect(unsafe_code, reason = "the one file that touches mapped memory (R26)")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use super::published::{Published, end_of_write};

/// A shared mapping of one file.
#[derive(Debug)]
pub(crate) struct Map {
    raw: MmapRaw,
    published: Arc<Published>,
    writable: bool,
}

impl Map {
    /// Maps the first `len` bytes for stores. All of them must be reserved: a store into a page
    /// without blocks on a full disk is a signal and no error (R1).
    pub(crate) fn writable(file: &File, len: u64, published: Arc<Published>) -> io::Result<Self> {
        let raw = MmapOptions::new().len(size(len)?).map_raw(file)?;
        Ok(Self {
            raw,
            published,
            writable: true,
        })
    }

    /// Maps `len` bytes for reading; the file may still grow into them.
    pub(crate) fn read_only(file: &File, len: u64, published: Arc<Published>) -> io::Result<Self> {
        let raw = MmapOptions::new().len(size(len)?).map_raw_read_only(file)?;
        Ok(Self {
            raw,
            published,
            writable: false,
        })
    }

    /// How many bytes are mapped.
    pub(crate) fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Copies `head` and `body` back to back to `position`.
    ///
    /// # Errors
    /// `PermissionDenied` on a map for reading; `InvalidInput` below the published end, past the
    /// end of the map, or after a cut; `ResourceBusy` during another write.
    pub(crate) fn put(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let end = end_of_write(head, body, position)?;
        if end > self.len() {
            let kind = io::ErrorKind::InvalidInput;
            return Err(io::Error::new(
                kind,
                "the write ends past the end of the map",
            ));
        }
        let _writing = self.published.begin_write(position)?;
        let start = size(position)?;
        // SAFETY: `start .. start + head.len() + body.len()` ends at `end`, which was checked to lie
        // inside of the mapping; the mapping is writable, and its blocks are reserved and not cut
        // (`begin_write` refuses a cut file). No reference covers the target: it begins at or above
        // the published end, references end at or below it, and `_writing` keeps the end from being
        // raised over the target and other writers from storing. For the same reason the
        // sources, which are references, do not overlap the target.
        unsafe {
            let target = self.raw.as_mut_ptr().add(start);
            ptr::copy_nonoverlapping(head.as_ptr(), target, head.len());
            ptr::copy_nonoverlapping(body.as_ptr(), target.add(head.len()), body.len());
        }
        Ok(())
    }

    /// A range below the published end, without a copy. It keeps the map alive.
    ///
    /// # Errors
    /// `UnexpectedEof` when the range ends above the published end or the end of the map.
    pub(crate) fn slice(self: &Arc<Self>, range: Range<u64>) -> io::Result<Bytes> {
        self.published.check_read(&range)?;
        if range.end > self.len() {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(
                kind,
                "the range ends past the end of the map",
            ));
        }
        let start = size(range.start)?;
        let len = size(range.end)? - start;
        Ok(Bytes::from_owner(Slice {
            map: Arc::clone(self),
            start,
            len,
        }))
    }

    /// Has the system fault in the pages of `range` for writing, and returns whether it did. Where
    /// it cannot, the first store into each page pays for the fault.
    pub(crate) fn populate(&self, range: Range<u64>) -> bool {
        let (Ok(start), Ok(end)) = (size(range.start), size(range.end.min(self.len()))) else {
            return false;
        };
        self.writable
            && start < end
            && self
                .raw
                .advise_range(Advice::PopulateWrite, start, end - start)
                .is_ok()
    }

    /// Has the system forget that the pages of `range` are mapped, all at once. The bytes stay in
    /// the page cache, and the next access maps them again. Without it, writing pages back looks
    /// for each one's mapping and interrupts every processor that runs this process to end it.
    pub(crate) fn unmap_pages(&self, range: Range<u64>) {
        let Ok(start) = size(range.start) else { return };
        let Ok(end) = size(range.end.min(self.len())) else {
            return;
        };
        if start < end {
            // SAFETY: the advice drops page-table entries and no data: the map is shared and
            // backed by a file, so what was stored lies in the page cache, and an access through a
            // reference, or a store, finds the same bytes there. The address range stays mapped.
            let _refused = unsafe {
                self.raw
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
            };
        }
    }
}

fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// Published bytes of a map: the owner inside of a `Bytes`.
struct Slice {
    map: Arc<Map>,
    start: usize,
    len: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Map::slice`, the only maker, checked that the range lies inside of the mapping,
        // which the `Arc` keeps alive, and below the published end. Published bytes are never
        // written again and no file is cut below its published end, so the bytes neither
        // change nor go away while the reference lives.
        unsafe { slice::from_raw_parts(self.map.raw.as_ptr().add(self.start), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const PAGE: u64 = 4096;

    fn reserved(bytes: u64) -> (File, Arc<Published>, Arc<Map>) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        let published = Arc::new(Published::new());
        let map = Map::writable(&file, bytes, Arc::clone(&published)).unwrap();
        (file, published, Arc::new(map))
    }

    #[test]
    fn put_then_slice() {
        let (file, published, map) = reserved(PAGE);
        map.put(b"head", b"body", 100).unwrap();
        published.raise(108, PAGE);
        assert_eq!(map.slice(100..108).unwrap(), b"headbody".as_slice());
        assert_eq!(map.slice(98..102).unwrap(), b"\0\0he".as_slice());
        assert_eq!(map.slice(5..5).unwrap(), b"".as_slice());
        let mut positional = [0; 8];
        file.read_exact_at(&mut positional, 100).unwrap();
        assert_eq!(&positional, b"headbody");
    }

    #[test]
    fn slice_shows_exactly_its_range() {
        let (_file, published, map) = reserved(PAGE);
        map.put(b"abcdef", b"", 0).unwrap();
        published.raise(6, PAGE);
        let owner = Slice {
            map,
            start: 2,
            len: 3,
        };
        assert_eq!(owner.as_ref(), b"cde");
    }

    #[test]
    fn slice_above_the_published_end_is_refused() {
        let (_file, published, map) = reserved(PAGE);
        map.put(b"abcdef", b"", 0).unwrap();
        published.raise(3, PAGE);
        assert_eq!(
            map.slice(0..4).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(map.slice(0..3).unwrap(), b"abc".as_slice());
    }

    #[test]
    fn put_below_the_published_end_is_refused() {
        let (_file, published, map) = reserved(PAGE);
        map.put(b"abc", b"", 0).unwrap();
        published.raise(3, PAGE);
        assert_eq!(
            map.put(b"", b"x", 2).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(map.slice(0..3).unwrap(), b"abc".as_slice());
    }

    #[test]
    fn unmapped_pages_keep_their_bytes_and_take_stores() {
        let (_file, published, map) = reserved(4 * PAGE);
        let written = [5_u8; 6000];
        map.put(&written, b"", 0).unwrap();
        published.raise(6000, 4 * PAGE);
        let bytes = map.slice(0..6000).unwrap();
        map.unmap_pages(0..4 * PAGE);
        assert_eq!(bytes, written.as_slice());
        map.put(b"more", b"", 6000).unwrap();
        map.unmap_pages(0..u64::MAX);
        published.raise(6004, 4 * PAGE);
        assert_eq!(map.slice(5999..6004).unwrap(), b"\x05more".as_slice());
    }

    #[test]
    fn put_past_the_map_is_refused() {
        let (_file, _published, map) = reserved(PAGE);
        let refused = map.put(b"ab", b"c", PAGE - 2).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        map.put(b"a", b"c", PAGE - 2).unwrap();
        assert!(map.put(b"a", b"", u64::MAX).is_err());
    }

    #[test]
    fn map_for_reading_takes_no_stores() {
        let (file, published, _map) = reserved(PAGE);
        let map = Map::read_only(&file, PAGE, published).unwrap();
        assert_eq!(
            map.put(b"a", b"", 0).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn bytes_outlive_handles_cut_and_removal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment");
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        file.set_len(8 * PAGE).unwrap();
        let published = Arc::new(Published::new());
        let map = Arc::new(Map::writable(&file, 8 * PAGE, Arc::clone(&published)).unwrap());
        let written = vec![7_u8; 5000];
        map.put(&written, b"", 0).unwrap();
        published.raise(5000, 8 * PAGE);
        let bytes = map.slice(0..5000).unwrap();

        // The second page still holds published bytes, the third is gone.
        file.set_len(5000).unwrap();
        std::fs::remove_file(&path).unwrap();
        drop((file, published, map));
        assert_eq!(bytes, written.as_slice());
        assert_eq!(bytes.slice(4999..), [7_u8].as_slice());
    }

    #[test]
    fn map_longer_than_its_file_shows_what_is_added() {
        let file = tempfile::tempfile().unwrap();
        let published = Arc::new(Published::new());
        let map = Arc::new(Map::read_only(&file, 4 * PAGE, Arc::clone(&published)).unwrap());
        file.write_all_at(&[3; 6000], 0).unwrap();
        published.raise(6000, 6000);
        assert_eq!(map.slice(0..6000).unwrap(), [3_u8; 6000].as_slice());
    }

    #[test]
    fn readers_see_whole_records_while_a_writer_appends() {
        const RECORD: u64 = 64;
        const RECORDS: u64 = 4_000;
        let (_file, published, map) = reserved(RECORD * RECORDS);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while seen < RECORDS {
                        let end = published.end() / RECORD;
                        if end > seen {
                            let record = map.slice((end - 1) * RECORD..end * RECORD).unwrap();
                            let filled = u8::try_from((end - 1) % 251).unwrap() + 1;
                            assert!(record.iter().all(|byte| *byte == filled));
                        }
                        seen = end;
                    }
                });
            }
            for record in 0..RECORDS {
                let bytes = [u8::try_from(record % 251).unwrap() + 1; 64];
                map.put(&bytes[..10], &bytes[10..], record * RECORD)
                    .unwrap();
                published.raise((record + 1) * RECORD, RECORD * RECORDS);
            }
        });
    }
}
