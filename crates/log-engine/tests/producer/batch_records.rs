//! A batch that is full by the number of its records leaves at once.

use std::time::Duration;

use log_engine::{BatchHeader, Engine, Record};

/// Records in each batch of a partition.
fn batches(engine: &Engine, partition: u32) -> Vec<i32> {
    let mut reader = engine.reader("t").partition(partition).open().unwrap();
    let mut counts = Vec::new();
    while let Some(run) = reader.blocking_next_batches() {
        let mut rest = run.unwrap().bytes;
        while !rest.is_empty() {
            let header = BatchHeader::read(&rest).unwrap();
            let _ = rest.split_to(header.size());
            counts.push(header.record_count);
        }
    }
    counts
}

#[test]
fn records_without_a_key_change_the_partition_with_each_full_batch() {
    let engine = Engine::in_memory();
    engine.ensure_topic("t", 2).unwrap();
    let producer = engine.producer().batch_records(3);
    let producer = producer.linger(Duration::from_secs(3_600)).open().unwrap();
    let mut tickets = Vec::new();
    for _ in 0..8 {
        tickets.push(producer.blocking_send(Record::to("t").value("v")).unwrap());
    }
    // Full batches have their answers although nothing else comes for an hour.
    let rest = tickets.split_off(6);
    for ticket in tickets {
        ticket.blocking_wait().unwrap();
    }
    assert_eq!(
        (batches(&engine, 0), batches(&engine, 1)),
        (vec![3], vec![3])
    );
    producer.blocking_flush().unwrap();
    assert_eq!(batches(&engine, 0), [3, 2]);
    drop(rest);
}

#[test]
fn a_batch_holds_at_least_one_record() {
    let engine = Engine::in_memory();
    engine.ensure_topic("t", 1).unwrap();
    let producer = engine.producer().batch_records(0).open().unwrap();
    for _ in 0..3 {
        drop(producer.blocking_send(Record::to("t").value("v")).unwrap());
    }
    producer.blocking_close().unwrap();
    assert_eq!(batches(&engine, 0), [1, 1, 1]);
}
