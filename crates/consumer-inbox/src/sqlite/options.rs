//! How a file is opened, and whether it is fit for ids.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log_engine::{Clock, SystemClock};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::session::{Rusqlite, failed};
use crate::error::StoreError;
use crate::sql::{Dialect, OpenError, ready, schema};

/// How a SQLite file is opened.
#[derive(Clone)]
pub struct SqliteOptions {
    busy_timeout: Duration,
    lossy: bool,
    clock: Arc<dyn Clock>,
}

/// The time that leases and ages are judged by: the wall clock when the file was opened, and what has passed since. So a wall clock that
/// jumps while it is open ends no lease.
pub(crate) struct StoreClock {
    clock: Arc<dyn Clock>,
    base_ms: i64,
}

impl StoreClock {
    pub(crate) fn now_ms(&self) -> Option<i64> {
        let elapsed_ms = i64::try_from(self.clock.elapsed_ms()).unwrap_or(i64::MAX);
        Some(self.base_ms.saturating_add(elapsed_ms))
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions {
            busy_timeout: Duration::from_secs(5),
            lossy: false,
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("busy_timeout", &self.busy_timeout)
            .field("lossy", &self.lossy)
            .finish_non_exhaustive()
    }
}

impl SqliteOptions {
    /// Five seconds' wait for other writers, nothing that may lose marks.
    pub fn new() -> SqliteOptions {
        SqliteOptions::default()
    }

    /// How long to wait for another transaction, of this process or of another, before the answer is `Busy`.
    #[must_use]
    pub fn busy_timeout(mut self, wait: Duration) -> SqliteOptions {
        self.busy_timeout = wait;
        self
    }

    /// Takes a connection that may lose what was committed: in memory, or with `synchronous` below FULL (E13).
    #[must_use]
    pub fn lossy(mut self) -> SqliteOptions {
        self.lossy = true;
        self
    }

    /// Judges leases and ages by this clock instead of the system's: its wall time when the file is opened, its elapsed time from then on.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> SqliteOptions {
        self.clock = clock;
        self
    }

    pub(crate) fn wait(&self) -> Duration {
        self.busy_timeout
    }

    pub(crate) fn start_clock(&self) -> StoreClock {
        let elapsed_ms = i64::try_from(self.clock.elapsed_ms()).unwrap_or(i64::MAX);
        StoreClock {
            base_ms: self.clock.wall_ms().saturating_sub(elapsed_ms),
            clock: self.clock.clone(),
        }
    }

    /// A connection with a write-ahead log that is synced at each commit.
    pub(crate) fn connect(&self, path: &Path) -> Result<Connection, OpenError> {
        let connection = Connection::open(path).map_err(unreachable)?;
        connection
            .busy_timeout(self.busy_timeout)
            .map_err(unreachable)?;
        connection
            .pragma_update(None, "synchronous", "full")
            .map_err(unreachable)?;
        // Answers with the mode that it is in then; a file in memory stays there.
        let set = connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()));
        match set {
            Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::ReadOnly => {
                Err(OpenError::ReadOnly)
            }
            other => other.map_err(unreachable).map(|()| connection),
        }
    }

    /// Makes the tables if there are none, and refuses what is not fit.
    pub(crate) fn prepare(&self, connection: &mut Connection) -> Result<(), OpenError> {
        connection
            .busy_timeout(self.busy_timeout)
            .map_err(unreachable)?;
        if connection.is_readonly("main").map_err(unreachable)? {
            return Err(OpenError::ReadOnly);
        }
        if !self.lossy {
            check_durability(connection)?;
        }
        migrate(connection)
    }
}

fn check_durability(connection: &Connection) -> Result<(), OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    let synchronous: i64 = connection
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .map_err(unreachable)?;
    if synchronous < 2 {
        return Err(OpenError::Unsafe(
            "`synchronous` is below FULL: a power cut loses marks that were acknowledged; set it, or say `lossy`",
        ));
    }
    let journal: String = pragma("journal_mode").map_err(unreachable)?;
    match &*journal {
        "wal" | "delete" | "truncate" | "persist" => Ok(()),
        _ => Err(OpenError::Unsafe(
            "the journal mode is `memory` or `off`: a crash loses or breaks the file; use WAL, or say `lossy`",
        )),
    }
}

fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let tx = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
            return Err(OpenError::ReadOnly);
        }
        other => other.map_err(failed)?,
    };
    let found = ready(schema::found(&mut Rusqlite::new(&tx)))?;
    if found > schema::VERSION {
        return Err(OpenError::Schema { found });
    }
    for step in schema::MIGRATIONS {
        if step.version > found {
            tx.execute_batch(step.sql(Dialect::Sqlite))
                .map_err(failed)?;
        }
    }
    ready(schema::check(&mut Rusqlite::new(&tx)))?;
    tx.commit().map_err(failed).map_err(OpenError::from)
}

fn unreachable(error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly) => OpenError::ReadOnly,
        Some(ErrorCode::CannotOpen | ErrorCode::NotADatabase | ErrorCode::PermissionDenied) => {
            OpenError::Unreachable(error.to_string())
        }
        _ => OpenError::Store(StoreError::backend(error)),
    }
}
