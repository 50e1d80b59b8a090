//! Bytes of events: big-endian numbers, and parts behind their lengths.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

/// Why bytes are no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends too early.
    #[error("it ends too early")]
    Short,
    /// Something follows it.
    #[error("{bytes} bytes follow it")]
    Rest {
        /// How many.
        bytes: usize,
    },
    /// It is of a newer release.
    #[error("it is of version {found}, this release reads {supported}; use a newer release")]
    Version {
        /// In the record.
        found: u8,
        /// The newest that can be read.
        supported: u8,
    },
    /// A number that stands for nothing.
    #[error("{found} is no {what}")]
    Unknown {
        /// Of what kind it should be.
        what: &'static str,
        /// The number.
        found: u8,
    },
    /// A name that is not UTF-8.
    #[error("a name is not UTF-8")]
    Text,
    /// An id that is none.
    #[error("an id is too short or too long")]
    Id,
}

/// Writes a part behind its length.
pub(super) fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    // Callers keep parts below a batch's size.
    out.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
    out.put_slice(part);
}

/// Writes a part that may be missing.
pub(super) fn put_optional(out: &mut Vec<u8>, part: Option<&[u8]>) {
    out.put_u8(u8::from(part.is_some()));
    if let Some(part) = part {
        put_part(out, part);
    }
}

/// Writes a number that may be missing.
pub(super) fn put_number(out: &mut Vec<u8>, number: Option<u64>) {
    out.put_u8(u8::from(number.is_some()));
    if let Some(number) = number {
        out.put_u64(number);
    }
}

/// Reads what was written, and nothing behind it.
pub(super) struct Input(pub(super) Bytes);

impl Input {
    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.0.try_get_u8().map_err(|_| WireError::Short)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.0.try_get_u32().map_err(|_| WireError::Short)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.0.try_get_u64().map_err(|_| WireError::Short)
    }

    pub(super) fn u128(&mut self) -> Result<u128, WireError> {
        self.0.try_get_u128().map_err(|_| WireError::Short)
    }

    pub(super) fn number(&mut self) -> Result<Option<u64>, WireError> {
        match self.u8()? {
            0 => Ok(None),
            _ => self.u64().map(Some),
        }
    }

    pub(super) fn part(&mut self) -> Result<Bytes, WireError> {
        let length = usize::try_from(self.u32()?).map_err(|_| WireError::Short)?;
        if self.0.len() < length {
            return Err(WireError::Short);
        }
        Ok(self.0.split_to(length))
    }

    pub(super) fn optional(&mut self) -> Result<Option<Bytes>, WireError> {
        match self.u8()? {
            0 => Ok(None),
            _ => self.part().map(Some),
        }
    }

    pub(super) fn text(&mut self) -> Result<Arc<str>, WireError> {
        let part = self.part()?;
        let text = std::str::from_utf8(&part).map_err(|_| WireError::Text)?;
        Ok(text.into())
    }

    pub(super) fn end(self) -> Result<(), WireError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(WireError::Rest { bytes }),
        }
    }
}
