//! SQLite beside bare statements on a connection of its own, of the same file. It has one writer: many at once are one after another.

use std::sync::Arc;

use consumer_inbox::{SqliteInbox, SqliteStore};
use oncelog_benches::scratch;
use rusqlite::Connection;

use crate::measure::{Run, Sides, Sizes, Space, compare, work};
use crate::work::{BARE, BEGUN, BODY, EFFECT, ENDED, TABLES, acted, claimed};

pub(crate) async fn sqlite(sizes: Sizes) -> Space {
    let directory = scratch().unwrap();
    let file = directory.path().join("stores.db");
    let store = Arc::new(SqliteStore::open(&file).unwrap());
    let inbox = SqliteInbox::open(&file).unwrap();
    let connection = Connection::open(&file).unwrap();
    let connection = &connection;
    connection.execute_batch(TABLES).unwrap();
    connection
        .pragma_update(None, "synchronous", "full")
        .unwrap();

    let claims = Sides {
        ours: Some(work(|run| claimed(&store, run))),
        bare: Some(work(|run| alone(connection, run, &[BARE]))),
        by_hand: Some(work(|run| alone(connection, run, &[BEGUN, ENDED]))),
    };
    compare("sqlite", "claims", sizes, claims).await;
    let effects = Sides {
        ours: Some(work(|run| acted(&inbox, run))),
        bare: Some(work(|run| together(connection, run, false))),
        by_hand: Some(work(|run| together(connection, run, true))),
    };
    compare("sqlite", "effects", sizes, effects).await;

    let file = directory.path().join("space.db");
    let store = Arc::new(SqliteStore::open(&file).unwrap());
    let size = || std::fs::metadata(&file).unwrap().len();
    let before = size();
    let run = Run::new(sizes.times(5).ids, 64);
    claimed(&store, run).await;
    drop(store);
    // Closed by its last user, the file has everything.
    let disk = size().saturating_sub(before) / run.ids;
    Space {
        store: "sqlite",
        memory: None,
        disk: Some(disk),
        how: "the file",
    }
}

async fn alone(connection: &Connection, run: Run, statements: &[&str]) {
    for number in 0..run.ids {
        for statement in statements {
            let mut statement = connection.prepare_cached(statement).unwrap();
            statement.execute([run.id(number)]).unwrap();
        }
    }
}

async fn together(connection: &Connection, run: Run, has_effect: bool) {
    for ids in run.transactions() {
        connection.execute_batch("begin immediate").unwrap();
        for number in ids {
            let id = run.id(number);
            let mut insert = connection.prepare_cached(BARE).unwrap();
            insert.execute([&id]).unwrap();
            if has_effect {
                let mut insert = connection.prepare_cached(EFFECT).unwrap();
                insert.execute((&id, BODY)).unwrap();
            }
        }
        connection.execute_batch("commit").unwrap();
    }
}
