//! What only SQLite has to show: stopped statements, refused files, a transaction that ended inside, the effect as a closure.

use std::sync::Arc;
use std::time::Duration;

use consumer_inbox::conformance::block_on;
use consumer_inbox::sql::{self, Inserted, OpenError, Value, ready};
use consumer_inbox::{
    Admission, DedupStore, HandlerError, Inbox, ParkReason, Processed, Rusqlite, Settlement,
    SqliteInbox, SqliteOptions, SqliteStore, StoreError, sqlite_effect,
};
use rusqlite::{Connection, Transaction};
use tempfile::TempDir;

use super::common::records::{delivery, part};
use super::fixture::{EFFECTS, directory, one_more};

async fn inbox(directory: &TempDir) -> SqliteInbox {
    let inbox = SqliteInbox::open(directory.path().join("ids.db")).unwrap();
    inbox.run(|db| db.execute_batch(EFFECTS)).await.unwrap();
    inbox.assign(&part(), 1).await.unwrap();
    inbox
}

fn count(directory: &TempDir, name: &str) -> i64 {
    let db = Connection::open(directory.path().join("ids.db")).unwrap();
    let sql = "select coalesce(sum(count), 0) from effect where name = ?1";
    db.query_row(sql, [name], |row| row.get(0)).unwrap()
}

#[test]
fn case_42_a_handler_is_cancelled_in_a_statement_that_never_ends() {
    block_on(async {
        let directory = directory();
        let inbox = inbox(&directory).await;
        let x = delivery("x", 7);
        let mut tx = inbox.begin(&part(), 1).await.unwrap();
        assert_eq!(inbox.admit(&mut tx, &x).await.unwrap(), Admission::Run(()));
        let endless = tx.run(|db| {
            one_more(db, "x").unwrap();
            let sql = "with recursive n (i) as (select 1 union all select i + 1 from n) \
                       select count(*) from n";
            db.query_row(sql, [], |row| row.get::<_, i64>(0))
                .unwrap_err();
        });
        let cancelled = tokio::time::timeout(Duration::from_millis(50), endless).await;
        assert!(cancelled.is_err());
        drop(tx);
        // Would wait for ever if the statement went on.
        let mut next = inbox.begin(&part(), 1).await.unwrap();
        assert_eq!(
            inbox.admit(&mut next, &x).await.unwrap(),
            Admission::Run(())
        );
        let autocommit = next.run(|db| db.is_autocommit()).await.unwrap();
        assert!(!autocommit);
        drop(next);
        assert_eq!(count(&directory, "x"), 0);
    });
    println!("case 42 sqlite: ok");
}

#[test]
fn a_transaction_that_ended_inside_the_handler_is_not_committed() {
    block_on(async {
        let directory = directory();
        let inbox = inbox(&directory).await;
        let x = delivery("x", 7);
        let mut tx = inbox.begin(&part(), 1).await.unwrap();
        inbox.admit(&mut tx, &x).await.unwrap();
        tx.run(|db| db.execute_batch("rollback"))
            .await
            .unwrap()
            .unwrap();
        let settled = inbox.settle(&mut tx, &x, Settlement::Done(None)).await;
        assert!(matches!(settled, Err(StoreError::Misuse(_))), "{settled:?}");
        let committed = inbox.commit(tx, 8).await;
        assert!(
            matches!(committed, Err(StoreError::Misuse(_))),
            "{committed:?}"
        );
        assert_eq!(inbox.assign(&part(), 1).await.unwrap(), None);
    });
}

#[test]
fn a_second_transaction_waits_so_long_and_no_longer() {
    block_on(async {
        let directory = directory();
        let path = directory.path().join("ids.db");
        let options = SqliteOptions::new().busy_timeout(Duration::from_millis(100));
        let inbox = Arc::new(SqliteInbox::open_with(path, options).unwrap());
        inbox.assign(&part(), 1).await.unwrap();
        let first = inbox.begin(&part(), 1).await.unwrap();
        let refused = inbox.begin(&part(), 1).await;
        assert!(
            matches!(refused, Err(StoreError::Busy { .. })),
            "{refused:?}"
        );
        let refused = inbox.assign(&part(), 2).await;
        assert!(
            matches!(refused, Err(StoreError::Busy { .. })),
            "{refused:?}"
        );
        inbox.commit(first, 1).await.unwrap();
        inbox.begin(&part(), 1).await.unwrap();
    });
}

#[test]
fn a_panic_in_an_effect_is_the_callers_and_the_store_goes_on() {
    block_on(async {
        let directory = directory();
        let inbox = Arc::new(inbox(&directory).await);
        let panics = inbox.clone();
        let task = tokio::spawn(async move {
            let mut tx = panics.begin(&part(), 1).await.unwrap();
            tx.run(|_| panic!("of the effect")).await.unwrap();
        });
        assert!(task.await.unwrap_err().is_panic());
        inbox.begin(&part(), 1).await.unwrap();
    });
}

