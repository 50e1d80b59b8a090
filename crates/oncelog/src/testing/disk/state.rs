//! The state behind a disk's lock, and the steps that its calls are made of.

use std::io;

use super::contents::{self, Resize};
use super::cut::FileSystem;
use super::faults::{Dice, DiskCounts, Faults};
use super::input_output_error;
use super::trace::{Event, Recorder};
use super::tree::{self, NameChange, Tree};

#[derive(Clone)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) file_system: FileSystem,
    pub(super) faults: Faults,
    pub(super) dice: Dice,
    pub(super) counts: DiskCounts,
    /// Counts writes, and what a sync covers.
    pub(super) time: u64,
    /// Syncs that fail for certain, of files and of directories.
    pub(super) failing: (u64, u64),
    pub(super) gates: u64,
    pub(super) waiting_syncs: u64,
    pub(super) recorder: Option<Recorder>,
}

impl State {
    /// Before a call that changes something: the system writes back what it likes.
    pub(super) fn begin(&mut self) {
        let chance = self.faults.write_back;
        if chance > 0.0
            && self.file_system != FileSystem::Strict
            && self.dice.write_back.falls(chance)
        {
            self.write_back();
        }
    }

    fn write_back(&mut self) {
        let files = self.tree.unsynced_files();
        if let Some(&file) = files.get(self.dice.write_back.place(files.len())) {
            let contents = self.tree.file_mut(file);
            let dirty: Vec<usize> = contents.dirty.keys().copied().collect();
            for page in dirty {
                if self.dice.write_back.falls(0.5) {
                    contents.write_back(page);
                    self.counts.pages_written_back += 1;
                }
            }
        }
        if self.dice.write_back.falls(0.5) {
            return;
        }
        // The journal gets as far as that; a length that grew by writes takes their bytes along.
        let back = self.dice.write_back.below(16);
        let end = (self.tree.order + 1).saturating_sub(back);
        for file in files {
            let covered = |change: &contents::SizeChange| change.order < end;
            let is_due = self.tree.file(file).sizes.first().is_some_and(covered);
            if is_due {
                let contents = self.tree.file_mut(file);
                let grew = |change: &contents::SizeChange| change.how == Resize::Appended;
                if contents.sizes.iter().any(grew) {
                    for page in contents.dirty.keys().copied().collect::<Vec<_>>() {
                        contents.write_back(page);
                        self.counts.pages_written_back += 1;
                    }
                }
                contents.commit_sizes(end);
            }
        }
        let later = self.tree.pending.partition_point(|(order, _)| *order < end);
        for (_, change) in self.tree.pending.drain(..later).collect::<Vec<_>>() {
            self.tree.commit_name(&change);
        }
    }

    pub(super) fn record(&mut self, event: impl FnOnce() -> Event) {
        if let Some(recorder) = &mut self.recorder {
            recorder.push(event());
        }
    }

    // What names were changed since.
    fn record_names(&mut self, from: usize) {
        if let Some(recorder) = &mut self.recorder {
            for (_, change) in &self.tree.pending[from..] {
                if let NameChange::Link(_, node) = change {
                    let is_directory = self.tree.is_directory(*node);
                    recorder.push(Event::Created(*node, is_directory));
                }
                recorder.push(Event::Name(change.clone()));
            }
        }
    }

    pub(super) fn change_names<T>(
        &mut self,
        change: impl FnOnce(&mut Tree) -> io::Result<T>,
    ) -> io::Result<T> {
        self.begin();
        let from = self.tree.pending.len();
        let outcome = change(&mut self.tree);
        self.record_names(from);
        outcome
    }

    pub(super) fn grow(&mut self, file: u64, to: u64, how: Resize) -> io::Result<()> {
        if to <= self.tree.file(file).len {
            return Ok(());
        }
        self.may_allocate()?;
        if let Err(error) = self.tree.grow(file, to, how) {
            self.counts.no_space += 1;
            return Err(error);
        }
        self.record(|| Event::Resized(file, to, how));
        Ok(())
    }

    fn may_allocate(&mut self) -> io::Result<()> {
        if self.dice.no_space.falls(self.faults.no_space) {
            self.counts.no_space += 1;
            return Err(tree::no_space());
        }
        Ok(())
    }

    pub(super) fn reserve(&mut self, file: u64, capacity: u64) -> io::Result<()> {
        if capacity > 0
            && self
                .dice
                .reservation_errors
                .falls(self.faults.reservation_errors)
        {
            self.counts.failed_reservations += 1;
            return Err(input_output_error());
        }
        self.grow(file, capacity, Resize::Reserved)
    }

    pub(super) fn write(&mut self, file: u64, bytes: &[u8], position: u64) {
        self.time += 1;
        let changed = self.tree.file_mut(file).write(bytes, position, self.time);
        self.record_pages(file, changed);
    }

    pub(super) fn record_pages(
        &mut self,
        file: u64,
        changed: impl IntoIterator<Item = (usize, u8)>,
    ) {
        if let Some(recorder) = &mut self.recorder {
            for (page, sectors) in changed {
                let slot = self.tree.file(file).live.get(page).clone();
                recorder.push(Event::Written(file, page, slot, sectors));
            }
        }
    }
}
