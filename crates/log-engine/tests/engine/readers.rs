//! Readers: where they begin, what they see, what they hold, and how they wait.

use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use log_engine::{Ack, BatchBuilder, BatchHeader, Engine, ReadError, Record, Start};

use crate::world::{World, config, numbered, one_partition, plain, read, values};

fn three_of(engine: &Engine) {
    let topic = engine.create_topic("t", 1, config(Ack::Synced)).unwrap();
    let partition = topic.partition(0).unwrap();
    let mut batch = BatchBuilder::new();
    for (timestamp, value) in [(100, "a"), (300, "b"), (200, "c")] {
        batch
            .push(timestamp, None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    partition
        .blocking_append(batch.build(None).unwrap())
        .unwrap();
    let mut batch = BatchBuilder::new();
    batch.push(500, None, Some(b"d"), &[]).unwrap();
    partition
        .blocking_append(batch.build(None).unwrap())
        .unwrap();
}

fn from(engine: &Engine, start: Start) -> Vec<u64> {
    let mut reader = engine.reader("t").partition(0).start(start).open().unwrap();
    reader
        .blocking_iter()
        .map(|r| r.unwrap().offset())
        .collect()
}

#[test]
fn a_reader_begins_where_it_is_told() {
    let engine = World::new().open();
    three_of(&engine);
    assert_eq!(from(&engine, Start::Earliest), [0, 1, 2, 3]);
    assert!(from(&engine, Start::Latest).is_empty());
    for offset in 0..=4 {
        let expected: Vec<u64> = (offset..4).collect();
        assert_eq!(from(&engine, Start::Offset(offset)), expected);
    }
    let at = |ms| Start::Timestamp(UNIX_EPOCH + Duration::from_millis(ms));
    for (ms, expected) in [
        (0, 0),
        (100, 0),
        (101, 1),
        (300, 1),
        (301, 3),
        (500, 3),
        (501, 4),
    ] {
        let expected: Vec<u64> = (expected..4).collect();
        assert_eq!(from(&engine, at(ms)), expected, "{ms}");
    }
    let before_1970 = Start::Timestamp(UNIX_EPOCH - Duration::from_secs(1));
    assert_eq!(from(&engine, before_1970), [0, 1, 2, 3]);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    assert_eq!(partition.offset_for_timestamp(101).unwrap(), Some((1, 300)));
    assert_eq!(partition.offset_for_timestamp(501).unwrap(), None);
    let error = engine
        .reader("t")
        .partition(0)
        .start(Start::Offset(5))
        .open()
        .err()
        .unwrap();
    let out = matches!(
        error,
        ReadError::OutOfRange {
            asked: 5,
            end: 4,
            ..
        }
    );
    assert!(out, "{error}");
}

#[test]
fn a_deleted_offset_is_an_error_that_says_where_the_log_begins() {
    let engine = World::new().open();
    three_of(&engine);
    let mut reader = engine.reader("t").open().unwrap();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    partition.delete_before(3).unwrap();
    let error = engine
        .reader("t")
        .start(Start::Offset(1))
        .open()
        .err()
        .unwrap();
    assert_eq!(error.first_available(), Some(3));
    // The error repeats and the place is kept (I27).
    for _ in 0..2 {
        let error = reader.blocking_iter().next().unwrap().err().unwrap();
        let deleted = matches!(
            error,
            ReadError::Deleted {
                asked: 0,
                first: 3,
                ..
            }
        );
        assert!(deleted, "{error}");
    }
    reader.seek(0, 3);
    let rest: Vec<u64> = reader
        .blocking_iter()
        .map(|r| r.unwrap().offset())
        .collect();
    assert_eq!(rest, [3]);
    // Inside of a batch: what was deleted is not shown, though its batch is there.
    assert_eq!(from(&engine, Start::Earliest), [3]);
}

#[test]
fn deleting_inside_of_a_batch_hides_its_first_records() {
    let engine = World::new().open();
    three_of(&engine);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    partition.delete_before(1).unwrap();
    assert_eq!(from(&engine, Start::Earliest), [1, 2, 3]);
}

#[test]
fn case_117_the_start_stays_at_or_below_the_high_watermark() {
    let engine = World::new().open();
    three_of(&engine);
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    partition.delete_before(1).unwrap();
    let error = partition.delete_before(5).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("5 is outside of 1 to 4"), "{text}");
    assert_eq!(partition.log_start_offset(), 1);
    partition.delete_before(4).unwrap();
    assert_eq!(partition.log_start_offset(), 4);
}

#[test]
fn records_come_back_whole() {
    let engine = World::new().open();
    engine.ensure_topic("t", 1).unwrap();
    let session = engine.session().unwrap();
    let mut appender = session.appender("t", 0).unwrap();
    let records = [
        Record::new()
            .key("k")
            .value("v")
            .timestamp(7)
            .header("a", Some(b"1"))
            .header("a", Some(b"2")),
        Record::new()
            .key("")
            .value("")
            .header("biz-id", Some(b"order-1"))
            .header("none", None),
        Record::new(),
    ];
    appender.blocking_append(&records).unwrap();
    let mut reader = engine.reader("t").open().unwrap();
    let all: Vec<_> = reader.blocking_iter().map(Result::unwrap).collect();
    assert_eq!(all.len(), 3);
    let first = &all[0];
    assert_eq!(
        (
            first.topic(),
            first.partition(),
            first.offset(),
            first.timestamp()
        ),
        ("t", 0, 0, 7)
    );
    assert_eq!(
        (
            first.key().unwrap().as_ref(),
            first.value().unwrap().as_ref()
        ),
        (&b"k"[..], &b"v"[..])
    );
    assert_eq!(first.header("a").unwrap().as_ref(), b"2");
    assert_eq!(first.headers().count(), 2);
    let producer = (session.producer_id(), session.epoch());
    assert_eq!(
        (first.producer_id(), first.producer_epoch()),
        (Some(producer.0), Some(producer.1))
    );
    let second = &all[1];
    assert_eq!(second.key().map(|k| k.len()), Some(0));
    assert_eq!(second.value().map(|v| v.len()), Some(0));
    assert_eq!(second.biz_id().unwrap().as_ref(), b"order-1");
    assert_eq!(second.timestamp(), crate::world::WALL_MS);
    assert_eq!((all[2].key(), all[2].value()), (None, None));
    assert_eq!(all[2].sequence(), Some(2));
}

#[test]
fn all_partitions_are_read_each_in_its_order() {
    let engine = World::new().open();
    let topic = engine.create_topic("t", 3, config(Ack::Synced)).unwrap();
    for n in 0..30 {
        let partition = topic.partition(n % 3).unwrap();
        partition.blocking_append(&plain(&n.to_string())).unwrap();
    }
    let mut reader = engine.reader("t").max_bytes(1).open().unwrap();
    let mut next = [0_u64; 3];
    let mut partitions = Vec::new();
    for record in reader.blocking_iter() {
        let record = record.unwrap();
        let at = &mut next[record.partition() as usize];
        assert_eq!(record.offset(), *at);
        *at += 1;
        partitions.push(record.partition());
    }
    assert_eq!(next, [10; 3]);
    assert_eq!(partitions[..6], [0, 1, 2, 0, 1, 2], "none starves");
    assert_eq!(reader.position(2), Some(10));
    assert_eq!(reader.position(3), None);
}

#[test]
fn a_follower_is_woken_by_appends_and_sees_each_once() {
    for ack in [Ack::Memory, Ack::Synced] {
        let engine = World::new().open();
        let topic = engine.create_topic("t", 2, config(ack)).unwrap();
        let mut follower = engine.reader("t").follow().open().unwrap();
        let writer = thread::spawn(move || {
            for n in 0..500 {
                let partition = topic.partition(n % 2).unwrap();
                partition.blocking_append(&plain(&n.to_string())).unwrap();
            }
        });
        let mut next = [0_u64; 2];
        for record in follower.blocking_iter().take(500) {
            let record = record.unwrap();
            let at = &mut next[record.partition() as usize];
            assert_eq!(record.offset(), *at, "{ack}");
            *at += 1;
        }
        assert_eq!(next, [250; 2]);
        writer.join().unwrap();
    }
}

#[test]
fn a_clone_has_its_own_place() {
    let engine = World::new().open();
    three_of(&engine);
    let mut reader = engine.reader("t").open().unwrap();
    reader.blocking_iter().next().unwrap().unwrap();
    let mut clone = reader.clone();
    assert_eq!((reader.position(0), clone.position(0)), (Some(1), Some(1)));
    assert_eq!(clone.blocking_iter().count(), 3);
    assert_eq!(reader.blocking_iter().count(), 3);
}

#[test]
fn at_synced_nothing_is_seen_before_it_is_durable() {
    let world = World::new();
    let engine = world.open();
    let partition = one_partition(&engine, Ack::Synced);
    let gate = world.disk.hold_syncs();
    let pending = partition.blocking_start(&plain("second")).unwrap();
    gate.wait_until_syncs_wait(1);
    assert_eq!(values(&engine, "t"), ["first"]);
    assert_eq!(engine.topic("t").unwrap().describe().records, 1);
    drop(gate);
    pending.blocking_wait().unwrap();
    assert_eq!(values(&engine, "t"), ["first", "second"]);
}

#[test]
fn a_follower_goes_over_a_gap_that_a_crash_left() {
    let world = World::new();
    let engine = world.open();
    one_partition(&engine, Ack::Memory);
    let engine = world.after_kill().open();
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let mut follower = engine.reader("t").follow().open().unwrap();
    assert_eq!(
        follower.blocking_iter().next().unwrap().unwrap().offset(),
        0
    );
    // Nothing lies in the gap: the reader waits behind it, and does not spin before it.
    let pending = {
        let next = std::pin::pin!(follower.next());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        next.poll(&mut context).is_pending()
    };
    assert!(pending);
    let at = partition.blocking_append(&plain("second")).unwrap();
    assert!(at.offset > 1);
    let record = follower.blocking_iter().next().unwrap().unwrap();
    assert_eq!(
        (record.offset(), record.value().unwrap().as_ref()),
        (at.offset, &b"second"[..])
    );
}

#[test]
fn bytes_that_are_held_outlive_their_file() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let mut settings = config(Ack::Synced);
    settings.set("segment.bytes", "4096").unwrap();
    let topic = engine.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    let value = "v".repeat(500);
    for _ in 0..40 {
        partition.blocking_append(&plain(&value)).unwrap();
    }
    assert!(topic.describe().partitions[0].segments > 3);
    let mut reader = engine.reader("t").open().unwrap();
    let batches = reader.blocking_next_batches().unwrap().unwrap();
    let mut held: Vec<_> = vec![batches.bytes.clone()];
    let copy = batches.bytes.to_vec();
    let mut records: Vec<_> = reader.blocking_iter().map(Result::unwrap).collect();
    partition.delete_before(30).unwrap();
    assert_eq!(held[0], copy);
    engine.delete_topic("t").unwrap();
    assert_eq!(held[0], copy);
    engine.close().unwrap();
    drop((reader, partition, topic, engine));
    assert_eq!(held.pop().unwrap(), copy);
    let header = BatchHeader::read(&copy).unwrap();
    assert_eq!(header.base_offset, 0);
    assert!(records.len() > 25);
    let last = records.pop().unwrap();
    assert_eq!(
        (last.offset(), last.value().unwrap().as_ref()),
        (39, value.as_bytes())
    );
}

