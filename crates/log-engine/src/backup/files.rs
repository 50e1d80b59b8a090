//! Files of a copy: linked, or copied byte by byte.

use std::io;
use std::sync::Arc;

use segment_storage::{Disk, DiskFile};

use super::{BackupError, BackupReport, io as io_error};

const CHUNK: u64 = 1 << 20;

/// Gives a file that nobody writes any more a further name on `target`; whether that was possible.
///
/// # Errors
/// `NotFound` when the file is gone.
pub(crate) fn link(
    source: &Arc<dyn Disk>,
    target: &Arc<dyn Disk>,
    (from, to): (&str, &str),
) -> io::Result<bool> {
    let Some(path) = source.host_path(from) else {
        return Ok(false);
    };
    match target.link(&path, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        // Another file system, or one without links; a file of somebody else's; too many links.
        Err(_) => Ok(false),
    }
}

/// Makes the file `name`, durably, of bytes `from` to `to` of another one.
///
/// # Errors
/// What the disks say.
pub(crate) fn copy_range(
    file: &dyn DiskFile,
    (from, to): (u64, u64),
    target: &Arc<dyn Disk>,
    name: &str,
) -> io::Result<Arc<dyn DiskFile>> {
    let copy = target.create(name, 0)?;
    let mut position = from;
    let mut buffer = Vec::new();
    while position < to {
        let chunk = CHUNK.min(to - position);
        buffer.resize(usize::try_from(chunk).unwrap_or(0), 0);
        file.read_at(&mut buffer, position)?;
        copy.write_at(&buffer, &[], position - from)?;
        position += chunk;
    }
    copy.sync()?;
    Ok(copy)
}

/// Counts what the copy holds.
///
/// # Errors
/// When it cannot be listed.
pub(super) fn count(target: &Arc<dyn Disk>, report: &mut BackupReport) -> Result<(), BackupError> {
    for entry in target.list("").map_err(|e| io_error(target, "", e))? {
        if !entry.is_directory {
            report.files += 1;
            report.bytes += entry.len;
            continue;
        }
        for file in target
            .list(&entry.name)
            .map_err(|e| io_error(target, &entry.name, e))?
        {
            report.files += 1;
            report.bytes += file.len;
        }
    }
    Ok(())
}
