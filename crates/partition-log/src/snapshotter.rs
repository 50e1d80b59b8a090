//! [`Snapshotter`]: snapshots beside a running log.

use std::sync::Arc;

use segment_storage::{Place, Segment};
use sync::Mutex;

use crate::config::{Now, PartitionConfig};
use crate::error::OpenError;
use crate::reader::PartitionReader;
use crate::{recovery, snapshot};

/// Writes snapshots of what is sealed, beside a running log: the previous snapshot and a replay of
/// what was sealed since, so equal to what a later open would compute (I20).
pub struct Snapshotter {
    pub(crate) place: Place,
    pub(crate) reader: PartitionReader,
    pub(crate) config: Arc<PartitionConfig>,
    pub(crate) forgotten_below: i64,
    /// End of the last batch that was durable when this was made (R15).
    pub(crate) durable_end: u64,
    /// Below it the log never held anything.
    pub(crate) history_from: u64,
    /// Held while files of snapshots change: a deletion may want the same one as a seal, and then
    /// each would remove the file that the other is about to rename.
    pub(crate) changing: Arc<Mutex<()>>,
}

impl Snapshotter {
    /// Writes the snapshot at the end of `segment`, which must be sealed, if it is due: when the
    /// log has grown by four times the last snapshot's size since that was written. Returns
    /// whether it was.
    ///
    /// # Errors
    /// When the log cannot be read or the snapshot not be written; the older one stays.
    pub fn after_seal(&self, segment: &Segment, now: Now) -> Result<bool, OpenError> {
        let Some(footer) = segment.footer() else {
            return Ok(false);
        };
        let io = |source| self.io_error(source);
        let newest = snapshot::list(&self.place).map_err(io)?.last().copied();
        let mut grown = 0;
        let mut last_bytes = 0;
        if let Some(offset) = newest {
            let path = self.place.path(&segment_storage::names::snapshot(offset));
            last_bytes = self.place.disk.open(&path).map_err(io)?.len();
            for sealed in self
                .reader
                .view()
                .segments()
                .iter()
                .filter_map(|s| s.footer().copied())
            {
                if sealed.base_offset >= offset {
                    grown += sealed.bytes;
                }
            }
        }
        if newest.is_some() && grown < last_bytes.saturating_mul(4) {
            return Ok(false);
        }
        self.write_at(footer.next_offset, now)?;
        Ok(true)
    }

    /// Where the batches below `offset` end, if they are durable; else where those that are end.
    /// A snapshot has that offset even where the log jumps to its ceiling there: were what follows
    /// lost, the log would end there too.
    pub(crate) fn durable_end_below(&self, offset: u64) -> u64 {
        let offset = offset.min(self.durable_end);
        let segments = self.reader.view().segments();
        let later = segments.iter().find(|s| s.base_offset() >= offset);
        later.map_or(offset, |s| offset.min(s.previous_end()))
    }

    /// Offsets of the snapshots, lowest first.
    pub(crate) fn snapshots(&self) -> Result<Vec<u64>, OpenError> {
        let listed = snapshot::list(&self.place);
        listed.map_err(|source| self.io_error(source))
    }

    /// Where the newest snapshot that can be read ends; without one, where the log's history begins.
    pub(crate) fn covered_end(&self) -> Result<u64, OpenError> {
        let offsets = self.snapshots()?;
        let reads = |offset: &u64| {
            let config = self.config.producers;
            snapshot::read(&self.place, *offset, config, |_| None).is_ok()
        };
        let newest = offsets.into_iter().rev().find(reads);
        Ok(newest.unwrap_or(0).max(self.history_from))
    }

    fn io_error(&self, source: std::io::Error) -> OpenError {
        let file = self.place.display("");
        segment_storage::OpenError::Io { file, source }.into()
    }

    pub(crate) fn write_at(&self, end: u64, now: Now) -> Result<(), OpenError> {
        let _one_at_a_time = self.changing.lock();
        let io = |source| self.io_error(source);
        let (view, now_ms) = (self.reader.view(), now.elapsed_ms);
        let (mut table, rebuilt) = recovery::rebuild(&self.place, view, &self.config, end, now_ms)?;
        // Where the snapshot that alone knew the producers of deleted data is damaged, a new one
        // would hide that they are forgotten (I18). The live table still knows them.
        let oldest = view.segments().first().map_or(end, |s| s.previous_end());
        let deleted = oldest.min(view.start());
        if deleted > self.history_from.max(rebuilt.snapshot.unwrap_or(0)) {
            return Err(io(std::io::Error::other(
                "no whole snapshot covers the producers of deleted data",
            )));
        }
        table.raise_forgotten_below(self.forgotten_below);
        snapshot::write(&self.place, end, &table).map_err(io)?;
        snapshot::prune(&self.place, view.start(), u64::MAX).map_err(io)?;
        Ok(())
    }
}
