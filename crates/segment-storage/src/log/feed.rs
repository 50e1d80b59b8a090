//! Which segment to prepare next, and taking it over.

use super::{SEGMENT_BYTES_MIN, SegmentedLog, Visibility};
use crate::disk::Prepare;
use crate::prepare::{Prepared, Wanted};

impl SegmentedLog {
    /// What segment should be prepared now, ahead of need or because an append found none.
    /// `None` when nothing is due, or it is being prepared already.
    pub fn wanted(&mut self) -> Option<Wanted> {
        if self.is_closed || !self.is_segment_wanted() || self.latch.reason().is_some() {
            return None;
        }
        self.preparing = true;
        self.prepared_count += 1;
        let segments = self.view.segments.load();
        let last = segments.last();
        let resume = match (&self.active, last) {
            // After a clean close the log goes on in its last file, unless that is half full.
            (None, Some(last)) if self.is_resting => {
                let fits = self.last_end.position + self.needed_bytes;
                let has_room = fits.saturating_mul(2) <= self.config.segment_bytes;
                // A jump to the ceiling happens only between two files (R10).
                let goes_on = self.next_offset == self.last_end.next_offset;
                (has_room && goes_on).then(|| last.clone())
            }
            _ => None,
        };
        let least = SEGMENT_BYTES_MIN.max(self.needed_bytes.saturating_mul(2));
        let active_capacity = self.active.as_ref().map_or(0, |a| a.capacity);
        let doubled = self
            .last_end
            .position
            .max(active_capacity)
            .saturating_mul(2);
        let capacity = doubled.next_power_of_two().max(least.next_power_of_two());
        let capacity = capacity
            .min(self.config.segment_bytes)
            .max(self.needed_bytes);
        let prepare = match self.config.visibility {
            Visibility::Synced => Prepare::Zeros,
            Visibility::Written => Prepare::Touch,
        };
        Some(Wanted {
            place: self.place.clone(),
            marks: self.marks.clone(),
            latch: self.latch.clone(),
            number: self.prepared_count,
            capacity,
            resume,
            prepare,
        })
    }

    /// Whether [`SegmentedLog::wanted`] would ask for a segment. Cheap.
    pub fn is_segment_wanted(&self) -> bool {
        if self.prepared.is_some() || self.preparing {
            return false;
        }
        match &self.active {
            None => self.needed_bytes > 0,
            Some(active) => {
                // A log that has gone beyond its first segment is busy: it asks earlier, since a
                // segment takes a while to prepare and appends must not wait for it.
                let part = if active.capacity > SEGMENT_BYTES_MIN {
                    4
                } else {
                    2
                };
                self.needed_bytes > 0 || active.position >= active.capacity / part
            }
        }
    }

    /// Takes a prepared segment over.
    pub fn offer(&mut self, prepared: Prepared) {
        self.preparing = false;
        if self.is_closed {
            prepared.discard();
            return;
        }
        if let Some(resumed) = prepared.resumed() {
            // It takes appends at once: nothing but the end of the file can be next.
            self.unsealed.retain(|s| s.base_offset() != resumed);
            self.roll_into(prepared);
        } else {
            self.prepared = Some(prepared);
            self.needed_bytes = 0;
        }
    }

    /// Takes note that preparing failed; the next append asks again.
    pub fn prepare_failed(&mut self) {
        self.preparing = false;
        self.needed_bytes = 0;
    }
}
