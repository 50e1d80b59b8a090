//! The name of an append: kept as text, asked in another run.

use log_engine::{Ack, AppendId, Resolution};

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
    let expected = format!("a.b-c_d/{}/{producer_id}.{epoch}.1.1", at.partition);
    assert!(
        text == expected || text == expected.replace(".1.1", ".1.0"),
        "{text}"
    );
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
    for text in ["t/0/999999.0.0.0", "t/0/0.0.0.0"] {
        let resolution = engine.blocking_resolve(&text.parse().unwrap()).unwrap();
        assert_eq!(resolution, Resolution::NotWritten, "{text}");
    }
    let topic_is_gone = engine.blocking_resolve(&"other/0/1.0.0.0".parse().unwrap());
    assert!(matches!(topic_is_gone, Ok(Resolution::Forgotten(_))));
    let no_partition = engine.blocking_resolve(&"t/7/1.0.0.0".parse().unwrap());
    assert!(matches!(no_partition, Ok(Resolution::Forgotten(_))));
    // Asking in vain disturbs nobody.
    assert_eq!(
        send(&producer, "w").blocking_wait().unwrap().offset,
        Some(1)
    );
}
