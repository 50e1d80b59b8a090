//! Segments that were written before they had their own name.

use super::{Recovery, Stop, io_error};
use crate::names;
use crate::scan::Invalid;
use record_batch::{BatchHeader, HEADER_BYTES};

impl Recovery {
    // A prepared file is adopted where it continues the log; else nobody ever saw what it holds.
    pub(super) fn adopt_prepared(
        &mut self,
        prepared: &[String],
        mut low: i32,
        mut whole: bool,
    ) -> Result<(), Stop> {
        let mut left: Vec<&String> = prepared.iter().collect();
        while whole {
            let end = self.found.end.1;
            let mut next: Option<(u64, usize)> = None;
            for (at, name) in left.iter().enumerate() {
                let base = self.first_offset(name)?;
                let continues = |base: &u64| *base == end || self.is_jump(*base);
                if let Some(base) = base.filter(continues) {
                    next = Some((base, at));
                }
            }
            let Some((base, at)) = next else { break };
            let scan = self.scan_file(left[at], base, low)?;
            if scan.tail == 0 {
                break;
            }
            let name = left.remove(at);
            low = scan.generation;
            whole = matches!(scan.invalid, None | Some(Invalid::Unwritten));
            let segment = names::segment(base);
            self.place
                .disk
                .rename(&self.place.path(name), &self.place.path(&segment))
                .and_then(|()| self.place.disk.sync_names(&self.place.directory))
                .map_err(|e| io_error(&self.place, name, e))?;
            self.keep(base, end, &segment, &scan)?;
        }
        let unused = self.report.removed.len();
        for name in &left {
            if self.first_offset(name)?.is_some() {
                self.report.removed.push((*name).clone());
            }
        }
        self.remove_prepared(left)?;
        if self.report.removed.len() > unused {
            // Else they might come back when the log has reached their offsets.
            let synced = self.place.disk.sync_names(&self.place.directory);
            synced.map_err(|e| io_error(&self.place, "", e))?;
        }
        Ok(())
    }

    // The base offset of the batch that a prepared file begins with, if it holds any.
    fn first_offset(&self, name: &str) -> Result<Option<u64>, Stop> {
        let read = (|| {
            let file = self.place.disk.open(&self.place.path(name))?;
            file.drop_cache()?;
            let mut head = [0; HEADER_BYTES];
            if file.len() < head.len() as u64 {
                return Ok(None);
            }
            file.read_at(&mut head, 0)?;
            Ok(BatchHeader::read(&head)
                .ok()
                .and_then(|h| u64::try_from(h.base_offset).ok()))
        })();
        read.map_err(|e| Stop::Open(io_error(&self.place, name, e)))
    }

    pub(super) fn remove_prepared<'a>(
        &self,
        prepared: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), Stop> {
        for name in prepared {
            let removed = self.place.disk.remove(&self.place.path(name));
            removed.map_err(|e| io_error(&self.place, name, e))?;
        }
        Ok(())
    }
}
