//! Topics: made, described, removed; whole or not there, wherever a crash falls between.

use std::io;
use std::sync::Arc;

use log_engine::storage::{Disk, MemoryDisk};
use log_engine::{Ack, AppendError, ReadError, TopicConfig, TopicError};
use parking_lot::Mutex;

use crate::hooked_disk::{Hook, Op};
use crate::world::{World, config, one_partition, plain, read, values};

#[test]
fn a_topic_is_made_described_found_again_and_removed() {
    let world = World::new();
    let engine = world.open();
    let mut settings = config(Ack::Memory);
    settings.set("segment.bytes", "65536").unwrap();
    let topic = engine.create_topic("orders", 3, settings.clone()).unwrap();
    engine
        .create_topic("audit", 1, config(Ack::Synced))
        .unwrap();
    let partition = topic.partition(2).unwrap();
    for value in ["a", "b"] {
        partition.blocking_append(&plain(value)).unwrap();
    }
    partition.delete_before(1).unwrap();
    let described = topic.describe();
    assert_eq!((described.name.as_str(), described.records), ("orders", 1));
    assert_eq!(described.partitions.len(), 3);
    let last = &described.partitions[2];
    assert_eq!((last.log_start_offset, last.high_watermark), (1, 2));
    assert_eq!((last.log_end_offset, last.segments), (2, 1));
    assert_eq!(last.size_bytes, 2 * plain("a").len() as u64);
    assert_eq!(last.state, "open");
    let setting = ("segment.bytes", "65536".to_owned());
    assert!(described.config.contains(&setting));
    let names = |engine: &log_engine::Engine| -> Vec<String> {
        engine
            .topics()
            .iter()
            .map(|t| t.name().to_owned())
            .collect()
    };
    assert_eq!(names(&engine), ["audit", "orders"]);
    let id = topic.id();
    engine.close().unwrap();

    let engine = world.open();
    assert_eq!(names(&engine), ["audit", "orders"]);
    let topic = engine.topic("orders").unwrap();
    assert_eq!((topic.id(), topic.partitions()), (id, 3));
    assert_eq!(topic.config(), &settings);
    engine.delete_topic("orders").unwrap();
    assert_eq!(names(&engine), ["audit"]);
    let left = world.disk.list("").unwrap();
    assert!(left.iter().all(|entry| !entry.name.starts_with("orders")));
    // Another one of that name is another topic.
    let again = engine.create_topic("orders", 1, settings).unwrap();
    assert_ne!(again.id(), id);
    assert_eq!(again.describe().records, 0);
}

#[test]
fn names_that_could_leave_the_directory_are_refused() {
    let engine = World::new().open();
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0", &long] {
        let refused = engine.create_topic(name, 1, TopicConfig::default());
        let error = refused.err().unwrap();
        assert!(
            matches!(&error, TopicError::IllegalName { name: n } if n == name),
            "{name:?}: {error}"
        );
    }
    let longest = "y".repeat(249);
    for name in ["a", "...", "A.b_c-9", &longest] {
        engine
            .create_topic(name, 1, TopicConfig::default())
            .unwrap();
    }
}

#[test]
fn partition_counts_and_repeats_are_checked() {
    let engine = World::new().open();
    for partitions in [0, 10_001] {
        let refused = engine.create_topic("t", partitions, TopicConfig::default());
        let error = refused.err().unwrap();
        let counted =
            matches!(error, TopicError::PartitionCount { partitions: p } if p == partitions);
        assert!(counted, "{error}");
    }
    engine.create_topic("t", 2, TopicConfig::default()).unwrap();
    let error = engine.create_topic("t", 2, TopicConfig::default()).err();
    assert!(matches!(
        error,
        Some(TopicError::Exists { partitions: 2, .. })
    ));
    assert_eq!(engine.ensure_topic("t", 2).unwrap().partitions(), 2);
    let error = engine.ensure_topic("t", 3).err();
    assert!(matches!(
        error,
        Some(TopicError::Exists { partitions: 2, .. })
    ));
    let made = engine.ensure_topic("u", 1).unwrap();
    assert_eq!(made.config().ack(), Ack::Synced);
}

