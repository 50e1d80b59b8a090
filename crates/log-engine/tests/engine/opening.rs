//! Opening: what is refused, and that nothing is written then.

use std::sync::Arc;

use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{Ack, Create, Engine, Env, OpenError, SystemClock};

use crate::world::{World, one_partition, plain, values};

#[test]
fn a_second_writer_is_refused_and_told_who_the_first_is() {
    let world = World::new();
    let first = world.open();
    for _ in 0..2 {
        let error = world.builder().open().err().unwrap();
        let OpenError::DirectoryInUse { holder, .. } = &error else {
            panic!("{error}");
        };
        let me = format!("process {} on host ", std::process::id());
        assert!(holder.starts_with(&me), "{holder}");
        assert!(error.to_string().contains("in use by process"), "{error}");
    }
    drop(first);
    world.open();
}

#[test]
fn a_second_writer_on_real_files_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = Engine::open(directory.path()).unwrap();
    let error = Engine::open(directory.path()).err().unwrap();
    assert!(
        matches!(&error, OpenError::DirectoryInUse { holder, .. }
            if holder.contains(&format!("process {}", std::process::id()))),
        "{error}"
    );
    first.close().unwrap();
    Engine::open(directory.path()).unwrap();
}

#[test]
fn a_closed_engine_leaves_the_directory_to_others_while_handles_live() {
    let world = World::new();
    let first = world.open();
    let partition = one_partition(&first, Ack::Synced);
    first.close().unwrap();
    let second = world.open();
    assert_eq!(values(&second, "t"), ["first"]);
    assert!(partition.blocking_append(&plain("late")).is_err());
    drop(partition);
    drop(first);
    // The first one's end does not take the second one's lock away.
    assert!(world.builder().open().is_err());
}

#[test]
fn create_says_whether_there_must_be_a_directory() {
    let world = World::new();
    let error = world.builder().create(Create::Never).open().err().unwrap();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    world.builder().create(Create::New).open().unwrap();
    let error = world.builder().create(Create::New).open().err().unwrap();
    assert!(matches!(error, OpenError::Exists { .. }), "{error}");
    world.builder().create(Create::Never).open().unwrap();
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("nothing");
    let error = Engine::builder(&missing)
        .create(Create::Never)
        .open()
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    let error = Engine::open_read_only(&missing).err().unwrap();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    assert!(!missing.exists(), "a refused open makes nothing");
}

#[test]
fn somebody_elses_directory_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("thesis.tex"), "important").unwrap();
    let error = Engine::open(root.path()).err().unwrap();
    let named =
        matches!(&error, OpenError::NotADataDirectory { entry, .. } if entry == "thesis.tex");
    assert!(named, "{error}");
    let error = Engine::open_read_only(root.path()).err().unwrap();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    let file = root.path().join("thesis.tex");
    assert_eq!(std::fs::read(&file).unwrap(), b"important");
    assert!(Engine::open(&file).is_err(), "a file is no directory");
}

fn made_world() -> World {
    let world = World::new();
    let engine = world.open();
    one_partition(&engine, Ack::Synced);
    engine.session().unwrap();
    engine.close().unwrap();
    drop(engine);
    world
}

fn open_after(change: impl Fn(&MemoryDisk)) -> OpenError {
    let world = made_world();
    change(&world.disk);
    let list = || ["", "t-0"].map(|directory| world.disk.list(directory).unwrap());
    let before = list();
    let error = world.builder().open().err().expect("refused");
    assert_eq!(before, list(), "nothing was written (I26)");
    error
}

