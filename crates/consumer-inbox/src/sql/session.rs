//! What the stores of this crate need of a driver beside [`SqlTx`].

use std::future::Future;

use super::tx::SqlTx;
use super::value::{Answer, Value};
use crate::error::StoreError;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Bytes,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// A row, of the kinds that were asked for.
#[derive(Debug)]
pub(crate) struct Cells(std::vec::IntoIter<Cell>);

impl Cells {
    pub(crate) fn new(cells: Vec<Cell>) -> Cells {
        Cells(cells.into_iter())
    }

    pub(crate) fn maybe_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.0.next() {
            Some(Cell::Int(number)) => Ok(number),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreError> {
        self.maybe_int()?.ok_or_else(unexpected)
    }

    /// A number that counts something.
    pub(crate) fn count(&mut self) -> Result<u64, StoreError> {
        u64::try_from(self.int()?).map_err(|_| unexpected())
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.0.next() {
            Some(Cell::Text(text)) => Ok(text),
            _ => Err(unexpected()),
        }
    }

    pub(crate) fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.next() {
            Some(Cell::Bytes(bytes)) => Ok(bytes),
            _ => Err(unexpected()),
        }
    }
}

/// A row that no statement of ours wrote.
pub(crate) fn unexpected() -> StoreError {
    StoreError::backend("a row of the tables `oncelog_*` is not as this program writes it")
}

/// A transaction of ours.
pub(crate) trait Session: SqlTx {
    /// Runs a query: all rows.
    fn rows(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
        kinds: &[Kind],
    ) -> impl Future<Output = Result<Vec<Cells>, StoreError>>;

    /// Runs statements without arguments.
    fn batch(&mut self, sql: &str) -> impl Future<Output = Result<(), StoreError>>;

    /// Runs statements without arguments, one that changes rows, and perhaps a query of the columns of [`Answer`], one after another: how many rows that
    /// one changed, and the query's first row. A driver that can sends the query before the change is answered.
    fn flight(
        &mut self,
        batch: &str,
        change: (&str, &[Value<'_>]),
        query: Option<(&str, &[Value<'_>])>,
    ) -> impl Future<Output = Result<(u64, Option<Answer>), StoreError>> {
        async move {
            self.batch(batch).await?;
            let changed = self.execute(change.0, change.1).await?;
            let found = match query {
                Some((sql, args)) => self.query_row(sql, args).await?,
                None => None,
            };
            Ok((changed, found))
        }
    }

    /// What time it is, for tests; none is the database's own time.
    fn now_ms(&self) -> Option<i64>;
}

pub(crate) async fn row<S: Session>(
    session: &mut S,
    sql: &str,
    args: &[Value<'_>],
    kinds: &[Kind],
) -> Result<Option<Cells>, StoreError> {
    let rows = session.rows(sql, args, kinds).await?;
    Ok(rows.into_iter().next())
}
