//! Settlements that come together: one statement for many claims that are the current ones. What else there may be is found out alone.

use deadpool_postgres::Pool;
use tokio_postgres::types::Type;

use super::claims::{Arg, get};
use super::options::PgOptions;
use super::queue::{Queue, Together};
use super::session::commit_failed;
use super::tx::PgTx;
use crate::admission::{Held, Settlement};
use crate::error::StoreError;
use crate::sql::ids::{DONE, FREE, PARKED, signed, stored_scope};

const SETTLE: &str = "update oncelog_id set state = want.state, prior = 0, owner = null, result = want.result, \
     at_ms = coalesce($1, cast(extract(epoch from clock_timestamp()) * 1000 as bigint)) \
     from unnest($2, $3, $4, $5, $6) as want (scope, id, token, state, result) \
     where oncelog_id.scope = want.scope and oncelog_id.id = want.id and oncelog_id.token = want.token \
     and oncelog_id.state = 0 returning oncelog_id.scope, oncelog_id.id, oncelog_id.token, want.state";

/// By the key, for each: a planner that has no statistics yet reads the whole table instead.
const BY_KEY: &str = "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off";

/// A settlement on its way.
pub(super) struct Settle {
    scope: String,
    id: Vec<u8>,
    token: i64,
    state: i64,
    result: Option<Vec<u8>>,
}

impl Settle {
    pub(super) fn of(held: &Held, how: &Settlement) -> Result<Settle, StoreError> {
        let (state, result) = match how {
            Settlement::Done(result) => (DONE, result.as_ref().map(|bytes| bytes.to_vec())),
            Settlement::Released => (FREE, None),
            Settlement::Parked => (PARKED, None),
        };
        Ok(Settle {
            scope: stored_scope(&held.key.scope),
            id: held.key.id.as_bytes().to_vec(),
            token: signed(held.token.get())?,
            state,
            result,
        })
    }
}

/// What became of the settlement of a claim that was the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled;

pub(super) struct Settlements {
    pub(super) pool: Pool,
    pub(super) options: PgOptions,
    pub(super) queue: Queue<Settle, Settled>,
}

impl Together for Settlements {
    type Call = Settle;
    type Answer = Settled;

    fn queue(&self) -> &Queue<Settle, Settled> {
        &self.queue
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    async fn run(&self, tx: PgTx, calls: &[Settle]) -> Result<Vec<Option<Settled>>, StoreError> {
        // In one order of ids, so that no two transactions wait for each other.
        let mut order: Vec<&Settle> = calls.iter().collect();
        order.sort_by(|a, b| (&a.scope, &a.id).cmp(&(&b.scope, &b.id)));
        let scopes: Vec<&str> = order.iter().map(|call| &*call.scope).collect();
        let ids: Vec<&[u8]> = order.iter().map(|call| &*call.id).collect();
        let tokens: Vec<i64> = order.iter().map(|call| call.token).collect();
        let states: Vec<i64> = order.iter().map(|call| call.state).collect();
        let results: Vec<Option<&[u8]>> = order.iter().map(|call| call.result.as_deref()).collect();
        let now = self.options.reading();
        let args: [Arg<'_>; 6] = [
            (&now, Type::INT8),
            (&scopes, Type::TEXT_ARRAY),
            (&ids, Type::BYTEA_ARRAY),
            (&tokens, Type::INT8_ARRAY),
            (&states, Type::INT8_ARRAY),
            (&results, Type::BYTEA_ARRAY),
        ];
        let client = tx.client()?;
        let begin = format!("{}; {BY_KEY}", self.options.begin_together());
        // All in one flight: a commit behind a statement that failed rolls back.
        let (begun, updated, committed) = tokio::join!(
            biased;
            client.batch_execute(&begin),
            client.query_typed(SETTLE, &args),
            client.batch_execute("commit"),
        );
        let rows = match (begun, updated, committed) {
            (Ok(()), Ok(rows), Ok(())) => rows,
            (begun, updated, committed) => {
                let error = begun.err().or(updated.err()).or(committed.err());
                // Not back to the pool.
                drop(tx);
                let error = error.map_or(StoreError::Unknown, commit_failed);
                return Err(error);
            }
        };
        tx.ended();
        let mut answers = vec![None; calls.len()];
        for row in &rows {
            let (scope, id): (&str, &[u8]) = (get(row, 0)?, get(row, 1)?);
            let (token, state): (i64, i64) = (get(row, 2)?, get(row, 3)?);
            for (call, answer) in calls.iter().zip(&mut answers) {
                let is_it = (&*call.scope, &*call.id, call.token) == (scope, id, token);
                if is_it && call.state == state {
                    *answer = Some(Settled);
                }
            }
        }
        Ok(answers)
    }
}
