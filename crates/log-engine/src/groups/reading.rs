//! What a member reads with: a reader for each partition that it has, which goes on where it was, and
//! one made for the occasion for what is delivered again. No group's lock is held meanwhile.

use std::collections::BTreeMap;

use super::delivery::Receipt;
use super::error::GroupError;
use super::member::Context;
use super::state::Key;
use crate::consumed_record::ConsumedRecord;
use crate::engine::Engine;
use crate::error::ReadError;
use crate::reader::{Reader, Start};

/// Bytes of batches that a step takes that looks for single records.
const SINGLE_BYTES: usize = 64 << 10;
/// Offsets that are read over, rather than sought.
const SKIP_MAX: u64 = 1_000;

/// A member's readers.
#[derive(Default)]
pub(super) struct Readers {
    fresh: BTreeMap<Key, Fresh>,
    /// Which partition a poll begins with: another one each time.
    pub(super) turn: usize,
}

struct Fresh {
    topic_id: u128,
    reader: Reader,
    /// The next offset that it gives, if it is what was delivered last.
    at: u64,
}

fn open(engine: &Engine, key: &Key, from: u64, max_bytes: usize) -> Result<Reader, ReadError> {
    let builder = engine.reader(&key.0).partition(key.1);
    builder
        .start(Start::Offset(from))
        .max_bytes(max_bytes)
        .open()
}

impl Readers {
    /// Keeps the readers of these partitions.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Key) -> bool) {
        self.fresh.retain(|key, _| keep(key));
    }

    /// The next records of a partition from an offset on, at most `count`, and the offset behind
    /// them, with whatever holds no records.
    pub(super) fn next(
        &mut self,
        engine: &Engine,
        (key, topic_id): (&Key, u128),
        from: u64,
        count: usize,
    ) -> Result<(Vec<ConsumedRecord>, u64), ReadError> {
        // On failure it is opened anew: the error comes again, and nothing is skipped.
        let known = self.fresh.remove(key).filter(|f| f.topic_id == topic_id);
        let mut fresh = match known {
            Some(fresh) => fresh,
            None => Fresh {
                topic_id,
                reader: open(engine, key, from, 1 << 20)?,
                at: from,
            },
        };
        if fresh.at != from {
            fresh.reader.seek(key.1, from);
        }
        let (mut records, mut next) = (Vec::new(), from);
        while records.len() < count {
            match fresh.reader.try_next() {
                Some(Ok(record)) => {
                    next = record.offset() + 1;
                    records.push(record);
                }
                Some(Err(error)) if records.is_empty() => return Err(error),
                // It comes again when it is the next one.
                Some(Err(_)) => return Ok((records, next)),
                None => {
                    next = fresh.reader.position(key.1).unwrap_or(next).max(next);
                    break;
                }
            }
        }
        fresh.at = next;
        self.fresh.insert(key.clone(), fresh);
        Ok((records, next))
    }
}

/// The records at some offsets, in ascending order, and those that are not there.
pub(super) fn at(
    engine: &Engine,
    key: &Key,
    offsets: &[u64],
) -> Result<(Vec<ConsumedRecord>, Vec<u64>), ReadError> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let mut reader: Option<Reader> = None;
    let mut ahead: Option<ConsumedRecord> = None;
    for &offset in offsets {
        let reader = match &mut reader {
            Some(reader) => reader,
            none => none.insert(open(engine, key, offset, SINGLE_BYTES)?),
        };
        let position = reader.position(key.1).unwrap_or(offset);
        if offset > position.saturating_add(SKIP_MAX) {
            reader.seek(key.1, offset);
            ahead = None;
        }
        loop {
            let next = match ahead.take() {
                Some(record) => Some(record),
                None => reader.try_next().transpose()?,
            };
            match next {
                Some(record) if record.offset() < offset => {}
                Some(record) if record.offset() == offset => {
                    found.push(record);
                    break;
                }
                other => {
                    ahead = other;
                    missing.push(offset);
                    break;
                }
            }
        }
    }
    Ok((found, missing))
}

impl Context {
    /// The record of a receipt.
    pub(super) fn read_one(&self, receipt: &Receipt) -> Result<ConsumedRecord, GroupError> {
        let engine = Engine::from_handle(self.engine.clone());
        let key = (receipt.topic.clone(), receipt.partition);
        let (mut found, _) = at(&engine, &key, &[receipt.offset])?;
        found.pop().ok_or_else(|| GroupError::NotDelivered {
            topic: receipt.topic.clone(),
            partition: receipt.partition,
            offset: receipt.offset,
        })
    }
}
