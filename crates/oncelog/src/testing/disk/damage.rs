//! Damage that no crash explains: what a device returns is not what it was given.

use std::io;

use super::SimulatedDisk;
use super::contents::{Contents, sectors};
use super::name::check_name;
use super::page::{PAGE_BYTES, SECTOR_BYTES, Slot, copy_sectors};
use super::random::Random;

/// A kind of silent damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// One bit is wrong.
    BitFlip,
    /// A page has the contents that it had before the last time it was written.
    StalePage,
    /// A sector holds zeros.
    ZeroedSector,
    /// A page has the contents of another page of the file.
    MisplacedPage,
}

/// Where something was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// What was done.
    pub damage: Damage,
    /// The file.
    pub file: String,
    /// First byte that may be wrong.
    pub position: u64,
}

impl Contents {
    // What the device returns for a page from now on; a dirty page is still right in the cache.
    fn replace(&mut self, page: usize, slot: Slot) {
        if !self.dirty.contains_key(&page) {
            self.live.set(page, slot.clone());
        }
        self.durable.set(page, slot);
        let ends_here = self.durable_len.div_euclid(PAGE_BYTES as u64) == page as u64;
        if ends_here {
            let len = usize::try_from(self.durable_len).unwrap_or(usize::MAX);
            self.durable.cut(len);
        }
    }

    fn flip(&mut self, position: usize, xor: u8) {
        let (page, at) = (position / PAGE_BYTES, position % PAGE_BYTES);
        let mut byte = [0];
        let mut flipped = super::page::Pages::default();
        flipped.set(0, self.durable.get(page).clone());
        flipped.read(0, at, &mut byte);
        flipped.write(0, at, &[byte[0] ^ xor]);
        self.replace(page, flipped.get(0).clone());
    }
}

impl SimulatedDisk {
    /// Damages the device somewhere in a file that `may_hit` picks by its name, drawn from `seed`;
    /// `None` where there is nothing that this damage would change.
    pub fn damage(
        &self,
        seed: u64,
        damage: Damage,
        may_hit: impl Fn(&str) -> bool,
    ) -> Option<Damaged> {
        let mut random = Random::stream(seed, 1);
        let mut state = self.state();
        let mut files = state.tree.files();
        files.retain(|(path, number)| may_hit(path) && state.tree.file(*number).durable_len > 0);
        if files.is_empty() {
            return None;
        }
        let (path, number) = files.swap_remove(random.place(files.len()));
        let file = state.tree.file_mut(number);
        let len = usize::try_from(file.durable_len).unwrap_or(usize::MAX);
        let written: Vec<usize> = file.durable.written_from(0).collect();
        let page =
            |random: &mut Random, pages: &[usize]| pages.get(random.place(pages.len())).copied();
        let hash = file.durable.hash();
        let position = match damage {
            Damage::BitFlip => {
                let position = random.place(len);
                file.flip(position, 1 << random.below(8));
                position
            }
            Damage::StalePage => {
                let known: Vec<usize> = file.previous.keys().copied().collect();
                let known: Vec<usize> =
                    known.into_iter().filter(|p| p * PAGE_BYTES < len).collect();
                let page = page(&mut random, &known)?;
                let old = file.previous.get(&page).cloned().flatten();
                file.replace(page, old);
                page * PAGE_BYTES
            }
            Damage::ZeroedSector => {
                let page = page(&mut random, &written)?;
                let sector = random.place(
                    (len - page * PAGE_BYTES)
                        .min(PAGE_BYTES)
                        .div_ceil(SECTOR_BYTES),
                );
                let mut slot = file.durable.get(page).clone();
                let start = sector * SECTOR_BYTES;
                copy_sectors(&mut slot, &None, sectors(start, start + 1));
                file.replace(page, slot);
                page * PAGE_BYTES + start
            }
            Damage::MisplacedPage => {
                let from = page(&mut random, &written)?;
                let to = random.place(len.div_ceil(PAGE_BYTES));
                let slot = file.durable.get(from).clone();
                file.replace(to, slot);
                to * PAGE_BYTES
            }
        };
        if file.durable.hash() == hash {
            return None;
        }
        match damage {
            Damage::BitFlip => state.counts.bit_flips += 1,
            Damage::ZeroedSector => state.counts.zeroed_sectors += 1,
            Damage::StalePage | Damage::MisplacedPage => state.counts.stale_pages += 1,
        }
        Some(Damaged {
            damage,
            file: path,
            position: position as u64,
        })
    }

    /// Flips the bits `xor` of one byte on the device, and in the cache where that is clean.
    ///
    /// # Errors
    /// `NotFound`; `UnexpectedEof` past the end of what is durable.
    pub fn corrupt(&self, name: &str, position: u64, xor: u8) -> io::Result<()> {
        let mut state = self.state();
        check_name(name)?;
        let number = state.tree.find_file(name)?;
        let file = state.tree.file_mut(number);
        if position >= file.durable_len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.flip(usize::try_from(position).unwrap_or(usize::MAX), xor);
        state.counts.bit_flips += 1;
        Ok(())
    }

    /// Has every read of the page that holds a byte fail with EIO, until it is written again.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn make_unreadable(&self, name: &str, position: u64) -> io::Result<()> {
        let mut state = self.state();
        check_name(name)?;
        let number = state.tree.find_file(name)?;
        let page = usize::try_from(position).unwrap_or(usize::MAX) / PAGE_BYTES;
        state.tree.file_mut(number).unreadable.insert(page);
        Ok(())
    }
}
