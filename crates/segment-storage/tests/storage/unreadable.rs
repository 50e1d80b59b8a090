//! A disk of which one file cannot be read from a position on, or has a wrong length, or which is too
//! full for a new file. Writes and syncs work.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use segment_storage::{DirectoryEntry, Disk, DiskFile, MemoryDisk, Prepare};

/// What the system says: EIO.
pub(crate) const EIO: i32 = 5;

#[derive(Clone)]
pub(crate) struct Unreadable {
    pub(crate) disk: MemoryDisk,
    /// How the name ends, and the first byte that cannot be read.
    failing: Arc<Mutex<Option<(String, u64)>>>,
    /// What every file says that its length is.
    len: Arc<Mutex<Option<u64>>>,
    is_full: Arc<AtomicBool>,
    torn_reads: Arc<AtomicU64>,
}

impl Unreadable {
    pub(crate) fn new(disk: MemoryDisk) -> Unreadable {
        Unreadable {
            disk,
            failing: Arc::default(),
            len: Arc::default(),
            is_full: Arc::default(),
            torn_reads: Arc::default(),
        }
    }

    /// Has every file say that it has so many bytes.
    #[allow(
        dead_code,
        reason = "not every test that takes this file in needs all of it"
    )]
    pub(crate) fn pretend_len(&self, bytes: u64) {
        *self.len.lock().unwrap() = Some(bytes);
    }

    /// Has so many reads meet a write of another process in the second half of what they read.
    #[allow(
        dead_code,
        reason = "not every test that takes this file in needs all of it"
    )]
    pub(crate) fn tear_reads(&self, count: u64) {
        self.torn_reads.store(count, Ordering::Relaxed);
    }

    /// Has no file made any more.
    #[allow(
        dead_code,
        reason = "not every test that takes this file in needs all of it"
    )]
    pub(crate) fn fill_up(&self) {
        self.is_full.store(true, Ordering::Relaxed);
    }

    /// Has every read fail that touches a byte at or behind `from` of the file whose name ends so.
    pub(crate) fn fail(&self, name: &str, from: u64) {
        *self.failing.lock().unwrap() = Some((name.to_owned(), from));
    }

    /// Has every read succeed again.
    pub(crate) fn mend(&self) {
        *self.failing.lock().unwrap() = None;
    }

    fn check(&self, name: &str, end: u64) -> io::Result<()> {
        match &*self.failing.lock().unwrap() {
            Some((failing, from)) if name.ends_with(failing.as_str()) && end > *from => {
                Err(io::Error::from_raw_os_error(EIO))
            }
            _ => Ok(()),
        }
    }

    fn wrap(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(UnreadableFile {
            disk: self.clone(),
            name: name.to_owned(),
            file,
        })
    }
}

struct UnreadableFile {
    disk: Unreadable,
    name: String,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for UnreadableFile {
    fn len(&self) -> u64 {
        let pretended = *self.disk.len.lock().unwrap();
        pretended.unwrap_or_else(|| self.file.len())
    }
    fn write_at(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
        self.file.write_at(head, body, position)
    }
    fn publish(&self, end: u64) {
        self.file.publish(end);
    }
    fn published(&self) -> u64 {
        self.file.published()
    }
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.disk.check(&self.name, range.end)?;
        self.file.read(range)
    }
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let bytes = u64::try_from(into.len()).unwrap();
        self.disk.check(&self.name, position + bytes)?;
        self.file.read_at(into, position)?;
        let torn = &self.disk.torn_reads;
        if torn.load(Ordering::Relaxed) > 0 {
            torn.fetch_sub(1, Ordering::Relaxed);
            let half = into.len() / 2;
            into[half..].fill(0x5a);
        }
        Ok(())
    }
    fn prepare(&self, from: u64, how: Prepare) -> io::Result<()> {
        self.file.prepare(from, how)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn cut(&self, length: u64) -> io::Result<()> {
        self.file.cut(length)
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

impl Disk for Unreadable {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.disk.create_directory(name)
    }
    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.wrap(name, self.disk.create(name, capacity)?))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(name, self.disk.open(name)?))
    }
    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(name, self.disk.extend(name, capacity)?))
    }
    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        self.disk.list(directory)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn remove_directory(&self, name: &str) -> io::Result<()> {
        self.disk.remove_directory(name)
    }
    fn sync_names(&self, directory: &str) -> io::Result<()> {
        self.disk.sync_names(directory)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
    fn lock(&self, name: &str, holder: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.disk.lock(name, holder)
    }
    fn lock_holder(&self, name: &str) -> io::Result<Option<String>> {
        self.disk.lock_holder(name)
    }
    fn display(&self, name: &str) -> String {
        self.disk.display(name)
    }
}
