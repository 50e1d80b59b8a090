//! A log whose end was given up knows nothing of what was there.

use partition_log::snapshot;
use segment_storage::{truncate, truncate_fully};

use crate::harness::{Answer, World, kafka, p7, place, strict};
use crate::snapshots::ten;

#[test]
fn case_102_truncated_batches_are_forgotten() {
    let mut world = World::new(strict());
    world.send(p7(0, 0));
    world.send(p7(1, 1));
    world.close();
    assert_eq!(world.snapshots(), [2]);
    assert_eq!(truncate(&place(&world.disk), 1).unwrap(), 1);
    world.kill();
    assert_eq!(world.snapshots(), [0_u64; 0]);
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
    assert_eq!(world.send(p7(1, 1)), Answer::Ok(1, 1));
    assert_eq!(world.send(p7(0, 0)), Answer::Dup(0, 0));
}

#[test]
fn case_104_full_truncation_forgets_all() {
    let mut world = World::new(kafka());
    ten(&mut world);
    world.roll();
    world.close();
    truncate_fully(&place(&world.disk), 29).unwrap();
    for power_cut in [false, true] {
        let disk = if power_cut {
            world.disk.after_power_cut()
        } else {
            world.disk.after_kill()
        };
        // A snapshot that a crash in between has left.
        let table = partition_log::ProducerTable::new(kafka().producers);
        snapshot::write(&place(&disk), 20, &table).unwrap();
        let mut again = World::over(disk, kafka());
        assert!(again.log.producers().is_empty());
        assert_eq!(again.snapshots(), [0_u64; 0]);
        assert_eq!(
            (again.log.map_end_offset(), again.log.next_offset()),
            (29, 29)
        );
        assert!(!again.opened.history_lost);
        assert_eq!(again.send(p7(13, 13)), Answer::Ok(29, 29));
    }
}
