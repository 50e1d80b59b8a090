//! A record on its way out.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use record_batch::{BatchHeader, Header, Record};

use crate::headers;

/// A record as a reader gets it: `Bytes` over the mapped file, so holding one, or a part of it, pins
/// its segment; [`to_owned`](ConsumedRecord::to_owned) unpins.
///
/// A pinned segment stays mapped, and its file takes space even after it was deleted.
#[derive(Debug, Clone)]
pub struct ConsumedRecord {
    topic: Arc<str>,
    partition: u32,
    producer: Option<(i64, i16)>,
    source: Option<u64>,
    record: Record,
}

impl ConsumedRecord {
    pub(crate) fn new(
        topic: &Arc<str>,
        partition: u32,
        (header, source): (&BatchHeader, Option<u64>),
        record: Record,
    ) -> ConsumedRecord {
        let producer = header
            .has_producer()
            .then_some((header.producer_id, header.producer_epoch));
        ConsumedRecord {
            topic: topic.clone(),
            partition,
            producer,
            source,
            record,
        }
    }

    /// A copy in memory of its own, which pins no segment; to be kept for long. A clone pins.
    pub fn to_owned(&self) -> ConsumedRecord {
        let copy = |part: &Option<Bytes>| part.as_deref().map(Bytes::copy_from_slice);
        let headers = self.record.headers.iter().map(|header| Header {
            key: header.key.as_str().into(),
            value: copy(&header.value),
        });
        let record = Record {
            offset: self.record.offset,
            timestamp: self.record.timestamp,
            sequence: self.record.sequence,
            key: copy(&self.record.key),
            value: copy(&self.record.value),
            headers: headers.collect(),
        };
        ConsumedRecord {
            topic: self.topic.clone(),
            record,
            ..*self
        }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The offset.
    pub fn offset(&self) -> u64 {
        // Checked when it was appended.
        u64::try_from(self.record.offset).unwrap_or(0)
    }

    /// Milliseconds since 1970.
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp
    }

    /// The key. None and an empty one differ.
    pub fn key(&self) -> Option<&Bytes> {
        self.record.key.as_ref()
    }

    /// The value. None (a tombstone) and an empty one differ.
    pub fn value(&self) -> Option<&Bytes> {
        self.record.value.as_ref()
    }

    /// The headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&Bytes>)> {
        self.record
            .headers
            .iter()
            .map(|h| (h.key.as_str(), h.value.as_ref()))
    }

    /// The value of the last header of that name, if that has one.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        let named = self
            .record
            .headers
            .iter()
            .rev()
            .find(|h| h.key.as_str() == name);
        named.and_then(|h| h.value.as_ref())
    }

    /// The business id: the value of header `biz-id`. Carried, never interpreted.
    pub fn biz_id(&self) -> Option<&Bytes> {
        self.header(headers::BIZ_ID)
    }

    /// The business meaning in which the business id is unique: the value of header `scenario`, or
    /// the topic's name. A record of a dead-letter topic has that of its origin.
    pub fn scenario(&self) -> Cow<'_, str> {
        match self.header(headers::SCENARIO) {
            Some(name) => String::from_utf8_lossy(name),
            None => Cow::Borrowed(&self.topic),
        }
    }

    /// When the record was first in a log, milliseconds since 1970: the value of header
    /// `origin-time`, or its timestamp.
    pub fn origin_ms(&self) -> i64 {
        let text = self.header(headers::ORIGIN_TIME);
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(|text| text.parse().ok())
            .unwrap_or(self.record.timestamp)
    }

    /// Whether it was sent again from a dead-letter topic: it has the header `redrive`.
    pub fn is_redrive(&self) -> bool {
        self.header(headers::REDRIVE).is_some()
    }

    pub(crate) fn topic_name(&self) -> Arc<str> {
        self.topic.clone()
    }

    /// How far its named producer's source goes with the batch that holds the record: the position
    /// of the batch's last record.
    pub fn source_position(&self) -> Option<u64> {
        self.source
    }

    /// Id of the producer that sent it.
    pub fn producer_id(&self) -> Option<i64> {
        self.producer.map(|(id, _)| id)
    }

    /// Epoch of the producer that sent it.
    pub fn producer_epoch(&self) -> Option<i16> {
        self.producer.map(|(_, epoch)| epoch)
    }

    /// Its producer's sequence number.
    pub fn sequence(&self) -> Option<i32> {
        self.record.sequence
    }
}
