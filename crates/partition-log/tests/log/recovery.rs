//! Crashes, losses and damage, as producers and readers see them.

use partition_log::{AppendError, PartitionConfig, ProducerConfig, Rejection};
use record_batch::{ControlKind, ControlRecord, control_batch};
use segment_storage::{ReadError, Visibility, names};

use crate::harness::{Answer, World, dup, kafka, ok, p7, segment_path, snapshot_path, strict};

fn written() -> PartitionConfig {
    PartitionConfig {
        visibility: Visibility::Written,
        ..strict()
    }
}

/// Kafka truncates at the damage and deletes the segments behind it. By I24 and R13 that is
/// corruption: it lies below the stable mark, so nothing is given up.
#[test]
fn case_097_damage_in_the_second_of_four_segments_removes_nothing() {
    let mut world = World::new(strict());
    for n in 0..4 {
        world.send(p7(2 * n, 2 * n).bytes(2000));
        world.send(p7(2 * n + 1, 2 * n + 1).bytes(2000));
        if n < 3 {
            world.roll();
        }
    }
    world.commit();
    let snapshots = world.snapshots();
    let before = world.log.reader().view().segments().len();
    let disk = world.disk.after_power_cut();
    let mut file = disk.read_file(&segment_path(2)).unwrap();
    file.truncate(3000);
    disk.write_file(&segment_path(2), &file).unwrap();
    world.reopen(disk);
    let corruption = world.opened.files.corruption.clone().unwrap();
    assert_eq!(corruption.file, format!("memory:{}", segment_path(2)));
    assert_eq!(world.log.corruption(), Some(&corruption));
    assert_eq!(world.log.reader().view().segments().len(), before);
    assert_eq!(world.snapshots(), snapshots);

    // Refused with a text that says what to do, also a repeat.
    for sent in [p7(8, 8), p7(7, 7)] {
        let error = world.try_send(sent).unwrap_err();
        assert!(matches!(error, AppendError::Corrupted(_)), "{error}");
        assert_eq!(error.kafka_code(), 56);
    }
    let error = world.replicate(&p7(8, 8).replicated(8)).unwrap_err();
    assert!(matches!(error, AppendError::Corrupted(_)), "{error}");
    assert!(world.log.delete_before(1, world.now).is_err());
    world.log.snapshot().unwrap();
    assert_eq!(
        world.snapshots(),
        snapshots,
        "what is not known is not remembered"
    );

    // Readable on both sides of the damage.
    let reader = world.log.reader();
    let mut offsets = Vec::new();
    let mut cursor = segment_storage::Cursor::at(0);
    loop {
        match reader.read(&mut cursor, 1) {
            Ok(Some(_)) => offsets.push(cursor.offset - 1),
            Ok(None) => break,
            Err(error) => {
                assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
                let next = reader.view().next_readable(cursor.offset).unwrap();
                cursor = segment_storage::Cursor::at(next);
            }
        }
    }
    assert_eq!(offsets, [0, 1, 2, 4, 5, 6, 7]);
}

/// F7: bit rot in a header that no scan of the open looks at would make another sequence of it.
#[test]
fn damage_that_the_replay_meets_is_corruption() {
    for byte in [53 + 3, 43 + 7, 100] {
        let mut world = World::new(strict());
        world.send(p7(0, 0).bytes(300));
        world.send(p7(1, 1).bytes(300));
        world.roll();
        world.send(p7(2, 2));
        world.close();
        for offset in world.snapshots() {
            world.disk.corrupt(&snapshot_path(offset), 30, 1).unwrap();
        }
        world.disk.corrupt(&segment_path(0), byte, 1).unwrap();
        world.reopen(world.disk.after_power_cut());
        let corruption = world.log.corruption().unwrap().clone();
        assert_eq!(corruption.position, 0, "{corruption}");
        assert!(matches!(
            world.try_send(p7(3, 3)),
            Err(AppendError::Corrupted(_))
        ));
        // With the snapshot, nobody needs that batch; a reader still meets the damage.
    }
}

/// I8: an idempotent producer whose tail was lost gets a gap error with both numbers.
#[test]
fn lost_tail_is_a_gap_for_its_producer() {
    let mut world = World::new(written());
    world.send(p7(0, 0));
    world.commit();
    world.send(p7(1, 1));
    world.send(p7(2, 2));
    world.power_cut();
    let (from, to) = world.opened.files.lost.unwrap();
    assert_eq!(from, 1);
    assert!(to >= 3, "I9: 1 and 2 were shown");
    let error = world.try_send(p7(3, 3)).unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::Rejected(Rejection::OutOfOrder {
                expected: 1,
                got: 3,
                ..
            })
        ),
        "{error}"
    );
    let next = world.log.next_offset();
    assert_eq!(next, to);
    assert_eq!(world.send(p7(1, 1)), Answer::Ok(next, next));
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
}

