//! Which names a disk accepts.

use std::io;

/// Components separated by single `/`, none of them empty, `.` or `..`, no zero byte.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    let is_inside = |component: &str| !matches!(component, "" | "." | "..");
    if !name.contains('\0') && name.split('/').all(is_inside) {
        return Ok(());
    }
    let kind = io::ErrorKind::InvalidInput;
    Err(io::Error::new(kind, "the name leaves the data directory"))
}

/// As [`check_name`], with `""` for the root.
pub(super) fn check_directory(name: &str) -> io::Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    check_name(name)
}
