//! Claims with leases, in a transaction of ours each: what `DedupStore` is made of.

use std::sync::Arc;
use std::time::Duration;

use super::ids::{BUSY, DONE, FREE, Key, PARKED, fingerprint, is_expired, signed};
use super::session::{Cells, Kind, Session, row, unexpected};
use super::tx::Dialect;
use super::value::Value;
use crate::admission::{Admission, Held, Prior, Receipt, Settlement, Token};
use crate::clock::millis;
use crate::dedup_store::ClaimRequest;
use crate::error::StoreError;
use crate::id_row::{IdRow, IdState, Origin};
use crate::identity::DedupKey;

/// How often a row may vanish between two statements before somebody is told.
const TRIES: usize = 4;

/// The longest lease, so that times stay numbers of every database: 140,000 years.
pub(crate) const LEASE_MS_MAX: u64 = 1 << 52;

const ROW: [Kind; 13] = [
    Kind::Int,
    Kind::Int,
    Kind::Int,
    Kind::Int,
    Kind::Bytes,
    Kind::Int,
    Kind::Bytes,
    Kind::Int,
    Kind::Text,
    Kind::Int,
    Kind::Int,
    Kind::Bytes,
    Kind::Int,
];

pub(crate) async fn claim<S: Session>(
    session: &mut S,
    request: &ClaimRequest<'_>,
) -> Result<Admission<Held>, StoreError> {
    let key = Key::new(request.key);
    for _ in 0..TRIES {
        if let Some(token) = insert(session, &key, request).await? {
            // By a statement behind the insertion: that may have waited for a sweep, which forgot the id and raised the floor.
            let origin_ms = request.origin_ms.map(signed).transpose()?;
            if is_expired(session, &key.scope, origin_ms).await? {
                let forget = S::DIALECT.statements().forget;
                session.execute(forget, &key.args()).await?;
                return Ok(Admission::Expired);
            }
            return Ok(Admission::Run(Held {
                key: request.key.clone(),
                token,
                attempt: 1,
                prior: Prior::New,
            }));
        }
        let Some((found, now_ms)) = load(session, &key).await? else {
            continue;
        };
        let decide = |token| IdRow::claim(Some(&found), request, now_ms, None, token);
        let (mut answer, mut write) = decide(Token::NONE);
        if matches!(&answer, Admission::Run(held) if held.token == Token::NONE) {
            let next = S::DIALECT.statements().next_token;
            (answer, write) = decide(token(session, next, &[]).await?.ok_or_else(unexpected)?);
        }
        if let Some(row) = write {
            store(session, &key, &row).await?;
        }
        return Ok(answer);
    }
    Err(StoreError::Conflict)
}

pub(crate) async fn renew<S: Session>(
    session: &mut S,
    key: &DedupKey,
    held: Token,
    lease: Duration,
) -> Result<(), StoreError> {
    let key = Key::new(key);
    let (found, now_ms) = load(session, &key).await?.ok_or(StoreError::Lost(held))?;
    let row = found.renew(held, now_ms, millis(lease).min(LEASE_MS_MAX))?;
    store(session, &key, &row).await
}

pub(crate) async fn settle<S: Session>(
    session: &mut S,
    key: &DedupKey,
    held: Token,
    how: Settlement,
) -> Result<(), StoreError> {
    let key = Key::new(key);
    let (found, now_ms) = load(session, &key).await?.ok_or(StoreError::Lost(held))?;
    if let Some(row) = found.settle(held, how, now_ms)? {
        store(session, &key, &row).await?;
    }
    Ok(())
}

pub(crate) async fn peek<S: Session>(
    session: &mut S,
    key: &DedupKey,
) -> Result<Option<Receipt>, StoreError> {
    let key = Key::new(key);
    let peek = S::DIALECT.statements().peek;
    let found = row(session, peek, &key.args(), &[Kind::Int, Kind::Bytes]).await?;
    let receipt = |mut cells: Cells| {
        Ok(Receipt {
            token: Token::new(cells.count()?).ok_or_else(unexpected)?,
            result: cells.maybe_bytes()?.map(Into::into),
        })
    };
    found.map(receipt).transpose()
}

/// The token of a row that was inserted; none if one was there.
async fn insert<S: Session>(
    session: &mut S,
    key: &Key<'_>,
    request: &ClaimRequest<'_>,
) -> Result<Option<Token>, StoreError> {
    let statements = S::DIALECT.statements();
    let owner = request.owner.to_be_bytes();
    let lease_ms = signed(millis(request.lease).min(LEASE_MS_MAX))?;
    let origin = Origin::new(request.origin_ms, request.position);
    let [origin, topic, partition, offset] = record(&origin)?;
    let [scope, id] = key.args();
    let now = Value::Int(session.now_ms());
    let args = [
        scope,
        id,
        owner.as_slice().into(),
        now,
        lease_ms.into(),
        request.fingerprint.0.as_slice().into(),
        origin,
        topic,
        partition,
        offset,
    ];
    let inserted = token(session, statements.insert_claim, &args).await?;
    if inserted.is_some() && S::DIALECT == Dialect::Sqlite {
        // The insertion took the next one, this counts it.
        token(session, statements.next_token, &[]).await?;
    }
    Ok(inserted)
}

