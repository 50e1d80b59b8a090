//! What happened in a run, as lines and as one number.

use std::collections::VecDeque;
use std::fmt::Write;

use crate::batch::hash;

/// The events of a run. The same seed gives the same ones, byte for byte.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: VecDeque<String>,
    keep: usize,
    pub(crate) hash: u64,
    pub(crate) step: u64,
}

impl Trace {
    /// Keeps the newest `keep` lines.
    pub(crate) fn new(keep: usize) -> Trace {
        Trace {
            keep,
            ..Trace::default()
        }
    }

    pub(crate) fn event(&mut self, now_ms: u64, what: std::fmt::Arguments<'_>) {
        let mut line = if self.lines.len() >= self.keep.max(1) {
            self.lines.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        line.clear();
        // Writing to a string does not fail.
        let _ = write!(line, "{:>4} {now_ms:>9} ms  {what}", self.step);
        self.hash = self.hash.rotate_left(5) ^ hash(line.as_bytes());
        self.lines.push_back(line);
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        match self.keep {
            0 => Vec::new(),
            _ => self.lines.into(),
        }
    }
}