#[test]
fn what_is_not_there_is_named() {
    let engine = World::new().open();
    let error = engine.topic("nope").err().unwrap();
    assert!(error.to_string().contains("topic create nope"), "{error}");
    let error = engine.delete_topic("nope").unwrap_err();
    assert!(matches!(error, TopicError::UnknownTopic { .. }));
    let topic = engine.create_topic("t", 2, TopicConfig::default()).unwrap();
    let error = topic.partition(2).err().unwrap();
    assert!(error.to_string().contains("0 to 1, not 2"), "{error}");
    let error = engine.reader("nope").open().err().unwrap();
    assert!(matches!(error, ReadError::Topic(_)), "{error}");
    let error = engine.reader("t").partition(9).open().err().unwrap();
    assert!(error.to_string().contains("not 9"), "{error}");
    let session = engine.session().unwrap();
    assert!(session.appender("t", 2).is_err());
    assert!(session.appender("nope", 0).is_err());
}

#[test]
fn whoever_uses_a_deleted_topic_is_told() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let mut follower = engine.reader("t").follow().open().unwrap();
    follower.blocking_iter().next().unwrap().unwrap();
    let waiting = std::thread::spawn(move || follower.blocking_iter().next());
    engine.delete_topic("t").unwrap();
    let told = waiting.join().unwrap();
    assert!(matches!(told, Some(Err(ReadError::TopicDeleted { .. }))));
    let error = partition.blocking_append(&plain("x")).unwrap_err();
    assert!(matches!(error, AppendError::TopicDeleted { .. }), "{error}");
    assert!(engine.topic("t").is_err());
}

/// Takes an image of the disk before each step.
struct Images {
    disk: MemoryDisk,
    taken: Mutex<Vec<(String, MemoryDisk, MemoryDisk)>>,
}

impl Hook for Images {
    fn before(&self, op: Op, name: &str) -> io::Result<()> {
        let step = format!("before {op:?} {name:?}");
        // First the lock: an image that another thread takes before these are cleared is cleared, too.
        let mut taken = self.taken.lock();
        taken.push((step, self.disk.after_kill(), self.disk.after_power_cut()));
        Ok(())
    }
}

pub(crate) type Step = fn(&log_engine::Engine);

pub(crate) fn images_during(step: Step, prepare: Step) -> Vec<(String, MemoryDisk)> {
    let world = World::new();
    let images = Arc::new(Images {
        disk: world.disk.clone(),
        taken: Mutex::default(),
    });
    let engine = world.hooked(images.clone()).open().unwrap();
    prepare(&engine);
    images.taken.lock().clear();
    step(&engine);
    let mut all = Vec::new();
    for (name, killed, cut) in std::mem::take(&mut *images.taken.lock()) {
        all.push((format!("kill {name}"), killed));
        all.push((format!("power cut {name}"), cut));
    }
    assert!(all.len() > 10, "only {} images", all.len());
    all.push((
        "power cut behind it".to_owned(),
        world.disk.after_power_cut(),
    ));
    all
}

fn prepare_other(engine: &log_engine::Engine) {
    let topic = engine
        .create_topic("other", 1, config(Ack::Synced))
        .unwrap();
    let other = topic.partition(0).unwrap();
    other.blocking_append(&plain("stays")).unwrap();
}

fn create_t(engine: &log_engine::Engine) {
    engine.create_topic("t", 2, config(Ack::Synced)).unwrap();
}

fn create_and_fill_t(engine: &log_engine::Engine) {
    prepare_other(engine);
    create_t(engine);
    for index in 0..2 {
        let partition = engine.topic("t").unwrap().partition(index).unwrap();
        partition.blocking_append(&plain("goes")).unwrap();
    }
}

