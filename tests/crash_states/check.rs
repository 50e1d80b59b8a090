//! Holds a disk that a crash left against what clients were told, and goes on with it.

use std::collections::BTreeSet;

use harness::history::BatchName;
use harness::random::Random;
use oncelog::testing::{FileSystem, Kept, SimulatedDisk};
use oncelog::{Ack, AppendError, Appended, TopicConfig, TopicError};

use crate::facts::{Facts, Sent, TopicFacts};
use crate::lines::check_lines;
use crate::machine::Machine;
use crate::partition::{check_generations, check_partition, settle};

/// When the machine is switched on after the crash, ms since 1970.
const WALL_MS: i64 = 1_700_001_000_000;

pub(crate) type Checked<T = ()> = Result<T, String>;

/// How many engines [`survives`] opens.
pub(crate) const OPENS: u64 = 2;

/// Opens a disk, checks it, writes to it, cuts the power somewhere on the way or kills the process,
/// and does all that again.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn survives(disk: &SimulatedDisk, facts: &Facts, seed: u64) -> Checked {
    let mut random = Random::new(seed);
    disk.record();
    let mut machine = open(disk, facts, 0)?;
    let opened = disk.recorded();
    let mut later = facts.clone();
    write(&mut machine, &mut later)?;
    let (after, known, when) = match random.below(4) {
        0 => {
            let file_system = [FileSystem::Ordered, FileSystem::Loose, FileSystem::Strict];
            let file_system = file_system[random.below(3) as usize];
            let after = disk.clone().on(file_system).power_cut(random.next_u64());
            (after, later, "a power cut at the end".to_owned())
        }
        1 => (
            disk.kill(),
            later.after_kill(),
            "a kill at the end".to_owned(),
        ),
        _ => {
            let trace = disk.take_trace().ok_or("nothing was recorded")?;
            let position = random.below(trace.len() as u64 + 1) as usize;
            let mut crash = trace.crash_at_start();
            while crash.position() < position {
                crash.advance();
            }
            let share = random.below(5);
            let kept: Vec<bool> = (0..crash.unsynced())
                .map(|_| random.below(4) < share)
                .collect();
            let kept = |item: usize| if kept[item] { Kept::Whole } else { Kept::Lost };
            // What the first open found is known once it is done.
            let known = if position < opened { facts } else { &later };
            (
                crash.image(kept),
                known.until(position),
                format!("a power cut at {position} of {}", trace.len()),
            )
        }
    };
    drop(machine);
    let mut known = known;
    let again = |error: String| format!("after another crash, {when}: {error}");
    let mut machine = open(&after, &known, 1).map_err(again)?;
    write(&mut machine, &mut known).map_err(again)
}

fn open(disk: &SimulatedDisk, facts: &Facts, time: i64) -> Checked<Machine> {
    let opened = Machine::start(disk, 7, WALL_MS + time * 1_000);
    let mut machine = opened.map_err(|error| format!("it does not open: {error}"))?;
    for (log, opened) in &machine.engine.opened().logs {
        if let Some(corruption) = &opened.files.corruption {
            return Err(format!("{log} is called damaged (I24): {corruption}"));
        }
        if opened.history_lost {
            return Err(format!("{log} lost what it knew of producers (I18)"));
        }
        if facts.closed.is_some() && !opened.files.clean {
            return Err(format!("{log} was closed cleanly, and is recovered"));
        }
    }
    for topic in &facts.topics {
        let is_there = machine.engine.topic(&topic.name).is_ok();
        let newest = facts.topics.iter().rfind(|other| other.name == topic.name);
        if topic.made.is_some() && topic.deletion_begun.is_none() && !is_there {
            return Err(format!("topic {} is gone", topic.name));
        }
        let is_newest = newest.is_some_and(|newest| std::ptr::eq(newest, topic));
        if topic.deleted.is_some() && is_newest && is_there {
            return Err(format!("topic {} was deleted, and is there", topic.name));
        }
        if is_there && is_newest && topic.deleted.is_none() {
            check_topic(&machine, topic)?;
        }
    }
    check_lines(&mut machine, facts)?;
    Ok(machine)
}

fn check_topic(machine: &Machine, facts: &TopicFacts) -> Checked {
    let topic = machine
        .engine
        .topic(&facts.name)
        .map_err(|e| e.to_string())?;
    let least = facts
        .partitions
        .iter()
        .filter(|p| p.2.is_some())
        .map(|p| p.0)
        .max();
    let most = facts.partitions.iter().map(|p| p.0).max();
    let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
    let count = topic.partitions();
    if count < least || count > most {
        return Err(format!(
            "{} has {count} partitions, not {least} to {most}",
            facts.name
        ));
    }
    (0..count).try_for_each(|partition| check_partition(machine, facts, partition).map(|_| ()))
}