#[test]
fn files_that_are_not_fit_are_refused() {
    let directory = directory();
    let path = directory.path().join("ids.db");
    drop(SqliteStore::open(&path).unwrap());

    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let read_only = Connection::open_with_flags(&path, flags).unwrap();
    let refused = SqliteStore::over(read_only, SqliteOptions::new());
    assert!(matches!(refused, Err(OpenError::ReadOnly)), "{refused:?}");

    let off = || {
        let db = Connection::open(&path).unwrap();
        db.execute_batch("pragma synchronous = off").unwrap();
        db
    };
    let refused = SqliteStore::over(off(), SqliteOptions::new());
    assert!(matches!(refused, Err(OpenError::Unsafe(_))), "{refused:?}");
    SqliteStore::over(off(), SqliteOptions::new().lossy()).unwrap();
    let memory = Connection::open_in_memory().unwrap();
    let refused = SqliteStore::over(memory, SqliteOptions::new());
    assert!(matches!(refused, Err(OpenError::Unsafe(_))), "{refused:?}");

    let nowhere = SqliteStore::open(directory.path().join("no such directory/ids.db"));
    assert!(
        matches!(nowhere, Err(OpenError::Unreachable(_))),
        "{nowhere:?}"
    );

    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("update oncelog_schema set version = 99")
        .unwrap();
    let refused = SqliteStore::open(&path);
    assert!(
        matches!(refused, Err(OpenError::Schema { found: 99 })),
        "{refused:?}"
    );
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("use a newer program")
    );
}

#[test]
fn tokens_grow_over_restarts() {
    block_on(async {
        let directory = directory();
        let path = directory.path().join("ids.db");
        let mut last = 0;
        for _ in 0..3 {
            let store = SqliteStore::open(&path).unwrap();
            let x = delivery("x", 7);
            let held = store.claim(x.claim(1, Duration::from_secs(60))).await;
            let held = held.unwrap().granted().unwrap();
            assert!(held.token.get() > last);
            last = held.token.get();
            store.settle(&held, Settlement::Released).await.unwrap();
        }
    });
}

#[test]
fn an_effect_is_a_closure() {
    block_on(async {
        let directory = directory();
        let inbox = inbox(&directory).await;
        let effect = sqlite_effect(|tx: &Transaction<'_>, order| {
            let id = order.biz_id_str()?;
            if id == "bad" {
                return Err(HandlerError::Reject("bad".to_owned()).into());
            }
            one_more(tx, id)?;
            match id {
                "later" => Err(rusqlite::Error::InvalidQuery.into()),
                _ => Ok(()),
            }
        });
        let x = delivery("x", 7);
        assert_eq!(inbox.process(&x, &effect).await.unwrap(), Processed::Done);
        assert_eq!(
            inbox.process(&x, &effect).await.unwrap(),
            Processed::Duplicate
        );
        let later = inbox.process(&delivery("later", 8), &effect).await.unwrap();
        assert!(matches!(later, Processed::Busy { .. }));
        let bad = inbox.process(&delivery("bad", 9), &effect).await.unwrap();
        let reason = ParkReason::Rejected("bad".to_owned());
        assert_eq!(bad, Processed::Parked { reason });
        assert_eq!((count(&directory, "x"), count(&directory, "later")), (1, 0));
    });
}

#[test]
fn a_transaction_of_ones_own_takes_the_door() {
    let directory = directory();
    let path = directory.path().join("ids.db");
    drop(SqliteStore::open(&path).unwrap());
    let mut db = Connection::open(path).unwrap();
    db.execute_batch(EFFECTS).unwrap();
    let x = delivery("x", 7);
    for (commits, answer) in [(false, true), (true, true), (true, false)] {
        let tx = db
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .unwrap();
        let admitted = ready(sql::claim(&mut Rusqlite::new(&tx), &x)).unwrap();
        assert_eq!(admitted == Admission::Run(()), answer);
        if admitted == Admission::Run(()) {
            one_more(&tx, "x").unwrap();
            let result = Settlement::Done(Some("r".into()));
            ready(sql::settle(&mut Rusqlite::new(&tx), &x, result)).unwrap();
        } else {
            let Admission::Done(receipt) = admitted else {
                panic!("{admitted:?}");
            };
            assert_eq!(receipt.result.as_deref(), Some(&b"r"[..]));
        }
        match commits {
            true => tx.commit().unwrap(),
            false => tx.rollback().unwrap(),
        }
    }
    assert_eq!(count(&directory, "x"), 1);
}

#[test]
fn a_unique_row_is_new_the_same_or_another() {
    block_on(async {
        let directory = directory();
        let inbox = inbox(&directory).await;
        let table = "create table invoice (id text primary key, amount integer, note text check (note <> ''))";
        inbox.run(move |db| db.execute_batch(table)).await.unwrap();
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
        let violated = insert(1, Some("")).await;
        assert!(
            matches!(violated, Err(StoreError::Backend(_))),
            "{violated:?}"
        );
        let injected = tx
            .insert_once("invoice; --", &[("id", "a".into())], &[])
            .await;
        assert!(
            matches!(injected, Err(StoreError::Misuse(_))),
            "{injected:?}"
        );
    });
}

#[test]
fn tables_of_an_older_version_are_migrated_and_each_file_has_its_own_sender() {
    block_on(async {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        let old = Connection::open(path("old.db")).unwrap();
        let first = &sql::schema::MIGRATIONS[0];
        old.execute_batch(first.sqlite).unwrap();
        old.execute_batch("insert into oncelog_outbox (topic, headers) values ('invoices', x'')")
            .unwrap();
        drop(old);
        let migrated = SqliteInbox::open(path("old.db")).unwrap();
        assert_eq!(migrated.outgoing(9).await.unwrap().len(), 1);
        let again = SqliteInbox::open(path("old.db")).unwrap();
        assert_eq!(migrated.sender(), again.sender());
        let other = SqliteInbox::open(path("other.db")).unwrap();
        assert_ne!(migrated.sender(), other.sender());
    });
}
