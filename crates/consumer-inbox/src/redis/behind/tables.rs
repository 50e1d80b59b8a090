//! What is written to the database, and read from it: the tables of an inbox there, and one of our own.

use super::entry::{Entry, Settled};
use crate::entity::EntityRow;
use crate::error::StoreError;
use crate::id_row::Origin;
use crate::identity::DedupKey;
use crate::sql::session::{Cells, Kind, Session, row, unexpected};
use crate::sql::{Value, outbox, signed, stored_scope};

const TABLE: &str = "create table if not exists oncelog_behind \
                     (name text primary key, incarnation text not null, stream_id bigint not null)";
const FIND: &str = "select incarnation, stream_id from oncelog_behind where name = $1";
const SET: &str = "insert into oncelog_behind (name, incarnation, stream_id) values ($1, $2, $3) \
                   on conflict (name) do update set incarnation = excluded.incarnation, stream_id = excluded.stream_id";
const PUT_ENTITY: &str = "insert into oncelog_entity (id, version, amount, value) values ($1, $2, $3, $4) \
                          on conflict (id) do update set version = excluded.version, amount = excluded.amount, value = excluded.value \
                          where oncelog_entity.version < excluded.version";
const PUT_ID: &str = "insert into oncelog_id (scope, id, state, token, attempt, prior, at_ms, fingerprint, \
                      origin_ms, topic, topic_partition, record_offset, result) \
                      values ($1, $2, $3, 0, 0, 0, $4, $5, $6, $7, $8, $9, $10) \
                      on conflict (scope, id) do update set state = excluded.state, owner = null, \
                      at_ms = excluded.at_ms, result = excluded.result";
const RAISE: &str = "insert into oncelog_position (consumers, topic, topic_partition, epoch, next_offset) values ($1, $2, $3, 0, $4) \
                     on conflict (consumers, topic, topic_partition) do update \
                     set next_offset = greatest(oncelog_position.next_offset, excluded.next_offset)";
const IDS: &str = "select scope, id, cast(state as bigint), at_ms, fingerprint, origin_ms, topic, topic_partition, record_offset, result \
                   from oncelog_id where state in (2, 3) and (scope, id) > ($1, $2) order by scope, id limit $3";
const IDS_KINDS: [Kind; 10] = [
    Kind::Text,
    Kind::Bytes,
    Kind::Int,
    Kind::Int,
    Kind::Bytes,
    Kind::Int,
    Kind::Text,
    Kind::Int,
    Kind::Int,
    Kind::Bytes,
];
const FLOORS: &str = "select scope, floor_ms from oncelog_floor";

/// Keeps everybody else who recovers or writes behind for that inbox out, until the transaction ends.
pub(super) async fn lock<S: Session>(session: &mut S, name: &str) -> Result<(), StoreError> {
    let digest = blake3::hash(name.as_bytes());
    let number = digest.as_bytes().first_chunk().copied();
    let number = i64::from_be_bytes(number.unwrap_or_default());
    let lock = format!("select pg_advisory_xact_lock({number})");
    session.batch(&lock).await
}

pub(super) async fn create<S: Session>(session: &mut S) -> Result<(), StoreError> {
    session.batch(TABLE).await
}

/// The incarnation of Redis that the database follows, and the last entry it has.
pub(super) async fn find<S: Session>(
    session: &mut S,
    name: &str,
) -> Result<Option<(String, u64)>, StoreError> {
    let found = row(session, FIND, &[name.into()], &[Kind::Text, Kind::Int]).await?;
    let decode = |mut cells: Cells| {
        let incarnation = cells.maybe_text()?.ok_or_else(unexpected)?;
        Ok((incarnation, cells.count()?))
    };
    found.map(decode).transpose()
}

pub(super) async fn set<S: Session>(
    session: &mut S,
    name: &str,
    incarnation: &str,
    entry: u64,
) -> Result<(), StoreError> {
    let args = [name.into(), incarnation.into(), signed(entry)?.into()];
    session.execute(SET, &args).await.map(drop)
}

/// An entity, also one that was removed; none stored is the default one.
pub(super) async fn entity<S: Session>(
    session: &mut S,
    id: &[u8],
) -> Result<EntityRow, StoreError> {
    let load = S::DIALECT.statements().load_entity;
    let kinds = [Kind::Int, Kind::Int, Kind::Bytes];
    let Some(mut cells) = row(session, load, &[id.into()], &kinds).await? else {
        return Ok(EntityRow::default());
    };
    Ok(EntityRow {
        version: cells.count()?,
        amount: cells.int()?,
        value: cells.maybe_bytes()?.map(Into::into),
    })
}

