//! Expiry, deletion of the front, and what is known afterwards.

use partition_log::PartitionConfig;
use segment_storage::{Disk, names, truncate};

use crate::harness::{Answer, DAY, World, kafka, p7, place, snapshot_path, strict};

#[test]
fn case_107_producer_expires_after_the_period_and_not_before() {
    let mut world = World::new(strict());
    world.advance(5_000);
    world.send(p7(0, 0));
    world.advance(DAY - 1);
    assert_eq!(world.log.expire_producers(world.now), 0);
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
    world.advance(1);
    assert_eq!(world.log.expire_producers(world.now), 1);
    assert!(world.log.producers().get(7).is_none());
    assert_eq!(world.log.producers().forgotten_below(), 7);
}

#[test]
fn case_108_expired_producer_is_new_to_kafka_and_refused_strictly() {
    for (config, continuing, late) in [
        (kafka(), Answer::Ok(1, 1), Answer::Ok(1, 1)),
        // I18: whether it was appended before can no longer be told.
        (strict(), Answer::Refused(45), Answer::Refused(45)),
    ] {
        for (sent, expected) in [(p7(1, 1), continuing), (p7(0, 0), late)] {
            let mut world = World::new(config.clone());
            world.send(p7(0, 0));
            world.advance(DAY);
            world.log.expire_producers(world.now);
            assert_eq!(world.send(sent), expected);
            // Ids above were never known, so they cannot have been forgotten.
            let next = world.log.next_offset();
            assert_eq!(world.send(p7(0, 0).of(8)), Answer::Ok(next, next));
        }
    }
}

/// Both are remembered over restarts: that the id was forgotten, and that others were not.
#[test]
fn case_111_expired_entry_of_a_snapshot_is_absent_after_a_reload() {
    for (config, expected) in [(kafka(), Answer::Ok(3, 3)), (strict(), Answer::Refused(45))] {
        let mut world = World::new(config);
        world.send(p7(0, 0));
        world.send(p7(1, 1));
        world.advance(1000);
        world.send(p7(0, 0).of(9));
        world.close();
        world.advance(DAY - 1000);
        world.reopen(world.disk.after_power_cut());
        assert!(world.log.producers().get(7).is_none());
        assert!(world.log.producers().get(9).is_some());
        assert_eq!(world.send(p7(2, 2)), expected);
        assert_eq!(world.log.producers().forgotten_below(), 7);
        world.close();
        world.reopen(world.disk.after_power_cut());
        assert_eq!(world.log.producers().forgotten_below(), 7);
    }
}

#[test]
fn forgotten_bound_is_in_snapshots_beside_a_running_log_too() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.roll();
    world.advance(DAY);
    assert_eq!(world.log.expire_producers(world.now), 1);
    world.send(p7(0, 0).of(9).bytes(3000));
    world.roll();
    assert_eq!(world.snapshots(), [1, 2]);
    world.delete_before(2);
    world.kill();
    assert_eq!(world.log.producers().forgotten_below(), 7);
    assert_eq!(world.send(p7(0, 0)), Answer::Refused(45));
}

/// Even where the replay behind the snapshot finds the batches of the forgotten.
#[test]
fn forgotten_bound_is_kept_where_the_log_still_has_the_batches() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.commit();
    world.advance(DAY);
    assert_eq!(world.log.expire_producers(world.now), 1);
    world.send(p7(0, 0).of(9));
    world.roll();
    assert_eq!(world.snapshots(), [2]);
    world.kill();
    assert_eq!(world.opened.producers.snapshot, Some(2));
    assert_eq!(world.log.producers().forgotten_below(), 7);
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
    assert_eq!(world.send(p7(0, 0).of(5)), Answer::Refused(45));
}

/// I31: timestamps of records are data; Kafka expires by them.
#[test]
fn case_112_back_dated_records_expire_nobody() {
    let mut world = World::new(strict());
    let two_days = i64::try_from(2 * DAY).unwrap();
    world.send(p7(0, 0).at(world.now.wall_ms - two_days));
    world.send(p7(0, 0).of(8).at(world.now.wall_ms + two_days));
    assert_eq!(world.log.expire_producers(world.now), 0);
    assert_eq!(
        world.send(p7(0, 0).at(world.now.wall_ms - two_days)),
        Answer::Dup(0, 0)
    );
    // Nor does a wall clock that jumps.
    world.now.wall_ms += 10 * two_days;
    assert_eq!(world.log.expire_producers(world.now), 0);
    // And what is dated ahead is kept no longer.
    world.advance(DAY);
    assert_eq!(world.log.expire_producers(world.now), 2);
}

