//! The name of an append: kept as text, asked in another run.

use log_engine::{Ack, AppendId, Forgotten, Resolution};

use crate::ways::{send, topic};
use crate::world::World;

#[test]
fn an_append_id_survives_as_text() {
    let world = World::new();
    let engine = world.open();
    engine
        .create_topic("a.b-c_d", 3, crate::world::config(Ack::Synced))
        .unwrap();
    let producer = engine.producer().open().unwrap();
    let record = || log_engine::Record::to("a.b-c_d").key("k").value("v");
    let _ = producer.try_send(record()).unwrap();
    let ticket = producer.try_send(record()).unwrap();
    let id = ticket.id().clone();
    let text = id.to_string();
    assert_eq!(text.parse::<AppendId>().unwrap(), id);
    let (producer_id, epoch) = producer.identity();
    let at = ticket.blocking_wait().unwrap();
    let topic_id = engine.topic("a.b-c_d").unwrap().id();
    let expected = |index| {
        let numbers = format!("{producer_id}.{epoch}.1.{index}");
        format!("a.b-c_d/{}/{numbers}/{topic_id:032x}", at.partition)
    };
    assert!(text == expected(0) || text == expected(1), "{text}");
    engine.close().unwrap();
    let engine = world.after_power_cut().open();
    let resolution = engine.blocking_resolve(&text.parse().unwrap()).unwrap();
    assert_eq!(resolution, Resolution::Written { offset: at.offset });
}

#[test]
fn ids_that_no_run_gave_out_are_not_written() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    send(&producer, "v").blocking_wait().unwrap();
    let topic_id = format!("{:032x}", engine.topic("t").unwrap().id());
    let ask = |text: &str| {
        let id: AppendId = format!("{text}/{topic_id}").parse().unwrap();
        engine.blocking_resolve(&id).unwrap()
    };
    for text in ["t/0/999999.0.0.0", "t/0/0.0.0.0"] {
        assert_eq!(ask(text), Resolution::NotWritten, "{text}");
    }
    let gone = |topic: &str| Resolution::Forgotten(Forgotten::TopicDeleted(topic.into()));
    assert_eq!(ask("other/0/1.0.0.0"), gone("other"));
    assert_eq!(ask("t/7/1.0.0.0"), gone("t"));
    // Asking in vain disturbs nobody.
    assert_eq!(
        send(&producer, "w").blocking_wait().unwrap().offset,
        Some(1)
    );
}

#[test]
fn a_topic_made_again_under_the_name_knows_nothing_of_the_old_ones_records() {
    let world = World::new();
    let engine = world.open();
    topic(&engine, 1, Ack::Synced);
    let producer = engine.producer().open().unwrap();
    let ticket = send(&producer, "v");
    let id = ticket.id().clone();
    ticket.blocking_wait().unwrap();
    engine.delete_topic("t").unwrap();
    topic(&engine, 1, Ack::Synced);
    let gone = Resolution::Forgotten(Forgotten::TopicDeleted("t".into()));
    assert_eq!(engine.blocking_resolve(&id).unwrap(), gone);
    let again = engine.producer().open().unwrap();
    let ticket = send(&again, "w");
    let new_id = ticket.id().clone();
    assert_eq!(ticket.blocking_wait().unwrap().offset, Some(0));
    engine.close().unwrap();
    let engine = world.after_power_cut().open();
    let text = id.to_string();
    assert_eq!(
        engine.blocking_resolve(&text.parse().unwrap()).unwrap(),
        gone
    );
    let written = Resolution::Written { offset: Some(0) };
    assert_eq!(engine.blocking_resolve(&new_id).unwrap(), written);
}
