//! A partition without bytes: a producer table, and the offset where the next batch would go.

use partition_log::{
    Admission, ProducerConfig, ProducerTable, ProducerView, Rejection, SequenceReusePolicy,
    UnknownProducerPolicy,
};
use record_batch::{Attributes, BatchHeader};

pub(crate) const MAX: i32 = i32::MAX;

pub(crate) const STRICT: ProducerConfig = ProducerConfig {
    window: 5,
    unknown: UnknownProducerPolicy::Strict,
    reuse: SequenceReusePolicy::Refuse,
};

pub(crate) const KAFKA: ProducerConfig = ProducerConfig {
    window: 5,
    unknown: UnknownProducerPolicy::Kafka,
    reuse: SequenceReusePolicy::Duplicate,
};

/// What a test sends, and all that the table looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    pub(crate) count: i32,
    pub(crate) fingerprint: u32,
    pub(crate) transactional: bool,
}

/// Producer 7, epoch 0, sequences `first..=last` (the last may lie beyond the wrap).
pub(crate) fn p7(first: i32, last: i32) -> Batch {
    let count = (i64::from(last) - i64::from(first)).rem_euclid(1 << 31) + 1;
    Batch {
        producer_id: 7,
        epoch: 0,
        first,
        count: i32::try_from(count).unwrap(),
        // The same content whenever the same sequences are sent.
        fingerprint: first.cast_unsigned().rotate_left(8) ^ last.cast_unsigned(),
        transactional: false,
    }
}

impl Batch {
    pub(crate) fn of(self, producer_id: i64) -> Batch {
        Batch {
            producer_id,
            ..self
        }
    }

    pub(crate) fn epoch(self, epoch: i16) -> Batch {
        Batch { epoch, ..self }
    }

    pub(crate) fn other_content(self) -> Batch {
        Batch {
            fingerprint: !self.fingerprint,
            ..self
        }
    }

    pub(crate) fn transactional(self) -> Batch {
        Batch {
            transactional: true,
            ..self
        }
    }

    pub(crate) fn header(self) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 100,
            leader_epoch: -1,
            crc: self.fingerprint,
            attributes: Attributes(if self.transactional {
                Attributes::TRANSACTIONAL
            } else {
                0
            }),
            last_offset_delta: self.count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            base_sequence: self.first,
            record_count: self.count,
        }
    }
}

/// How a batch was answered; offsets are those of the first and the last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok(u64, u64),
    Dup(u64, u64),
    /// Kafka's error code.
    Refused(i16),
}

pub(crate) struct Log {
    pub(crate) table: ProducerTable,
    /// Log end offset.
    pub(crate) end: u64,
    pub(crate) now_ms: u64,
}

impl Log {
    pub(crate) fn new(config: ProducerConfig) -> Log {
        Log {
            table: ProducerTable::new(config),
            end: 0,
            now_ms: 0,
        }
    }

    /// A client's append.
    pub(crate) fn send(&mut self, batch: Batch) -> Answer {
        self.try_send(batch)
            .unwrap_or_else(|rejection| Answer::Refused(rejection.kafka_code()))
    }

    pub(crate) fn try_send(&mut self, batch: Batch) -> Result<Answer, Rejection> {
        let header = batch.header();
        let count = u64::try_from(batch.count).unwrap();
        let first = self.end;
        match self.table.admit(&header, batch.fingerprint)? {
            Admission::Unchecked => {}
            Admission::Duplicate(original) => {
                let last = original.base_offset + u64::from(original.count) - 1;
                return Ok(Answer::Dup(original.base_offset, last));
            }
            Admission::Fresh(fresh) => {
                self.table
                    .apply(fresh, &header, batch.fingerprint, first, self.now_ms);
            }
        }
        self.end += count;
        Ok(Answer::Ok(first, first + count - 1))
    }

    /// A refused append, which must leave no trace.
    pub(crate) fn refusal(&mut self, batch: Batch) -> Rejection {
        let before = (self.end, self.view(batch.producer_id));
        let rejection = self.try_send(batch).unwrap_err();
        assert_eq!((self.end, self.view(batch.producer_id)), before);
        rejection
    }

    /// A batch that is in the log already: replayed, or replicated.
    pub(crate) fn replay(&mut self, batch: Batch) {
        let header = BatchHeader {
            base_offset: offset(self.end),
            ..batch.header()
        };
        self.table
            .replay(&header, batch.fingerprint, None, self.end, self.now_ms);
        self.end += u64::try_from(batch.count).unwrap();
    }

    /// A transaction marker in the log.
    pub(crate) fn marker(&mut self, producer_id: i64, epoch: i16, coordinator_epoch: i32) {
        let header = control_header(producer_id, epoch, 1);
        self.table.replay(
            &header,
            0,
            Some((coordinator_epoch, false)),
            self.end,
            self.now_ms,
        );
        self.end += 1;
    }

    pub(crate) fn view(&self, producer_id: i64) -> Option<ProducerView> {
        self.table.get(producer_id)
    }

    /// The window's sequences, first and last of each batch.
    pub(crate) fn window(&self, producer_id: i64) -> Vec<(i32, i32)> {
        let window = self
            .view(producer_id)
            .map(|view| view.window)
            .unwrap_or_default();
        window
            .iter()
            .map(|entry| (entry.first_sequence, entry.last_sequence))
            .collect()
    }
}

pub(crate) fn control_header(producer_id: i64, epoch: i16, records: i32) -> BatchHeader {
    BatchHeader {
        attributes: Attributes(Attributes::TRANSACTIONAL | Attributes::CONTROL),
        base_sequence: -1,
        record_count: records,
        ..p7(0, 0).of(producer_id).epoch(epoch).header()
    }
}

fn offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap()
}
