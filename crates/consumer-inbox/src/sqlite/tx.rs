//! A transaction of a [`SqliteInbox`](crate::SqliteInbox): what a handler works with.

use std::fmt;
use std::sync::Arc;

use rusqlite::Transaction;

use super::session::Rusqlite;
use super::thread::Writer;
use crate::entity::{Change, EntityStore, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};
use crate::sql::inbox::Open;
use crate::sql::{Inserted, Value, entities, insert_once, ready};

/// A transaction, alone in the file until it ends. Dropped, it rolls back, and the statement that may still run is stopped.
pub struct SqliteTx {
    writer: Arc<Writer>,
    id: u64,
    /// None only while a call is on its way.
    pub(crate) open: Option<Open>,
    ended: bool,
}

impl fmt::Debug for SqliteTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTx")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl SqliteTx {
    pub(crate) fn new(writer: Arc<Writer>, id: u64) -> SqliteTx {
        SqliteTx {
            writer,
            id,
            open: None,
            ended: false,
        }
    }

    /// Runs your statements on the connection's thread, and returns what they return: a `rusqlite::Result` comes back inside of the outer one.
    /// Neither commit nor roll back there: the savepoint of the delivery is open. Types are those of [`rusqlite`](crate::rusqlite).
    ///
    /// # Errors
    /// [`StoreError::Misuse`] if the transaction has ended.
    ///
    /// # Panics
    /// If `work` panics.
    pub async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.run(self.id, work).await
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
        let table = table.to_owned();
        let [key, rest] = [key, rest].map(|columns| columns.iter().map(owned).collect::<Vec<_>>());
        let work = move |tx: &Transaction<'_>| {
            let [key, rest] = [&key, &rest].map(|columns| {
                let borrowed = columns
                    .iter()
                    .map(|(name, value)| (&**name, value.borrow()));
                borrowed.collect::<Vec<_>>()
            });
            ready(insert_once(&mut Rusqlite::new(tx), &table, &key, &rest))
        };
        self.run(work).await?
    }

    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.ended = true;
        self.writer.commit(self.id).await
    }
}

impl Drop for SqliteTx {
    fn drop(&mut self) {
        if !self.ended {
            self.writer.abandon(self.id);
        }
    }
}

impl EntityStore for SqliteTx {
    async fn load(&mut self, id: &[u8], how: Read) -> Result<Option<Versioned>, StoreError> {
        let id = id.to_owned();
        self.run(move |tx| ready(entities::load(&mut Rusqlite::new(tx), &id, how)))
            .await?
    }

    async fn store(
        &mut self,
        id: &[u8],
        expect: Expect,
        change: Change<'_>,
    ) -> Result<u64, CasError> {
        let id = id.to_owned();
        let (value, amount) = (change.value.map(<[u8]>::to_owned), change.amount);
        let work = move |tx: &Transaction<'_>| {
            let change = Change {
                value: value.as_deref(),
                amount,
            };
            ready(entities::store(&mut Rusqlite::new(tx), &id, expect, change))
        };
        self.run(work).await?
    }

    async fn remove(&mut self, id: &[u8], expect: Expect) -> Result<(), CasError> {
        let id = id.to_owned();
        self.run(move |tx| ready(entities::remove(&mut Rusqlite::new(tx), &id, expect)))
            .await?
    }
}

/// A value on its way to the other thread.
enum Owned {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

fn owned((name, value): &(&str, Value<'_>)) -> (String, Owned) {
    let value = match value {
        Value::Int(number) => Owned::Int(*number),
        Value::Text(text) => Owned::Text(text.map(str::to_owned)),
        Value::Bytes(bytes) => Owned::Bytes(bytes.map(<[u8]>::to_owned)),
    };
    ((*name).to_owned(), value)
}

impl Owned {
    fn borrow(&self) -> Value<'_> {
        match self {
            Owned::Int(number) => Value::Int(*number),
            Owned::Text(text) => Value::Text(text.as_deref()),
            Owned::Bytes(bytes) => Value::Bytes(bytes.as_deref()),
        }
    }
}
