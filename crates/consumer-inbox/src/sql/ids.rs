//! The ids of an inbox: absent, done, parked. No leases: the transaction is the lease.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::session::Session;
use super::tx::{LOCKED, SqlTx};
use super::value::Value;
use crate::admission::{Admission, Receipt, Settlement, Token};
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::identity::{Fingerprint, Scope};

/// How often a row may vanish between two statements before somebody is told.
const TRIES: usize = 4;

/// States of a row.
pub(crate) const BUSY: i64 = 0;
pub(crate) const FREE: i64 = 1;
pub(crate) const DONE: i64 = 2;
pub(crate) const PARKED: i64 = 3;

/// Asks, inside your transaction, whether the effect may happen, and writes the id as done if so. Call it before your statements: of two
/// transactions with one id the second waits here until the first is committed or rolled back (PostgreSQL; set `lock_timeout`).
///
/// * [`Admission::Run`]: make the effect, then commit. To give the id back, roll back.
/// * [`Admission::Done`]: commit or roll back, and acknowledge.
/// * [`Admission::Busy`]: deliver again later, do not acknowledge.
/// * [`Admission::Parked`]: acknowledge. [`Admission::Mismatch`] and [`Admission::Expired`]: to the dead-letter topic.
///
/// # Errors
/// `Busy` if the wait for another transaction was too long, `Conflict` if a race was lost: roll back, deliver again.
pub async fn claim<T: SqlTx>(tx: &mut T, delivery: &Delivery) -> Result<Admission<()>, StoreError> {
    claim_at(tx, delivery, None).await
}

/// Changes what [`claim`] wrote, later in the same transaction: a result for whoever asks again, or another end. `Released` and `Parked` undo no
/// effect: that is a rollback to a savepoint of yours.
///
/// # Errors
/// What the database says.
pub async fn settle<T: SqlTx>(
    tx: &mut T,
    delivery: &Delivery,
    how: Settlement,
) -> Result<(), StoreError> {
    match how {
        Settlement::Done(result) => set_result(tx, delivery, result.as_deref()).await,
        // A re-drive that fails is parked again.
        Settlement::Released if !delivery.is_redrive() => {
            let key = Key::of(delivery);
            let forget = T::DIALECT.statements().forget;
            tx.execute(forget, &key.args()).await?;
            Ok(())
        }
        Settlement::Released | Settlement::Parked => park(tx, delivery, None).await,
    }
}

pub(crate) async fn claim_at<T: SqlTx>(
    tx: &mut T,
    delivery: &Delivery,
    now_ms: Option<i64>,
) -> Result<Admission<()>, StoreError> {
    let statements = T::DIALECT.statements();
    let row = Row::of(delivery)?;
    for _ in 0..TRIES {
        if tx
            .execute(statements.insert_done, &row.args(now_ms))
            .await?
            == 1
        {
            // By a statement behind the insertion: that may have waited for a sweep, which forgot the id and raised the floor.
            let expired = is_expired(tx, &row.key.scope, row.origin_ms).await?;
            return inserted(tx, &row, expired).await;
        }
        if let Some(answer) = known(tx, delivery, &row, now_ms).await? {
            return Ok(answer);
        }
    }
    Err(StoreError::Conflict)
}

/// The same behind a savepoint; insertion and floor in one flight where the id is new.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) async fn claim_behind<S: Session>(
    session: &mut S,
    savepoint: &str,
    delivery: &Delivery,
) -> Result<Admission<()>, StoreError> {
    let statements = S::DIALECT.statements();
    let (row, now_ms) = (Row::of(delivery)?, session.now_ms());
    let (insert, scope) = (row.args(now_ms), [(&*row.key.scope).into()]);
    let floor = row.origin_ms.map(|_| (statements.floor, &scope[..]));
    let flight = session.flight(savepoint, (statements.insert_done, &insert), floor);
    let (changed, floor) = flight.await?;
    if changed == 1 {
        let floor = floor.and_then(|row| row.number);
        return inserted(session, &row, is_at_most(row.origin_ms, floor)).await;
    }
    match known(session, delivery, &row, now_ms).await? {
        Some(answer) => Ok(answer),
        None => claim_at(session, delivery, now_ms).await,
    }
}

async fn inserted<T: SqlTx>(
    tx: &mut T,
    row: &Row<'_>,
    is_expired: bool,
) -> Result<Admission<()>, StoreError> {
    if is_expired {
        let forget = T::DIALECT.statements().forget;
        tx.execute(forget, &row.key.args()).await?;
        return Ok(Admission::Expired);
    }
    Ok(Admission::Run(()))
}

/// The answer about an id that was there; none if it is not any more.
async fn known<T: SqlTx>(
    tx: &mut T,
    delivery: &Delivery,
    row: &Row<'_>,
    now_ms: Option<i64>,
) -> Result<Option<Admission<()>>, StoreError> {
    let statements = T::DIALECT.statements();
    let key = row.key.args();
    let Some(found) = tx.query_row(statements.find_id, &key).await? else {
        return Ok(None);
    };
    let stored = fingerprint(found.first.as_deref())?;
    if stored != delivery.fingerprint() {
        return Ok(Some(Admission::Mismatch { stored }));
    }
    Ok(match found.number {
        Some(DONE) => {
            follow(tx, row).await?;
            Some(Admission::Done(Receipt {
                token: Token::NONE,
                result: found.second.map(Into::into),
            }))
        }
        Some(PARKED) if !delivery.is_redrive() => {
            follow(tx, row).await?;
            Some(Admission::Parked)
        }
        Some(PARKED | FREE) => {
            let [scope, id] = key;
            let again = [Value::Int(now_ms), scope, id];
            if tx.execute(statements.run_again, &again).await? == 1 {
                follow(tx, row).await?;
                Some(Admission::Run(()))
            } else {
                None
            }
        }
        // By a claim with a lease.
        Some(BUSY) => Some(Admission::Busy {
            retry_after: LOCKED,
        }),
        _ => return Err(StoreError::backend("a stored state is none that is known")),
    })
}

