//! A log made anew of what is whole of it: in a directory of its own, which then takes the place of
//! the damaged one. That is kept.

use std::io;
use std::sync::Arc;

use partition_log::snapshot;
use segment_storage::{
    Check, Disk, Footer, LogStart, Marks, StableMark, footer, names, state_file,
};

use super::survey::{Run, Survey};
use super::{RepairError, io as io_error};
use crate::backup::files;
use crate::config::{Ack, TopicConfig};
use crate::given_up;

/// Ends the name of a log that is being made.
pub(super) const UNFINISHED: &str = ".repair";
/// In the names of what was set aside, before a number. No log has such a name: those end in `-`
/// and a number.
pub(crate) const ASIDE: &str = ".damaged.";

/// Further than any offset that was shown can be ahead of what is durable, where the ceiling is lost.
const JUMP: u64 = 1 << 33;

/// The first name that is free for something that is set aside.
///
/// # Errors
/// When the directory cannot be listed.
pub(super) fn free_name(disk: &Arc<dyn Disk>, name: &str) -> Result<String, RepairError> {
    let entries = disk.list("").map_err(|e| io_error(disk, "", e))?;
    let mut number = 0;
    loop {
        number += 1;
        let free = format!("{name}{ASIDE}{number}");
        if !entries.iter().any(|entry| entry.name == free) {
            return Ok(free);
        }
    }
}

/// What of the rest of the directory a log needs.
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a TopicConfig,
    /// Every producer id that was handed out is below.
    pub(super) id_bound: i64,
    pub(super) generation: i32,
    pub(super) elapsed_ms: u64,
}

/// Makes the log anew, durably, and puts it in its place; returns where the damaged one is kept.
/// Interrupted anywhere, it can be done again.
///
/// # Errors
/// What the disk says.
pub(super) fn rebuild(
    survey: &Survey,
    around: &Surroundings<'_>,
) -> Result<Option<String>, RepairError> {
    let disk = &survey.place.disk;
    let name = survey.place.directory.to_string();
    let new = format!("{name}{UNFINISHED}");
    let fail = |e| io_error(disk, &new, e);
    match disk.remove_directory(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
        _ => {}
    }
    disk.create_directory(&new).map_err(fail)?;
    make(survey, around, &new).map_err(fail)?;
    disk.sync_names("").map_err(fail)?;
    let is_there = disk.list(&name).is_ok();
    let aside = if is_there {
        let aside = free_name(disk, &name)?;
        disk.rename(&name, &aside).map_err(fail)?;
        Some(aside)
    } else {
        None
    };
    // In between the log is there under its unfinished name alone; the next repair finds it.
    disk.rename(&new, &name)
        .and_then(|()| disk.sync_names(""))
        .map_err(fail)?;
    Ok(aside)
}

fn make(survey: &Survey, around: &Surroundings<'_>, new: &str) -> io::Result<()> {
    let (disk, log_id) = (&survey.place.disk, survey.place.log_id);
    let start = start(survey, around);
    let mut previous_end = start.offset;
    let mut last = None;
    for run in &survey.runs {
        previous_end = previous_end.min(run.offsets.0);
        let footer = make_segment(survey, run, (new, previous_end), around.elapsed_ms)?;
        previous_end = footer.next_offset;
        last = Some(footer);
    }
    let lost = || {
        survey
            .given_up
            .iter()
            .filter_map(|given_up| given_up.offsets)
    };
    let mut ranges = survey.given_up_before.clone();
    let mut end = start.offset;
    for run in &survey.runs {
        let (from, to) = (end, run.offsets.0);
        if lost().any(|(first, last)| first < to && last > from) {
            ranges.push((from, to));
        }
        end = run.offsets.1;
    }
    ranges.extend(
        lost()
            .filter(|(_, to)| *to > end)
            .map(|(from, to)| (from.max(end), to)),
    );
    ranges.sort_unstable();
    ranges.dedup();
    let first_lost = lost().map(|(from, _)| from).min();
    if !ranges.is_empty() {
        given_up::write(disk, new, log_id, ranges)?;
    }
    let end = survey.end();
    for offset in snapshot::list(&survey.place).unwrap_or_default() {
        // Later ones remember batches that are given up.
        if offset <= end && first_lost.is_none_or(|lost| offset <= lost) {
            let name = names::snapshot(offset);
            let file = disk.open(&survey.place.path(&name))?;
            files::copy_range(&*file, (0, file.len()), disk, &names::join(new, &name))?;
        }
    }
    let mark = mark(survey, around, last);
    // The marks come last: with them the directory is a whole log.
    disk.sync_names(new)?;
    Marks::create_with(disk, new, &mark, mark.jump_to, &start)?;
    disk.sync_names(new)
}

fn make_segment(
    survey: &Survey,
    run: &Run,
    (new, previous_end): (&str, u64),
    elapsed_ms: u64,
) -> io::Result<Footer> {
    let (disk, base) = (&survey.place.disk, run.offsets.0);
    let from = survey.place.path(&run.file);
    let to = names::join(new, &names::segment(base));
    let is_linked = run.is_whole_file && files::link(disk, disk, (&from, &to))?;
    if !is_linked {
        let file = disk.open(&from)?;
        files::copy_range(&*file, run.range, disk, &to)?;
    }
    let file = disk.open(&to)?;
    let whole = (survey.place.log_id, base, previous_end);
    let made = Footer::of(&*file, whole, file.len(), Check::Crc);
    let (made, _) = made.map_err(io::Error::other)?;
    let footer = Footer {
        last_append_ms: run.last_append_ms.unwrap_or(elapsed_ms),
        ..made
    };
    let (magic, version) = (footer::MAGIC, footer::VERSION);
    state_file::write(&**disk, new, &names::footer(base), magic, version, &footer)?;
    Ok(footer)
}

// What is not known is taken for the worst: more is refused than had to be, nothing accepted that
// must not be.
fn start(survey: &Survey, around: &Surroundings<'_>) -> LogStart {
    let first = survey
        .runs
        .first()
        .map_or(survey.known_end, |run| run.offsets.0);
    let known = survey.marks.start;
    LogStart {
        log_id: survey.place.log_id,
        offset: known.map_or(first, |start| start.offset),
        history_from: known.map_or(0, |start| start.history_from),
        strict_below: around
            .id_bound
            .max(known.map_or(0, |start| start.strict_below)),
        forgotten_below: known.map_or(-1, |start| start.forgotten_below),
    }
}

fn mark(survey: &Survey, around: &Surroundings<'_>, last: Option<Footer>) -> StableMark {
    let end = survey.end();
    let is_ceiling_lost = survey.marks.ceiling.is_none() || survey.marks.mark.is_none();
    let is_clean = survey.marks.mark.is_some_and(|mark| mark.clean);
    let ahead = match around.config.ack() {
        // Nothing is shown there before it is durable.
        Ack::Synced => 0,
        _ if is_ceiling_lost && !is_clean => JUMP,
        _ => 0,
    };
    // No offset that may have been shown is given out again (I9).
    let jump = survey.known_end.max(end.saturating_add(ahead));
    StableMark {
        log_id: survey.place.log_id,
        segment_base: last.map_or(0, |footer| footer.base_offset),
        position: last.map_or(0, |footer| footer.bytes),
        next_offset: end,
        previous_end: last.map_or(end, |footer| footer.previous_end),
        jump_to: if jump > end { jump } else { 0 },
        generation: around.generation,
        clean: true,
        last_append_ms: last.map_or(0, |footer| footer.last_append_ms),
    }
}
