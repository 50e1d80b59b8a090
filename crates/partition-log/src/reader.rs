//! [`PartitionReader`]: what everybody but the writer sees of a partition.

use std::sync::Arc;

use record_batch::{Batch, Records};
use segment_storage::{BatchRun, Cursor, Invalid, LogView, ReadError};

/// A reader's handle on a partition. Cheap to clone; shares no lock with the writer.
#[derive(Clone)]
pub struct PartitionReader {
    view: Arc<LogView>,
}

impl PartitionReader {
    /// A reader over what `view` shows.
    pub fn new(view: Arc<LogView>) -> PartitionReader {
        PartitionReader { view }
    }

    /// The files below.
    pub fn view(&self) -> &Arc<LogView> {
        &self.view
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> u64 {
        self.view.start()
    }

    /// The offset up to which readers see the log.
    pub fn high_watermark(&self) -> u64 {
        self.view.published()
    }

    /// The offset below which no transaction is open. Without transactions, the high watermark.
    pub fn last_stable_offset(&self) -> u64 {
        self.high_watermark()
    }

    /// Whole batches from the cursor on, at least one and about `max_bytes`; `None` at the high
    /// watermark.
    ///
    /// # Errors
    /// [`ReadError`]; the cursor stays where it was.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        max_bytes: usize,
    ) -> Result<Option<BatchRun>, ReadError> {
        self.view.read(cursor, self.high_watermark(), max_bytes)
    }

    /// The first record with a timestamp at or after `timestamp` (ms since 1970): offset and
    /// timestamp. `None` when there is none below the high watermark.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<(u64, i64)>, ReadError> {
        let (start, limit) = (self.log_start_offset(), self.high_watermark());
        let malformed = |error: record_batch::BatchError| ReadError::Corrupt {
            file: self.view.display(),
            position: 0,
            reason: Arc::new(Invalid::Batch(error)),
        };
        let mut from = start;
        loop {
            let found = self.view.batch_for_timestamp_from(timestamp, from, limit)?;
            let Some(batch) = found else { return Ok(None) };
            for record in Records::of(&batch).map_err(malformed)? {
                let record = record.map_err(malformed)?;
                let offset = u64::try_from(record.offset).unwrap_or(0);
                if record.timestamp >= timestamp && offset >= start {
                    return Ok(Some((offset, record.timestamp)));
                }
            }
            // The largest timestamp of a batch is what its producer said, or lies below the start.
            let header = *Batch::parse(&batch).map_err(malformed)?.header();
            from = u64::try_from(header.next_offset()).unwrap_or(limit);
        }
    }
}
