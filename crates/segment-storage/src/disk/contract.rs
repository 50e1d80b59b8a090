//! What every [`Disk`] must do, as functions that are called for each implementation.

use std::io::ErrorKind;

use super::{DirectoryEntry, Disk, Prepare};

type Case = (&'static str, fn(&dyn Disk));

/// All cases, each for a new disk with an empty root.
const CASES: &[Case] = &[
    ("create_exists_once", create_exists_once),
    ("create_needs_its_directory", create_needs_its_directory),
    ("reserved_bytes_are_zeros", reserved_bytes_are_zeros),
    (
        "written_bytes_are_read_after_publishing",
        written_bytes_are_read_after_publishing,
    ),
    (
        "file_grows_beyond_what_is_reserved",
        file_grows_beyond_what_is_reserved,
    ),
    (
        "read_above_the_published_end_is_refused",
        read_above_the_published_end_is_refused,
    ),
    (
        "write_below_the_published_end_is_refused",
        write_below_the_published_end_is_refused,
    ),
    (
        "bytes_survive_more_writes_cut_and_removal",
        bytes_survive_more_writes_cut_and_removal,
    ),
    (
        "read_at_sees_what_is_not_published",
        read_at_sees_what_is_not_published,
    ),
    (
        "reopened_file_has_its_bytes_and_nothing_published",
        reopened_file_has_its_bytes,
    ),
    (
        "extend_keeps_bytes_and_adds_zeros",
        extend_keeps_bytes_and_adds_zeros,
    ),
    (
        "cut_shortens_and_ends_writing",
        cut_shortens_and_ends_writing,
    ),
    (
        "prepare_leaves_zeros_and_what_is_before",
        prepare_leaves_zeros_and_what_is_before,
    ),
    (
        "list_is_sorted_and_tells_directories",
        list_is_sorted_and_tells_directories,
    ),
    ("rename_replaces", rename_replaces),
    ("rename_moves_a_directory", rename_moves_a_directory),
    ("remove_directory_takes_all", remove_directory_takes_all),
    (
        "sync_and_drop_cache_keep_the_bytes",
        sync_and_drop_cache_keep_the_bytes,
    ),
    ("names_stay_inside", names_stay_inside),
    (
        "lock_is_exclusive_until_dropped",
        lock_is_exclusive_until_dropped,
    ),
];

/// Runs every case on a disk from `new`, which also returns what keeps the disk alive.
pub(super) fn check<G>(new: impl Fn() -> (Box<dyn Disk>, G)) {
    for (name, case) in CASES {
        let (disk, _guard) = new();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&*disk)));
        if let Err(panic) = result {
            eprintln!("the case that failed: {name}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.kind(),
    }
}

fn create_exists_once(disk: &dyn Disk) {
    let file = disk.create("a", 0).unwrap();
    assert_eq!(file.len(), 0);
    assert!(file.is_empty());
    assert_eq!(kind(disk.create("a", 4096)), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open("b")), ErrorKind::NotFound);
    assert_eq!(kind(disk.extend("b", 1)), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove("b")), ErrorKind::NotFound);
    assert_eq!(disk.open("a").unwrap().len(), 0);
}

fn create_needs_its_directory(disk: &dyn Disk) {
    assert_eq!(kind(disk.create("d/a", 0)), ErrorKind::NotFound);
    assert_eq!(kind(disk.list("d")), ErrorKind::NotFound);
    assert_eq!(kind(disk.sync_names("d")), ErrorKind::NotFound);
    assert_eq!(kind(disk.create_directory("d/e")), ErrorKind::NotFound);
    disk.create_directory("d").unwrap();
    disk.create_directory("d").unwrap();
    disk.create("d/a", 0).unwrap();
    disk.sync_names("d").unwrap();
    assert_eq!(kind(disk.create_directory("d/a")), ErrorKind::AlreadyExists);
}

fn reserved_bytes_are_zeros(disk: &dyn Disk) {
    let file = disk.create("a", 10_000).unwrap();
    assert_eq!(file.len(), 10_000);
    let mut bytes = vec![1; 10_000];
    file.read_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(kind(file.read_at(&mut bytes, 1)), ErrorKind::UnexpectedEof);
}

