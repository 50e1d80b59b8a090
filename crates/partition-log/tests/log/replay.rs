//! What a replay reads, and what it does not look at.

use partition_log::marker_of;
use record_batch::{Batch, BatchBuilder, ControlKind, ControlRecord, control_batch};
use segment_storage::{Check, names};

use crate::foreign_snapshots::kafka_snapshot;
use crate::harness::{Answer, DAY, World, p7, segment_path, snapshot_path, strict};
use crate::read_errors::open;
use crate::unreadable::Unreadable;

/// Two segments, the first one covered by the snapshot at offset 2.
fn covered() -> World {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.send(p7(1, 1));
    world.roll();
    assert_eq!(world.snapshots(), [2]);
    world.send(p7(2, 2));
    world.commit();
    world
}

#[test]
fn segments_that_a_snapshot_covers_are_not_read() {
    let disk = Unreadable::new(covered().disk.after_kill());
    disk.fail(&names::segment(0), 0);
    let (log, opened) = open(&disk).unwrap();
    assert_eq!(opened.producers.snapshot, Some(2));
    assert_eq!(opened.producers.replayed, 1);
    assert_eq!(log.producers().get(7).unwrap().window.len(), 3);
}

/// The snapshot at the end of a segment is not about what follows, which may be being written.
#[test]
fn segments_above_the_offset_of_a_snapshot_are_not_read() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.log.segments_mut().roll();
    world.send(p7(1, 1));
    for item in world.log.segments().begin_sync(true) {
        item.sync().unwrap();
        world.log.segments_mut().synced(&item);
    }
    let segment = world.log.segments().to_seal().unwrap();
    segment.cut().unwrap();
    segment.write_footer(Check::Headers).unwrap();
    // Its first batch would be refused by whoever looks at it.
    world.disk.corrupt(&segment_path(1), 70, 1).unwrap();
    let snapshotter = world.log.snapshotter();
    assert!(snapshotter.after_seal(&segment, world.now).unwrap());
    assert_eq!(world.snapshots(), [1]);
}

#[test]
fn producers_of_a_kafka_snapshot_expire_from_the_open_on() {
    let mut world = World::new(strict());
    world.send(p7(0, 0).of(-1));
    world.close();
    let disk = world.disk.after_power_cut();
    let theirs = kafka_snapshot(&[(7, 0, 41, 0, 0)]);
    disk.write_file(&snapshot_path(1), &theirs).unwrap();
    let mut world = World::over(disk, strict());
    assert_eq!(world.log.producers().get(7).unwrap().last_append_ms, 0);
    world.advance(DAY - 1);
    assert_eq!(world.log.expire_producers(world.now), 0);
    world.advance(1);
    assert_eq!(world.log.expire_producers(world.now), 1);
    assert_eq!(world.send(p7(42, 42)), Answer::Refused(45));
}

#[test]
fn marker_tells_the_coordinator_and_the_outcome() {
    for kind in [ControlKind::Commit, ControlKind::Abort] {
        let marker = ControlRecord {
            kind,
            coordinator_epoch: 9,
        };
        let bytes = control_batch(7, 0, marker, 1_000);
        let batch = Batch::parse(&bytes).unwrap();
        let commits = kind == ControlKind::Commit;
        assert_eq!(marker_of(&batch), Some((9, commits)));
    }
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(b"data"), &[]).unwrap();
    let bytes = builder.build(None).unwrap().to_vec();
    assert_eq!(marker_of(&Batch::parse(&bytes).unwrap()), None);
}
