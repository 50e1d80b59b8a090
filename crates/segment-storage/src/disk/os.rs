//! The real disk: a directory of a Linux file system.

mod file;
mod lock;
mod root;

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::name::{check_directory, check_name};
use super::{DirectoryEntry, Disk, DiskFile};
use file::OsFile;

pub use file::MAP_COPY_LIMIT;

/// Only the owner may list, enter and change a directory of ours.
const DIRECTORY_MODE: u32 = 0o700;
/// Only the owner may read and write a file of ours.
const FILE_MODE: u32 = 0o600;

/// One directory tree of the operating system.
///
/// Files are opened without following symbolic links, close-on-exec, and mapped for stores only
/// where their blocks could be reserved (R1). Where the file system cannot reserve, and in files
/// created with a capacity of 0, writes are positional and the map is for reading only.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
    writable: bool,
}

impl OsDisk {
    /// Opens `root` for writing and makes it, with mode 0700 and durably, if it is missing.
    ///
    /// # Errors
    /// What the system says; `NotADirectory` when `root` is something else.
    pub fn open(root: PathBuf) -> io::Result<OsDisk> {
        create_root(&root)?;
        Self::at(root, true)
    }

    /// Opens `root` for reading: nothing is created, changed or locked, and each call that would is
    /// `PermissionDenied` (R20).
    ///
    /// # Errors
    /// `NotFound` when `root` is missing, `NotADirectory` when it is something else.
    pub fn read_only(root: PathBuf) -> io::Result<OsDisk> {
        Self::at(root, false)
    }

    fn at(root: PathBuf, writable: bool) -> io::Result<OsDisk> {
        if fs::metadata(&root)?.is_dir() {
            Ok(OsDisk { root, writable })
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    fn directory(&self, name: &str) -> io::Result<PathBuf> {
        check_directory(name)?;
        Ok(self.root.join(name))
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    fn open_regular(&self, name: &str) -> io::Result<File> {
        let path = self.path(name)?;
        let file = options().read(true).write(self.writable).open(path)?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            let kind = io::ErrorKind::InvalidInput;
            Err(io::Error::new(kind, "not a regular file"))
        }
    }
}

impl Disk for OsDisk {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        create_private_directory(&self.path(name)?)
    }

    fn create(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.check_writable()?;
        let path = self.path(name)?;
        let file = options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let made = file
            .set_permissions(fs::Permissions::from_mode(FILE_MODE))
            .and_then(|()| OsFile::reserve(file, capacity));
        match made {
            Ok(file) => Ok(Arc::new(file)),
            Err(error) => {
                // A failed reservation leaves a file grown to whatever fitted (R2).
                let _left_behind = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.open_regular(name)?;
        Ok(Arc::new(OsFile::existing(file, self.writable)?))
    }

    fn extend(&self, name: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.check_writable()?;
        Ok(Arc::new(OsFile::reserve(
            self.open_regular(name)?,
            capacity,
        )?))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.directory(directory)?)? {
            let entry = entry?;
            // Files of ours have names in ASCII; others are none of ours.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            match entry.metadata() {
                Ok(found) => entries.push(DirectoryEntry {
                    name,
                    len: if found.is_dir() { 0 } else { found.len() },
                    is_directory: found.is_dir(),
                }),
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.path(name)?)
    }

    fn remove_directory(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_dir_all(self.path(name)?)
    }

    fn sync_names(&self, directory: &str) -> io::Result<()> {
        self.check_writable()?;
        sync_directory(&self.directory(directory)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.root)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn lock(&self, name: &str, holder: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.check_writable()?;
        let path = self.path(name)?;
        let file = options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Box::new(lock::take(file, holder)?))
    }

    fn lock_holder(&self, name: &str) -> io::Result<Option<String>> {
        let path = self.path(name)?;
        match options().read(true).open(path) {
            Ok(file) => lock::holder(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn display(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    fn host_path(&self, name: &str) -> Option<PathBuf> {
        self.path(name).ok()
    }

    fn link(&self, host_path: &Path, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::hard_link(host_path, self.path(name)?)
    }
}

/// Every file is opened with these; the standard library adds close-on-exec.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Without `NONBLOCK`, opening a pipe that somebody put there would wait for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options
        .mode(FILE_MODE)
        .custom_flags(flags.bits().cast_signed());
    options
}

/// Makes a directory with mode 0700 whatever the umask, if it is missing.
fn create_private_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(path)?.is_dir() {
                Ok(())
            } else {
                Err(error)
            }
        }
        Err(error) => Err(error),
    }
}

/// Makes the root and the directories above it that are missing, each of them durably (R16).
fn create_root(root: &Path) -> io::Result<()> {
    if root.exists() {
        return Ok(());
    }
    let parent = match root.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let missing: Vec<&Path> = parent
        .ancestors()
        .take_while(|path| *path != Path::new("") && !path.exists())
        .collect();
    fs::create_dir_all(parent)?;
    for made in missing.iter().rev() {
        match made.parent() {
            Some(above) if above != Path::new("") => sync_directory(above)?,
            _ => sync_directory(Path::new("."))?,
        }
    }
    create_private_directory(root)?;
    sync_directory(parent)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits().cast_signed())
        .open(path)?;
    Ok(rustix::fs::fsync(&directory)?)
}

#[cfg(test)]
mod tests;
