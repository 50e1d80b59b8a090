//! Redis before PostgreSQL's claims: the suite, and what Redis answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_inbox::conformance::{Fixture, Interleavings, Named, block_on, interleavings};
use consumer_inbox::{
    Admission, DedupStore, PgOptions, PgStore, RedisOptions, Scope, Settlement, Tiered,
};
use redis::AsyncCommands as _;

use super::common::records::delivery;
use super::common::{TestClock, matrix};
use super::pg::schema;
use super::servers::{self, Proxy, fresh_name};

struct World {
    clock: TestClock,
    open: Mutex<Arc<Tiered<PgStore>>>,
    scopes: AtomicU64,
    group: String,
    config: String,
    url: String,
}

async fn open(config: &str, url: &str, clock: &TestClock) -> Tiered<PgStore> {
    let options = PgOptions::new().connections(40);
    let options = options.lock_timeout(Duration::from_secs(20));
    let store = PgStore::connect(config, options.clock(Arc::new(clock.clone())));
    Tiered::new(url, RedisOptions::new(), store.await.unwrap()).unwrap()
}

async fn world() -> Option<World> {
    let url = servers::redis()?.url();
    let config = schema(&servers::postgres()?.config()).await;
    let clock = TestClock::new();
    Some(World {
        open: Mutex::new(Arc::new(open(&config, &url, &clock).await)),
        clock,
        scopes: AtomicU64::new(0),
        group: fresh_name("group"),
        config,
        url,
    })
}

impl Named for World {
    fn backend(&self) -> &'static str {
        "redis before postgres"
    }

    fn scope(&self) -> Scope {
        let number = self.scopes.fetch_add(1, Ordering::SeqCst);
        Scope::new(&*self.group, format!("orders {number}"))
    }

    async fn pass(&self, time: Duration) {
        self.clock.pass(time);
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn applies(&self, case: &str) -> Option<bool> {
        matrix::applies("tiered", case)
    }
}

impl Fixture for World {
    type Store = Tiered<PgStore>;

    fn store(&self) -> Arc<Tiered<PgStore>> {
        self.open.lock().unwrap().clone()
    }

    async fn reopen(&self) {
        let store = open(&self.config, &self.url, &self.clock).await;
        *self.open.lock().unwrap() = Arc::new(store);
    }

    fn set_back(&self, time: Duration) -> bool {
        self.clock.set_back(time);
        true
    }

    fn many(&self) -> usize {
        100
    }
}

mod suite {
    use super::world;
    consumer_inbox::dedup_store_conformance!(world);
}

/// On four threads: each waits for the servers most of the time.
#[test]
fn every_interleaving_is_the_models() {
    let run = |of| block_on(async { Some(interleavings(&world().await?, of).await) });
    if let Some(ran) = Interleavings::from_env(100).in_pieces(4, 25, run) {
        println!("{ran}");
    }
}

#[test]
fn redis_answers_for_the_same_record_and_for_no_other() {
    const LEASE: Duration = Duration::from_secs(60);
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let Some(postgres) = servers::postgres() else {
            return;
        };
        let proxy = Proxy::to(postgres.port());
        let config = schema(&postgres.config_at(proxy.port())).await;
        let store = open(&config, &redis.url(), &TestClock::new()).await;
        let scenario = fresh_name("scenario");
        let at = |offset| delivery("x", offset).in_scenario(&*scenario);
        let (x, again) = (at(7), at(9));
        let held = store.claim(x.claim(1, LEASE)).await.unwrap();
        let held = held.granted().unwrap();
        let result = Some("\0r".into());
        store.settle(&held, Settlement::Done(result)).await.unwrap();
        // The database says so, and Redis is told.
        let done = store.claim(x.claim(2, LEASE)).await.unwrap();
        assert!(matches!(&done, Admission::Done(receipt) if receipt.token == held.token));
        // Gone: the database can say nothing any more.
        proxy.set_down(true);
        proxy.cut(servers::Cut::Request, b"begin");
        assert_eq!(store.claim(x.claim(3, LEASE)).await.unwrap(), done);
        assert!(store.claim(again.claim(3, LEASE)).await.is_err());
        proxy.set_down(false);
        assert_eq!(store.claim(again.claim(3, LEASE)).await.unwrap(), done);
        // A mark of the wrong kind is as good as none.
        let digest = u128::from_be_bytes(x.dedup_key().scope.digest());
        let told = format!("oncelog:{{{digest:032x}}}:told:1:x");
        let mut connection = super::redis_at(&redis.url()).await;
        let () = connection.set(&told, "a string").await.unwrap();
        assert_eq!(store.claim(again.claim(4, LEASE)).await.unwrap(), done);
    });
}
