//! How a database is connected to, and whether it is fit for ids.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use log_engine::Clock;
use tokio_postgres::{Config, NoTls};

use super::session::{Postgres, failed};
use crate::clock::millis;
use crate::error::StoreError;
use crate::sql::session::{Kind, Session as _, row};
use crate::sql::{Dialect, LOCKED, OpenError, schema};

/// Keeps two programs from making the tables at once. Any number nobody else locks.
const MIGRATING: i64 = 0x006f_6e63_656c_6f67;

/// The longest a connection is waited for. A server that does not answer is as good as down.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest wait for a lock of a transaction of many callers.
const TOGETHER: Duration = Duration::from_millis(20);

/// How PostgreSQL is used.
#[derive(Clone)]
pub struct PgOptions {
    connections: usize,
    pool_timeout: Duration,
    lock_timeout: Duration,
    idle_timeout: Duration,
    create: bool,
    lossy: bool,
    clock: Option<Arc<dyn Clock>>,
}

impl Default for PgOptions {
    fn default() -> Self {
        PgOptions {
            connections: 16,
            pool_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(60),
            create: true,
            lossy: false,
            clock: None,
        }
    }
}

impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOptions")
            .field("connections", &self.connections)
            .field("lock_timeout", &self.lock_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("lossy", &self.lossy)
            .finish_non_exhaustive()
    }
}

impl PgOptions {
    /// 16 connections, two seconds' wait for locks, nothing that may lose marks.
    pub fn new() -> PgOptions {
        PgOptions::default()
    }

    /// The most connections; at least one.
    #[must_use]
    pub fn connections(mut self, most: usize) -> PgOptions {
        self.connections = most.max(1);
        self
    }

    /// How long a call waits for one of the connections before the answer is `Busy`. A task that begins a second transaction inside its first may
    /// wait for itself.
    #[must_use]
    pub fn pool_timeout(mut self, wait: Duration) -> PgOptions {
        self.pool_timeout = wait;
        self
    }

    /// How long a transaction waits for another one that has the same id, or the same entity, before the answer is `Busy`. At least 1 ms.
    #[must_use]
    pub fn lock_timeout(mut self, wait: Duration) -> PgOptions {
        self.lock_timeout = wait;
        self
    }

    /// How long a transaction may do nothing before the server ends it: a consumer that vanished holds its locks no longer than this.
    #[must_use]
    pub fn idle_timeout(mut self, wait: Duration) -> PgOptions {
        self.idle_timeout = wait;
        self
    }

    /// Expects the tables to be there: for users who may not make any.
    #[must_use]
    pub fn expect_tables(mut self) -> PgOptions {
        self.create = false;
        self
    }

    /// Takes a server that may lose what was committed: `fsync` or `synchronous_commit` off (E13).
    #[must_use]
    pub fn lossy(mut self) -> PgOptions {
        self.lossy = true;
        self
    }

    /// Judges leases and ages by this clock instead of the server's. For tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> PgOptions {
        self.clock = Some(clock);
        self
    }

    pub(crate) fn reading(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.wall_ms())
    }

    /// What begins each transaction, in one message.
    pub(crate) fn begin(&self) -> String {
        self.begin_with(self.lock_timeout)
    }

    /// What begins one of many callers, who do not wait for long for the one whose id somebody else has: that one waits alone then.
    pub(crate) fn begin_together(&self) -> String {
        self.begin_with(self.lock_timeout.min(TOGETHER))
    }

    fn begin_with(&self, lock_timeout: Duration) -> String {
        format!(
            "begin isolation level read committed read write; set local lock_timeout = {}; \
             set local idle_in_transaction_session_timeout = {}",
            setting(lock_timeout),
            setting(self.idle_timeout)
        )
    }

    /// A pool without TLS.
    pub(crate) fn pool(&self, config: &str) -> Result<Pool, OpenError> {
        let config: Config = config
            .parse()
            .map_err(|error: tokio_postgres::Error| OpenError::Unreachable(error.to_string()))?;
        // Connections with an unfinished transaction never come back here, so there is nothing to reset.
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(config, NoTls, recycling);
        let pool = Pool::builder(manager)
            .max_size(self.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.pool_timeout));
        let pool = pool.create_timeout(Some(CONNECT)).build();
        pool.map_err(|error| OpenError::Unreachable(error.to_string()))
    }

    /// Makes the tables if there are none, and refuses what is not fit.
    pub(crate) async fn prepare(&self, pool: &Pool) -> Result<(), OpenError> {
        let client = pool.get().await;
        let client = client.map_err(|error| OpenError::Unreachable(full(&error)))?;
        let setting = async |name: &str| {
            let sql = format!("select current_setting('{name}')");
            let found = row(&mut Postgres::new(&**client), &sql, &[], &[Kind::Text]).await?;
            found.map_or(Ok(None), |mut cells| cells.maybe_text())
        };
        let is = |found: Option<String>, wanted: &str| found.as_deref() == Some(wanted);
        if is(setting("transaction_read_only").await?, "on") {
            return Err(OpenError::ReadOnly);
        }
        if !self.lossy && is(setting("fsync").await?, "off") {
            return Err(OpenError::Unsafe(
                "`fsync` is off: a power cut loses marks that were acknowledged; set it, or say `lossy`",
            ));
        }
        if !self.lossy && is(setting("synchronous_commit").await?, "off") {
            return Err(OpenError::Unsafe(
                "`synchronous_commit` is off: a crash loses marks that were acknowledged; set it, or say `lossy`",
            ));
        }
        // Without a lock in the common case.
        let found = schema::found(&mut Postgres::new(&**client)).await?;
        if found < schema::VERSION && self.create {
            return migrate(client).await;
        }
        schema::check(&mut Postgres::new(&**client)).await
    }
}

async fn migrate(client: Object) -> Result<(), OpenError> {
    let mut client = client;
    let tx = client.transaction().await.map_err(failed)?;
    let lock = format!("select pg_advisory_xact_lock({MIGRATING})");
    tx.batch_execute(&lock).await.map_err(failed)?;
    let found = schema::found(&mut Postgres::new(&*tx)).await?;
    for step in schema::MIGRATIONS {
        if step.version > found {
            let sql = step.sql(Dialect::Postgres);
            Postgres::new(&*tx).batch(sql).await?;
        }
    }
    schema::check(&mut Postgres::new(&*tx)).await?;
    tx.commit()
        .await
        .map_err(|error| OpenError::Store(super::session::commit_failed(error)))
}

/// A time as a setting: whole ms, and never 0, which means for ever.
fn setting(wait: Duration) -> String {
    let ms = millis(wait).clamp(1, i32::MAX.unsigned_abs().into());
    format!("'{ms}ms'")
}

/// An error with its causes: the driver's own names none.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A connection; without one nothing was changed.
pub(crate) async fn connection(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| match error {
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Busy {
            retry_after: LOCKED,
        },
        _ => StoreError::Unavailable,
    })
}