/// I8: ids whose whole history may be what was lost are judged strictly, whatever the policy.
#[test]
fn unknown_ids_are_judged_strictly_after_a_loss() {
    let mut world = World::new(PartitionConfig {
        visibility: Visibility::Written,
        ..kafka()
    });
    world.bound = 50;
    world.send(p7(0, 0));
    world.send(p7(1, 1));
    world.power_cut();
    assert!(world.opened.files.lost.is_some());
    assert!(world.log.producers().get(7).is_none());
    assert_eq!(world.send(p7(2, 2)), Answer::Refused(45));
    assert_eq!(world.send(p7(3, 3).of(49)), Answer::Refused(45));
    // Handed out after the open: nothing of it can have been lost.
    let next = world.log.next_offset();
    assert_eq!(world.send(p7(3, 3).of(50)), Answer::Ok(next, next));
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(next + 1, next + 1));
    // Over restarts, clean ones included.
    world.bound = 60;
    world.reload();
    assert_eq!(world.log.producers().strict_below(), 50);
    assert_eq!(world.send(p7(4, 4).of(48)), Answer::Refused(45));
    let next = world.log.next_offset();
    assert_eq!(world.send(p7(9, 9).of(55)), Answer::Ok(next, next));
}

#[test]
fn nothing_is_strict_where_nothing_was_lost() {
    let mut world = World::new(kafka());
    world.send(p7(0, 0));
    world.commit();
    world.power_cut();
    assert_eq!(world.opened.files.lost, None);
    assert_eq!(world.log.producers().strict_below(), 0);
    assert_eq!(world.send(p7(5, 5).of(8)), Answer::Ok(1, 1));
}

fn log_append_time() -> PartitionConfig {
    PartitionConfig {
        log_append_time: true,
        ..strict()
    }
}

/// The log's own time is in the checksum; a repeat is judged without it.
#[test]
fn true_repeat_is_a_duplicate_in_a_log_with_its_own_time() {
    for with_snapshot in [true, false] {
        let mut world = World::new(log_append_time());
        for n in 0..5 {
            assert_eq!(world.send(p7(n, n)), ok(n));
            world.now.wall_ms += 1000;
        }
        for round in 0..2 {
            for n in 0..5 {
                assert_eq!(world.send(p7(n, n)), dup(n), "{round}");
                // The producer's own times are replaced, so they are no other content.
                assert_eq!(world.send(p7(n, n).at(5)), dup(n));
                assert_eq!(
                    world.send(p7(n, n).content(1)),
                    Answer::Refused(87),
                    "{round}"
                );
            }
            if with_snapshot {
                world.reload();
                assert_eq!(world.opened.producers.replayed, 0);
            } else {
                world.commit();
                world.power_cut();
                assert_eq!(world.opened.producers.snapshot, None);
            }
        }
        let reader = world.log.reader();
        let first = world.now.wall_ms - 5000;
        assert_eq!(
            reader.offset_for_timestamp(first + 2000).unwrap(),
            Some((2, first + 2000))
        );
    }
}

fn marker(kind: ControlKind, epoch: i16, base_offset: u64) -> Vec<u8> {
    let control = ControlRecord {
        kind,
        coordinator_epoch: 4,
    };
    let mut batch = control_batch(7, epoch, control, 1_000);
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch
}

#[test]
fn control_batches_are_stored_and_take_effect_again_after_a_replay() {
    for with_snapshot in [true, false] {
        let mut world = World::new(strict());
        world.send(p7(0, 0));
        world.replicate(&marker(ControlKind::Commit, 0, 1)).unwrap();
        assert_eq!(world.window(7), [(0, 0)]);
        // A marker with a higher epoch fences, and its epoch begins at 0.
        world.replicate(&marker(ControlKind::Abort, 2, 2)).unwrap();
        world.send(p7(0, 0).of(8));
        for _ in 0..2 {
            let view = world.log.producers().get(7).unwrap();
            assert_eq!((view.epoch, view.coordinator_epoch), (2, 4));
            assert_eq!(view.window, []);
            assert_eq!(world.send(p7(1, 1)), Answer::Refused(47));
            assert_eq!(world.send(p7(1, 1).epoch(2)), Answer::Refused(45));
            if with_snapshot {
                world.reload();
            } else {
                world.commit();
                world.power_cut();
            }
        }
        assert_eq!(world.values().len(), 4, "readers get control batches too");
        assert_eq!(world.send(p7(0, 0).epoch(2)), Answer::Ok(4, 4));
        assert_eq!(world.send(p7(0, 0).of(8)), Answer::Dup(3, 3));
    }
}