/// Small and large writes, with and without reserved bytes.
fn written_bytes_are_read_after_publishing(disk: &dyn Disk) {
    for (name, capacity) in [("reserved", 100_000), ("growing", 0)] {
        let file = disk.create(name, capacity).unwrap();
        let large = vec![b'L'; 40_000];
        file.write_at(b"head", b"body", 0).unwrap();
        file.write_at(b"h", &large, 8).unwrap();
        file.write_at(b"", b"end", 40_009).unwrap();
        assert_eq!(file.published(), 0);
        file.publish(40_012);
        assert_eq!(file.published(), 40_012);
        file.publish(5);
        assert_eq!(file.published(), 40_012);
        assert_eq!(file.read(0..10).unwrap(), b"headbodyhL".as_slice());
        assert_eq!(file.read(40_008..40_012).unwrap(), b"Lend".as_slice());
        assert_eq!(file.read(9..40_009).unwrap(), large);
        assert_eq!(file.read(7..7).unwrap(), b"".as_slice());
        assert_eq!(file.len(), capacity.max(40_012));
    }
}

fn file_grows_beyond_what_is_reserved(disk: &dyn Disk) {
    let file = disk.create("a", 4096).unwrap();
    file.write_at(b"ab", b"cd", 4094).unwrap();
    assert_eq!(file.len(), 4098);
    file.publish(4098);
    assert_eq!(file.read(4093..4098).unwrap(), b"\0abcd".as_slice());
    for step in 0..50_u64 {
        let position = 4098 + step * 1000;
        file.write_at(&[7; 1000], b"", position).unwrap();
        file.publish(position + 1000);
        assert_eq!(
            file.read(position..position + 1000).unwrap(),
            [7; 1000].as_slice()
        );
    }
}

fn read_above_the_published_end_is_refused(disk: &dyn Disk) {
    let file = disk.create("a", 100).unwrap();
    file.write_at(b"abcdef", b"", 0).unwrap();
    assert_eq!(kind(file.read(0..1)), ErrorKind::UnexpectedEof);
    file.publish(3);
    assert_eq!(file.read(1..3).unwrap(), b"bc".as_slice());
    assert_eq!(kind(file.read(0..4)), ErrorKind::UnexpectedEof);
    assert_eq!(kind(file.read(4..4)), ErrorKind::UnexpectedEof);
    #[expect(clippy::reversed_empty_ranges, reason = "this is what must be refused")]
    let reversed = 2..1;
    assert_eq!(kind(file.read(reversed)), ErrorKind::InvalidInput);
}

fn write_below_the_published_end_is_refused(disk: &dyn Disk) {
    for (name, capacity) in [("reserved", 100_000), ("growing", 0)] {
        let file = disk.create(name, capacity).unwrap();
        file.write_at(b"abc", b"", 0).unwrap();
        file.publish(3);
        assert_eq!(kind(file.write_at(b"x", b"", 2)), ErrorKind::InvalidInput);
        let large = vec![b'x'; 50_000];
        assert_eq!(kind(file.write_at(&large, b"", 0)), ErrorKind::InvalidInput);
        assert_eq!(
            kind(file.prepare(2, Prepare::Zeros)),
            ErrorKind::InvalidInput
        );
        assert_eq!(file.read(0..3).unwrap(), b"abc".as_slice());
        file.write_at(b"d", b"", 3).unwrap();
    }
}

fn bytes_survive_more_writes_cut_and_removal(disk: &dyn Disk) {
    let file = disk.create("a", 1 << 20).unwrap();
    let written: Vec<u8> = (0..=250).cycle().take(10_000).collect();
    file.write_at(&written, b"", 0).unwrap();
    file.publish(10_000);
    let bytes = file.read(0..10_000).unwrap();
    file.write_at(b"more", b"", 10_000).unwrap();
    file.cut(10_000).unwrap();
    disk.remove("a").unwrap();
    assert_eq!(bytes, written);
    drop(file);
    assert_eq!(bytes, written);
}

