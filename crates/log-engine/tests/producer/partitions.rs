//! Which partition a record goes to.

use std::collections::BTreeSet;

use log_engine::{Ack, Record, partition_for_key};

use crate::ways::{numbered, send, topic};
use crate::world::{World, read};

#[test]
fn keys_go_where_kafkas_clients_send_them() {
    let engine = World::new().open();
    topic(&engine, 7, Ack::Memory);
    let producer = engine.producer().open().unwrap();
    for key in numbered(200) {
        let ticket = producer.blocking_send(Record::to("t").key(&key).value(&key));
        let at = ticket.unwrap().blocking_wait().unwrap();
        assert_eq!(at.partition, partition_for_key(key.as_bytes(), 7));
    }
}

#[test]
fn one_keys_records_stay_in_order() {
    let engine = World::new().open();
    topic(&engine, 5, Ack::Synced);
    let producer = engine.producer().batch_bytes(100).open().unwrap();
    for n in 0..300 {
        let (key, value) = (format!("k{}", n % 11), format!("{n:06}"));
        let _ = producer
            .blocking_send(Record::to("t").key(&key).value(&value))
            .unwrap();
    }
    producer.blocking_close().unwrap();
    let mut keys = BTreeSet::new();
    for partition in 0..5 {
        let found = read(&engine, "t", partition);
        for key in 0..11_u32 {
            let number = |v: &String| v.parse::<u32>().unwrap();
            let of_key = found
                .iter()
                .map(|(_, v)| number(v))
                .filter(|n| n % 11 == key);
            let of_key: Vec<u32> = of_key.collect();
            assert!(of_key.is_sorted(), "{of_key:?}");
            if !of_key.is_empty() {
                assert!(keys.insert(key), "key {key} is in two partitions");
                assert_eq!(
                    of_key,
                    (0..300).filter(|n| n % 11 == key).collect::<Vec<_>>()
                );
            }
        }
    }
    assert_eq!(keys.len(), 11);
}

#[test]
fn records_without_a_key_stick_to_a_partition_for_a_batch() {
    let engine = World::new().open();
    topic(&engine, 3, Ack::Memory);
    let producer = engine.producer().batch_bytes(1_000).open().unwrap();
    let partition = |v: &String| send(&producer, v).blocking_wait().unwrap().partition;
    let went: Vec<u32> = numbered(300).iter().map(partition).collect();
    let changes = went.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((5..60).contains(&changes), "{changes} changes");
    for partition in 0..3 {
        let share = went.iter().filter(|p| **p == partition).count();
        assert!((60..140).contains(&share), "{share} in {partition}");
    }
}
