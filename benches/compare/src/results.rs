//! What a run leaves: raw numbers in a file, from which the document can be made again.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::peers::Peer;
use crate::workload::Cell;

/// Everything of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) plan: Plan,
    /// What was measured, in the order of time.
    pub(crate) measured: Vec<Measured>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Rounds, in each of which everybody takes a turn in each cell.
    pub(crate) rounds: usize,
    /// Seconds after which a turn appends no more.
    pub(crate) seconds: f64,
    /// Bytes of values after which it appends no more.
    pub(crate) bytes: u64,
}

/// One turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) round: usize,
    pub(crate) cell: Cell,
    pub(crate) peer: Peer,
    pub(crate) written: Option<Written>,
    /// Of what was read and found to be what was written.
    pub(crate) read: Option<Read>,
    pub(crate) disk: Option<Disk>,
    /// Why something is missing.
    pub(crate) error: Option<String>,
}

/// What appending gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Calls of each caller, those of which only the latency counts included.
    pub(crate) calls: Vec<u64>,
    /// Records a second, of all callers together.
    pub(crate) rate: f64,
    pub(crate) latency: Latency,
}

/// Nanoseconds of single calls.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

/// What reopening and reading gave.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Read {
    /// Milliseconds of the open after a clean close.
    pub(crate) open_ms: f64,
    /// Records a second, from the first to the last.
    pub(crate) rate: f64,
    /// Bytes a second of whole batches, where the log has that.
    pub(crate) raw: Option<f64>,
    /// Bytes a second of the CRC alone over the same files.
    pub(crate) crc: Option<f64>,
}

/// What lies in the directory after a clean close, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Disk {
    /// Sum of the files' lengths.
    pub(crate) apparent: u64,
    /// Blocks that the file system has given.
    pub(crate) allocated: u64,
    /// Pages of 4 KiB that are not all zeros: without what is only reserved.
    pub(crate) used: u64,
}

impl Results {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Results> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec(self)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }
}
