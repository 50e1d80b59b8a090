//! What a repair gave up of a log: offsets that it does not hold any more, and never will.
//!
//! Written by a repair alone, so that a hole which somebody agreed to is told from damage.

use std::io;
use std::sync::Arc;

use segment_storage::{Disk, StateFileError, names, state_file};
use serde::{Deserialize, Serialize};

/// Name of the file in a log's directory.
pub(crate) const FILE: &str = "given-up";
const MAGIC: [u8; 4] = *b"OLGU";
const VERSION: u16 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    log_id: u128,
    ranges: Vec<(u64, u64)>,
}

/// The ranges, lowest first, each from its first offset to the one behind its last; none where there
/// is no file.
///
/// # Errors
/// When the file is damaged, or of another log (then as if it were missing).
pub(crate) fn read(
    disk: &Arc<dyn Disk>,
    directory: &str,
    log_id: u128,
) -> Result<Vec<(u64, u64)>, StateFileError> {
    let name = names::join(directory, FILE);
    let stored: Option<Stored> = state_file::read(&**disk, &name, MAGIC, VERSION)?;
    match stored {
        None => Ok(Vec::new()),
        Some(stored) if stored.log_id == log_id => Ok(stored.ranges),
        Some(_) => {
            let file = disk.display(&name);
            Err(StateFileError::Missing { file })
        }
    }
}

/// Stores the ranges, durably.
///
/// # Errors
/// What the disk says.
pub(crate) fn write(
    disk: &Arc<dyn Disk>,
    directory: &str,
    log_id: u128,
    ranges: Vec<(u64, u64)>,
) -> io::Result<()> {
    let stored = Stored { log_id, ranges };
    state_file::write(&**disk, directory, FILE, MAGIC, VERSION, &stored)
}
