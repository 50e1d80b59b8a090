//! Reading beside a writer: no lock, nothing written, what is durable, at most a second late.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Instant, SystemTime};

use log_engine::{Ack, AppendError, Engine, ReadError, SessionError, TopicConfig, TopicError};

use crate::world::{config, numbered, plain, read, values};

type Listing = BTreeMap<String, (u64, SystemTime)>;

fn listing(directory: &Path) -> Listing {
    let mut found = Listing::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                todo.push(entry.path());
            }
            let name = entry
                .path()
                .strip_prefix(directory)
                .unwrap()
                .display()
                .to_string();
            found.insert(name, (meta.len(), meta.modified().unwrap()));
        }
    }
    found
}

#[test]
fn it_refuses_to_write_and_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let writer = Engine::open(root.path()).unwrap();
    let topic = writer.create_topic("t", 2, config(Ack::Synced)).unwrap();
    let partition = topic.partition(0).unwrap();
    let id = writer.session().unwrap().producer_id();
    partition
        .blocking_append(&numbered(id, 0, &["a", "b"]))
        .unwrap();
    writer.close().unwrap();
    drop((partition, topic, writer));

    let before = listing(root.path());
    let engine = Engine::open_read_only(root.path()).unwrap();
    assert!(engine.is_read_only());
    assert_eq!(
        (
            engine.opened().writer.as_ref(),
            engine.opened().bytes_above_mark
        ),
        (None, 0)
    );
    assert_eq!(values(&engine, "t"), ["a", "b"]);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let refused = [
        partition.blocking_append(&plain("x")).err(),
        partition.try_append(&plain("x")).err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(AppendError::ReadOnly)), "{error:?}");
    }
    let refused = [
        engine.create_topic("u", 1, TopicConfig::default()).err(),
        engine.delete_topic("t").err(),
        partition.delete_before(1).err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(TopicError::ReadOnly)), "{error:?}");
    }
    assert!(matches!(
        engine.session().err(),
        Some(SessionError::ReadOnly)
    ));
    let producers = partition.producers().unwrap();
    assert_eq!(producers.len(), 1);
    assert_eq!((producers[0].producer_id, producers[0].epoch), (id, 0));
    assert_eq!(partition.offset_for_timestamp(0).unwrap(), Some((0, 1_000)));
    let described = engine.topic("t").unwrap().describe();
    assert_eq!(
        (described.records, described.partitions[0].segments),
        (2, 1)
    );
    engine.close().unwrap();
    drop((partition, engine));
    assert_eq!(listing(root.path()), before);
}

#[test]
fn it_follows_a_writer_over_rolls_within_a_second() {
    let root = tempfile::tempdir().unwrap();
    let writer = Engine::open(root.path()).unwrap();
    let mut settings = config(Ack::Synced);
    settings.set("segment.bytes", "8192").unwrap();
    let topic = writer.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    partition.blocking_append(&plain("first")).unwrap();

    let reader = Engine::open_read_only(root.path()).unwrap();
    let me = format!("process {}", std::process::id());
    assert!(reader.opened().writer.as_ref().unwrap().contains(&me));
    let mut follower = reader.reader("t").follow().open().unwrap();
    assert_eq!(
        follower.blocking_iter().next().unwrap().unwrap().offset(),
        0
    );
    let writing = thread::spawn(move || {
        for n in 1..400 {
            partition
                .blocking_append(&plain(&format!("{n:0100}")))
                .unwrap();
        }
        Instant::now()
    });
    for expected in 1..400 {
        let record = follower.blocking_iter().next().unwrap().unwrap();
        assert_eq!(record.offset(), expected);
        assert_eq!(
            record.value().unwrap(),
            format!("{expected:0100}").as_bytes()
        );
    }
    let late = writing.join().unwrap().elapsed();
    // Its own bound is a second; a busy machine may take a few more.
    assert!(late.as_millis() < 10_000, "{late:?} late");
    assert!(topic.describe().partitions[0].segments > 4);
    // One that is opened now sees all of it at once, and another start of the log.
    let partition = topic.partition(0).unwrap();
    partition.delete_before(200).unwrap();
    let second = Engine::open_read_only(root.path()).unwrap();
    let found = read(&second, "t", 0);
    assert_eq!((found.first().unwrap().0, found.len()), (200, 200));
    writer.close().unwrap();
    let next = partition.blocking_append(&plain("x"));
    assert!(matches!(next, Err(AppendError::Closed)));
    drop((partition, topic, writer));
    // A later writer is followed too.
    let writer = Engine::open(root.path()).unwrap();
    let partition = writer.topic("t").unwrap().partition(0).unwrap();
    partition.blocking_append(&plain("after")).unwrap();
    let record = follower.blocking_iter().next().unwrap().unwrap();
    assert_eq!(
        (record.offset(), record.value().unwrap().as_ref()),
        (400, &b"after"[..])
    );
}

