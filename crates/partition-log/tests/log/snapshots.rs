//! Snapshots are caches of the log: written when due, believed when whole, never above the log.

use partition_log::{PartitionConfig, snapshot};
use segment_storage::{Disk, Visibility, names};

use crate::harness::{
    Answer, World, dup, ok, p7, path, place, segment_path, snapshot_path, strict,
};

pub(crate) fn ten(world: &mut World) {
    for n in 0..10 {
        assert_eq!(world.send(p7(n, n)), ok(n));
    }
}

#[test]
fn case_084_snapshot_is_named_by_its_offset_and_read_back() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.send(p7(1, 1));
    world.commit();
    world.log.snapshot().unwrap();
    assert_eq!(world.snapshots(), [2]);
    let file = "t-0/00000000000000000002.snapshot";
    let bytes = world.disk.after_power_cut().read_file(file).unwrap();
    assert_eq!(&bytes[..4], &snapshot::MAGIC);
    let read = snapshot::read(&place(&world.disk), 2, strict().producers, |_| None).unwrap();
    let known = world.log.producers().get(7);
    assert!(known.is_some());
    assert_eq!(read.get(7), known);
}

#[test]
fn case_085_no_second_snapshot_where_nothing_was_appended() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.commit();
    world.log.snapshot().unwrap();
    let writes = world.disk.bytes_written();
    world.log.snapshot().unwrap();
    assert_eq!(world.snapshots(), [1]);
    assert_eq!(world.disk.bytes_written(), writes);
    world.reload();
    world.reload();
    assert_eq!(world.snapshots(), [1]);
}

#[test]
fn case_089_damaged_snapshots_are_removed_and_the_state_made_anew() {
    for (what, damage) in [
        (
            "emptied",
            (|bytes: &mut Vec<u8>| bytes.clear()) as fn(&mut Vec<u8>),
        ),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("garbage", |bytes| bytes.fill(0x5a)),
        ("a flipped bit", |bytes| bytes[25] ^= 1),
        ("longer", |bytes| bytes.push(0)),
    ] {
        let mut world = World::new(strict());
        for n in 0..4 {
            world.send(p7(n, n));
        }
        world.roll();
        for n in 4..8 {
            world.send(p7(n, n));
        }
        world.close();
        assert_eq!(world.snapshots(), [4, 8], "{what}");
        let expected = world.producers();
        for (damaged, left, used) in [(vec![8], vec![4], Some(4)), (vec![4, 8], vec![], None)] {
            let disk = world.disk.after_power_cut();
            for &offset in &damaged {
                let name = snapshot_path(offset);
                let mut bytes = disk.read_file(&name).unwrap();
                damage(&mut bytes);
                disk.write_file(&name, &bytes).unwrap();
            }
            let mut again = World::over(disk, strict());
            assert_eq!(again.producers(), expected, "{what}");
            assert_eq!(again.snapshots(), left, "{what}");
            assert_eq!(again.opened.producers.snapshot, used, "{what}");
            let mut reported = again.opened.producers.damaged.clone();
            reported.sort_unstable();
            assert_eq!(reported, damaged, "{what}");
            assert!(!again.opened.history_lost, "nothing was deleted");
            assert_eq!(again.send(p7(7, 7)), Answer::Dup(7, 7), "{what}");
        }
    }
}

#[test]
fn files_that_a_crash_left_unfinished_are_removed() {
    let mut world = World::new(strict());
    ten(&mut world);
    world.commit();
    let left = ["snapshot.tmp", "footer.tmp", "index.tmp"];
    let left = left.map(|end| path(&format!("00000000000000000007.{end}")));
    // Whose file this is nobody here can tell.
    let foreign = path("notes.tmp");
    for name in left.iter().chain([&foreign]) {
        world.disk.write_file(name, b"half of").unwrap();
    }
    world.kill();
    for name in &left {
        assert!(world.disk.read_file(name).is_err(), "{name}");
    }
    assert_eq!(world.disk.read_file(&foreign).unwrap(), b"half of");
    assert_eq!(world.send(p7(9, 9)), dup(9));
}

/// A log that begins at `start`, with the snapshots of all offsets given.
fn with_snapshots(start: u64, records: u64, offsets: &[u64]) -> World {
    let mut world = World::new(strict());
    for n in 0..i32::try_from(records).unwrap() {
        world.send(p7(n, n));
        if u64::try_from(n).unwrap() + 1 == start {
            world.roll();
        }
    }
    world.commit();
    let table = |world: &World, end: u64| {
        let view = world.log.reader().view().clone();
        partition_log::rebuild(&place(&world.disk), &view, &strict(), end.min(records), 0)
            .unwrap()
            .0
    };
    for &offset in offsets {
        // Beyond the log: what a snapshot of a longer log would be.
        let table = table(&world, offset);
        snapshot::write(&place(&world.disk), offset, &table).unwrap();
    }
    if start > 0 {
        world.delete_before(start);
    }
    // The deletion prunes too; put back what a crash before that would have left.
    for &offset in offsets {
        let table = table(&world, offset);
        snapshot::write(&place(&world.disk), offset, &table).unwrap();
    }
    world
}

