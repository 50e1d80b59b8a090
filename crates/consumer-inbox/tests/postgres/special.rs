//! What only PostgreSQL has to show: hidden errors, waits and their end, cancelled statements, refused servers, its own clock.

use std::sync::Arc;
use std::time::Duration;

use consumer_inbox::conformance::block_on;
use consumer_inbox::sql::{self, Inserted, OpenError, Value};
use consumer_inbox::{
    Admission, DedupStore, Inbox, PgInbox, PgOptions, PgStore, Postgres, Prior, Settlement,
    StoreError,
};

use super::common::records::{delivery, part};
use super::fixture::{EFFECTS, ONE_MORE, client, count, schema};
use super::servers;

const LONG: Duration = Duration::from_secs(60);

struct World {
    inbox: Arc<PgInbox>,
    db: tokio_postgres::Client,
    config: String,
}

async fn world(options: PgOptions) -> Option<World> {
    let config = schema(&servers::postgres()?.config()).await;
    let db = client(&config).await;
    db.batch_execute(EFFECTS).await.unwrap();
    let inbox = PgInbox::connect(&config, options).await.unwrap();
    inbox.assign(&part(), 1).await.unwrap();
    let inbox = Arc::new(inbox);
    Some(World { inbox, db, config })
}

#[test]
fn case_35_an_error_that_the_handler_hides_commits_nothing() {
    block_on(async {
        let Some(World { inbox, db, .. }) = world(PgOptions::new()).await else {
            return;
        };
        let x = delivery("x", 7);
        for hidden_behind_settle in [false, true] {
            let mut tx = inbox.begin(&part(), 1).await.unwrap();
            assert_eq!(inbox.admit(&mut tx, &x).await.unwrap(), Admission::Run(()));
            tx.execute(ONE_MORE, &[&"x"]).await.unwrap();
            if !hidden_behind_settle {
                tx.batch_execute("select 1 / 0").await.unwrap_err();
            }
            let settled = inbox.settle(&mut tx, &x, Settlement::Done(None)).await;
            assert_eq!(settled.is_err(), !hidden_behind_settle);
            if hidden_behind_settle {
                tx.batch_execute("select 1 / 0").await.unwrap_err();
            }
            let committed = inbox.commit(tx, 8).await;
            assert!(
                matches!(committed, Err(StoreError::Misuse(_))),
                "{committed:?}"
            );
            assert_eq!(count(&db, "x").await, 0);
            assert_eq!(inbox.assign(&part(), 1).await.unwrap(), None);
        }
        let mut tx = inbox.begin(&part(), 1).await.unwrap();
        assert_eq!(inbox.admit(&mut tx, &x).await.unwrap(), Admission::Run(()));
        println!("case 35 postgres: ok");
    });
}

#[test]
fn a_handler_that_returns_its_error_costs_its_record_alone() {
    block_on(async {
        let Some(World { inbox, db, .. }) = world(PgOptions::new()).await else {
            return;
        };
        let mut tx = inbox.begin(&part(), 1).await.unwrap();
        for (offset, id) in [(7, "x"), (8, "bad"), (9, "y")] {
            let delivery = delivery(id, offset);
            inbox.admit(&mut tx, &delivery).await.unwrap();
            tx.execute(ONE_MORE, &[&id]).await.unwrap();
            let how = match tx
                .batch_execute(&format!("select {offset} / (8 - {offset})"))
                .await
            {
                Ok(()) => Settlement::Done(None),
                Err(_) => Settlement::Released,
            };
            inbox.settle(&mut tx, &delivery, how).await.unwrap();
        }
        inbox.commit(tx, 8).await.unwrap();
        let counts = [
            count(&db, "x").await,
            count(&db, "bad").await,
            count(&db, "y").await,
        ];
        assert_eq!(counts, [1, 0, 1]);
    });
}

