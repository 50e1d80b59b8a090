//! The contents of one file, live and durable, and which ranges are dirty in between.

use std::io;
use std::ops::Range;

use crate::disk::memory::file::index;

/// Bytes as programs see them and as they would survive.
#[derive(Debug, Clone, Default)]
pub(in crate::disk::memory) struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Written since, with the number of syncs that had begun by then.
    dirty: Vec<(Range<usize>, u64)>,
    syncs_begun: u64,
    /// One above the number of the sync that made the present length durable.
    length_synced: u64,
}

/// A sync that has begun: it covers what was written before, and the length of then.
#[derive(Debug, Clone, Copy)]
pub(in crate::disk::memory) struct BegunSync {
    number: u64,
    len: usize,
}

impl Contents {
    pub(in crate::disk::memory) fn live(&self) -> &[u8] {
        &self.live
    }

    /// Lengthens the file with zeros.
    pub(in crate::disk::memory) fn grow(&mut self, len: usize) {
        if self.live.is_empty() {
            // Fresh zeros cost no memory before they are written.
            self.live = vec![0; len];
        } else if len > self.live.len() {
            self.live.resize(len, 0);
        }
    }

    pub(in crate::disk::memory) fn cut(&mut self, len: usize) {
        self.live.truncate(len);
        for (range, _) in &mut self.dirty {
            range.end = range.end.min(len);
        }
        self.dirty.retain(|(range, _)| range.start < range.end);
    }

    /// Writes inside of the file.
    pub(in crate::disk::memory) fn write(&mut self, bytes: &[u8], position: u64) {
        let Ok(start) = index(position) else { return };
        let range = start..start + bytes.len();
        self.live[range.clone()].copy_from_slice(bytes);
        match self.dirty.last_mut() {
            Some((last, sync)) if last.end == start && *sync == self.syncs_begun => {
                last.end = range.end;
            }
            _ => self.dirty.push((range, self.syncs_begun)),
        }
    }

    pub(in crate::disk::memory) fn read(&self, range: Range<u64>) -> io::Result<&[u8]> {
        let range = index(range.start)?..index(range.end)?;
        self.live
            .get(range)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    pub(in crate::disk::memory) fn flip(&mut self, position: u64, xor: u8) -> io::Result<()> {
        let position = index(position)?;
        let byte = self.live.get_mut(position);
        *byte.ok_or(io::ErrorKind::UnexpectedEof)? ^= xor;
        if let Some(byte) = self.durable.get_mut(position) {
            *byte ^= xor;
        }
        Ok(())
    }

    pub(in crate::disk::memory) fn begin_sync(&mut self) -> BegunSync {
        let begun = BegunSync {
            number: self.syncs_begun,
            len: self.live.len(),
        };
        self.syncs_begun += 1;
        begun
    }

    /// Moves what the sync covers into the durable image.
    pub(in crate::disk::memory) fn finish_sync(&mut self, begun: BegunSync) {
        // Of two syncs side by side, the one that began later knows the length.
        if self.length_synced <= begun.number {
            self.length_synced = begun.number + 1;
            // A cut during the sync needs a sync of its own, but what it took away is gone.
            let len = begun.len.min(self.live.len());
            if self.durable.is_empty() {
                self.durable = vec![0; len];
            } else {
                self.durable.resize(len, 0);
            }
        }
        let (live, durable) = (&self.live, &mut self.durable);
        self.dirty.retain(|(range, sync)| {
            let covered = *sync <= begun.number;
            if covered {
                let end = range.end.min(durable.len());
                if let (Some(to), Some(from)) = (
                    durable.get_mut(range.start..end),
                    live.get(range.start..end),
                ) {
                    to.copy_from_slice(from);
                }
            }
            !covered
        });
    }

    /// Marks what the sync covers as clean without having made it durable, as Linux does (R6).
    pub(in crate::disk::memory) fn fail_sync(&mut self, begun: BegunSync) {
        self.dirty.retain(|(_, sync)| *sync > begun.number);
    }

    /// What the device has is all there is now; what is dirty stays in the cache.
    pub(in crate::disk::memory) fn forget_what_is_not_durable(&mut self) {
        let mut device = self.durable.clone();
        device.resize(self.live.len(), 0);
        for (range, _) in &self.dirty {
            device[range.clone()].copy_from_slice(&self.live[range.clone()]);
        }
        self.live = device;
    }

    pub(in crate::disk::memory) fn lose_what_is_not_durable(&mut self) {
        self.live = self.durable.clone();
        self.dirty.clear();
    }
}
