//! Producers moved to disk and back under those who append.

use log_engine::storage::MemoryDisk;
use log_engine::{Ack, BatchBuilder, Engine, Partition, ProducerIdentity, TopicConfig};
use sync::thread;

use crate::schedules::explore;
use crate::world::{open, read};

/// The smallest budget; a quarter more is in memory at most.
const BUDGET: &str = "16";
const IN_MEMORY: usize = 20;
const KNOWN: i64 = 16;
/// Ids that the engine does not hand out here.
const HIGH: i64 = 1 << 40;

fn topic(engine: &Engine) -> Partition {
    let mut config = TopicConfig::default().with_ack(Ack::Memory);
    config.set("producers.max", BUDGET).unwrap();
    let topic = engine.create_topic("t", 1, config).unwrap();
    topic.partition(0).unwrap()
}

/// The batch of a producer with that sequence number, which is told by its timestamp.
fn batch(producer: i64, sequence: i32) -> Vec<u8> {
    let identity = ProducerIdentity {
        producer_id: HIGH + producer,
        producer_epoch: 0,
        base_sequence: sequence,
    };
    let mut batch = BatchBuilder::new();
    let number = producer * 10 + i64::from(sequence);
    batch.push(number, None, Some(b"value"), &[]).unwrap();
    batch.build(Some(identity)).unwrap().to_vec()
}

/// Where it is, once it is acknowledged as new.
fn append(partition: &Partition, producer: i64, sequence: i32) -> u64 {
    let batch = batch(producer, sequence);
    let appended = partition.blocking_append(&batch).unwrap();
    assert!(!appended.duplicate, "{producer}: {sequence}");
    appended.offset
}

/// It is there already, at that offset.
fn repeat(partition: &Partition, producer: i64, sequence: i32, offset: u64) {
    let batch = batch(producer, sequence);
    let again = partition.blocking_append(&batch).unwrap();
    assert_eq!((again.offset, again.duplicate), (offset, true));
}

#[test]
fn producers_on_disk_answer_as_those_in_memory() {
    explore("new producers | known ones, again", || {
        let disk = MemoryDisk::new();
        let engine = open(&disk);
        let partition = topic(&engine);
        let known: Vec<u64> = (0..KNOWN).map(|p| append(&partition, p, 0)).collect();
        let more = partition.clone();
        let flood = thread::spawn(move || {
            for producer in KNOWN..KNOWN + 6 {
                append(&more, producer, 0);
            }
            // Read back by two at once.
            for producer in 0..4 {
                repeat(&more, producer, 0, producer.unsigned_abs());
            }
        });
        // The one that was there first is the first that moves.
        for (producer, offset) in (0..4).zip(known) {
            repeat(&partition, producer, 0, offset);
            let offset = append(&partition, producer, 1);
            repeat(&partition, producer, 1, offset);
        }
        flood.join().unwrap();
        let described = &engine.topic("t").unwrap().describe().partitions[0];
        let in_memory = described.producers - described.producers_evicted;
        assert!(in_memory <= IN_MEMORY, "I17: {described:?}");
        let found = read(&engine, 0, 0).unwrap();
        let mut numbers: Vec<i64> = found.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        let expected = (0..KNOWN + 6).flat_map(|p| {
            let twice = (p < 4).then_some(p * 10 + 1);
            [p * 10].into_iter().chain(twice)
        });
        assert_eq!(numbers, expected.collect::<Vec<_>>());
        engine.close().unwrap();
        let engine = open(&disk.after_power_cut());
        assert_eq!(read(&engine, 0, 0).unwrap(), found);
        engine.close().unwrap();
    });
}
