//! A whole data directory: its own files, then each log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use segment_storage::slot_file::SLOT_BYTES;
use segment_storage::{
    DirectoryEntry, Disk, Marks, OsDisk, StateFileError, codec::CodecError, marks, state_file,
};

use super::InspectError;
use super::findings::{Findings, VerifyReport};
use super::log::{self, Target};
use super::marks as known;
use crate::directory::{self, FORMAT, GENERATION, LOCK, OWN, Stage, TOPICS, TopicEntry};
use crate::env::{Clock, SystemClock};
use crate::error::{LogName, OpenError};
use crate::names::{self, Names};
use crate::repair::ASIDE;
use crate::topic_logs::partition_of;
use crate::topics;
use crate::wording;

/// How closely batches are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Header, structure and CRC.
    #[default]
    Batches,
    /// Also each record inside, decompressed.
    Records,
}

/// Checks every file and every invariant of a data directory that files can show, and opens nothing
/// for writing.
///
/// Beside a running writer, and after a crash, only what lies below the stable marks (and in sealed
/// segments) is certain and counted; what lies above is a note. So is one damaged slot of a stable
/// mark, since an older mark is still a lower bound.
///
/// Some damage leaves no trace in a file: a leader epoch in a segment that is not sealed yet, as
/// long as it lies between its neighbours' (R12), and a producer missing from a snapshot, for it
/// may have been forgotten. Memory is bounded by a batch, an index, and the producers of a log.
///
/// # Errors
/// [`InspectError::NotADataDirectory`], or when `path` cannot be read at all. All else is a
/// [`super::Problem`].
pub fn verify(path: &Path) -> Result<VerifyReport, InspectError> {
    verify_to(path, Depth::Batches)
}

/// As [`verify`], as closely as `depth` says.
///
/// # Errors
/// As [`verify`].
pub fn verify_to(path: &Path, depth: Depth) -> Result<VerifyReport, InspectError> {
    let disk = OsDisk::read_only(path.to_owned()).map_err(|source| InspectError::Io {
        file: path.display().to_string(),
        source,
    })?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    check(&disk, depth, Some(&SystemClock))
}

/// As [`verify`], of any disk.
///
/// # Errors
/// As [`verify`].
pub fn verify_disk(disk: &Arc<dyn Disk>, depth: Depth) -> Result<VerifyReport, InspectError> {
    check(disk, depth, None)
}

// The clock is for people: how long a writer has had the directory.
fn check(
    disk: &Arc<dyn Disk>,
    depth: Depth,
    clock: Option<&dyn Clock>,
) -> Result<VerifyReport, InspectError> {
    let before = list(disk)?;
    let names = [FORMAT, GENERATION, TOPICS, pid_allocator::FILE_NAME];
    if !before.iter().any(|entry| names.contains(&&*entry.name)) {
        let directory = disk.display("");
        return Err(InspectError::NotADataDirectory { directory });
    }
    let mut findings = Findings::default();
    if let Ok(Some(holder)) = disk.lock_holder(LOCK) {
        let holder = match clock {
            Some(clock) => wording::holder_now(&holder, clock),
            None => holder,
        };
        findings.note(format!("the directory is open for writing: {holder}"));
    }
    if check_format(disk, &mut findings) {
        check_generation(disk, &before, &mut findings);
        check_producer_ids(disk, &before, &mut findings);
        check_names(disk, &mut findings);
        check_logs(disk, &before, depth, &mut findings);
    }
    Ok(findings.into_report())
}

fn list(disk: &Arc<dyn Disk>) -> Result<Vec<DirectoryEntry>, InspectError> {
    disk.list("").map_err(|source| InspectError::Io {
        file: disk.display(""),
        source,
    })
}

// Whether the rest can be judged by this release.
fn check_format(disk: &Arc<dyn Disk>, findings: &mut Findings) -> bool {
    let Err(error) = directory::read_format(disk) else {
        return true;
    };
    let is_newer = matches!(
        &error,
        OpenError::NewerFormat { .. }
            | OpenError::StateFile(StateFileError::Codec {
                source: CodecError::NewerVersion { .. },
                ..
            })
    );
    findings.problem(disk.display(FORMAT), None, "I26", explain(error));
    !is_newer
}

