//! What an append would be answered, by the log that would answer it.

use log_engine::{Decision, Engine, Partition, ProducerIdentity, Record, TopicConfig};

fn told(
    partition: &Partition,
    id: i64,
    epoch: i16,
    sequence: i32,
) -> (Decision, &'static str, Option<u64>) {
    let identity = ProducerIdentity {
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
    };
    let told = partition.explain(identity, 2).unwrap();
    (told.decision, told.rule, told.offset)
}

/// Batches of two records each, by a named producer.
fn send(engine: &Engine, positions: std::ops::Range<u64>) -> (i64, i16) {
    let producer = engine.producer().name("feed").take_over();
    let hour = std::time::Duration::from_secs(3_600);
    let producer = producer.batch_records(2).linger(hour).open().unwrap();
    for position in positions {
        let record = Record::to("t").value("v").position(position);
        drop(producer.blocking_send(record).unwrap());
    }
    producer.blocking_flush().unwrap();
    producer.identity()
}

#[test]
fn the_live_table_is_asked_and_nothing_is_appended() {
    let engine = Engine::in_memory();
    let partition = engine.ensure_topic("t", 1).unwrap().partition(0).unwrap();
    let mut id = 0;
    for first in [0, 2, 4] {
        id = send(&engine, first..first + 2).0;
    }
    assert_eq!(partition.log_end_offset(), 6);
    assert_eq!(
        told(&partition, id, 2, 0),
        (Decision::Duplicate, "D2", Some(4))
    );
    assert_eq!(
        told(&partition, id, 2, 2),
        (Decision::Append, "D11", Some(6))
    );
    assert_eq!(
        told(&partition, id, 2, 4),
        (Decision::OutOfOrder, "D12", None)
    );
    assert_eq!(told(&partition, id, 1, 2), (Decision::Fenced, "D4", None));
    // The next holder fences this one before it writes anything.
    send(&engine, 0..0);
    assert_eq!(told(&partition, id, 2, 2), (Decision::Fenced, "D4", None));
    assert_eq!(
        told(&partition, id, 3, 0),
        (Decision::Append, "D7", Some(6))
    );
    assert_eq!(partition.log_end_offset(), 6);
}

#[test]
fn a_topic_without_the_check_appends_whatever_comes() {
    let engine = Engine::in_memory();
    let config = TopicConfig::default().with_idempotence(false);
    let topic = engine.create_topic("t", 1, config).unwrap();
    let partition = topic.partition(0).unwrap();
    assert_eq!(
        told(&partition, 7, 0, 99),
        (Decision::Append, "D0", Some(0))
    );
}
