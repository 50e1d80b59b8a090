//! Snapshots that this log did not write: Kafka's are taken over, others' are not.

use partition_log::snapshot;
use record_batch::crc32c;
use segment_storage::{Disk, MemoryDisk};

use crate::harness::{Answer, DAY, World, p7, place, snapshot_path, strict};
use crate::snapshots::ten;

/// `ProducerSnapshot.json`, version 1: one batch for each producer.
pub(crate) fn kafka_snapshot(entries: &[(i64, i16, i32, i64, i32)]) -> Vec<u8> {
    let mut body = i32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
    for &(producer_id, epoch, last_sequence, last_offset, delta) in entries {
        body.extend(producer_id.to_be_bytes());
        body.extend(epoch.to_be_bytes());
        body.extend(last_sequence.to_be_bytes());
        body.extend(last_offset.to_be_bytes());
        body.extend(delta.to_be_bytes());
        body.extend(1_000i64.to_be_bytes());
        body.extend((-1i32).to_be_bytes());
        body.extend((-1i64).to_be_bytes());
    }
    let mut file = 1i16.to_be_bytes().to_vec();
    file.extend(crc32c(&body).to_be_bytes());
    file.extend(body);
    file
}

#[test]
fn snapshots_of_kafka_are_taken_over() {
    let mut world = World::new(strict());
    ten(&mut world);
    world.send(p7(0, 2).of(8).epoch(3));
    world.close();
    let disk = world.disk.after_power_cut();
    let theirs = kafka_snapshot(&[(7, 0, 9, 9, 0), (8, 3, 2, 12, 2)]);
    disk.write_file(&snapshot_path(13), &theirs).unwrap();
    // A day or more after the data directory was made: nobody expires by an unknown time.
    let mut world = World::over(disk, strict());
    world.now.elapsed_ms = 3 * DAY;
    world.kill();
    assert_eq!(world.opened.producers.snapshot, Some(13));
    assert_eq!(world.opened.producers.replayed, 0);
    assert_eq!(world.window(7), [(9, 9)]);
    assert_eq!(world.window(8), [(0, 2)]);
    // The content was looked up in the log.
    assert_eq!(world.send(p7(9, 9)), Answer::Dup(9, 9));
    assert_eq!(world.send(p7(9, 9).content(1)), Answer::Refused(87));
    assert_eq!(world.send(p7(0, 2).of(8).epoch(3)), Answer::Dup(10, 12));
    // Row 94, of Kafka's snapshots: earlier batches are not in them.
    assert_eq!(world.send(p7(8, 8)), Answer::Refused(45));
    assert_eq!(world.send(p7(10, 10)), Answer::Ok(13, 13));
    assert_eq!(world.send(p7(3, 3).of(8).epoch(3)), Answer::Ok(14, 14));
    world.advance(DAY - 1);
    assert_eq!(world.log.expire_producers(world.now), 0);
}

#[test]
fn batch_of_a_kafka_snapshot_that_is_not_in_the_log_still_has_a_successor() {
    let mut world = World::new(strict());
    world.send(p7(0, 0).of(-1));
    world.close();
    let disk = world.disk.after_power_cut();
    disk.write_file(&snapshot_path(1), &kafka_snapshot(&[(7, 0, 41, 0, 0)]))
        .unwrap();
    let mut world = World::over(disk, strict());
    assert_eq!(world.window(7), [(41, 41)]);
    assert_eq!(world.send(p7(41, 41)), Answer::Refused(87));
    assert_eq!(world.send(p7(42, 42)), Answer::Ok(1, 1));
}

#[test]
fn foreign_and_renamed_snapshots_are_not_used() {
    let mut world = World::new(strict());
    ten(&mut world);
    world.close();
    let whole = world.disk.read_file(&snapshot_path(10)).unwrap();
    let mut other = World::new(strict());
    other.send(p7(0, 0).of(99));
    other.close();

    let renamed = world.disk.after_power_cut();
    renamed.remove(&snapshot_path(10)).unwrap();
    renamed.write_file(&snapshot_path(9), &whole).unwrap();
    let again = World::over(renamed, strict());
    assert_eq!(again.opened.producers.damaged, [9]);
    assert_eq!(again.window(7).len(), 5);

    let disk: MemoryDisk = world.disk.after_power_cut();
    let mut foreign = place(&disk);
    foreign.log_id = 5;
    snapshot::write(&foreign, 10, other.log.producers()).unwrap();
    let again = World::over(disk, strict());
    assert_eq!(again.opened.producers.damaged, [10]);
    assert!(again.log.producers().get(99).is_none());
    assert_eq!(again.window(7).len(), 5);
}