#[test]
fn sequences_wrap_over_a_restart() {
    let mut world = World::new(strict());
    world
        .replicate(&p7(i32::MAX - 10, 9).replicated(0))
        .unwrap();
    for _ in 0..2 {
        assert_eq!(world.window(7), [(i32::MAX - 10, 9)]);
        assert_eq!(world.send(p7(i32::MAX - 10, 9)), Answer::Dup(0, 20));
        world.kill();
    }
    world.reload();
    assert_eq!(world.window(7), [(i32::MAX - 10, 9)]);
    assert_eq!(world.send(p7(10, 10)), Answer::Ok(21, 21));
}

#[test]
fn wider_windows_and_their_narrowing_survive_a_restart() {
    let wide = PartitionConfig {
        producers: ProducerConfig {
            window: 50,
            ..strict().producers
        },
        ..strict()
    };
    let mut world = World::new(wide);
    for n in 0..60 {
        world.send(p7(n, n));
    }
    world.reload();
    assert_eq!(world.window(7).len(), 50);
    assert_eq!(world.send(p7(10, 10)), Answer::Dup(10, 10));
    world.config = strict();
    world.reload();
    assert_eq!(world.window(7).len(), 5);
    assert_eq!(world.send(p7(54, 54)), Answer::Refused(45));
    assert_eq!(world.send(p7(55, 55)), Answer::Dup(55, 55));
}

/// I10, I11: no answer of "duplicate" for what the disk does not have.
#[test]
fn batch_of_a_failed_sync_is_not_remembered() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.commit();
    world.send(p7(1, 1));
    world.disk.fail_syncs(1);
    let items = world.log.segments().begin_sync(true);
    let error = items[0].sync().unwrap_err();
    world.log.segments().latch().close("t-0", "sync", &error);
    assert_eq!(world.send(p7(1, 1)), Answer::Refused(56));
    assert_eq!(world.send(p7(0, 0)), Answer::Refused(56));
    // The page cache still shows it.
    world.kill();
    assert_eq!(world.window(7), [(0, 0)]);
    assert_eq!(world.send(p7(1, 1)), Answer::Ok(1, 1));
}

#[test]
fn time_is_found_per_record_and_past_batches_that_promise_too_much() {
    let mut world = World::new(strict());
    // A producer may claim any largest time: the header says 9,000, no record has it.
    let mut lying = p7(0, 2).at(1_000).batch();
    lying[35..43].copy_from_slice(&9_000i64.to_be_bytes());
    let crc = record_batch::crc32c(&lying[21..]);
    lying[17..21].copy_from_slice(&crc.to_be_bytes());
    world.feed_and_put(&lying);
    world.send(p7(3, 5).at(2_000));
    world.send(p7(6, 6).at(9_500));
    world.commit();
    let reader = world.log.reader();
    assert_eq!(reader.offset_for_timestamp(500).unwrap(), Some((0, 1_000)));
    assert_eq!(
        reader.offset_for_timestamp(1_001).unwrap(),
        Some((3, 2_000))
    );
    assert_eq!(
        reader.offset_for_timestamp(2_001).unwrap(),
        Some((6, 9_500))
    );
    assert_eq!(reader.offset_for_timestamp(9_501).unwrap(), None);
    // A start in the middle of a batch, and one whose rest has no such time.
    world.delete_before(4);
    let reader = world.log.reader();
    assert_eq!(reader.offset_for_timestamp(0).unwrap(), Some((4, 2_000)));
    world.send(p7(7, 7).at(1));
    world.commit();
    assert_eq!(
        world.log.reader().offset_for_timestamp(9_000).unwrap(),
        Some((6, 9_500))
    );
}

impl World {
    fn feed_and_put(&mut self, batch: &[u8]) {
        self.put(batch).unwrap_err();
        self.feed().unwrap();
        self.put(batch).unwrap();
    }
}

#[test]
fn damaged_marks_and_foreign_ones_are_errors_of_the_open() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.close();
    let disk = world.disk.after_power_cut();
    disk.corrupt("t-0/marks", 30, 1).unwrap();
    disk.corrupt("t-0/marks", 512 + 30, 1).unwrap();
    let context = partition_log::OpenContext {
        generation: 9,
        now: world.now,
        producer_id_bound: 0,
    };
    let place = crate::harness::place(&disk);
    let error = partition_log::PartitionLog::open(place, strict(), context)
        .err()
        .unwrap();
    assert!(error.to_string().contains("damaged"), "{error}");
    let mut place = crate::harness::place(&world.disk);
    place.log_id += 1;
    let error = partition_log::PartitionLog::open(place, strict(), context)
        .err()
        .unwrap();
    assert!(error.to_string().contains("belongs to log"), "{error}");
    assert_eq!(names::segment(0).len(), 24);
}
