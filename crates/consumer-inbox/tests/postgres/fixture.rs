//! A schema of its own for each case, on one server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_inbox::conformance::{EntityFixture, Fixture, InboxFixture, Named};
use consumer_inbox::{CasError, Inbox, Part, PgInbox, PgOptions, PgStore, PgTx, Scope, StoreError};
use tokio_postgres::{Client, NoTls};

use super::common::{TestClock, matrix};
use super::servers;

pub struct Pg<S> {
    clock: TestClock,
    open: Mutex<Arc<S>>,
    scopes: AtomicU64,
    config: String,
    /// A connection of the test.
    client: Client,
}

/// A connection of a test, and the task that drives it.
pub async fn client(config: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// What connects to a new schema of that server.
pub async fn schema(config: &str) -> String {
    let schema = servers::fresh_name("schema");
    let client = client(config).await;
    let create = format!("create schema {schema}");
    client.batch_execute(&create).await.unwrap();
    format!("{config} options='-c search_path={schema}'")
}

pub const EFFECTS: &str = "create table effect (name text primary key, count bigint not null)";

fn options(clock: &TestClock) -> PgOptions {
    let options = PgOptions::new().connections(40);
    let options = options.lock_timeout(Duration::from_secs(20));
    options.clock(Arc::new(clock.clone()))
}

pub async fn store() -> Option<Pg<PgStore>> {
    let config = schema(&servers::postgres()?.config()).await;
    let clock = TestClock::new();
    let store = PgStore::connect(&config, options(&clock)).await.unwrap();
    Some(Pg::new(clock, store, config).await)
}

pub async fn inbox() -> Option<Pg<PgInbox>> {
    let config = schema(&servers::postgres()?.config()).await;
    let clock = TestClock::new();
    let inbox = PgInbox::connect(&config, options(&clock)).await.unwrap();
    let fixture = Pg::new(clock, inbox, config).await;
    fixture.client.batch_execute(EFFECTS).await.unwrap();
    Some(fixture)
}

impl<S> Pg<S> {
    async fn new(clock: TestClock, store: S, config: String) -> Pg<S> {
        Pg {
            clock,
            open: Mutex::new(Arc::new(store)),
            scopes: AtomicU64::new(0),
            client: client(&config).await,
            config,
        }
    }

    fn get(&self) -> Arc<S> {
        self.open.lock().unwrap().clone()
    }
}

impl<S: Send + Sync + 'static> Named for Pg<S> {
    fn backend(&self) -> &'static str {
        "postgres"
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
        matrix::applies("postgres", case)
    }
}

impl Fixture for Pg<PgStore> {
    type Store = PgStore;

    fn store(&self) -> Arc<PgStore> {
        self.get()
    }

    async fn reopen(&self) {
        let store = PgStore::connect(&self.config, options(&self.clock)).await;
        *self.open.lock().unwrap() = Arc::new(store.unwrap());
    }

    fn set_back(&self, time: Duration) -> bool {
        self.clock.set_back(time);
        true
    }

    fn many(&self) -> usize {
        100
    }
}

pub const ONE_MORE: &str = "insert into effect (name, count) values ($1, 1) \
                            on conflict (name) do update set count = effect.count + 1";

pub async fn count(client: &Client, effect: &str) -> u64 {
    let sql = "select cast(coalesce(sum(count), 0) as bigint) from effect where name = $1";
    let count: i64 = client.query_one(sql, &[&effect]).await.unwrap().get(0);
    count.cast_unsigned()
}

impl InboxFixture for Pg<PgInbox> {
    type Inbox = PgInbox;

    fn inbox(&self) -> Arc<PgInbox> {
        self.get()
    }

    async fn reopen(&self) {
        let inbox = PgInbox::connect(&self.config, options(&self.clock)).await;
        *self.open.lock().unwrap() = Arc::new(inbox.unwrap());
    }

    async fn apply(&self, tx: &mut PgTx, effect: &str) -> Result<(), StoreError> {
        let applied = tx.execute(ONE_MORE, &[&effect]).await;
        applied.map(drop).map_err(StoreError::backend)
    }

    async fn count(&self, effect: &str) -> u64 {
        count(&self.client, effect).await
    }

    fn waits(&self) -> bool {
        true
    }
}

impl EntityFixture for Pg<PgInbox> {
    type Entities = PgTx;

    async fn begin(&self) -> PgTx {
        let (inbox, part) = (self.get(), Part::new("entities", "orders", 0));
        inbox.assign(&part, 1).await.unwrap();
        inbox.begin(&part, 1).await.unwrap()
    }

    async fn commit(&self, entities: PgTx) -> Result<(), CasError> {
        Ok(self.get().commit(entities, 0).await?)
    }

    fn locks(&self) -> bool {
        true
    }
}
