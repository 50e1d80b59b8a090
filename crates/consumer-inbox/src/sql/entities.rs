//! Entities in a table, inside a transaction. A row is locked, judged by [`EntityRow`], written.

use super::ids::signed;
use super::session::{Cells, Kind, Session, row};
use super::value::Value;
use crate::entity::{Change, EntityRow, Expect, Read, Versioned};
use crate::error::{CasError, StoreError};

const ROW: [Kind; 3] = [Kind::Int, Kind::Int, Kind::Bytes];

pub(crate) async fn load<S: Session>(
    session: &mut S,
    id: &[u8],
    how: Read,
) -> Result<Option<Versioned>, StoreError> {
    let found = match how {
        Read::Plain => {
            let load = S::DIALECT.statements().load_entity;
            row(session, load, &[id.into()], &ROW).await?
        }
        Read::ForUpdate => return Ok(lock(session, id).await?.entity()),
    };
    Ok(found.map(decode).transpose()?.and_then(|row| row.entity()))
}

pub(crate) async fn store<S: Session>(
    session: &mut S,
    id: &[u8],
    expect: Expect,
    change: Change<'_>,
) -> Result<u64, CasError> {
    let after = lock(session, id).await?.apply(expect, change)?;
    put(session, id, &after).await?;
    Ok(after.version)
}

pub(crate) async fn remove<S: Session>(
    session: &mut S,
    id: &[u8],
    expect: Expect,
) -> Result<(), CasError> {
    if let Some(after) = lock(session, id).await?.without(expect)? {
        put(session, id, &after).await?;
    }
    Ok(())
}

/// Locks the row. Of an absent one there is nothing to lock, so a placeholder is made first.
async fn lock<S: Session>(session: &mut S, id: &[u8]) -> Result<EntityRow, StoreError> {
    let statements = S::DIALECT.statements();
    let found = row(session, statements.lock_entity, &[id.into()], &ROW).await?;
    if let Some(found) = found {
        return decode(found);
    }
    session
        .execute(statements.place_entity, &[id.into()])
        .await?;
    let found = row(session, statements.lock_entity, &[id.into()], &ROW).await?;
    found.map_or_else(|| Ok(EntityRow::default()), decode)
}

async fn put<S: Session>(session: &mut S, id: &[u8], row: &EntityRow) -> Result<(), StoreError> {
    let args = [
        signed(row.version)?.into(),
        row.amount.into(),
        Value::Bytes(row.value.as_deref()),
        id.into(),
    ];
    let put = S::DIALECT.statements().put_entity;
    session.execute(put, &args).await.map(|_| ())
}

fn decode(mut cells: Cells) -> Result<EntityRow, StoreError> {
    Ok(EntityRow {
        version: cells.count()?,
        amount: cells.int()?,
        value: cells.maybe_bytes()?.map(Into::into),
    })
}
