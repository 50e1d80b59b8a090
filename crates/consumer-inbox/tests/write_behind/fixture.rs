//! A schema and an inbox of its own for each case, and the suites over them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_inbox::conformance::{
    EntityFixture, InboxFixture, Interleavings, Named, block_on, inbox_interleavings,
};
use consumer_inbox::{
    Amount, CasError, Change, EntityStore, Expect, Inbox, Part, PgInbox, PgOptions, RedisInbox,
    RedisOptions, RedisTx, Scope, StoreError,
};
use redis::AsyncCommands as _;

use super::common::{TestClock, matrix};
use super::pg::schema;
use super::servers::{self, fresh_name};

struct World {
    clock: TestClock,
    open: Mutex<Arc<RedisInbox>>,
    scopes: AtomicU64,
    name: String,
    config: String,
    url: String,
}

impl World {
    async fn open(&self) -> Arc<RedisInbox> {
        let clock = Arc::new(self.clock.clone());
        let options = PgOptions::new().connections(40).clock(clock.clone());
        let options = options.lock_timeout(Duration::from_secs(20));
        let database = PgInbox::connect(&self.config, options).await.unwrap();
        let options = RedisOptions::new().clock(clock);
        let inbox = RedisInbox::connect(&self.name, &self.url, options, database).await;
        Arc::new(inbox.unwrap().patience(Duration::from_secs(20)))
    }
}

async fn world() -> Option<World> {
    let url = servers::redis()?.url();
    let config = schema(&servers::postgres()?.config()).await;
    let database = PgInbox::connect(&config, PgOptions::new()).await.unwrap();
    let placeholder = RedisInbox::connect("none", &url, RedisOptions::new(), database).await;
    let world = World {
        clock: TestClock::new(),
        open: Mutex::new(Arc::new(placeholder.unwrap())),
        scopes: AtomicU64::new(0),
        name: fresh_name("inbox"),
        config,
        url,
    };
    *world.open.lock().unwrap() = world.open().await;
    Some(world)
}

impl Named for World {
    fn backend(&self) -> &'static str {
        "redis with postgres behind"
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
        matrix::applies("write-behind", case)
    }
}

impl InboxFixture for World {
    type Inbox = RedisInbox;

    fn inbox(&self) -> Arc<RedisInbox> {
        self.open.lock().unwrap().clone()
    }

    async fn reopen(&self) {
        let inbox = self.open().await;
        *self.open.lock().unwrap() = inbox;
    }

    async fn apply(&self, tx: &mut RedisTx, effect: &str) -> Result<(), StoreError> {
        add_one(tx, effect).await
    }

    async fn count(&self, effect: &str) -> u64 {
        count(&self.inbox(), effect).await
    }

    fn waits(&self) -> bool {
        true
    }

    async fn write_behind(&self, max: usize) -> Option<usize> {
        let written = self.inbox().write_behind().sync(max).await;
        Some(written.unwrap())
    }

    // Of one inbox alone: the server is the other tests', too.
    async fn lose(&self) {
        let mut redis = super::redis_at(&self.url).await;
        let digest = blake3::hash(self.name.as_bytes()).to_hex();
        let pattern = format!("oncelog:?behind:{}?:*", &digest[..32]);
        let keys: Vec<Vec<u8>> = redis.keys(pattern).await.unwrap();
        if !keys.is_empty() {
            let () = redis.del(keys).await.unwrap();
        }
    }
}

impl EntityFixture for World {
    type Entities = RedisTx;

    async fn begin(&self) -> RedisTx {
        let (inbox, part) = (self.inbox(), Part::new("entities", "orders", 0));
        inbox.assign(&part, 1).await.unwrap();
        inbox.begin(&part, 1).await.unwrap()
    }

    async fn commit(&self, entities: RedisTx) -> Result<(), CasError> {
        Ok(self.inbox().commit(entities, 0).await?)
    }
}

/// On four threads: each waits for the servers most of the time.
#[test]
fn every_interleaving_of_the_inbox_is_the_models() {
    let run = |of| block_on(async { Some(inbox_interleavings(&world().await?, of).await) });
    if let Some(ran) = Interleavings::from_env(100).in_pieces(4, 25, run) {
        println!("{ran}");
    }
}

mod suite {
    use super::world;
    consumer_inbox::inbox_conformance!(world);
}

mod entities {
    use super::world;
    consumer_inbox::entity_conformance!(world);
}

pub async fn add_one(tx: &mut RedisTx, entity: &str) -> Result<(), StoreError> {
    let one_more = Change::amount(Amount::Add(1));
    match tx.store(entity.as_bytes(), Expect::Any, one_more).await {
        Ok(_) => Ok(()),
        Err(CasError::Store(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

pub async fn count(inbox: &RedisInbox, entity: &str) -> u64 {
    let found = inbox.entity(entity.as_bytes()).await.unwrap();
    found.map_or(0, |entity| entity.amount.cast_unsigned())
}