#[test]
fn segments_roll_under_readers_that_follow() {
    const READERS: usize = 3;
    const RECORDS: u64 = 3_000;
    for ack in [Ack::Memory, Ack::Synced] {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(directory.path()).unwrap();
        let mut settings = config(ack);
        settings.set("segment.bytes", "16384").unwrap();
        let topic = engine.create_topic("t", 1, settings).unwrap();
        let readers: Vec<_> = (0..READERS)
            .map(|n| {
                let mut reader = engine
                    .reader("t")
                    .follow()
                    .max_bytes(1 << (8 * n))
                    .open()
                    .unwrap();
                thread::spawn(move || {
                    for expected in 0..RECORDS {
                        let record = reader.blocking_iter().next().unwrap().unwrap();
                        assert_eq!(record.offset(), expected);
                        let value = format!("{expected:060}");
                        assert_eq!(record.value().unwrap(), value.as_bytes());
                    }
                })
            })
            .collect();
        let partition = topic.partition(0).unwrap();
        let mut pending = Vec::new();
        for n in 0..RECORDS {
            let batch = plain(&format!("{n:060}"));
            pending.push(partition.blocking_start(&batch).unwrap());
        }
        for (n, pending) in pending.into_iter().enumerate() {
            assert_eq!(pending.blocking_wait().unwrap().offset, n as u64);
        }
        readers.into_iter().for_each(|r| r.join().unwrap());
        assert!(topic.describe().partitions[0].segments >= 20);
        engine.close().unwrap();
        drop((partition, topic, engine));
        let engine = Engine::open(directory.path()).unwrap();
        assert_eq!(read(&engine, "t", 0).len() as u64, RECORDS);
        assert_eq!(engine.opened().summary(), "");
    }
}

