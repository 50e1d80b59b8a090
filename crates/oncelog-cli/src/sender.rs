//! A small sender that sends again what was not acknowledged.
//!
//! A [`Lane`] is one producer's way to one partition. Up to `max_in_flight` batches are on their
//! way; they are settled in the order in which they were sent. Where the link loses an
//! acknowledgement, the same bytes are sent again until one arrives.

use std::collections::VecDeque;
use std::ops::AddAssign;

use anyhow::Context;
use oncelog::{Appended, BatchBuilder, Partition, Pending, ProducerIdentity};

use crate::exit::Stop;
use crate::lossy::LossyLink;

/// What a sender did. All but `batches` and `bytes` are records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Acknowledged.
    pub(crate) records: u64,
    /// Batches of them.
    pub(crate) batches: u64,
    /// Bytes of those batches.
    pub(crate) bytes: u64,
    /// Sent again.
    pub(crate) retransmitted: u64,
    /// Answered by the log as known already.
    pub(crate) duplicates_answered: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.records += other.records;
        self.batches += other.batches;
        self.bytes += other.bytes;
        self.retransmitted += other.retransmitted;
        self.duplicates_answered += other.duplicates_answered;
    }
}

/// Who sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// One producer's way to one partition.
pub(crate) struct Lane {
    partition: Partition,
    producer: Producer,
    /// Whether the log answers a repeated batch with its first offset.
    idempotence: bool,
    max_in_flight: usize,
    link: LossyLink,
    next_sequence: i32,
    in_flight: VecDeque<InFlight>,
    /// Memory of settled batches, for the next ones.
    spare: Vec<Vec<u8>>,
    counts: Counts,
}

struct InFlight {
    bytes: Vec<u8>,
    records: u32,
    pending: Pending,
}

