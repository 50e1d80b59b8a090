//! What is sent to a damaged directory: what it may hold already, and something new.

use std::collections::BTreeMap;

use harness::ledger::Line;
use oncelog::{AppendError, BatchBuilder, ProducerIdentity};

use crate::canonical::open_named;
use crate::facts::{Facts, LogFacts, log_name};
use crate::machine::Machine;
use crate::reading::{AllRead, Read};

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// What was refused that is in a log that can be read, by log.
    pub(crate) refused: BTreeMap<String, String>,
    /// Logs that take no new batch, and what they say.
    pub(crate) closed: BTreeMap<String, String>,
    /// What names' producers are refused with.
    pub(crate) names: Vec<String>,
}

/// Sends the last batches of all producers again, then a new one to each log.
///
/// # Errors
/// When something is stored that must not be.
pub(crate) fn write_all(
    machine: &Machine,
    facts: &Facts,
    read: &AllRead,
) -> Result<Written, String> {
    let mut written = Written::default();
    for (key, log) in &facts.logs {
        let read = &read.logs[key];
        let (topic, partition) = key;
        send_again(machine, (topic, *partition), (log, read), &mut written)?;
    }
    for (&source, &count) in &facts.lines {
        if let Err(error) = send_lines(machine, source, count) {
            written.names.push(error);
        }
    }
    let session = match machine.engine.session() {
        Ok(session) => session,
        Err(error) => {
            written
                .closed
                .insert("producer-ids".to_owned(), error.to_string());
            return Ok(written);
        }
    };
    let id = session.producer_id();
    if id <= facts.highest_id {
        let highest = facts.highest_id;
        return Err(format!(
            "producer id {id} is handed out again, after {highest} (I15)"
        ));
    }
    for ((topic, partition), log) in &facts.logs {
        let name = log_name(topic, *partition);
        let mut batch = BatchBuilder::new();
        batch
            .push(0, None, Some(b"new"), &[])
            .map_err(|e| e.to_string())?;
        let identity = ProducerIdentity {
            producer_id: id,
            producer_epoch: 0,
            base_sequence: 0,
        };
        let bytes = batch.build(Some(identity)).map_err(|e| e.to_string())?;
        match append(machine, topic, *partition, bytes)? {
            Ok((offset, _)) if log.records.contains_key(&offset) => {
                return Err(format!(
                    "{name}: offset {offset} is given to another record (I9)"
                ));
            }
            Ok((offset, true)) => return Err(format!("{name}: new, and a duplicate at {offset}")),
            Ok(_) => {}
            Err(error) => drop(written.closed.insert(name, error)),
        }
    }
    Ok(written)
}

fn append(
    machine: &Machine,
    topic: &str,
    partition: u32,
    bytes: &[u8],
) -> Result<Result<(u64, bool), String>, String> {
    let name = log_name(topic, partition);
    let handle = machine
        .engine
        .topic(topic)
        .and_then(|topic| topic.partition(partition))
        .map_err(|error| format!("{name}: {error}"))?;
    let answer: Result<_, AppendError> = machine.drive(handle.append(bytes))?;
    Ok(answer
        .map(|at| (at.offset, at.duplicate))
        .map_err(|error| error.to_string()))
}

fn send_again(
    machine: &Machine,
    (topic, partition): (&str, u32),
    (log, read): (&LogFacts, &Read),
    written: &mut Written,
) -> Result<(), String> {
    let name = log_name(topic, partition);
    for sent in log.last_sent() {
        let answer = append(machine, topic, partition, &sent.bytes)?;
        let id = sent.producer_id;
        let range = sent.offset..=sent.last_offset;
        let is_cut = sent.offset >= log.stable && !range.clone().any(|o| read.offsets.contains(&o));
        match answer {
            Ok((offset, true)) if offset == sent.offset => {}
            Ok((offset, true)) => {
                return Err(format!(
                    "{name}: producer {id}'s {range:?} is said to be at {offset}"
                ));
            }
            Ok((_, false)) if is_cut => {}
            Ok((offset, false)) => {
                return Err(format!(
                    "{name}: producer {id}'s {range:?} is stored again, at {offset} (I2)"
                ));
            }
            Err(_) if is_cut => {}
            Err(error) => drop(written.refused.insert(name.clone(), error)),
        }
    }
    Ok(())
}

// The last lines of a source again, and one more.
fn send_lines(machine: &Machine, source: u64, count: u64) -> Result<(), String> {
    let producer = open_named(machine, source).map_err(|error| error.to_string())?;
    for position in count.saturating_sub(4)..=count {
        let line = Line::at(source, position);
        let ticket = machine.drive(producer.send(line.record(true)))?;
        let ticket = ticket.map_err(|error| error.to_string())?;
        let stored = machine.drive(ticket.into_future())?;
        stored.map_err(|error| error.to_string())?;
    }
    Ok(())
}