async fn token<S: Session>(
    session: &mut S,
    sql: &str,
    args: &[Value<'_>],
) -> Result<Option<Token>, StoreError> {
    let Some(mut cells) = row(session, sql, args, &[Kind::Int]).await? else {
        return Ok(None);
    };
    Token::new(cells.count()?).ok_or_else(unexpected).map(Some)
}

/// A row, locked until the transaction ends, and the time.
async fn load<S: Session>(
    session: &mut S,
    key: &Key<'_>,
) -> Result<Option<(IdRow, u64)>, StoreError> {
    let [scope, id] = key.args();
    let args = [Value::Int(session.now_ms()), scope, id];
    let load = S::DIALECT.statements().load_row;
    let found = row(session, load, &args, &ROW).await?;
    found.map(decode).transpose()
}

fn decode(mut cells: Cells) -> Result<(IdRow, u64), StoreError> {
    let state = cells.int()?;
    let token = Token::new(cells.count()?).ok_or_else(unexpected)?;
    let attempt = u32::try_from(cells.int()?).map_err(|_| unexpected())?;
    let prior = cells.int()?;
    let owner = cells.maybe_bytes()?;
    let at_ms = since(cells.int()?);
    let fingerprint = fingerprint(cells.maybe_bytes()?.as_deref())?;
    let ms = cells.maybe_int()?.map(since);
    let record = (cells.maybe_text()?, cells.maybe_int()?, cells.maybe_int()?);
    let result = cells.maybe_bytes()?.map(Into::into);
    let now_ms = since(cells.int()?);
    let position = match record {
        (Some(topic), Some(partition), Some(offset)) => {
            let partition = u32::try_from(partition).map_err(|_| unexpected())?;
            Some((Arc::from(topic), partition, since(offset)))
        }
        _ => None,
    };
    let state = match state {
        BUSY => IdState::Busy {
            owner: u128::from_be_bytes(
                owner
                    .and_then(|bytes| bytes.try_into().ok())
                    .ok_or_else(unexpected)?,
            ),
            until_ms: at_ms,
            prior: prior_of(prior)?,
        },
        FREE => IdState::Free { at_ms },
        DONE => IdState::Done { at_ms, result },
        PARKED => IdState::Parked { at_ms },
        _ => return Err(unexpected()),
    };
    let row = IdRow {
        state,
        token,
        attempt,
        fingerprint,
        origin: Origin { ms, position },
    };
    Ok((row, now_ms))
}

async fn store<S: Session>(session: &mut S, key: &Key<'_>, row: &IdRow) -> Result<(), StoreError> {
    let (state, at_ms, claim, result) = match &row.state {
        IdState::Busy {
            owner,
            until_ms,
            prior,
        } => (BUSY, *until_ms, Some((*owner, *prior)), None),
        IdState::Free { at_ms } => (FREE, *at_ms, None, None),
        IdState::Done { at_ms, result } => (DONE, *at_ms, None, result.as_deref()),
        IdState::Parked { at_ms } => (PARKED, *at_ms, None, None),
    };
    let owner = claim.map(|(owner, _)| owner.to_be_bytes());
    let prior = claim.map_or(0, |(_, prior)| number_of(prior));
    let [origin, topic, partition, offset] = record(&row.origin)?;
    let [scope, id] = key.args();
    let args = [
        state.into(),
        signed(row.token.get())?.into(),
        i64::from(row.attempt.min(i32::MAX.unsigned_abs())).into(),
        prior.into(),
        Value::Bytes(owner.as_ref().map(<[u8; 16]>::as_slice)),
        signed(at_ms.min(LEASE_MS_MAX * 2))?.into(),
        origin,
        topic,
        partition,
        offset,
        Value::Bytes(result),
        scope,
        id,
    ];
    let write = S::DIALECT.statements().write_row;
    match session.execute(write, &args).await? {
        1 => Ok(()),
        _ => Err(unexpected()),
    }
}

fn record(origin: &Origin) -> Result<[Value<'_>; 4], StoreError> {
    let at = origin.position.as_ref();
    let offset = at.map(|(_, _, offset)| signed(*offset)).transpose()?;
    Ok([
        Value::Int(origin.ms.map(signed).transpose()?),
        Value::Text(at.map(|(topic, _, _)| &**topic)),
        Value::Int(at.map(|(_, partition, _)| i64::from(*partition))),
        Value::Int(offset),
    ])
}

fn since(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

fn number_of(prior: Prior) -> i64 {
    match prior {
        Prior::New => 0,
        Prior::Released => 1,
        Prior::Crashed => 2,
        Prior::Parked => 3,
    }
}

fn prior_of(number: i64) -> Result<Prior, StoreError> {
    match number {
        0 => Ok(Prior::New),
        1 => Ok(Prior::Released),
        2 => Ok(Prior::Crashed),
        3 => Ok(Prior::Parked),
        _ => Err(unexpected()),
    }
}