impl Lane {
    /// `max_in_flight` must be at most the topic's `producer.window`, or the log forgets batches
    /// that are still to be sent again.
    pub(crate) fn new(
        partition: Partition,
        producer: Producer,
        link: LossyLink,
        max_in_flight: usize,
    ) -> Lane {
        Lane {
            partition,
            producer,
            idempotence: true,
            max_in_flight: max_in_flight.max(1),
            link,
            next_sequence: 0,
            in_flight: VecDeque::new(),
            spare: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// For topics without the check: a batch sent again is stored again.
    pub(crate) fn idempotence(mut self, idempotence: bool) -> Lane {
        self.idempotence = idempotence;
        self
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Sends what is in `builder`, and empties it. Waits for the oldest batch when too many are
    /// on their way. An empty builder is nothing to send.
    pub(crate) fn send(&mut self, builder: &mut BatchBuilder) -> anyhow::Result<()> {
        if builder.is_empty() {
            return Ok(());
        }
        while self.in_flight.len() >= self.max_in_flight {
            self.settle_oldest()?;
        }
        let identity = ProducerIdentity {
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.next_sequence,
        };
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        let records = u32::try_from(builder.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(
            builder
                .build(Some(identity))
                .context("cannot build a batch")?,
        );
        builder.clear();
        let pending = self.partition.blocking_start(&bytes)?;
        self.next_sequence = sequence_after(self.next_sequence, records);
        self.in_flight.push_back(InFlight {
            bytes,
            records,
            pending,
        });
        Ok(())
    }

    /// Waits until everything sent is acknowledged.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        while !self.in_flight.is_empty() {
            self.settle_oldest()?;
        }
        Ok(())
    }

    fn settle_oldest(&mut self) -> anyhow::Result<()> {
        let Some(InFlight {
            bytes,
            records,
            mut pending,
        }) = self.in_flight.pop_front()
        else {
            return Ok(());
        };
        let mut first: Option<Appended> = None;
        loop {
            let answer = pending.blocking_wait()?;
            if self.idempotence {
                self.check(first.as_ref(), &answer)?;
            }
            if answer.duplicate {
                self.counts.duplicates_answered += u64::from(records);
            }
            if !self.link.loses_next() {
                break;
            }
            first.get_or_insert(answer);
            self.counts.retransmitted += u64::from(records);
            pending = self.partition.blocking_start(&bytes)?;
        }
        self.counts.records += u64::from(records);
        self.counts.batches += 1;
        self.counts.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.spare.push(bytes);
        Ok(())
    }

    /// What was sent once is new; what was sent again is a duplicate, at the offset that the lost
    /// answer named (I5).
    fn check(&self, first: Option<&Appended>, answer: &Appended) -> anyhow::Result<()> {
        let right = match first {
            None => !answer.duplicate,
            Some(first) => answer.duplicate && answer.offset == first.offset,
        };
        if right {
            return Ok(());
        }
        let answered = if answer.duplicate {
            "a duplicate"
        } else {
            "new"
        };
        let was = first.map_or("sent for the first time".to_owned(), |first| {
            format!("sent again, after it was stored at offset {}", first.offset)
        });
        Err(Stop::Failed(format!(
            "the log answered a batch of producer {} for {}-{} as {answered} at offset {}, but it \
             was {was}",
            self.producer.id, answer.topic, answer.partition, answer.offset
        ))
        .into())
    }
}

/// Sequences go from 0 to 2^31 - 1 and begin again at 0.
fn sequence_after(sequence: i32, records: u32) -> i32 {
    let next = (i64::from(sequence) + i64::from(records)) & i64::from(i32::MAX);
    // Masked to 31 bits, so it fits.
    i32::try_from(next).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use oncelog::{Engine, TopicConfig};

    use super::*;

    /// Sends 60 batches of 10 and gives the counts, and the records found in the log.
    fn send(lost: f64, idempotence: bool, max_in_flight: usize) -> (Counts, u64) {
        let engine = Engine::in_memory();
        let config = TopicConfig::default().with_idempotence(idempotence);
        let topic = engine.create_topic("t", 1, config).unwrap();
        let session = engine.session().unwrap();
        let producer = Producer {
            id: session.producer_id(),
            epoch: session.epoch(),
        };
        let link = LossyLink::new(7, 0, 0, lost);
        let mut lane = Lane::new(topic.partition(0).unwrap(), producer, link, max_in_flight)
            .idempotence(idempotence);
        let mut builder = BatchBuilder::new();
        for batch in 0..60 {
            for record in 0..10 {
                let value = format!("{batch} {record}");
                builder.push(1, None, Some(value.as_bytes()), &[]).unwrap();
            }
            lane.send(&mut builder).unwrap();
        }
        lane.settle().unwrap();
        (lane.counts(), topic.describe().records)
    }

    #[test]
    fn every_record_is_stored_once_however_many_acknowledgements_are_lost() {
        for (lost, max_in_flight) in [(0.0, 5), (0.2, 1), (0.2, 5), (0.9, 5)] {
            let (counts, stored) = send(lost, true, max_in_flight);
            assert_eq!((counts.records, counts.batches, stored), (600, 60, 600));
            assert_eq!(counts.duplicates_answered, counts.retransmitted);
            assert_eq!(counts.retransmitted > 0, lost > 0.0);
        }
    }

    #[test]
    fn without_the_check_what_is_sent_again_is_stored_again() {
        let (counts, stored) = send(0.5, false, 5);
        assert!(counts.retransmitted > 0);
        assert_eq!(stored, 600 + counts.retransmitted);
        assert_eq!(counts.duplicates_answered, 0);
    }

    #[test]
    fn losses_do_not_depend_on_how_many_are_in_flight() {
        assert_eq!(send(0.3, true, 1), send(0.3, true, 5));
    }

    #[test]
    fn sequences_begin_again_after_the_largest() {
        assert_eq!(sequence_after(0, 500), 500);
        assert_eq!(sequence_after(i32::MAX - 1, 2), 0);
        assert_eq!(sequence_after(i32::MAX, 3), 2);
    }
}
