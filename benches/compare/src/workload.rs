//! The one workload: what a call appends, and how what is read back is known to be it.

use std::ops::Range;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

/// Different values in a pool; a multiple of the records of every call.
const VALUES: usize = 700;

/// What is measured: records of a call and their size, who calls, and what a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Whether each call returns after a sync; else once the system has the bytes.
    pub(crate) synced: bool,
    /// Threads that append to the same log.
    pub(crate) callers: u32,
    /// Bytes of each value.
    pub(crate) size: usize,
    /// Records of one call.
    pub(crate) records: usize,
}

/// The four shapes of a call.
const SHAPES: [(usize, usize); 4] = [(1, 100), (100, 100), (1, 1_024), (100, 1_024)];

impl Cell {
    const fn new(synced: bool, callers: u32, (records, size): (usize, usize)) -> Cell {
        Cell {
            synced,
            callers,
            size,
            records,
        }
    }

    /// All cells, in the order of the document.
    pub(crate) fn all() -> Vec<Cell> {
        let mut cells = SHAPES.map(|shape| Cell::new(false, 1, shape)).to_vec();
        cells.extend(SHAPES.map(|shape| Cell::new(true, 1, shape)));
        for callers in [16, 256] {
            cells.extend(SHAPES[..2].iter().map(|s| Cell::new(true, callers, *s)));
        }
        cells
    }

    /// `100 x 1 KiB`.
    pub(crate) fn shape(&self) -> String {
        let size = if self.size.is_multiple_of(1_024) {
            format!("{} KiB", self.size / 1_024)
        } else {
            format!("{} B", self.size)
        };
        format!("{} x {size}", self.records)
    }

    /// `memory, 1 x 100 B` or `synced, 16 callers, 1 x 100 B`.
    pub(crate) fn name(&self) -> String {
        match (self.synced, self.callers) {
            (false, _) => format!("memory, {}", self.shape()),
            (true, 1) => format!("synced, {}", self.shape()),
            (true, callers) => format!("synced, {callers} callers, {}", self.shape()),
        }
    }
}

/// Values that no compression makes smaller. Each begins with its number, so that a value that is
/// read says which one it should be.
pub(crate) struct Pool {
    bytes: Vec<u8>,
    size: usize,
}

impl Pool {
    /// The same values each time, `size` bytes each (at least 8).
    pub(crate) fn new(size: usize) -> Pool {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(VALUES * size);
        for number in 0..VALUES as u64 {
            let end = bytes.len() + size;
            bytes.extend(number.to_be_bytes());
            while bytes.len() < end {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let left = end - bytes.len();
                bytes.extend(&state.to_be_bytes()[..left.min(8)]);
            }
        }
        Pool { bytes, size }
    }

    /// The values, in their order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.size)
    }

    /// Some values, back to back.
    pub(crate) fn joined(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.start * self.size..range.end * self.size]
    }

    fn number(&self, value: &[u8]) -> anyhow::Result<usize> {
        let first = value.first_chunk().context("a value is too short")?;
        let number = usize::try_from(u64::from_be_bytes(*first))?;
        let wanted = self.values().nth(number);
        ensure!(wanted == Some(value), "value {number} was changed");
        Ok(number)
    }
}

/// The ranges of a caller's calls, one after the other, for ever.
#[derive(Default)]
pub(crate) struct Calls(usize);

impl Calls {
    pub(crate) fn next(&mut self, records: usize) -> Range<usize> {
        let start = self.0;
        self.0 = (start + records) % VALUES;
        start..start + records
    }
}

/// Compares what is read with what was appended: count and content, and with one caller the order.
pub(crate) struct Check<'a> {
    pool: &'a Pool,
    ordered: bool,
    wanted: Vec<u64>,
    seen: Vec<u64>,
    next: usize,
}

impl<'a> Check<'a> {
    /// `calls` is the number of calls of each caller.
    pub(crate) fn new(pool: &'a Pool, calls: &[u64], records: usize) -> Check<'a> {
        let mut wanted = vec![0; VALUES];
        for calls in calls {
            let all = calls * records as u64;
            let (rounds, rest) = (all / VALUES as u64, all % VALUES as u64);
            for (number, wanted) in (0..).zip(&mut wanted) {
                *wanted += rounds + u64::from(number < rest);
            }
        }
        Check {
            pool,
            ordered: calls.len() == 1,
            wanted,
            seen: vec![0; VALUES],
            next: 0,
        }
    }

    pub(crate) fn see(&mut self, value: &[u8]) -> anyhow::Result<()> {
        let number = self.pool.number(value)?;
        if self.ordered {
            ensure!(number == self.next, "{number} instead of {}", self.next);
            self.next = (self.next + 1) % VALUES;
        }
        self.seen[number] += 1;
        Ok(())
    }

    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        let (wanted, seen): (u64, u64) = (self.wanted.iter().sum(), self.seen.iter().sum());
        ensure!(seen == wanted, "{wanted} records appended, {seen} found");
        ensure!(self.seen == self.wanted, "other records than appended");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pool: &Pool, check: &mut Check<'_>, count: usize) -> anyhow::Result<()> {
        let values: Vec<&[u8]> = pool.values().collect();
        (0..count).try_for_each(|at| check.see(values[at % VALUES]))
    }

    #[test]
    fn what_was_appended_passes_and_one_less_or_more_does_not() {
        let pool = Pool::new(100);
        for (count, good) in [(900, true), (899, false), (901, false), (200, false)] {
            let mut check = Check::new(&pool, &[9], 100);
            read(&pool, &mut check, count).unwrap();
            assert_eq!(check.finish().is_ok(), good, "{count}");
        }
    }

    #[test]
    fn a_changed_and_a_moved_value_are_found() {
        let pool = Pool::new(100);
        let mut changed = pool.values().next().unwrap().to_vec();
        changed[99] ^= 1;
        assert!(Check::new(&pool, &[1], 1).see(&changed).is_err());
        let second = pool.values().nth(1).unwrap();
        assert!(Check::new(&pool, &[2], 1).see(second).is_err());
        assert!(Check::new(&pool, &[2, 2], 1).see(second).is_ok());
    }

    #[test]
    fn several_callers_make_a_sum() {
        let pool = Pool::new(1_024);
        let mut check = Check::new(&pool, &[7, 8], 100);
        read(&pool, &mut check, 700).unwrap();
        read(&pool, &mut check, 800).unwrap();
        check.finish().unwrap();
    }
}
