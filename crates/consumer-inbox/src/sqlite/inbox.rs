//! Effect, id and position in one SQLite file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, Transaction};

use super::options::{SqliteOptions, StoreClock};
use super::session::Rusqlite;
use super::store::sweep_in_batches;
use super::thread::Writer;
use super::tx::SqliteTx;
use crate::admission::{Admission, Settlement};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::failpoints::{Point, hit};
use crate::identity::Part;
use crate::inbox::{Inbox, Outgoing};
use crate::sql::inbox::{Open, assign};
use crate::sql::{OpenError, outbox, ready, schema};

/// An inbox in a SQLite file (M7), where the handler's tables are, too.
///
/// One transaction at a time: a second `begin` waits for the first to end, up to
/// [`SqliteOptions::busy_timeout`], and is `Busy` then.
pub struct SqliteInbox {
    /// For what is only read, beside the transactions; none of a database in memory. Closed before the writer, which leaves one file then, not three.
    reader: Option<Writer>,
    writer: Arc<Writer>,
    clock: StoreClock,
    sender: String,
    next: AtomicU64,
}

impl fmt::Debug for SqliteInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteInbox").finish_non_exhaustive()
    }
}

impl SqliteInbox {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteInbox, OpenError> {
        SqliteInbox::open_with(path, SqliteOptions::new())
    }

    /// The same with options.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub fn open_with(
        path: impl AsRef<Path>,
        options: SqliteOptions,
    ) -> Result<SqliteInbox, OpenError> {
        let connection = options.connect(path.as_ref())?;
        SqliteInbox::over(connection, options)
    }

    /// Takes a connection as it was set up.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub fn over(
        mut connection: Connection,
        options: SqliteOptions,
    ) -> Result<SqliteInbox, OpenError> {
        options.prepare(&mut connection)?;
        let sender = ready(schema::sender(&mut Rusqlite::new(&connection)))?;
        let reader = Writer::beside(&connection, options.wait())?;
        let writer = Arc::new(Writer::start(connection, options.wait())?);
        Ok(SqliteInbox {
            writer,
            reader,
            clock: options.start_clock(),
            sender,
            next: AtomicU64::new(1),
        })
    }

    /// Runs statements of yours, the making of tables say, in a transaction of their own.
    ///
    /// # Errors
    /// What they return; then they are rolled back.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let work = |connection: &Connection| work(connection).map_err(super::session::failed);
        self.writer.short(work).await
    }

    /// Runs a piece of a transaction that needs to know what it is.
    async fn with_open<T: Send + 'static>(
        tx: &mut SqliteTx,
        work: impl FnOnce(&Transaction<'_>, &mut Open) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut open = tx.open.take().ok_or(StoreError::Misuse(
            "a call of the transaction was given up: begin another one",
        ))?;
        let run = tx.run(move |tx| (work(tx, &mut open), open));
        let (result, open) = run.await?;
        tx.open = Some(open);
        result
    }
}

impl Inbox for SqliteInbox {
    type Tx = SqliteTx;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        let part = part.clone();
        let work = move |connection: &Connection| {
            ready(assign(&mut Rusqlite::new(connection), &part, epoch))
        };
        self.writer.short(work).await
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<SqliteTx, StoreError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        // Made first, so that a begin that is given up is rolled back when its turn comes.
        let mut tx = SqliteTx::new(self.writer.clone(), id);
        self.writer.begin(id).await?;
        let part = part.clone();
        let begin =
            move |tx: &Transaction<'_>| ready(Open::begin(&mut Rusqlite::new(tx), &part, epoch));
        tx.open = Some(tx.run(begin).await??);
        Ok(tx)
    }

    async fn admit(
        &self,
        tx: &mut SqliteTx,
        delivery: &Delivery,
    ) -> Result<Admission<()>, StoreError> {
        let (now_ms, delivery) = (self.clock.now_ms(), delivery.clone());
        let admit = move |tx: &Transaction<'_>, open: &mut Open| {
            ready(open.admit(&mut Rusqlite::at(tx, now_ms), &delivery))
        };
        let answer = SqliteInbox::with_open(tx, admit).await?;
        if matches!(answer, Admission::Run(())) {
            hit(Point::C1).await?;
        }
        Ok(answer)
    }

    async fn settle(
        &self,
        tx: &mut SqliteTx,
        delivery: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        let (now_ms, delivery) = (self.clock.now_ms(), delivery.clone());
        let settle = move |tx: &Transaction<'_>, open: &mut Open| {
            ready(open.settle(&mut Rusqlite::at(tx, now_ms), &delivery, how))
        };
        SqliteInbox::with_open(tx, settle).await
    }

    async fn emit(&self, tx: &mut SqliteTx, record: Outgoing) -> Result<(), StoreError> {
        tx.run(move |tx| ready(outbox::emit(&mut Rusqlite::new(tx), &record)))
            .await?
    }

    async fn commit(&self, mut tx: SqliteTx, next: u64) -> Result<(), StoreError> {
        let guard = move |tx: &Transaction<'_>, open: &mut Open| {
            ready(open.guard(&mut Rusqlite::new(tx), next))
        };
        SqliteInbox::with_open(&mut tx, guard).await?;
        hit(Point::C3).await?;
        tx.commit().await?;
        hit(Point::C4).await
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        let work = move |connection: &Connection| {
            ready(outbox::outgoing(&mut Rusqlite::new(connection), max))
        };
        let reader = self.reader.as_ref().unwrap_or(&self.writer);
        reader.short(work).await
    }

    async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        let work = move |connection: &Connection| {
            ready(outbox::forwarded(&mut Rusqlite::new(connection), through))
        };
        self.writer.short(work).await
    }

    fn sender(&self) -> String {
        self.sender.clone()
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        sweep_in_batches(&self.writer, self.clock.now_ms(), below, max).await
    }
}
