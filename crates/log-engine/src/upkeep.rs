//! What is done for a log while nobody waits for it: sealing what was rolled, snapshots, syncing
//! the stable mark, deletion by its limits. Turns of the committer, beside its syncs.
//!
//! Only what is synced is touched here, and what a sync of the same log does meanwhile is judged
//! under the log's lock; so neither waits for the other, but for one sync of the small file `marks`
//! where the offset ceiling rises at that moment.

use std::io;
use std::sync::Arc;

use segment_storage::{Check, SEGMENT_BYTES_MIN, ScanError, SegmentedLog};
use sync::atomic::Ordering;

use crate::committer::{self, Kind, fence};
use crate::env::Time;
use crate::panics::caught;
use crate::partition::PartitionState;
use crate::retention;

/// Whether a segment waits for its seal.
pub(crate) fn is_due(partition: &PartitionState) -> bool {
    let log = partition.log();
    log.is_some_and(|log| log.segments().is_seal_due())
}

/// Seals what was rolled and synced, and does what else was asked for; whether there is more to seal by now. A failure to sync
/// fences the log for good (I10), and so does a panic (R25).
pub(crate) fn turn(partition: &PartitionState, time: &Time) -> bool {
    caught(|| take_turn(partition, time)).unwrap_or_else(|panic| {
        fence(partition, "turn", &panic);
        false
    })
}

fn take_turn(partition: &PartitionState, time: &Time) -> bool {
    let _one_at_a_time = partition.turn.hold(Kind::Upkeep);
    let sync_marks = partition.turn.sync_marks.swap(false, Ordering::AcqRel);
    let retain = partition.turn.retain.swap(false, Ordering::AcqRel);
    if !committer::is_writable(partition) {
        return false;
    }
    let outcome = seal(partition, time).and_then(|goes_on| {
        if sync_marks {
            write_back_marks(partition)?;
        }
        Ok(goes_on)
    });
    match outcome {
        Ok(goes_on) => {
            if retain {
                retention::retain(partition, time);
            }
            goes_on && is_due(partition)
        }
        Err(error) => {
            fence(partition, "sync", &error);
            false
        }
    }
}

/// Whether an error says that the disk is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

// Cut what was rolled, write its footer, perhaps a snapshot, then let the mark pass it, durably
// (R9, R12, R15). Not without end: an appender may always bring one more, and others wait for this turn. Whether it may go on.
fn seal(partition: &PartitionState, time: &Time) -> io::Result<bool> {
    let log = partition.log();
    let segments = log.map_or(0, |log| log.segments().unsealed().len());
    for _ in 0..segments {
        let Some(log) = partition.log() else {
            return Ok(false);
        };
        if log.segments().latch().reason().is_some() {
            return Ok(false);
        }
        let Some(segment) = log.segments().to_seal() else {
            return Ok(false);
        };
        let snapshotter = log.snapshotter();
        let unsealed = log.segments().unsealed();
        drop(log);
        segment.cut()?;
        let mut sealed = segment.write_footer(Check::Headers);
        if matches!(&sealed, Err(ScanError::Read { source, .. }) if is_full(source)) {
            unsealed.iter().try_for_each(|segment| segment.cut())?;
            sealed = segment.write_footer(Check::Headers);
        }
        match sealed {
            Ok(_) => {}
            // No space for the side file: the segment stays as it is, and is sealed later (I13).
            Err(ScanError::Read { source, .. }) if is_full(&source) => {
                if is_backlogged(partition) {
                    let needed = partition.config.segment_bytes().min(SEGMENT_BYTES_MIN);
                    partition.fed(Some((needed, Arc::new(source))));
                }
                return Ok(false);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        // A snapshot is a cache: without it the next open replays more.
        let _ = snapshotter.after_seal(&segment, time.now());
        let Some(mut log) = partition.log() else {
            return Ok(false);
        };
        let was_backlogged = log.segments().is_backlogged(u64::MAX);
        log.segments_mut().sealed(&segment);
        drop(log);
        if was_backlogged {
            partition.fed(None);
        }
        if let Some(marks) = committer::write_mark(partition, SegmentedLog::mark_now)? {
            marks.sync()?;
        }
    }
    Ok(true)
}

// Whether appends wait for a seal.
fn is_backlogged(partition: &PartitionState) -> bool {
    let log = partition.log();
    log.is_some_and(|log| log.segments().is_backlogged(u64::MAX))
}

fn write_back_marks(partition: &PartitionState) -> io::Result<()> {
    partition.mark_since_ms.store(0, Ordering::Relaxed);
    let Some(log) = partition.log() else {
        return Ok(());
    };
    let marks = log.segments().marks().clone();
    drop(log);
    marks.sync()
}
