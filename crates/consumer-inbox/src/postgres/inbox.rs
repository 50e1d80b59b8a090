//! Effect, id and position in one PostgreSQL database.

use std::fmt;

use deadpool_postgres::Pool;

use super::options::{PgOptions, connection};
use super::session::{Postgres, failed};
use super::store::sweep_in_batches;
use super::tx::PgTx;
use crate::admission::{Admission, Settlement};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::failpoints::{Point, hit};
use crate::identity::Part;
use crate::inbox::{Inbox, Outgoing};
use crate::sql::inbox::{Open, assign};
use crate::sql::{OpenError, outbox, schema};

/// An inbox in PostgreSQL (M7), in the database of the handler's tables.
pub struct PgInbox {
    pool: Pool,
    options: PgOptions,
    sender: String,
}

impl fmt::Debug for PgInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgInbox").finish_non_exhaustive()
    }
}

impl PgInbox {
    /// Connects without TLS, by a string or URL as `tokio_postgres::Config` reads it. The tables are in the first schema of the search path.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub async fn connect(config: &str, options: PgOptions) -> Result<PgInbox, OpenError> {
        let pool = options.pool(config)?;
        PgInbox::over(pool, options).await
    }

    /// Takes a pool, one with TLS say.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub async fn over(pool: Pool, options: PgOptions) -> Result<PgInbox, OpenError> {
        options.prepare(&pool).await?;
        let tx = PgTx::begin(&pool, &options).await?;
        let sender = schema::sender(&mut Postgres::new(tx.client()?)).await;
        Ok(PgInbox {
            sender: tx.end(sender).await?,
            pool,
            options,
        })
    }

    /// A transaction without a partition.
    #[cfg(feature = "redis")]
    pub(crate) async fn transaction(&self) -> Result<PgTx, StoreError> {
        PgTx::begin(&self.pool, &self.options).await
    }

    /// The pool, for what needs no transaction with an id.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

const GIVEN_UP: StoreError =
    StoreError::Misuse("a call of the transaction was given up: begin another one");

impl Inbox for PgInbox {
    type Tx = PgTx;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        let tx = PgTx::begin(&self.pool, &self.options).await?;
        let next = assign(&mut Postgres::new(tx.client()?), part, epoch).await;
        tx.end(next).await
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<PgTx, StoreError> {
        let mut tx = PgTx::take(&self.pool).await?;
        let (begin, mut session) = (self.options.begin(), Postgres::new(tx.client()?));
        // In one flight, and one after another.
        let (begun, open) = tokio::join!(
            biased;
            tx.client()?.batch_execute(&begin),
            Open::begin(&mut session, part, epoch),
        );
        begun.map_err(failed)?;
        match open {
            Ok(open) => {
                tx.open = Some(open);
                Ok(tx)
            }
            Err(error) => tx.end(Err(error)).await,
        }
    }

    async fn admit(&self, tx: &mut PgTx, delivery: &Delivery) -> Result<Admission<()>, StoreError> {
        let mut open = tx.open.take().ok_or(GIVEN_UP)?;
        let mut session = Postgres::at(tx.client()?, self.options.reading());
        let answer = open.admit(&mut session, delivery).await;
        tx.open = Some(open);
        let answer = answer?;
        if matches!(answer, Admission::Run(())) {
            hit(Point::C1).await?;
        }
        Ok(answer)
    }

    async fn settle(
        &self,
        tx: &mut PgTx,
        delivery: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        let mut open = tx.open.take().ok_or(GIVEN_UP)?;
        let mut session = Postgres::at(tx.client()?, self.options.reading());
        let settled = open.settle(&mut session, delivery, how).await;
        tx.open = Some(open);
        settled
    }

    async fn emit(&self, tx: &mut PgTx, record: Outgoing) -> Result<(), StoreError> {
        outbox::emit(&mut Postgres::new(tx.client()?), &record).await
    }

    async fn commit(&self, tx: PgTx, next: u64) -> Result<(), StoreError> {
        let open = tx.open.as_ref().ok_or(GIVEN_UP)?;
        // A transaction in which an error was hidden would answer COMMIT with a rollback, and the driver says Ok: the guard
        // fails before.
        let guarded = open.guard(&mut Postgres::new(tx.client()?), next).await;
        hit(Point::C3).await?;
        tx.end(guarded).await?;
        hit(Point::C4).await
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        let tx = PgTx::begin(&self.pool, &self.options).await?;
        let mut session = Postgres::new(tx.client()?);
        let records = match outbox::number(&mut session, max).await {
            Ok(()) => outbox::outgoing(&mut session, max).await,
            Err(error) => Err(error),
        };
        tx.end(records).await
    }

    async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        let client = connection(&self.pool).await?;
        outbox::forwarded(&mut Postgres::new(&**client), through).await
    }

    fn sender(&self) -> String {
        self.sender.clone()
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        sweep_in_batches(&self.pool, &self.options, below, max).await
    }
}
