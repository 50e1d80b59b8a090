//! A disk that stops.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use log_engine::storage::{DirectoryEntry, Disk, DiskFile, MemoryDisk};

/// A disk that takes a number of changes, and then no more.
pub(crate) struct Stopping {
    disk: MemoryDisk,
    left: AtomicI64,
}

impl Stopping {
    pub(crate) fn after(disk: MemoryDisk, calls: i64) -> Stopping {
        let left = AtomicI64::new(calls);
        Stopping { disk, left }
    }

    fn count(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(io::Error::other("stopped"));
        }
        Ok(())
    }
}

impl Disk for Stopping {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.count()?;
        self.disk.create_directory(name)
    }
    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.count()?;
        self.disk.create(name, capacity)
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name)
    }
    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.extend(name, capacity)
    }
    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        self.disk.list(directory)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.count()?;
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.count()?;
        self.disk.remove(name)
    }
    fn remove_directory(&self, name: &str) -> io::Result<()> {
        self.count()?;
        self.disk.remove_directory(name)
    }
    fn sync_names(&self, directory: &str) -> io::Result<()> {
        self.count()?;
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