#[test]
fn case_113_deleting_a_segment_forgets_nobody() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.send(p7(1, 1));
    world.roll();
    world.send(p7(0, 0).of(8));
    world.commit();
    world.delete_before(2);
    assert_eq!(world.log.reader().log_start_offset(), 2);
    assert!(
        world
            .disk
            .read_file("t-0/00000000000000000000.log")
            .is_err()
    );
    assert_eq!(world.send(p7(1, 1)), Answer::Dup(1, 1));
    assert_eq!(world.send(p7(2, 2)), Answer::Ok(3, 3));
}

/// Kafka forgets P7 here, and appends its next batch whatever the sequence. By I18 a producer is
/// forgotten by expiry alone: the snapshot that deletion writes keeps it.
#[test]
fn case_114_producer_of_deleted_data_is_known_after_a_crash() {
    for power_cut in [false, true] {
        let mut world = World::new(strict());
        world.send(p7(0, 0));
        world.roll();
        world.send(p7(0, 0).of(8));
        world.commit();
        // Snapshots of rolls might be gone.
        for offset in world.snapshots() {
            partition_log::snapshot::remove(&place(&world.disk), offset).unwrap();
        }
        world.delete_before(1);
        if power_cut {
            world.power_cut();
        } else {
            world.kill();
        }
        assert!(!world.opened.history_lost);
        assert_eq!(world.log.reader().log_start_offset(), 1);
        assert_eq!(world.send(p7(0, 0).of(8)), Answer::Dup(1, 1));
        assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
        assert_eq!(world.send(p7(5, 5)), Answer::Refused(45));
        assert_eq!(world.send(p7(1, 1)), Answer::Ok(2, 2));
    }
}

#[test]
fn case_115_start_inside_of_the_only_segment_forgets_nobody() {
    for with_snapshot in [true, false] {
        let mut world = World::new(strict());
        world.send(p7(0, 0));
        world.send(p7(0, 0).of(8));
        world.commit();
        world.delete_before(1);
        if !with_snapshot {
            world.disk.remove_all_snapshots();
        }
        world.kill();
        assert_eq!(world.log.reader().log_start_offset(), 1);
        // What is below the start is still in the file, so without a snapshot nothing is lost.
        assert!(!world.opened.history_lost);
        assert_eq!(world.send(p7(0, 0).of(8)), Answer::Dup(1, 1));
        assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
        assert_eq!(world.values().len(), 1);
    }
}

trait RemoveSnapshots {
    fn remove_all_snapshots(&self);
}

impl RemoveSnapshots for segment_storage::MemoryDisk {
    fn remove_all_snapshots(&self) {
        partition_log::snapshot::remove_where(&place(self), |_| true).unwrap();
    }
}

#[test]
fn case_116_retention_leaves_one_snapshot() {
    let mut world = World::new(strict());
    for n in 0..3 {
        world.send(p7(n, n).bytes(2000));
        if n < 2 {
            world.roll();
        }
    }
    world.commit();
    assert_eq!(world.snapshots(), [1, 2]);
    // Two of three segments.
    world.delete_before(2);
    assert_eq!(world.snapshots(), [2]);
    assert_eq!(world.log.reader().log_start_offset(), 2);
    assert_eq!(world.log.reader().view().segments().len(), 1);
    world.send(p7(3, 3));
    world.commit();
    // And all but what the active one has yet to hold.
    world.delete_before(4);
    assert_eq!(world.snapshots(), [4]);
    world.power_cut();
    assert_eq!(world.snapshots(), [4]);
    assert!(!world.opened.history_lost);
    assert_eq!(world.values(), []);
    assert_eq!(world.send(p7(3, 3)), Answer::Dup(3, 3));
    assert_eq!(world.send(p7(4, 4)), Answer::Ok(4, 4));
}

#[test]
#[should_panic(expected = "below the published end")]
fn case_117_start_above_the_high_watermark_is_refused() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.send(p7(1, 1));
    world.commit();
    world.send(p7(2, 2));
    assert_eq!(world.log.reader().high_watermark(), 2);
    // The caller answers 1 OFFSET_OUT_OF_RANGE; a start that got here all the same is its error.
    world.delete_before(3);
}