fn read_at_sees_what_is_not_published(disk: &dyn Disk) {
    let file = disk.create("a", 8192).unwrap();
    file.write_at(b"small", b"", 10).unwrap();
    file.write_at(&[5; 20_000], b"", 4096).unwrap();
    let mut bytes = [0; 5];
    file.read_at(&mut bytes, 10).unwrap();
    assert_eq!(&bytes, b"small");
    file.read_at(&mut bytes, 24_091).unwrap();
    assert_eq!(bytes, [5; 5]);
    assert_eq!(file.published(), 0);
}

fn reopened_file_has_its_bytes(disk: &dyn Disk) {
    let file = disk.create("a", 5000).unwrap();
    file.write_at(b"abc", b"", 0).unwrap();
    file.publish(3);
    let again = disk.open("a").unwrap();
    assert_eq!((again.len(), again.published()), (5000, 0));
    again.publish(3);
    assert_eq!(again.read(0..3).unwrap(), b"abc".as_slice());
    again.write_at(b"def", b"", 5000).unwrap();
    again.publish(5003);
    assert_eq!(again.read(4999..5003).unwrap(), b"\0def".as_slice());
}

fn extend_keeps_bytes_and_adds_zeros(disk: &dyn Disk) {
    let file = disk.create("a", 0).unwrap();
    file.write_at(b"abc", b"", 0).unwrap();
    drop(file);
    let file = disk.extend("a", 9000).unwrap();
    assert_eq!((file.len(), file.published()), (9000, 0));
    file.publish(3);
    file.write_at(b"de", b"f", 3).unwrap();
    file.publish(10);
    assert_eq!(file.read(0..10).unwrap(), b"abcdef\0\0\0\0".as_slice());
    drop(file);
    assert_eq!(disk.extend("a", 10).unwrap().len(), 9000);
}

fn cut_shortens_and_ends_writing(disk: &dyn Disk) {
    let file = disk.create("a", 10_000).unwrap();
    file.write_at(b"abcdef", b"", 0).unwrap();
    file.publish(4);
    assert_eq!(kind(file.cut(3)), ErrorKind::InvalidInput);
    assert_eq!(kind(file.cut(10_001)), ErrorKind::InvalidInput);
    assert_eq!(file.len(), 10_000);
    file.write_at(b"E", b"", 4).unwrap();
    file.cut(5).unwrap();
    assert_eq!(file.len(), 5);
    assert_eq!(kind(file.write_at(b"x", b"", 5)), ErrorKind::InvalidInput);
    assert_eq!(kind(file.cut(5)), ErrorKind::InvalidInput);
    file.publish(5);
    assert_eq!(file.read(0..5).unwrap(), b"abcdE".as_slice());
    assert_eq!(disk.open("a").unwrap().len(), 5);
}

fn prepare_leaves_zeros_and_what_is_before(disk: &dyn Disk) {
    for (name, how) in [("zeros", Prepare::Zeros), ("touch", Prepare::Touch)] {
        let file = disk.create(name, 20_000).unwrap();
        file.write_at(b"abc", b"", 5).unwrap();
        file.prepare(8, how).unwrap();
        assert_eq!(file.len(), 20_000);
        let mut bytes = vec![1; 20_000];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes[..8], b"\0\0\0\0\0abc");
        assert!(bytes[8..].iter().all(|byte| *byte == 0));
    }
    let stale = disk.create("stale", 20_000).unwrap();
    stale.write_at(&[9; 19_999], b"", 0).unwrap();
    stale.prepare(4100, Prepare::Zeros).unwrap();
    let mut bytes = vec![1; 20_000];
    stale.read_at(&mut bytes, 0).unwrap();
    assert!(bytes[..4100].iter().all(|byte| *byte == 9));
    assert!(bytes[4100..].iter().all(|byte| *byte == 0));
}

fn entry(name: &str, len: u64, is_directory: bool) -> DirectoryEntry {
    DirectoryEntry {
        name: name.to_owned(),
        len,
        is_directory,
    }
}

fn list_is_sorted_and_tells_directories(disk: &dyn Disk) {
    assert_eq!(disk.list("").unwrap(), []);
    disk.create("b", 5000).unwrap();
    disk.create_directory("a").unwrap();
    disk.create("c", 0)
        .unwrap()
        .write_at(b"xyz", b"", 0)
        .unwrap();
    disk.create("a/z", 1).unwrap();
    let root = [
        entry("a", 0, true),
        entry("b", 5000, false),
        entry("c", 3, false),
    ];
    assert_eq!(disk.list("").unwrap(), root);
    assert_eq!(disk.list("a").unwrap(), [entry("z", 1, false)]);
    assert!(disk.list("b").is_err());
}

