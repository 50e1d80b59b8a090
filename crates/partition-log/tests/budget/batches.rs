//! What producers send.

use record_batch::{BatchBuilder, ProducerIdentity};

/// A batch, before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    pub(crate) count: i32,
    pub(crate) content: u8,
    pub(crate) transactional: bool,
}

impl Sent {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut batch = BatchBuilder::new().transactional(self.transactional);
        for _ in 0..self.count {
            batch.push(0, None, Some(&[self.content]), &[]).unwrap();
        }
        let identity = ProducerIdentity {
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            base_sequence: self.first,
        };
        batch.build(Some(identity)).unwrap().to_vec()
    }
}

/// One record of a producer, epoch 0.
pub(crate) fn one(producer_id: i64, sequence: i32) -> Sent {
    Sent {
        producer_id,
        epoch: 0,
        first: sequence,
        count: 1,
        content: 0,
        transactional: false,
    }
}