#[test]
fn damaged_metadata_is_refused_with_file_and_next_step() {
    for file in ["format", "topics", "names"] {
        let bytes = made_world().disk.read_file(file).unwrap();
        for position in [0, 4, bytes.len() as u64 - 1] {
            let error = open_after(|disk| disk.corrupt(file, position, 1).unwrap());
            let OpenError::StateFile(_) = &error else {
                panic!("{file} at {position}: {error}");
            };
            let text = error.to_string();
            let says = text.contains(&format!("memory:{file}")) && text.contains("oncelog repair");
            assert!(says, "{text}");
        }
        let error = open_after(|disk| disk.write_file(file, &bytes[..bytes.len() / 2]).unwrap());
        assert!(matches!(error, OpenError::StateFile(_)), "{error}");
        let error = open_after(|disk| disk.write_file(file, b"").unwrap());
        assert!(matches!(error, OpenError::StateFile(_)), "{error}");
    }
    // Also where no name was ever opened: nothing else tells.
    for file in ["topics", "names"] {
        let error = open_after(|disk| disk.remove(file).unwrap());
        assert!(matches!(error, OpenError::StateFile(_)), "{file}: {error}");
        let text = error.to_string();
        let advice = "is missing; put an undamaged copy of the file back, or run `oncelog repair`";
        assert!(text.contains(&format!("{file} {advice}")), "{text}");
    }
}

#[test]
fn one_damaged_slot_is_survived_and_two_are_refused() {
    for (file, slots) in [("generation", 2_u64), ("producer-ids", 2)] {
        for slot in 0..slots {
            let world = made_world();
            world.disk.corrupt(file, slot * 512 + 20, 0x40).unwrap();
            let engine = world.open();
            assert_eq!(values(&engine, "t"), ["first"], "{file}, slot {slot}");
        }
        let error = open_after(|disk| {
            for slot in 0..slots {
                disk.corrupt(file, slot * 512 + 20, 0x40).unwrap();
            }
        });
        assert!(
            error.to_string().contains(&format!("memory:{file}")),
            "{error}"
        );
        match file {
            "generation" => assert!(matches!(error, OpenError::SlotFile(_)), "{error}"),
            _ => assert!(matches!(error, OpenError::Allocator(_)), "{error}"),
        }
        assert!(error.to_string().contains("repair"), "{error}");
    }
    let error = open_after(|disk| disk.remove("producer-ids").unwrap());
    assert!(matches!(error, OpenError::Allocator(_)), "{error}");
}

