//! What a check found, bounded however much is wrong.

use crate::wording;

/// Problems and notes that are listed, each; more are counted.
const LISTED_MAX: usize = 1_000;

/// Something in a data directory that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as a person can find it.
    pub file: String,
    /// Bytes from the file's beginning, where there is such a place.
    pub position: Option<u64>,
    /// Number of the invariant (I1..) or rule (R1..) of the reliability specification.
    pub invariant: &'static str,
    /// What is wrong, expected and found, and what to do.
    pub what: String,
}

/// The result of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Whether everything holds: there is no problem.
    pub ok: bool,
    /// What does not hold; the first thousand.
    pub problems: Vec<Problem>,
    /// What is worth knowing and wrong in no way: a crash explains it, or it is somebody else's.
    pub notes: Vec<String>,
    /// Batches that were read and are certain to stay: below the stable marks, and in sealed
    /// segments.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Collects a report, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Findings {
    report: VerifyReport,
    unlisted_problems: u64,
    unlisted_notes: u64,
}

impl Findings {
    pub(super) fn problem(
        &mut self,
        file: impl Into<String>,
        position: impl Into<Option<u64>>,
        invariant: &'static str,
        what: impl Into<String>,
    ) {
        if self.report.problems.len() < LISTED_MAX {
            let file = file.into();
            self.report.problems.push(Problem {
                what: wording::without_file(&file, what.into()),
                file,
                position: position.into(),
                invariant,
            });
        } else {
            self.unlisted_problems += 1;
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        if self.report.notes.len() < LISTED_MAX {
            self.report.notes.push(note.into());
        } else {
            self.unlisted_notes += 1;
        }
    }

    pub(super) fn count(&mut self, records: u64, bytes: u64) {
        self.report.batches += 1;
        self.report.records += records;
        self.report.bytes += bytes;
    }

    pub(super) fn is_clean(&self) -> bool {
        self.report.problems.is_empty()
    }

    pub(super) fn merge(&mut self, part: Findings) {
        let VerifyReport {
            problems,
            notes,
            batches,
            records,
            bytes,
            ..
        } = part.report;
        for p in problems {
            self.problem(p.file, p.position, p.invariant, p.what);
        }
        for note in notes {
            self.note(note);
        }
        self.unlisted_problems += part.unlisted_problems;
        self.unlisted_notes += part.unlisted_notes;
        self.report.batches += batches;
        self.report.records += records;
        self.report.bytes += bytes;
    }

    pub(super) fn into_report(mut self) -> VerifyReport {
        let (problems, notes) = (self.unlisted_problems, self.unlisted_notes);
        if problems > 0 || notes > 0 {
            let text = format!("{problems} more problems and {notes} more notes are not listed");
            self.report.notes.push(text);
        }
        self.report.ok = self.report.problems.is_empty();
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_bounded_and_the_rest_counted() {
        let mut whole = Findings::default();
        let mut part = Findings::default();
        for n in 0..LISTED_MAX as u64 + 5 {
            part.problem("f", n, "I24", "x");
        }
        whole.merge(part);
        whole.problem("f", None, "I24", "x");
        let report = whole.into_report();
        assert!(!report.ok);
        assert_eq!(report.problems.len(), LISTED_MAX);
        assert_eq!(
            report.notes,
            ["6 more problems and 0 more notes are not listed"]
        );
        assert!(Findings::default().into_report().ok);
    }
}
