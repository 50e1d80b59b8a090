//! Id and effect in one transaction of diesel, over SQLite: two methods, and a claim at its beginning. Its calls do not wait, so
//! [`sql::ready`] asks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use consumer_inbox::sql::{self, Answer, Dialect, SqlTx, Value, schema};
use consumer_inbox::{Admission, Delivery, Position, Settlement, StoreError};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteConnection};

/// A transaction of diesel is its connection.
struct Mine<'a>(&'a mut SqliteConnection);

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    first: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    second: Option<Vec<u8>>,
}

fn bound<'q>(sql: &str, args: &[Value<'q>]) -> BoxedSqlQuery<'q, Sqlite, SqlQuery> {
    let query = diesel::sql_query(sql).into_boxed::<Sqlite>();
    args.iter().fold(query, |query, arg| match *arg {
        Value::Int(number) => query.bind::<Nullable<BigInt>, _>(number),
        Value::Text(text) => query.bind::<Nullable<Text>, _>(text),
        Value::Bytes(bytes) => query.bind::<Nullable<Binary>, _>(bytes),
    })
}

fn failed(error: Error) -> StoreError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => StoreError::Conflict,
        error => StoreError::backend(error),
    }
}

impl SqlTx for Mine<'_> {
    const DIALECT: Dialect = Dialect::Sqlite;

    async fn execute(&mut self, sql: &str, args: &[Value<'_>]) -> Result<u64, StoreError> {
        let changed = bound(sql, args).execute(self.0).map_err(failed)?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    async fn query_row(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
    ) -> Result<Option<Answer>, StoreError> {
        let row = bound(sql, args).get_result::<Row>(self.0).optional();
        let answer = |row: Row| Answer {
            number: row.number,
            first: row.first,
            second: row.second,
        };
        Ok(row.map_err(failed)?.map(answer))
    }
}

#[derive(Debug)]
#[allow(dead_code, reason = "shown when a test fails")]
enum Failed {
    Store(StoreError),
    Diesel(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Diesel(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Store(error)
    }
}

/// What a team's code looks like: its own connection, its own statements, one question.
fn invoice(connection: &mut SqliteConnection, order: &Delivery) -> Result<bool, Failed> {
    connection.immediate_transaction(|tx| {
        let admitted = sql::ready(sql::claim(&mut Mine(tx), order))?;
        if let Admission::Run(()) = admitted {
            diesel::sql_query("insert into invoice (id, body) values (?, ?)")
                .bind::<Text, _>(order.biz_id_str().unwrap())
                .bind::<Binary, _>(order.payload())
                .execute(tx)?;
            let result = Settlement::Done(Some("paid".into()));
            sql::ready(sql::settle(&mut Mine(tx), order, result))?;
        }
        Ok(admitted == Admission::Run(()))
    })
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

fn connection() -> SqliteConnection {
    let mut connection = SqliteConnection::establish(":memory:").unwrap();
    let invoices = "create table invoice (id text primary key, body blob not null)";
    connection.batch_execute(invoices).unwrap();
    let missing = sql::ready(schema::check(&mut Mine(&mut connection)));
    assert!(
        matches!(missing, Err(sql::OpenError::Schema { found: 0 })),
        "{missing:?}"
    );
    for step in schema::MIGRATIONS {
        connection.batch_execute(step.sql(Dialect::Sqlite)).unwrap();
    }
    sql::ready(schema::check(&mut Mine(&mut connection))).unwrap();
    connection
}

#[test]
fn an_order_that_comes_again_is_invoiced_once() {
    let mut connection = connection();
    assert!(invoice(&mut connection, &order("a", 7)).unwrap());
    assert!(
        !invoice(&mut connection, &order("a", 7)).unwrap(),
        "delivered again"
    );
    assert!(
        !invoice(&mut connection, &order("a", 9)).unwrap(),
        "published again"
    );
    assert!(invoice(&mut connection, &order("b", 8)).unwrap());
    let count =
        diesel::sql_query("select count(*) as number, null as first, null as second from invoice");
    let count: Row = count.get_result(&mut connection).unwrap();
    assert_eq!(count.number, Some(2));
    let admitted = sql::ready(sql::claim(&mut Mine(&mut connection), &order("a", 7))).unwrap();
    let Admission::Done(receipt) = admitted else {
        panic!("{admitted:?}");
    };
    assert_eq!(receipt.result.as_deref(), Some(&b"paid"[..]));
}

#[test]
fn what_is_rolled_back_was_never_claimed() {
    let mut connection = connection();
    let a = order("a", 7);
    let rolled_back = connection.immediate_transaction(|tx| -> Result<(), Failed> {
        let admitted = sql::ready(sql::claim(&mut Mine(tx), &a))?;
        assert_eq!(admitted, Admission::Run(()));
        Err(Error::RollbackTransaction.into())
    });
    assert!(rolled_back.is_err());
    assert!(invoice(&mut connection, &a).unwrap());
}