/// I18: what covered the deleted data is damaged. Nobody who may have been in it starts again.
#[test]
fn lost_history_refuses_every_id_that_was_handed_out() {
    for config in [strict(), kafka()] {
        let mut world = World::new(config);
        world.bound = 100;
        world.send(p7(0, 0));
        world.roll();
        world.send(p7(0, 0).of(8));
        world.commit();
        world.delete_before(1);
        for offset in world.snapshots() {
            world.disk.corrupt(&snapshot_path(offset), 30, 1).unwrap();
        }
        world.kill();
        assert!(world.opened.history_lost);
        assert!(world.log.is_history_lost());
        // Still in the log.
        assert_eq!(world.send(p7(0, 0).of(8)), Answer::Dup(1, 1));
        assert_eq!(world.send(p7(1, 1).of(8)), Answer::Ok(2, 2));
        for sequence in [0, 1, 5] {
            for id in [7, 9, 99] {
                let sent = p7(sequence, sequence).of(id);
                assert_eq!(world.send(sent), Answer::Refused(45), "id {id}, {sequence}");
            }
        }
        // Handed out since.
        assert_eq!(world.send(p7(0, 0).of(100)), Answer::Ok(3, 3));
        // It stays so, although there is a whole snapshot now.
        world.bound = 200;
        world.reload();
        assert_eq!(world.send(p7(0, 0)), Answer::Refused(45));
        assert_eq!(world.send(p7(0, 0).of(150)), Answer::Ok(4, 4));
    }
}

/// An older snapshot than what was deleted does not cover it.
#[test]
fn older_snapshot_does_not_make_up_for_deleted_data() {
    let mut world = World::new(strict());
    world.bound = 100;
    world.send(p7(0, 0));
    world.roll();
    let old = world.disk.read_file(&snapshot_path(1)).unwrap();
    world.send(p7(0, 0).of(8).bytes(5000));
    world.roll();
    world.send(p7(0, 0).of(9));
    world.commit();
    world.delete_before(2);
    for offset in world.snapshots() {
        world.disk.corrupt(&snapshot_path(offset), 30, 1).unwrap();
    }
    world.disk.write_file(&snapshot_path(1), &old).unwrap();
    world.kill();
    assert_eq!(world.opened.producers.snapshot, Some(1));
    assert!(world.opened.history_lost);
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
    assert_eq!(world.send(p7(0, 0).of(8)), Answer::Refused(45));
}

#[test]
fn nothing_is_lost_where_nothing_was_deleted() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.roll();
    world.send(p7(1, 1));
    world.commit();
    world.disk.remove_all_snapshots();
    world.kill();
    assert!(!world.opened.history_lost);
    assert_eq!(world.log.producers().forgotten_below(), -1);
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
    assert_eq!(world.send(p7(0, 0).of(8)), Answer::Ok(2, 2));
}

/// R15: a snapshot never remembers what may still be lost, also when deletion asks for one.
#[test]
fn deletion_before_the_sync_remembers_only_what_is_durable() {
    let mut world = World::new(PartitionConfig {
        visibility: segment_storage::Visibility::Written,
        ..strict()
    });
    world.send(p7(0, 0));
    world.commit();
    world.send(p7(1, 1));
    world.send(p7(2, 2));
    world.delete_before(3);
    assert!(world.snapshots().iter().all(|&offset| offset <= 1));
    world.power_cut();
    assert_eq!(world.window(7), [(0, 0)]);
    // Lost, though it was deleted: the producer is told of the gap (I8).
    assert_eq!(world.send(p7(3, 3)), Answer::Refused(45));
    let next = world.log.next_offset();
    assert_eq!(world.send(p7(1, 1)), Answer::Ok(next, next));
}

#[test]
fn retired_producer_does_not_raise_the_bound() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.log.retire_producer(7);
    assert!(world.log.producers().get(7).is_none());
    assert_eq!(world.log.producers().forgotten_below(), -1);
}

#[test]
fn truncation_and_deletion_go_together() {
    let mut world = World::new(strict());
    for n in 0..6 {
        world.send(p7(n, n));
        if n % 2 == 1 {
            world.roll();
        }
    }
    world.delete_before(3);
    world.close();
    assert_eq!(truncate(&place(&world.disk), 5).unwrap(), 5);
    world.kill();
    assert!(!world.opened.history_lost);
    assert_eq!(world.send(p7(4, 4)), Answer::Dup(4, 4));
    assert_eq!(world.send(p7(5, 5)), Answer::Ok(5, 5));
    assert!(
        world
            .disk
            .read_file(&format!("t-0/{}", names::segment(0)))
            .is_err()
    );
}

