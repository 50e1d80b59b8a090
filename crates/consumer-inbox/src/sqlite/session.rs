//! A `rusqlite` transaction as a [`SqlTx`].

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, params_from_iter};

use crate::error::StoreError;
use crate::sql::session::{Cell, Cells, Kind, Session};
use crate::sql::{Answer, Dialect, SqlTx, Value};

/// Your `rusqlite` transaction, for [`sql::claim`](crate::sql::claim): `Rusqlite::new(&tx)`. Ask through [`sql::ready`](crate::sql::ready).
#[derive(Debug)]
pub struct Rusqlite<'a> {
    connection: &'a Connection,
    now_ms: Option<i64>,
}

impl<'a> Rusqlite<'a> {
    /// Over a transaction, which is a connection, too.
    pub fn new(connection: &'a Connection) -> Rusqlite<'a> {
        Rusqlite {
            connection,
            now_ms: None,
        }
    }

    pub(crate) fn at(connection: &'a Connection, now_ms: Option<i64>) -> Rusqlite<'a> {
        Rusqlite { connection, now_ms }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Value::Int(Some(number)) => ValueRef::Integer(*number),
            Value::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Value::Int(None) | Value::Text(None) | Value::Bytes(None) => ValueRef::Null,
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

impl SqlTx for Rusqlite<'_> {
    const DIALECT: Dialect = Dialect::Sqlite;

    async fn execute(&mut self, sql: &str, args: &[Value<'_>]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let changed = statement.execute(params_from_iter(args)).map_err(failed)?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    async fn query_row(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
    ) -> Result<Option<Answer>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(args)).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else {
            return Ok(None);
        };
        Ok(Some(Answer {
            number: row.get(0).map_err(failed)?,
            first: row.get(1).map_err(failed)?,
            second: row.get(2).map_err(failed)?,
        }))
    }
}

impl Session for Rusqlite<'_> {
    async fn rows(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
        kinds: &[Kind],
    ) -> Result<Vec<Cells>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(args)).map_err(failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let cell = |(column, kind): (usize, &Kind)| {
                Ok(match kind {
                    Kind::Int => Cell::Int(row.get(column)?),
                    Kind::Text => Cell::Text(row.get(column)?),
                    Kind::Bytes => Cell::Bytes(row.get(column)?),
                })
            };
            let cells: rusqlite::Result<_> = kinds.iter().enumerate().map(cell).collect();
            found.push(Cells::new(cells.map_err(failed)?));
        }
        Ok(found)
    }

    async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(failed)
    }

    fn now_ms(&self) -> Option<i64> {
        self.now_ms
    }
}

/// What an error of `rusqlite` means. Before a commit nothing was changed.
pub(crate) fn failed(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy {
            retry_after: crate::sql::LOCKED,
        },
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OperationInterrupted,
        ) => StoreError::Unavailable,
        _ => StoreError::backend(error),
    }
}
