//! A crash at one place of a trace, and the disks that it may leave.

use super::SimulatedDisk;
use super::page::SECTORS;
use super::trace::{Event, Trace};
use super::tree::Tree;

/// What becomes of one thing that was done and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nothing of it survives.
    Lost,
    /// It survives.
    Whole,
    /// Of a write to a page, these sectors survive; anything else is lost.
    Sectors(u8),
}

/// A crash after the first things of a trace. [`Crash::advance`] moves it to the next place.
#[derive(Clone)]
pub struct Crash<'t> {
    trace: &'t Trace,
    position: usize,
    /// What is durable by then.
    tree: Tree,
    /// Things that were done and are not durable.
    unsynced: Vec<usize>,
}

impl Trace {
    /// A crash before anything of the trace was done.
    pub fn crash_at_start(&self) -> Crash<'_> {
        Crash {
            trace: self,
            position: 0,
            tree: self.base.clone(),
            unsynced: Vec::new(),
        }
    }
}

impl Crash<'_> {
    /// How much of the trace was done.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Has one more thing done before the crash; `false` at the end of the trace.
    pub fn advance(&mut self) -> bool {
        let Some(event) = self.trace.events.get(self.position) else {
            return false;
        };
        let events = &self.trace.events;
        let tree = &mut self.tree;
        match event {
            Event::Created(number, is_directory) => tree.add_nameless(*number, *is_directory),
            Event::Name(_) | Event::Resized(..) | Event::Written(..) => {
                self.unsynced.push(self.position);
            }
            Event::Synced(file, begun_at) => {
                self.unsynced.retain(|&at| {
                    let covered = at < *begun_at && file_of(&events[at]) == Some(*file);
                    if covered {
                        apply(tree, &events[at], u8::MAX);
                    }
                    !covered
                });
                tree.settle_file(*file);
            }
            Event::NamesSynced(directory) => {
                self.unsynced.retain(|&at| {
                    let Event::Name(change) = &events[at] else {
                        return true;
                    };
                    let covered = change.directories().contains(directory);
                    if covered {
                        tree.commit_name(change);
                    }
                    !covered
                });
            }
        }
        self.position += 1;
        true
    }

    /// How many things were done and are not durable.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The sectors that the unsynced thing `item` wrote, a bit for each; 0 for what is no write.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn sectors(&self, item: usize) -> u8 {
        match &self.trace.events[self.unsynced[item]] {
            Event::Written(_, _, _, sectors) => *sectors,
            _ => 0,
        }
    }

    /// The unsynced thing `item`, for people.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn describe(&self, item: usize) -> String {
        let at = self.unsynced[item];
        format!("{at}: {}", self.trace.describe(at))
    }

    /// The disk that is left when of each unsynced thing, oldest first, that survives which `kept`
    /// says. Lengths and names are independent here, as on [`FileSystem::Loose`].
    ///
    /// [`FileSystem::Loose`]: super::FileSystem::Loose
    pub fn image(&self, kept: impl Fn(usize) -> Kept) -> SimulatedDisk {
        let mut tree = self.tree.clone();
        let mut files = Vec::new();
        for (item, &at) in self.unsynced.iter().enumerate() {
            let event = &self.trace.events[at];
            let sectors = match kept(item) {
                Kept::Lost => continue,
                Kept::Whole => u8::MAX,
                Kept::Sectors(sectors) => sectors,
            };
            if sectors != u8::MAX && !matches!(event, Event::Written(..)) {
                continue;
            }
            apply(&mut tree, event, sectors);
            files.extend(file_of(event));
        }
        for file in files {
            tree.settle_file(file);
        }
        tree.settle_names();
        SimulatedDisk::with_tree(tree)
    }

    /// The disk that a process finds which starts after the one before was killed here: everything
    /// is there, and what was not synced still is not.
    pub fn killed(&self) -> SimulatedDisk {
        let mut tree = self.tree.clone();
        tree.show_durable_names();
        for (time, &at) in (1..).zip(&self.unsynced) {
            match &self.trace.events[at] {
                Event::Name(change) => tree.change(change.clone()),
                Event::Resized(file, to, how) => tree.resize(*file, *to, *how, time),
                Event::Written(file, page, slot, sectors) => {
                    let file = tree.file_mut(*file);
                    file.live.copy_sectors(*page, slot, *sectors);
                    file.dirty.insert(*page, time);
                }
                Event::Created(..) | Event::Synced(..) | Event::NamesSynced(_) => {}
            }
        }
        tree.forget_unnamed();
        SimulatedDisk::with_tree(tree)
    }
}

fn file_of(event: &Event) -> Option<u64> {
    match event {
        Event::Resized(file, ..) | Event::Written(file, ..) => Some(*file),
        _ => None,
    }
}

// Makes a thing durable, or some sectors of it.
fn apply(tree: &mut Tree, event: &Event, kept: u8) {
    match event {
        Event::Name(change) => tree.commit_name(change),
        Event::Resized(file, to, _) => tree.file_mut(*file).resize_durable(*to),
        Event::Written(file, page, slot, sectors) => {
            let durable = &mut tree.file_mut(*file).durable;
            durable.copy_sectors(*page, slot, sectors & kept);
        }
        Event::Created(..) | Event::Synced(..) | Event::NamesSynced(_) => {}
    }
}

/// The first `count` of the sectors in a mask.
pub(super) fn first_sectors(mask: u8, count: usize) -> u8 {
    let set = (0..SECTORS).filter(|sector| mask & (1 << sector) != 0);
    set.take(count).fold(0, |first, sector| first | 1 << sector)
}

impl Kept {
    /// Of a write to `sectors`, the first `count` of them.
    pub fn first(sectors: u8, count: usize) -> Kept {
        Kept::Sectors(first_sectors(sectors, count))
    }
}
