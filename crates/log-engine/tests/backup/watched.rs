//! A disk that tells of each call that changes it.

use std::any::Any;
use std::io;
use std::sync::Arc;

use log_engine::storage::{DirectoryEntry, Disk, DiskFile, MemoryDisk};

/// A disk that tells of each call that changes it, before it is made.
pub(crate) struct Watched {
    disk: MemoryDisk,
    watch: Box<dyn Fn(&str) + Send + Sync>,
}

impl Watched {
    pub(crate) fn new(disk: MemoryDisk, watch: impl Fn(&str) + Send + Sync + 'static) -> Watched {
        let watch = Box::new(watch);
        Watched { disk, watch }
    }
}

impl Disk for Watched {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        (self.watch)(name);
        self.disk.create_directory(name)
    }
    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        (self.watch)(name);
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
        (self.watch)(to);
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        (self.watch)(name);
        self.disk.remove(name)
    }
    fn remove_directory(&self, name: &str) -> io::Result<()> {
        (self.watch)(name);
        self.disk.remove_directory(name)
    }
    fn sync_names(&self, directory: &str) -> io::Result<()> {
        (self.watch)(directory);
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
