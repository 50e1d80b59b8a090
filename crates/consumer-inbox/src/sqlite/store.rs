//! Claims in a SQLite file.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::options::{SqliteOptions, StoreClock};
use super::session::Rusqlite;
use super::thread::Writer;
use crate::admission::{Admission, Held, Receipt, Settlement};
use crate::dedup_store::{ClaimRequest, DedupStore, Horizon};
use crate::error::StoreError;
use crate::failpoints::{Point, hit};
use crate::identity::{DedupKey, Position};
use crate::sql::{OpenError, claims, ready, sweep};

/// Claims in a SQLite file (M8): each answer is synced, and calls that come together share a sync.
pub struct SqliteStore {
    /// For what is only read, beside the transactions; none of a database in memory. Closed before the writer, which leaves one file then, not three.
    reader: Option<Writer>,
    writer: Writer,
    clock: StoreClock,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteStore, OpenError> {
        SqliteStore::open_with(path, SqliteOptions::new())
    }

    /// The same with options.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub fn open_with(
        path: impl AsRef<Path>,
        options: SqliteOptions,
    ) -> Result<SqliteStore, OpenError> {
        let connection = options.connect(path.as_ref())?;
        SqliteStore::over(connection, options)
    }

    /// Takes a connection as it was set up.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub fn over(
        mut connection: Connection,
        options: SqliteOptions,
    ) -> Result<SqliteStore, OpenError> {
        options.prepare(&mut connection)?;
        let reader = Writer::beside(&connection, options.wait())?;
        let writer = Writer::start(connection, options.wait())?;
        let clock = options.start_clock();
        Ok(SqliteStore {
            writer,
            reader,
            clock,
        })
    }
}

impl DedupStore for SqliteStore {
    async fn claim(&self, request: ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        let now_ms = self.clock.now_ms();
        let key = request.key.clone();
        let place = request
            .position
            .map(|at| (at.topic.to_owned(), at.partition, at.offset));
        let ClaimRequest {
            owner,
            fingerprint,
            lease,
            redrive,
            origin_ms,
            ..
        } = request;
        let claim = move |connection: &Connection| {
            let position = place.as_ref().map(|(topic, partition, offset)| Position {
                topic,
                partition: *partition,
                offset: *offset,
            });
            let request = ClaimRequest {
                redrive,
                origin_ms,
                position,
                ..ClaimRequest::new(&key, owner, fingerprint, lease)
            };
            let mut session = Rusqlite::at(connection, now_ms);
            ready(claims::claim(&mut session, &request))
        };
        let answer = self.writer.short(claim).await?;
        if matches!(answer, Admission::Run(_)) {
            hit(Point::C1).await?;
        }
        Ok(answer)
    }

    async fn renew(&self, held: &Held, lease: Duration) -> Result<(), StoreError> {
        let now_ms = self.clock.now_ms();
        let (key, token) = (held.key.clone(), held.token);
        let renew = move |connection: &Connection| {
            let mut session = Rusqlite::at(connection, now_ms);
            ready(claims::renew(&mut session, &key, token, lease))
        };
        self.writer.short(renew).await
    }

    async fn settle(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        hit(Point::C3).await?;
        let now_ms = self.clock.now_ms();
        let (key, token) = (held.key.clone(), held.token);
        let settle = move |connection: &Connection| {
            let mut session = Rusqlite::at(connection, now_ms);
            ready(claims::settle(&mut session, &key, token, how))
        };
        self.writer.short(settle).await?;
        hit(Point::C4).await
    }

    async fn peek(&self, key: &DedupKey) -> Result<Option<Receipt>, StoreError> {
        let key = key.clone();
        let peek = move |connection: &Connection| {
            ready(claims::peek(&mut Rusqlite::new(connection), &key))
        };
        self.reader
            .as_ref()
            .unwrap_or(&self.writer)
            .short(peek)
            .await
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        sweep_in_batches(&self.writer, self.clock.now_ms(), below, max).await
    }
}

/// Between two batches claims have their turn.
pub(crate) async fn sweep_in_batches(
    writer: &Writer,
    now_ms: Option<i64>,
    below: &Horizon,
    max: usize,
) -> Result<usize, StoreError> {
    let mut forgotten = 0;
    while forgotten < max {
        let batch = sweep::BATCH.min(max - forgotten);
        let below = below.clone();
        let one = move |connection: &Connection| {
            ready(sweep::sweep(
                &mut Rusqlite::at(connection, now_ms),
                &below,
                batch,
            ))
        };
        let gone = writer.short(one).await?;
        forgotten += gone;
        if gone < batch {
            break;
        }
    }
    Ok(forgotten)
}