// As the error says it, but for the advice to run what runs just now.
fn explain(error: OpenError) -> String {
    match error {
        OpenError::StateFile(StateFileError::Codec { source, .. }) => {
            format!("{source}; put an undamaged copy of the file back, or run `oncelog repair`")
        }
        OpenError::Missing { .. } | OpenError::StateFile(StateFileError::Missing { .. }) => {
            "it is missing; put an undamaged copy back, or run `oncelog repair`".to_owned()
        }
        other => other.to_string(),
    }
}

fn check_length(
    disk: &Arc<dyn Disk>,
    (entries, name): (&[DirectoryEntry], &str),
    findings: &mut Findings,
) {
    let expected = 2 * SLOT_BYTES as u64;
    if let Some(entry) = entries.iter().find(|entry| entry.name == name)
        && entry.len > expected
    {
        let what = format!("expected {expected} bytes, found {}", entry.len);
        findings.problem(disk.display(name), None, "R14", what);
    }
}

fn check_generation(disk: &Arc<dyn Disk>, entries: &[DirectoryEntry], findings: &mut Findings) {
    check_length(disk, (entries, GENERATION), findings);
    let what = match directory::read_generation(disk) {
        Ok((generation, _)) if generation < 0 => format!("generation {generation} is negative"),
        Ok((_, 0)) => return,
        Ok((generation, _)) => format!(
            "one of its two slots is damaged or torn; the other one says generation {generation}, \
             which may not be the newest; open the directory for writing and close it again"
        ),
        Err(error) => known::explain(error),
    };
    findings.problem(disk.display(GENERATION), None, "R14", what);
}

fn check_producer_ids(disk: &Arc<dyn Disk>, entries: &[DirectoryEntry], findings: &mut Findings) {
    let name = pid_allocator::FILE_NAME;
    check_length(disk, (entries, name), findings);
    let what = match pid_allocator::inspect(disk) {
        Ok((_, 0)) => return,
        Ok((bound, _)) => format!(
            "one of its two slots is damaged or torn; by the other one the next id is {bound}, but \
             ids from there on may be in use; run `oncelog repair --apply --producer-id-floor N` \
             with N above every id ever handed out"
        ),
        Err(error) => error.to_string(),
    };
    findings.problem(disk.display(name), None, "R18", what);
}

// Two names with one id would be one producer, and so would a name and a later session.
fn check_names(disk: &Arc<dyn Disk>, findings: &mut Findings) {
    let file = disk.display(names::FILE);
    let names = match Names::open(disk.clone()) {
        Ok(names) => names.all(),
        Err(error) => {
            let what = explain(error.into());
            findings.problem(file, None, "I18", what);
            return;
        }
    };
    // Read after the names: ids are reserved before a name gets one.
    let bound = pid_allocator::inspect(disk).map_or(i64::MAX, |(bound, _)| bound);
    let mut owners = BTreeMap::new();
    for (name, id) in &names {
        if let Some(other) = owners.insert(*id, name) {
            let what = format!("{other} and {name} have the same producer id {id}");
            findings.problem(file.as_str(), None, "I15", what);
        }
        if *id >= bound {
            let what = format!(
                "{name} has producer id {id}, but ids from {bound} on were not handed out yet"
            );
            findings.problem(file.as_str(), None, "I15", what);
        }
    }
}

fn check_logs(
    disk: &Arc<dyn Disk>,
    before: &[DirectoryEntry],
    depth: Depth,
    findings: &mut Findings,
) {
    let topics = match directory::read_topics(disk) {
        Ok(topics) => topics,
        Err(error) => {
            let error = explain(error);
            let what = format!("{error}; the logs are checked as far as they can be without it");
            findings.problem(disk.display(TOPICS), None, "I26", what);
            for entry in before
                .iter()
                .filter(|entry| is_log(disk, entry) && !entry.name.contains(ASIDE))
            {
                let target = Target {
                    directory: entry.name.clone(),
                    topic: None,
                };
                findings.merge(log::check(disk, &target, depth));
            }
            return;
        }
    };
    for (at, topic) in topics.iter().enumerate() {
        let is_twice = topics[..at].iter().any(|other| other.name == topic.name);
        check_topic(disk, (topic, is_twice), depth, findings);
    }
    let Ok(after) = list(disk) else { return };
    let topics_after = directory::read_topics(disk).unwrap_or_default();
    for entry in &after {
        // Whoever makes or removes a topic has it in the list before, or after.
        let belongs = topics.iter().chain(&topics_after).any(|topic| {
            partition_of(topic, &entry.name).is_some_and(|number| number < topic.partitions)
        });
        if belongs {
            continue;
        }
        if topics_after
            .iter()
            .any(|topic| is_being_added(disk, topic, entry))
        {
            let shown = disk.display(&entry.name);
            findings.note(format!(
                "{shown}: a partition that is being added, or whose adding a crash interrupted"
            ));
        } else {
            check_stray(disk, entry, findings);
        }
    }
}

