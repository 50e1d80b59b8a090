//! A disk in memory, with a live image, which programs see, and a durable one, which survives.
//!
//! What a crash leaves is exact: [`MemoryDisk::after_kill`] keeps all that the page cache would
//! hold, [`MemoryDisk::after_power_cut`] only contents and lengths that were synced, under names
//! whose directory was synced. Nothing that was not synced survives a power cut here, while a
//! real disk may keep any part of it.
//!
//! Faults are asked for one by one, so that a test says what happens when: failed syncs and writes,
//! a full disk, flipped bits, and syncs that wait for the test ([`SyncGate`]).

mod file;
mod gate;
mod image;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::name::{check_directory, check_name};
use super::{DirectoryEntry, Disk, DiskFile};
use file::MemoryFile;
use image::Image;

pub use gate::SyncGate;

/// A disk in memory. A clone is the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when a sync begins to wait and when a gate opens.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    image: Image,
    counters: Counters,
    faults: Faults,
    gates: u64,
    waiting_syncs: u64,
}

#[derive(Debug, Default)]
struct Counters {
    syncs: u64,
    name_syncs: u64,
    bytes_written: u64,
}

#[derive(Debug, Default)]
struct Faults {
    syncs: u64,
    /// Of the files of one directory.
    syncs_in: Option<(String, u64)>,
    name_syncs: u64,
    next_write: Option<io::ErrorKind>,
}

impl MemoryDisk {
    /// An empty disk without a limit of its size.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    fn with_image(image: Image) -> Self {
        let disk = Self::new();
        disk.state().image = image;
        disk
    }

    /// What a new process finds after the old one was killed: everything, no locks, nothing
    /// published; what was not synced still is not. Faults and the limit of space do not carry over.
    pub fn after_kill(&self) -> MemoryDisk {
        Self::with_image(self.state().image.after_kill())
    }

    /// What a new process finds after a power cut: what was synced. Faults and the limit of space do
    /// not carry over.
    pub fn after_power_cut(&self) -> MemoryDisk {
        Self::with_image(self.state().image.after_power_cut())
    }

    /// How many times files were synced, also in vain.
    pub fn syncs(&self) -> u64 {
        self.state().counters.syncs
    }

    /// How many times directories were synced, also in vain.
    pub fn name_syncs(&self) -> u64 {
        self.state().counters.name_syncs
    }

    /// How many bytes were written, zeros of [`DiskFile::prepare`] included.
    pub fn bytes_written(&self) -> u64 {
        self.state().counters.bytes_written
    }

    /// Has the next `count` syncs of files fail with EIO. What was dirty then is never made durable,
    /// unless it is written again; it stays visible until [`DiskFile::drop_cache`] (R6, R7).
    pub fn fail_syncs(&self, count: u64) {
        self.state().faults.syncs = count;
    }

    /// As [`MemoryDisk::fail_syncs`], but only the files of one directory: what else is synced at the same
    /// time takes none of the failures.
    pub fn fail_syncs_in(&self, directory: &str, count: u64) {
        self.state().faults.syncs_in = Some((directory.to_owned(), count));
    }

    /// Has the next `count` syncs of directories fail with EIO.
    pub fn fail_name_syncs(&self, count: u64) {
        self.state().faults.name_syncs = count;
    }

    /// Has the next write fail with `kind`, before anything is written.
    pub fn fail_next_write(&self, kind: io::ErrorKind) {
        self.state().faults.next_write = Some(kind);
    }

    /// Limits what can still be allocated. Files that shrink or go give their bytes back.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.state().image.set_free_bytes(Some(bytes));
    }

    /// Flips the bits `xor` of one byte in both images: damage at rest.
    ///
    /// # Errors
    /// `NotFound`; `UnexpectedEof` past the end of the file.
    pub fn corrupt(&self, name: &str, position: u64, xor: u8) -> io::Result<()> {
        check_name(name)?;
        self.state().image.file_named_mut(name)?.flip(position, xor)
    }

    /// The live contents of a file, reserved bytes included.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_file(&self, name: &str) -> io::Result<Vec<u8>> {
        check_name(name)?;
        Ok(self.state().image.file_named_mut(name)?.live().to_vec())
    }

    /// Replaces or makes a file, durably, name and contents.
    ///
    /// # Errors
    /// `NotFound` when its directory is missing; `StorageFull`.
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        check_name(name)?;
        self.state().image.put_durable_file(name, bytes)
    }

    /// Has every sync of a file wait until the gate is dropped. More than one gate may be held.
    pub fn hold_syncs(&self) -> SyncGate {
        SyncGate::new(self)
    }

    /// How many syncs are waiting at a gate.
    pub fn waiting_syncs(&self) -> u64 {
        self.state().waiting_syncs
    }

    fn opened(&self, file: u64) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile::new(self.clone(), file))
    }
}

impl Disk for MemoryDisk {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.state().image.create_directory(name)
    }

    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let file = self.state().image.create_file(name, capacity)?;
        Ok(self.opened(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let file = self.state().image.find_file(name)?;
        Ok(self.opened(file))
    }

    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let mut state = self.state();
        let file = state.image.find_file(name)?;
        state.image.grow(file, capacity)?;
        Ok(self.opened(file))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        check_directory(directory)?;
        self.state().image.list(directory)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        self.state().image.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.state().image.remove_file(name)
    }

    fn remove_directory(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.state().image.remove_directory(name)
    }

    fn sync_names(&self, directory: &str) -> io::Result<()> {
        check_directory(directory)?;
        let mut state = self.state();
        state.counters.name_syncs += 1;
        if take_one(&mut state.faults.name_syncs) {
            return Err(input_output_error());
        }
        state.image.sync_names(directory)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.state().image.free_bytes().unwrap_or(u64::MAX))
    }

    fn lock(&self, name: &str, holder: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        check_name(name)?;
        self.state().image.lock(name, holder)?;
        Ok(Box::new(Lock {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn lock_holder(&self, name: &str) -> io::Result<Option<String>> {
        check_name(name)?;
        Ok(self.state().image.lock_holder(name))
    }

    fn display(&self, name: &str) -> String {
        format!("memory:{name}")
    }
}

/// A held lock.
#[derive(Debug)]
struct Lock {
    disk: MemoryDisk,
    name: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state().image.unlock(&self.name);
    }
}

/// Whether one of `count` was left, and takes it.
fn take_one(count: &mut u64) -> bool {
    let left = *count > 0;
    *count = count.saturating_sub(1);
    left
}

/// EIO, as Linux numbers it.
fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}
