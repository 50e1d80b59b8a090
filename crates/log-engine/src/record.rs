//! A record on its way in.

use record_batch::{
    BatchBuilder, BatchError, HEADER_BYTES, SOURCE_BYTES, SOURCE_HEADER, record_size_upper_bound,
};

use crate::headers;

/// Bytes that a source position adds to a record, at most.
const SOURCE_ROOM: usize = SOURCE_HEADER.len() + SOURCE_BYTES + 10;

/// A record to append. It borrows; the bytes are copied once, into the batch, during the call.
///
/// No key and an empty key differ, and so do no value (a tombstone) and an empty value.
///
/// ```
/// use log_engine::Record;
///
/// let record = Record::new().key("A-1").value(b"body").header("trace", Some(b"7"));
/// assert_eq!(record.key_bytes(), Some(&b"A-1"[..]));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    topic: Option<&'a str>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
    timestamp_ms: Option<i64>,
    position: Option<u64>,
}

impl<'a> Record<'a> {
    /// A record with nothing in it: no key, and no value.
    pub fn new() -> Record<'a> {
        Record::default()
    }

    /// A record for a topic, with nothing else in it.
    pub fn to(topic: &'a str) -> Record<'a> {
        Record {
            topic: Some(topic),
            ..Record::default()
        }
    }

    /// Sets the business id: the header `biz-id`. The log carries it and never interprets it;
    /// consumers recognise by it what they acted on before.
    #[must_use]
    pub fn biz_id(self, id: &'a (impl AsRef<[u8]> + ?Sized)) -> Record<'a> {
        self.header(headers::BIZ_ID, Some(id.as_ref()))
    }

    /// Sets the business meaning in which the business id is unique: the header `scenario`. Unless
    /// set, consumers take the topic's name.
    #[must_use]
    pub fn scenario(self, name: &'a str) -> Record<'a> {
        self.header(headers::SCENARIO, Some(name.as_bytes()))
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Record<'a> {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Record<'a> {
        self.value = Some(value.as_ref());
        self
    }

    /// Adds a header. Names may repeat.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: Option<&'a [u8]>) -> Record<'a> {
        self.headers.push((name, value));
        self
    }

    /// Sets the time of the event, milliseconds since 1970. Unless set, it is that of the append.
    #[must_use]
    pub fn timestamp(mut self, ms: i64) -> Record<'a> {
        self.timestamp_ms = Some(ms);
        self
    }

    /// Sets where in its source the record is: a line number, a file offset, a change number.
    /// Positions of a named producer rise strictly; a later run goes on behind the last one stored.
    #[must_use]
    pub fn position(mut self, position: u64) -> Record<'a> {
        self.position = Some(position);
        self
    }

    pub(crate) fn source_position(&self) -> Option<u64> {
        self.position
    }

    /// The key.
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    pub(crate) fn topic(&self) -> Option<&'a str> {
        self.topic
    }

    pub(crate) fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    /// Bytes that the record adds to a batch, at most.
    pub(crate) fn size_upper_bound(&self) -> usize {
        let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        record_size_upper_bound(bytes(self.key), bytes(self.value), &self.headers)
    }

    /// Bytes of a batch that holds the record alone, at most.
    pub(crate) fn batch_size_upper_bound(&self) -> usize {
        HEADER_BYTES + self.size_upper_bound() + self.position.map_or(0, |_| SOURCE_ROOM)
    }

    /// Puts the record into a batch whose first record carries a source position, to be written when
    /// the batch is built.
    pub(crate) fn push_first_to(
        &self,
        batch: &mut BatchBuilder,
        now_ms: i64,
    ) -> Result<(), BatchError> {
        let timestamp = self.timestamp_ms.unwrap_or(now_ms);
        let mut headers = self.headers.clone();
        headers.push((SOURCE_HEADER, Some(&[0; SOURCE_BYTES])));
        batch.push(timestamp, self.key, self.value, &headers)
    }

    /// Puts the record into a batch.
    pub(crate) fn push_to(&self, batch: &mut BatchBuilder, now_ms: i64) -> Result<(), BatchError> {
        let timestamp = self.timestamp_ms.unwrap_or(now_ms);
        batch.push(timestamp, self.key, self.value, &self.headers)
    }
}
