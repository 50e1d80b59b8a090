//! What a record pins, and its copy does not, as `/proc` tells it.

use std::fs;

use log_engine::{Ack, BatchBuilder, Engine};

use crate::world::config;

// Files of the directory that this process has mapped.
fn mapped(directory: &std::path::Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let directory = directory.to_str().unwrap();
    maps.lines().filter(|line| line.contains(directory)).count()
}

#[test]
fn a_record_pins_its_segment_and_an_owned_copy_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path()).unwrap();
    let topic = engine.create_topic("t", 1, config(Ack::Memory)).unwrap();
    let partition = topic.partition(0).unwrap();
    let mut batch = BatchBuilder::new();
    let headers = [("a", Some(&b"1"[..])), ("none", None)];
    batch.push(7, Some(b"k"), Some(b"v"), &headers).unwrap();
    batch.push(8, None, None, &[]).unwrap();
    partition
        .blocking_append(batch.build(None).unwrap())
        .unwrap();
    let mut reader = engine.reader("t").open().unwrap();
    let records: Vec<_> = reader.blocking_iter().map(Result::unwrap).collect();
    engine.close().unwrap();
    drop((reader, partition, topic, engine));
    assert!(mapped(directory.path()) > 0, "pinned by the records");
    let clones = records.clone();
    let copies: Vec<_> = records.iter().map(|record| record.to_owned()).collect();
    drop(records);
    assert!(mapped(directory.path()) > 0, "pinned by their clones");
    for (copy, record) in copies.iter().zip(&clones) {
        assert_eq!(format!("{copy:?}"), format!("{record:?}"));
        assert_eq!(copy.offset(), record.offset());
        assert_eq!((copy.key(), copy.value()), (record.key(), record.value()));
        assert!(copy.headers().eq(record.headers()));
    }
    drop(clones);
    assert_eq!(mapped(directory.path()), 0, "the copies pin nothing");
    assert_eq!(copies[0].value().unwrap().as_ref(), b"v");
}
