//! Topics that are missing, made on the way, deleted, or made again.

use log_engine::{Ack, Action, AppendError, Forgotten, Record, Resolution, SendError, TopicError};

use crate::ways::{send, topic};
use crate::world::{World, config, values};

#[test]
fn a_missing_topic_is_an_error_that_says_how_to_make_it() {
    let engine = World::new().open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let error = producer
        .try_send(Record::to("none").value("v"))
        .unwrap_err();
    assert!(matches!(
        error,
        SendError::Topic(TopicError::UnknownTopic { .. })
    ));
    assert_eq!(error.action(), Action::FixCall);
    let text = error.to_string();
    assert!(text.contains("none") && text.contains("create"), "{text}");
    let error = producer.try_send(Record::new().value("v")).unwrap_err();
    assert!(error.to_string().contains("Record::to(topic)"), "{error}");
    assert_eq!(
        send(&producer, "v").blocking_wait().unwrap().offset,
        Some(0)
    );
    // Once it is there, the same producer finds it.
    engine.create_topic("none", 1, config(Ack::Synced)).unwrap();
    let ticket = producer.try_send(Record::to("none").value("v")).unwrap();
    assert_eq!(ticket.blocking_wait().unwrap().offset, Some(0));
}

#[test]
fn a_producer_may_be_told_to_make_topics() {
    let engine = World::new().builder().ack(Ack::Memory).open().unwrap();
    let producer = engine.producer().create_topics(4).open().unwrap();
    let at = producer
        .blocking_append(Record::to("new").value("v"))
        .unwrap();
    assert_eq!(at.offset, Some(0));
    let made = engine.topic("new").unwrap();
    assert_eq!((made.partitions(), made.config().ack()), (4, Ack::Memory));
    let refused = producer.try_send(Record::to("../up").value("v"));
    assert!(matches!(refused, Err(SendError::Topic(_))));
    // One that is there with another number of partitions is taken as it is.
    topic(&engine, 2, Ack::Synced);
    assert_eq!(
        send(&producer, "v").blocking_wait().unwrap().offset,
        Some(0)
    );
}

#[test]
fn a_topic_that_is_made_again_is_another_one() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let old = send(&producer, "old");
    let id = old.id().clone();
    old.blocking_wait().unwrap();
    let gate = world.disk.hold_syncs();
    let under_way = send(&producer, "under way");
    gate.wait_until_syncs_wait(1);
    let deleting = std::thread::spawn({
        let engine = engine.clone();
        move || engine.delete_topic("t")
    });
    drop(gate);
    deleting.join().unwrap().unwrap();
    match under_way.blocking_wait() {
        Ok(at) => assert_eq!(at.offset, Some(1)),
        Err(error) => assert!(
            matches!(error, AppendError::TopicDeleted { .. }) || error.is_outcome_unknown(),
            "{error}"
        ),
    }
    let gone = producer.try_send(Record::to("t").value("v"));
    assert!(matches!(
        gone,
        Err(SendError::Topic(TopicError::UnknownTopic { .. }))
    ));
    let forgotten = Resolution::Forgotten(Forgotten::TopicDeleted("t".into()));
    assert_eq!(engine.blocking_resolve(&id).unwrap(), forgotten);
    topic(&engine, 1, Ack::Synced);
    let new = send(&producer, "new");
    assert_ne!(new.id(), &id, "it would name two records");
    assert_eq!(new.blocking_wait().unwrap().offset, Some(0));
    // What the new topic knows says nothing of a record of the old one.
    assert_eq!(engine.blocking_resolve(&id).unwrap(), forgotten);
    assert_eq!(values(&engine, "t"), ["new"]);
}
