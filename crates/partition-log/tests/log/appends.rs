//! What a partition takes, refuses and keeps: format rows, replicated appends, failed writes.

use std::io;

use partition_log::{AppendError, PartitionConfig, Rejection};
use record_batch::{Batch, ControlKind, ControlRecord, control_batch};
use segment_storage::{Visibility, WriteError};

use crate::harness::{Answer, World, kafka, p7, segment_path, strict};

fn state(world: &World) -> (u64, u64, Vec<partition_log::ProducerView>) {
    let log = &world.log;
    (log.next_offset(), log.map_end_offset(), world.producers())
}

#[test]
fn case_014_batch_above_the_message_limit_is_refused_and_replicated_is_accepted() {
    let batch = p7(0, 0).bytes(500).batch();
    let config = PartitionConfig {
        batch_bytes_max: batch.len() - 1,
        ..strict()
    };
    let mut world = World::new(config);
    let before = state(&world);
    let error = world.try_send(p7(0, 0).bytes(500)).unwrap_err();
    assert!(
        matches!(error, AppendError::TooLarge { bytes, limit } if bytes == batch.len() && limit == bytes - 1),
        "{error}"
    );
    assert_eq!(error.kafka_code(), 10);
    assert_eq!(state(&world), before);
    world.replicate(&p7(0, 0).bytes(500).replicated(0)).unwrap();
    assert_eq!(world.log.next_offset(), 1);
    assert_eq!(world.send(p7(1, 1)), Answer::Ok(1, 1));
}

#[test]
fn case_015_batch_above_the_segment_size_is_refused() {
    let config = PartitionConfig {
        segment_bytes: 4096,
        ..strict()
    };
    let mut world = World::new(config);
    let before = state(&world);
    let error = world.try_send(p7(0, 0).bytes(5000)).unwrap_err();
    assert_eq!(error.kafka_code(), 18, "{error}");
    // Step 7 comes before step 9: the sequence is not looked at.
    assert_eq!(world.send(p7(5, 5).bytes(5000)), Answer::Refused(18));
    assert_eq!(state(&world), before);
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(0, 0));
}

/// Steps 3, 4 and 6 of the validation order.
#[test]
fn base_offset_is_judged_before_size_and_size_before_counts() {
    let config = PartitionConfig {
        batch_bytes_max: 200,
        ..strict()
    };
    let mut world = World::new(config);
    let mut batch = p7(0, 0).bytes(500).batch();
    batch[7] = 5;
    assert_eq!(world.put(&batch).unwrap_err().kafka_code(), 87);
    let marker = ControlRecord {
        kind: ControlKind::Commit,
        coordinator_epoch: 0,
    };
    let control = control_batch(7, 0, marker, 0);
    assert_eq!(world.put(&control).unwrap_err().kafka_code(), 87);
    assert_eq!(world.send(p7(0, 0).bytes(500)), Answer::Refused(10));
    assert_eq!(world.log.next_offset(), 0);
}

#[test]
fn case_031_repeat_with_other_content_never_changes_stored_bytes() {
    for (config, expected) in [
        (kafka(), Answer::Dup(0, 0)),
        (strict(), Answer::Refused(87)),
    ] {
        let mut world = World::new(config);
        assert_eq!(world.send(p7(0, 0)), Answer::Ok(0, 0));
        world.commit();
        let before = world.disk.read_file(&segment_path(0)).unwrap();
        assert_eq!(world.send(p7(0, 0).content(1)), expected);
        assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
        world.commit();
        assert!(before == world.disk.read_file(&segment_path(0)).unwrap());
        assert_eq!(world.log.next_offset(), 1);
        // The answer does not depend on the process.
        world.reload();
        assert_eq!(world.send(p7(0, 0).content(1)), expected);
        assert_eq!(world.send(p7(1, 1)), Answer::Ok(1, 1));
    }
}

#[test]
fn case_041_replicated_repeats_are_appended() {
    let mut world = World::new(strict());
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(0, 0));
    world.replicate(&p7(0, 1).replicated(1)).unwrap();
    world.replicate(&p7(0, 1).replicated(3)).unwrap();
    assert_eq!(world.log.next_offset(), 5);
    assert_eq!(world.log.map_end_offset(), 5);
    let before = world.producers();
    world.kill();
    assert_eq!(world.producers(), before, "I20");
}

#[test]
fn case_042_replicated_producers_interleave() {
    let mut world = World::new(strict());
    let batches = [(1, 0), (2, 0), (1, 1), (2, 1), (1, 1)];
    for (offset, (producer_id, sequence)) in (0..).zip(batches) {
        let batch = p7(sequence, sequence).of(producer_id).replicated(offset);
        world.replicate(&batch).unwrap();
    }
    assert_eq!(world.log.next_offset(), 5);
    world.commit();
    assert_eq!(world.values().len(), 5);
    let before = world.producers();
    world.kill();
    assert_eq!(world.producers(), before, "I20");
    assert_eq!(world.send(p7(2, 2).of(1)), Answer::Ok(5, 5));
    assert_eq!(world.send(p7(2, 2).of(2)), Answer::Ok(6, 6));
}

