//! Deleting from a log's front: by size, by age, and on request.
//!
//! Age is the engine's elapsed time since the last append to a segment; records' own timestamps are
//! data and delete nothing (I31). Whole sealed segments go; the active one stays.

use std::io;
use std::sync::Arc;

use crate::core::Core;
use crate::partition::PartitionState;

impl Core {
    /// Applies a topic's limits to one of its partitions.
    pub(crate) fn retain(&self, partition: &Arc<PartitionState>) {
        let config = &partition.config;
        if config.retention_bytes().is_none() && config.retention_ms().is_none() {
            return;
        }
        if let Some(start) = self.retention_start(partition) {
            // Kept longer than asked for, then; the next round tries again.
            let _ = self.delete_before(partition, start);
        }
    }

    // Where the log would begin, by its limits, if that is above where it begins now.
    fn retention_start(&self, partition: &PartitionState) -> Option<u64> {
        let now_ms = self.time.now().elapsed_ms;
        let segments = partition.reader.view().segments();
        let mut bytes: u64 = segments.iter().filter_map(|s| s.bytes().ok()).sum();
        let mut start = None;
        for segment in segments.iter() {
            let Some(footer) = segment.footer() else {
                break;
            };
            let config = &partition.config;
            let too_large = config
                .retention_bytes()
                .is_some_and(|limit| bytes.saturating_sub(footer.bytes) >= limit);
            // A segment whose age was lost in a crash is as old as this open.
            let last_append_ms = match footer.last_append_ms {
                0 => self.opened_ms,
                known => known,
            };
            let too_old = config
                .retention_ms()
                .is_some_and(|limit| now_ms.saturating_sub(last_append_ms) >= limit);
            if !too_large && !too_old {
                break;
            }
            bytes = bytes.saturating_sub(footer.bytes);
            start = Some(footer.next_offset);
        }
        start.filter(|&start| start > partition.reader.log_start_offset())
    }

    /// Moves a partition's start up to `start`, which must not be above its high watermark. No
    /// lock is held while the disk works.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn delete_before(
        &self,
        partition: &Arc<PartitionState>,
        start: u64,
    ) -> io::Result<()> {
        let _one_at_a_time = partition.deleting.lock();
        // The snapshot that remembers the producers of what goes must not be ahead of the data.
        if partition.ends.synced() < start {
            self.commit_now(partition);
            if partition.ends.synced() < start {
                return Err(io::Error::other("the log could not be synced"));
            }
        }
        let Some(log) = partition.log() else {
            return Err(io::ErrorKind::PermissionDenied.into());
        };
        let Some(deletion) = log.begin_delete(start)? else {
            return Ok(());
        };
        drop(log);
        deletion.write(self.time.now())?;
        let Some(mut log) = partition.log() else {
            return Ok(());
        };
        let gone = log.segments_mut().dropped(&deletion.front);
        drop(log);
        deletion.remove(&gone)
    }
}
