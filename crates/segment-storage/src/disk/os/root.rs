//! A directory that is made under one name and appears under another when it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{OsDisk, sync_directory};

impl OsDisk {
    /// Where a new directory for `path` may be made under another name and then be moved to: beside
    /// it, in the same parent. An earlier one that was not finished is there still.
    ///
    /// # Errors
    /// `AlreadyExists` when something is at `path` other than an empty directory; `InvalidInput` for
    /// a path without a last component; what the system says.
    pub fn unfinished(path: &Path) -> io::Result<PathBuf> {
        let kind = io::ErrorKind::InvalidInput;
        let name = path.file_name();
        let name = name.ok_or_else(|| io::Error::new(kind, "the path does not end with a name"))?;
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Err(error) => return Err(error),
        }
        let mut unfinished = name.to_owned();
        unfinished.push(".unfinished");
        Ok(path.with_file_name(unfinished))
    }

    /// Moves the whole directory to `path`, in the same parent, durably. At `path` there may be an
    /// empty directory. Nothing may be done with this disk afterwards.
    ///
    /// # Errors
    /// What the system says; `DirectoryNotEmpty` when something is at `path` by now.
    pub fn move_to(&self, path: &Path) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(&self.root, path)?;
        match path.parent() {
            Some(parent) if parent != Path::new("") => sync_directory(parent),
            _ => sync_directory(Path::new(".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;

    #[test]
    fn a_directory_appears_whole_and_takes_nobodys_place() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("copy");
        let unfinished = OsDisk::unfinished(&path).unwrap();
        assert_eq!(unfinished, place.path().join("copy.unfinished"));
        let disk = OsDisk::open(unfinished.clone()).unwrap();
        disk.create("a", 0).unwrap().write_at(b"x", &[], 0).unwrap();
        assert!(!path.exists());
        disk.move_to(&path).unwrap();
        assert!(!unfinished.exists());
        assert_eq!(fs::read(path.join("a")).unwrap(), b"x");
        let error = OsDisk::unfinished(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let file = path.join("a");
        let error = OsDisk::unfinished(&file).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        // Between the look and the move somebody else may have made it.
        let disk = OsDisk::open(unfinished).unwrap();
        disk.move_to(&path).unwrap_err();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"x");
        let empty = place.path().join("empty");
        fs::create_dir(&empty).unwrap();
        disk.move_to(&empty).unwrap();
    }

    #[test]
    fn a_link_is_the_same_file_under_another_root() {
        let place = tempfile::tempdir().unwrap();
        let one = OsDisk::open(place.path().join("one")).unwrap();
        let other = OsDisk::open(place.path().join("other")).unwrap();
        one.create("a", 0).unwrap().write_at(b"x", &[], 0).unwrap();
        let path = one.host_path("a").unwrap();
        other.link(&path, "b").unwrap();
        one.remove("a").unwrap();
        assert_eq!(other.open("b").unwrap().len(), 1);
        let again = other.host_path("b").unwrap();
        let error = other.link(&again, "b").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let error = one.link(Path::new("/nonexistent"), "c").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(one.host_path("../x"), None);
    }
}
