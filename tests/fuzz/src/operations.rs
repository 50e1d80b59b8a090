//! A program of calls against an engine, and what a few vectors say of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use oncelog::storage::Disk;
use oncelog::testing::SimulatedDisk;
use oncelog::{AppendError, BatchBuilder, ProducerIdentity, TopicConfig};

use crate::input::Input;
use crate::machine::Machine;

const STEPS_MAX: usize = 120;
const TOPICS: [&str; 2] = ["synced", "memory"];

/// A batch that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    producer: usize,
    sequence: i32,
    count: i32,
    offset: u64,
}

/// One partition, by its topic.
#[derive(Debug, Default)]
struct Log {
    batches: Vec<Stored>,
    start: u64,
    /// The offset that the next record gets, or a higher one where power was cut.
    end: u64,
    has_jumped: bool,
    /// What each producer sends next; of some it is not certain that the log knows them.
    next: BTreeMap<usize, i32>,
    uncertain: Vec<usize>,
}

struct Run {
    disk: SimulatedDisk,
    machine: Machine,
    starts: i64,
    ids: Vec<i64>,
    logs: [Log; 2],
}

/// One step a byte, and what it needs.
pub fn operations(data: &[u8]) {
    let disk = SimulatedDisk::new(3);
    let machine = start(&disk, 1);
    for topic in TOPICS {
        let mut config = TopicConfig::default();
        config.set("segment.bytes", "4096").unwrap();
        config.set("ack", topic).unwrap();
        machine.engine.create_topic(topic, 1, config).unwrap();
    }
    let mut run = Run {
        disk,
        machine,
        starts: 1,
        ids: Vec::new(),
        logs: Default::default(),
    };
    for _ in 0..3 {
        run.producer();
    }
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.check();
    run.reopen();
    run.check();
}

fn start(disk: &SimulatedDisk, number: i64) -> Machine {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Machine::start(&disk, number).expect("nothing is damaged")
}

impl Run {
    fn producer(&mut self) {
        let id = self.machine.engine.session().unwrap().producer_id();
        assert!(self.ids.iter().all(|other| *other < id), "I15: {id}");
        self.ids.push(id);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.u8();
        let topic = usize::from(op >> 7);
        match op % 16 {
            0..=4 => self.append(topic, input.below(self.ids.len()), input.u8()),
            5 | 6 => self.repeat(topic, input.below(self.ids.len()), input.below(5)),
            7 => self.leave_gap(topic, input.below(self.ids.len())),
            8 => self.delete(topic, input.u8()),
            9 => self.reopen(),
            10 => self.kill(),
            11 => self.cut_power(u64::from(input.u8())),
            12 => self.machine.pass(u32::from(input.u8()) * 40),
            13 if self.ids.len() < 8 => self.producer(),
            14 => self.check(),
            _ => {
                self.machine.engine.step(u64::from(input.u8()));
            }
        }
    }

    fn bytes(&self, producer: usize, sequence: i32, count: i32) -> Vec<u8> {
        let mut batch = BatchBuilder::new();
        for n in 0..count {
            let value = value_of(producer, sequence + n);
            batch.push(0, None, Some(value.as_bytes()), &[]).unwrap();
        }
        let identity = ProducerIdentity {
            producer_id: self.ids[producer],
            producer_epoch: 0,
            base_sequence: sequence,
        };
        batch.build(Some(identity)).unwrap().to_vec()
    }

    fn send(&self, topic: usize, bytes: &[u8]) -> Result<(u64, bool), AppendError> {
        let handle = self.machine.engine.topic(TOPICS[topic]).unwrap();
        let handle = handle.partition(0).unwrap();
        let answer = self.machine.drive(handle.append(bytes)).unwrap();
        answer.map(|at| (at.offset, at.duplicate))
    }

    fn append(&mut self, topic: usize, producer: usize, shape: u8) {
        let count = i32::from(shape % 5) + 1;
        let sequence = self.logs[topic].next.get(&producer).copied().unwrap_or(0);
        let bytes = self.bytes(producer, sequence, count);
        let answer = self.send(topic, &bytes);
        let log = &mut self.logs[topic];
        match answer {
            Ok((offset, false)) => {
                let is_next = offset == log.end || log.has_jumped && offset > log.end;
                assert!(is_next, "offset {offset}, expected {}", log.end);
                log.end = offset + u64::from(count.unsigned_abs());
                log.has_jumped = false;
                log.uncertain.retain(|other| *other != producer);
                log.next.insert(producer, sequence + count);
                log.batches.push(Stored {
                    producer,
                    sequence,
                    count,
                    offset,
                });
            }
            Err(AppendError::Rejected { .. }) if log.uncertain.contains(&producer) => {}
            other => panic!("{producer}'s {sequence} in {}: {other:?}", TOPICS[topic]),
        }
    }

