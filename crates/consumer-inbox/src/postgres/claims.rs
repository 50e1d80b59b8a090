//! Claims that come together: one statement for many ids that nobody has seen. What else there may be to an id is found out alone.

use std::collections::HashMap;

use deadpool_postgres::Pool;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::options::PgOptions;
use super::queue::{Queue, Together};
use super::session::failed;
use super::tx::PgTx;
use crate::admission::Token;
use crate::clock::millis;
use crate::dedup_store::ClaimRequest;
use crate::error::StoreError;
use crate::sql::claims::LEASE_MS_MAX;
use crate::sql::ids::{signed, stored_scope};
use crate::sql::session::unexpected;

/// In one order of ids, so that no two transactions wait for each other.
const CLAIM: &str = "insert into oncelog_id (scope, id, state, token, attempt, prior, owner, at_ms, fingerprint, \
     origin_ms, topic, topic_partition, record_offset) \
     select want.scope, want.id, 0, nextval('oncelog_token'), 1, 0, want.owner, \
     coalesce($1, cast(extract(epoch from clock_timestamp()) * 1000 as bigint)) + want.lease, want.fingerprint, \
     want.origin_ms, want.topic, want.topic_partition, want.record_offset \
     from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10) as \
     want (scope, id, owner, lease, fingerprint, origin_ms, topic, topic_partition, record_offset) \
     on conflict (scope, id) do nothing returning scope, id, owner, token";

const FLOORS: &str = "select scope, floor_ms from oncelog_floor where scope = any($1)";

const FORGET: &str = "delete from oncelog_id using unnest($1, $2, $3) as gone (scope, id, token) \
     where oncelog_id.scope = gone.scope and oncelog_id.id = gone.id and oncelog_id.token = gone.token";

pub(super) type Arg<'a> = (&'a (dyn ToSql + Sync), Type);

/// A claim on its way.
pub(super) struct Claim {
    scope: String,
    id: Vec<u8>,
    owner: [u8; 16],
    lease_ms: i64,
    fingerprint: [u8; 16],
    origin_ms: Option<i64>,
    record: Option<(String, i64, i64)>,
}

impl Claim {
    pub(super) fn of(request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let record = match request.position {
            Some(at) => {
                let place = (at.topic.to_owned(), i64::from(at.partition));
                Some((place.0, place.1, signed(at.offset)?))
            }
            None => None,
        };
        Ok(Claim {
            scope: stored_scope(&request.key.scope),
            id: request.key.id.as_bytes().to_vec(),
            owner: request.owner.to_be_bytes(),
            lease_ms: signed(millis(request.lease).min(LEASE_MS_MAX))?,
            fingerprint: request.fingerprint.0,
            origin_ms: request.origin_ms.map(signed).transpose()?,
            record,
        })
    }
}

/// What became of a claim on an id that nobody had seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claimed {
    Run(Token),
    Expired,
}

pub(super) struct Claims {
    pub(super) pool: Pool,
    pub(super) options: PgOptions,
    pub(super) queue: Queue<Claim, Claimed>,
}

impl Together for Claims {
    type Call = Claim;
    type Answer = Claimed;

