//! Index files: caches, so a wrong one never changes an answer (I25), but it says something of the
//! disk.

use std::collections::VecDeque;

use segment_storage::{IndexEntry, IndexFile, Place, StateFileError, names};

use super::findings::Findings;

/// What to do about a damaged cache.
pub(super) const CACHE: &str = "it is a cache: delete it, it is rebuilt";

/// Whether an index is as a power cut leaves it: renamed, which needs no sync, with no bytes yet.
fn was_not_written_back(place: &Place, base_offset: u64) -> bool {
    let Ok(file) = place.disk.open(&place.path(&names::index(base_offset))) else {
        return false;
    };
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap_or(0)];
    file.read_at(&mut bytes, 0).is_ok() && bytes.iter().all(|byte| *byte == 0)
}

/// An index file, compared with the segment while that is walked.
pub(super) struct IndexCheck {
    file: String,
    base_offset: u64,
    /// Bytes of the segment that it was made of, and the largest timestamp in them.
    made_of: (u64, i64),
    entries: VecDeque<IndexEntry>,
    max_timestamp: i64,
    wrong: Option<String>,
}

impl IndexCheck {
    /// Reads the index file of a segment; a damaged one is reported.
    pub(super) fn open(
        place: &Place,
        base_offset: u64,
        sealed_bytes: Option<u64>,
        findings: &mut Findings,
    ) -> Option<IndexCheck> {
        let file = place.display(&names::index(base_offset));
        let index = match IndexFile::read(place, base_offset) {
            Ok(index) => index?,
            Err(StateFileError::Codec { .. }) if was_not_written_back(place, base_offset) => {
                findings.note(format!(
                    "{file}: a power cut left nothing in it, so it is not used"
                ));
                return None;
            }
            Err(error) => {
                let what = match error {
                    StateFileError::Codec { source, .. } => format!("{source}; {CACHE}"),
                    other => other.to_string(),
                };
                findings.problem(file, None, "I25", what);
                return None;
            }
        };
        if (index.log_id, index.base_offset) != (place.log_id, base_offset) {
            let what = format!(
                "it is of log {:032x}, offset {}, expected {:032x}, offset {base_offset}; {CACHE}",
                index.log_id, index.base_offset, place.log_id
            );
            findings.problem(file, None, "I25", what);
            return None;
        }
        if let Some(bytes) = sealed_bytes
            && bytes != index.bytes
        {
            let made_of = index.bytes;
            findings.note(format!(
                "{file}: it was made of {made_of} bytes, the segment has {bytes}, so it is not used"
            ));
        }
        Some(IndexCheck {
            file,
            base_offset,
            made_of: (index.bytes, index.max_timestamp),
            entries: index.entries.into(),
            max_timestamp: i64::MIN,
            wrong: None,
        })
    }

    /// The next batch of the segment begins at `position` with `offset`, the whole of the batches
    /// so far; `timestamp` is its largest.
    pub(super) fn batch(&mut self, position: u64, offset: u64, timestamp: i64) {
        self.boundary(position);
        while let Some(entry) = self.entries.front()
            && u64::from(entry.position) <= position
            && self.wrong.is_none()
        {
            let found = (u64::from(entry.position), u64::from(entry.relative_offset));
            let before = entry.timestamp_before;
            let expected = (position, offset - self.base_offset);
            if found != expected || before != self.max_timestamp {
                self.wrong = Some(format!(
                    "its entry for position {} says offset {}, timestamps before {before}; a batch \
                     at {position} has offset {offset}, timestamps before {}",
                    found.0,
                    self.base_offset.saturating_add(found.1),
                    self.max_timestamp
                ));
            }
            self.entries.pop_front();
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    fn boundary(&mut self, position: u64) {
        let (bytes, timestamp) = self.made_of;
        if position == bytes && timestamp != self.max_timestamp {
            let found = self.max_timestamp;
            self.wrong.get_or_insert_with(|| {
                format!("it says that {timestamp} is the largest timestamp, which is {found}")
            });
        }
    }

    /// The segment was walked up to `end`.
    pub(super) fn finish(mut self, end: u64, findings: &mut Findings) {
        self.boundary(end);
        if self.made_of.0 <= end
            && let Some(entry) = self.entries.front()
        {
            let position = entry.position;
            self.wrong.get_or_insert_with(|| {
                format!("its entry for position {position} lies behind the last batch")
            });
        }
        if let Some(what) = self.wrong {
            findings.problem(self.file, None, "I25", format!("{what}; {CACHE}"));
        }
    }
}