#[test]
fn case_043_replicated_gap_is_appended() {
    let mut world = World::new(strict());
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(0, 0));
    world.replicate(&p7(3, 3).replicated(1)).unwrap();
    assert_eq!(world.window(7), [(3, 3)]);
    for _ in 0..2 {
        assert_eq!(world.send(p7(3, 3)), Answer::Dup(1, 1));
        assert_eq!(world.send(p7(0, 0)), Answer::Refused(45));
        world.kill();
    }
    assert_eq!(world.send(p7(4, 4)), Answer::Ok(2, 2));
}

#[test]
fn replicated_batch_that_is_not_the_next_is_refused() {
    let mut world = World::new(strict());
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(0, 0));
    for offset in [0, 2, u64::MAX] {
        let error = world.replicate(&p7(1, 1).replicated(offset)).unwrap_err();
        assert!(
            matches!(error, AppendError::NotAtEnd { expected: 1, .. }),
            "{error}"
        );
        assert_eq!(error.kafka_code(), 1);
    }
    assert_eq!(world.log.next_offset(), 1);
}

/// R19: nothing is remembered of a batch whose bytes did not get into the log.
#[test]
fn case_047_failed_write_leaves_no_sequence_behind() {
    let mut world = World::new(strict());
    world.disk.set_free_bytes(100);
    let batch = p7(0, 0).batch();
    for _ in 0..2 {
        let error = world.put(&batch).unwrap_err();
        assert!(
            matches!(error, AppendError::Write(WriteError::NoSegment { .. })),
            "{error}"
        );
        assert_eq!(world.feed().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((world.log.next_offset(), world.window(7)), (0, vec![]));
    }
    world.disk.set_free_bytes(1 << 20);
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(0, 0));

    // A write that fails otherwise fences the log; after the reopen the retry is new.
    world.commit();
    world.disk.fail_next_write(io::ErrorKind::Other);
    let error = world.try_send(p7(1, 1)).unwrap_err();
    assert_eq!(error.kafka_code(), 56, "{error}");
    assert_eq!(world.window(7), [(0, 0)]);
    // I10: not even what is known is answered from here on.
    assert_eq!(world.send(p7(0, 0)), Answer::Refused(56));
    world.kill();
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
    assert_eq!(world.send(p7(1, 1)), Answer::Ok(1, 1));
}

#[test]
fn case_101_appends_without_a_producer_move_the_table_on() {
    let mut world = World::new(strict());
    let anonymous = p7(0, 3).of(-1);
    assert_eq!(world.send(anonymous), Answer::Ok(0, 3));
    assert_eq!(world.log.map_end_offset(), 4);
    assert_eq!(world.send(anonymous), Answer::Ok(4, 7));
    assert_eq!(
        (world.log.map_end_offset(), world.log.next_offset()),
        (8, 8)
    );
    assert!(world.log.producers().is_empty());
    // So a snapshot is worth writing.
    world.commit();
    world.log.snapshot().unwrap();
    assert_eq!(world.snapshots(), [8]);
    world.replicate(&anonymous.replicated(8)).unwrap();
    assert_eq!(world.log.map_end_offset(), 12);
}

#[test]
fn without_idempotence_repeats_are_stored_twice() {
    let mut world = World::new(PartitionConfig {
        idempotence: false,
        ..strict()
    });
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(0, 0));
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(1, 1));
    assert_eq!(world.send(p7(9, 9)), Answer::Ok(2, 2));
}

#[test]
fn stored_batches_are_those_that_were_sent_but_for_offset_and_generation() {
    for visibility in [Visibility::Synced, Visibility::Written] {
        let mut world = World::new(PartitionConfig {
            visibility,
            ..strict()
        });
        let sent = [p7(0, 2), p7(3, 3).bytes(3000), p7(4, 9)];
        for batch in sent {
            world.send(batch);
        }
        world.commit();
        let file = world.disk.read_file(&segment_path(0)).unwrap();
        let mut rest = &file[..];
        let mut offset = 0;
        for batch in sent {
            let (stored, after) = Batch::parse_first(rest).unwrap();
            let header = stored.header();
            assert_eq!((header.base_offset, header.leader_epoch), (offset, 1));
            let mut bytes = stored.bytes().to_vec();
            bytes[..8].fill(0);
            bytes[12..16].fill(0xff);
            assert_eq!(bytes, batch.batch());
            offset = header.next_offset();
            rest = after;
        }
    }
}

#[test]
fn rejection_says_what_was_expected() {
    let mut world = World::new(strict());
    world.send(p7(0, 3));
    let error = world.try_send(p7(6, 6)).unwrap_err();
    assert!(
        matches!(
            error,
            AppendError::Rejected(Rejection::OutOfOrder {
                expected: 4,
                got: 6,
                ..
            })
        ),
        "{error}"
    );
}
