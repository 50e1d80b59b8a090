//! Records and batches that are too large.

use log_engine::{Ack, Action, Compression, Record, SendError};

use crate::ways::{Recorder, numbered, send, topic};
use crate::world::{World, config, values};

#[test]
fn a_record_that_is_too_large_is_refused_and_others_go_on() {
    let engine = World::new().open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().max_record_bytes(1_000).open().unwrap();
    let before = send(&producer, "before");
    // The limit is one of the encoded batch, and exact to a few bytes of varints.
    let largest = (0..1_000)
        .rev()
        .find(|n| {
            let value = "x".repeat(*n);
            producer.try_send(Record::to("t").value(&value)).is_ok()
        })
        .unwrap();
    assert!((850..940).contains(&largest), "{largest}");
    let value = "x".repeat(2_000);
    let error = producer
        .try_send(Record::to("t").value(&value))
        .unwrap_err();
    let SendError::TooLarge { bytes, limit, .. } = error else {
        panic!("{error}");
    };
    assert!(bytes > 2_000 && limit == 1_000);
    assert_eq!(error.action(), Action::FixData);
    let text = error.to_string();
    assert!(
        text.contains("topic t exceeds max_record_bytes 1000"),
        "{text}"
    );
    let after = send(&producer, "after");
    assert_eq!(before.blocking_wait().unwrap().offset, Some(0));
    assert_eq!(after.blocking_wait().unwrap().offset, Some(2));
    producer.blocking_close().unwrap();
    assert_eq!(
        values(&engine, "t"),
        ["before".to_owned(), "x".repeat(largest), "after".to_owned()]
    );
}

#[test]
fn batches_keep_to_the_topics_limits() {
    for (setting, limit) in [("max.message.bytes", 600), ("segment.bytes", 4_096)] {
        let engine = World::new().open();
        let mut settings = config(Ack::Memory);
        settings.set(setting, &limit.to_string()).unwrap();
        engine.create_topic("t", 1, settings).unwrap();
        let recorder = Recorder::default();
        let producer = engine
            .producer()
            .linger(std::time::Duration::from_secs(3_600))
            .transport(recorder.clone())
            .open()
            .unwrap();
        for value in numbered(500) {
            let _ = send(&producer, &value);
        }
        let value = "x".repeat(limit);
        let error = producer
            .try_send(Record::to("t").value(&value))
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("{setting} {limit}")), "{text}");
        producer.blocking_close().unwrap();
        assert!(recorder.sent().iter().all(|(_, b)| b.len() <= limit));
        assert!(recorder.sizes(0).iter().all(|size| *size > 5));
        assert_eq!(values(&engine, "t"), numbered(500), "{setting}");
    }
}

#[test]
fn what_compression_makes_fit_is_taken_and_what_not_fails_alone() {
    let engine = World::new().open();
    let mut settings = config(Ack::Memory);
    settings.set("max.message.bytes", "600").unwrap();
    engine.create_topic("t", 1, settings).unwrap();
    let producer = engine
        .producer()
        .compression(Compression::Lz4)
        .max_in_flight(1)
        .open()
        .unwrap();
    let (even, mut uneven) = ("x".repeat(5_000), String::new());
    for n in 0..1_000_u64 {
        uneven.push_str(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string());
    }
    let first = send(&producer, &even);
    first.blocking_wait().unwrap();
    let error = send(&producer, &uneven).blocking_wait().unwrap_err();
    assert!(!error.is_outcome_unknown(), "{error}");
    assert!(
        error.to_string().contains("max.message.bytes 600"),
        "{error}"
    );
    assert_eq!(
        send(&producer, "after").blocking_wait().unwrap().offset,
        Some(1)
    );
    assert_eq!(values(&engine, "t"), [even, "after".to_owned()]);
}
