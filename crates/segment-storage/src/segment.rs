//! One segment: a file of batches, back to back, and its index.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sync::atomic::{AtomicI64, AtomicU64, Ordering};
use sync::{ArcSwapOption, Mutex, OnceLock};

use crate::disk::{Disk, DiskFile};
use crate::footer::{self, Footer};
use crate::index::{Index, IndexEntry};
use crate::names;
use crate::scan::{Check, ScanError};
use crate::state_file::{self, StateFileError};

/// Magic of an index file.
pub(crate) const INDEX_MAGIC: [u8; 4] = *b"OLIX";
/// Version of an index file.
pub(crate) const INDEX_VERSION: u16 = 1;

/// A log's directory on a disk, and which log it is.
#[derive(Clone)]
pub struct Place {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Directory of the log, relative to the disk.
    pub directory: Arc<str>,
    /// Identity of the log; its files carry it.
    pub log_id: u128,
}

impl Place {
    /// A name inside of the directory, as the disk wants it.
    pub fn path(&self, name: &str) -> String {
        names::join(&self.directory, name)
    }

    /// A name inside of the directory, as a person can find it.
    pub fn display(&self, name: &str) -> String {
        self.disk.display(&self.path(name))
    }
}

/// An index as a file; believed only for exactly the bytes that it was made of.
#[derive(Debug, Serialize, Deserialize)]
pub struct IndexFile {
    /// The log it belongs to.
    pub log_id: u128,
    /// First offset of the segment.
    pub base_offset: u64,
    /// Bytes of the segment that it was made of.
    pub bytes: u64,
    /// Largest timestamp in them, ms since 1970; `i64::MIN` without any.
    pub max_timestamp: i64,
    /// The entries, by position.
    pub entries: Vec<IndexEntry>,
}

impl IndexFile {
    /// Reads the index file of a segment as it is, to check it; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn read(place: &Place, base_offset: u64) -> Result<Option<IndexFile>, StateFileError> {
        let path = place.path(&names::index(base_offset));
        state_file::read(&*place.disk, &path, INDEX_MAGIC, INDEX_VERSION)
    }
}

/// One segment of a log, shared by its writer and its readers.
pub struct Segment {
    place: Place,
    base_offset: u64,
    previous_end: u64,
    /// Bytes of a segment that is not written now; a written one publishes through its file.
    bytes: u64,
    file: OnceLock<Arc<dyn DiskFile>>,
    /// The name it was prepared under, until it durably has its own.
    prepared_name: Mutex<Option<String>>,
    index: ArcSwapOption<Index>,
    max_timestamp: AtomicI64,
    last_append_ms: AtomicU64,
    footer: OnceLock<Footer>,
    index_rebuilds: AtomicU64,
}

impl Segment {
    /// A segment that is about to be written. `prepared_name` is what its file is called so far,
    /// if not by its base offset.
    pub fn active(
        place: Place,
        (base_offset, previous_end): (u64, u64),
        file: Arc<dyn DiskFile>,
        prepared_name: Option<String>,
        (index, max_timestamp): (Index, i64),
    ) -> Segment {
        Segment {
            place,
            base_offset,
            previous_end,
            bytes: 0,
            file: OnceLock::from(file),
            prepared_name: Mutex::new(prepared_name),
            index: ArcSwapOption::from_pointee(index),
            max_timestamp: AtomicI64::new(max_timestamp),
            last_append_ms: AtomicU64::new(0),
            footer: OnceLock::new(),
            index_rebuilds: AtomicU64::new(0),
        }
    }

    /// A segment with a footer. Its file is opened when first needed.
    pub fn sealed(place: Place, footer: Footer) -> Segment {
        let whole = (footer.base_offset, footer.previous_end);
        let segment = Segment::resting(place, whole, footer.bytes);
        segment.note_append(footer.last_append_ms);
        segment
            .max_timestamp
            .store(footer.max_timestamp, Ordering::Relaxed);
        let _ = segment.footer.set(footer);
        segment
    }