#[test]
fn segments_roll_by_age() {
    let world = World::new();
    let engine = world.open();
    let mut settings = config(Ack::Synced);
    settings.set("segment.ms", "60000").unwrap();
    let topic = engine.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    partition.blocking_append(&plain("old")).unwrap();
    world.clock.advance(60_001);
    let sealed = || {
        let name = "t-0/00000000000000000000.footer";
        world.disk.read_file(name).is_ok()
    };
    while !sealed() {
        thread::yield_now();
    }
    partition.blocking_append(&plain("new")).unwrap();
    assert_eq!(topic.describe().partitions[0].segments, 2);
    assert_eq!(read(&engine, "t", 0).len(), 2);
}

#[test]
fn compressed_batches_are_read_as_any_other() {
    use log_engine::Compression;
    let engine = World::new().open();
    engine.ensure_topic("t", 1).unwrap();
    let all = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for compression in all {
        let session = engine.session().unwrap();
        let mut appender = session.appender("t", 0).unwrap().compression(compression);
        let value = compression.name().repeat(100);
        let records = vec![Record::new().value(&value); 20];
        appender.blocking_append(&records).unwrap();
    }
    let values = values(&engine, "t");
    assert_eq!(values.len(), 100);
    for (n, value) in values.iter().enumerate() {
        assert_eq!(*value, all[n / 20].name().repeat(100));
    }
}

#[test]
fn case_046_a_repeat_answers_with_the_time_of_the_original() {
    for (ack, kind) in [(Ack::Synced, "CreateTime"), (Ack::Synced, "LogAppendTime")] {
        let world = World::new();
        let engine = world.open();
        let mut settings = config(ack);
        settings.set("message.timestamp.type", kind).unwrap();
        let topic = engine.create_topic("t", 1, settings).unwrap();
        let partition = topic.partition(0).unwrap();
        let id = engine.session().unwrap().producer_id();
        let batch = numbered(id, 0, &["once"]);
        let first = partition.blocking_append(&batch).unwrap();
        let expected = match kind {
            "CreateTime" => 1_000,
            _ => crate::world::WALL_MS,
        };
        assert_eq!(first.timestamp, Some(expected));
        world.clock.advance(5_000);
        let repeat = partition.blocking_append(&batch).unwrap();
        assert_eq!(
            (repeat.duplicate, repeat.timestamp),
            (true, Some(expected)),
            "{kind}"
        );
    }
}
