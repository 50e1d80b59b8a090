//! Which names a disk accepts.

use std::io;

/// Checks that `name` stays inside of the data directory: components separated by single `/`,
/// none of them empty, `.` or `..`, no zero byte.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    let inside = !name.contains('\0')
        && name
            .split('/')
            .all(|component| !matches!(component, "" | "." | ".."));
    if inside {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the name leaves the data directory",
        ))
    }
}

/// As [`check_name`], with `""` for the root.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check_directory(name: &str) -> io::Result<()> {
    if name.is_empty() {
        Ok(())
    } else {
        check_name(name)
    }
}

/// The name of `name` in `directory`, which may be the root `""`.
pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        for good in ["a", "orders-3/00000000000000000042.log", "..a", "a/b/c"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/.", "a\0b",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_directory("").is_ok());
        assert!(check_directory("/").is_err());
    }

    #[test]
    fn join_knows_the_root() {
        assert_eq!(join("", "a"), "a");
        assert_eq!(join("d", "a"), "d/a");
    }
}
