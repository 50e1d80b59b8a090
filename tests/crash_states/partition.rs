//! One partition, held against what clients sent to it and were told.

use std::collections::BTreeMap;

use harness::history::BatchName;
use oncelog::{Ack, BatchHeader};

use crate::check::Checked;
use crate::facts::{Sent, TopicFacts};
use crate::machine::Machine;

/// What is in one partition.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) start: u64,
    /// Offset of each batch that is there whole.
    pub(crate) offsets: BTreeMap<BatchName, u64>,
    /// The sequence that each producer goes on with.
    pub(crate) next: BTreeMap<i64, i32>,
}

/// Reads a partition from its start and checks what is there.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn check_partition(
    machine: &Machine,
    facts: &TopicFacts,
    partition: u32,
) -> Checked<Found> {
    let log = format!("{}-{partition}", facts.name);
    let fail = |reason: String| Err(format!("{log}: {reason}"));
    let topic = machine
        .engine
        .topic(&facts.name)
        .map_err(|e| e.to_string())?;
    let handle = topic.partition(partition).map_err(|e| e.to_string())?;
    let mut found = Found {
        start: handle.log_start_offset(),
        ..Found::default()
    };
    let (lowest, highest) = facts.start_range(partition);
    if found.start < lowest || found.start > highest {
        let start = found.start;
        return fail(format!("begins at {start}, not at {lowest} to {highest}"));
    }
    let of: Vec<&Sent> = facts
        .sent
        .iter()
        .filter(|s| s.batch.partition == partition)
        .collect();
    let sent: BTreeMap<BatchName, &Sent> = of.iter().map(|sent| (sent.batch, *sent)).collect();
    let reader = machine
        .engine
        .reader(&facts.name)
        .partition(partition)
        .open();
    let mut reader = reader.map_err(|e| format!("{log}: {e}"))?;
    let mut open: Option<(BatchName, i32)> = None;
    let mut end = found.start;
    for record in reader.blocking_iter() {
        let record = record.map_err(|e| format!("{log}: {e}"))?;
        let (offset, id) = (record.offset(), record.producer_id().unwrap_or(-1));
        let sequence = record.sequence().unwrap_or(-1);
        if offset < end {
            return fail(format!("offset {offset} comes after {end}"));
        }
        if offset > end && facts.ack == Ack::Synced {
            return fail(format!("offsets {end} to {offset} are missing"));
        }
        end = offset + 1;
        let first = if found.start == 0 { 0 } else { sequence };
        let follows = found.next.entry(id).or_insert(first);
        if *follows != sequence {
            return fail(format!(
                "of {id}, {sequence} comes instead of {follows} (I3)"
            ));
        }
        *follows += 1;
        let (batch, index) = match open {
            Some((batch, index))
                if (batch.producer_id, batch.sequence + index) == (id, sequence) =>
            {
                (batch, index)
            }
            Some((batch, _)) => return fail(format!("{batch:?} is there in part (I4)")),
            None => {
                let batch = BatchName {
                    producer_id: id,
                    partition,
                    sequence,
                };
                if !sent.contains_key(&batch) {
                    return fail(format!("nobody sent {batch:?}, at {offset}"));
                }
                if found.offsets.insert(batch, offset).is_some() {
                    return fail(format!("{batch:?} is there twice (I2)"));
                }
                (batch, 0)
            }
        };
        let value = record.value().map(|v| v.to_vec()).unwrap_or_default();
        if batch.values()[index.unsigned_abs() as usize].as_bytes() != value {
            return fail(format!("{batch:?} has another value at {offset}"));
        }
        open = (index + 1 < batch.count()).then_some((batch, index + 1));
    }
    if let Some((batch, _)) = open {
        return fail(format!("{batch:?} is there in part (I4)"));
    }
    check_offsets(&found, of.iter().copied().chain(&facts.lost), partition)
        .and_then(|()| check_prefix(&found, &of))
        .map_err(|e| format!("{log}: {e}"))?;
    Ok(found)
}

