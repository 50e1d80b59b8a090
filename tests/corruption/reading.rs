//! What a damaged directory still shows, held against what was answered.

use std::collections::{BTreeMap, BTreeSet};

use harness::ledger::{Line, TOPIC};
use oncelog::{ConsumedRecord, Engine};

use crate::facts::{Facts, Stored, log_name};

/// Errors of one log after which a read of it never ends.
const ERRORS_MAX: usize = 200;

/// What was read of one log.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Offsets of records.
    pub(crate) offsets: BTreeSet<u64>,
    /// What was said of what could not be read.
    pub(crate) errors: Vec<String>,
    /// Where it begins.
    pub(crate) start: u64,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(crate) struct AllRead {
    /// By topic and partition.
    pub(crate) logs: BTreeMap<(String, u32), Read>,
    /// Lines of named producers, by source and position.
    pub(crate) lines: BTreeSet<(u64, u64)>,
}

/// Reads all logs as far as they can be read. Records that an earlier read found cut off above the
/// stable mark may have been sent again since.
///
/// # Errors
/// When a record is wrong, there twice, or was deleted before.
pub(crate) fn read_all(
    engine: &Engine,
    facts: &Facts,
    before: Option<&AllRead>,
) -> Result<AllRead, String> {
    let mut all = AllRead::default();
    for ((topic, partition), log) in &facts.logs {
        let what = log_name(topic, *partition);
        let check = |record: &ConsumedRecord| match log.records.get(&record.offset()) {
            _ if record.offset() < log.start => Err("was deleted and is back".to_owned()),
            Some(stored) if *stored == stored_of(record) => Ok(()),
            expected => Err(format!("is {:?}, expected {expected:?}", stored_of(record))),
        };
        let seen = before.map(|before| &before.logs[&(topic.clone(), *partition)].offsets);
        let mut again = BTreeMap::new();
        if let Some(seen) = seen {
            let cut = log.records.range(log.stable..);
            let cut = cut.filter(|(offset, _)| !seen.contains(offset));
            again.extend(cut.map(|(_, stored)| ((stored.producer_id, stored.sequence), stored)));
        }
        let read = read_log(engine, topic, *partition, |record| {
            let is_new = record.producer_id().is_some_and(|id| id > facts.highest_id);
            let is_known = log.records.contains_key(&record.offset());
            let found = stored_of(record);
            let name = (found.producer_id, found.sequence);
            if is_new && !is_known && before.is_some() || again.remove(&name) == Some(&found) {
                return Ok(());
            }
            let at = record.offset();
            check(record).map_err(|error| format!("{what}: the record at {at} {error}"))
        })?;
        all.logs.insert((topic.clone(), *partition), read);
    }
    let mut lines: BTreeMap<(u64, u64), (u32, u64)> = BTreeMap::new();
    for partition in 0..2 {
        let read = read_log(engine, TOPIC, partition, |record| {
            let value = String::from_utf8_lossy(record.value().map_or(&[], |v| v));
            let place = (partition, record.offset());
            let numbers: Vec<u64> = value.split(' ').flat_map(str::parse).collect();
            let [source, position, ..] = numbers[..] else {
                return Err(format!("{TOPIC}: {value:?} is no line, at {place:?}"));
            };
            let line = Line::at(source, position);
            let expected = format!("{line:?}");
            if !expected.contains(&*value) || record.source_position() != Some(position) {
                return Err(format!("{TOPIC}: {value:?} at {place:?} is not {expected}"));
            }
            match lines.insert((source, position), place) {
                Some(other) => Err(format!("{line:?} is there twice, {place:?} and {other:?}")),
                None => Ok(()),
            }
        })?;
        all.logs.insert((TOPIC.to_owned(), partition), read);
    }
    all.lines = lines.into_keys().collect();
    Ok(all)
}

fn stored_of(record: &ConsumedRecord) -> Stored {
    Stored {
        producer_id: record.producer_id().unwrap_or(-1),
        sequence: record.sequence().unwrap_or(-1),
        key: record.key().map(|key| key.to_vec()),
        value: record
            .value()
            .map(|value| value.to_vec())
            .unwrap_or_default(),
    }
}

fn read_log(
    engine: &Engine,
    topic: &str,
    partition: u32,
    mut check: impl FnMut(&ConsumedRecord) -> Result<(), String>,
) -> Result<Read, String> {
    let mut read = Read::default();
    let what = log_name(topic, partition);
    let opened = engine.reader(topic).partition(partition).open();
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(error) => {
            read.errors.push(error.to_string());
            return Ok(read);
        }
    };
    read.start = engine
        .topic(topic)
        .and_then(|topic| topic.partition(partition))
        .map_err(|error| format!("{what}: {error}"))?
        .log_start_offset();
    loop {
        let found = reader.blocking_iter().next();
        match found {
            None => return Ok(read),
            Some(Ok(record)) => {
                check(&record)?;
                let last = read.offsets.last();
                if last.is_some_and(|last| *last >= record.offset()) {
                    return Err(format!("{what}: offset {} is read twice", record.offset()));
                }
                read.offsets.insert(record.offset());
            }
            Some(Err(error)) => {
                read.errors.push(error.to_string());
                if read.errors.len() > ERRORS_MAX {
                    return Err(format!("{what}: reading it never ends: {error}"));
                }
                let next = reader.next_readable(partition);
                let at = reader.position(partition);
                match next.filter(|next| Some(*next) > at) {
                    Some(next) => reader.seek(partition, next),
                    None => return Ok(read),
                }
            }
        }
    }
}