// Partitions are added to a topic when their folders are made, which hold nothing else until then.
fn is_being_added(disk: &Arc<dyn Disk>, topic: &TopicEntry, entry: &DirectoryEntry) -> bool {
    let Some(number) = partition_of(topic, &entry.name) else {
        return false;
    };
    let is_empty = disk.list(&entry.name).is_ok_and(|files| files.len() == 1);
    let log_id = topics::log_id(topic.id, number);
    is_empty && Marks::open(disk, &entry.name).is_ok_and(|marks| marks.log_id() == log_id)
}

fn is_log(disk: &Arc<dyn Disk>, entry: &DirectoryEntry) -> bool {
    let is_ours = |e: &DirectoryEntry| e.name == marks::FILE || e.name.ends_with(".log");
    entry.is_directory && disk.list(&entry.name).is_ok_and(|l| l.iter().any(is_ours))
}

fn check_topic(
    disk: &Arc<dyn Disk>,
    (entry, is_twice): (&TopicEntry, bool),
    depth: Depth,
    findings: &mut Findings,
) {
    let file = disk.display(TOPICS);
    let name = &entry.name;
    if let Err(error) = topics::check_name(name) {
        findings.problem(file, None, "I42", error.to_string());
        return;
    }
    if entry.stage != Stage::Ready {
        let stage = entry.stage;
        findings.note(format!(
            "topic {name} is being made or removed ({stage:?}); after a crash, opening for writing removes it"
        ));
        return;
    }
    let partitions = entry.partitions;
    if is_twice || !(1..=topics::PARTITIONS_MAX).contains(&partitions) {
        let what = format!(
            "topic {name} with {partitions} partitions is there twice, or has too few or too many"
        );
        findings.problem(file, None, "I26", what);
        return;
    }
    let config = match topics::config_of(entry) {
        Ok(config) => config,
        Err(error) => {
            findings.problem(file, None, "I26", format!("topic {name}: {error}"));
            return;
        }
    };
    let is_still_there = || {
        let topics = directory::read_topics(disk);
        topics.is_ok_and(|topics| topics.iter().any(|other| other == entry))
    };
    for partition in 0..partitions {
        let log_id = topics::log_id(entry.id, partition);
        let target = Target {
            directory: LogName(name, partition).to_string(),
            topic: Some((log_id, config.clone())),
        };
        let found = log::check(disk, &target, depth);
        if !found.is_clean() && !is_still_there() {
            findings.note(format!("topic {name} was removed during the check"));
            return;
        }
        findings.merge(found);
    }
}

// A topic is in the list before its folders are made and until they are removed, so no crash
// leaves a log without a topic.
fn check_stray(disk: &Arc<dyn Disk>, entry: &DirectoryEntry, findings: &mut Findings) {
    let shown = disk.display(&entry.name);
    let temporary = entry.name.strip_suffix(state_file::TEMPORARY_SUFFIX);
    if entry.name.contains(ASIDE) {
        findings.note(format!("{shown}: set aside by a repair; not used"));
    } else if is_log(disk, entry) {
        let what = "a log that belongs to no topic; the list of topics may be an older one";
        findings.problem(shown, None, "I26", what);
    } else if !entry.is_directory && OWN.contains(&&*entry.name) {
    } else if temporary.is_some_and(|name| OWN.contains(&name)) {
        findings.note(format!(
            "{shown}: being written, or left by a crash; not used"
        ));
    } else {
        findings.note(format!("{shown}: not a file of oncelog; not used"));
    }
}
