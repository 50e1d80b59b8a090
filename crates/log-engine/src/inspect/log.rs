//! One log: its marks, then its files in the order of offsets.

use std::sync::Arc;

use segment_storage::{
    DirectoryEntry, Disk, Footer, Marks, Place, StateFileError, footer, marks, names, state_file,
};

use super::findings::Findings;
use super::marks::{self as known, Look};
use super::producers::Producers;
use super::segments::{Certain, End, Segments};
use super::snapshots::Snapshots;
use super::verify::Depth;
use crate::config::TopicConfig;
use crate::directory;
use crate::given_up;

/// How often a log in which something is wrong is looked at: a running writer may have changed it
/// meanwhile.
const LOOKS: usize = 5;

/// A log to check.
pub(super) struct Target {
    pub(super) directory: String,
    /// `None` where the list of topics cannot be read, nor what the producers may do.
    pub(super) topic: Option<(u128, TopicConfig)>,
}

/// Checks a log. What is reported was so while nothing of the log changed, or each time.
pub(super) fn check(disk: &Arc<dyn Disk>, target: &Target, depth: Depth) -> Findings {
    let mut looks = 0;
    loop {
        looks += 1;
        let before = Look::at(disk, &target.directory);
        let findings = look(disk, target, depth);
        let changed = || before != Look::at(disk, &target.directory);
        if findings.is_clean() || looks == LOOKS || !changed() {
            return findings;
        }
    }
}

fn look(disk: &Arc<dyn Disk>, target: &Target, depth: Depth) -> Findings {
    let mut findings = Findings::default();
    let mut place = Place {
        disk: disk.clone(),
        directory: target.directory.as_str().into(),
        log_id: 0,
    };
    let log_id = target.topic.as_ref().map(|(log_id, _)| *log_id);
    // The marks come first: all that they name is there already when the rest is looked at.
    let known = known::read(&place, log_id, &mut findings);
    let own_id = known.mark.map(|mark| mark.log_id);
    place.log_id = log_id.or(own_id).unwrap_or(0);
    let entries = match disk.list(&target.directory) {
        Ok(entries) => entries,
        Err(source) => {
            let what = format!("the log's folder cannot be read: {source}");
            findings.problem(place.display(""), None, "I24", what);
            return findings;
        }
    };
    let newest = directory::read_generation(disk).map_or(i32::MAX, |(generation, _)| generation);
    let bound = pid_allocator::inspect(disk).ok().map(|(bound, _)| bound);
    let config = target.topic.as_ref().map(|(_, config)| config.partition());
    let producers = config.as_ref().map(|config| {
        let mut producers = Producers::new(config, bound);
        if known.is_data_deleted() {
            producers.miss_beginnings();
        }
        producers
    });
    let start = (known.start_offset(), known.is_data_deleted());
    let is_known = config.is_some();
    let mut snapshots = Snapshots::new(
        place.clone(),
        config.unwrap_or_default(),
        known::snapshots(&place),
        start,
    );
    if !is_known {
        snapshots.lose_track();
    }
    if let Some(mark) = known.mark
        && mark.generation > newest
    {
        let file = place.display(marks::FILE);
        let what = format!(
            "generation {} wrote the stable mark, but the directory's newest is {newest}",
            mark.generation
        );
        findings.problem(file, None, "I22", what);
    }
    let given_up = given_up::read(disk, &target.directory, place.log_id);
    let mut segments = Segments::new(place, (known, newest), depth, producers, snapshots);
    match given_up {
        Ok(ranges) => segments.given_up = ranges,
        Err(error) => {
            let file = segments.place.display(given_up::FILE);
            findings.problem(file, None, "I24", error.to_string());
        }
    }
    LogCheck { segments, findings }.run(&entries)
}

struct LogCheck {
    segments: Segments,
    findings: Findings,
}