#[test]
fn case_090_stray_snapshots_go_and_that_of_the_clean_close_stays() {
    for start in [0, 5] {
        let mut world = with_snapshots(start, 42, &[2, 5, 42]);
        world.kill();
        assert_eq!(world.snapshots(), [5, 42]);
    }
}

#[test]
fn case_091_snapshots_below_the_only_segment_go() {
    let mut world = with_snapshots(42, 50, &[2, 5, 42]);
    world.kill();
    assert_eq!(world.snapshots(), [42]);
    assert_eq!(world.opened.producers.snapshot, Some(42));
    assert!(!world.opened.history_lost);
    assert_eq!(world.send(p7(49, 49)), Answer::Dup(49, 49));
}

#[test]
fn case_092_snapshots_outside_of_the_log_go() {
    let mut world = with_snapshots(1, 3, &[1, 2, 3, 4, 5]);
    world.power_cut();
    assert_eq!(world.snapshots(), [2, 3]);
    assert_eq!(world.send(p7(2, 2)), Answer::Dup(2, 2));
    assert_eq!(world.send(p7(3, 3)), Answer::Ok(3, 3));
}

/// I20: the tail was lost, and with it what a snapshot remembers.
#[test]
fn snapshot_that_knows_more_than_the_log_is_never_used() {
    for visibility in [Visibility::Synced, Visibility::Written] {
        let mut world = World::new(PartitionConfig {
            visibility,
            ..strict()
        });
        world.send(p7(0, 0));
        world.commit();
        world.send(p7(1, 1));
        world.send(p7(2, 2));
        let table = partition_log::rebuild(
            &place(&world.disk),
            world.log.reader().view(),
            &world.config,
            3,
            0,
        )
        .unwrap()
        .0;
        snapshot::write(&place(&world.disk), 3, &table).unwrap();
        world.power_cut();
        assert_eq!(world.snapshots(), [0_u64; 0], "{visibility:?}");
        assert_eq!(world.opened.producers.snapshot, None);
        assert_eq!(world.window(7), [(0, 0)], "{visibility:?}");
        let next = world.log.next_offset();
        assert_eq!(world.send(p7(1, 1)), Answer::Ok(next, next));
        // Nor after the log has grown past its offset, should it come back.
        for n in 2..6 {
            world.send(p7(n, n).content(1));
        }
        world.commit();
        world.power_cut();
        assert_eq!(world.snapshots(), [0_u64; 0]);
        assert_eq!(world.window(7).last(), Some(&(5, 5)));
        let rejected = world.send(p7(2, 2));
        assert_eq!(rejected, Answer::Refused(87), "the new 2 has other content");
    }
}

#[test]
fn case_093_newest_batch_is_recognised_after_a_clean_close() {
    let mut world = World::new(strict());
    ten(&mut world);
    world.reload();
    assert_eq!(world.opened.producers.snapshot, Some(10));
    assert_eq!(world.opened.producers.replayed, 0);
    assert_eq!(world.send(p7(9, 9)), Answer::Dup(9, 9));
}

/// Kafka's snapshots have the newest batch alone; oncelog's have the window.
#[test]
fn case_094_whole_window_is_recognised_after_a_clean_close() {
    let mut world = World::new(strict());
    ten(&mut world);
    world.reload();
    assert_eq!(world.window(7).len(), 5);
    for n in 5..9 {
        assert_eq!(world.send(p7(n, n)), dup(n));
    }
    assert_eq!(world.send(p7(4, 4)), Answer::Refused(45));
    assert_eq!(world.send(p7(10, 10)), Answer::Ok(10, 10));
}

#[test]
fn case_095_state_is_rebuilt_by_a_scan_where_no_snapshot_is_left() {
    let mut world = World::new(strict());
    ten(&mut world);
    world.roll();
    world.send(p7(10, 10));
    world.commit();
    for offset in world.snapshots() {
        world.disk.remove(&snapshot_path(offset)).unwrap();
    }
    world.kill();
    assert_eq!(world.opened.producers.snapshot, None);
    assert_eq!(world.opened.producers.replayed, 11);
    for n in 6..11 {
        assert_eq!(world.send(p7(n, n)), dup(n));
    }
    assert_eq!(world.send(p7(5, 5)), Answer::Refused(45));
}

#[test]
fn case_096_torn_batch_is_cut_and_its_retry_is_new() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.commit();
    let end = usize::try_from(world.log.segments().active_bytes()).unwrap();
    world.send(p7(1, 1));
    let disk = world.disk.after_kill();
    let mut file = disk.read_file(&segment_path(0)).unwrap();
    file[end + 70..].fill(0);
    disk.write_file(&segment_path(0), &file).unwrap();
    world.reopen(disk);
    assert_eq!(world.opened.files.cut.len(), 1);
    assert_eq!(world.window(7), [(0, 0)]);
    assert_eq!(world.send(p7(1, 1)), Answer::Ok(1, 1));
    assert_eq!(world.send(p7(1, 1)), Answer::Dup(1, 1));
}

