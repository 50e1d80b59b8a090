//! Two methods over a transaction of whatever driver.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::statements::Statements;
use super::value::{Answer, Value};
use crate::error::StoreError;

/// The pause that is asked for when somebody else has a lock.
pub(crate) const LOCKED: Duration = Duration::from_millis(100);

/// Whose SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 12 and later. READ COMMITTED is best; above it a lost race is [`StoreError::Conflict`].
    Postgres,
    /// SQLite 3.39 and later. Begin the transaction with `begin immediate`: one that reads first and writes later fails without waiting
    /// when somebody else wrote in between.
    Sqlite,
}

impl Dialect {
    /// Its statements.
    pub const fn statements(self) -> &'static Statements {
        match self {
            Dialect::Postgres => &Statements::POSTGRES,
            Dialect::Sqlite => &Statements::SQLITE,
        }
    }
}

/// A transaction of yours.
pub trait SqlTx {
    /// Whose SQL it speaks.
    const DIALECT: Dialect;

    /// Runs a statement: how many rows it changed.
    ///
    /// # Errors
    /// What [`failed`] makes of the driver's.
    fn execute(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, StoreError>>;

    /// Runs a query of the columns of [`Answer`]: its first row, if there is one.
    ///
    /// # Errors
    /// What [`failed`] makes of the driver's.
    fn query_row(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<Answer>, StoreError>>;
}

impl<T: SqlTx> SqlTx for &mut T {
    const DIALECT: Dialect = T::DIALECT;

    fn execute(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, StoreError>> {
        T::execute(self, sql, args)
    }

    fn query_row(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<Answer>, StoreError>> {
        T::query_row(self, sql, args)
    }
}

/// What a driver's error means, by its SQLSTATE if the server sent one; none means that the server was not reached. Inside a
/// transaction: a lost connection is [`StoreError::Unavailable`], because the server rolls back.
pub fn failed(
    sqlstate: Option<&str>,
    error: impl Into<Box<dyn Error + Send + Sync>>,
) -> StoreError {
    match sqlstate {
        // lock_not_available, query_canceled (statement_timeout).
        Some("55P03" | "57014") => StoreError::Busy {
            retry_after: LOCKED,
        },
        // serialization_failure, deadlock_detected.
        Some("40001" | "40P01") => StoreError::Conflict,
        // in_failed_sql_transaction.
        Some("25P02") => StoreError::Misuse(
            "an earlier statement of this transaction failed and its error was not returned: roll back, and deliver again",
        ),
        // too_many_connections, and the server going down or coming up.
        Some("53300" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03") | None => {
            StoreError::Unavailable
        }
        Some(code) if code.starts_with("08") => StoreError::Unavailable,
        Some(_) => StoreError::backend(error),
    }
}

/// The result of a future that never waits, such as [`claim`](crate::sql::claim) over a driver without async calls.
///
/// # Panics
/// If it waits.
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a driver without async calls waited: await this instead"),
    }
}
