//! The exclusive lock on a data directory (R20), and who holds it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::FlockOperation;

/// The kernel's table of file locks of all processes that this one may see.
const TABLE: &str = "/proc/locks";

/// File systems whose files report another device than the one in the table of locks.
const OWN_DEVICE_NUMBERS: [u32; 2] = [0x9123_683e, 0x794c_7630];

/// A held lock. Closing the descriptor gives it up; it is never unlocked explicitly, because a
/// forked child that drops its copy would then unlock its parent's.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock without waiting and writes `holder` into the file.
pub(super) fn take(file: File, holder: &str) -> io::Result<Lock> {
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // The text is for the errors of others only: on a full disk the lock is worth more (I13).
    let _written = file
        .set_len(0)
        .and_then(|()| file.write_all_at(holder.as_bytes(), 0));
    Ok(Lock { _file: file })
}

/// The text in the file, if somebody holds a lock on it. Takes none, not even for a moment: a
/// writer that starts meanwhile must not be refused. A holder in a process that this one may
/// not see (another container) is not found; without the table the lock counts as held.
pub(super) fn holder(mut file: &File) -> io::Result<Option<String>> {
    let metadata = file.metadata()?;
    let held = match std::fs::read_to_string(TABLE) {
        Ok(table) => {
            let own_numbers = rustix::fs::fstatfs(file)
                .is_ok_and(|found| u32::try_from(found.f_type).is_ok_and(is_own_numbers));
            let device = (!own_numbers).then(|| {
                (
                    rustix::fs::major(metadata.dev()),
                    rustix::fs::minor(metadata.dev()),
                )
            });
            table
                .lines()
                .any(|line| is_lock_on(line, device, metadata.ino()))
        }
        Err(_unreadable) => true,
    };
    if !held {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

fn is_own_numbers(file_system: u32) -> bool {
    OWN_DEVICE_NUMBERS.contains(&file_system)
}

/// Whether a line of the table is a `flock` on this file:
/// `1: FLOCK  ADVISORY  WRITE 4333 fe:00:9978019 0 EOF`, the device in hexadecimal.
fn is_lock_on(line: &str, device: Option<(u32, u32)>, inode: u64) -> bool {
    // Lines of those who wait have an arrow after the number.
    let mut fields = line
        .split_whitespace()
        .skip(1)
        .skip_while(|field| *field == "->");
    if fields.next() != Some("FLOCK") {
        return false;
    }
    let Some(file) = fields.nth(3) else {
        return false;
    };
    let mut parts = file.split(':');
    let (Some(major), Some(minor), Some(found)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let number = |text| u32::from_str_radix(text, 16).ok();
    found.parse() == Ok(inode)
        && device.is_none_or(|device| number(major).zip(number(minor)) == Some(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_the_table_is_matched_by_kind_device_and_inode() {
        let line = "1: FLOCK  ADVISORY  WRITE 4333 fe:0a:9978019 0 EOF";
        assert!(is_lock_on(line, Some((0xfe, 10)), 9_978_019));
        assert!(is_lock_on(line, None, 9_978_019));
        assert!(!is_lock_on(line, Some((0xfe, 11)), 9_978_019));
        assert!(!is_lock_on(line, Some((0xfd, 10)), 9_978_019));
        assert!(!is_lock_on(line, Some((0xfe, 10)), 997_801));
        let waiting = "1: -> FLOCK  ADVISORY  WRITE 4333 fe:0a:9978019 0 EOF";
        assert!(is_lock_on(waiting, Some((0xfe, 10)), 9_978_019));
        let posix = "1: POSIX  ADVISORY  WRITE 4333 fe:0a:9978019 0 EOF";
        assert!(!is_lock_on(posix, Some((0xfe, 10)), 9_978_019));
        for broken in ["", "1:", "1: FLOCK", "1: FLOCK  ADVISORY  WRITE 4333 fe:0a"] {
            assert!(!is_lock_on(broken, None, 9_978_019), "{broken}");
        }
    }
}
