//! A log that goes on while it is deleted from, after it lost its history, and once it is closed.

use crate::harness::{Answer, World, p7, place, strict};

// Sealing two segments while old files are being deleted makes two snapshots, and lets the one go that the deletion relied on.
#[test]
fn deletion_keeps_the_snapshots_of_what_was_sealed_meanwhile() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.roll();
    world.send(p7(0, 0).of(8));
    world.commit();
    let deletion = world.log.begin_delete(1).unwrap().unwrap();
    deletion.write(world.now).unwrap();
    for n in 1..3 {
        world.send(p7(n, n).of(8).bytes(20_000));
        world.roll();
    }
    let before = world.snapshots();
    let gone = world.log.segments_mut().dropped(&deletion.front);
    assert_eq!(gone.len(), 1);
    deletion.remove(&gone).unwrap();
    assert_eq!(world.snapshots(), before);
    world.kill();
    assert!(!world.opened.history_lost);
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
}

#[test]
fn log_that_lost_its_history_can_be_deleted_from() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.roll();
    world.send(p7(0, 0).of(8));
    world.roll();
    world.send(p7(1, 1).of(8));
    world.commit();
    world.delete_before(1);
    for offset in world.snapshots() {
        partition_log::snapshot::remove(&place(&world.disk), offset).unwrap();
    }
    world.kill();
    assert!(world.opened.history_lost);
    for n in 2..6 {
        let answer = world.send(p7(n, n).of(8).bytes(20_000));
        assert!(matches!(answer, Answer::Ok(..)), "{answer:?}");
        world.roll();
    }
    assert!(!world.snapshots().is_empty());
    world.delete_before(5);
    // What it lost stays lost, and what came since is known.
    world.kill();
    assert!(!world.opened.history_lost);
    assert_eq!(world.send(p7(5, 5).of(8).bytes(20_000)), Answer::Dup(6, 6));
}

#[test]
fn segment_that_is_prepared_after_a_clean_close_changes_nothing() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.reload();
    // An append waits for a segment; before the feeder comes to it, the log is closed.
    assert!(world.put(&p7(1, 1).batch()).is_err());
    world.close();
    world.feed().unwrap();
    world.reopen(world.disk.after_power_cut());
    assert!(world.opened.files.clean);
}
