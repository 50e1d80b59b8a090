//! Bad input through the append API: each its own error, with numbers, and nothing is written.

use log_engine::{Ack, Action, AppendError, BatchError, Engine, Record, Rejection, TopicConfig};

use crate::world::{World, config, in_epoch, numbered, one_partition, plain, values};

fn limited(engine: &Engine, key: &str, value: &str) {
    let mut settings = config(Ack::Synced);
    settings.set(key, value).unwrap();
    engine.create_topic("t", 1, settings).unwrap();
}

#[test]
fn a_limit_on_a_record_counts_its_encoded_batch_of_one() {
    let engine = World::new().open();
    let value = "v".repeat(500);
    let size = plain(&value).len();
    limited(&engine, "max.message.bytes", &size.to_string());
    let session = engine.session().unwrap();
    let mut appender = session.appender("t", 0).unwrap();
    let fits = Record::new().value(&value).timestamp(1_000);
    assert_eq!(
        appender
            .blocking_append(std::slice::from_ref(&fits))
            .unwrap()
            .offset,
        0
    );
    // One byte more, wherever it is.
    let longer = "v".repeat(501);
    let too_large = [
        Record::new().value(&longer).timestamp(1_000),
        fits.clone().key("k"),
    ];
    for record in too_large {
        let error = appender.blocking_append(&[record]).unwrap_err();
        let AppendError::TooLarge {
            bytes,
            limit,
            setting,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (*bytes, *limit, *setting),
            (size as u64 + 1, size as u64, "max.message.bytes")
        );
        assert_eq!((error.kafka_code(), error.action()), (10, Action::FixData));
        assert!(error.to_string().contains("topic t"), "{error}");
    }
    assert_eq!(values(&engine, "t").len(), 1);
    assert_eq!(appender.blocking_append(&[fits]).unwrap().offset, 1);
}

#[test]
fn case_015_a_batch_larger_than_a_segment_is_refused() {
    let engine = World::new().open();
    limited(&engine, "segment.bytes", "4096");
    let partition = engine.topic("t").unwrap().partition(0).unwrap();
    let overhead = plain("").len();
    // A longer length needs another byte of varint, twice.
    let largest = plain(&"v".repeat(4096 - overhead - 2));
    assert_eq!(largest.len(), 4096);
    partition.blocking_append(&largest).unwrap();
    let larger = plain(&"v".repeat(4096 - overhead - 1));
    let error = partition.blocking_append(&larger).unwrap_err();
    assert_eq!(error.kafka_code(), 18);
    assert!(error.to_string().contains("4097 bytes"), "{error}");
    assert!(error.to_string().contains("segment.bytes 4096"), "{error}");
    partition.blocking_append(&largest).unwrap();
    assert_eq!(values(&engine, "t").len(), 2);
}

#[test]
fn bytes_that_are_no_batch_are_refused() {
    let engine = World::new().open();
    let partition = one_partition(&engine, Ack::Synced);
    let good = plain("x");
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let mut magic = good.clone();
    magic[16] = 1;
    let mut offset = good.clone();
    offset[7] = 5;
    let bad: [(&[u8], i16); 6] = [
        (b"", 2),
        (&good[..60], 2),
        (&good[..good.len() - 1], 87),
        (&flipped, 2),
        (&magic, 87),
        (&offset, 87),
    ];
    for (bytes, code) in bad {
        let error = partition.blocking_append(bytes).unwrap_err();
        assert!(matches!(error, AppendError::Invalid(_)), "{error}");
        assert_eq!(error.action(), Action::FixData);
        let code = if matches!(error, AppendError::Invalid(BatchError::Length { .. })) {
            87
        } else {
            code
        };
        assert_eq!(error.kafka_code(), code, "{error}");
        assert!(partition.try_append(bytes).is_err());
    }
    assert_eq!(values(&engine, "t"), ["first"]);
}

#[test]
fn gaps_stale_epochs_and_reuse_are_told_apart() {
    let engine = World::new().open();
    let partition = one_partition(&engine, Ack::Synced);
    let id = engine.session().unwrap().producer_id();
    partition
        .blocking_append(&in_epoch(id, 1, 0, &["a"]))
        .unwrap();
    let refused = |batch: &[u8]| match partition.blocking_append(batch).unwrap_err() {
        AppendError::Rejected {
            rejection,
            topic,
            partition,
        } => {
            assert_eq!((topic.as_ref(), partition), ("t", 0));
            rejection
        }
        error => panic!("{error}"),
    };
    let gap = refused(&in_epoch(id, 1, 5, &["x"]));
    assert_eq!(gap.kafka_code(), 45);
    let text = gap.to_string();
    assert!(
        text.contains('5') && text.contains('1'),
        "expected and found: {text}"
    );
    let stale = refused(&in_epoch(id, 0, 1, &["x"]));
    assert_eq!(stale.kafka_code(), 47, "{stale}");
    let reuse = refused(&in_epoch(id, 1, 0, &["other"]));
    assert!(matches!(reuse, Rejection::SequenceReuse { .. }), "{reuse}");
    let unknown = refused(&numbered(id + 500, 3, &["x"]));
    assert_eq!(unknown.kafka_code(), 45);
    assert!(unknown.to_string().contains("start again at"), "{unknown}");
    // None of it left a trace (I6).
    let next = partition
        .blocking_append(&in_epoch(id, 1, 1, &["b"]))
        .unwrap();
    assert_eq!((next.offset, next.duplicate), (2, false));
    assert_eq!(values(&engine, "t"), ["first", "a", "b"]);
}

#[test]
fn without_the_check_a_repeat_is_stored_twice() {
    let engine = World::new().open();
    let settings = TopicConfig::default().with_idempotence(false);
    let topic = engine.create_topic("t", 1, settings).unwrap();
    let partition = topic.partition(0).unwrap();
    let batch = numbered(3, 0, &["once"]);
    assert!(!partition.blocking_append(&batch).unwrap().duplicate);
    assert!(!partition.blocking_append(&batch).unwrap().duplicate);
    assert_eq!(values(&engine, "t"), ["once", "once"]);
}

#[test]
fn try_append_says_that_no_segment_is_ready_and_writes_nothing() {
    let world = World::new();
    let engine = world.open();
    let topic = engine.create_topic("t", 1, config(Ack::Synced)).unwrap();
    let partition = topic.partition(0).unwrap();
    let gate = world.disk.hold_syncs();
    let error = partition.try_append(&plain("early")).err().unwrap();
    assert!(matches!(error, AppendError::NotReady { .. }), "{error}");
    assert_eq!(
        (error.action(), error.is_outcome_unknown()),
        (Action::Retry, false)
    );
    drop(gate);
    let pending = loop {
        match partition.try_append(&plain("now")) {
            Ok(pending) => break pending,
            Err(AppendError::NotReady { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(pending.blocking_wait().unwrap().offset, 0);
    assert_eq!(values(&engine, "t"), ["now"]);
}
