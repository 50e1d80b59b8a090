//! A disk around another one that tells a hook of every call that changes something, before and
//! after it: to count calls, to refuse one, to hold one back, or to take an image in between.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use log_engine::storage::{DirectoryEntry, Disk, DiskFile, Prepare};

/// A call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Making a directory.
    CreateDirectory,
    /// Making a file.
    Create,
    /// Opening a file for more appends.
    Extend,
    /// Renaming.
    Rename,
    /// Removing a file, or a directory with its files.
    Remove,
    /// Making the names in a directory durable.
    SyncNames,
    /// Writing.
    Write,
    /// Filling a reserved range.
    Prepare,
    /// Making a file's contents durable.
    Sync,
    /// Shortening.
    Cut,
    /// Taking a lock.
    Lock,
}

/// What is told of each call, from the thread that makes it.
pub trait Hook: Send + Sync + 'static {
    /// An error here is the call's answer; nothing is done then.
    fn before(&self, _op: Op, _name: &str) -> io::Result<()> {
        Ok(())
    }

    /// The call was made, successfully or not.
    fn after(&self, _op: Op, _name: &str) {}

    /// Whether the first half only of a write is to be done, after which [`Hook::after`] is told.
    fn cuts_write(&self, _name: &str) -> bool {
        false
    }

    /// What was written is about to be declared final.
    fn before_publish(&self, _name: &str) {}

    /// It was declared final.
    fn after_publish(&self, _name: &str) {}
}

/// The disk around another one.
#[derive(Clone)]
pub struct HookedDisk {
    inner: Arc<dyn Disk>,
    hook: Arc<dyn Hook>,
}

impl HookedDisk {
    /// Tells `hook` of what is done to `inner`.
    pub fn new(inner: Arc<dyn Disk>, hook: Arc<dyn Hook>) -> HookedDisk {
        HookedDisk { inner, hook }
    }

    fn call<T>(&self, op: Op, name: &str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.hook.before(op, name)?;
        let outcome = call();
        self.hook.after(op, name);
        outcome
    }

    fn file(&self, name: &str, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(HookedFile {
            disk: self.clone(),
            name: name.to_owned(),
            inner,
        })
    }
}

impl Disk for HookedDisk {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.call(Op::CreateDirectory, name, || {
            self.inner.create_directory(name)
        })
    }

    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.call(Op::Create, name, || self.inner.create(name, capacity))?;
        Ok(self.file(name, file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(name, self.inner.open(name)?))
    }

    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.call(Op::Extend, name, || self.inner.extend(name, capacity))?;
        Ok(self.file(name, file))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.list(directory)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call(Op::Rename, from, || self.inner.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(Op::Remove, name, || self.inner.remove(name))
    }

    fn remove_directory(&self, name: &str) -> io::Result<()> {
        self.call(Op::Remove, name, || self.inner.remove_directory(name))
    }

    fn sync_names(&self, directory: &str) -> io::Result<()> {
        self.call(Op::SyncNames, directory, || {
            self.inner.sync_names(directory)
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }

    fn lock(&self, name: &str, holder: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.call(Op::Lock, name, || self.inner.lock(name, holder))
    }

    fn lock_holder(&self, name: &str) -> io::Result<Option<String>> {
        self.inner.lock_holder(name)
    }

    fn display(&self, name: &str) -> String {
        self.inner.display(name)
    }
}

struct HookedFile {
    disk: HookedDisk,
    name: String,
    inner: Arc<dyn DiskFile>,
}

impl HookedFile {
    fn call<T>(&self, op: Op, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.disk.call(op, &self.name, call)
    }
}

impl DiskFile for HookedFile {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn write_at(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
        self.call(Op::Write, || {
            if self.disk.hook.cuts_write(&self.name) {
                let bytes = [head, body].concat();
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                return self.inner.write_at(half, &[], position);
            }
            self.inner.write_at(head, body, position)
        })
    }

    fn publish(&self, end: u64) {
        self.disk.hook.before_publish(&self.name);
        self.inner.publish(end);
        self.disk.hook.after_publish(&self.name);
    }

    fn published(&self) -> u64 {
        self.inner.published()
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.inner.read(range)
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        self.inner.read_at(into, position)
    }

    fn prepare(&self, from: u64, how: Prepare) -> io::Result<()> {
        self.call(Op::Prepare, || self.inner.prepare(from, how))
    }

    fn sync(&self) -> io::Result<()> {
        self.call(Op::Sync, || self.inner.sync())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.call(Op::Cut, || self.inner.cut(length))
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.call(Op::Sync, || self.inner.drop_cache())
    }
}
