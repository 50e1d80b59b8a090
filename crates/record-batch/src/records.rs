//! The records of a batch, one by one.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::Bytes;

use crate::error::BatchError;
use crate::header::BatchHeader;
use crate::varint::Cursor;

/// One record. Its bytes are slices of memory that all records of the batch share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies in the log (in a batch not yet appended: its position in the batch).
    pub offset: i64,
    /// Milliseconds since 1970: the producer's, or the append time of the batch.
    pub timestamp: i64,
    /// Its sequence number, 0 to 2^31 - 1, when the batch has any.
    pub sequence: Option<i32>,
    /// The key; `None` is null, which is not the empty key.
    pub key: Option<Bytes>,
    /// The value; `None` is null (a tombstone in compacted logs).
    pub value: Option<Bytes>,
    /// Headers in the order they were sent; a key may occur more than once.
    pub headers: Vec<Header>,
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The key.
    pub key: HeaderKey,
    /// The value, if not null.
    pub value: Option<Bytes>,
}

/// The key of a header: UTF-8 that shares the batch's memory. Use it as a `&str`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderKey(Bytes);

impl HeaderKey {
    fn new(bytes: Bytes) -> Result<HeaderKey, &'static str> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(HeaderKey(bytes)),
            Err(_) => Err("a header key is not UTF-8"),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        // Checked when made; header keys are short, so checking again costs little.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<&str> for HeaderKey {
    fn from(key: &str) -> HeaderKey {
        HeaderKey(Bytes::copy_from_slice(key.as_bytes()))
    }
}

impl Deref for HeaderKey {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for HeaderKey {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for HeaderKey {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for HeaderKey {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Iterates over the records of a batch. After an error nothing more comes.
///
/// A batch may have a right CRC and malformed records all the same, as producers compute the CRC.
/// Checked are every length and varint, that each record fills its declared length, that offsets
/// rise within the batch's range, and that there are as many records as the header says.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    payload: Bytes,
    /// Position in the payload.
    at: usize,
    index: usize,
    last_delta: i32,
    finished: bool,
}

impl Records {
    pub(crate) fn new(header: BatchHeader, payload: Bytes) -> Records {
        Records {
            header,
            payload,
            at: 0,
            index: 0,
            last_delta: -1,
            finished: false,
        }
    }

    fn read(&mut self) -> Result<Record, &'static str> {
        let mut outer = Cursor::new(&self.payload, self.at);
        let length = outer.varint()?;
        let body = outer.take(length)?;
        let mut body = Cursor::new(&self.payload[..body.end], body.start);
        let _attributes = body.byte()?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        if offset_delta <= self.last_delta || offset_delta > self.header.last_offset_delta {
            return Err("its offset is not above the one before and within the batch");
        }
        let key = body.nullable()?;
        let value = body.nullable()?;
        let count = usize::try_from(body.varint()?).map_err(|_| "its header count is negative")?;
        // A header has at least the two bytes of its lengths.
        if count > body.remaining() / 2 {
            return Err("its header count exceeds the bytes left");
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let key = body.nullable()?.ok_or("a header key is null")?;
            let value = body.nullable()?;
            let key = HeaderKey::new(self.payload.slice(key))?;
            headers.push(Header {
                key,
                value: value.map(|range| self.payload.slice(range)),
            });
        }
        if body.remaining() != 0 {
            return Err("it is longer than its fields");
        }
        self.at = body.position();
        self.last_delta = offset_delta;
        let slice = |range: Range<usize>| self.payload.slice(range);
        Ok(Record {
            offset: self
                .header
                .base_offset
                .saturating_add(i64::from(offset_delta)),
            timestamp: if self.header.attributes.is_log_append_time() {
                self.header.max_timestamp
            } else {
                self.header.base_timestamp.wrapping_add(timestamp_delta)
            },
            sequence: self.sequence(offset_delta),
            key: key.map(slice),
            value: value.map(slice),
            headers,
        })
    }

    /// The base sequence advanced; after 2^31 - 1 comes 0.
    fn sequence(&self, offset_delta: i32) -> Option<i32> {
        let base = self.header.base_sequence;
        let advanced = base.wrapping_add(offset_delta) & i32::MAX;
        (base >= 0).then_some(advanced)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Result<Record, BatchError>> {
        if self.finished {
            return None;
        }
        let index = self.index;
        // `Batch::parse` lets no negative count through.
        let result = if usize::try_from(self.header.record_count).is_ok_and(|n| index < n) {
            self.read()
        } else if self.at == self.payload.len() {
            self.finished = true;
            return None;
        } else {
            Err("more bytes follow than the batch's record count accounts for")
        };
        self.index += 1;
        self.finished = result.is_err();
        Some(result.map_err(|what| BatchError::Record { index, what }))
    }
}

impl std::iter::FusedIterator for Records {}