#[test]
fn case_098_batch_that_was_never_answered_is_recognised_after_a_crash() {
    for visibility in [Visibility::Synced, Visibility::Written] {
        let mut world = World::new(PartitionConfig {
            visibility,
            ..strict()
        });
        assert_eq!(world.send(p7(0, 4)), Answer::Ok(0, 4));
        // In the page cache, not synced, not answered.
        world.kill();
        assert_eq!(world.send(p7(0, 4)), Answer::Dup(0, 4));
    }
}

#[test]
fn case_099_roll_writes_a_snapshot_and_keeps_the_older() {
    let mut world = World::new(strict());
    world.send(p7(0, 0).bytes(2000));
    world.roll();
    assert_eq!(world.snapshots(), [1]);
    world.send(p7(1, 1).bytes(2000));
    world.roll();
    assert_eq!(world.snapshots(), [1, 2]);
    // A commit inside of the active segment changes nothing.
    world.send(p7(2, 2));
    world.commit();
    assert_eq!(world.snapshots(), [1, 2]);
    let names = world.disk.after_power_cut().list("t-0").unwrap();
    assert!(
        names.iter().any(|e| e.name == names::snapshot(2)),
        "durable"
    );
}

/// R15: mark and snapshot do not wait for each other. The row's point is that nothing is lost.
#[test]
fn case_100_failed_snapshot_loses_nothing() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.commit();
    world.log.segments_mut().roll();
    world.send(p7(1, 1));
    world.commit_without_snapshots();
    assert_eq!(world.snapshots(), [0_u64; 0]);
    let mark = world.log.segments().marks().mark().unwrap();
    assert_eq!((mark.segment_base, mark.next_offset), (1, 2));
    for power_cut in [false, true] {
        let mut again = World::over(
            if power_cut {
                world.disk.after_power_cut()
            } else {
                world.disk.after_kill()
            },
            strict(),
        );
        assert_eq!(again.send(p7(0, 0)), Answer::Dup(0, 0));
        assert_eq!(again.send(p7(1, 1)), Answer::Dup(1, 1));
    }
}

impl World {
    /// A commit during which every write of a snapshot fails.
    fn commit_without_snapshots(&mut self) {
        for item in self.log.segments().begin_sync(true) {
            item.sync().unwrap();
            self.log.segments_mut().synced(&item);
        }
        while let Some(segment) = self.log.segments().to_seal() {
            segment.cut().unwrap();
            segment
                .write_footer(segment_storage::Check::Headers)
                .unwrap();
            self.disk.fail_next_write(std::io::ErrorKind::StorageFull);
            assert!(
                self.log
                    .snapshotter()
                    .after_seal(&segment, self.now)
                    .is_err()
            );
            self.log.segments_mut().sealed(&segment);
            if let Some(mark) = self.log.segments().mark_now() {
                self.log.segments().marks().write_mark(&mark).unwrap();
                self.log.segments().marks().sync().unwrap();
            }
        }
    }
}

/// Due when the log has grown by four times the last snapshot's size.
#[test]
fn snapshot_is_due_by_what_was_sealed_since() {
    let mut world = World::new(strict());
    // Many producers make a large snapshot.
    for id in 0..100 {
        world.send(p7(0, 0).of(id));
    }
    world.roll();
    assert_eq!(world.snapshots(), [100]);
    let bytes = world.disk.read_file(&snapshot_path(100)).unwrap().len();
    assert!(bytes > 4000, "{bytes}");
    let sealed_before = |world: &World, base: u64| {
        let segments = world.log.reader().view().segments();
        let sealed = segments.iter().filter_map(|s| s.footer().copied());
        sealed
            .filter(|f| f.base_offset >= base)
            .map(|f| f.bytes)
            .sum::<u64>()
    };
    let mut rolls = 0;
    while world.snapshots() == [100] {
        let grown = sealed_before(&world, 100);
        assert!(grown < 4 * bytes as u64, "{grown} of {bytes}");
        let n = i32::try_from(rolls).unwrap();
        world.send(p7(1 + n, 1 + n).bytes(3000));
        world.roll();
        rolls += 1;
    }
    assert!(sealed_before(&world, 100) >= 4 * bytes as u64);
    assert!(rolls > 3, "{rolls}");
    assert_eq!(world.snapshots(), [100, 100 + rolls]);
    let expected = world.producers();
    world.kill();
    assert_eq!(world.opened.producers.snapshot, Some(100 + rolls));
    assert_eq!(world.producers(), expected);
}

#[test]
fn snapshot_in_the_middle_of_a_batch_counts_it_once() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.send(p7(1, 9));
    world.send(p7(10, 10));
    world.commit();
    let expected = world.window(7);
    world.delete_before(5);
    assert_eq!(world.snapshots(), [5]);
    world.kill();
    assert_eq!(world.opened.producers.snapshot, Some(5));
    assert_eq!(world.opened.producers.replayed, 1);
    assert_eq!(world.window(7), expected);
    assert_eq!(world.send(p7(1, 9)), Answer::Dup(1, 9));
    assert!(world.disk.read_file(&path("marks")).is_ok());
}
