//! A disk in memory whose bytes are as late as the memory model allows: a thread that reads bytes
//! which nothing ordered after their write may not find them, and then the model fails.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use segment_storage::{DirectoryEntry, Disk, DiskFile, MemoryDisk, Prepare};
use sync::atomic::AtomicBool;

/// The disk. A clone is the same disk.
#[derive(Clone, Default)]
pub(crate) struct Watched {
    disk: MemoryDisk,
    /// The system changes and looks up names one at a time, and whoever does not find a name knows
    /// what happened before that was removed.
    names: Arc<sync::Mutex<()>>,
    /// How many bytes of segments were written when the last sync of one ended.
    synced_bytes: Arc<AtomicU64>,
}

impl Watched {
    /// How much of a log of one segment is durable.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.synced_bytes.load(Ordering::Relaxed)
    }

    fn watched(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        // Other files are small, read at once and checked.
        if !(name.ends_with(".log") || name.ends_with(".segment")) {
            return file;
        }
        Arc::new(WatchedFile {
            file,
            written: Mutex::default(),
            synced_bytes: self.synced_bytes.clone(),
        })
    }
}

/// Bytes that were written at once, and whether a thread finds them.
type Written = (Range<u64>, Arc<AtomicBool>);

struct WatchedFile {
    file: Arc<dyn DiskFile>,
    written: Mutex<Vec<Written>>,
    synced_bytes: Arc<AtomicU64>,
}

impl WatchedFile {
    fn written_bytes(&self) -> u64 {
        let written = self.written.lock().unwrap();
        written.last().map_or(0, |(range, _)| range.end)
    }

    fn look(&self, range: &Range<u64>) {
        let overlaps = |w: &&Written| w.0.start < range.end && range.start < w.0.end;
        let written = self.written.lock().unwrap().clone();
        for (bytes, is_there) in written.iter().filter(overlaps) {
            let is_there = is_there.load(Ordering::Relaxed);
            assert!(
                is_there,
                "nothing orders a read of bytes {bytes:?} after their write"
            );
        }
    }
}

impl DiskFile for WatchedFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn write_at(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
        let end = position + u64::try_from(head.len() + body.len()).unwrap();
        let is_there = Arc::new(AtomicBool::new(false));
        let written = (position..end, is_there.clone());
        self.written.lock().unwrap().push(written);
        self.file.write_at(head, body, position)?;
        is_there.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn publish(&self, end: u64) {
        self.file.publish(end);
    }

    fn published(&self) -> u64 {
        self.file.published()
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.look(&range);
        self.file.read(range)
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.look(&(position..position + u64::try_from(into.len()).unwrap()));
        self.file.read_at(into, position)
    }

    fn prepare(&self, from: u64, how: Prepare) -> io::Result<()> {
        self.file.prepare(from, how)
    }

    fn sync(&self) -> io::Result<()> {
        // What is written while a sync runs need not be covered by it.
        let written = self.written_bytes();
        sync::thread::yield_now();
        self.file.sync()?;
        self.synced_bytes.fetch_max(written, Ordering::Relaxed);
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.file.cut(length)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

impl Disk for Watched {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.disk.create_directory(name)
    }

    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.watched(name, self.disk.create(name, capacity)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let _one_at_a_time = self.names.lock();
        Ok(self.watched(name, self.disk.open(name)?))
    }

    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.watched(name, self.disk.extend(name, capacity)?))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        self.disk.list(directory)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _one_at_a_time = self.names.lock();
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let _one_at_a_time = self.names.lock();
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