    fn repeat(&mut self, topic: usize, producer: usize, back: usize) {
        let log = &self.logs[topic];
        let of = log.batches.iter().filter(|b| b.producer == producer);
        let Some(batch) = of.rev().nth(back).cloned() else {
            return;
        };
        let is_uncertain = log.uncertain.contains(&producer);
        let bytes = self.bytes(producer, batch.sequence, batch.count);
        match self.send(topic, &bytes) {
            Ok((offset, true)) => assert_eq!(offset, batch.offset, "I5"),
            Err(AppendError::Rejected { .. }) if is_uncertain => {}
            other => panic!("{batch:?} again: {other:?} (I2)"),
        }
    }

    fn leave_gap(&mut self, topic: usize, producer: usize) {
        let sequence = self.logs[topic].next.get(&producer).copied().unwrap_or(0);
        let bytes = self.bytes(producer, sequence + 7, 1);
        let answer = self.send(topic, &bytes);
        assert!(
            matches!(answer, Err(AppendError::Rejected { .. })),
            "a gap: {answer:?} (I3)"
        );
    }

    fn delete(&mut self, topic: usize, choice: u8) {
        let handle = self.machine.engine.topic(TOPICS[topic]).unwrap();
        let handle = handle.partition(0).unwrap();
        let end = handle.high_watermark();
        let offset = end * u64::from(choice) / 255;
        handle.delete_before(offset).unwrap();
        let log = &mut self.logs[topic];
        log.start = log.start.max(offset);
    }

    fn reopen(&mut self) {
        self.machine.engine.close().unwrap();
        self.go_on(self.disk.clone());
    }

    fn go_on(&mut self, disk: SimulatedDisk) {
        self.starts += 1;
        self.machine = start(&disk, self.starts);
        self.disk = disk;
        for (log, opened) in &self.machine.engine.opened().logs {
            assert_eq!(opened.files.corruption, None, "{log}");
        }
    }

    // Nothing is lost, but the log that promises less cannot know that.
    fn kill(&mut self) {
        self.go_on(self.disk.kill());
        let log = &mut self.logs[1];
        let is_unknown = |id: &usize| log.batches.iter().all(|batch| batch.producer != *id);
        log.uncertain.extend((0..self.ids.len()).filter(is_unknown));
        log.has_jumped = true;
    }

    fn cut_power(&mut self, seed: u64) {
        self.go_on(self.disk.power_cut(seed));
        let found = self.read(1);
        let log = &mut self.logs[1];
        let end = found.last().map_or(log.start, |(offset, _)| offset + 1);
        let is_left = |batch: &Stored| batch.offset < end.max(log.start);
        let lost: Vec<Stored> = log
            .batches
            .iter()
            .filter(|b| !is_left(b))
            .cloned()
            .collect();
        log.batches.retain(is_left);
        for batch in lost {
            // The first of each that is lost says where its producer goes on.
            let next = log.next.entry(batch.producer).or_default();
            *next = (*next).min(batch.sequence);
            log.uncertain.push(batch.producer);
        }
        // Even one that sent nothing here cannot be told from one that lost everything.
        log.uncertain.extend(0..self.ids.len());
        log.has_jumped = true;
    }

    fn read(&self, topic: usize) -> Vec<(u64, String)> {
        let mut reader = self.machine.engine.reader(TOPICS[topic]).open().unwrap();
        let mut found = Vec::new();
        for record in reader.blocking_iter() {
            let record = record.expect("nothing is damaged");
            let value = record.value().map(|v| v.to_vec()).unwrap_or_default();
            found.push((record.offset(), String::from_utf8(value).unwrap()));
        }
        found
    }

    fn check(&mut self) {
        self.machine.settle();
        for (topic, log) in self.logs.iter().enumerate() {
            let records = log.batches.iter().flat_map(|batch| {
                let values = (0..batch.count).map(|n| value_of(batch.producer, batch.sequence + n));
                (batch.offset..).zip(values)
            });
            let expected: Vec<_> = records.filter(|(at, _)| *at >= log.start).collect();
            assert_eq!(self.read(topic), expected, "{}", TOPICS[topic]);
        }
    }
}

fn value_of(producer: usize, sequence: i32) -> String {
    format!("{producer} {sequence} {}", "y".repeat(producer * 40))
}
