//! Adding partitions to a topic, wherever a crash falls: they are all there, or none is; and what is
//! left of those that are not is in nobody's way.

use std::sync::Arc;

use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{Ack, Engine};

use crate::hooked_disk::Hook;
use crate::topics::{Step, images_during};
use crate::world::{World, config, plain, read};

const BEFORE: u32 = 1;
const AFTER: u32 = 3;

fn make(engine: &Engine) {
    // Directories of another topic whose names begin alike.
    for (name, partitions) in [("t", BEFORE), ("t-2", 1)] {
        let topic = engine
            .create_topic(name, partitions, config(Ack::Synced))
            .unwrap();
        let partition = topic.partition(0).unwrap();
        partition.blocking_append(&plain(name)).unwrap();
    }
}

fn directories(disk: &MemoryDisk) -> Vec<String> {
    let entries = disk.list("").unwrap();
    let directories = entries.into_iter().filter(|e| e.is_directory);
    directories.map(|e| e.name).collect()
}

fn images() -> Vec<(String, MemoryDisk)> {
    let add: Step = |engine| drop(engine.add_partitions("t", AFTER).unwrap());
    images_during(add, make)
}

#[test]
fn a_topic_is_deleted_whole_after_partitions_were_half_added() {
    let mut seen = [false; 2];
    for (step, disk) in images() {
        let world = World::on(disk);
        // Somebody's, though it bears such a name.
        world.disk.create_directory("t-17").unwrap();
        world.disk.write_file("t-17/x", b"x").unwrap();
        let engine = world.open();
        let partitions = engine.topic("t").unwrap().partitions();
        assert!([BEFORE, AFTER].contains(&partitions), "{step}");
        seen[usize::from(partitions == AFTER)] = true;
        engine.delete_topic("t").unwrap();
        assert_eq!(directories(&world.disk), ["t-17", "t-2-0"], "{step}");
        // Another one of that name may have as many.
        let again = engine
            .create_topic("t", AFTER, config(Ack::Synced))
            .unwrap_or_else(|error| panic!("{step}: {error}"));
        let last = again.partition(AFTER - 1).unwrap();
        last.blocking_append(&plain("new")).unwrap();
        let engine = world.after_power_cut().open();
        let new = [(0, "new".to_owned())];
        assert_eq!(read(&engine, "t", AFTER - 1), new, "{step}");
        assert_eq!(read(&engine, "t-2", 0), [(0, "t-2".to_owned())], "{step}");
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn partitions_that_were_half_added_can_be_added() {
    for (step, disk) in images() {
        let world = World::on(disk);
        let engine = world.open();
        let topic = engine
            .add_partitions("t", AFTER + 1)
            .unwrap_or_else(|error| panic!("{step}: {error}"));
        for index in 0..=AFTER {
            let partition = topic.partition(index).unwrap();
            partition.blocking_append(&plain("new")).unwrap();
        }
        let engine = world.after_power_cut().open();
        assert_eq!(read(&engine, "t", 0).len(), 2, "{step}");
        assert_eq!(read(&engine, "t", AFTER), [(0, "new".to_owned())], "{step}");
    }
}

/// A crash in the middle of the deletion that cleans up.
#[test]
fn a_deletion_after_half_added_partitions_may_crash_too() {
    struct Images(MemoryDisk, parking_lot::Mutex<Vec<MemoryDisk>>);
    impl Hook for Images {
        fn after(&self, _: crate::hooked_disk::Op, _: &str) {
            let mut images = self.1.lock();
            images.extend([self.0.after_kill(), self.0.after_power_cut()]);
        }
    }
    // Two directories were made, and the list was not written.
    let images = images();
    let (_, half) = images
        .iter()
        .rfind(|(_, disk)| {
            let topic = World::on(disk.after_kill()).open().topic("t").unwrap();
            topic.partitions() == BEFORE
        })
        .unwrap();
    assert!(directories(half).contains(&"t-2".to_owned()));
    let world = World::on(half.after_kill());
    let hook = Arc::new(Images(world.disk.clone(), parking_lot::Mutex::default()));
    let engine = world.hooked(hook.clone()).open().unwrap();
    hook.1.lock().clear();
    engine.delete_topic("t").unwrap();
    let taken = std::mem::take(&mut *hook.1.lock());
    assert!(taken.len() > 10);
    for disk in taken {
        let world = World::on(disk);
        let engine = world.open();
        if engine.topic("t").is_ok() {
            engine.delete_topic("t").unwrap();
        }
        assert_eq!(directories(&world.disk), ["t-2-0"]);
    }
}
