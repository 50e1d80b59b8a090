//! The producer table at an offset, as a file: a cache of what a replay of the log below that
//! offset gives (I20, I25). Whole windows are kept, not only the newest batch.

use std::io;

use record_batch::SourcePosition;
use segment_storage::{Place, StateFileError, names, state_file};
use serde::{Deserialize, Serialize};

use crate::producer::ProducerConfig;
use crate::producers::{ProducerTable, ProducerView, WindowEntry};

mod kafka_v1;

/// Magic of a snapshot file.
pub const MAGIC: [u8; 4] = *b"OLPS";
/// The last append of a producer in a snapshot of Kafka's, which counts in other clocks.
pub(crate) const NOT_KNOWN: u64 = u64::MAX;

/// Version of a snapshot file.
pub const VERSION: u16 = 1;

/// Largest table that is stored: more than ten million producers. Its file must fit into one frame.
const TABLE_BYTES_MAX: usize = 1 << 30;

#[derive(Serialize, Deserialize)]
struct File {
    log_id: u128,
    offset: u64,
    forgotten_below: i64,
    highest_id: i64,
    producers: Vec<Producer>,
    sources: Vec<Source>,
}

/// How far the source of a named producer is stored.
#[derive(Serialize, Deserialize)]
struct Source {
    producer_id: i64,
    last: u64,
    floor: u64,
}

/// One producer, as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Producer {
    producer_id: i64,
    epoch: i16,
    last_append_ms: u64,
    coordinator_epoch: i32,
    open_transaction_offset: Option<u64>,
    window: Vec<Batch>,
}

#[derive(Serialize, Deserialize)]
struct Batch {
    first_sequence: i32,
    base_offset: u64,
    count: u32,
    fingerprint: u32,
}

impl From<ProducerView> for Producer {
    fn from(view: ProducerView) -> Producer {
        let batch = |e: &WindowEntry| Batch {
            first_sequence: e.first_sequence,
            base_offset: e.base_offset,
            count: e.count,
            fingerprint: e.fingerprint,
        };
        Producer {
            producer_id: view.producer_id,
            epoch: view.epoch,
            last_append_ms: view.last_append_ms,
            coordinator_epoch: view.coordinator_epoch,
            open_transaction_offset: view.open_transaction_offset,
            window: view.window.iter().map(batch).collect(),
        }
    }
}

impl From<Producer> for ProducerView {
    fn from(producer: Producer) -> ProducerView {
        let entry = |b: &Batch| WindowEntry {
            first_sequence: b.first_sequence,
            last_sequence: last_sequence(b.first_sequence, b.count),
            base_offset: b.base_offset,
            count: b.count,
            fingerprint: b.fingerprint,
        };
        ProducerView {
            producer_id: producer.producer_id,
            epoch: producer.epoch,
            window: producer.window.iter().map(entry).collect(),
            last_append_ms: producer.last_append_ms,
            coordinator_epoch: producer.coordinator_epoch,
            open_transaction_offset: producer.open_transaction_offset,
        }
    }
}

// A window entry has at least one record, and sequences wrap at 2^31 - 1.
fn last_sequence(first: i32, count: u32) -> i32 {
    let last = i64::from(first) + i64::from(count.max(1)) - 1;
    i32::try_from(last & i64::from(i32::MAX)).unwrap_or(i32::MAX)
}

/// Writes the snapshot of `table` at `offset`, durably. The data below `offset` must be durable
/// already (R15).
///
/// # Errors
/// What the disk says; an older snapshot stays.
pub fn write(place: &Place, offset: u64, table: &ProducerTable) -> io::Result<()> {
    write_with(place, offset, table, Vec::new())
}

