//! What only a real file system shows.

use std::os::unix::fs::{FileExt, symlink};
use std::process::Command;

use super::*;
use crate::disk::{Prepare, contract};

fn disk() -> (OsDisk, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    (OsDisk::open(root.path().to_owned()).unwrap(), root)
}

#[test]
fn keeps_the_contract() {
    contract::check(|| {
        let (disk, root) = disk();
        (Box::new(disk), root)
    });
}

#[test]
fn mapped_and_positional_writes_meet_in_one_file() {
    let (disk, root) = disk();
    let file = disk.create("a", 1 << 20).unwrap();
    let largest_copied = vec![1; MAP_COPY_LIMIT];
    let smallest_written = vec![2; MAP_COPY_LIMIT + 1];
    file.write_at(&largest_copied, b"", 0).unwrap();
    file.write_at(b"", &smallest_written, largest_copied.len() as u64)
        .unwrap();
    let end = (largest_copied.len() + smallest_written.len()) as u64;
    file.publish(end);
    let expected = [largest_copied, smallest_written].concat();
    assert_eq!(file.read(0..end).unwrap(), expected);
    file.sync().unwrap();
    let seen_by_others = fs::read(root.path().join("a")).unwrap();
    assert_eq!(seen_by_others[..expected.len()], expected);
}

/// A sync ends the mapping of full pages; what was read keeps its bytes, and writing goes on in the
/// page that is not full.
#[test]
fn writing_goes_on_after_a_sync() {
    let (disk, root) = disk();
    let file = disk.create("a", 1 << 20).unwrap();
    file.prepare(0, Prepare::Touch).unwrap();
    let mut expected = Vec::new();
    let mut read = Vec::new();
    for n in 1..=9_u8 {
        let start = expected.len() as u64;
        let batch = vec![n; 100_001];
        file.write_at(b"", &batch, start).unwrap();
        expected.extend(batch);
        let end = expected.len() as u64;
        file.publish(end);
        read.push(file.read(start..end).unwrap());
        file.sync().unwrap();
    }
    assert_eq!(file.read(0..expected.len() as u64).unwrap(), expected);
    for (n, bytes) in (1_u8..).zip(&read) {
        assert_eq!(bytes, &vec![n; 100_001]);
    }
    let seen_by_others = fs::read(root.path().join("a")).unwrap();
    assert_eq!(seen_by_others[..expected.len()], expected);
}

#[test]
fn reserved_blocks_are_allocated() {
    use std::os::unix::fs::MetadataExt;
    let (disk, root) = disk();
    disk.create("a", 1 << 20).unwrap();
    let blocks_of_512 = fs::metadata(root.path().join("a")).unwrap().blocks();
    assert!(blocks_of_512 >= (1 << 20) / 512, "{blocks_of_512}");
}

/// R2, I12: 2^60 bytes are more than any file may have.
#[test]
fn failed_reservation_leaves_nothing_behind() {
    let (disk, _root) = disk();
    let error = disk.create("a", 1 << 60).err().unwrap();
    assert!(error.raw_os_error().is_some(), "{error}");
    assert_eq!(disk.list("").unwrap(), []);

    disk.create("b", 0)
        .unwrap()
        .write_at(b"abc", b"", 0)
        .unwrap();
    assert!(disk.extend("b", 1 << 60).is_err());
    assert_eq!(disk.list("").unwrap()[0].len, 3);
}

/// I12: where nothing is reserved, a refused write leaves the file as it was.
#[test]
fn write_past_the_largest_file_is_refused_without_effect() {
    let (disk, _root) = disk();
    let file = disk.create("a", 0).unwrap();
    file.write_at(b"abc", b"", 0).unwrap();
    let error = file.write_at(b"x", b"", (1 << 62) - 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
    assert_eq!(file.len(), 3);
    file.write_at(b"def", b"", 3).unwrap();
    file.publish(6);
    assert_eq!(file.read(0..6).unwrap(), b"abcdef".as_slice());
}

/// I12, with a write that is cut off in the middle: the limit is 2 blocks of 512 bytes.
#[test]
fn write_that_does_not_fit_leaves_no_part_behind() {
    let (_disk, root) = disk();
    run_alone(
        "written_under_a_file_size_limit",
        "ulimit -f 2; trap '' XFSZ",
        root.path(),
    );
}

#[test]
fn written_under_a_file_size_limit() {
    let Some(root) = std::env::var_os("OS_DISK_TEST_ROOT") else {
        return;
    };
    let disk = OsDisk::open(root.into()).unwrap();
    let file = disk.create("a", 0).unwrap();
    file.write_at(&[1; 100], b"", 0).unwrap();
    let error = file.write_at(&[2; 600], &[3; 1400], 100).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
    assert_eq!((file.len(), disk.list("").unwrap()[0].len), (100, 100));
    file.write_at(&[4; 50], b"", 100).unwrap();

    // Bytes that were there before are gone: that is no refusal.
    let error = file.write_at(&[5; 2000], b"", 60).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Other, "{error}");

    let error = disk.create("b", 4096).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
    assert_eq!(disk.list("").unwrap().len(), 1);
}