    /// A segment without a footer that nobody writes now: the last one after a clean close, or
    /// the one that a reader in another process follows. `bytes` of it may be read.
    pub fn resting(place: Place, (base_offset, previous_end): (u64, u64), bytes: u64) -> Segment {
        Segment {
            place,
            base_offset,
            previous_end,
            bytes,
            file: OnceLock::new(),
            prepared_name: Mutex::new(None),
            index: ArcSwapOption::empty(),
            max_timestamp: AtomicI64::new(i64::MIN),
            last_append_ms: AtomicU64::new(0),
            footer: OnceLock::new(),
            index_rebuilds: AtomicU64::new(0),
        }
    }

    /// Offset of the first record it may hold.
    pub fn base_offset(&self) -> u64 {
        self.base_offset
    }

    /// Where the segment before it ended.
    pub fn previous_end(&self) -> u64 {
        self.previous_end
    }

    /// Its footer, once sealed.
    pub fn footer(&self) -> Option<&Footer> {
        self.footer.get()
    }

    /// The file, opened now if it was not.
    ///
    /// # Errors
    /// What the disk says.
    pub fn file(&self) -> io::Result<&Arc<dyn DiskFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = self.place.disk.open(&self.path())?;
        if file.len() < self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.publish(self.bytes);
        Ok(self.file.get_or_init(|| file))
    }

    /// Its file's name now, as the disk wants it.
    pub fn path(&self) -> String {
        match &*self.prepared_name.lock() {
            Some(name) => self.place.path(name),
            None => self.place.path(&names::segment(self.base_offset)),
        }
    }

    /// Its file's name now, as a person can find it.
    pub fn display(&self) -> String {
        self.place.disk.display(&self.path())
    }

    /// Bytes that hold batches.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn bytes(&self) -> io::Result<u64> {
        match (self.footer.get(), self.file.get()) {
            (Some(footer), _) => Ok(footer.bytes),
            (None, Some(file)) => Ok(file.published()),
            (None, None) => Ok(self.bytes),
        }
    }

    /// Lets readers of another process's log see `bytes`; whether the open file is long enough.
    pub fn follow(&self, bytes: u64) -> io::Result<bool> {
        let file = self.file()?;
        if file.len() < bytes {
            return Ok(false);
        }
        if file.published() < bytes {
            // The index does not know of what is new.
            self.max_timestamp.store(i64::MAX, Ordering::Release);
            file.publish(bytes);
        }
        Ok(true)
    }

    /// Notes when it was last appended to, in the engine's elapsed ms.
    pub(crate) fn note_append(&self, elapsed_ms: u64) {
        self.last_append_ms.store(elapsed_ms, Ordering::Relaxed);
    }

    /// When it was last appended to, in the engine's elapsed ms; 0 before the first append.
    pub(crate) fn last_append_ms(&self) -> u64 {
        self.last_append_ms.load(Ordering::Relaxed)
    }

    /// Raises the largest timestamp.
    pub(crate) fn note_timestamp(&self, max_timestamp: i64) {
        self.max_timestamp.store(max_timestamp, Ordering::Release);
    }

    /// Largest timestamp of its records, ms since 1970; `i64::MIN` without any, and `i64::MAX`
    /// where it is not known.
    ///
    /// # Errors
    /// Where the segment had to be read and could not.
    pub fn max_timestamp(&self) -> Result<i64, ScanError> {
        self.index()?;
        Ok(self.max_timestamp.load(Ordering::Acquire))
    }

    /// The index: in memory, else from its file, else made anew from the segment (I25).
    ///
    /// # Errors
    /// When the segment cannot be read. Damage in it only shortens the index.
    pub fn index(&self) -> Result<Arc<Index>, ScanError> {
        if let Some(index) = self.index.load_full() {
            return Ok(index);
        }
        let at_start = |source| ScanError::Read {
            position: 0,
            source,
        };
        let bytes = self.bytes().map_err(at_start)?;
        let name = self.place.path(&names::index(self.base_offset));
        let cached =
            state_file::read::<IndexFile>(&*self.place.disk, &name, INDEX_MAGIC, INDEX_VERSION);
        let (index, max_timestamp) = match cached {
            Ok(Some(f))
                if (f.log_id, f.base_offset, f.bytes)
                    == (self.place.log_id, self.base_offset, bytes) =>
            {
                (Index::with_entries(&f.entries, bytes), f.max_timestamp)
            }
            found => {
                // One that is missing, or older than the segment, is what a crash leaves.
                let is_damaged = match found {
                    Ok(None) => false,
                    Ok(Some(f)) => {
                        (f.log_id, f.base_offset) != (self.place.log_id, self.base_offset)
                    }
                    Err(_) => true,
                };
                self.index_rebuilds
                    .fetch_add(u64::from(is_damaged), Ordering::Relaxed);
                let (index, max_timestamp, _) = self.rebuilt_index(bytes)?;
                (index, max_timestamp)
            }
        };
        self.max_timestamp
            .fetch_max(max_timestamp, Ordering::AcqRel);
        let index = Arc::new(index);
        self.index.store(Some(index.clone()));
        Ok(index)
    }

    /// How many times its index was found damaged, foreign or wrong, and was made anew.
    pub fn index_rebuilds(&self) -> u64 {
        self.index_rebuilds.load(Ordering::Relaxed)
    }

    /// Forgets an index that turned out wrong and makes it anew. Where the segment itself is
    /// damaged, what the old index says of the part behind the damage is kept: nothing else finds
    /// it (R11), and an entry is checked before it is used.
    ///
    /// # Errors
    /// When the segment cannot be read.
    pub fn rebuild_index(&self) -> Result<Arc<Index>, ScanError> {
        let at_start = |source| ScanError::Read {
            position: 0,
            source,
        };
        let bytes = self.bytes().map_err(at_start)?;
        let (mut index, max_timestamp, end) = self.rebuilt_index(bytes)?;
        if end < bytes {
            let mut entries = index.entries();
            let old = self
                .index
                .load_full()
                .map_or_else(Vec::new, |i| i.entries());
            for entry in old {
                let follows = entries.last().is_none_or(|last| {
                    last.relative_offset < entry.relative_offset
                        && last.timestamp_before <= entry.timestamp_before
                });
                if u64::from(entry.position) > end && follows {
                    entries.push(entry);
                }
            }
            index = Index::with_entries(&entries, bytes);
        }
        self.index_rebuilds.fetch_add(1, Ordering::Relaxed);
        self.max_timestamp.store(max_timestamp, Ordering::Release);
        let index = Arc::new(index);
        self.index.store(Some(index.clone()));
        Ok(index)
    }

    // The index, the largest timestamp, and how far the segment is undamaged.
    fn rebuilt_index(&self, bytes: u64) -> Result<(Index, i64, u64), ScanError> {
        let file = self.file().map_err(|source| ScanError::Read {
            position: 0,
            source,
        })?;
        let whole = (self.place.log_id, self.base_offset, self.previous_end);
        let mut end = bytes;
        loop {
            match Footer::of(&**file, whole, end, Check::Headers) {
                Ok((footer, index)) if end == bytes => {
                    return Ok((index, footer.max_timestamp, end));
                }
                Ok((_, index)) => return Ok((index, i64::MAX, end)),
                // Up to the damage there is an index; a read there reports the damage itself.
                Err(ScanError::Invalid { position, .. }) if position < end => end = position,
                Err(error) => return Err(error),
            }
        }
    }

    /// Syncs what was written, and the file's own name if it still has another.
    ///
    /// # Errors
    /// What the disk says; nothing of the segment may be believed then (I10).
    pub fn sync(&self) -> io::Result<()> {
        self.file()?.sync()?;
        let mut prepared_name = self.prepared_name.lock();
        if let Some(name) = &*prepared_name {
            let (from, to) = (self.place.path(name), names::segment(self.base_offset));
            self.place.disk.rename(&from, &self.place.path(&to))?;
            self.place.disk.sync_names(&self.place.directory)?;
            *prepared_name = None;
        }
        Ok(())
    }

    /// Cuts the reserved tail off and syncs, so that any v2 reader can read the file (R9). The
    /// index is written beside it, as a cache. May be repeated.
    ///
    /// # Errors
    /// What the disk says.
    pub fn cut(&self) -> io::Result<()> {
        let file = self.file()?;
        let bytes = file.published();
        if file.len() > bytes {
            file.cut(bytes)?;
        }
        file.sync()?;
        self.store_index(bytes);
        Ok(())
    }

    // Without it the index is made anew from the segment; a full disk is no reason to fail.
    fn store_index(&self, bytes: u64) {
        if let Some(index) = self.index.load_full() {
            let index_file = IndexFile {
                log_id: self.place.log_id,
                base_offset: self.base_offset,
                bytes,
                max_timestamp: self.max_timestamp.load(Ordering::Acquire),
                entries: index.entries(),
            };
            let _ = state_file::write_cache(
                &*self.place.disk,
                &self.place.directory,
                &names::index(self.base_offset),
                INDEX_MAGIC,
                INDEX_VERSION,
                &index_file,
            );
        }
    }

    /// Writes the index of a closing log's segment if it was made anew since it was opened, so that
    /// nobody has to again (I25).
    pub(crate) fn store_rebuilt_index(&self) {
        let is_whole = self.max_timestamp.load(Ordering::Acquire) < i64::MAX;
        if self.index_rebuilds() > 0
            && is_whole
            && let Ok(bytes) = self.bytes()
        {
            self.store_index(bytes);
        }
    }

    /// Writes the footer of a cut segment, durably.
    ///
    /// # Errors
    /// The segment is not what a segment must be, or what the disk says.
    pub fn write_footer(&self, check: Check) -> Result<Footer, ScanError> {
        let footer = self.checked_footer(check)?;
        self.store_footer(footer)
            .map_err(|source| ScanError::Read {
                position: 0,
                source,
            })?;
        Ok(footer)
    }

    /// What the footer must say.
    pub(crate) fn checked_footer(&self, check: Check) -> Result<Footer, ScanError> {
        let at_start = |source| ScanError::Read {
            position: 0,
            source,
        };
        let file = self.file().map_err(at_start)?;
        let whole = (self.place.log_id, self.base_offset, self.previous_end);
        let (mut made, _) = Footer::of(&**file, whole, self.bytes().map_err(at_start)?, check)?;
        made.last_append_ms = self.last_append_ms();
        Ok(made)
    }

    pub(crate) fn store_footer(&self, footer: Footer) -> io::Result<()> {
        state_file::write(
            &*self.place.disk,
            &self.place.directory,
            &names::footer(self.base_offset),
            footer::MAGIC,
            footer::VERSION,
            &footer,
        )?;
        self.footer.get_or_init(|| footer);
        Ok(())
    }

    /// Removes its index's file, where the space is needed for more: it is a cache (I25).
    pub fn remove_index(&self) {
        let path = self.place.path(&names::index(self.base_offset));
        // What stays takes a little space and disturbs nobody.
        let _ = self.place.disk.remove(&path);
    }

    /// Removes its files. Readers that hold bytes of it keep them.
    ///
    /// # Errors
    /// What the disk says; a file that is missing already is no error.
    pub fn remove(&self) -> io::Result<()> {
        let base = self.base_offset;
        for path in [
            self.place.path(&names::index(base)),
            self.place.path(&names::footer(base)),
            self.path(),
        ] {
            match self.place.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("file", &self.display())
            .finish_non_exhaustive()
    }
}
