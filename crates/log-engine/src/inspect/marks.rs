//! What is known of a log before its segments are read: its marks, and the directory's numbers.

use std::sync::Arc;

use partition_log::snapshot;
use segment_storage::{Disk, LogStart, Marks, Place, SlotError, StableMark, marks};

use super::findings::Findings;

/// A log's durable numbers, those of them that can be believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) mark: Option<StableMark>,
    pub(super) ceiling: Option<u64>,
    pub(super) start: Option<LogStart>,
}

impl Known {
    /// First offset that may be read.
    pub(super) fn start_offset(&self) -> u64 {
        self.start.map_or(0, |start| start.offset)
    }

    /// Whether batches were deleted from the front.
    pub(super) fn is_data_deleted(&self) -> bool {
        self.start
            .is_none_or(|start| start.offset > start.history_from)
    }

    /// Where what is certain of the log ends, when its batches end at `end`: after a clean close
    /// the log goes on at its ceiling or its start.
    pub(super) fn end(&self, end: u64) -> u64 {
        match self.mark {
            Some(mark) if mark.clean => end
                .max(mark.next_offset)
                .max(self.ceiling.unwrap_or(0))
                .max(self.start_offset()),
            _ => end,
        }
    }
}

/// Reads the marks of a log. `log_id` is the log's own, where the list of topics tells it.
pub(super) fn read(place: &Place, log_id: Option<u128>, findings: &mut Findings) -> Known {
    let file = place.display(marks::FILE);
    let marks = match Marks::open(&place.disk, &place.directory) {
        Ok(marks) => marks,
        Err(error) => {
            report(&file, error, findings);
            return Known::default();
        }
    };
    if let Some(expected) = log_id
        && marks.log_id() != expected
    {
        let found = marks.log_id();
        let what = format!(
            "it belongs to log {found:032x}, expected {expected:032x}; put back the file of this log"
        );
        findings.problem(file, None, "I26", what);
        return Known::default();
    }
    check_slots(&marks, &file, findings);
    let mut keep = |error| report(&file, error, findings);
    let known = Known {
        mark: marks.mark().map_err(&mut keep).ok(),
        ceiling: marks.ceiling().map_err(&mut keep).ok(),
        start: marks.start().map_err(&mut keep).ok(),
    };
    if let Some(start) = known.start
        && start.log_id != marks.log_id()
    {
        let what = format!(
            "the log's start is of log {:032x}, the mark of {:032x}; run `oncelog repair`",
            start.log_id,
            marks.log_id()
        );
        findings.problem(file, None, "I26", what);
    }
    known
}

// With one slot of a pair gone the other counts. It may be the older one: for the mark that is
// still a lower bound, for the others it is not known to be right.
fn check_slots(marks: &Marks, file: &str, findings: &mut Findings) {
    let Ok(damaged) = marks.damaged_slots() else {
        return;
    };
    let [mark, ceiling, start] = damaged;
    if mark == 1 {
        findings.note(format!(
            "{file}: one slot of the stable mark is damaged or torn; the other one counts, and an \
             older mark is still a lower bound"
        ));
    }
    for (damaged, name) in [(ceiling, "offset ceiling"), (start, "log's start")] {
        if damaged == 1 {
            let what = format!(
                "one slot of the {name} is damaged or torn, the other one may hold an older value; \
                 run `oncelog repair`"
            );
            findings.problem(file, None, "R14", what);
        }
    }
}

fn report(file: &str, error: SlotError, findings: &mut Findings) {
    findings.problem(file, None, "R14", explain(error));
}

/// What is wrong with a slot file, without the advice to run what runs just now.
pub(super) fn explain(error: SlotError) -> String {
    match error {
        SlotError::Damaged { pair, .. } => format!(
            "both slots of pair {pair} are invalid, or the file is too short for them; run `oncelog repair`"
        ),
        SlotError::Codec { pair, source, .. } => format!("pair {pair}: {source}"),
        other => other.to_string(),
    }
}

/// Whether batches were deleted from the front since `known` was read: files may be gone by now.
pub(super) fn is_start_moved(place: &Place, known: &Known) -> bool {
    let marks = Marks::open(&place.disk, &place.directory);
    let start = marks.and_then(|marks| marks.start());
    start.is_ok_and(|start| start.offset > known.start_offset())
}

/// Whether anything of a log changed between two looks, so that the second may judge otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    known: Known,
    files: Vec<(String, u64)>,
}

impl Look {
    pub(super) fn at(disk: &Arc<dyn Disk>, directory: &str) -> Look {
        let marks = Marks::open(disk, directory).ok();
        let marks = marks.as_ref();
        let files = disk.list(directory).unwrap_or_default();
        Look {
            known: Known {
                mark: marks.and_then(|marks| marks.mark().ok()),
                ceiling: marks.and_then(|marks| marks.ceiling().ok()),
                start: marks.and_then(|marks| marks.start().ok()),
            },
            files: files.into_iter().map(|e| (e.name, e.len)).collect(),
        }
    }
}

/// Offsets of the snapshots among the names of a log's directory.
pub(super) fn snapshots(place: &Place) -> Vec<u64> {
    snapshot::list(place).unwrap_or_default()
}
