//! A connection of `tokio_postgres` inside a transaction, as a [`SqlTx`].

use std::error::Error;

use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{GenericClient, Row};

use crate::error::StoreError;
use crate::sql::session::{Cell, Cells, Kind, Session};
use crate::sql::{Answer, Dialect, SqlTx, Value, failed as failed_with};

/// Your `tokio_postgres` transaction, or that of its pool, for [`sql::claim`](crate::sql::claim): `Postgres::new(&tx)`.
#[derive(Debug)]
pub struct Postgres<'a, C> {
    client: &'a C,
    now_ms: Option<i64>,
}

impl<'a, C> Postgres<'a, C> {
    /// Over a transaction.
    pub fn new(client: &'a C) -> Postgres<'a, C> {
        Postgres {
            client,
            now_ms: None,
        }
    }

    pub(crate) fn at(client: &'a C, now_ms: Option<i64>) -> Postgres<'a, C> {
        Postgres { client, now_ms }
    }
}

impl<C: GenericClient + Sync> Postgres<'_, C> {
    async fn query(&self, sql: &str, args: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let rows = self.client.query_typed(sql, &typed(args)).await;
        rows.map_err(failed)
    }
}

/// With their types, so that the server prepares nothing: one round trip each, and poolers may stand in between.
fn typed<'a>(args: &'a [Value<'_>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let typed = args.iter().map(|arg| {
        let value: &(dyn ToSql + Sync) = arg;
        match arg {
            Value::Int(_) => (value, Type::INT8),
            Value::Text(_) => (value, Type::TEXT),
            Value::Bytes(_) => (value, Type::BYTEA),
        }
    });
    typed.collect()
}

impl<C: GenericClient + Sync> SqlTx for Postgres<'_, C> {
    const DIALECT: Dialect = Dialect::Postgres;

    async fn execute(&mut self, sql: &str, args: &[Value<'_>]) -> Result<u64, StoreError> {
        let changed = self.client.execute_typed(sql, &typed(args)).await;
        changed.map_err(failed)
    }

    async fn query_row(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
    ) -> Result<Option<Answer>, StoreError> {
        first(&self.query(sql, args).await?)
    }
}

fn first(rows: &[Row]) -> Result<Option<Answer>, StoreError> {
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Answer {
        number: row.try_get(0).map_err(failed)?,
        first: row.try_get(1).map_err(failed)?,
        second: row.try_get(2).map_err(failed)?,
    }))
}

impl<C: GenericClient + Sync> Session for Postgres<'_, C> {
    async fn rows(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
        kinds: &[Kind],
    ) -> Result<Vec<Cells>, StoreError> {
        let rows = self.query(sql, args).await?;
        let cells = |row: &Row| {
            let cell = |(column, kind): (usize, &Kind)| {
                Ok(match kind {
                    Kind::Int => Cell::Int(row.try_get(column)?),
                    Kind::Text => Cell::Text(row.try_get(column)?),
                    Kind::Bytes => Cell::Bytes(row.try_get(column)?),
                })
            };
            let cells: Result<_, tokio_postgres::Error> =
                kinds.iter().enumerate().map(cell).collect();
            Ok(Cells::new(cells.map_err(failed)?))
        };
        rows.iter().map(cells).collect()
    }

    async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client.batch_execute(sql).await.map_err(failed)
    }

    // The server takes them in this order, each when the one before is over. Nothing is sent before the batch is answered: without a transaction a
    // savepoint fails, and what is behind it would be committed by itself.
    async fn flight(
        &mut self,
        batch: &str,
        change: (&str, &[Value<'_>]),
        query: Option<(&str, &[Value<'_>])>,
    ) -> Result<(u64, Option<Answer>), StoreError> {
        let change_args = typed(change.1);
        let found = async {
            match query {
                Some((sql, args)) => self.query(sql, args).await,
                None => Ok(Vec::new()),
            }
        };
        self.client.batch_execute(batch).await.map_err(failed)?;
        let (changed, found) = tokio::join!(
            biased;
            self.client.execute_typed(change.0, &change_args),
            found,
        );
        Ok((changed.map_err(failed)?, first(&found?)?))
    }

    fn now_ms(&self) -> Option<i64> {
        self.now_ms
    }
}

/// What an error of the driver means, anywhere but at a commit.
pub(crate) fn failed(error: tokio_postgres::Error) -> StoreError {
    // Errors of ours, a wrong type say, have no SQLSTATE either; those are no lost connections.
    let is_ours = error.as_db_error().is_none()
        && !error.is_closed()
        && error
            .source()
            .is_none_or(|source| !source.is::<std::io::Error>());
    match error.code().map(|code| code.code().to_owned()) {
        None if is_ours => StoreError::backend(error),
        code => failed_with(code.as_deref(), error),
    }
}

/// What an error means to a commit that was sent.
pub(crate) fn commit_failed(error: tokio_postgres::Error) -> StoreError {
    match failed(error) {
        // The connection went, or the server: nobody knows what it did before.
        StoreError::Unavailable => StoreError::Unknown,
        other => other,
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match *self {
            Value::Int(number) => number.to_sql(ty, out),
            Value::Text(text) => text.to_sql(ty, out),
            Value::Bytes(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(ty)
    }

    to_sql_checked!();
}