#[test]
fn case_36_a_wait_that_is_too_long_is_busy_and_keeps_the_rest() {
    block_on(async {
        let short = PgOptions::new().lock_timeout(Duration::from_millis(100));
        let Some(World { inbox, db, .. }) = world(short).await else {
            return;
        };
        let (x, y) = (delivery("x", 7), delivery("y", 8));
        let mut first = inbox.begin(&part(), 1).await.unwrap();
        inbox.admit(&mut first, &x).await.unwrap();
        let mut second = inbox.begin(&part(), 1).await.unwrap();
        inbox.admit(&mut second, &y).await.unwrap();
        second.execute(ONE_MORE, &[&"y"]).await.unwrap();
        inbox
            .settle(&mut second, &y, Settlement::Done(None))
            .await
            .unwrap();
        let busy = inbox.admit(&mut second, &x).await.unwrap();
        assert!(matches!(busy, Admission::Busy { .. }), "{busy:?}");
        inbox.commit(second, 0).await.unwrap();
        assert_eq!(count(&db, "y").await, 1);
        println!("case 36 postgres, too long: ok");
    });
}

#[test]
fn case_37_an_assignment_waits_for_a_commit_that_has_the_row_and_no_other() {
    block_on(async {
        let Some(World { inbox, db, .. }) = world(PgOptions::new()).await else {
            return;
        };
        // Lanes of one partition do not queue behind each other.
        let mut lanes = Vec::new();
        for (id, offset) in [("x", 7), ("y", 8), ("z", 9)] {
            let mut tx = inbox.begin(&part(), 1).await.unwrap();
            let delivery = delivery(id, offset);
            inbox.admit(&mut tx, &delivery).await.unwrap();
            inbox
                .settle(&mut tx, &delivery, Settlement::Done(None))
                .await
                .unwrap();
            tx.batch_execute("select epoch from oncelog_position for key share")
                .await
                .unwrap();
            lanes.push(tx);
        }
        let (last, held) = (lanes.pop().unwrap(), lanes.pop().unwrap());
        inbox.commit(last, 0).await.unwrap();
        inbox.commit(lanes.pop().unwrap(), 8).await.unwrap();
        let waiting = inbox.clone();
        let assigned = tokio::spawn(async move { waiting.assign(&part(), 2).await });
        // It waits in the server, which says so.
        let mut waits = 0;
        while waits == 0 {
            let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                       and query like 'select epoch, next_offset%'";
            waits = db.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        }
        inbox.commit(held, 0).await.unwrap();
        assert_eq!(assigned.await.unwrap().unwrap(), Some(8));
        println!("case 37 postgres, an assignment excludes all lanes: ok");
    });
}

#[test]
fn case_42_a_handler_is_cancelled_in_a_long_statement() {
    block_on(async {
        let one = PgOptions::new().connections(1);
        let Some(World { inbox, db, .. }) = world(one).await else {
            return;
        };
        let x = delivery("x", 7);
        let mut tx = inbox.begin(&part(), 1).await.unwrap();
        inbox.admit(&mut tx, &x).await.unwrap();
        tx.execute(ONE_MORE, &[&"x"]).await.unwrap();
        let long = tx.batch_execute("select pg_sleep(600)");
        assert!(
            tokio::time::timeout(Duration::from_millis(50), long)
                .await
                .is_err()
        );
        drop(tx);
        // The only connection is another one; the id is free as soon as the statement was stopped.
        let begin = std::time::Instant::now();
        loop {
            let mut next = inbox.begin(&part(), 1).await.unwrap();
            if inbox.admit(&mut next, &x).await.unwrap() == Admission::Run(()) {
                break;
            }
            assert!(begin.elapsed() < LONG, "the abandoned statement goes on");
        }
        assert_eq!(count(&db, "x").await, 0);
        println!("case 42 postgres: ok");
    });
}

#[test]
fn a_transaction_that_does_nothing_loses_its_locks() {
    block_on(async {
        let idle = PgOptions::new().idle_timeout(Duration::from_millis(100));
        let Some(World { inbox, .. }) = world(idle).await else {
            return;
        };
        let x = delivery("x", 7);
        let mut vanished = inbox.begin(&part(), 1).await.unwrap();
        inbox.admit(&mut vanished, &x).await.unwrap();
        let mut next = inbox.begin(&part(), 1).await.unwrap();
        assert_eq!(
            inbox.admit(&mut next, &x).await.unwrap(),
            Admission::Run(())
        );
        let gone = inbox
            .settle(&mut vanished, &x, Settlement::Done(None))
            .await;
        assert!(matches!(gone, Err(StoreError::Unavailable)), "{gone:?}");
    });
}