#[test]
fn it_shows_only_what_is_durable_and_says_what_lies_above() {
    let root = tempfile::tempdir().unwrap();
    let writer = Engine::open(root.path()).unwrap();
    let mut settings = config(Ack::Memory);
    settings.set("flush.ms", "86400000").unwrap();
    let topic = writer.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    let synced = partition.raise_ack(Ack::Synced).unwrap();
    synced.blocking_append(&plain("durable")).unwrap();
    partition.blocking_append(&plain("not yet")).unwrap();
    assert_eq!(values(&writer, "t"), ["durable", "not yet"]);
    let reader = Engine::open_read_only(root.path()).unwrap();
    assert_eq!(values(&reader, "t"), ["durable"]);
    assert_eq!(reader.opened().bytes_above_mark, 0, "a writer lives");
    drop(reader);
    // A copy of its files is what a killed process leaves.
    let copy = tempfile::tempdir().unwrap();
    copy_tree(root.path(), copy.path());
    let reader = Engine::open_read_only(copy.path()).unwrap();
    assert_eq!(reader.opened().writer, None);
    assert_eq!(
        reader.opened().bytes_above_mark,
        plain("not yet").len() as u64
    );
    assert!(reader.opened().summary().contains("above the stable marks"));
    assert_eq!(values(&reader, "t"), ["durable"]);
    drop(reader);
    let recovered = Engine::open(copy.path()).unwrap();
    assert_eq!(values(&recovered, "t"), ["durable", "not yet"]);
    recovered.close().unwrap();
    drop(recovered);
    let reader = Engine::open_read_only(copy.path()).unwrap();
    assert_eq!(values(&reader, "t"), ["durable", "not yet"]);
    assert_eq!(reader.opened().bytes_above_mark, 0);
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn many_threads_may_read_one_log_of_another_process() {
    let root = tempfile::tempdir().unwrap();
    let writer = Engine::open(root.path()).unwrap();
    let mut settings = config(Ack::Synced);
    settings.set("segment.bytes", "4096").unwrap();
    let topic = writer.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    partition.blocking_append(&plain("first")).unwrap();
    let reader = Engine::open_read_only(root.path()).unwrap();
    let followers: Vec<_> = (0..4)
        .map(|_| {
            let mut follower = reader.reader("t").follow().open().unwrap();
            thread::spawn(move || {
                for expected in 0..600 {
                    let record = follower.blocking_iter().next().unwrap().unwrap();
                    assert_eq!(record.offset(), expected);
                }
            })
        })
        .collect();
    for n in 1..600 {
        partition
            .blocking_append(&plain(&format!("{n:050}")))
            .unwrap();
    }
    followers.into_iter().for_each(|f| f.join().unwrap());
}

#[test]
fn a_reader_beside_a_writer_is_told_what_was_deleted() {
    let root = tempfile::tempdir().unwrap();
    let writer = Engine::open(root.path()).unwrap();
    let mut settings = config(Ack::Synced);
    settings.set("segment.bytes", "8192").unwrap();
    let topic = writer.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    for n in 0..400 {
        partition
            .blocking_append(&plain(&format!("{n:0100}")))
            .unwrap();
    }
    let beside = Engine::open_read_only(root.path()).unwrap();
    let mut reader = beside.reader("t").open().unwrap();
    let mut records = reader.blocking_iter();
    assert_eq!(records.next().unwrap().unwrap().offset(), 0);
    partition.delete_before(300).unwrap();
    let error = records.find_map(Result::err);
    assert!(
        matches!(error, Some(ReadError::Deleted { first: 300, .. })),
        "{error:?}"
    );
}
