//! The canonical directory: small, and with every kind of file and feature. There are two of it, one
//! closed cleanly and one whose process was killed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use harness::ledger::{Line, TOPIC};
use harness::random::Random;
use oncelog::storage::Disk;
use oncelog::testing::SimulatedDisk;
use oncelog::{BatchBuilder, Compression, ProducerIdentity, TopicConfig};
use segment_storage::Marks;

use crate::facts::{Facts, LogFacts, Sent, Stored, log_name};
use crate::machine::Machine;

/// Most bytes of a directory.
const BYTES_MAX: usize = 256 * 1024;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

pub(crate) struct Canonical {
    pub(crate) name: &'static str,
    disk: SimulatedDisk,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) facts: Facts,
}

pub(crate) static CLOSED: LazyLock<Canonical> = LazyLock::new(|| make("closed"));
pub(crate) static KILLED: LazyLock<Canonical> = LazyLock::new(|| make("killed"));

impl Canonical {
    /// A disk of its own that holds it.
    pub(crate) fn disk(&self) -> SimulatedDisk {
        self.disk.kill()
    }

    /// As tests print it.
    pub(crate) fn by_name(name: &str) -> Option<&'static Canonical> {
        match name {
            "closed" => Some(&CLOSED),
            "killed" => Some(&KILLED),
            _ => None,
        }
    }
}

struct Maker {
    machine: Machine,
    facts: Facts,
    random: Random,
    sequences: BTreeMap<(String, u32, i64), i32>,
    sent: usize,
}

fn make(name: &'static str) -> Canonical {
    let disk = SimulatedDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let start = |start| Machine::start(&shared, start).unwrap();
    let mut maker = Maker {
        machine: start(1),
        facts: Facts::default(),
        random: Random::new(11),
        sequences: BTreeMap::new(),
        sent: 0,
    };
    maker.topic("synced", 2, &[]);
    maker.topic("interval", 1, &[("ack", "interval")]);
    let log_append_time = ("message.timestamp.type", "LogAppendTime");
    maker.topic("memory", 1, &[("ack", "memory"), log_append_time]);
    maker.topic("front", 1, &[]);
    maker.topic("many", 1, &[("producers.max", "16")]);
    maker.topic(TOPIC, 2, &[]);
    maker.topic("gone", 1, &[]);
    let producers: Vec<i64> = (0..4).map(|_| maker.producer()).collect();
    for &producer in &producers {
        for _ in 0..4 {
            maker.send("synced", 0, producer);
        }
        maker.send("synced", 1, producer);
        maker.send("interval", 0, producer);
        maker.send("memory", 0, producer);
    }
    maker.send("gone", 0, producers[0]);
    maker.machine.engine.delete_topic("gone").unwrap();
    maker.facts.logs.remove(&("gone".to_owned(), 0));
    for _ in 0..20 {
        let producer = maker.producer();
        maker.send("many", 0, producer);
    }
    // Two producers of which nothing is left but what snapshots say.
    for at in 0..18 {
        maker.send("front", 0, producers[at / 9 % 2]);
    }
    maker.delete_before("front", 12);
    for _ in 0..40 {
        maker.send("front", 0, producers[2]);
    }
    maker.delete_before("front", 60);
    maker.lines(1, 8);
    maker.lines(2, 4);
    for number in 2..4 {
        maker.machine.pass(6_000);
        maker.machine.engine.close().unwrap();
        maker.machine = start(number);
        let producer = maker.producer();
        for _ in 0..3 {
            for (topic, partition) in [
                ("synced", 0),
                ("synced", 1),
                ("interval", 0),
                ("memory", 0),
                ("front", 0),
                ("many", 0),
            ] {
                maker.send(topic, partition, producer);
            }
        }
        maker.send("synced", 1, producers[0]);
        maker.lines(1, 6);
    }
    maker.machine.pass(6_000);
    if name == "closed" {
        maker.machine.engine.close().unwrap();
    } else {
        // Above the mark, and producers on disk.
        for _ in 0..18 {
            let producer = maker.producer();
            maker.send("many", 0, producer);
        }
        for _ in 0..3 {
            maker.send("memory", 0, producers[1]);
            maker.send("interval", 0, producers[1]);
        }
    }
    maker.finish(name, &disk.kill())
}

impl Maker {
    fn topic(&mut self, name: &str, partitions: u32, settings: &[(&str, &str)]) {
        let mut config = TopicConfig::default();
        config.set("segment.bytes", "4096").unwrap();
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        let made = self.machine.engine.create_topic(name, partitions, config);
        made.unwrap();
        for partition in 0..partitions {
            let key = (name.to_owned(), partition);
            self.facts.logs.insert(key, LogFacts::default());
        }
    }

    fn producer(&mut self) -> i64 {
        let session = self.machine.engine.session().unwrap();
        self.facts.highest_id = session.producer_id();
        session.producer_id()
    }