impl LogCheck {
    fn run(mut self, entries: &[DirectoryEntry]) -> Findings {
        self.look_at_names(entries);
        let bases: Vec<u64> = entries
            .iter()
            .filter_map(|entry| names::offset_of(&entry.name, "log"))
            .collect();
        let known = self.segments.known;
        let mut missing = self.missing_at_mark(&bases);
        for (at, &base) in bases.iter().enumerate() {
            if missing.take_if(|missing| *missing < base).is_some() {
                self.segments.lose_track();
            }
            let is_below_start = bases.get(at + 1).is_some_and(|next| {
                known.start.is_some_and(|start| *next <= start.offset)
                    && known.mark.is_some_and(|mark| base < mark.segment_base)
            });
            if is_below_start {
                let file = self.segments.place.display(&names::segment(base));
                self.findings.note(format!(
                    "{file}: it lies below the log's start; opening for writing removes it"
                ));
            } else {
                self.segment(base);
            }
        }
        if missing.is_some() {
            self.segments.lose_track();
        }
        for entry in entries {
            if names::is_prepared(&entry.name) {
                self.prepared(&entry.name);
            }
        }
        self.finish()
    }

    fn finish(self) -> Findings {
        let LogCheck {
            segments,
            mut findings,
        } = self;
        let log = segments.place.directory.clone();
        if segments.above > 0 {
            findings.note(format!(
                "{log}: {} bytes in whole batches lie above the stable mark; they are being \
                 written, or opening for writing recovers them",
                segments.above
            ));
        }
        let end = segments.known.end(segments.certain_end);
        segments.snapshots.finish(end, &mut findings);
        if let Some(producers) = segments.producers {
            producers.finish(&log, &mut findings);
        }
        findings
    }

    fn segment(&mut self, base: u64) {
        let (place, known) = (self.segments.place.clone(), self.segments.known);
        let name = names::segment(base);
        let shown = place.display(&name);
        let is_below_mark = known.mark.is_some_and(|mark| base < mark.segment_base);
        let footer = self.footer(base, is_below_mark);
        let file = match place.disk.open(&place.path(&name)) {
            Ok(file) => file,
            Err(source) => {
                if !known::is_start_moved(&place, &known) {
                    let what = format!("cannot be opened: {source}");
                    self.findings.problem(shown, None, "I27", what);
                }
                self.segments.lose_track();
                return;
            }
        };
        let at_mark = known.mark.filter(|mark| mark.segment_base == base);
        let bytes = match (&footer, at_mark) {
            (Some(footer), _) => footer.bytes,
            (None, Some(mark)) => mark.position,
            (None, None) if is_below_mark => file.len(),
            (None, None) => 0,
        };
        let is_too_long = match (&footer, at_mark) {
            (Some(_), _) => file.len() > bytes,
            (None, mark) => mark.is_some_and(|mark| mark.clean) && file.len() > bytes,
        };
        if file.len() < bytes || is_too_long {
            let found = file.len();
            let what = format!("expected {bytes} bytes, found {found}");
            let at = bytes.min(found);
            self.findings.problem(shown, at, "R12", what);
        }
        let previous_end = footer
            .map(|footer| footer.previous_end)
            .or(at_mark.map(|mark| mark.previous_end));
        let certain = Certain {
            base_offset: base,
            file: &*file,
            footer,
            previous_end,
            bytes: bytes.min(file.len()),
        };
        let mut above = (0, base);
        if bytes > 0 {
            self.segments.check_continues(&certain, &mut self.findings);
            self.segments.walk(&certain, &mut self.findings);
            let End::At(end, _) = self.segments.end else {
                return;
            };
            above = (certain.bytes, end);
        }
        if footer.is_none() && !is_below_mark && !is_too_long {
            self.segments
                .walk_above(&name, &file, above, &mut self.findings);
        }
    }