/// As [`write`], with producers that are not in the table but belong to it.
///
/// # Errors
/// As [`write`].
pub(crate) fn write_with(
    place: &Place,
    offset: u64,
    table: &ProducerTable,
    others: Vec<ProducerView>,
) -> io::Result<()> {
    let batches: usize = others.iter().map(|view| view.window.len()).sum();
    let others_bytes = (others.len() + batches) * size_of::<ProducerView>();
    if table.memory_bytes() + others_bytes > TABLE_BYTES_MAX {
        return Err(io::Error::other(
            "the producer table is too large for a snapshot",
        ));
    }
    let known = table.iter().chain(others);
    let mut producers: Vec<Producer> = known.map(Producer::from).collect();
    producers.sort_unstable_by_key(|p| p.producer_id);
    let file = File {
        log_id: place.log_id,
        offset,
        forgotten_below: table.forgotten_below(),
        highest_id: table.highest_id(),
        producers,
        sources: table
            .sources()
            .positions()
            .map(|(producer_id, p)| Source {
                producer_id,
                last: p.last,
                floor: p.floor,
            })
            .collect(),
    };
    let name = names::snapshot(offset);
    state_file::write(&*place.disk, &place.directory, &name, MAGIC, VERSION, &file)
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is damaged, foreign or newer.
    #[error(transparent)]
    File(#[from] StateFileError),
    /// A snapshot of another log or offset.
    #[error("the snapshot is of another log or offset")]
    Foreign,
}

/// Reads the snapshot at `offset`, also one that Kafka wrote (version 1): that holds one batch a
/// producer and nothing to tell its content by, so `fingerprint_at` looks it up in the log. Of a
/// batch that is not there any more only the sequences are known: what continues them is
/// accepted, and a repeat counts as other content.
///
/// # Errors
/// [`SnapshotError`]: the snapshot is of no use, and the log is replayed from an earlier one.
pub fn read(
    place: &Place,
    offset: u64,
    config: ProducerConfig,
    fingerprint_at: impl Fn(u64) -> Option<u32>,
) -> Result<ProducerTable, SnapshotError> {
    let path = place.path(&names::snapshot(offset));
    if let Some(views) = kafka_v1::read(place, &path) {
        let mut table = ProducerTable::new(config);
        for mut view in views {
            for batch in &mut view.window {
                batch.fingerprint = fingerprint_at(batch.base_offset).unwrap_or(0);
            }
            table.insert(view);
        }
        return Ok(table);
    }
    let file: Option<File> = state_file::read(&*place.disk, &path, MAGIC, VERSION)?;
    let file = file.filter(|f| f.log_id == place.log_id && f.offset == offset);
    let file = file.ok_or(SnapshotError::Foreign)?;
    let mut table = ProducerTable::new(config);
    for producer in file.producers {
        table.insert(producer.into());
    }
    for Source {
        producer_id,
        last,
        floor,
    } in file.sources
    {
        table
            .sources_mut()
            .apply(producer_id, SourcePosition { last, floor });
    }
    table.raise_forgotten_below(file.forgotten_below);
    Ok(table)
}

/// Offsets of the snapshots in a log's directory, lowest first.
///
/// # Errors
/// What the disk says.
pub fn list(place: &Place) -> io::Result<Vec<u64>> {
    let entries = place.disk.list(&place.directory)?;
    let offsets = entries
        .iter()
        .filter(|e| !e.is_directory)
        .filter_map(|e| names::offset_of(&e.name, "snapshot"));
    Ok(offsets.collect())
}

/// Removes a snapshot; one that is gone already is no error.
///
/// # Errors
/// What the disk says.
pub fn remove(place: &Place, offset: u64) -> io::Result<()> {
    match place.disk.remove(&place.path(&names::snapshot(offset))) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes the snapshots for which `gone` holds, durably: one that came back after a power cut
/// could belong to a log that has since gone another way.
///
/// # Errors
/// What the disk says.
pub fn remove_where(place: &Place, gone: impl Fn(u64) -> bool) -> io::Result<()> {
    let mut offsets = list(place)?;
    offsets.retain(|&offset| gone(offset));
    for &offset in &offsets {
        remove(place, offset)?;
    }
    if offsets.is_empty() {
        Ok(())
    } else {
        place.disk.sync_names(&place.directory)
    }
}

/// Removes what is [`superfluous`] in a log that begins at `start` and ends at `end`.
///
/// # Errors
/// What the disk says.
pub fn prune(place: &Place, start: u64, end: u64) -> io::Result<()> {
    let superfluous = superfluous(&list(place)?, start, end);
    remove_where(place, |offset| superfluous.contains(&offset))
}

/// Which of these snapshots (lowest first) may go: those above the log's end, which know more than
/// the log; those below its start, but never the newest, for it alone remembers producers whose
/// data was deleted (I18); and all but the newest two (R17).
pub fn superfluous(offsets: &[u64], start: u64, end: u64) -> Vec<u64> {
    let known: Vec<u64> = offsets.iter().copied().filter(|&o| o <= end).collect();
    let newest = known.last().copied();
    let inside = |o: &u64| *o >= start || Some(*o) == newest;
    let kept: Vec<u64> = known.into_iter().filter(inside).rev().take(2).collect();
    offsets
        .iter()
        .copied()
        .filter(|o| !kept.contains(o))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_go_is_what_a_newer_snapshot_covers() {
        assert_eq!(superfluous(&[2, 5, 42], 0, 50), [2]);
        assert_eq!(superfluous(&[2, 5, 42], 42, 50), [2, 5]);
        assert_eq!(superfluous(&[1, 2, 3, 4, 5], 1, 3), [1, 4, 5]);
        assert_eq!(superfluous(&[7], 9, 20), Vec::<u64>::new());
        assert_eq!(superfluous(&[21], 0, 20), [21]);
    }
}