    fn queue(&self) -> &Queue<Claim, Claimed> {
        &self.queue
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    async fn run(&self, tx: PgTx, calls: &[Claim]) -> Result<Vec<Option<Claimed>>, StoreError> {
        let mut order: Vec<&Claim> = calls.iter().collect();
        order.sort_by(|a, b| (&a.scope, &a.id).cmp(&(&b.scope, &b.id)));
        let scopes: Vec<&str> = order.iter().map(|call| &*call.scope).collect();
        let ids: Vec<&[u8]> = order.iter().map(|call| &*call.id).collect();
        let owners: Vec<&[u8]> = order.iter().map(|call| &call.owner[..]).collect();
        let leases: Vec<i64> = order.iter().map(|call| call.lease_ms).collect();
        let prints: Vec<&[u8]> = order.iter().map(|call| &call.fingerprint[..]).collect();
        let origins: Vec<Option<i64>> = order.iter().map(|call| call.origin_ms).collect();
        let record = |call: &&Claim| call.record.clone();
        let records: Vec<_> = order.iter().map(record).collect();
        let topics: Vec<Option<&str>> = records.iter().map(|r| Some(&*r.as_ref()?.0)).collect();
        let partitions: Vec<Option<i64>> = records.iter().map(|r| Some(r.as_ref()?.1)).collect();
        let offsets: Vec<Option<i64>> = records.iter().map(|r| Some(r.as_ref()?.2)).collect();
        let now = self.options.reading();
        let args: [Arg<'_>; 10] = [
            (&now, Type::INT8),
            (&scopes, Type::TEXT_ARRAY),
            (&ids, Type::BYTEA_ARRAY),
            (&owners, Type::BYTEA_ARRAY),
            (&leases, Type::INT8_ARRAY),
            (&prints, Type::BYTEA_ARRAY),
            (&origins, Type::INT8_ARRAY),
            (&topics, Type::TEXT_ARRAY),
            (&partitions, Type::INT8_ARRAY),
            (&offsets, Type::INT8_ARRAY),
        ];
        let mut of_scopes = scopes.clone();
        of_scopes.dedup();
        let of_scopes: [Arg<'_>; 1] = [(&of_scopes, Type::TEXT_ARRAY)];
        let client = tx.client()?;
        let begin = self.options.begin_together();
        // In one flight, and one after another: what is behind an insertion sees what a sweep did that the insertion waited for.
        let (begun, inserted, floors) = tokio::join!(
            biased;
            client.batch_execute(&begin),
            client.query_typed(CLAIM, &args),
            client.query_typed(FLOORS, &of_scopes),
        );
        let answers = begun
            .and_then(|()| Ok((inserted?, floors?)))
            .map_err(failed);
        let answers = answers.and_then(|(inserted, floors)| answered(calls, &inserted, &floors));
        let (answers, expired) = match answers {
            Ok(answers) => answers,
            Err(error) => return tx.end(Err(error)).await,
        };
        if !expired.is_empty() {
            let scopes: Vec<&str> = expired.iter().map(|one| &*one.0).collect();
            let ids: Vec<&[u8]> = expired.iter().map(|one| &*one.1).collect();
            let tokens: Vec<i64> = expired.iter().map(|one| one.2).collect();
            let args: [Arg<'_>; 3] = [
                (&scopes, Type::TEXT_ARRAY),
                (&ids, Type::BYTEA_ARRAY),
                (&tokens, Type::INT8_ARRAY),
            ];
            let forgotten = client.execute_typed(FORGET, &args).await;
            if let Err(error) = forgotten {
                return tx.end(Err(failed(error))).await;
            }
        }
        tx.end(Ok(answers)).await
    }
}

type Expired = (String, Vec<u8>, i64);

/// An answer for each call whose row was inserted, and what is to be deleted of that.
fn answered(
    calls: &[Claim],
    inserted: &[Row],
    floors: &[Row],
) -> Result<(Vec<Option<Claimed>>, Vec<Expired>), StoreError> {
    let mut answers = vec![None; calls.len()];
    let mut expired = Vec::new();
    let mut floor_of = HashMap::new();
    for row in floors {
        let (scope, floor): (&str, i64) = (get(row, 0)?, get(row, 1)?);
        floor_of.insert(scope, floor);
    }
    for row in inserted {
        let (scope, id, owner): (&str, &[u8], &[u8]) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
        let number: i64 = get(row, 3)?;
        let token = u64::try_from(number).ok().and_then(Token::new);
        let token = token.ok_or_else(unexpected)?;
        for (call, answer) in calls.iter().zip(&mut answers) {
            if call.scope != scope || call.id != id || call.owner != owner {
                continue;
            }
            let floor = floor_of.get(scope);
            *answer = match (call.origin_ms, floor) {
                (Some(origin), Some(floor)) if origin <= *floor => {
                    expired.push((scope.to_owned(), id.to_vec(), number));
                    Some(Claimed::Expired)
                }
                _ => Some(Claimed::Run(token)),
            };
        }
    }
    Ok((answers, expired))
}

pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: usize,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(failed)
}
