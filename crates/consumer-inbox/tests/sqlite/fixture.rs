//! A file of its own for each case.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_inbox::conformance::{EntityFixture, Fixture, InboxFixture, Named};
use consumer_inbox::{
    CasError, Inbox, Part, Scope, SqliteInbox, SqliteOptions, SqliteStore, SqliteTx, StoreError,
};
use tempfile::TempDir;

use super::common::{TestClock, matrix};

pub struct Sqlite<S> {
    clock: TestClock,
    /// None only while it is opened again.
    open: Mutex<Option<Arc<S>>>,
    reopen: fn(PathBuf, SqliteOptions) -> S,
    scopes: AtomicU64,
    directory: TempDir,
    many: usize,
}

impl<S> Sqlite<S> {
    fn new(reopen: fn(PathBuf, SqliteOptions) -> S, many: usize) -> Sqlite<S> {
        let directory = directory();
        let clock = TestClock::new();
        let store = reopen(directory.path().join("ids.db"), options(&clock));
        Sqlite {
            clock,
            open: Mutex::new(Some(Arc::new(store))),
            reopen,
            scopes: AtomicU64::new(0),
            directory,
            many,
        }
    }

    fn get(&self) -> Arc<S> {
        self.open.lock().unwrap().clone().unwrap()
    }

    fn again(&self) {
        let mut open = self.open.lock().unwrap();
        drop(open.take());
        let path = self.directory.path().join("ids.db");
        *open = Some(Arc::new((self.reopen)(path, options(&self.clock))));
    }
}

/// In memory, where syncs cost nothing, if the system has such a directory.
pub fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn options(clock: &TestClock) -> SqliteOptions {
    let options = SqliteOptions::new().busy_timeout(Duration::from_secs(2));
    options.clock(Arc::new(clock.clone()))
}

pub async fn store() -> Option<Sqlite<SqliteStore>> {
    Some(Sqlite::new(
        |path, options| SqliteStore::open_with(path, options).unwrap(),
        1_000,
    ))
}

fn connection_without_syncs(path: PathBuf) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "pragma journal_mode = wal; pragma synchronous = off";
    connection.execute_batch(sql).unwrap();
    connection
}

/// Without syncs, for many sequences.
pub fn store_without_syncs() -> Sqlite<SqliteStore> {
    let open = |path, options: SqliteOptions| {
        SqliteStore::over(connection_without_syncs(path), options.lossy()).unwrap()
    };
    Sqlite::new(open, 1_000)
}

/// The same.
pub async fn inbox_without_syncs() -> Sqlite<SqliteInbox> {
    let open = |path, options: SqliteOptions| {
        SqliteInbox::over(connection_without_syncs(path), options.lossy()).unwrap()
    };
    with_effects(Sqlite::new(open, 1_000)).await
}

async fn with_effects(fixture: Sqlite<SqliteInbox>) -> Sqlite<SqliteInbox> {
    let made = fixture.get().run(|db| db.execute_batch(EFFECTS)).await;
    made.unwrap();
    fixture
}

pub async fn inbox() -> Option<Sqlite<SqliteInbox>> {
    let fixture = Sqlite::new(
        |path, options| SqliteInbox::open_with(path, options).unwrap(),
        1_000,
    );
    Some(with_effects(fixture).await)
}

impl<S: Send + Sync + 'static> Named for Sqlite<S> {
    fn backend(&self) -> &'static str {
        "sqlite"
    }

    fn scope(&self) -> Scope {
        let number = self.scopes.fetch_add(1, Ordering::SeqCst);
        Scope::new(format!("group {number}"), format!("orders {number}"))
    }

    async fn pass(&self, time: Duration) {
        self.clock.pass(time);
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn applies(&self, case: &str) -> Option<bool> {
        matrix::applies("sqlite", case)
    }
}

impl Fixture for Sqlite<SqliteStore> {
    type Store = SqliteStore;

    fn store(&self) -> Arc<SqliteStore> {
        self.get()
    }

    async fn reopen(&self) {
        self.again();
    }

    fn jump_wall(&self, ms: i64) -> bool {
        self.clock.jump_wall(ms);
        true
    }

    fn set_back(&self, time: Duration) -> bool {
        self.clock.set_back(time);
        true
    }

    fn many(&self) -> usize {
        self.many
    }
}

pub const EFFECTS: &str = "create table effect (name text primary key, count integer not null)";

pub fn one_more(db: &rusqlite::Connection, effect: &str) -> rusqlite::Result<usize> {
    let sql = "insert into effect (name, count) values (?1, 1) \
               on conflict (name) do update set count = count + 1";
    db.execute(sql, [effect])
}

impl InboxFixture for Sqlite<SqliteInbox> {
    type Inbox = SqliteInbox;

    fn inbox(&self) -> Arc<SqliteInbox> {
        self.get()
    }

    async fn reopen(&self) {
        self.again();
    }

    async fn apply(&self, tx: &mut SqliteTx, effect: &str) -> Result<(), StoreError> {
        let effect = effect.to_owned();
        let applied = tx.run(move |db| one_more(db, &effect)).await?;
        applied.map(drop).map_err(StoreError::backend)
    }

    // By another connection: what is committed, whatever transaction is open.
    async fn count(&self, effect: &str) -> u64 {
        let db = rusqlite::Connection::open(self.directory.path().join("ids.db")).unwrap();
        let sql = "select coalesce(sum(count), 0) from effect where name = ?1";
        let count: i64 = db.query_row(sql, [effect], |row| row.get(0)).unwrap();
        count.cast_unsigned()
    }

    fn side_by_side(&self) -> bool {
        false
    }
}

impl EntityFixture for Sqlite<SqliteInbox> {
    type Entities = SqliteTx;

    async fn begin(&self) -> SqliteTx {
        let (inbox, part) = (self.get(), Part::new("entities", "orders", 0));
        inbox.assign(&part, 1).await.unwrap();
        inbox.begin(&part, 1).await.unwrap()
    }

    async fn commit(&self, entities: SqliteTx) -> Result<(), CasError> {
        Ok(self.get().commit(entities, 0).await?)
    }

    fn locks(&self) -> bool {
        true
    }

    fn side_by_side(&self) -> bool {
        false
    }
}
