//! The contract with the outside: everything that the storage wants from an operating system.
//!
//! Two traits, so that a simulated disk can take the place of the real one. Names are relative to
//! the data directory and use `/`, as in `orders-3/00000000000000000042.log`.

#[cfg(test)]
mod contract;
mod map;
pub mod memory;
mod name;
pub mod os;
mod published;

use std::any::Any;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use name::join;

/// One directory tree. All calls may be made from any thread.
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory (mode 0700 whatever the umask). Its parent must exist; that it exists
    /// already is no error. Durable after [`Disk::sync_names`] of the parent.
    fn create_directory(&self, name: &str) -> io::Result<()>;

    /// Creates a file (mode 0600 whatever the umask) and reserves `capacity` bytes for it, which
    /// read as zeros: a full disk is an error here and never a signal later (R1, R3). With 0
    /// nothing is reserved and the file grows as it is written.
    ///
    /// # Errors
    /// `AlreadyExists`; `StorageFull`, after which nothing is left behind (R2).
    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file. Nothing is mapped until the first [`DiskFile::read`].
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for more appends: reserves up to `capacity` bytes (not less than the
    /// file has) as [`Disk::create`] does. On failure the file has its old length.
    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// What a directory holds, sorted by name. `""` is the root.
    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>>;

    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Maps and `Bytes` over it stay valid.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Removes a directory with all that it holds.
    fn remove_directory(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals in `directory` durable. Contents need
    /// [`DiskFile::sync`].
    fn sync_names(&self, directory: &str) -> io::Result<()>;

    /// Bytes that can still be allocated.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Takes the exclusive lock on file `name`, made if missing, and writes `holder` into it, for
    /// the text of others' errors only. Held until the guard is dropped, or the process ends (R20).
    ///
    /// # Errors
    /// `WouldBlock` when another handle, in this process or any other, holds it.
    fn lock(&self, name: &str, holder: &str) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// What the holder of the lock wrote into it, if somebody holds it now. Takes no lock.
    fn lock_holder(&self, name: &str) -> io::Result<Option<String>>;

    /// The name as a person can find it, for error texts.
    fn display(&self, name: &str) -> String;

    /// Where the operating system has the file, for [`Disk::link`]; `None` where it has none.
    fn host_path(&self, _name: &str) -> Option<PathBuf> {
        None
    }

    /// Gives the file at `host_path`, which may be of another disk, the further name `name` here,
    /// durable after [`Disk::sync_names`]. Only for files that nobody writes any more.
    ///
    /// # Errors
    /// `Unsupported` where that cannot be; `AlreadyExists`; what the system says. The caller copies
    /// the file then.
    fn link(&self, _host_path: &Path, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Name inside of the directory.
    pub name: String,
    /// Bytes, reserved ones included; 0 for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// How the next segment is made ready for its first stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepare {
    /// Zeros, 4 KiB a call, then a sync: the blocks are written, so that a later sync needs no
    /// journal, and the page cache holds small folios, so that a commit writes 4 KiB (R29).
    Zeros,
    /// Every page touched through the map, unsynced: fastest for a log that never syncs.
    Touch,
}

/// One open file: the only descriptor through which it is written and synced (R5).
///
/// The bytes below the *published* end are final: they may be read without a copy and are never
/// written again. Writers of such bytes must be one at a time (the log's lock sees to it).
pub trait DiskFile: Send + Sync {
    /// Length of the file in bytes, the reserved ones included.
    fn len(&self) -> u64;

    /// Whether the file has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes `head` and `body` back to back. Small writes inside of the reserved range are copied
    /// into the map, others are positional writes.
    ///
    /// # Errors
    /// `InvalidInput` when the range begins below the published end; what the system says.
    fn write_at(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()>;

    /// Declares everything below `end` final. A lower value than before changes nothing.
    fn publish(&self, end: u64);

    /// The published end. Pairs with [`DiskFile::publish`] as Acquire with Release (R4).
    fn published(&self) -> u64;

    /// A range below the published end; of the map where there is one, without a copy. The
    /// `Bytes` stay valid and unchanged however long they are held, also after a cut or removal.
    ///
    /// # Errors
    /// `UnexpectedEof` when the range ends above the published end.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;

    /// Reads exactly `into.len()` bytes by a positional read: for recovery, verification and
    /// small files; sees also what is not published.
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()>;

    /// Makes the reserved bytes from `from` on ready for stores. Never on a file in use.
    fn prepare(&self, from: u64, how: Prepare) -> io::Result<()>;

    /// Makes contents and length durable. After an error nothing is known of the unsynced bytes,
    /// and a second call proves nothing (R6).
    fn sync(&self) -> io::Result<()>;

    /// Shortens the file, never below its published end; it takes no writes afterwards.
    fn cut(&self, length: u64) -> io::Result<()>;

    /// Syncs, then forgets what the page cache holds of the file, so that the next
    /// [`DiskFile::read_at`] asks the device (R7).
    fn drop_cache(&self) -> io::Result<()>;
}
