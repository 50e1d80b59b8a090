//! A small file that is replaced as a whole, so that there is always an old or a new one (R17).
//!
//! One [frame](crate::codec), under its name only when it is whole and durable.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, CodecError};
use crate::disk::{Disk, DiskFile, join};

/// Ends the name of a file that is not finished; such a file may be removed at any time.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Why a state file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// What the system says.
    #[error("{file} cannot be read: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file that must be there is not.
    #[error("{file} is missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// Damaged, or of another release.
    #[error("{file}: {source}")]
    Codec {
        /// The file.
        file: String,
        /// What is wrong in it.
        source: CodecError,
    },
}

/// Replaces the file `name` in `directory`, durably.
///
/// # Errors
/// What the disk says. The old file is still there then, except that after a failed sync of the
/// directory a crash may leave either.
///
/// # Panics
/// As [`codec::encode`].
pub fn write<T: Serialize>(
    disk: &dyn Disk,
    directory: &str,
    name: &str,
    magic: [u8; 4],
    version: u16,
    value: &T,
) -> io::Result<()> {
    let frame = codec::encode(magic, version, value);
    replace(disk, directory, name, |file| file.write_at(&frame, &[], 0))?;
    Ok(())
}

/// Writes a file that is a cache: replaced by rename, so never seen half written by a process, but
/// not synced. After a power loss it may be old, torn or missing; its frame tells.
///
/// # Errors
/// What the disk says.
pub fn write_cache<T: Serialize>(
    disk: &dyn Disk,
    directory: &str,
    name: &str,
    magic: [u8; 4],
    version: u16,
    value: &T,
) -> io::Result<()> {
    let frame = codec::encode(magic, version, value);
    let (temporary, name) = (
        join(directory, &format!("{name}{TEMPORARY_SUFFIX}")),
        join(directory, name),
    );
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.create(&temporary, 0)?.write_at(&frame, &[], 0)?;
    disk.rename(&temporary, &name)
}

/// Reads a state file; `None` when there is none.
///
/// # Errors
/// [`StateFileError`].
pub fn read<T: DeserializeOwned>(
    disk: &dyn Disk,
    name: &str,
    magic: [u8; 4],
    version: u16,
) -> Result<Option<T>, StateFileError> {
    let unreadable = |source| StateFileError::Io {
        file: disk.display(name),
        source,
    };
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let damaged = |source| StateFileError::Codec {
        file: disk.display(name),
        source,
    };
    let longest = codec::BODY_BYTES_MAX + codec::OVERHEAD;
    let Some(len) = usize::try_from(file.len())
        .ok()
        .filter(|len| *len <= longest)
    else {
        let expected = longest as u64;
        return Err(damaged(CodecError::Length {
            expected,
            found: file.len(),
        }));
    };
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, 0).map_err(unreadable)?;
    codec::decode(magic, version, &bytes)
        .map(Some)
        .map_err(damaged)
}

/// Puts a file in the place of another, or of none: `fill` writes it under a temporary name, and
/// it gets its own when it is synced. The returned handle is the one that wrote it (R5).
pub(crate) fn replace(
    disk: &dyn Disk,
    directory: &str,
    name: &str,
    fill: impl FnOnce(&Arc<dyn DiskFile>) -> io::Result<()>,
) -> io::Result<Arc<dyn DiskFile>> {
    let name = join(directory, name);
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    let file = match disk.create(&temporary, 0) {
        // Left behind by a crash.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(&temporary)?;
            disk.create(&temporary, 0)?
        }
        created => created?,
    };
    let filled = fill(&file).and_then(|()| file.sync());
    if let Err(error) = filled.and_then(|()| disk.rename(&temporary, &name)) {
        let _left_behind = disk.remove(&temporary);
        return Err(error);
    }
    disk.sync_names(directory)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::memory::MemoryDisk;

    const MAGIC: [u8; 4] = *b"TEST";

    fn write_number(disk: &MemoryDisk, value: u64) -> io::Result<()> {
        write(disk, "d", "state", MAGIC, 1, &value)
    }

    fn number(disk: &MemoryDisk) -> Option<u64> {
        read(disk, "d/state", MAGIC, 1).unwrap()
    }

    fn disk() -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.create_directory("d").unwrap();
        disk.sync_names("").unwrap();
        disk
    }

    #[test]
    fn written_value_is_read_back_and_durable() {
        let disk = disk();
        assert_eq!(number(&disk), None);
        write_number(&disk, 1).unwrap();
        assert_eq!(number(&disk), Some(1));
        write_number(&disk, 2).unwrap();
        assert_eq!(number(&disk), Some(2));
        assert_eq!(number(&disk.after_power_cut()), Some(2));
        assert_eq!(disk.list("d").unwrap().len(), 1);
        assert_eq!((disk.syncs(), disk.name_syncs()), (2, 3));
    }

    #[test]
    fn root_is_a_directory_too() {
        let disk = MemoryDisk::new();
        write(&disk, "", "state", MAGIC, 1, &7_u64).unwrap();
        let found: Option<u64> = read(&disk.after_power_cut(), "state", MAGIC, 1).unwrap();
        assert_eq!(found, Some(7));
    }

    #[test]
    fn failed_replacement_keeps_the_old_file_and_no_other() {
        let faults: [fn(&MemoryDisk); 3] = [
            |disk| disk.fail_syncs(1),
            |disk| disk.fail_next_write(io::ErrorKind::Other),
            |disk| disk.set_free_bytes(3),
        ];
        for fault in faults {
            let disk = disk();
            write_number(&disk, 1).unwrap();
            fault(&disk);
            write_number(&disk, 2).unwrap_err();
            for after in [disk.after_power_cut(), disk.after_kill()] {
                assert_eq!(number(&after), Some(1));
                assert_eq!(after.list("d").unwrap().len(), 1);
            }
        }
    }

    #[test]
    fn failed_sync_of_the_directory_leaves_one_of_the_two() {
        let disk = disk();
        write_number(&disk, 1).unwrap();
        disk.fail_name_syncs(1);
        write_number(&disk, 2).unwrap_err();
        assert_eq!(number(&disk.after_power_cut()), Some(1));
        assert_eq!(number(&disk), Some(2));
    }

    #[test]
    fn temporary_file_of_a_crash_is_in_nobodys_way() {
        let disk = disk();
        disk.write_file("d/state.tmp", b"a longer piece of some other value")
            .unwrap();
        write_number(&disk, 1).unwrap();
        assert_eq!(number(&disk), Some(1));
        assert_eq!(disk.list("d").unwrap().len(), 1);
    }

    #[test]
    fn damage_names_the_file() {
        let disk = disk();
        write_number(&disk, 1).unwrap();
        disk.corrupt("d/state", 12, 1).unwrap();
        let error = read::<u64>(&disk, "d/state", MAGIC, 1).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("memory:d/state: stored CRC is "),
            "{error}"
        );
        let other = read::<u64>(&disk, "d/state", *b"ELSE", 1).unwrap_err();
        assert!(
            matches!(
                other,
                StateFileError::Codec {
                    source: CodecError::Magic { .. },
                    ..
                }
            ),
            "{other}"
        );
        assert!(matches!(
            read::<u64>(&disk, "d", MAGIC, 1),
            Err(StateFileError::Io { .. })
        ));
    }
}
