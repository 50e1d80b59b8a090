//! A row of yours that a unique index keeps single (M2).

use super::tx::SqlTx;
use super::value::{Answer, Value};
use crate::error::StoreError;

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The row is there now.
    New,
    /// An equal row was there: a duplicate.
    Same,
    /// A row with this key and other columns was there: the same id for something else. To the dead-letter topic.
    Other,
}

/// Inserts a row unless one with this key is there, and then says whether that is equal. `key` are the columns of a unique index; table and columns are
/// names of letters, digits, `_` and, for the schema, `.`.
///
/// # Errors
/// [`StoreError::Misuse`] for other names or no key, and what the database says: unlike `insert or ignore` this hides no violation of
/// another constraint.
pub async fn insert_once<T: SqlTx>(
    tx: &mut T,
    table: &str,
    key: &[(&str, Value<'_>)],
    rest: &[(&str, Value<'_>)],
) -> Result<Inserted, StoreError> {
    let all = [key, rest].concat();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    if key.is_empty() || !is_name(table) || !names.iter().all(|name| is_name(name)) {
        return Err(StoreError::Misuse(
            "insert_once takes plain names of a table and its columns, and a key",
        ));
    }
    let args: Vec<Value<'_>> = all.iter().map(|(_, value)| *value).collect();
    let numbered = |pattern: &dyn Fn(&str, usize) -> String, between: &str| {
        let parts = names.iter().zip(1..).map(|(name, n)| pattern(name, n));
        parts.collect::<Vec<_>>().join(between)
    };
    let insert = format!(
        "insert into {table} ({}) values ({}) on conflict ({}) do nothing",
        names.join(", "),
        numbered(&|_, n| format!("${n}"), ", "),
        names[..key.len()].join(", "),
    );
    if tx.execute(&insert, &args).await? == 1 {
        return Ok(Inserted::New);
    }
    let same = format!(
        "select count(*) as number, cast(null as bytea) as first, cast(null as bytea) as second \
         from {table} where {}",
        numbered(
            &|name, n| format!("{name} is not distinct from ${n}"),
            " and "
        ),
    );
    match tx.query_row(&same, &args).await? {
        Some(Answer {
            number: Some(1..), ..
        }) => Ok(Inserted::Same),
        _ => Ok(Inserted::Other),
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let mut letters = part.chars();
        letters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    name.split('.').all(is_part)
}
