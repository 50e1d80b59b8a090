//! Which producers can do without memory, and taking them out of it. Nothing is forgotten here.

use crate::producers::ProducerTable;
use crate::producers::line::{Line, Standing};
use crate::producers::view::ProducerView;

impl ProducerTable {
    /// The producers of one part that may leave the memory, each with the offset of its newest
    /// batch, by which the least recently appended one is told: named ones and those with an open
    /// transaction stay, and so do those whose newest batch is not below `end`.
    pub(crate) fn movable(&self, part: usize, end: u64) -> impl Iterator<Item = (u64, &Line)> {
        let lines = self.lines.shard(part).filter(|line| {
            line.open_transaction().is_none() && !self.kept.contains(&line.producer_id)
        });
        // Without a batch only its epoch is known: nobody waits for an answer there.
        lines
            .map(|line| (line.newest_offset().unwrap_or(0), line))
            .filter(move |(newest, line)| line.newest_offset().is_none() || *newest < end)
    }

    /// A copy of what is known of the producer in a line.
    pub(crate) fn view_of(&self, line: &Line) -> ProducerView {
        let older = &self.older;
        Standing { line, older }.view()
    }

    /// Takes a producer out, unless it has changed since `line` was copied; whether it is out. The
    /// newest batch's offset is of that batch alone, so an equal line has an equal window.
    pub(crate) fn remove_unchanged(&mut self, line: &Line) -> bool {
        let found = self.lines.find(line.producer_id);
        if found.is_none_or(|(_, now)| now != line) {
            return false;
        }
        if let Some(mut line) = self.lines.remove(line.producer_id) {
            line.clear_window(&mut self.older);
        }
        true
    }

    /// Whether a producer is in memory.
    pub(crate) fn contains(&self, producer_id: i64) -> bool {
        self.lines.find(producer_id).is_some()
    }

    /// Whether a producer is never forgotten.
    pub(crate) fn is_kept(&self, producer_id: i64) -> bool {
        self.kept.contains(&producer_id)
    }

    /// Gives back the room of producers that left.
    pub(crate) fn compact(&mut self) {
        let mut fresh = ProducerTable::new(self.config);
        for line in self.lines.iter() {
            fresh.insert(self.view_of(line));
        }
        self.lines = fresh.lines;
        self.older = fresh.older;
    }
}
