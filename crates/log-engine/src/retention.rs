//! Deleting from a log's front: by size, by age, once groups have consumed it, and on request.
//!
//! Age is the engine's elapsed time since the last append to a segment; records' own timestamps are
//! data and delete nothing (I31). By size and age whole sealed segments go; the active one stays.
//! What the groups of `retention.consumed.by` have all consumed goes at once, to the record. Nothing
//! that a group holds goes, but on request.

use std::io;
use std::sync::Arc;

use sync::atomic::Ordering;

use crate::core::Core;
use crate::env::Time;
use crate::partition::PartitionState;
use crate::topics::give_back_reserve;
use crate::upkeep;

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

// Where the log would begin, by its limits, if that is above where it begins now, or if files below
// are left.
fn retention_start(partition: &PartitionState, time: &Time) -> Option<u64> {
    let now_ms = time.now().elapsed_ms;
    let config = &partition.config;
    let segments = partition.reader.view().segments();
    let mut bytes: u64 = segments.iter().filter_map(|s| s.bytes().ok()).sum();
    let mut start = None;
    let held_from = partition.held_from.load(Ordering::Acquire);
    // What is sealed may not be published yet, while the offset ceiling is being raised.
    let held_from = held_from.min(partition.reader.high_watermark());
    let sealed = segments.iter().map_while(|s| s.footer());
    for footer in sealed.take_while(|footer| footer.next_offset <= held_from) {
        let left = bytes.saturating_sub(footer.bytes);
        let too_large = config.retention_bytes().is_some_and(|limit| left >= limit);
        // One that does not say is as old as this open.
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
    let consumed_to = partition.consumed_to.load(Ordering::Acquire);
    let consumed_to = consumed_to.min(held_from).min(partition.ends.synced());
    let start = start.max(Some(consumed_to));
    let present = partition.reader.log_start_offset();
    let is_left = partition.reader.view().has_deleted();
    let start = start.filter(|&start| start > present);
    start.or(is_left.then_some(present))
}

// No lock of the log is held while the disk works. Whether everything went that should; else the
// disk is too full for what must be kept of it.
fn move_start(partition: &PartitionState, time: &Time, start: u64) -> io::Result<bool> {
    let Some(log) = partition.log() else {
        return Err(io::ErrorKind::PermissionDenied.into());
    };
    let Some(deletion) = log.begin_delete(start)? else {
        return Ok(true);
    };
    drop(log);
    deletion.write(time.now())?;
    loop {
        let Some(mut log) = partition.log() else {
            return Ok(true);
        };
        let gone = log.segments_mut().dropped(&deletion.front);
        drop(log);
        deletion.remove(&gone)?;
        if gone.is_empty() || !deletion.goes_on(time.now()) {
            return Ok(!deletion.front.is_partial());
        }
    }
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
        // What is not sealed cannot go.
        if upkeep::is_due(partition) {
            upkeep::turn(partition, &self.time);
        }
        if !move_start(partition, &self.time, start)? {
            // The engine can always delete (I13): the space that the log has reserved is enough.
            // Without it what is left goes later; nobody sees it.
            give_back_reserve(partition, &self.time);
            move_start(partition, &self.time, start)?;
        }
        Ok(())
    }
}
