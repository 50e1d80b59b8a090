//! Id and effect in one transaction of sqlx: two methods, and a claim at its beginning.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../crates/consumer-inbox/tests/servers/mod.rs"]
mod servers;

use std::str::FromStr as _;

use consumer_inbox::sql::{self, Answer, Dialect, SqlTx, Value, schema};
use consumer_inbox::{Admission, Delivery, Position, Settlement, StoreError};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _};

/// A transaction of sqlx is a connection.
struct Mine<'a>(&'a mut PgConnection);

// All statements are constants of `consumer_inbox::sql`.
fn bound<'q>(sql: &str, args: &[Value<'q>]) -> Query<'q, Postgres, PgArguments> {
    let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    args.iter().fold(query, |query, arg| match *arg {
        Value::Int(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

fn failed(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code());
    let code = code.map(|code| code.into_owned());
    sql::failed(code.as_deref(), error)
}

impl SqlTx for Mine<'_> {
    const DIALECT: Dialect = Dialect::Postgres;

    async fn execute(&mut self, sql: &str, args: &[Value<'_>]) -> Result<u64, StoreError> {
        let done = bound(sql, args).execute(&mut *self.0).await;
        Ok(done.map_err(failed)?.rows_affected())
    }

    async fn query_row(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
    ) -> Result<Option<Answer>, StoreError> {
        let row = bound(sql, args).fetch_optional(&mut *self.0).await;
        let Some(row) = row.map_err(failed)? else {
            return Ok(None);
        };
        Ok(Some(Answer {
            number: row.try_get("number").map_err(failed)?,
            first: row.try_get("first").map_err(failed)?,
            second: row.try_get("second").map_err(failed)?,
        }))
    }
}

/// What a team's code looks like: its own pool, its own statements, one question.
async fn invoice(pool: &PgPool, order: &Delivery) -> Result<bool, StoreError> {
    let mut tx = pool.begin().await.map_err(failed)?;
    let admitted = sql::claim(&mut Mine(&mut tx), order).await?;
    if let Admission::Run(()) = admitted {
        let insert = sqlx::query("insert into invoice (id, body) values ($1, $2)");
        let insert = insert
            .bind(order.biz_id_str().unwrap())
            .bind(order.payload());
        insert.execute(&mut *tx).await.map_err(failed)?;
    }
    tx.commit().await.map_err(|_| StoreError::Unknown)?;
    match admitted {
        Admission::Busy { retry_after } => Err(StoreError::Busy { retry_after }),
        admitted => Ok(admitted == Admission::Run(())),
    }
}

fn order(id: &str, offset: u64) -> Delivery {
    let at = Position {
        topic: "orders",
        partition: 0,
        offset,
    };
    let order = Delivery::foreign("billing", at, id, &b"payload"[..]).unwrap();
    order.stored_at(1_000 + offset)
}

async fn pool() -> Option<PgPool> {
    let server = servers::postgres()?;
    let schema = servers::fresh_name("door");
    let options = PgConnectOptions::from_str(&server.url()).unwrap();
    let options = options.options([("search_path", &schema)]);
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    let mut tables =
        format!("create schema {schema}; create table invoice (id text primary key, body bytea);");
    for step in schema::MIGRATIONS {
        tables.push_str(step.sql(Dialect::Postgres));
    }
    sqlx::raw_sql(AssertSqlSafe(tables))
        .execute(&pool)
        .await
        .unwrap();
    let mut connection = pool.acquire().await.unwrap();
    schema::check(&mut Mine(&mut connection)).await.unwrap();
    Some(pool)
}

async fn invoices(pool: &PgPool) -> i64 {
    let count = sqlx::query("select count(*) from invoice").fetch_one(pool);
    count.await.unwrap().get(0)
}

#[tokio::test]
async fn an_order_that_comes_again_is_invoiced_once() {
    let Some(pool) = pool().await else {
        return;
    };
    assert!(invoice(&pool, &order("a", 7)).await.unwrap());
    assert!(
        !invoice(&pool, &order("a", 7)).await.unwrap(),
        "delivered again"
    );
    assert!(
        !invoice(&pool, &order("a", 9)).await.unwrap(),
        "published again"
    );
    assert!(invoice(&pool, &order("b", 8)).await.unwrap());
    assert_eq!(invoices(&pool).await, 2);
}

#[tokio::test]
async fn what_is_rolled_back_was_never_claimed() {
    let Some(pool) = pool().await else {
        return;
    };
    let a = order("a", 7);
    let mut tx = pool.begin().await.unwrap();
    let admitted = sql::claim(&mut Mine(&mut tx), &a).await.unwrap();
    assert_eq!(admitted, Admission::Run(()));
    tx.rollback().await.unwrap();
    assert!(invoice(&pool, &a).await.unwrap());
    assert_eq!(invoices(&pool).await, 1);
}

#[tokio::test]
async fn of_two_at_once_the_second_waits_and_is_done() {
    let Some(pool) = pool().await else {
        return;
    };
    let a = order("a", 7);
    let mut first = pool.begin().await.unwrap();
    sql::claim(&mut Mine(&mut first), &a).await.unwrap();
    let result = Settlement::Done(Some("paid".into()));
    sql::settle(&mut Mine(&mut first), &a, result)
        .await
        .unwrap();
    let (other, again) = (pool.clone(), a.clone());
    let second = tokio::spawn(async move { invoice(&other, &again).await });

    let mut impatient = pool.begin().await.unwrap();
    let timeout = sqlx::query("set local lock_timeout = '50ms'");
    timeout.execute(&mut *impatient).await.unwrap();
    let busy = sql::claim(&mut Mine(&mut impatient), &a).await;
    assert!(matches!(busy, Err(StoreError::Busy { .. })), "{busy:?}");

    first.commit().await.unwrap();
    assert!(!second.await.unwrap().unwrap());
    let mut tx = pool.begin().await.unwrap();
    let admitted = sql::claim(&mut Mine(&mut tx), &a).await.unwrap();
    let Admission::Done(receipt) = admitted else {
        panic!("{admitted:?}");
    };
    assert_eq!(receipt.result.as_deref(), Some(&b"paid"[..]));
}