    // Damaged or missing footers of sealed segments are no crash's doing: they are synced before
    // the mark passes (R15), and get their name when they are whole (R17).
    fn footer(&mut self, base: u64, is_sealed: bool) -> Option<Footer> {
        let place = &self.segments.place;
        let name = names::footer(base);
        let path = place.path(&name);
        let read = state_file::read::<Footer>(&*place.disk, &path, footer::MAGIC, footer::VERSION);
        let rebuilt = "opening for writing checks the segment by its CRCs alone and makes it anew";
        let (invariant, what) = match read {
            Ok(Some(found)) if found.log_id != place.log_id && place.log_id != 0 => {
                let (found, expected) = (found.log_id, place.log_id);
                let what = format!("it belongs to log {found:032x}, expected {expected:032x}");
                ("I26", what)
            }
            Ok(Some(found)) if found.base_offset != base => {
                let found = found.base_offset;
                ("R12", format!("it is of the segment at {found}; {rebuilt}"))
            }
            Ok(Some(found)) => return Some(found),
            Ok(None) if !is_sealed || known::is_start_moved(place, &self.segments.known) => {
                return None;
            }
            Ok(None) => {
                let what = format!("the footer of a sealed segment is missing; {rebuilt}");
                ("R12", what)
            }
            Err(StateFileError::Codec { source, .. }) => ("R12", format!("{source}; {rebuilt}")),
            Err(error) => ("I27", error.to_string()),
        };
        let file = place.display(&name);
        self.findings.problem(file, None, invariant, what);
        None
    }

    // The segment that the mark is in, when it is not there.
    fn missing_at_mark(&mut self, bases: &[u64]) -> Option<u64> {
        let mark = self.segments.known.mark?;
        let base = mark.segment_base;
        if mark.position == 0 || bases.contains(&base) {
            return None;
        }
        let file = self.segments.place.display(&names::segment(base));
        let what = format!(
            "it is missing; the stable mark is at byte {} of it (offset {})",
            mark.position, mark.next_offset
        );
        self.findings.problem(file, None, "I24", what);
        Some(base)
    }

    // A segment may be written before it has its own name, and is adopted by recovery.
    fn prepared(&mut self, name: &str) {
        let place = &self.segments.place;
        let file = match place.disk.open(&place.path(name)) {
            Ok(file) => file,
            // A writer gave it its own name, or removed it.
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return,
            Err(source) => {
                let what = format!("cannot be opened: {source}");
                self.findings
                    .problem(place.display(name), None, "I27", what);
                return;
            }
        };
        let mut head = [0; 8];
        if file.read_at(&mut head, 0).is_ok()
            && let Ok(offset) = u64::try_from(i64::from_be_bytes(head))
        {
            self.segments
                .walk_above(name, &file, (0, offset), &mut self.findings);
        }
    }

    fn look_at_names(&mut self, entries: &[DirectoryEntry]) {
        let place = self.segments.place.clone();
        let has = |name: String| entries.iter().any(|entry| entry.name == name);
        for entry in entries {
            let (name, shown) = (&entry.name, place.display(&entry.name));
            if let Some(base) = names::offset_of(name, "footer") {
                let segment = names::segment(base);
                if !has(segment.clone()) {
                    let what = format!("it is missing, but its footer {shown} is there");
                    self.findings
                        .problem(place.display(&segment), None, "I24", what);
                }
            } else if let Some(base) = names::offset_of(name, "index") {
                if !has(names::segment(base)) {
                    self.findings
                        .note(format!("{shown}: an index without its segment; not used"));
                }
            } else if name == marks::FILE {
                if entry.len != Marks::BYTES {
                    let (found, expected) = (entry.len, Marks::BYTES);
                    let what = format!("expected {expected} bytes, found {found}");
                    self.findings.problem(shown, None, "R14", what);
                }
            } else if name.ends_with(state_file::TEMPORARY_SUFFIX) {
                self.findings.note(format!(
                    "{shown}: being written, or left by a crash; not used"
                ));
            } else if names::offset_of(name, "log").is_none()
                && names::offset_of(name, "snapshot").is_none()
                && !names::is_prepared(name)
                && name != partition_log::spill::FILE
                && name != given_up::FILE
            {
                self.findings
                    .note(format!("{shown}: not a file of oncelog; not used"));
            }
        }
    }
}
