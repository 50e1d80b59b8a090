//! What a power cut leaves of what was not durable.

use super::contents::{Contents, Resize, SizeChange};
use super::faults::DiskCounts;
use super::page::{PAGE_BYTES, SECTORS, Slot, copy_sectors};
use super::random::Random;
use super::tree::Tree;

/// What a file system promises of what nobody synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileSystem {
    /// Changes of names, reservations and cuts survive in the order in which they were made, up to
    /// some point, as in a journal; a length that grew by a write survives only with the bytes
    /// written there. Pages survive in any order.
    #[default]
    Ordered,
    /// Every page, every length and every name survives or does not, whatever becomes of others.
    Loose,
    /// Everything survives, or nothing does.
    Strict,
}

/// How much a power cut takes.
#[derive(Debug, Clone, Copy)]
struct Mood {
    kept: f64,
    torn: f64,
}

impl Mood {
    fn draw(random: &mut Random) -> Mood {
        let moods = [
            (0.5, 0.3),
            (0.5, 0.3),
            (0.9, 0.1),
            (0.1, 0.1),
            (0.0, 0.0),
            (1.0, 0.0),
        ];
        let (kept, torn) = moods[random.place(moods.len())];
        Mood { kept, torn }
    }
}

/// Leaves in both views of a tree what survives.
pub(super) fn cut_power(
    tree: &mut Tree,
    file_system: FileSystem,
    random: &mut Random,
    counts: &mut DiskCounts,
) {
    counts.power_cuts += 1;
    let mood = match file_system {
        FileSystem::Strict if random.falls(0.5) => Mood {
            kept: 1.0,
            torn: 0.0,
        },
        FileSystem::Strict => Mood {
            kept: 0.0,
            torn: 0.0,
        },
        _ => Mood::draw(random),
    };
    // The journal ends here: what was changed later is lost.
    let journal_end = match file_system {
        FileSystem::Ordered => Some(journal_end(tree, mood, random)),
        FileSystem::Loose | FileSystem::Strict => None,
    };
    for (order, change) in std::mem::take(&mut tree.pending) {
        let is_kept = match journal_end {
            Some(end) => order < end,
            None => random.falls(mood.kept),
        };
        if is_kept {
            tree.commit_name(&change);
        } else {
            counts.names_lost += 1;
        }
    }
    for file in tree.unsynced_files() {
        cut_file(tree.file_mut(file), journal_end, mood, random, counts);
    }
    tree.settle_names();
}

fn journal_end(tree: &Tree, mood: Mood, random: &mut Random) -> u64 {
    let first = tree.pending.first().map(|(order, _)| *order);
    let sizes = tree.unsynced_files().into_iter();
    let sizes = sizes.filter_map(|file| tree.file(file).sizes.first().map(|change| change.order));
    let first = sizes.chain(first).min().unwrap_or(tree.order);
    let end = tree.order + 1;
    match mood.kept {
        0.0 => first,
        1.0 => end,
        _ => first + random.below(end - first + 1),
    }
}

fn cut_file(
    file: &mut Contents,
    journal_end: Option<u64>,
    mood: Mood,
    random: &mut Random,
    counts: &mut DiskCounts,
) {
    let mut len = file.durable_len;
    // Bytes that are there because the length says so.
    let mut promised = 0..0;
    for change in std::mem::take(&mut file.sizes) {
        let is_kept = match (journal_end, change.how) {
            (Some(end), Resize::Reserved | Resize::Cut) => change.order < end,
            _ => random.falls(mood.kept),
        };
        if !is_kept {
            counts.lengths_lost += 1;
            continue;
        }
        let to = match (journal_end, change.how) {
            (Some(_), Resize::Appended) => {
                let to = appended_to(len, change, mood, random);
                if promised.is_empty() {
                    promised.start = len;
                }
                promised.end = to;
                to
            }
            _ => change.to,
        };
        if to < len {
            file.durable.cut(usize::try_from(to).unwrap_or(usize::MAX));
        }
        len = to;
    }
    for page in std::mem::take(&mut file.dirty).into_keys() {
        let start = (page * PAGE_BYTES) as u64;
        let must_survive = start + PAGE_BYTES as u64 > promised.start && start < promised.end;
        if must_survive || random.falls(mood.kept) {
            counts.pages_kept += 1;
            let slot = file.live.get(page).clone();
            file.durable.set(page, slot);
        } else if random.falls(mood.torn) {
            counts.pages_torn += 1;
            let torn = torn(file.durable.get(page), file.live.get(page), random);
            file.durable.set(page, torn);
        } else {
            counts.pages_lost += 1;
        }
    }
    file.settle(len);
}

// A length that grows by writes becomes durable page by page.
fn appended_to(len: u64, change: SizeChange, mood: Mood, random: &mut Random) -> u64 {
    let page = PAGE_BYTES as u64;
    if mood.kept >= 1.0 || change.to <= len || random.falls(0.5) {
        return change.to;
    }
    let pages = (change.to - len).div_ceil(page);
    let end = (len / page + 1 + random.below(pages)) * page;
    end.min(change.to)
}

// The first sectors, the last ones, or any.
fn torn(old: &Slot, new: &Slot, random: &mut Random) -> Slot {
    let sector = 1 + random.place(SECTORS - 1);
    let first = u8::MAX >> (SECTORS - sector);
    let mask = match random.below(3) {
        0 => first,
        1 => !first,
        _ => u8::try_from(random.below(256)).unwrap_or(first),
    };
    let mut torn = old.clone();
    copy_sectors(&mut torn, new, mask);
    torn
}
