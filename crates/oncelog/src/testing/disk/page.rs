//! Pages of 4 KiB in sectors of 512 bytes, shared by all images until one of them is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::random::mix;

/// Bytes of a page: what a cache keeps and writes back.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of a sector: what a device writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// Sectors of a page.
pub(super) const SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

pub(super) const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// One page's bytes, and their hash once somebody asked for it.
#[derive(Debug)]
pub(super) struct Page {
    bytes: [u8; PAGE_BYTES],
    /// 0: not known.
    hash: AtomicU64,
}

impl Clone for Page {
    fn clone(&self) -> Page {
        Page {
            bytes: self.bytes,
            hash: AtomicU64::new(0),
        }
    }
}

impl Page {
    fn zeros() -> Page {
        Page {
            bytes: ZEROS,
            hash: AtomicU64::new(0),
        }
    }

    fn hash(&self) -> u64 {
        let known = self.hash.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let words = self.bytes.as_chunks::<8>().0.iter();
        let mut lanes = [1_u64, 2, 3, 4];
        for (at, word) in words.enumerate() {
            let lane = &mut lanes[at % 4];
            *lane = (*lane ^ u64::from_be_bytes(*word)).wrapping_mul(0x9fb2_1c65_1e98_df25);
            *lane ^= *lane >> 29;
        }
        let hash = lanes.iter().fold(0, |hash, lane| mix(hash ^ lane)) | 1;
        self.hash.store(hash, Ordering::Relaxed);
        hash
    }
}

/// A page that holds only zeros is none.
pub(super) type Slot = Option<Arc<Page>>;

/// Makes `slot` the same as `from` in the sectors of a mask.
pub(super) fn copy_sectors(slot: &mut Slot, from: &Slot, mask: u8) {
    if mask == u8::MAX || slot.is_none() && from.is_none() {
        slot.clone_from(from);
        return;
    }
    let page = Arc::make_mut(slot.get_or_insert_with(|| Arc::new(Page::zeros())));
    page.hash = AtomicU64::new(0);
    let source = from.as_ref().map_or(&ZEROS, |from| &from.bytes);
    for sector in (0..SECTORS).filter(|sector| mask & (1 << sector) != 0) {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        page.bytes[range.clone()].copy_from_slice(&source[range]);
    }
}

/// The pages of a file, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Pages(Vec<Slot>);

impl Pages {
    pub(super) fn get(&self, page: usize) -> &Slot {
        self.0.get(page).unwrap_or(&None)
    }

    pub(super) fn set(&mut self, page: usize, slot: Slot) -> Slot {
        if let Some(old) = self.0.get_mut(page) {
            return std::mem::replace(old, slot);
        }
        if slot.is_some() {
            self.0.resize(page, None);
            self.0.push(slot);
        }
        None
    }

    /// Makes a page the same as `from` in the sectors of a mask.
    pub(super) fn copy_sectors(&mut self, page: usize, from: &Slot, mask: u8) {
        let mut slot = self.set(page, None);
        copy_sectors(&mut slot, from, mask);
        self.set(page, slot);
    }

    /// Writes inside of one page. Returns whether that may have changed it: zeros over zeros do not.
    pub(super) fn write(&mut self, page: usize, start: usize, bytes: &[u8]) -> bool {
        if self.get(page).is_none() && bytes == &ZEROS[..bytes.len()] {
            return false;
        }
        let mut slot = self.set(page, None);
        let whole = Arc::make_mut(slot.get_or_insert_with(|| Arc::new(Page::zeros())));
        whole.hash = AtomicU64::new(0);
        whole.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.set(page, slot);
        true
    }

    /// Reads inside of one page.
    pub(super) fn read(&self, page: usize, start: usize, into: &mut [u8]) {
        match self.get(page) {
            Some(page) => into.copy_from_slice(&page.bytes[start..start + into.len()]),
            None => into.fill(0),
        }
    }

    /// Takes away everything from a length on. Returns whether the last page had bytes behind it.
    pub(super) fn cut(&mut self, len: usize) -> bool {
        let (last, rest) = (len / PAGE_BYTES, len % PAGE_BYTES);
        self.0.truncate(len.div_ceil(PAGE_BYTES));
        let has_bytes = |page: &Arc<Page>| page.bytes[rest..] != ZEROS[rest..];
        let cut = rest > 0 && self.get(last).as_ref().is_some_and(has_bytes);
        if cut {
            self.write(last, rest, &ZEROS[rest..]);
        }
        cut
    }

    /// Numbers of the pages that hold more than zeros, from `first` on.
    pub(super) fn written_from(&self, first: usize) -> impl Iterator<Item = usize> {
        let pages = self.0.iter().enumerate().skip(first);
        pages
            .filter(|(_, slot)| slot.is_some())
            .map(|(page, _)| page)
    }

    pub(super) fn hash(&self) -> u64 {
        let hash = |page: usize| match self.get(page) {
            Some(bytes) => mix(bytes.hash() ^ page as u64),
            None => 0,
        };
        self.written_from(0)
            .fold(0, |sum: u64, page| sum.wrapping_add(hash(page)))
    }
}