#[test]
fn leases_end_by_the_servers_clock() {
    block_on(async {
        let Some(World { config, .. }) = world(PgOptions::new()).await else {
            return;
        };
        let store = PgStore::connect(&config, PgOptions::new()).await.unwrap();
        let x = delivery("x", 7);
        let first = store.claim(x.claim(1, Duration::from_millis(300))).await;
        let first = first.unwrap().granted().unwrap();
        let second = loop {
            match store.claim(x.claim(2, LONG)).await.unwrap() {
                Admission::Run(held) => break held,
                Admission::Busy { retry_after } => {
                    assert!(retry_after <= Duration::from_millis(300), "{retry_after:?}");
                    tokio::time::sleep(retry_after).await;
                }
                other => panic!("{other:?}"),
            }
        };
        assert!(second.token > first.token);
        assert_eq!((second.attempt, second.prior), (2, Prior::Crashed));
        let late = store.settle(&first, Settlement::Done(None)).await;
        assert!(matches!(late, Err(StoreError::Lost(_))), "{late:?}");
    });
}

#[test]
fn servers_that_are_not_fit_are_refused() {
    block_on(async {
        let Some(server) = servers::postgres() else {
            return;
        };
        let config = schema(&server.config()).await;
        let with = |setting: &str| config.replace("-c search", &format!("-c {setting} -c search"));
        let open = async |config: &str, options| PgStore::connect(config, options).await;

        let expect = PgOptions::new().expect_tables();
        let refused = open(&config, expect.clone()).await;
        assert!(
            matches!(refused, Err(OpenError::Schema { found: 0 })),
            "{refused:?}"
        );
        let off = with("synchronous_commit=off");
        let refused = open(&off, PgOptions::new()).await;
        assert!(matches!(refused, Err(OpenError::Unsafe(_))), "{refused:?}");
        let read_only = with("default_transaction_read_only=on");
        let refused = open(&read_only, PgOptions::new()).await;
        assert!(matches!(refused, Err(OpenError::ReadOnly)), "{refused:?}");

        // Several at once make the tables once.
        let all = (0..4).map(|_| {
            let config = config.clone();
            tokio::spawn(async move { PgStore::connect(&config, PgOptions::new()).await })
        });
        for opened in all.collect::<Vec<_>>() {
            opened.await.unwrap().unwrap();
        }
        open(&config, expect).await.unwrap();
        open(&off, PgOptions::new().lossy()).await.unwrap();

        let db = client(&config).await;
        db.batch_execute("update oncelog_schema set version = 99")
            .await
            .unwrap();
        let refused = open(&config, PgOptions::new()).await;
        assert!(
            matches!(refused, Err(OpenError::Schema { found: 99 })),
            "{refused:?}"
        );
        let nobody = "host=127.0.0.1 port=1 user=postgres";
        let refused = open(nobody, PgOptions::new()).await;
        assert!(
            matches!(refused, Err(OpenError::Unreachable(_))),
            "{refused:?}"
        );
    });
}

#[test]
fn a_transaction_of_ones_own_takes_the_door() {
    block_on(async {
        let Some(World { config, db, .. }) = world(PgOptions::new()).await else {
            return;
        };
        let x = delivery("x", 7);
        let mut own = client(&config).await;
        for (commits, runs) in [(false, true), (true, true), (true, false)] {
            let tx = own.transaction().await.unwrap();
            let admitted = sql::claim(&mut Postgres::new(&tx), &x).await.unwrap();
            assert_eq!(admitted == Admission::Run(()), runs);
            if runs {
                tx.execute(ONE_MORE, &[&"x"]).await.unwrap();
                let result = Settlement::Done(Some("r".into()));
                sql::settle(&mut Postgres::new(&tx), &x, result)
                    .await
                    .unwrap();
            }
            match commits {
                true => tx.commit().await.unwrap(),
                false => tx.rollback().await.unwrap(),
            }
        }
        assert_eq!(count(&db, "x").await, 1);
        // Another scenario, a redrive of what was parked, and another payload.
        let tx = own.transaction().await.unwrap();
        let mut door = Postgres::new(&tx);
        let other = delivery("x", 7).in_scenario("refund");
        assert_eq!(
            sql::claim(&mut door, &other).await.unwrap(),
            Admission::Run(())
        );
        sql::settle(&mut door, &other, Settlement::Parked)
            .await
            .unwrap();
        assert_eq!(
            sql::claim(&mut door, &other).await.unwrap(),
            Admission::Parked
        );
        let redriven = other.redriven();
        assert_eq!(
            sql::claim(&mut door, &redriven).await.unwrap(),
            Admission::Run(())
        );
        let forged = delivery("x", 7).fingerprint_of(b"other");
        let answer = sql::claim(&mut door, &forged).await.unwrap();
        assert!(matches!(answer, Admission::Mismatch { .. }), "{answer:?}");
    });
}