#[test]
fn symbolic_links_are_not_followed() {
    let (disk, root) = disk();
    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink(outside.path(), root.path().join("link")).unwrap();
    assert!(disk.open("link").is_err());
    assert!(disk.extend("link", 10).is_err());
    assert!(disk.lock("link", "holder").is_err());
    assert_eq!(
        disk.create("link", 0).err().unwrap().kind(),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(outside.as_file().metadata().unwrap().len(), 0);
}

#[test]
fn pipe_is_refused_without_waiting() {
    let (disk, root) = disk();
    let made = Command::new("mkfifo")
        .arg(root.path().join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    assert!(disk.open("pipe").is_err());
    let reading = OsDisk::read_only(root.path().to_owned()).unwrap();
    assert!(reading.open("pipe").is_err());
}

#[test]
fn missing_root_is_made_with_its_parents() {
    let (_disk, root) = disk();
    let path = root.path().join("a/b/c");
    let missing = OsDisk::read_only(path.clone()).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    OsDisk::open(path.clone())
        .unwrap()
        .create("file", 0)
        .unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(
        OsDisk::open(path.clone()).unwrap().list("").unwrap().len(),
        1
    );
    let not_a_directory = OsDisk::open(path.join("file")).unwrap_err();
    assert_eq!(not_a_directory.kind(), io::ErrorKind::NotADirectory);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Runs `test` in a process of its own, after some commands of the shell.
fn run_alone(test: &str, shell_before: &str, root: &Path) {
    let script = format!("{shell_before}; exec \"$0\" --exact disk::os::tests::{test}");
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .env("OS_DISK_TEST_ROOT", root)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains("1 passed"), "{stdout}");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let (disk, root) = disk();
    for umask in ["000", "777"] {
        run_alone(
            "created_under_the_umask_of_the_process",
            &format!("umask {umask}"),
            root.path(),
        );
        assert_eq!(mode(&root.path().join("d")), 0o700);
        assert_eq!(mode(&root.path().join("d/file")), 0o600);
        disk.remove_directory("d").unwrap();
    }
}

#[test]
fn created_under_the_umask_of_the_process() {
    let own = tempfile::tempdir().unwrap();
    let root = std::env::var_os("OS_DISK_TEST_ROOT").map_or(own.path().to_owned(), PathBuf::from);
    let disk = OsDisk::open(root).unwrap();
    disk.create_directory("d").unwrap();
    disk.create("d/file", 10).unwrap();
}

/// I14: another process neither takes the lock nor is blind to it; R20: it dies with its holder.
#[test]
fn lock_excludes_other_processes() {
    let (disk, root) = disk();
    let _lock = disk.lock("LOCK", "process 1 on here").unwrap();
    run_alone("lock_of_another_process", "true", root.path());
}

#[test]
fn lock_of_another_process() {
    let Some(root) = std::env::var_os("OS_DISK_TEST_ROOT") else {
        return;
    };
    let disk = OsDisk::open(root.into()).unwrap();
    assert_eq!(
        disk.lock("LOCK", "x").err().unwrap().kind(),
        io::ErrorKind::WouldBlock
    );
    assert_eq!(
        disk.lock_holder("LOCK").unwrap().as_deref(),
        Some("process 1 on here")
    );
}

#[test]
fn two_disks_of_one_process_exclude_each_other() {
    let (disk, root) = disk();
    let other = OsDisk::open(root.path().to_owned()).unwrap();
    let lock = disk.lock("LOCK", "first").unwrap();
    assert_eq!(
        other.lock("LOCK", "x").err().unwrap().kind(),
        io::ErrorKind::WouldBlock
    );
    drop(lock);
    other.lock("LOCK", "second").unwrap();
}

#[test]
fn read_only_disk_changes_nothing() {
    let (disk, root) = disk();
    let written = disk.create("a", 0).unwrap();
    written.write_at(b"abc", b"", 0).unwrap();
    let _lock = disk.lock("LOCK", "the writer").unwrap();

    let reading = OsDisk::read_only(root.path().to_owned()).unwrap();
    let file = reading.open("a").unwrap();
    let denied = [
        reading.create("b", 0).err(),
        reading.extend("a", 10).err(),
        reading.create_directory("d").err(),
        reading.rename("a", "b").err(),
        reading.remove("a").err(),
        reading.remove_directory("a").err(),
        reading.sync_names("").err(),
        reading.lock("LOCK", "x").err(),
        file.write_at(b"x", b"", 3).err(),
        file.prepare(0, crate::disk::Prepare::Zeros).err(),
        file.sync().err(),
        file.cut(0).err(),
        file.drop_cache().err(),
    ];
    for error in denied {
        assert_eq!(error.unwrap().kind(), io::ErrorKind::PermissionDenied);
    }
    assert_eq!(
        reading.lock_holder("LOCK").unwrap().as_deref(),
        Some("the writer")
    );

    // It sees what its writer adds, as soon as it publishes that for itself.
    written.write_at(b"def", b"", 3).unwrap();
    assert_eq!(file.len(), 6);
    file.publish(6);
    assert_eq!(file.read(0..6).unwrap(), b"abcdef".as_slice());
}

#[test]
fn display_names_the_path() {
    let (disk, root) = disk();
    let expected = root.path().join("orders-0/x.log").display().to_string();
    assert_eq!(disk.display("orders-0/x.log"), expected);
}

/// R29: zeros are written, so that no store converts a block later; and contents stay zeros.
#[test]
fn prepared_file_is_backed_by_written_blocks() {
    let (disk, root) = disk();
    let file = disk.create("a", 1 << 16).unwrap();
    file.prepare(0, crate::disk::Prepare::Zeros).unwrap();
    let opened = File::open(root.path().join("a")).unwrap();
    // A reserved, unwritten block is a hole to `SEEK_DATA`.
    let data = rustix::fs::seek(&opened, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert_eq!(data, 0);
    let hole = rustix::fs::seek(&opened, rustix::fs::SeekFrom::Hole(0)).unwrap();
    assert_eq!(hole, 1 << 16);
    let mut bytes = vec![1; 1 << 16];
    opened.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}
