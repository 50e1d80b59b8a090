//! Where decompressed bytes go, up to a limit.

use std::io::Read;

use crate::error::BatchError;

/// Appends to a vector, which never holds nor reserves more than the limit allows.
pub(super) struct Sink<'a> {
    out: &'a mut Vec<u8>,
    /// Where our bytes begin.
    start: usize,
    limit: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, limit: usize) -> Sink<'a> {
        let start = out.len();
        Sink { out, start, limit }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that may still come.
    pub(super) fn room(&self) -> usize {
        self.limit - self.content().len()
    }

    /// What came so far.
    pub(super) fn content(&self) -> &[u8] {
        &self.out[self.start..]
    }

    pub(super) fn too_large(&self) -> BatchError {
        BatchError::TooLarge { limit: self.limit }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), BatchError> {
        self.reserve(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends `length` zero bytes and gives what came before them, and them.
    pub(super) fn extend(&mut self, length: usize) -> Result<(&[u8], &mut [u8]), BatchError> {
        self.reserve(length)?;
        let end = self.out.len();
        self.out.resize(end + length, 0);
        let (before, fresh) = self.out[self.start..].split_at_mut(end - self.start);
        Ok((before, fresh))
    }

    /// Takes the last `length` bytes back.
    pub(super) fn retract(&mut self, length: usize) {
        let end = self.out.len().saturating_sub(length).max(self.start);
        self.out.truncate(end);
    }

    fn reserve(&mut self, length: usize) -> Result<(), BatchError> {
        if length > self.room() {
            return Err(self.too_large());
        }
        let needed = self.out.len() + length;
        if needed > self.out.capacity() {
            // Twice as much, as vectors do, but not beyond the limit.
            let most = self.start.saturating_add(self.limit);
            let target = needed.max(self.out.capacity().saturating_mul(2).min(most));
            self.out.reserve_exact(target - self.out.len());
        }
        Ok(())
    }

    /// Pushes everything that `reader` gives; an error of the reader becomes `malformed`.
    pub(super) fn drain(
        &mut self,
        reader: &mut impl Read,
        malformed: impl Fn() -> BatchError,
    ) -> Result<(), BatchError> {
        let mut buffer = [0; 16 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => self.push(&buffer[..n])?,
                Err(_) => return Err(malformed()),
            }
        }
    }
}