/// Sends known batches again, and new ones.
fn write(machine: &mut Machine, facts: &mut Facts) -> Checked {
    let opened = machine.now();
    let newest = facts.ids.iter().map(|(id, _)| *id).max().unwrap_or(-1);
    let session = machine.engine.session().map_err(|e| e.to_string())?;
    let id = session.producer_id();
    if id <= newest {
        return Err(format!(
            "producer id {id} is handed out again, after {newest} (I15)"
        ));
    }
    facts.ids.push((id, machine.now()));
    facts.closed = None;
    let names: BTreeSet<String> = facts
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    for name in names {
        if matches!(
            machine.engine.topic(&name),
            Err(TopicError::UnknownTopic { .. })
        ) {
            let begun = machine.now();
            facts
                .topics
                .push(TopicFacts::begun(&name, Ack::Synced, 1, begun));
            let made = machine
                .engine
                .create_topic(&name, 1, TopicConfig::default());
            made.map_err(|e| format!("topic {name} cannot be made: {e}"))?;
            let topic = facts.topics.last_mut().ok_or("no topic")?;
            topic.made = Some(machine.now());
            topic.partitions[0].2 = topic.made;
        }
        let topic = facts.topics.iter_mut().rfind(|topic| topic.name == name);
        let topic = topic.ok_or("no such topic")?;
        // What survived is whole, whether or not the client was told.
        topic.made = topic.made.or(Some(opened));
        topic.deletion_begun = None;
        add_partitions(machine, topic)?;
        let open_topic = machine.engine.topic(&name).map_err(|e| e.to_string())?;
        let end = |partition| {
            open_topic
                .partition(partition)
                .map_or(0, |p| p.log_end_offset())
        };
        let ends: Vec<u64> = (0..open_topic.partitions()).map(end).collect();
        send_again(machine, topic)?;
        for (partition, end) in (0..).zip(ends) {
            let batch = BatchName {
                producer_id: id,
                partition,
                sequence: 0,
            };
            send(machine, topic, batch, Wanted::Appended)?;
            check_generations(machine, &name, partition, end)?;
        }
    }
    Ok(())
}

// Whoever was not told that partitions were added adds them again.
fn add_partitions(machine: &Machine, topic: &mut TopicFacts) -> Checked {
    let begun = machine.now();
    let wanted = topic.partitions.iter().map(|p| p.0).max().unwrap_or(1);
    let name = &topic.name;
    let there = machine
        .engine
        .topic(name)
        .map_err(|e| e.to_string())?
        .partitions();
    if there < wanted {
        let added = machine.engine.add_partitions(name, wanted);
        added.map_err(|e| format!("partitions of {name} cannot be added: {e}"))?;
    }
    topic.partitions.push((wanted, begun, Some(machine.now())));
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    Duplicate(u64),
    Appended,
    Refused,
    AppendedOrRefused,
}

// Clients send their last batch again: it is a duplicate where it is there, and appended once
// where it is not and nothing before it is missing.
fn send_again(machine: &mut Machine, topic: &mut TopicFacts) -> Checked {
    let last = topic.last_sent();
    let partitions = settle(machine, topic)?;
    for Sent {
        batch, answered, ..
    } in last
    {
        let Some(found) = partitions.get(batch.partition as usize) else {
            continue;
        };
        let next = found.next.get(&batch.producer_id).copied();
        let wanted = match (found.offsets.get(&batch), answered) {
            (Some(offset), _) => Wanted::Duplicate(*offset),
            (None, Some((_, offset))) if offset < found.start => Wanted::Duplicate(offset),
            // What lies below the start may be what the log goes on from.
            (None, _) if found.start > 0 && next.is_none() => Wanted::AppendedOrRefused,
            (None, _) if batch.sequence != next.unwrap_or(0) => Wanted::Refused,
            // A producer of which nothing is left may have been lost whole (I8).
            (None, _) if topic.ack != Ack::Synced && next.is_none() => Wanted::AppendedOrRefused,
            (None, _) => Wanted::Appended,
        };
        send(machine, topic, batch, wanted)?;
    }
    Ok(())
}

fn send(
    machine: &mut Machine,
    topic: &mut TopicFacts,
    batch: BatchName,
    wanted: Wanted,
) -> Checked {
    let name = topic.name.clone();
    let handle = machine.engine.topic(&name).map_err(|e| e.to_string())?;
    let handle = handle
        .partition(batch.partition)
        .map_err(|e| e.to_string())?;
    let bytes = batch.bytes();
    let shown = topic.shown_below(batch.partition);
    let begun = machine.now();
    let answer: Result<Appended, AppendError> = machine.drive(handle.append(&bytes))?;
    let is_wanted = match (&answer, wanted) {
        (Ok(at), Wanted::Duplicate(offset)) => at.duplicate && at.offset == offset,
        (Ok(at), Wanted::Appended | Wanted::AppendedOrRefused) => !at.duplicate,
        (Err(AppendError::Rejected { .. }), Wanted::Refused | Wanted::AppendedOrRefused) => true,
        _ => false,
    };
    if !is_wanted {
        return Err(format!(
            "{name}: {batch:?} should be {wanted:?}, and is {answer:?}"
        ));
    }
    // In the order of the log: what was not there goes behind all others.
    if let Ok(Appended {
        offset,
        duplicate: false,
        ..
    }) = answer
    {
        if offset < shown {
            return Err(format!(
                "{name}: {batch:?} gets offset {offset} below {shown} (I9)"
            ));
        }
        topic.sent.push(Sent {
            batch,
            at: begun,
            answered: Some((machine.now(), offset)),
            durable: (topic.ack == Ack::Synced).then(|| machine.now()),
        });
    }
    Ok(())
}
