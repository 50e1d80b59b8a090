//! What an open found, for people.

use std::fmt;

use partition_log::Opened;

/// What an open found, and did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// Per log (`topic-partition`), for those that were opened for writing.
    pub logs: Vec<(String, Opened)>,
    /// Opened for reading only: what the writer that has the directory open says of itself.
    pub writer: Option<String>,
    /// Opened for reading only, and no writer lives: bytes above the stable marks, which opening
    /// for writing recovers.
    pub bytes_above_mark: u64,
}

impl OpenReport {
    /// A few lines for people: what was cut, rebuilt, lost or damaged. Empty after a clean close.
    pub fn summary(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes_above_mark > 0 {
            let bytes = self.bytes_above_mark;
            writeln!(
                f,
                "{bytes} bytes lie above the stable marks; opening for writing recovers them"
            )?;
        }
        for (log, opened) in &self.logs {
            let files = &opened.files;
            for (file, from, bytes) in &files.cut {
                writeln!(
                    f,
                    "{log}: cut {bytes} bytes of a torn tail at byte {from} of {file}"
                )?;
            }
            for file in &files.removed {
                writeln!(f, "{log}: removed {file}")?;
            }
            for file in &files.footers_rebuilt {
                writeln!(f, "{log}: checked {file} and wrote its footer anew")?;
            }
            if let Some((from, to)) = files.lost {
                writeln!(
                    f,
                    "{log}: offsets {from} to {} may have been shown and are lost",
                    to - 1
                )?;
            }
            if let Some(corruption) = &files.corruption {
                writeln!(f, "{log}: {corruption}")?;
            }
            for offset in &opened.producers.damaged {
                writeln!(
                    f,
                    "{log}: the snapshot at offset {offset} was damaged; replayed instead"
                )?;
            }
            if opened.history_lost {
                writeln!(
                    f,
                    "{log}: producer history is lost with deleted data; unknown producers are refused"
                )?;
            }
        }
        Ok(())
    }
}