    // A producer's next batch, of one to three records, in the next codec.
    fn send(&mut self, topic: &str, partition: u32, producer_id: i64) {
        let key = (topic.to_owned(), partition, producer_id);
        let sequence = self.sequences.entry(key).or_default();
        let base_sequence = *sequence;
        self.sent += 1;
        let mut builder = BatchBuilder::new().compression(CODECS[self.sent % CODECS.len()]);
        let mut records = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let fill = usize::try_from(self.random.below(150)).unwrap();
            let value = format!("{topic} {producer_id} {sequence} {}", "v".repeat(fill));
            let has_key = self.random.below(2) == 0;
            let key = has_key.then(|| format!("key {}", self.random.below(5)).into_bytes());
            let stored = Stored {
                producer_id,
                sequence: *sequence,
                key,
                value: value.into_bytes(),
            };
            let header = ("h", Some(&b"header"[..]));
            let headers = if has_key { &[header][..] } else { &[] };
            let time = 1_700_000_000_000 + i64::from(*sequence);
            let key = stored.key.as_deref();
            builder
                .push(time, key, Some(&stored.value), headers)
                .unwrap();
            records.push(stored);
            *sequence += 1;
        }
        let identity = ProducerIdentity {
            producer_id,
            producer_epoch: 0,
            base_sequence,
        };
        let bytes = builder.build(Some(identity)).unwrap().to_vec();
        let engine = &self.machine.engine;
        let handle = engine.topic(topic).unwrap().partition(partition).unwrap();
        let answer = self.machine.drive(handle.append(&bytes)).unwrap().unwrap();
        assert!(!answer.duplicate);
        let log = self.facts.logs.get_mut(&(topic.to_owned(), partition));
        let log = log.unwrap();
        log.sent.push(Sent {
            producer_id,
            bytes,
            offset: answer.offset,
            last_offset: answer.last_offset,
        });
        log.records.extend((answer.offset..).zip(records));
    }

    fn delete_before(&mut self, topic: &str, offset: u64) {
        let engine = &self.machine.engine;
        let handle = engine.topic(topic).unwrap().partition(0).unwrap();
        handle.delete_before(offset).unwrap();
        self.machine.settle();
        let log = self.facts.logs.get_mut(&(topic.to_owned(), 0)).unwrap();
        log.start = offset;
        log.records.retain(|at, _| *at >= offset);
    }

    // The next lines of a named producer.
    fn lines(&mut self, source: u64, count: u64) {
        let from = self.facts.lines.get(&source).copied().unwrap_or(0);
        let producer = open_named(&self.machine, source).unwrap();
        for position in from..from + count {
            let line = Line::at(source, position);
            let ticket = self.machine.drive(producer.send(line.record(true)));
            let ticket = ticket.unwrap().unwrap();
            self.machine.drive(ticket.into_future()).unwrap().unwrap();
        }
        self.facts.lines.insert(source, from + count);
    }

    fn finish(mut self, name: &'static str, disk: &SimulatedDisk) -> Canonical {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        self.facts.logs.retain(|(topic, _), _| topic != TOPIC);
        for ((topic, partition), log) in &mut self.facts.logs {
            let marks = Marks::open(&shared, &log_name(topic, *partition)).unwrap();
            let mark = marks.mark().unwrap();
            (log.stable, log.mark_base) = (mark.next_offset, mark.segment_base);
        }
        let mut files = BTreeMap::new();
        for entry in disk.list("").unwrap() {
            if entry.is_directory {
                for file in disk.list(&entry.name).unwrap() {
                    let path = format!("{}/{}", entry.name, file.name);
                    files.insert(path.clone(), disk.read_file(&path).unwrap());
                }
            } else {
                files.insert(entry.name.clone(), disk.read_file(&entry.name).unwrap());
            }
        }
        let bytes: usize = files.values().map(Vec::len).sum();
        assert!(bytes <= BYTES_MAX, "{name}: {bytes} bytes");
        println!("{name}: {} files, {bytes} bytes", files.len());
        Canonical {
            name,
            disk: disk.clone(),
            files,
            facts: self.facts,
        }
    }
}

/// Opens a source's name.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn open_named(
    machine: &Machine,
    source: u64,
) -> Result<oncelog::Producer, oncelog::SendError> {
    let producer = machine.engine.producer().name(format!("source {source}"));
    producer.batch_bytes(200).linger(Duration::ZERO).open()
}

#[test]
fn every_kind_of_file_is_there() {
    for (canonical, kinds) in [
        (
            &*CLOSED,
            &[
                "format",
                "generation",
                "lock",
                "names",
                "producer-ids",
                "topics",
                "/marks",
                ".log",
                ".footer",
                ".index",
                ".snapshot",
            ][..],
        ),
        (&*KILLED, &["/evicted", ".segment"][..]),
    ] {
        for kind in kinds {
            let found = canonical.files.keys().any(|name| name.ends_with(kind));
            assert!(found, "{kind} of {:?}", canonical.files.keys());
        }
        let first = "front-0/00000000000000000000.log";
        assert!(!canonical.files.contains_key(first), "its front is deleted");
    }
}
