//! Deleting from a log's front: by size, by age, and on request.
//!
//! Age is the engine's elapsed time since the last append to a segment; records' own timestamps are
//! data and delete nothing (I31). Whole sealed segments go; the active one stays.

use std::io;
use std::sync::Arc;

use crate::core::Core;
use crate::env::Time;
use crate::partition::PartitionState;

/// Applies a topic's limits to one of its partitions. A part of the committer's turn: what goes is
/// sealed, and so durable.
pub(crate) fn retain(partition: &PartitionState, time: &Time) {
    if let Some(start) = retention_start(partition, time) {
        // Whoever deletes on request may wait for this very turn.
        let Some(_one_at_a_time) = partition.deleting.try_lock() else {
            return;
        };
        if partition.check_open().is_err() {
            return;
        }
        // Kept longer than asked for, then; the next round tries again.
        let _ = move_start(partition, time, start);
    }
}

// Where the log would begin, by its limits, if that is above where it begins now.
fn retention_start(partition: &PartitionState, time: &Time) -> Option<u64> {
    let now_ms = time.now().elapsed_ms;
    let config = &partition.config;
    let segments = partition.reader.view().segments();
    let mut bytes: u64 = segments.iter().filter_map(|s| s.bytes().ok()).sum();
    let mut start = None;
    for footer in segments.iter().map_while(|s| s.footer()) {
        let left = bytes.saturating_sub(footer.bytes);
        let too_large = config.retention_bytes().is_some_and(|limit| left >= limit);
        // A segment whose age was lost in a crash is as old as this open.
        let last_append_ms = match footer.last_append_ms {
            0 => time.opened_ms(),
            known => known,
        };
        let age_ms = now_ms.saturating_sub(last_append_ms);
        let too_old = config.retention_ms().is_some_and(|limit| age_ms >= limit);
        if !too_large && !too_old {
            break;
        }
        bytes = left;
        start = Some(footer.next_offset);
    }
    start.filter(|&start| start > partition.reader.log_start_offset())
}

// No lock of the log is held while the disk works.
fn move_start(partition: &PartitionState, time: &Time, start: u64) -> io::Result<()> {
    let Some(log) = partition.log() else {
        return Err(io::ErrorKind::PermissionDenied.into());
    };
    let Some(deletion) = log.begin_delete(start)? else {
        return Ok(());
    };
    drop(log);
    deletion.write(time.now())?;
    let Some(mut log) = partition.log() else {
        return Ok(());
    };
    let gone = log.segments_mut().dropped(&deletion.front);
    drop(log);
    deletion.remove(&gone)
}

impl Core {
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
        partition.check_open().map_err(io::Error::other)?;
        // The snapshot that remembers the producers of what goes must not be ahead of the data.
        if partition.ends.synced() < start {
            self.commit_now(partition);
            if partition.ends.synced() < start {
                return Err(io::Error::other("the log could not be synced"));
            }
        }
        move_start(partition, &self.time, start)
    }
}