/// Applies a transaction. Again it changes nothing, but for what it sends: each entry is applied once.
pub(super) async fn apply<S: Session>(
    session: &mut S,
    entry: &Entry,
    at_ms: u64,
) -> Result<(), StoreError> {
    for (id, entity) in &entry.entities {
        let args = [
            id.as_slice().into(),
            signed(entity.version)?.into(),
            entity.amount.into(),
            Value::Bytes(entity.value.as_deref()),
        ];
        session.execute(PUT_ENTITY, &args).await?;
    }
    for (key, id) in &entry.ids {
        put_id(session, key, id, at_ms).await?;
        follow(session, key, &id.origin).await?;
    }
    for (key, origin) in &entry.seen {
        follow(session, key, origin).await?;
    }
    for record in &entry.outgoing {
        outbox::emit(session, record).await?;
    }
    if entry.next > 0 {
        let part = &entry.part;
        let args = [
            (&*part.group).into(),
            (&*part.topic).into(),
            i64::from(part.partition).into(),
            signed(entry.next)?.into(),
        ];
        session.execute(RAISE, &args).await?;
    }
    Ok(())
}

async fn put_id<S: Session>(
    session: &mut S,
    key: &DedupKey,
    id: &Settled,
    at_ms: u64,
) -> Result<(), StoreError> {
    let scope = stored_scope(&key.scope);
    let [origin, topic, partition, offset] = record(&id.origin)?;
    let args = [
        scope.as_str().into(),
        key.id.as_bytes().into(),
        i64::from(3 - i8::from(id.is_done)).into(),
        signed(at_ms)?.into(),
        id.fingerprint.0.as_slice().into(),
        origin,
        topic,
        partition,
        offset,
        Value::Bytes(id.result.as_deref()),
    ];
    session.execute(PUT_ID, &args).await.map(drop)
}

async fn follow<S: Session>(
    session: &mut S,
    key: &DedupKey,
    origin: &Origin,
) -> Result<(), StoreError> {
    let scope = stored_scope(&key.scope);
    let [origin, topic, partition, offset] = record(origin)?;
    let id = key.id.as_bytes().into();
    let args = [origin, topic, partition, offset, scope.as_str().into(), id];
    let follow = S::DIALECT.statements().follow;
    session.execute(follow, &args).await.map(drop)
}

fn record(origin: &Origin) -> Result<[Value<'_>; 4], StoreError> {
    let ms = origin.ms.map(signed).transpose()?;
    let position = origin.position.as_ref();
    let offset = position.map(|at| signed(at.2)).transpose()?;
    Ok([
        Value::Int(ms),
        Value::Text(position.map(|at| &*at.0)),
        Value::Int(position.map(|at| at.1.into())),
        Value::Int(offset),
    ])
}

/// Forgets what a sweep of Redis forgot.
pub(super) async fn forget<S: Session>(
    session: &mut S,
    scope: &str,
    ids: &[bytes::Bytes],
    floor: Option<u64>,
) -> Result<(), StoreError> {
    let statements = S::DIALECT.statements();
    for id in ids {
        let args = [scope.into(), (&**id).into()];
        session.execute(statements.forget, &args).await?;
    }
    if let Some(floor) = floor {
        let args = [scope.into(), signed(floor)?.into()];
        session.execute(statements.raise_floor, &args).await?;
    }
    Ok(())
}

/// An id as the database has it.
pub(super) struct Stored {
    pub(super) scope: String,
    pub(super) id: Vec<u8>,
    pub(super) is_done: bool,
    pub(super) at_ms: i64,
    pub(super) fingerprint: Vec<u8>,
    pub(super) origin_ms: Option<i64>,
    pub(super) record: Option<(String, i64, i64)>,
    pub(super) result: Option<Vec<u8>>,
}

/// Ids behind that one, in the order of their keys.
pub(super) async fn ids<S: Session>(
    session: &mut S,
    (scope, id): (&str, &[u8]),
    max: i64,
) -> Result<Vec<Stored>, StoreError> {
    let args = [scope.into(), id.into(), max.into()];
    let rows = session.rows(IDS, &args, &IDS_KINDS).await?;
    let decode = |mut cells: Cells| {
        Ok(Stored {
            scope: cells.maybe_text()?.ok_or_else(unexpected)?,
            id: cells.maybe_bytes()?.ok_or_else(unexpected)?,
            is_done: cells.int()? == 2,
            at_ms: cells.int()?,
            fingerprint: cells.maybe_bytes()?.ok_or_else(unexpected)?,
            origin_ms: cells.maybe_int()?,
            record: match (cells.maybe_text()?, cells.maybe_int()?, cells.maybe_int()?) {
                (Some(topic), Some(partition), Some(offset)) => Some((topic, partition, offset)),
                _ => None,
            },
            result: cells.maybe_bytes()?,
        })
    };
    rows.into_iter().map(decode).collect()
}

/// The floors of all scopes.
pub(super) async fn floors<S: Session>(session: &mut S) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = session.rows(FLOORS, &[], &[Kind::Text, Kind::Int]).await?;
    let decode = |mut cells: Cells| {
        let scope = cells.maybe_text()?.ok_or_else(unexpected)?;
        Ok((scope, cells.int()?))
    };
    rows.into_iter().map(decode).collect()
}
