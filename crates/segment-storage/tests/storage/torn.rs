//! Above the stable mark: what a crash tore is cut, and never comes back (I4, I22, R8, R11, R13).

use segment_storage::{Disk, MemoryDisk, names};

use crate::harness::{
    DIRECTORY, TestLog, batch, contents, files, numbered, path, place, segment_path, stamped,
    synced, value, written,
};

/// Five batches that are synced and marked, in a file with room for more.
fn five() -> (MemoryDisk, usize) {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(1 << 20));
    log.append_numbered(5, 50);
    log.commit().unwrap();
    let end = usize::try_from(log.log.active_bytes()).unwrap();
    (disk.after_kill(), end)
}

fn write_behind(disk: &MemoryDisk, end: usize, bytes: &[u8]) {
    let mut file = disk.read_file(&segment_path(0)).unwrap();
    file[end..end + bytes.len()].copy_from_slice(bytes);
    disk.write_file(&segment_path(0), &file).unwrap();
}

/// Opens the log, which must have the first five batches, and goes on with three more.
fn assert_cut(disk: &MemoryDisk, end: usize, reported: bool, what: &str) {
    let mut log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    assert_eq!(log.found.corruption, None, "{what}");
    assert_eq!(log.entries(), numbered(0, 5, 50), "{what}");
    let cut: Vec<_> = log.found.cut.iter().map(|c| c.1).collect();
    let expected = if reported { vec![end as u64] } else { vec![] };
    assert_eq!(cut, expected, "{what}");
    assert_eq!(
        disk.read_file(&segment_path(0)).unwrap().len(),
        end,
        "{what}"
    );
    // Appends begin in a new segment (R8).
    log.append_numbered(3, 50);
    log.commit().unwrap();
    let bases: Vec<u64> = log
        .view()
        .segments()
        .iter()
        .map(|s| s.base_offset())
        .collect();
    assert_eq!(bases, [0, 5], "{what}");
    for after in [disk.after_kill(), disk.after_power_cut()] {
        let log = TestLog::open(place(after), synced(1 << 20), 3);
        assert_eq!(log.entries(), numbered(0, 8, 50), "{what}");
        assert_eq!(log.found.cut, [], "{what}");
    }
}

#[test]
fn reserved_zeros_are_cut_silently() {
    let (disk, end) = five();
    assert!(disk.read_file(&segment_path(0)).unwrap().len() > end);
    assert_cut(&disk, end, false, "zeros");
}

#[test]
fn garbage_and_parts_of_batches_are_cut() {
    let whole = stamped(&[(0, &value(5, 50))], 5, 1);
    let next = stamped(&[(0, &value(6, 50))], 6, 1);
    let mut torn_in_front = whole.clone();
    torn_in_front[..30].fill(0);
    let mut zeros_inside = whole.clone();
    zeros_inside[70..90].fill(0);
    let other_offset = stamped(&[(0, &value(5, 50))], 7, 1);
    let older_offset = stamped(&[(0, &value(5, 50))], 4, 1);
    let from_the_future = stamped(&[(0, &value(5, 50))], 5, 3);
    let older_generation = stamped(&[(0, &value(5, 50))], 5, 0);
    let mut beyond_the_end = whole.clone();
    beyond_the_end[8..12].copy_from_slice(&(1i32 << 21).to_be_bytes());
    let garbage: Vec<u8> = (0..500u32).map(|n| (n * 7 % 251) as u8 | 1).collect();
    let cases: [(&str, Vec<u8>); 11] = [
        ("garbage", garbage),
        ("half of a header", whole[..40].to_vec()),
        ("half of a batch", whole[..whole.len() - 20].to_vec()),
        ("a batch without its front", torn_in_front),
        (
            "zeros inside of a batch",
            [zeros_inside, next.clone()].concat(),
        ),
        (
            "a batch without its end, and the next one",
            [&whole[..80], &next].concat(),
        ),
        ("a batch with a later offset", other_offset),
        ("a batch with an older offset", older_offset),
        ("a batch from a generation to come", from_the_future),
        ("a batch from a generation before", older_generation),
        ("a batch that ends behind the file", beyond_the_end),
    ];
    for (what, bytes) in cases {
        let (disk, end) = five();
        write_behind(&disk, end, &bytes);
        let leads_with_zeros = bytes[..61.min(bytes.len())].iter().all(|&b| b == 0);
        assert_cut(&disk, end, !leads_with_zeros, what);
    }
}

#[test]
fn less_than_a_header_at_the_very_end_of_a_file_is_cut_and_reported() {
    let (disk, end) = five();
    let mut file = disk.read_file(&segment_path(0)).unwrap();
    file.truncate(end);
    file.extend([1; 33]);
    disk.write_file(&segment_path(0), &file).unwrap();
    assert_cut(&disk, end, true, "33 bytes");
}

