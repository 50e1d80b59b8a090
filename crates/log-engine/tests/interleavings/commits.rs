//! Group commit, rolls, deletions and readers.

use log_engine::storage::MemoryDisk;
use log_engine::{Ack, AppendError, ReadError};
use sync::thread;

use crate::schedules::explore;
use crate::world::{Answer, append_all, check_after_power_cut, open, read, sized, topic};

#[test]
fn several_logs_commit_side_by_side() {
    explore("three appenders, two logs, their readers", || {
        let disk = MemoryDisk::new();
        let engine = open(&disk);
        let partitions = topic(&engine, 2, Ack::Synced);
        let appenders = [(0, 10), (0, 20), (1, 30)].map(|(at, first)| {
            let partition: log_engine::Partition = partitions[at].clone();
            thread::spawn(move || (at, append_all(&partition, first..first + 2)))
        });
        let seen = read(&engine, 0, 0).unwrap();
        let offsets: Vec<u64> = seen.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (0..offsets.len() as u64).collect::<Vec<_>>());
        let mut answers: [Vec<Answer>; 2] = Default::default();
        for appender in appenders {
            let (at, answered) = appender.join().unwrap();
            assert!(answered.iter().all(|(_, answer)| answer.is_ok()));
            answers[at].extend(answered);
        }
        for (partition, answers) in (0..).zip(&answers) {
            check_after_power_cut(&disk, partition, answers);
        }
        engine.close().unwrap();
    });
}

#[test]
fn failed_sync_answers_everybody() {
    explore("a sync fails under three appenders", || {
        let disk = MemoryDisk::new();
        let engine = open(&disk);
        let partition = topic(&engine, 1, Ack::Synced).remove(0);
        disk.fail_syncs(1);
        let appenders = [10, 20, 30].map(|first| {
            let partition = partition.clone();
            thread::spawn(move || append_all(&partition, first..first + 2))
        });
        let answers: Vec<Answer> = appenders
            .into_iter()
            .flat_map(|appender| appender.join().unwrap())
            .collect();
        // Unless it was the sync of another file: then there is no failure to tell of.
        if answers.iter().any(|(_, answer)| answer.is_err()) {
            let error = partition.blocking_append(&sized(40, 8)).unwrap_err();
            assert!(matches!(error, AppendError::LogFenced(_)), "{error}");
        }
        check_after_power_cut(&disk, 0, &answers);
        let _ = engine.close();
    });
}

#[test]
fn rolls_and_deletions_hide_nothing_from_readers() {
    explore("append, roll | delete | read", || {
        let disk = MemoryDisk::new();
        let engine = open(&disk);
        let partition = topic(&engine, 1, Ack::Memory).remove(0);
        let appending = partition.clone();
        // The third finds no room behind the second.
        let appender = thread::spawn(move || {
            for number in 1..5 {
                appending.blocking_append(&sized(number, 100_000)).unwrap();
            }
        });
        let deleting = partition.clone();
        let deletion = thread::spawn(move || {
            let start = deleting.high_watermark().min(3);
            deleting.delete_before(start).unwrap();
        });
        let mut next = 0;
        while next < 5 {
            match read(&engine, 0, next) {
                Ok(found) => {
                    let offsets: Vec<u64> = found.iter().map(|(offset, _)| *offset).collect();
                    let expected: Vec<u64> = (next..next + offsets.len() as u64).collect();
                    assert_eq!(offsets, expected);
                    next += offsets.len() as u64;
                }
                Err(ReadError::Deleted { first, .. }) => {
                    assert!(first > next);
                    next = first;
                }
                Err(error) => panic!("a reader was told: {error}"),
            }
            thread::yield_now();
        }
        appender.join().unwrap();
        deletion.join().unwrap();
        engine.close().unwrap();
    });
}
