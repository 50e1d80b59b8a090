//! Forgetting ids, and remembering how far (E11).

use std::fmt::Write as _;

use super::ids::{signed, stored_scope};
use super::session::{Kind, Session, row, unexpected};
use super::tx::Dialect;
use super::value::Value;
use crate::clock::millis;
use crate::dedup_store::Horizon;
use crate::error::StoreError;

/// The most ids of one transaction: a claim waits for no more.
pub(crate) const BATCH: usize = 1_000;

/// Forgets up to `max` ids, those of the oldest records first, so that the floor rises no more than it must, and raises the floor in the same transaction, which is the caller's.
pub(crate) async fn sweep<S: Session>(
    session: &mut S,
    below: &Horizon,
    max: usize,
) -> Result<usize, StoreError> {
    let statements = S::DIALECT.statements();
    let scope = stored_scope(&below.scope);
    let now = [Value::Int(session.now_ms())];
    let now = row(session, statements.now, &now, &[Kind::Int]).await?;
    let now_ms = now.ok_or_else(unexpected)?.count()?;
    let window = millis(below.republish_window);
    let before = |ms: u64| signed(now_ms.saturating_sub(ms));
    let parked = below.parked_longer_than.map(|age| millis(age).max(window));
    let mut args = Vec::new();
    for ((topic, partition), start) in &below.log_starts {
        args.push((&**topic).into());
        args.push(i64::from(*partition).into());
        args.push(signed((*start).min(i64::MAX.unsigned_abs()))?.into());
    }
    args.extend([
        scope.as_str().into(),
        before(window)?.into(),
        Value::Int(parked.map(before).transpose()?),
        signed(below.origin_before_ms.min(i64::MAX.unsigned_abs()))?.into(),
        i64::try_from(max).unwrap_or(i64::MAX).into(),
    ]);
    let forget = statement(S::DIALECT, below.log_starts.len());
    let gone = session.rows(&forget, &args, &[Kind::Int]).await?;
    let forgotten = gone.len();
    let mut newest = None;
    for mut cells in gone {
        newest = newest.max(cells.maybe_int()?);
    }
    if let Some(newest) = newest {
        let floor = [scope.as_str().into(), newest.into()];
        session.execute(statements.raise_floor, &floor).await?;
    }
    Ok(forgotten)
}

/// With as many partitions as there are. The conditions are those of `IdRow::is_below`.
fn statement(dialect: Dialect, partitions: usize) -> String {
    let mut sql = String::new();
    for nth in 0..partitions {
        sql.push_str(match nth {
            0 => "with log_start (topic, topic_partition, start_offset) as (values ",
            _ => ", ",
        });
        let [topic, partition, offset] = [1, 2, 3].map(|n| 3 * nth + n);
        let _ = write!(
            sql,
            "(cast(${topic} as text), cast(${partition} as bigint), cast(${offset} as bigint))"
        );
    }
    let gone = match partitions {
        0 => "topic is null",
        _ => {
            sql.push_str(") ");
            "(topic is null or exists (select 1 from log_start where log_start.topic = oncelog_id.topic \
             and log_start.topic_partition = oncelog_id.topic_partition \
             and oncelog_id.record_offset < log_start.start_offset))"
        }
    };
    let [scope, settled, parked, origin, max] = [1, 2, 3, 4, 5].map(|n| 3 * partitions + n);
    let lock = match dialect {
        Dialect::Postgres => " for update skip locked",
        Dialect::Sqlite => "",
    };
    let _ = write!(
        sql,
        "delete from oncelog_id where (scope, id) in (select scope, id from oncelog_id \
         where scope = ${scope} and state <> 0 \
         and ((state <> 3 and at_ms < ${settled}) or (state = 3 and at_ms < ${parked})) \
         and (origin_ms is null or origin_ms < ${origin}) and {gone} order by origin_ms nulls first, at_ms limit ${max}{lock}) \
         returning origin_ms"
    );
    sql
}