#[test]
fn whole_batches_above_the_mark_stay() {
    let (disk, end) = five();
    let more: Vec<u8> = (5..7)
        .flat_map(|n| stamped(&[(0, &value(n, 50))], n, 1))
        .collect();
    write_behind(&disk, end, &more);
    let log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    assert_eq!(log.entries(), numbered(0, 7, 50));
    // Believed means durable: what was only in the page cache is synced by the open.
    let log = TestLog::open(place(disk.after_power_cut()), synced(1 << 20), 3);
    assert_eq!(log.entries(), numbered(0, 7, 50));
}

/// R11: a record's value holds a perfect next batch.
#[test]
fn forged_batch_inside_of_a_value_is_never_found() {
    let forged = stamped(&[(0, b"forged")], 5, 1);
    for torn_byte in [0, 16, 20, 60, 400] {
        let (disk, end) = five();
        let mut outer = stamped(&[(0, &[&forged[..], &[b'x'; 300]].concat())], 5, 1);
        // Aligned or not, torn at the front, in the CRC or behind the forgery.
        outer[torn_byte.min(400)] ^= 0x55;
        write_behind(&disk, end, &outer);
        assert_cut(&disk, end, true, &format!("torn at {torn_byte}"));
    }
    // The outer batch whole: the inner one is data.
    let (disk, end) = five();
    let outer_value = [&forged[..], &[b'x'; 300]].concat();
    write_behind(&disk, end, &stamped(&[(0, &outer_value)], 5, 1));
    let log = TestLog::open(place(disk), synced(1 << 20), 2);
    assert_eq!(log.entries()[5], (5, outer_value));
    assert_eq!(log.log.next_offset(), 6);
}

/// R8: valid batches behind the tail would line up with what is appended next.
#[test]
fn stale_batches_behind_the_tail_never_come_back() {
    let (disk, end) = five();
    let torn = vec![0xee; batch(&[(0, &value(5, 50))]).len()];
    let stale: Vec<u8> = (6..9)
        .flat_map(|n| stamped(&[(0, b"stale")], n, 1))
        .collect();
    write_behind(&disk, end, &[torn, stale].concat());
    let mut log = TestLog::open(place(disk.clone()), synced(1 << 20), 2);
    assert_eq!(log.log.next_offset(), 5);
    // Exactly as long as the torn one.
    log.append(&[&value(5, 50)]);
    log.commit().unwrap();
    for after in [disk.after_kill(), disk.after_power_cut()] {
        let log = TestLog::open(place(after), synced(1 << 20), 3);
        assert_eq!(log.entries(), numbered(0, 6, 50));
    }
}

/// R13: at a level below `synced` a later segment may reach the disk before an earlier one.
#[test]
fn what_lies_behind_a_hole_is_dropped() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(4096));
    log.append_numbered(10, 200);
    log.commit().unwrap();
    log.append_numbered(20, 200);
    assert_eq!(log.view().published(), 30);
    let items = log.log.begin_sync(true);
    assert_eq!(items.len(), 2);
    items[1].sync().unwrap();
    let after = disk.after_power_cut();
    assert!(files(&after).contains(&names::segment(15)));
    let ceiling = log.log.ceiling();

    let log = TestLog::open(place(after.clone()), written(4096), 2);
    assert_eq!(log.found.corruption, None);
    assert_eq!(log.entries(), numbered(0, 10, 200));
    assert_eq!(log.found.removed, [names::segment(15)]);
    assert_eq!(log.found.lost, Some((10, ceiling)));
    assert!(!files(&after.after_power_cut()).contains(&names::segment(15)));
}

#[test]
fn everything_is_dropped_where_the_first_segment_is_lost() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(4096));
    log.append_numbered(30, 200);
    log.log.begin_sync(true)[1].sync().unwrap();
    let after = disk.after_power_cut();
    let mut log = TestLog::open(place(after.clone()), written(4096), 2);
    assert_eq!(log.entries(), []);
    assert_eq!(log.log.next_offset(), 1024);
    assert_eq!(log.append(&[b"new"]), 1024);
    log.commit().unwrap();
    let log = TestLog::open(place(after.after_power_cut()), written(4096), 3);
    assert_eq!(log.entries(), [(1024, b"new".to_vec())]);
}

