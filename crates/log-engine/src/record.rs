//! A record on its way in.

use record_batch::{BatchBuilder, BatchError};

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
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
    timestamp_ms: Option<i64>,
}

impl<'a> Record<'a> {
    /// A record with nothing in it: no key, and no value.
    pub fn new() -> Record<'a> {
        Record::default()
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

    /// The key.
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Puts the record into a batch.
    pub(crate) fn push_to(&self, batch: &mut BatchBuilder, now_ms: i64) -> Result<(), BatchError> {
        let timestamp = self.timestamp_ms.unwrap_or(now_ms);
        batch.push(timestamp, self.key, self.value, &self.headers)
    }
}
