//! One open file of a simulated disk.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use log_engine::storage::{DiskFile, Prepare};

use super::contents::Resize;
use super::state::State;
use super::trace::Event;
use super::{SimulatedDisk, input_output_error, take_one};

/// Largest write, in bytes, that the real disk copies into reserved blocks: such a store never
/// fails, while others are system calls.
const STORE_BYTES_MAX: usize = 16 * 1024;

/// A handle; the contents are in the disk's tree.
pub(super) struct SimulatedFile {
    disk: SimulatedDisk,
    file: u64,
    published: AtomicU64,
    is_cut: AtomicBool,
}

impl SimulatedFile {
    pub(super) fn new(disk: SimulatedDisk, file: u64) -> Self {
        Self {
            disk,
            file,
            published: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
        }
    }

    // Published bytes are final, and a file that was cut takes none.
    fn check_write(&self, position: u64) -> io::Result<()> {
        if self.is_cut.load(Ordering::Acquire) {
            return Err(refused("the file was cut and takes no writes"));
        }
        if position < self.published() {
            return Err(refused("the write begins below the published end"));
        }
        Ok(())
    }

    fn read_into(&self, state: &mut State, position: u64, into: &mut [u8]) -> io::Result<()> {
        let file = state.tree.file(self.file);
        let end = end_of(position, into.len())?;
        if end > file.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if file.is_unreadable(position, into.len()) {
            state.counts.read_errors += 1;
            return Err(input_output_error());
        }
        file.read(position, into);
        Ok(())
    }
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> u64 {
        self.disk.state().tree.file(self.file).len
    }

    fn write_at(&self, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
        let bytes = head.len() + body.len();
        let end = end_of(position, bytes)?;
        let mut state = self.disk.state();
        self.check_write(position)?;
        state.begin();
        let (len, reserved) = {
            let file = state.tree.file(self.file);
            (file.len, file.reserved)
        };
        let is_store = end <= reserved && bytes <= STORE_BYTES_MAX;
        let State { dice, faults, .. } = &mut *state;
        let is_short = !is_store && bytes > 0 && dice.short_writes.falls(faults.short_writes);
        // What is written of the whole; all that space is needed for.
        let written = match is_short {
            true => state.dice.short_writes.place(bytes),
            false => bytes,
        };
        let reached = position + written as u64;
        if reached > len {
            state.grow(self.file, reached, Resize::Appended)?;
        }
        let of_head = written.min(head.len());
        state.write(self.file, &head[..of_head], position);
        let of_body = &body[..written - of_head];
        state.write(self.file, of_body, position + of_head as u64);
        state.counts.writes += 1;
        state.counts.bytes_written += written as u64;
        if is_short {
            state.counts.short_writes += 1;
            return Err(input_output_error());
        }
        Ok(())
    }

    fn publish(&self, end: u64) {
        let len = self.len();
        assert!(
            end <= len,
            "published end {end} is beyond the length {len} of the file"
        );
        self.published.fetch_max(end, Ordering::AcqRel);
    }

    fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start > range.end {
            return Err(refused("the range ends before it begins"));
        }
        if range.end > self.published() {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(
                kind,
                "the range ends above the published end",
            ));
        }
        let bytes = usize::try_from(range.end - range.start);
        let mut bytes = vec![0; bytes.map_err(|_| refused("the range is too long"))?];
        self.read_into(&mut self.disk.state(), range.start, &mut bytes)?;
        Ok(bytes.into())
    }

    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let State { dice, faults, .. } = &mut *state;
        if dice.read_errors.falls(faults.read_errors) {
            state.counts.read_errors += 1;
            return Err(input_output_error());
        }
        self.read_into(&mut state, position, into)
    }

    fn prepare(&self, from: u64, how: Prepare) -> io::Result<()> {
        let mut state = self.disk.state();
        self.check_write(from)?;
        if how == Prepare::Touch {
            return Ok(());
        }
        state.begin();
        state.zero(self.file, from);
        drop(state);
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.begin();
        state.counts.syncs += 1;
        let State {
            dice,
            faults,
            failing,
            ..
        } = &mut *state;
        let (all_lost, some_lost) = (
            take_one(&mut failing.0),
            dice.sync_errors.falls(faults.sync_errors),
        );
        let slow_ms = if dice.slow_syncs.falls(faults.slow_syncs) {
            let ms = &faults.sync_ms;
            Some(ms.start + dice.slow_syncs.below(ms.end.saturating_sub(ms.start)))
        } else {
            None
        };
        let (time, order) = (state.time, state.tree.order + 1);
        let begun = state.tree.file_mut(self.file).begin_sync(time, order);
        let begun_at = state.recorder.as_ref().map_or(0, |recorder| recorder.len());
        if let Some(ms) = slow_ms {
            state.counts.slow_syncs += 1;
            drop(state);
            let hook = self.disk.hook().clone();
            if let Some(hook) = hook {
                hook(ms);
            }
            state = self.disk.state();
        }
        let mut state = self.disk.pass_gate(state);
        if !all_lost && !some_lost {
            state.tree.file_mut(self.file).finish_sync(begun);
            let file = self.file;
            state.record(|| Event::Synced(file, begun_at));
            return Ok(());
        }
        let State {
            tree, dice, counts, ..
        } = &mut *state;
        let file = tree.file_mut(self.file);
        file.fail_sync(begun, || {
            let survives = !all_lost && dice.sync_errors.falls(0.5);
            counts.pages_lost_by_syncs += u64::from(!survives);
            survives
        });
        counts.failed_syncs += 1;
        Err(input_output_error())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        self.check_write(length)?;
        state.begin();
        state.cut(self.file, length)?;
        self.is_cut.store(true, Ordering::Release);
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.sync()?;
        self.disk.state().tree.file_mut(self.file).drop_cache();
        Ok(())
    }
}

impl State {
    /// Shortens a file.
    pub(super) fn cut(&mut self, file: u64, to: u64) -> io::Result<()> {
        self.time += 1;
        let shortens = to < self.tree.file(file).len;
        let changed = self.tree.cut(file, to, self.time)?;
        if shortens {
            self.record(|| Event::Resized(file, to, Resize::Cut));
        }
        self.record_pages(file, changed);
        Ok(())
    }

    // Writes zeros over everything from a position on.
    fn zero(&mut self, file: u64, from: u64) {
        let len = self.tree.file(file).len;
        self.counts.writes += 1;
        self.counts.bytes_written += len.saturating_sub(from);
        let page_bytes = super::page::PAGE_BYTES as u64;
        let first = usize::try_from(from / page_bytes).unwrap_or(usize::MAX);
        let pages: Vec<usize> = self.tree.file(file).live.written_from(first).collect();
        for page in pages {
            let start = (page as u64 * page_bytes).max(from);
            let end = ((page as u64 + 1) * page_bytes).min(len);
            let zeros = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
            self.write(file, &super::page::ZEROS[..zeros], start);
        }
    }
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

// Where a range ends, if a file can hold it.
fn end_of(position: u64, bytes: usize) -> io::Result<u64> {
    let end = u64::try_from(bytes)
        .ok()
        .and_then(|bytes| position.checked_add(bytes));
    end.filter(|end| i64::try_from(*end).is_ok())
        .ok_or_else(|| refused("the write ends beyond 2^63 - 1"))
}