fn rename_replaces(disk: &dyn Disk) {
    disk.create_directory("d").unwrap();
    disk.create("old", 0)
        .unwrap()
        .write_at(b"old", b"", 0)
        .unwrap();
    let file = disk.create("d/new", 0).unwrap();
    file.write_at(b"new", b"", 0).unwrap();
    disk.rename("d/new", "old").unwrap();
    assert_eq!(kind(disk.open("d/new")), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("d/new", "x")), ErrorKind::NotFound);
    file.write_at(b"er", b"", 3).unwrap();
    let mut bytes = [0; 5];
    disk.open("old").unwrap().read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"newer");
}

fn rename_moves_a_directory(disk: &dyn Disk) {
    disk.create_directory("d").unwrap();
    disk.create("d/a", 3).unwrap();
    disk.rename("d", "e").unwrap();
    assert_eq!(disk.open("e/a").unwrap().len(), 3);
    assert_eq!(kind(disk.open("d/a")), ErrorKind::NotFound);
}

fn remove_directory_takes_all(disk: &dyn Disk) {
    disk.create_directory("d").unwrap();
    disk.create_directory("d/e").unwrap();
    let file = disk.create("d/e/a", 0).unwrap();
    disk.remove_directory("d").unwrap();
    assert_eq!(disk.list("").unwrap(), []);
    assert_eq!(kind(disk.remove_directory("d")), ErrorKind::NotFound);
    file.write_at(b"still", b"", 0).unwrap();
    file.sync().unwrap();
}

fn sync_and_drop_cache_keep_the_bytes(disk: &dyn Disk) {
    let file = disk.create("a", 100_000).unwrap();
    file.write_at(&[3; 30_000], b"", 0).unwrap();
    file.sync().unwrap();
    file.write_at(b"tail", b"", 30_000).unwrap();
    file.drop_cache().unwrap();
    disk.sync_names("").unwrap();
    let mut bytes = [0; 5];
    file.read_at(&mut bytes, 29_999).unwrap();
    assert_eq!(&bytes, b"\x03tail");
    assert!(disk.free_bytes().unwrap() > 0);
}

fn names_stay_inside(disk: &dyn Disk) {
    for bad in ["", "/tmp/a", "../a", "a/../../b", "a//b", "."] {
        assert_eq!(kind(disk.create(bad, 0)), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(kind(disk.open(bad)), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(
            kind(disk.create_directory(bad)),
            ErrorKind::InvalidInput,
            "{bad}"
        );
        assert_eq!(
            kind(disk.remove_directory(bad)),
            ErrorKind::InvalidInput,
            "{bad}"
        );
        assert_eq!(kind(disk.lock(bad, "x")), ErrorKind::InvalidInput, "{bad}");
    }
    disk.create("a", 0).unwrap();
    assert_eq!(kind(disk.rename("a", "../a")), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.list("..")), ErrorKind::InvalidInput);
}

fn lock_is_exclusive_until_dropped(disk: &dyn Disk) {
    assert_eq!(disk.lock_holder("lock").unwrap(), None);
    let lock = disk.lock("lock", "a rather long first holder").unwrap();
    let holder = disk.lock_holder("lock").unwrap();
    assert_eq!(holder.as_deref(), Some("a rather long first holder"));
    assert_eq!(kind(disk.lock("lock", "second")), ErrorKind::WouldBlock);
    let holder = disk.lock_holder("lock").unwrap();
    assert_eq!(holder.as_deref(), Some("a rather long first holder"));
    drop(lock);
    // A child that another test forks has a copy of the descriptor until it executes its program.
    let mut looks = 0..1_000_000;
    while disk.lock_holder("lock").unwrap().is_some() {
        assert!(looks.next().is_some(), "it is held for good");
        std::thread::yield_now();
    }
    let _lock = disk.lock("lock", "third").unwrap();
    assert_eq!(disk.lock_holder("lock").unwrap().as_deref(), Some("third"));
}
