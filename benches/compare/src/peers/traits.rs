//! What a log must be able to do to be compared.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::workload::{Cell, Pool};

/// How a log is opened.
pub(crate) struct Setup {
    /// An existing directory of its own.
    pub(crate) directory: PathBuf,
    pub(crate) cell: Cell,
    /// What the calls append; it lives as long as the process.
    pub(crate) pool: &'static Pool,
}

/// Takes each value that is read, in the order of the log.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&[u8]) -> anyhow::Result<()>;

/// A pass over whole batches, beside one over the same files with nothing but the CRC.
pub(crate) struct Raw {
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) crc_bytes: u64,
    pub(crate) crc_took: Duration,
}

/// An open log.
pub(crate) trait Log: Sync {
    /// What appends for one caller; `caller` is its number, from 0.
    fn writer(&self, caller: u32) -> anyhow::Result<Box<dyn Writer + '_>>;

    /// Everything from the beginning, once.
    fn read(&mut self, each: Each<'_>) -> anyhow::Result<()>;

    /// The same as whole batches, without a look at each record, where a log has that.
    fn read_raw(&mut self) -> anyhow::Result<Option<Raw>> {
        Ok(None)
    }

    /// Closes cleanly.
    fn close(self: Box<Self>) -> anyhow::Result<()>;
}

/// What one caller appends with.
pub(crate) trait Writer {
    /// Appends these values of the pool in one call.
    fn append(&mut self, values: Range<usize>) -> anyhow::Result<()>;
}
