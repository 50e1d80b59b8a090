//! One damaged directory: opened, read, written to, closed and opened again.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use harness::ledger::TOPIC;
use oncelog::inspect::{self, Depth, Problem};
use oncelog::storage::Disk;

use crate::facts::{Facts, log_name};
use crate::machine::{Machine, open_reader};
use crate::reading::{AllRead, read_all};
use crate::sweep::kind;
use crate::writing::{Written, write_all};

/// What came of a case, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Nobody was told anything else than without the damage.
    Same,
    /// Batches above the stable mark are gone.
    Cut,
    /// Everything is there, and producers that cannot be judged any more are refused.
    Forgotten,
    /// A log says that it is damaged, or a read of it does.
    Corrupted,
    /// The directory does not open.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

pub(crate) struct Case<'a> {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) facts: &'a Facts,
    /// The files that are not as they were.
    pub(crate) changed: Vec<String>,
    /// Files hold what others held. Nothing in a batch says whose it is, so a read may show another
    /// log's; the check and the open of the log must tell.
    pub(crate) holds_others: bool,
    /// After an open and a close the damage must be gone, where it was not refused.
    pub(crate) heals: bool,
}

/// Files that are written in place, and keep what was added behind their end; and what nobody looks
/// at but [`inspect`]: a leader epoch in a sealed segment.
fn stays(problem: &Problem) -> bool {
    let is_longer = ["marks", "generation", "producer-ids"].contains(&kind(&problem.file))
        && problem.what.starts_with("expected");
    is_longer || kind(&problem.file) == "log"
}

/// # Errors
/// What came of it that must not.
pub(crate) fn examine(case: &Case<'_>) -> Result<(Outcome, String), String> {
    let report = inspect::verify_disk(&case.disk, Depth::Records);
    let is_sound = report.as_ref().is_ok_and(|report| report.ok) && !case.is_nothing_to_verify();
    if let Ok(engine) = open_reader(&case.disk) {
        let read = read_all(&engine, case.facts, None);
        read.map(drop)
            .or_else(|error| case.must_hold_others(!is_sound, error))
            .map_err(|error| format!("beside a writer: {error}"))?;
        // A reader has nothing to close.
        drop(engine.close());
    }
    let machine = match Machine::start(&case.disk, 60) {
        Ok(machine) => machine,
        Err(error) => {
            let text = error.to_string();
            case.must_name(&text)?;
            if is_sound {
                return Err(format!(
                    "verify finds nothing, and it does not open: {text}"
                ));
            }
            return Ok((Outcome::Refused, text));
        }
    };
    let read = match read_all(&machine.engine, case.facts, None) {
        Ok(read) => read,
        Err(error) => {
            let mut logs = machine.engine.opened().logs.iter();
            let told = logs.find_map(|(_, opened)| opened.files.corruption.as_ref());
            let told = told.map(ToString::to_string).unwrap_or_default();
            case.must_hold_others(!is_sound && case.must_name(&told).is_ok(), error)?;
            return Ok((Outcome::Corrupted, told));
        }
    };
    let (mut outcome, mut said) = case.judge_read(&machine, &read)?;
    let written = write_all(&machine, case.facts, &read)?;
    machine.pass(1_000);
    case.judge_written(&written, &mut outcome, &mut said)?;
    let closed = machine.engine.close();
    drop(machine);
    if let Err(error) = closed {
        let text = error.to_string();
        if !case.changed.iter().any(|file| {
            file.rsplit_once('/')
                .is_some_and(|(log, _)| text.contains(log))
        }) {
            return Err(format!("it does not close: {text}"));
        }
        (outcome, said) = (outcome.max(Outcome::Corrupted), text);
    }
    let machine = Machine::start(&case.disk, 61).map_err(|e| format!("the second time: {e}"))?;
    let again = read_all(&machine.engine, case.facts, Some(&read))
        .map_err(|e| format!("the second time: {e}"))?;
    for (key, read) in &read.logs {
        let later = &again.logs[key];
        if let Some(gone) = read.offsets.difference(&later.offsets).next() {
            return Err(format!(
                "{key:?}: offset {gone} was there before it was closed"
            ));
        }
    }
    drop(machine.engine.close());
    if is_sound && outcome > Outcome::Cut {
        return Err(format!("verify finds nothing, and it is {outcome}: {said}"));
    }
    if case.must_be_same() && outcome != Outcome::Same {
        return Err(format!(
            "nothing but caches changed, and it is {outcome}: {said} (I25)"
        ));
    }
    if case.heals && outcome < Outcome::Forgotten {
        let healed = inspect::verify_disk(&case.disk, Depth::Records);
        let problems = healed.map_err(|error| error.to_string())?.problems;
        if let Some(problem) = problems.iter().find(|problem| !stays(problem)) {
            return Err(format!(
                "{outcome} ({said}), and verify still finds {problem:?}"
            ));
        }
    }
    Ok((outcome, said))
}