pub(crate) async fn set_result<T: SqlTx>(
    tx: &mut T,
    delivery: &Delivery,
    result: Option<&[u8]>,
) -> Result<(), StoreError> {
    if result.is_some() {
        let key = Key::of(delivery);
        let [scope, id] = key.args();
        let set_result = T::DIALECT.statements().set_result;
        tx.execute(set_result, &[Value::Bytes(result), scope, id])
            .await?;
    }
    Ok(())
}

pub(crate) async fn park<T: SqlTx>(
    tx: &mut T,
    delivery: &Delivery,
    now_ms: Option<i64>,
) -> Result<(), StoreError> {
    let row = Row::of(delivery)?;
    tx.execute(T::DIALECT.statements().park, &row.args(now_ms))
        .await?;
    follow(tx, &row).await
}

pub(crate) async fn is_expired<T: SqlTx>(
    tx: &mut T,
    scope: &str,
    origin_ms: Option<i64>,
) -> Result<bool, StoreError> {
    let Some(origin_ms) = origin_ms else {
        return Ok(false);
    };
    let floor = T::DIALECT.statements().floor;
    let floor = tx.query_row(floor, &[scope.into()]).await?;
    Ok(is_at_most(
        Some(origin_ms),
        floor.and_then(|row| row.number),
    ))
}

fn is_at_most(origin_ms: Option<i64>, floor_ms: Option<i64>) -> bool {
    origin_ms
        .zip(floor_ms)
        .is_some_and(|(origin_ms, floor_ms)| origin_ms <= floor_ms)
}

/// The id goes with the newest record that carried it.
async fn follow<T: SqlTx>(tx: &mut T, row: &Row<'_>) -> Result<(), StoreError> {
    let [scope, id] = row.key.args();
    let [origin, topic, partition, offset] = row.record();
    let args = [origin, topic, partition, offset, scope, id];
    tx.execute(T::DIALECT.statements().follow, &args).await?;
    Ok(())
}

/// A scope as it is stored: the length in front keeps "a" + "b:c" and "a:b" + "c" apart (E14).
pub(crate) fn stored_scope(scope: &Scope) -> String {
    format!("{}:{}:{}", scope.group.len(), scope.group, scope.scenario)
}

pub(crate) fn fingerprint(bytes: Option<&[u8]>) -> Result<Fingerprint, StoreError> {
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    let bytes =
        bytes.ok_or_else(|| StoreError::backend("a stored fingerprint has not 16 bytes"))?;
    Ok(Fingerprint(bytes))
}

/// A number of ours as the database's.
pub(crate) fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number)
        .map_err(|_| StoreError::Misuse("offsets, times and epochs are below 2^63 in a database"))
}

/// A key as it is stored.
pub(crate) struct Key<'a> {
    pub(crate) scope: String,
    pub(crate) id: &'a [u8],
}

impl<'a> Key<'a> {
    fn of(delivery: &'a Delivery) -> Key<'a> {
        Key::new(delivery.dedup_key())
    }

    pub(crate) fn new(key: &'a crate::DedupKey) -> Key<'a> {
        Key {
            scope: stored_scope(&key.scope),
            id: key.id.as_bytes(),
        }
    }

    pub(crate) fn args(&self) -> [Value<'_>; 2] {
        [(&*self.scope).into(), self.id.into()]
    }
}

/// What an inbox writes of a delivery.
struct Row<'a> {
    key: Key<'a>,
    fingerprint: [u8; 16],
    origin_ms: Option<i64>,
    topic: &'a str,
    partition: i64,
    offset: i64,
}

impl<'a> Row<'a> {
    fn of(delivery: &'a Delivery) -> Result<Row<'a>, StoreError> {
        let at = delivery.position();
        Ok(Row {
            key: Key::of(delivery),
            fingerprint: delivery.fingerprint().0,
            origin_ms: delivery.origin_ms().map(signed).transpose()?,
            topic: at.topic,
            partition: i64::from(at.partition),
            offset: signed(at.offset)?,
        })
    }

    fn record(&self) -> [Value<'_>; 4] {
        [
            Value::Int(self.origin_ms),
            self.topic.into(),
            self.partition.into(),
            self.offset.into(),
        ]
    }

    fn args(&self, now_ms: Option<i64>) -> [Value<'_>; 8] {
        let [scope, id] = self.key.args();
        let [origin, topic, partition, offset] = self.record();
        let fingerprint = self.fingerprint.as_slice().into();
        [
            scope,
            id,
            Value::Int(now_ms),
            fingerprint,
            origin,
            topic,
            partition,
            offset,
        ]
    }
}