// Opens what a crash left, twice; uses what is there, or makes it anew where nothing is.
fn check_whole_or_none(step: &str, disk: MemoryDisk, records_if_whole: u64) -> bool {
    let world = World::on(disk);
    let engine = world.open();
    assert_eq!(
        read(&engine, "other", 0),
        [(0, "stays".to_owned())],
        "{step}"
    );
    let whole = engine.topic("t").is_ok();
    if whole {
        let topic = engine.topic("t").unwrap();
        assert_eq!(topic.partitions(), 2, "{step}");
        assert_eq!(topic.describe().records, records_if_whole, "{step}");
    } else {
        let left = world.disk.list("").unwrap();
        let left: Vec<_> = left.iter().filter(|e| e.name.starts_with("t-")).collect();
        assert!(left.is_empty(), "{step}: {left:?}");
        create_t(&engine);
    }
    for index in 0..2 {
        let partition = engine.topic("t").unwrap().partition(index).unwrap();
        partition.blocking_append(&plain("new")).unwrap();
    }
    let after = world.after_power_cut().open();
    assert_eq!(values(&after, "t").last().unwrap(), "new", "{step}");
    whole
}

#[test]
fn a_crash_while_a_topic_is_made_leaves_it_whole_or_not_at_all() {
    let mut seen = [false; 2];
    for (step, disk) in images_during(create_t, prepare_other) {
        let whole = check_whole_or_none(&step, disk, 0);
        seen[usize::from(whole)] = true;
        assert!(whole || step != "power cut behind it");
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn a_crash_while_a_topic_is_removed_leaves_it_whole_or_not_at_all() {
    let mut seen = [false; 2];
    let delete: Step = |engine| engine.delete_topic("t").unwrap();
    for (step, disk) in images_during(delete, create_and_fill_t) {
        let whole = check_whole_or_none(&step, disk, 2);
        seen[usize::from(whole)] = true;
        assert!(!whole || step != "power cut behind it");
    }
    assert_eq!(seen, [true, true]);
}

#[test]
fn a_crash_while_a_directory_is_made_leaves_one_that_can_be_made() {
    let world = World::new();
    let images = Arc::new(Images {
        disk: world.disk.clone(),
        taken: Mutex::default(),
    });
    let engine = world.hooked(images.clone()).open().unwrap();
    prepare_other(&engine);
    let taken = std::mem::take(&mut *images.taken.lock());
    assert!(taken.len() > 20);
    for (step, killed, cut) in taken {
        for disk in [killed, cut] {
            let world = World::on(disk);
            let engine = world.open();
            if engine.topic("other").is_err() {
                prepare_other(&engine);
            }
            drop(engine);
            let id = world.open().session().unwrap().producer_id();
            let later = world
                .after_power_cut()
                .open()
                .session()
                .unwrap()
                .producer_id();
            assert!(later > id, "{step}: {later} after {id}");
        }
    }
}

#[test]
fn a_topic_that_could_not_be_made_can_be_made_later() {
    // Refuses the n-th step of making the topic; then all goes well.
    struct Fail(Mutex<Option<u32>>);
    impl Hook for Fail {
        fn before(&self, op: Op, _: &str) -> io::Result<()> {
            let mut left = self.0.lock();
            let counted = [
                Op::Create,
                Op::CreateDirectory,
                Op::Sync,
                Op::SyncNames,
                Op::Rename,
            ];
            if let Some(n) = &mut *left
                && counted.contains(&op)
            {
                *n = n.wrapping_sub(1);
                if *n == u32::MAX {
                    *left = None;
                    return Err(io::Error::from_raw_os_error(28));
                }
            }
            Ok(())
        }
    }
    let mut failures = 0;
    for n in 0.. {
        let world = World::new();
        let fail = Arc::new(Fail(Mutex::new(None)));
        let engine = world.hooked(fail.clone()).open().unwrap();
        prepare_other(&engine);
        *fail.0.lock() = Some(n);
        let made = engine.create_topic("t", 2, config(Ack::Synced));
        if fail.0.lock().take().is_some() {
            made.unwrap();
            break;
        }
        failures += 1;
        let error = made.err().unwrap_or_else(|| panic!("step {n} failed"));
        let typed = matches!(error, TopicError::Io { .. } | TopicError::Open(_));
        assert!(typed && error.to_string().contains("No space"), "{error}");
        assert!(engine.topic("t").is_err(), "step {n}");
        create_t(&engine);
        let partition = engine.topic("t").unwrap().partition(1).unwrap();
        partition.blocking_append(&plain("x")).unwrap();
        let engine = world.after_power_cut().open();
        assert_eq!(read(&engine, "t", 1), [(0, "x".to_owned())], "step {n}");
    }
    assert!(failures > 5, "only {failures} steps could fail");
}