impl Case<'_> {
    // The lock's text is for people, and what is on disk of evicted producers for nobody.
    fn is_nothing_to_verify(&self) -> bool {
        let mut files = self.changed.iter().filter(|file| !Self::is_volatile(file));
        !self.changed.is_empty() && files.next().is_none()
    }

    // Nothing but caches changed. One of another log is refused, where it says so (I26).
    fn must_be_same(&self) -> bool {
        let caches = ["footer", "index", "snapshot", "evicted"];
        let is_derived = |file: &String| {
            let is_others = kind(file) == "footer" && self.holds_others;
            caches.contains(&kind(file)) && !self.is_only_memory(file) && !is_others
        };
        self.heals && !self.changed.is_empty() && self.changed.iter().all(is_derived)
    }

    // Where data was deleted, snapshots alone know its producers (I18).
    fn is_only_memory(&self, file: &str) -> bool {
        let mut logs = self.facts.logs.iter().filter(|(_, log)| log.start > 0);
        kind(file) == "snapshot"
            && logs.any(|((topic, partition), _)| file.starts_with(&log_name(topic, *partition)))
    }

    fn is_volatile(file: &str) -> bool {
        ["lock", "evicted"].contains(&kind(file))
    }

    fn must_hold_others(&self, is_told: bool, error: String) -> Result<(), String> {
        let has_batches = self.changed.iter().any(|file| kind(file) == "log");
        if self.holds_others && has_batches && is_told {
            return Ok(());
        }
        Err(error)
    }

    // An error that a person cannot act upon is none.
    fn must_name(&self, text: &str) -> Result<(), String> {
        let is_named = |file: &String| {
            text.contains(file.as_str())
                // Without its format gate a directory is nobody's.
                || file == "format" && text.contains("not an oncelog data directory")
                // A missing segment is told by the one behind it.
                || text.contains("missing") && file.rsplit_once('/').is_some_and(|(log, _)| text.contains(log))
        };
        if self.changed.iter().any(is_named) {
            return Ok(());
        }
        Err(format!(
            "the error names none of {:?}: {text}",
            self.changed
        ))
    }

    fn judge_read(&self, machine: &Machine, read: &AllRead) -> Result<(Outcome, String), String> {
        let mut outcome = Outcome::Same;
        let mut said = String::new();
        let mut damaged = BTreeSet::new();
        for (log, opened) in &machine.engine.opened().logs {
            if let Some(corruption) = &opened.files.corruption {
                self.must_name(&corruption.to_string())?;
                damaged.insert(log.clone());
                (outcome, said) = (Outcome::Corrupted, format!("{log}: {corruption}"));
            }
        }
        for ((topic, partition), found) in &read.logs {
            let log = log_name(topic, *partition);
            for error in &found.errors {
                self.must_name(error)?;
                damaged.insert(log.clone());
                (outcome, said) = (Outcome::Corrupted, error.clone());
            }
            let Some(facts) = self.facts.logs.get(&(topic.clone(), *partition)) else {
                continue;
            };
            let missing: Vec<u64> = facts
                .records
                .keys()
                .copied()
                .filter(|offset| !found.offsets.contains(offset))
                .collect();
            let Some(&first) = missing.first() else {
                continue;
            };
            if damaged.contains(&log) {
                continue;
            }
            if first < facts.stable {
                return Err(format!("{log}: record {first} is missing without an error"));
            }
            if found.offsets.range(first..).next().is_some() {
                return Err(format!(
                    "{log}: record {first} is missing, and later ones are not"
                ));
            }
            if !self.touches(&log) {
                return Err(format!(
                    "{log}: record {first} is cut, and its files are whole"
                ));
            }
            (outcome, said) = (outcome.max(Outcome::Cut), format!("{log} from {first}"));
        }
        let is_damaged = |partition| damaged.contains(&log_name(TOPIC, partition));
        for (&source, &count) in &self.facts.lines {
            let lost = (0..count).find(|position| !read.lines.contains(&(source, *position)));
            if let Some(position) = lost
                && !is_damaged(0)
                && !is_damaged(1)
            {
                return Err(format!(
                    "line {position} of {source} is missing without an error"
                ));
            }
        }
        Ok((outcome, said))
    }

    fn touches(&self, log: &str) -> bool {
        let is_of = |file: &String| file.rsplit_once('/').is_some_and(|(of, _)| of == log);
        self.changed.iter().any(is_of)
    }

    fn judge_written(
        &self,
        written: &Written,
        outcome: &mut Outcome,
        said: &mut String,
    ) -> Result<(), String> {
        let mut raise = |to: Outcome, what: String| {
            if *outcome < to {
                (*outcome, *said) = (to, what);
            }
        };
        for (log, error) in &written.closed {
            if !self.touches(log) && !self.changed.contains(log) {
                return Err(format!(
                    "{log} takes no batch, and its files are whole: {error}"
                ));
            }
            raise(Outcome::Corrupted, format!("{log}: {error}"));
        }
        for (log, error) in &written.refused {
            if !self.touches(log) {
                return Err(format!(
                    "{log} refuses a repeat, and its files are whole: {error}"
                ));
            }
            raise(Outcome::Forgotten, format!("{log}: {error}"));
        }
        for error in &written.names {
            if !(0..2).any(|partition| self.touches(&log_name(TOPIC, partition)))
                && !self.changed.iter().any(|file| file == "names")
            {
                return Err(format!(
                    "a name is refused, and its files are whole: {error}"
                ));
            }
            let is_damaged = error.contains("is damaged");
            let to = if is_damaged {
                Outcome::Corrupted
            } else {
                Outcome::Forgotten
            };
            raise(to, error.clone());
        }
        Ok(())
    }
}