#[test]
fn a_directory_of_a_newer_release_is_refused_before_anything_is_written() {
    use log_engine::storage::OsDisk;
    use segment_storage::state_file;
    // The file as this release writes it, with a feature that it does not have.
    let newer = |disk: &dyn Disk| {
        let value = (9_u128, 4_u64, 0_u64);
        state_file::write(disk, "", "format", *b"OLFM", 1, &value).unwrap();
    };
    let error = open_after(|disk| newer(disk));
    let OpenError::NewerFormat { features, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(features, 4);
    let next_version = |disk: &dyn Disk| {
        let value = (9_u128, 0_u64, 0_u64);
        state_file::write(disk, "", "format", *b"OLFM", 2, &value).unwrap();
    };
    let error = open_after(|disk| next_version(disk));
    assert!(error.to_string().contains("version 2"), "{error}");

    let root = tempfile::tempdir().unwrap();
    drop(Engine::open(root.path()).unwrap());
    newer(&OsDisk::open(root.path().to_owned()).unwrap());
    let error = Engine::open_read_only(root.path()).err().unwrap();
    assert!(matches!(error, OpenError::NewerFormat { .. }), "{error}");
}

#[test]
fn damage_in_one_log_does_not_take_the_others_away() {
    let world = World::new();
    let engine = world.open();
    for name in ["bad", "good"] {
        let topic = engine
            .create_topic(name, 1, crate::world::config(Ack::Synced))
            .unwrap();
        let partition = topic.partition(0).unwrap();
        for value in ["a", "b", "c"] {
            partition.blocking_append(&plain(value)).unwrap();
        }
    }
    engine.close().unwrap();
    drop(engine);
    // The last byte of the second of three batches.
    let position = 2 * plain("a").len() as u64 - 1;
    let file = "bad-0/00000000000000000000.log";
    world.disk.corrupt(file, position, 1).unwrap();
    let engine = world.open();
    assert_eq!(values(&engine, "good"), ["a", "b", "c"]);
    let good = engine.topic("good").unwrap().partition(0).unwrap();
    good.blocking_append(&plain("d")).unwrap();
    // The damage shows where it is read, and what is behind it can be read (I24, I27).
    let mut reader = engine.reader("bad").max_bytes(1).open().unwrap();
    assert_eq!(reader.blocking_iter().next().unwrap().unwrap().offset(), 0);
    for _ in 0..2 {
        let error = reader.blocking_iter().next().unwrap().err().unwrap();
        assert!(error.to_string().contains(file), "{error}");
    }
    reader.seek(0, 2);
    // Behind it: refused as well unless an index leads there, but never wrong.
    match reader.blocking_iter().next().unwrap() {
        Ok(record) => assert_eq!(record.value().unwrap(), &b"c"[..]),
        Err(error) => assert!(error.to_string().contains(file), "{error}"),
    }
}

#[test]
fn a_log_of_which_nothing_can_be_opened_is_not_read_as_an_empty_one() {
    let world = World::new();
    let engine = world.open();
    let topic = engine
        .create_topic("t", 2, crate::world::config(Ack::Synced))
        .unwrap();
    for partition in 0..2 {
        let partition = topic.partition(partition).unwrap();
        partition.blocking_append(&plain("a")).unwrap();
    }
    engine.close().unwrap();
    drop((engine, topic));
    // Both slots of the stable mark.
    for position in [100, 612] {
        world.disk.corrupt("t-0/marks", position, 1).unwrap();
        world.disk.corrupt("t-0/marks", position - 90, 1).unwrap();
    }
    let engine = world.open();
    let read = |partition| engine.reader("t").partition(partition).open();
    let error = read(0).err().unwrap();
    assert!(error.to_string().contains("t-0/marks"), "{error}");
    assert!(engine.reader("t").open().is_err());
    let whole = read(1).unwrap().blocking_iter().next().unwrap().unwrap();
    assert_eq!(whole.value().unwrap(), &b"a"[..]);
}

#[test]
fn damage_found_by_an_unclean_open_makes_that_log_read_only() {
    let world = World::new();
    let engine = world.open();
    for name in ["bad", "good"] {
        let topic = engine
            .create_topic(name, 1, crate::world::config(Ack::Synced))
            .unwrap();
        let partition = topic.partition(0).unwrap();
        for value in ["a", "b", "c"] {
            partition.blocking_append(&plain(value)).unwrap();
        }
    }
    let world = world.after_kill();
    let position = 2 * plain("a").len() as u64 - 1;
    let file = "bad-0/00000000000000000000.log";
    world.disk.corrupt(file, position, 1).unwrap();
    let engine = world.open();
    assert!(
        engine.opened().summary().contains(file),
        "{}",
        engine.opened()
    );
    let bad = engine.topic("bad").unwrap();
    let error = bad
        .partition(0)
        .unwrap()
        .blocking_append(&plain("x"))
        .unwrap_err();
    assert!(
        matches!(error, log_engine::AppendError::Corrupted(_)),
        "{error}"
    );
    assert!(
        bad.describe().partitions[0]
            .state
            .contains("damaged at byte")
    );
    let good = engine.topic("good").unwrap().partition(0).unwrap();
    good.blocking_append(&plain("d")).unwrap();
    engine.close().unwrap();
    drop((engine, bad, good));
    // Nothing of it was cut, and the next open says the same.
    let engine = world.open();
    assert!(engine.opened().summary().contains(file));
    assert_eq!(values(&engine, "good"), ["a", "b", "c", "d"]);
}

#[test]
fn opening_twice_without_an_append_changes_nothing_of_a_log() {
    let world = made_world();
    let files = |disk: &MemoryDisk| -> Vec<(String, Vec<u8>)> {
        let names = disk.list("t-0").unwrap().into_iter();
        let names = names.filter(|e| e.name != "marks");
        names
            .map(|e| {
                (
                    e.name.clone(),
                    disk.read_file(&format!("t-0/{}", e.name)).unwrap(),
                )
            })
            .collect()
    };
    let before = files(&world.disk);
    for _ in 0..3 {
        assert_eq!(values(&world.open(), "t"), ["first"]);
        assert_eq!(files(&world.disk), before);
    }
}

#[test]
fn the_seed_decides_identities() {
    let id = |seed| {
        let disk = Arc::new(MemoryDisk::new());
        let clock = Arc::new(SystemClock);
        let engine = Engine::with_env(Env { disk, clock, seed }).open().unwrap();
        engine.ensure_topic("t", 1).unwrap().id()
    };
    assert_eq!(id(1), id(1));
    assert_ne!(id(1), id(2));
}