// An offset that was shown names the same batch, or none (I9).
fn check_offsets<'a>(
    found: &Found,
    sent: impl Iterator<Item = &'a Sent>,
    partition: u32,
) -> Checked<()> {
    let by_offset: BTreeMap<u64, BatchName> = found
        .offsets
        .iter()
        .map(|(batch, offset)| (*offset, *batch))
        .collect();
    for sent in sent.filter(|sent| sent.batch.partition == partition) {
        let Some((_, offset)) = sent.answered else {
            continue;
        };
        let now = by_offset.get(&offset).filter(|now| **now != sent.batch);
        if let Some(now) = now {
            let batch = sent.batch;
            return Err(format!(
                "{batch:?} was at {offset}, where {now:?} is now (I9)"
            ));
        }
    }
    Ok(())
}

// What was answered is there, at its offset; and what is there is a prefix of what was sent.
fn check_prefix(found: &Found, sent: &[&Sent]) -> Checked<()> {
    let mut missing = None;
    for sent in sent {
        let batch = sent.batch;
        let there = found.offsets.get(&batch);
        let is_deleted = match sent.answered {
            Some((_, offset)) => offset < found.start,
            // Unless it is behind everything that was answered.
            None => found.start > 0 && there.is_none(),
        };
        if is_deleted {
            continue;
        }
        if there.is_none() && sent.durable.is_some() {
            return Err(format!("{batch:?} was durable, and is gone (I1)"));
        }
        let elsewhere = sent
            .answered
            .filter(|(_, offset)| there.is_some_and(|t| t != offset));
        if let Some((_, offset)) = elsewhere {
            let reason = format!("{batch:?} was answered at {offset}, and is at {there:?} (I9)");
            return Err(reason);
        }
        match (there, missing) {
            (None, None) => missing = Some(batch),
            (Some(_), Some(missing)) => {
                return Err(format!(
                    "{batch:?} is there, and {missing:?} before it is not (I22)"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes note of what is in a topic: it was recovered, and is durable. What was shown and is lost
/// was reported.
///
/// # Errors
/// When what is there contradicts the facts.
pub(crate) fn settle(machine: &Machine, topic: &mut TopicFacts) -> Checked<Vec<Found>> {
    let open = machine
        .engine
        .topic(&topic.name)
        .map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    for partition in 0..open.partitions() {
        let found = check_partition(machine, topic, partition)?;
        let before = topic.lost.len();
        topic.settle(partition, &found.offsets, found.start, machine.now());
        let log = format!("{}-{partition}", topic.name);
        let logs = &machine.engine.opened().logs;
        let opened = logs.iter().find(|(name, _)| *name == log);
        let reported = opened.and_then(|(_, opened)| opened.files.lost);
        let reported = reported.map_or(0..0, |(from, to)| from..to);
        for lost in &topic.lost[before..] {
            if let Some((_, offset)) = lost.answered
                && !reported.contains(&offset)
            {
                let batch = lost.batch;
                return Err(format!(
                    "{log}: the loss of {batch:?} at {offset} is not reported (I8)"
                ));
            }
        }
        all.push(found);
    }
    Ok(all)
}

/// Checks that what was appended from an offset on bears a later generation than all before it.
///
/// # Errors
/// When it does not.
pub(crate) fn check_generations(
    machine: &Machine,
    topic: &str,
    partition: u32,
    from: u64,
) -> Checked<()> {
    let reader = machine.engine.reader(topic).partition(partition).open();
    let mut reader = reader.map_err(|e| format!("{topic}-{partition}: {e}"))?;
    let (mut before, mut after) = (i32::MIN, i32::MAX);
    while let Some(batches) = reader.blocking_next_batches() {
        let bytes = batches.map_err(|e| e.to_string())?.bytes;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::read(rest).map_err(|e| e.to_string())?;
            if header.base_offset.unsigned_abs() < from {
                before = before.max(header.leader_epoch);
            } else {
                after = after.min(header.leader_epoch);
            }
            rest = &rest[header.size()..];
        }
    }
    if before >= after {
        return Err(format!(
            "{topic}-{partition}: generation {after} comes after {before} (I9)"
        ));
    }
    Ok(())
}
