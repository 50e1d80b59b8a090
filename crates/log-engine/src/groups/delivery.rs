//! One hand-over of a record to a member, and what says so later.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::GroupError;
use super::member::Context;
use crate::blocking;
use crate::consumed_record::ConsumedRecord;

/// What a delivery is acknowledged with; may be kept elsewhere than the delivery. It is refused once
/// the partition is in another epoch, or the record was delivered again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Receipt {
    /// The topic.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::json::text"))]
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The record's offset.
    pub offset: u64,
    /// The partition's epoch in the group. It rises with each owner and each seek, and over all
    /// groups no epoch is given twice.
    pub epoch: u64,
    /// Which delivery of the record, from 1. Counted since the last seek, over restarts.
    pub delivery: u32,
}

/// A record that was handed to a member, until it is settled or its visibility ends. Dropped, it
/// is delivered again then.
pub struct Delivery {
    context: Arc<Context>,
    record: ConsumedRecord,
    receipt: Receipt,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("receipt", &self.receipt)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    pub(super) fn new(
        context: &Arc<Context>,
        record: ConsumedRecord,
        (epoch, delivery): (u64, u32),
    ) -> Delivery {
        let receipt = Receipt {
            topic: record.topic_name(),
            partition: record.partition(),
            offset: record.offset(),
            epoch,
            delivery,
        };
        Delivery {
            context: context.clone(),
            record,
            receipt,
        }
    }

    /// The record.
    pub fn record(&self) -> &ConsumedRecord {
        &self.record
    }

    /// What it is acknowledged with.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// How often the record was delivered to the group, this time included: 1 the first time. A
    /// killed process loses none of the count, a power cut at most the deliveries of the last
    /// 100 ms; a seek begins anew.
    pub fn deliveries(&self) -> u32 {
        self.receipt.delivery
    }

    /// The record's business meaning, in which its business id is unique: header `scenario`, or the
    /// topic's name.
    pub fn scenario(&self) -> Cow<'_, str> {
        self.record.scenario()
    }

    /// When the record was first in a log, milliseconds since 1970: header `origin-time`, or its
    /// timestamp.
    pub fn origin_ms(&self) -> i64 {
        self.record.origin_ms()
    }

    /// Whether it was sent again from a dead-letter topic: header `redrive`.
    pub fn is_redrive(&self) -> bool {
        self.record.is_redrive()
    }

    /// Takes the record out of the delivery.
    pub fn into_record(self) -> ConsumedRecord {
        self.record
    }

    /// The work is done: the log need not deliver the record again. It is written when this returns,
    /// and synced within 100 ms; a killed process loses nothing of it.
    ///
    /// # Cancel safety
    /// Dropped, the record is acknowledged or not.
    ///
    /// # Errors
    /// [`GroupError::Fenced`], [`GroupError::Superseded`]: somebody else has the record.
    pub async fn ack(self) -> Result<(), GroupError> {
        self.context.ack(std::slice::from_ref(&self.receipt)).await
    }

    /// As [`Delivery::ack`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn blocking_ack(self) -> Result<(), GroupError> {
        blocking::wait("blocking_ack", "ack", self.ack())
    }

    /// Gives the record back; it is delivered again after `delay`, at most 12 h, or after a restart.
    ///
    /// # Errors
    /// As [`Delivery::ack`], and [`GroupError::TooLong`].
    pub fn nack(self, delay: Duration) -> Result<(), GroupError> {
        self.context.nack(&self.receipt, delay)
    }

    /// Has the delivery last for another `visibility`, at most 12 h, from now on.
    ///
    /// # Errors
    /// As [`Delivery::ack`], and [`GroupError::TooLong`].
    pub fn extend(&self, visibility: Duration) -> Result<(), GroupError> {
        self.context.extend(&self.receipt, visibility)
    }

    /// Gives the record up: it goes to the group's dead-letter topic, and that is the
    /// acknowledgement. Durable when this returns. Repeated, after a crash at any place too, it adds
    /// nothing. `reason` is for programs, `details` (the last error) for people.
    ///
    /// # Cancel safety
    /// Dropped, the record is parked or not; parking it again tells.
    ///
    /// # Errors
    /// As [`Delivery::ack`], and [`GroupError::NoDeadLetterTopic`], [`GroupError::Append`].
    pub async fn park(self, reason: &str, details: &str) -> Result<(), GroupError> {
        self.context
            .park((&self.receipt, &self.record), reason, details)
            .await
    }

    /// As [`Delivery::park`], waiting on this thread.
    ///
    /// # Panics
    /// On a worker of an async runtime.
    ///
    /// # Errors
    /// As [`Delivery::park`].
    pub fn blocking_park(self, reason: &str, details: &str) -> Result<(), GroupError> {
        blocking::wait("blocking_park", "park", self.park(reason, details))
    }
}
