//! Once a sync failed, nothing succeeds on that log until it is opened again (I10, R6).

use std::sync::Arc;

use sync::OnceLock;

/// Why a log was fenced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "log {log} is fenced after {operation} failed: {error} (errno {errno:?}); close the engine and open it again, \
     which believes only what the disk returns"
)]
pub struct Latched {
    /// Directory of the log.
    pub log: String,
    /// The call that failed: `sync`, `write`, …
    pub operation: &'static str,
    /// What the system said.
    pub error: String,
    /// The system's number for it.
    pub errno: Option<i32>,
}

/// One per log, shared by everything that writes to it or waits for it. Closes once, for good.
#[derive(Debug, Clone, Default)]
pub struct Latch {
    closed: Arc<OnceLock<Latched>>,
}

impl Latch {
    /// Closes the latch; the first reason stays.
    pub fn close(&self, log: &str, operation: &'static str, error: &std::io::Error) -> Latched {
        self.closed
            .get_or_init(|| Latched {
                log: log.to_owned(),
                operation,
                error: error.to_string(),
                errno: error.raw_os_error(),
            })
            .clone()
    }

    /// Why the log is fenced, if it is.
    pub fn reason(&self) -> Option<&Latched> {
        self.closed.get()
    }

    /// Passes while the latch is open.
    ///
    /// # Errors
    /// The reason of the first failure.
    #[inline]
    pub fn check(&self) -> Result<(), Latched> {
        match self.closed.get() {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stays_and_every_later_check_returns_it() {
        let latch = Latch::default();
        assert_eq!(latch.check(), Ok(()));
        let first = latch.close("orders-0", "sync", &std::io::Error::from_raw_os_error(5));
        let second = latch.close("orders-0", "write", &std::io::Error::from_raw_os_error(28));
        assert_eq!(first, second);
        assert_eq!(latch.clone().check().unwrap_err().errno, Some(5));
    }
}
