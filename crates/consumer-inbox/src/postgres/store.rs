//! Claims in PostgreSQL.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;

use super::claims::{Claim, Claimed, Claims};
use super::options::PgOptions;
use super::queue::{Queue, ask};
use super::session::Postgres;
use super::settlements::{Settle, Settled, Settlements};
use super::tx::PgTx;
use crate::admission::{Admission, Held, Prior, Receipt, Settlement};
use crate::dedup_store::{ClaimRequest, DedupStore, Horizon};
use crate::error::StoreError;
use crate::failpoints::{Point, hit};
use crate::identity::DedupKey;
use crate::sql::{OpenError, claims, sweep};

/// Claims in PostgreSQL (M8), leases by the server's clock. Calls that come together share a transaction.
pub struct PgStore {
    pool: Pool,
    options: PgOptions,
    claims: Arc<Claims>,
    settlements: Arc<Settlements>,
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore").finish_non_exhaustive()
    }
}

impl PgStore {
    /// Connects without TLS, by a string or URL as `tokio_postgres::Config` reads it. The tables are in the first schema of the search path.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub async fn connect(config: &str, options: PgOptions) -> Result<PgStore, OpenError> {
        let pool = options.pool(config)?;
        PgStore::over(pool, options).await
    }

    /// Takes a pool, one with TLS say.
    ///
    /// # Errors
    /// Why it is not fit: [`OpenError`].
    pub async fn over(pool: Pool, options: PgOptions) -> Result<PgStore, OpenError> {
        options.prepare(&pool).await?;
        let claims = Claims {
            pool: pool.clone(),
            options: options.clone(),
            queue: Queue::default(),
        };
        let settlements = Settlements {
            pool: pool.clone(),
            options: options.clone(),
            queue: Queue::default(),
        };
        Ok(PgStore {
            pool,
            options,
            claims: Arc::new(claims),
            settlements: Arc::new(settlements),
        })
    }

    async fn begin(&self) -> Result<PgTx, StoreError> {
        PgTx::begin(&self.pool, &self.options).await
    }

    async fn claim_alone(&self, request: &ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        let tx = self.begin().await?;
        let mut session = Postgres::at(tx.client()?, self.options.reading());
        let answer = claims::claim(&mut session, request).await;
        tx.end(answer).await
    }

    async fn settle_alone(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let mut session = Postgres::at(tx.client()?, self.options.reading());
        let settled = claims::settle(&mut session, &held.key, held.token, how).await;
        tx.end(settled).await
    }
}

impl DedupStore for PgStore {
    async fn claim(&self, request: ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        let answer = match ask(&self.claims, Claim::of(&request)?).await {
            Some(Ok(Claimed::Run(token))) => Admission::Run(Held {
                key: request.key.clone(),
                token,
                attempt: 1,
                prior: Prior::New,
            }),
            Some(Ok(Claimed::Expired)) => Admission::Expired,
            Some(Err(error)) => return Err(error),
            None => self.claim_alone(&request).await?,
        };
        if matches!(answer, Admission::Run(_)) {
            hit(Point::C1).await?;
        }
        Ok(answer)
    }

    async fn renew(&self, held: &Held, lease: Duration) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        let mut session = Postgres::at(tx.client()?, self.options.reading());
        let renewed = claims::renew(&mut session, &held.key, held.token, lease).await;
        tx.end(renewed).await
    }

    async fn settle(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        hit(Point::C3).await?;
        match ask(&self.settlements, Settle::of(held, &how)?).await {
            Some(Ok(Settled)) => {}
            Some(Err(error)) => return Err(error),
            None => self.settle_alone(held, how).await?,
        }
        hit(Point::C4).await
    }

    async fn peek(&self, key: &DedupKey) -> Result<Option<Receipt>, StoreError> {
        let client = super::options::connection(&self.pool).await?;
        claims::peek(&mut Postgres::new(&**client), key).await
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        sweep_in_batches(&self.pool, &self.options, below, max).await
    }
}

/// Between two batches whoever waits for a row has it.
pub(crate) async fn sweep_in_batches(
    pool: &Pool,
    options: &PgOptions,
    below: &Horizon,
    max: usize,
) -> Result<usize, StoreError> {
    let mut forgotten = 0;
    while forgotten < max {
        let batch = sweep::BATCH.min(max - forgotten);
        let tx = PgTx::begin(pool, options).await?;
        let mut session = Postgres::at(tx.client()?, options.reading());
        let gone = sweep::sweep(&mut session, below, batch).await;
        let gone = tx.end(gone).await?;
        forgotten += gone;
        if gone < batch {
            break;
        }
    }
    Ok(forgotten)
}