/// Segments of 1, 1 and 8 batches of producers 7 and 8, and an active one; snapshots as given.
fn full_disk(snapshots: impl Fn(u64) -> bool) -> World {
    let mut world = World::new(strict());
    for (from, to) in [(0, 1), (1, 2), (2, 10), (10, 11)] {
        for n in from..to {
            let sent = p7(n / 2, n / 2).of(7 + i64::from(n % 2)).bytes(500);
            assert!(matches!(world.send(sent), Answer::Ok(_, _)));
        }
        if to < 11 {
            world.roll();
        }
    }
    world.commit();
    partition_log::snapshot::remove_where(&place(&world.disk), |o| !snapshots(o)).unwrap();
    world.disk.set_free_bytes(0);
    world
}

fn segments(world: &World) -> Vec<u64> {
    let entries = world.disk.list("t-0").unwrap();
    let bases = entries
        .iter()
        .filter_map(|e| names::offset_of(&e.name, "log"));
    bases.collect()
}

/// I13 and I18 at once.
#[test]
fn deleting_on_a_full_disk_frees_space_and_forgets_nobody() {
    // What snapshot 2 covers goes, and makes room for one that covers the rest.
    for kept in [vec![2], vec![10], vec![2, 10]] {
        let mut world = full_disk(|offset| kept.contains(&offset));
        assert_eq!(world.snapshots(), kept);
        let before = world.producers();
        world.delete_before(10);
        assert_eq!(world.log.reader().log_start_offset(), 10);
        assert_eq!(segments(&world), [10], "{kept:?}");
        assert!(world.disk.free_bytes().unwrap() > 4_000, "{kept:?}");
        for crash in [World::kill, World::power_cut] {
            crash(&mut world);
            assert!(!world.opened.history_lost, "{kept:?}");
            assert_eq!(world.producers(), before, "{kept:?}");
            assert_eq!(world.values().len(), 1, "{kept:?}");
        }
    }
}

/// Without any snapshot, the indexes of what goes make room for one: they are caches.
#[test]
fn indexes_make_room_for_a_snapshot() {
    let mut world = World::new(strict());
    for n in 0..20 {
        world.send(p7(n, n).bytes(9_000));
    }
    world.roll();
    world.send(p7(20, 20));
    world.commit();
    world.disk.remove_all_snapshots();
    world.disk.set_free_bytes(0);
    world.delete_before(20);
    assert_eq!(segments(&world), [20]);
    assert_eq!(world.snapshots(), [20]);
    world.power_cut();
    assert!(!world.opened.history_lost);
    assert_eq!(world.send(p7(16, 16).bytes(9_000)), Answer::Dup(16, 16));
    assert_eq!(world.send(p7(20, 20)), Answer::Dup(20, 20));
    assert_eq!(world.send(p7(22, 22)), Answer::Refused(45));
}

/// Where there is no space even for that, nothing is lost: what must stay goes later.
#[test]
fn what_a_full_disk_keeps_from_going_goes_when_there_is_space() {
    for later in [0, 1, 2] {
        let mut world = full_disk(|_| false);
        for base in [0, 1, 2] {
            world
                .disk
                .remove(&format!("t-0/{}", names::index(base)))
                .unwrap();
        }
        world.disk.set_free_bytes(0);
        let before = world.producers();
        world.delete_before(10);
        assert_eq!(world.log.reader().log_start_offset(), 10);
        assert_eq!(world.values().len(), 1);
        assert_eq!(segments(&world), [0, 1, 2, 10]);
        world.disk.set_free_bytes(10_000);
        match later {
            0 => world.delete_before(10),
            1 => world.delete_before(3),
            _ => world.kill(),
        }
        assert_eq!(segments(&world), [10], "{later}");
        assert_eq!(world.log.reader().log_start_offset(), 10);
        world.power_cut();
        assert!(!world.opened.history_lost);
        assert_eq!(world.producers(), before, "{later}");
        assert_eq!(world.values().len(), 1);
    }
}

/// A snapshot that cannot be read covers nothing.
#[test]
fn damaged_snapshot_lets_nothing_go_on_a_full_disk() {
    let mut world = full_disk(|offset| offset == 2);
    world.disk.corrupt(&snapshot_path(2), 30, 1).unwrap();
    for base in [0, 1, 2] {
        world
            .disk
            .remove(&format!("t-0/{}", names::index(base)))
            .unwrap();
    }
    world.disk.set_free_bytes(0);
    let before = world.producers();
    world.delete_before(10);
    assert_eq!(segments(&world), [0, 1, 2, 10]);
    world.kill();
    assert!(!world.opened.history_lost);
    assert_eq!(world.producers(), before);
}
