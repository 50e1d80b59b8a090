//! What is known of producers after an open: the newest good snapshot and a replay of the rest.

use std::collections::BTreeMap;
use std::io;

use record_batch::{Batch, BatchError, ControlKind, SourcePosition, parse_control};
use segment_storage::{Check, Cursor, LogView, Place, ReadError, ScanError, Scanner, Segment};

use crate::config::PartitionConfig;
use crate::producers::{ProducerTable, ProducerView};
use crate::snapshot;

/// How a table came about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Offset of the snapshot that was used; `None`: replayed from the log's start.
    pub snapshot: Option<u64>,
    /// Snapshots that were damaged, and are ignored.
    pub damaged: Vec<u64>,
    /// Batches replayed.
    pub replayed: u64,
}

/// The producers of everything below `end`, as a replay of the log gives them.
///
/// # Errors
/// When the log cannot be read. A damaged snapshot is no error; an older one, or the log, is used.
pub fn rebuild(
    place: &Place,
    view: &LogView,
    config: &PartitionConfig,
    end: u64,
    now_ms: u64,
) -> Result<(ProducerTable, Rebuilt), ReadError> {
    let mut rebuilt = Rebuilt::default();
    let offsets = snapshot::list(place).map_err(|e| read_error(place, e))?;
    let mut table = ProducerTable::new(config.producers);
    // Without a snapshot all that is there counts, also what lies below the log's start (I18).
    let mut from = 0;
    for &offset in offsets.iter().rev().filter(|&&offset| offset <= end) {
        let from_log = |base_offset| fingerprint_at(view, config, base_offset);
        match snapshot::read(place, offset, config.producers, from_log) {
            Ok(read) => {
                table = read;
                from = offset;
                rebuilt.snapshot = Some(offset);
                break;
            }
            Err(_) => rebuilt.damaged.push(offset),
        }
    }
    let of_kafka: Vec<_> = table
        .iter()
        .filter(|view| view.last_append_ms == snapshot::NOT_KNOWN)
        .collect();
    for view in of_kafka {
        table.insert(ProducerView {
            last_append_ms: now_ms,
            ..view
        });
    }
    for segment in view.segments().iter() {
        let next = segment.footer().map_or(u64::MAX, |f| f.next_offset);
        if next > from && segment.base_offset() < end {
            rebuilt.replayed += replay(view, segment, &mut table, config, (from, end), now_ms)?;
        }
    }
    // Behind the replay, for who is in it lives. Names are not known yet: who has a source position
    // here had one, and is not forgotten for its silence.
    table.keep_named();
    table.expire(now_ms, config.producer_expiry_ms);
    Ok((table, rebuilt))
}

fn read_error(place: &Place, source: io::Error) -> ReadError {
    ReadError::Io {
        file: place.display(""),
        source: source.into(),
    }
}

// What a repeat of the batch there is compared with.
fn fingerprint_at(view: &LogView, config: &PartitionConfig, base_offset: u64) -> Option<u32> {
    let mut cursor = Cursor::at(base_offset);
    let run = view.read(&mut cursor, base_offset + 1, 0).ok()??;
    let batch = Batch::parse(&run.bytes).ok()?;
    let there = u64::try_from(batch.header().base_offset) == Ok(base_offset);
    there.then(|| record_batch::fingerprint(&batch, config.log_append_time))
}

fn replay(
    view: &LogView,
    segment: &Segment,
    table: &mut ProducerTable,
    config: &PartitionConfig,
    (from, end): (u64, u64),
    now_ms: u64,
) -> Result<u64, ReadError> {
    let fail = |error: ScanError| match error {
        ScanError::Read { source, .. } => ReadError::Io {
            file: segment.display(),
            source: source.into(),
        },
        ScanError::Invalid { position, reason } => ReadError::Corrupt {
            file: segment.display(),
            position,
            reason: reason.into(),
        },
    };
    let io = |source: io::Error| ReadError::Io {
        file: segment.display(),
        source: source.into(),
    };
    let (file, bytes) = (segment.file().map_err(io)?, segment.bytes().map_err(io)?);
    let boundary = view.boundary(segment, from)?;
    let any = (0, i32::MAX);
    let mut scanner = Scanner::new(&**file, boundary, bytes, any, Check::Crc);
    let mut replayed = 0;
    let mut newest_sources: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    while let Some(header) = scanner.advance().map_err(fail)? {
        let base_offset = u64::try_from(header.base_offset).unwrap_or(0);
        if base_offset >= end {
            break;
        }
        // A snapshot holds every batch that begins below its offset.
        if base_offset < from || !header.has_producer() {
            continue;
        }
        let mut fingerprint = header.crc;
        let mut control = None;
        if config.log_append_time || header.attributes.is_control() {
            let position = scanner.batch_position();
            let batch = Batch::parse(scanner.batch_bytes().map_err(fail)?).map_err(|e| {
                fail(ScanError::Invalid {
                    position,
                    reason: e.into(),
                })
            })?;
            fingerprint = record_batch::fingerprint(&batch, config.log_append_time);
            control = marker_of(&batch);
        }
        table.replay(&header, fingerprint, control, base_offset, now_ms);
        if header.attributes.has_source() {
            let place = (scanner.batch_position(), scanner.position());
            newest_sources.insert(header.producer_id, place);
        }
        replayed += 1;
    }
    // Positions only rise, so of each producer one record of one batch tells all.
    for (producer_id, (start, end)) in newest_sources {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_at(&mut bytes, start).map_err(io)?;
        let corrupt = |e: BatchError| {
            fail(ScanError::Invalid {
                position: start,
                reason: e.into(),
            })
        };
        let batch = Batch::parse(&bytes).map_err(corrupt)?;
        if let Some(position) = SourcePosition::of(&batch).map_err(corrupt)? {
            table.sources_mut().apply(producer_id, position);
        }
    }
    Ok(replayed)
}

/// What a transaction marker says: coordinator epoch, and whether it commits. A control record of
/// an unknown kind, or one that compaction emptied, has no effect of its own.
pub fn marker_of(batch: &Batch<'_>) -> Option<(i32, bool)> {
    if !batch.header().attributes.is_control() {
        return None;
    }
    let record = batch.records().ok()?.next()?.ok()?;
    let control = parse_control(&record).ok()??;
    Some((
        control.coordinator_epoch,
        control.kind == ControlKind::Commit,
    ))
}
