//! What clients sent to the canonical directory and were answered.

use std::collections::BTreeMap;

/// A record that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) producer_id: i64,
    pub(crate) sequence: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
}

/// A batch as it was sent, and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) producer_id: i64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) last_offset: u64,
}

/// A partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogFacts {
    /// Every record that was answered, by offset.
    pub(crate) records: BTreeMap<u64, Stored>,
    /// First offset that can be read; what lies below was deleted.
    pub(crate) start: u64,
    /// Nothing below it may be taken for a torn tail.
    pub(crate) stable: u64,
    /// Base offset of the segment that the stable mark is in.
    pub(crate) mark_base: u64,
    /// In the order of the log.
    pub(crate) sent: Vec<Sent>,
}

impl LogFacts {
    /// The last batch that each producer sent, and of some producers an earlier one.
    pub(crate) fn last_sent(&self) -> Vec<&Sent> {
        let mut of: BTreeMap<i64, Vec<&Sent>> = BTreeMap::new();
        for sent in &self.sent {
            of.entry(sent.producer_id).or_default().push(sent);
        }
        of.values()
            .flat_map(|sent| sent.iter().rev().take(2).rev())
            .copied()
            .collect()
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// By topic and partition.
    pub(crate) logs: BTreeMap<(String, u32), LogFacts>,
    /// Highest producer id that was handed out.
    pub(crate) highest_id: i64,
    /// By name: the lines that were answered as stored, from position 0.
    pub(crate) lines: BTreeMap<u64, u64>,
}

/// The name of a log's directory.
pub(crate) fn log_name(topic: &str, partition: u32) -> String {
    format!("{topic}-{partition}")
}
