//! A transaction of a [`PgInbox`](crate::PgInbox): what a handler works with.

use std::fmt;
use std::ops::Deref;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::{Client, NoTls};

use super::options::{PgOptions, connection};
use super::session::{Postgres, commit_failed, failed};
use crate::entity::{Change, EntityStore, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};
use crate::sql::inbox::Open;
use crate::sql::{Inserted, Value, entities, insert_once};

/// A transaction on a connection of its own. Dropped before its commit, it closes the connection instead of giving it back, and has the server
/// stop the statement that may still run.
///
/// It derefs to the connection, for your statements. Neither commit nor roll back on that: the savepoint of the delivery is open. An error of a
/// statement must be returned: the transaction does nothing any more behind it.
pub struct PgTx {
    /// None only behind the end.
    client: Option<Object>,
    /// None of a short transaction.
    pub(crate) open: Option<Open>,
}

impl fmt::Debug for PgTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgTx")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl PgTx {
    /// On a connection that nothing was sent on yet.
    pub(crate) async fn take(pool: &Pool) -> Result<PgTx, StoreError> {
        Ok(PgTx {
            client: Some(connection(pool).await?),
            open: None,
        })
    }

    pub(crate) async fn begin(pool: &Pool, options: &PgOptions) -> Result<PgTx, StoreError> {
        let tx = PgTx::take(pool).await?;
        tx.client()?
            .batch_execute(&options.begin())
            .await
            .map_err(failed)?;
        Ok(tx)
    }

    pub(crate) fn client(&self) -> Result<&Client, StoreError> {
        let client = self.client.as_ref();
        let client = client.ok_or(StoreError::Misuse("the transaction has ended"))?;
        Ok(client)
    }

    /// Inserts a row of yours unless one with this key is there (M2), see [`sql::insert_once`](crate::sql::insert_once).
    ///
    /// # Errors
    /// What that says.
    pub async fn insert_once(
        &mut self,
        table: &str,
        key: &[(&str, Value<'_>)],
        rest: &[(&str, Value<'_>)],
    ) -> Result<Inserted, StoreError> {
        insert_once(&mut Postgres::new(self.client()?), table, key, rest).await
    }

    /// Commits if all went well; otherwise rolls back and says what did not.
    pub(crate) async fn end<T>(mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match result {
            Ok(value) => self.commit().await.map(|()| value),
            Err(error) => {
                if self.client()?.batch_execute("rollback").await.is_ok() {
                    drop(self.client.take());
                }
                Err(error)
            }
        }
    }

    /// After an error nothing is committed, unless that is `Unknown`.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        let client = self.client()?;
        client
            .batch_execute("commit")
            .await
            .map_err(commit_failed)?;
        self.ended();
        Ok(())
    }

    /// The connection goes back to the pool: the server has ended the transaction.
    pub(crate) fn ended(mut self) {
        drop(self.client.take());
    }
}

impl Deref for PgTx {
    type Target = Client;

    #[expect(
        clippy::expect_used,
        reason = "only `commit` takes the connection out, and it takes the transaction, too"
    )]
    fn deref(&self) -> &Self::Target {
        self.client.as_ref().expect("a connection until the end")
    }
}

impl Drop for PgTx {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        let cancel = client.cancel_token();
        // Not back to the pool; the server rolls back when the connection is closed and its statement over.
        drop(Object::take(client));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Of no use if it fails: then the statement goes on, and is rolled back behind its end.
                let _ = cancel.cancel_query(NoTls).await;
            });
        }
    }
}

impl EntityStore for PgTx {
    async fn load(&mut self, id: &[u8], how: Read) -> Result<Option<Versioned>, StoreError> {
        entities::load(&mut Postgres::new(self.client()?), id, how).await
    }

    async fn store(
        &mut self,
        id: &[u8],
        expect: Expect,
        change: Change<'_>,
    ) -> Result<u64, CasError> {
        entities::store(&mut Postgres::new(self.client()?), id, expect, change).await
    }

    async fn remove(&mut self, id: &[u8], expect: Expect) -> Result<(), CasError> {
        entities::remove(&mut Postgres::new(self.client()?), id, expect).await
    }
}