/// A hole between two prepared files is a hole, not a jump, although the generation rose.
#[test]
fn later_prepared_file_is_not_taken_for_a_jump() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(4096));
    log.append_numbered(4, 200);
    log.commit().unwrap();
    let disk = disk.after_kill();
    let mut log = TestLog::open(place(disk.clone()), written(4096), 2);
    let base = log.log.next_offset();
    log.append_numbered(20, 200);
    let items = log.log.begin_sync(true);
    assert_eq!(items.len(), 2);
    // The second file's contents reach the disk, its name does not.
    let second = disk.read_file(&path("next-2.segment")).unwrap();
    let after = disk.after_power_cut();
    after.write_file(&path("next-2.segment"), &second).unwrap();
    let log = TestLog::open(place(after), written(4096), 3);
    assert_eq!(log.found.corruption, None);
    assert_eq!(log.entries(), numbered(0, 4, 200));
    assert!(log.log.next_offset() >= base + 20, "I9: all 20 were shown");
    assert_eq!(log.found.removed, ["next-2.segment"]);
}

#[test]
fn segments_without_their_own_names_are_adopted_in_order() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(2048));
    log.append_numbered(3, 200);
    log.commit().unwrap();
    log.append_numbered(20, 200);
    let disk = disk.after_kill();
    let unnamed = files(&disk)
        .iter()
        .filter(|n| names::is_prepared(n))
        .count();
    assert_eq!(unnamed, 3);
    let log = TestLog::open(place(disk.clone()), synced(2048), 2);
    assert_eq!(log.entries(), numbered(0, 23, 200));
    assert!(files(&disk).iter().all(|n| !names::is_prepared(n)));
    let log = TestLog::open(place(disk.after_power_cut()), synced(2048), 3);
    assert_eq!(log.entries(), numbered(0, 23, 200));
}

#[test]
fn segment_at_a_jump_is_adopted() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, written(4096));
    log.append_numbered(3, 200);
    let disk = disk.after_kill();
    let mut log = TestLog::open(place(disk.clone()), written(4096), 2);
    assert_eq!(log.found.lost, Some((3, 1024)));
    assert_eq!(log.append(&[b"jumped"]), 1024);
    let disk = disk.after_kill();
    assert!(files(&disk).iter().any(|n| names::is_prepared(n)));
    let log = TestLog::open(place(disk.clone()), written(4096), 3);
    let mut expected = numbered(0, 3, 200);
    expected.push((1024, b"jumped".to_vec()));
    assert_eq!(log.entries(), expected);
    assert!(files(&disk).contains(&names::segment(1024)));
}

#[test]
fn prepared_files_that_hold_nothing_or_garbage_are_removed() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.append_numbered(3, 200);
    log.commit().unwrap();
    for (number, bytes) in [
        vec![0; 4096],
        vec![0xaa; 4096],
        vec![],
        stamped(&[(0, b"stale")], 17, 1),
        stamped(&[(0, b"stale")], 0, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let name = path(&names::prepared(100 + number as u64));
        disk.write_file(&name, &bytes).unwrap();
    }
    let disk = disk.after_kill();
    let log = TestLog::open(place(disk.clone()), synced(4096), 2);
    assert_eq!(log.entries(), numbered(0, 3, 200));
    assert!(files(&disk).iter().all(|n| !names::is_prepared(n)));
}

#[test]
fn nothing_is_adopted_behind_a_torn_file() {
    let disk = MemoryDisk::new();
    let mut log = TestLog::new(&disk, synced(4096));
    log.put(&batch(&[(0, b"x")])).unwrap_err();
    log.feed().unwrap();
    let disk = disk.after_kill();
    disk.remove(&path("next-1.segment")).unwrap();
    let torn: Vec<u8> = [&stamped(&[(0, &value(0, 50))], 0, 1)[..], &[0xaa; 80]].concat();
    disk.write_file(&path("next-1.segment"), &torn).unwrap();
    let next = stamped(&[(0, &value(1, 50))], 1, 1);
    disk.write_file(&path("next-2.segment"), &next).unwrap();
    let log = TestLog::open(place(disk.clone()), synced(4096), 2);
    assert_eq!(log.entries(), numbered(0, 1, 50));
    assert_eq!(log.found.removed, ["next-2.segment"]);
    assert_eq!(log.found.cut.len(), 1);
    let log = TestLog::open(place(disk.after_power_cut()), synced(4096), 3);
    assert_eq!(log.entries(), numbered(0, 1, 50));
}

#[test]
fn second_open_changes_nothing() {
    let (disk, end) = five();
    write_behind(&disk, end, &[0xaa; 100]);
    drop(TestLog::open(place(disk.clone()), synced(1 << 20), 2));
    let names_before: Vec<_> = disk.list(DIRECTORY).unwrap();
    let before: Vec<_> = contents(&disk)
        .into_iter()
        .filter(|f| f.0 != "marks")
        .collect();
    drop(TestLog::open(place(disk.clone()), synced(1 << 20), 3));
    let after: Vec<_> = contents(&disk)
        .into_iter()
        .filter(|f| f.0 != "marks")
        .collect();
    assert!(before == after, "I23");
    assert_eq!(names_before, disk.list(DIRECTORY).unwrap());
}