#[test]
fn a_unique_row_is_new_the_same_or_another() {
    block_on(async {
        let Some(World { inbox, db, .. }) = world(PgOptions::new()).await else {
            return;
        };
        let table = "create table invoice (id varchar(10) primary key, amount integer, note text)";
        db.batch_execute(table).await.unwrap();
        let mut tx = inbox.begin(&part(), 1).await.unwrap();
        let mut insert = async |amount: i64, note: Option<&'static str>| {
            let rest = [("amount", amount.into()), ("note", Value::Text(note))];
            tx.insert_once("invoice", &[("id", "a".into())], &rest)
                .await
        };
        assert_eq!(insert(1, None).await.unwrap(), Inserted::New);
        assert_eq!(insert(1, None).await.unwrap(), Inserted::Same);
        assert_eq!(insert(2, None).await.unwrap(), Inserted::Other);
        assert_eq!(insert(1, Some("n")).await.unwrap(), Inserted::Other);
    });
}

#[test]
fn no_id_runs_again_between_a_claim_and_a_sweep_that_wait_for_each_other() {
    block_on(async {
        let Some(World { config, db, .. }) = world(PgOptions::new()).await else {
            return;
        };
        let store = Arc::new(PgStore::connect(&config, PgOptions::new()).await.unwrap());
        let x = delivery("x", 7).stored_at(1_000);
        let held = store
            .claim(x.claim(1, LONG))
            .await
            .unwrap()
            .granted()
            .unwrap();
        store.settle(&held, Settlement::Done(None)).await.unwrap();
        // What a sweep does, held up before its commit.
        let sweep = client(&config).await;
        let statements = "begin; delete from oncelog_id; \
             insert into oncelog_floor (scope, floor_ms) values ('7:billing:orders', 1000)";
        sweep.batch_execute(statements).await.unwrap();
        let claiming = store.clone();
        let claim = tokio::spawn(async move {
            let x = delivery("x", 7).stored_at(1_000);
            claiming.claim(x.claim(2, LONG)).await
        });
        let mut waits = 0;
        while waits == 0 {
            let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                       and query like 'insert into oncelog_id%'";
            waits = db.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        }
        sweep.batch_execute("commit").await.unwrap();
        assert_eq!(claim.await.unwrap().unwrap(), Admission::Expired);
        println!("case 73 postgres, a claim during a sweep: ok");
    });
}

#[test]
fn tables_of_an_older_version_are_migrated_and_each_database_has_its_own_sender() {
    block_on(async {
        let Some(server) = servers::postgres() else {
            return;
        };
        let old = schema(&server.config()).await;
        let db = client(&old).await;
        let first = &sql::schema::MIGRATIONS[0];
        db.batch_execute(first.postgres).await.unwrap();
        let open = async |config: &str| PgInbox::connect(config, PgOptions::new()).await.unwrap();
        let (migrated, again) = (open(&old).await, open(&old).await);
        assert_eq!(migrated.sender(), again.sender());
        let other = open(&schema(&server.config()).await).await;
        assert_ne!(migrated.sender(), other.sender());
    });
}

#[test]
fn behind_a_rollback_of_the_handlers_no_id_is_taken() {
    block_on(async {
        let Some(World { inbox, .. }) = world(PgOptions::new()).await else {
            return;
        };
        let x = delivery("x", 7);
        let mut tx = inbox.begin(&part(), 1).await.unwrap();
        tx.batch_execute("rollback").await.unwrap();
        inbox.admit(&mut tx, &x).await.unwrap_err();
        drop(tx);
        let mut tx = inbox.begin(&part(), 1).await.unwrap();
        assert_eq!(inbox.admit(&mut tx, &x).await.unwrap(), Admission::Run(()));
    });
}
