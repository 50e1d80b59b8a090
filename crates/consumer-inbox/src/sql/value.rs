//! What goes into a statement and comes out of it.

/// An argument. Each variant says its type also when it is null, because some drivers want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `bigint`, `integer` in SQLite.
    Int(Option<i64>),
    /// `text`.
    Text(Option<&'a str>),
    /// `bytea`, `blob` in SQLite.
    Bytes(Option<&'a [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Int(Some(number))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Some(text))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Value::Bytes(Some(bytes))
    }
}

/// A row that [`SqlTx::query_row`](crate::sql::SqlTx::query_row) returns: every such statement has these three columns, in this order and by these
/// names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// `number`, a `bigint`.
    pub number: Option<i64>,
    /// `first`, a `bytea` or `blob`.
    pub first: Option<Vec<u8>>,
    /// `second`, likewise.
    pub second: Option<Vec<u8>>,
}
