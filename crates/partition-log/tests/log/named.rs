//! Source positions of named producers, which are in the batches, over restarts and snapshots.

use record_batch::{BatchBuilder, ProducerIdentity, SOURCE_BYTES, SOURCE_HEADER, SourcePosition};

use crate::harness::{Answer, DAY, World, p7, strict};

/// One record of a named producer, with the position of its source.
fn named(producer_id: i64, sequence: i32, last: u64, floor: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let header = (SOURCE_HEADER, Some(&[0; SOURCE_BYTES][..]));
    builder.push(1_000, None, Some(b"v"), &[header]).unwrap();
    builder.set_source(SourcePosition { last, floor });
    let identity = ProducerIdentity {
        producer_id,
        producer_epoch: 0,
        base_sequence: sequence,
    };
    builder.build(Some(identity)).unwrap().to_vec()
}

fn positions(world: &World) -> Vec<(i64, u64, u64)> {
    let positions = world.log.producers().sources().positions();
    positions.map(|(id, p)| (id, p.last, p.floor)).collect()
}

fn world() -> World {
    let mut world = World::new(strict());
    // A segment is prepared with the first batch.
    assert_eq!(world.send(p7(0, 0)), Answer::Ok(0, 0));
    for (id, sequence, last, floor) in [(8, 0, 10, 3), (9, 0, 7, 7), (8, 1, 20, 11)] {
        world.put(&named(id, sequence, last, floor)).unwrap();
    }
    world
}

const EXPECTED: [(i64, u64, u64); 2] = [(8, 20, 11), (9, 7, 7)];

#[test]
fn positions_come_back_by_replay_and_by_snapshot() {
    let mut world = world();
    assert_eq!(positions(&world), EXPECTED);
    world.commit();
    world.kill();
    assert_eq!(world.opened.producers.snapshot, None);
    assert_eq!(positions(&world), EXPECTED);
    world.reload();
    assert_eq!(world.opened.producers.snapshot, Some(4));
    assert_eq!(world.opened.producers.replayed, 0);
    assert_eq!(positions(&world), EXPECTED);
    // What lies above the snapshot counts on top, and nothing goes back.
    world.send(p7(1, 1));
    world.put(&named(9, 1, 6, 8)).unwrap();
    world.commit();
    world.kill();
    assert_eq!(world.opened.producers.replayed, 2);
    assert_eq!(positions(&world), [(8, 20, 11), (9, 7, 8)]);
}

#[test]
fn replicated_batch_brings_its_position() {
    let mut world = World::new(strict());
    let mut batch = named(8, 0, 5, 1);
    batch[..8].copy_from_slice(&0_u64.to_be_bytes());
    world.replicate(&batch).unwrap();
    assert_eq!(positions(&world), [(8, 5, 1)]);
}

/// Names are not known yet when a log is opened; who has a position here had one.
#[test]
fn named_producer_that_was_silent_for_long_outlives_a_restart() {
    let mut world = world();
    world.commit();
    world.close();
    world.advance(30 * DAY);
    world.reopen(world.disk.after_power_cut());
    assert!(world.log.producers().get(7).is_none());
    assert_eq!(world.window(8), [(0, 0), (1, 1)]);
    assert_eq!(world.log.producers().forgotten_below(), 7);
    assert_eq!(world.put(&named(8, 1, 20, 11)).unwrap(), Answer::Dup(3, 3));
}
