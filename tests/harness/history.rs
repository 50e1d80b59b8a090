//! Judges what is in a log by what was sent and answered alone, without a look at the engine.
//!
//! A batch's content follows from its producer, partition and sequence, so that whoever finds a
//! record can tell what it must hold.

use std::collections::BTreeMap;

use oncelog::{BatchBuilder, Engine, ProducerIdentity};

use crate::random::hash;

/// Names a batch: producer, partition, first sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchName {
    /// Producer id.
    pub producer_id: i64,
    /// Partition.
    pub partition: u32,
    /// Sequence of the first record.
    pub sequence: i32,
}

impl BatchName {
    /// How many records it has, 1 to 4.
    pub fn count(&self) -> i32 {
        i32::try_from(self.hash(0) % 4).unwrap_or(0) + 1
    }

    /// The batch that follows it.
    #[must_use]
    pub fn next(&self) -> BatchName {
        BatchName {
            sequence: self.sequence + self.count(),
            ..*self
        }
    }

    fn hash(&self, record: i32) -> u64 {
        let place = u64::from(self.partition) << 32 | u64::from(self.sequence.unsigned_abs());
        let record = u64::from(record.unsigned_abs());
        hash(self.producer_id.unsigned_abs(), place, record)
    }

    /// What its records hold.
    pub fn values(&self) -> Vec<String> {
        let value = |n: i32| {
            let fill = usize::try_from(self.hash(n + 1) % 120).unwrap_or(0);
            let (id, partition, sequence) = (self.producer_id, self.partition, self.sequence + n);
            format!("{id} {partition} {sequence} {}", "x".repeat(fill))
        };
        (0..self.count()).map(value).collect()
    }

    /// Its bytes, as they are sent.
    ///
    /// # Panics
    /// Never: such a batch can be built.
    #[expect(clippy::expect_used, reason = "a few short records make a batch")]
    pub fn bytes(&self) -> Vec<u8> {
        let mut batch = BatchBuilder::new();
        for value in self.values() {
            batch
                .push(0, None, Some(value.as_bytes()), &[])
                .expect("a short record");
        }
        let identity = ProducerIdentity {
            producer_id: self.producer_id,
            producer_epoch: 0,
            base_sequence: self.sequence,
        };
        let bytes = batch.build(Some(identity)).expect("a small batch");
        bytes.to_vec()
    }
}

/// All that was sent to one topic, and what was answered.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every batch that was sent; with its offset, if that was answered.
    pub batches: BTreeMap<BatchName, Option<u64>>,
    /// By partition and offset, all that was ever shown: producer id and sequence.
    shown: BTreeMap<(u32, u64), (i64, i32)>,
}

/// What may be missing from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing that was answered or shown.
    Nothing,
    /// Records without one after them: a power cut below the level `synced`. Those offsets stay
    /// empty then (I9).
    Tail,
}

impl History {
    /// Takes note that a batch was sent, or is about to be.
    pub fn sent(&mut self, batch: BatchName) {
        self.batches.entry(batch).or_insert(None);
    }

    /// Takes note of an answer.
    ///
    /// # Panics
    /// When the batch was not sent, or had another answer before.
    pub fn answered(&mut self, batch: BatchName, offset: u64) {
        let known = self.batches.get_mut(&batch);
        let Some(known) = known else {
            panic!("{batch:?} was answered and never sent")
        };
        let before = known.replace(offset);
        assert!(
            before.is_none_or(|b| b == offset),
            "{batch:?} is at {offset}, and was at {before:?}"
        );
    }

    /// How many batches were answered.
    pub fn answers(&self) -> usize {
        self.batches.values().flatten().count()
    }

    /// Takes note of a record that a reader was given: the sequence of a producer at an offset.
    ///
    /// # Panics
    /// When another record was shown at that offset, in any life of the log.
    pub fn read(&mut self, partition: u32, offset: u64, record: (i64, i32)) {
        let before = self.shown.insert((partition, offset), record);
        assert!(
            before.is_none_or(|before| before == record),
            "{record:?} is at {partition}@{offset}, where {before:?} was shown (I9)"
        );
    }

    /// How many records were shown.
    pub fn shown(&self) -> usize {
        self.shown.len()
    }

    /// Checks a topic: every answered or shown record there once, at its offset, each producer's
    /// in order without a gap, and nothing that nobody sent. Returns how many records there are.
    ///
    /// # Panics
    /// When one of these does not hold.
    pub fn check(&mut self, engine: &Engine, topic: &str, what: &str) -> usize {
        self.check_after(Loss::Nothing, engine, topic, what)
    }

    /// As [`History::check`], where some of the end may be missing; what is missing is then no
    /// more among what was answered or sent.
    ///
    /// # Panics
    /// When one of these does not hold.
    pub fn check_after(
        &mut self,
        allowed: Loss,
        engine: &Engine,
        topic: &str,
        what: &str,
    ) -> usize {
        let mut expected = self.records();
        let mut next: BTreeMap<(i64, u32), i32> = BTreeMap::new();
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        let mut count = 0;
        let mut reader = match engine.reader(topic).open() {
            Ok(reader) => reader,
            Err(error) => panic!("{what}: {error}"),
        };
        for record in reader.blocking_iter() {
            let record = record.unwrap_or_else(|error| panic!("{what}: {error}"));
            let (partition, offset) = (record.partition(), record.offset());
            let end = ends.entry(partition).or_default();
            assert!(offset >= *end, "{what}: offset {offset} comes after {end}");
            *end = offset + 1;
            let id = record.producer_id().unwrap_or(-1);
            let sequence = record.sequence().unwrap_or(-1);
            let name = (id, partition, sequence);
            let Some((value, answered)) = expected.remove(&name) else {
                panic!("{what}: at {partition}@{offset}: {name:?} is there twice, or never sent");
            };
            let found = record.value().map(|v| v.as_ref());
            assert_eq!(found, Some(value.as_bytes()), "{what}: {name:?}");
            assert!(
                answered.is_none_or(|a| a == offset),
                "{what}: {name:?} was answered as {answered:?} and is at {offset}"
            );
            let follows = next.entry((id, partition)).or_default();
            assert_eq!(sequence, *follows, "{what}: of {id} in {partition} (I3)");
            *follows = sequence + 1;
            self.read(partition, offset, (id, sequence));
            count += 1;
        }
        let is_lost = |&(id, partition, sequence): &(i64, u32, i32)| {
            next.get(&(id, partition))
                .is_none_or(|&next| sequence >= next)
        };
        if allowed == Loss::Nothing {
            let lost = expected
                .iter()
                .find(|(_, (_, answered))| answered.is_some());
            assert_eq!(lost, None, "{what}: answered, and not there (I1)");
            let lost = self
                .shown
                .iter()
                .find(|((partition, _), (id, sequence))| is_lost(&(*id, *partition, *sequence)));
            assert_eq!(lost, None, "{what}: shown, and not there (I28)");
        } else {
            self.batches
                .retain(|b, _| !is_lost(&(b.producer_id, b.partition, b.sequence)));
        }
        count
    }

    // By producer, partition and sequence: the value, and the offset if the batch was answered.
    fn records(&self) -> BTreeMap<(i64, u32, i32), (String, Option<u64>)> {
        let mut records = BTreeMap::new();
        for (batch, answered) in &self.batches {
            for (n, value) in (0..).zip(batch.values()) {
                let name = (batch.producer_id, batch.partition, batch.sequence + n);
                let offset = answered.map(|a| a + u64::from(n.unsigned_abs()));
                records.insert(name, (value, offset));
            }
        }
        records
    }
}
