//! A scope of its own for each case, on one server; a proxy before it loses replies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_inbox::conformance::{Fixture, Named};
use consumer_inbox::{RedisOptions, RedisStore, Scope};

use super::common::{TestClock, matrix};
use super::servers::{self, Cut, Proxy, fresh_name};

pub struct Redis {
    clock: TestClock,
    open: Mutex<Arc<RedisStore>>,
    proxy: Proxy,
    group: String,
    scopes: AtomicU64,
}

pub async fn connect(port: u16, options: RedisOptions) -> RedisStore {
    let url = format!("redis://127.0.0.1:{port}/");
    RedisStore::connect(&url, options).await.unwrap()
}

/// A connection of a test.
pub async fn client(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn options(clock: &TestClock) -> RedisOptions {
    RedisOptions::new().clock(Arc::new(clock.clone()))
}

pub async fn store() -> Option<Redis> {
    let proxy = Proxy::to(servers::redis()?.port());
    let clock = TestClock::new();
    let store = connect(proxy.port(), options(&clock)).await;
    Some(Redis {
        clock,
        open: Mutex::new(Arc::new(store)),
        proxy,
        group: fresh_name("group"),
        scopes: AtomicU64::new(0),
    })
}

impl Named for Redis {
    fn backend(&self) -> &'static str {
        "redis"
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
        matrix::applies("redis", case)
    }
}

impl Fixture for Redis {
    type Store = RedisStore;

    fn store(&self) -> Arc<RedisStore> {
        self.open.lock().unwrap().clone()
    }

    async fn reopen(&self) {
        let store = connect(self.proxy.port(), options(&self.clock)).await;
        *self.open.lock().unwrap() = Arc::new(store);
    }

    fn lose_next_reply(&self) -> bool {
        self.proxy.cut(Cut::Reply, b"EVALSHA");
        true
    }

    fn set_back(&self, time: Duration) -> bool {
        self.clock.set_back(time);
        true
    }

    fn many(&self) -> usize {
        200
    }
}
