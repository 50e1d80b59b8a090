//! What the scenarios share: a machine with a disk in memory, on which no time passes.

use std::sync::Arc;

use log_engine::storage::MemoryDisk;
use log_engine::{
    Ack, AppendError, BatchBuilder, Engine, Env, ManualClock, Partition, ReadError, TopicConfig,
};

/// 2023-11-14, in milliseconds since 1970.
const WALL_MS: i64 = 1_700_000_000_000;

pub(crate) fn open(disk: &MemoryDisk) -> Engine {
    let env = Env {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::at(WALL_MS)),
        seed: 7,
    };
    Engine::with_env(env).open().unwrap()
}

/// A topic `t`, each of its partitions ready for appends: a first batch is in each.
pub(crate) fn topic(engine: &Engine, partitions: u32, ack: Ack) -> Vec<Partition> {
    let mut config = TopicConfig::default().with_ack(ack);
    // So that a scenario rolls: its batches have values of `BYTES`.
    config.set("segment.bytes", "262144").unwrap();
    let topic = engine.create_topic("t", partitions, config).unwrap();
    let partitions: Vec<_> = (0..partitions)
        .map(|p| topic.partition(p).unwrap())
        .collect();
    for partition in &partitions {
        partition.blocking_append(&batch(0)).unwrap();
    }
    partitions
}

/// A batch of one record, whose timestamp is its number.
pub(crate) fn batch(number: i64) -> Vec<u8> {
    sized(number, 8)
}

/// As [`batch`], with a value of that many bytes.
pub(crate) fn sized(number: i64, bytes: usize) -> Vec<u8> {
    let mut batch = BatchBuilder::new();
    let value = vec![b'.'; bytes];
    batch.push(number, None, Some(&value), &[]).unwrap();
    batch.build(None).unwrap().to_vec()
}

/// Offsets and numbers of what can be read of a partition from `from` on.
pub(crate) fn read(
    engine: &Engine,
    partition: u32,
    from: u64,
) -> Result<Vec<(u64, i64)>, ReadError> {
    let mut reader = engine.reader("t").partition(partition).open().unwrap();
    reader.seek(partition, from);
    let entry = |record: Result<log_engine::ConsumedRecord, ReadError>| {
        record.map(|record| (record.offset(), record.timestamp()))
    };
    reader.blocking_iter().map(entry).collect()
}

/// What was acknowledged is there after a power cut, at its offset, once; what was certainly not
/// written is not.
pub(crate) fn check_after_power_cut(disk: &MemoryDisk, partition: u32, answers: &[Answer]) {
    let engine = open(&disk.after_power_cut());
    let found = read(&engine, partition, 0).unwrap();
    for (number, answer) in answers {
        let offsets = found.iter().filter(|(_, n)| n == number);
        let offsets: Vec<u64> = offsets.map(|(offset, _)| *offset).collect();
        match answer {
            Ok(offset) => assert_eq!(offsets, [*offset], "number {number} of {found:?}"),
            Err(error) if error.is_outcome_unknown() => assert!(offsets.len() <= 1),
            Err(error) => assert_eq!(offsets, [0; 0], "{error}"),
        }
    }
    engine.close().unwrap();
}

/// A batch's number, and its offset or why it has none.
pub(crate) type Answer = (i64, Result<u64, AppendError>);

/// Appends batches of these numbers, each after the answer for the one before.
pub(crate) fn append_all(partition: &Partition, numbers: impl Iterator<Item = i64>) -> Vec<Answer> {
    let append = |number| {
        let appended = partition.blocking_append(&batch(number));
        (number, appended.map(|appended| appended.offset))
    };
    numbers.map(append).collect()
}
