//! One open file of the disk in memory.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::{MemoryDisk, State, input_output_error, take_one};
use crate::disk::published::{Published, end_of_write};
use crate::disk::{DiskFile, Prepare};

/// A handle; the contents are in the disk's image.
#[derive(Debug)]
pub(super) struct MemoryFile {
    disk: MemoryDisk,
    file: u64,
    published: Published,
}

impl MemoryFile {
    pub(super) fn new(disk: MemoryDisk, file: u64) -> Self {
        Self {
            disk,
            file,
            published: Published::new(),
        }
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> u64 {
        self.disk.state().image.len(self.file)
    }

    fn write_at(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
        let end = end_of_write(head, body, position)?;
        let _writing = self.published.begin_write(position)?;
        let mut state = self.disk.state();
        if let Some(kind) = state.faults.next_write.take() {
            return Err(kind.into());
        }
        state.image.grow(self.file, end)?;
        let file = state.image.file_mut(self.file);
        file.write(head, position);
        file.write(body, position + head.len() as u64);
        state.counters.bytes_written += end - position;
        Ok(())
    }

    fn publish(&self, end: u64) {
        self.published.raise(end, self.len());
    }

    fn published(&self) -> u64 {
        self.published.end()
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.published.check_read(&range)?;
        let mut state = self.disk.state();
        let bytes = state.image.file_mut(self.file).read(range)?;
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let end = end_of_write(into, &[], position)?;
        let mut state = self.disk.state();
        let bytes = state.image.file_mut(self.file).read(position..end)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn prepare(&self, from: u64, how: Prepare) -> io::Result<()> {
        {
            let _writing = self.published.begin_write(from)?;
            if how == Prepare::Touch {
                return Ok(());
            }
            let mut state = self.disk.state();
            let file = state.image.file_mut(self.file);
            let zeros = vec![0; file.live().len().saturating_sub(index(from)?)];
            file.write(&zeros, from);
            state.counters.bytes_written += zeros.len() as u64;
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.counters.syncs += 1;
        let State { image, faults, .. } = &mut *state;
        let fails = match &mut faults.syncs_in {
            Some((directory, count)) if image.is_in(self.file, directory) => take_one(count),
            _ => take_one(&mut faults.syncs),
        };
        let begun = state.image.file_mut(self.file).begin_sync();
        self.disk.pass_gate(&mut state);
        let file = state.image.file_mut(self.file);
        if fails {
            file.fail_sync(begun);
            Err(input_output_error())
        } else {
            file.finish_sync(begun);
            Ok(())
        }
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        let writing = self.published.begin_write(length)?;
        self.disk.state().image.cut(self.file, length)?;
        writing.refuse_later_writes();
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.sync()?;
        self.disk
            .state()
            .image
            .file_mut(self.file)
            .forget_what_is_not_durable();
        Ok(())
    }
}

/// A position or length as an index into memory.
pub(super) fn index(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge.into())
}
