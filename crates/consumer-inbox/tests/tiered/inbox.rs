//! Redis before PostgreSQL: the inbox's suite, and what only both together have to show.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consumer_inbox::conformance::{InboxFixture, Named, block_on};
use consumer_inbox::{
    Admission, BizId, DedupKey, Delivery, Inbox, PgInbox, PgOptions, PgTx, Reconciled,
    RedisOptions, Scope, Settlement, StoreError, Tiered, TieredTx,
};
use redis::AsyncCommands as _;
use tokio_postgres::Client;

use super::common::child;
use super::common::records::{Consumer, consume, delivery, part};
use super::common::{TestClock, matrix};
use super::pg::{self, EFFECTS, ONE_MORE, schema};
use super::servers::{self, Proxy, fresh_name};

type Both = Tiered<PgInbox>;

struct World {
    clock: TestClock,
    open: Mutex<Arc<Both>>,
    scopes: AtomicU64,
    group: String,
    config: String,
    url: String,
    client: Client,
}

async fn open(config: &str, url: &str, options: PgOptions) -> Both {
    let options = options
        .connections(40)
        .lock_timeout(Duration::from_secs(20));
    let inbox = PgInbox::connect(config, options).await.unwrap();
    Tiered::new(url, RedisOptions::new(), inbox).unwrap()
}

async fn world() -> Option<World> {
    let url = servers::redis()?.url();
    let config = schema(&servers::postgres()?.config()).await;
    let clock = TestClock::new();
    let options = PgOptions::new().clock(Arc::new(clock.clone()));
    let both = open(&config, &url, options)
        .await
        .patience(Duration::from_secs(20));
    let client = pg::client(&config).await;
    client.batch_execute(EFFECTS).await.unwrap();
    Some(World {
        clock,
        open: Mutex::new(Arc::new(both)),
        scopes: AtomicU64::new(0),
        group: fresh_name("group"),
        config,
        url,
        client,
    })
}

impl Named for World {
    fn backend(&self) -> &'static str {
        "redis before postgres"
    }

    fn scope(&self) -> Scope {
        let number = self.scopes.fetch_add(1, Ordering::SeqCst);
        Scope::new(
            format!("{} {number}", self.group),
            format!("orders {number}"),
        )
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

impl InboxFixture for World {
    type Inbox = Both;

    fn inbox(&self) -> Arc<Both> {
        self.open.lock().unwrap().clone()
    }

    async fn reopen(&self) {
        let options = PgOptions::new().clock(Arc::new(self.clock.clone()));
        let both = open(&self.config, &self.url, options).await;
        *self.open.lock().unwrap() = Arc::new(both.patience(Duration::from_secs(20)));
    }

    async fn apply(&self, tx: &mut TieredTx<PgTx>, effect: &str) -> Result<(), StoreError> {
        let applied = tx.inner()?.execute(ONE_MORE, &[&effect]).await;
        applied.map(drop).map_err(StoreError::backend)
    }

    async fn count(&self, effect: &str) -> u64 {
        pg::count(&self.client, effect).await
    }

    fn waits(&self) -> bool {
        true
    }
}

mod suite {
    use super::world;
    consumer_inbox::inbox_conformance!(world);
}

/// One that consumes, where Redis is.
struct Billing {
    both: Both,
    db: Client,
}

impl Billing {
    async fn new(config: &str, redis: &str) -> Billing {
        let both = open(config, redis, PgOptions::new()).await;
        both.assign(&part(), 1).await.unwrap();
        let db = pg::client(config).await;
        Billing { both, db }
    }

    async fn fresh(redis: &str) -> Option<(Billing, String)> {
        let config = schema(&servers::postgres()?.config()).await;
        let db = pg::client(&config).await;
        db.batch_execute(EFFECTS).await.unwrap();
        Some((Billing::new(&config, redis).await, config))
    }
}

impl Consumer for Billing {
    type Inbox = Both;

    fn inbox(&self) -> &Both {
        &self.both
    }

    async fn effect(&self, tx: &mut TieredTx<PgTx>, name: &str) -> Result<(), StoreError> {
        let applied = tx.inner()?.execute(ONE_MORE, &[&name]).await;
        applied.map(drop).map_err(StoreError::backend)
    }
}

fn mark(x: &Delivery) -> String {
    let key = x.dedup_key();
    let digest = u128::from_be_bytes(key.scope.digest());
    let id = x.biz_id_str().unwrap();
    format!("oncelog:{{{digest:032x}}}:mark:{}:{id}", id.len())
}

/// The state of an id's mark in Redis.
async fn state(url: &str, x: &Delivery) -> Option<String> {
    let mut redis = super::redis_at(url).await;
    redis.hget(mark(x), "s").await.unwrap()
}

fn in_scenario(x: Delivery, scenario: &str) -> Delivery {
    x.in_scenario(scenario)
}

#[test]
fn a_redelivery_of_what_is_committed_opens_no_transaction() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let Some((billing, _)) = Billing::fresh(&redis.url()).await else {
            return;
        };
        let scenario = fresh_name("scenario");
        let x = in_scenario(delivery("x", 7), &scenario);
        assert!(consume(&billing, &x).await.unwrap());
        assert_eq!(state(&redis.url(), &x).await.as_deref(), Some("d"));
        let mut tx = billing.both.begin(&part(), 1).await.unwrap();
        assert!(matches!(
            billing.both.admit(&mut tx, &x).await,
            Ok(Admission::Done(_))
        ));
        assert!(tx.inner().is_err());
        billing.both.commit(tx, 0).await.unwrap();
        // The same id in another record is the database's business, which has to know of it.
        let again = in_scenario(delivery("x", 9), &scenario);
        let mut tx = billing.both.begin(&part(), 1).await.unwrap();
        assert!(matches!(
            billing.both.admit(&mut tx, &again).await,
            Ok(Admission::Done(_))
        ));
        assert!(tx.inner().is_ok());
        billing.both.commit(tx, 10).await.unwrap();
        let sql = "select record_offset from oncelog_id";
        let offset: i64 = billing.db.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(offset, 9);
        assert_eq!(pg::count(&billing.db, "x").await, 1);
    });
}

#[test]
fn case_58_child() {
    let Some(argument) = child::argument() else {
        return;
    };
    let (config, rest) = argument.split_once('\n').unwrap();
    let (url, scenario) = rest.split_once('\n').unwrap();
    block_on(async {
        let billing = Billing::new(config, url).await;
        let x = in_scenario(delivery("x", 7), scenario);
        consume(&billing, &x).await.unwrap();
    });
}

#[test]
fn case_58_death_between_the_database_and_redis() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let url = redis.url();
        let Some((billing, config)) = Billing::fresh(&url).await else {
            return;
        };
        let billing = Billing {
            both: billing.both.patience(Duration::ZERO),
            ..billing
        };
        let scenario = fresh_name("scenario");
        let x = in_scenario(delivery("x", 7), &scenario);
        let argument = format!("{config}\n{url}\n{scenario}");
        child::abort("inbox::case_58_child", &argument, "C4:abort");
        assert_eq!(pg::count(&billing.db, "x").await, 1);
        assert_eq!(
            state(&url, &x).await.as_deref(),
            Some("b"),
            "the lease of the dead"
        );
        let mut tx = billing.both.begin(&part(), 1).await.unwrap();
        let busy = billing.both.admit(&mut tx, &x).await.unwrap();
        assert!(matches!(busy, Admission::Busy { .. }), "{busy:?}");
        drop(tx);
        // What its lease would do: then the duplicate goes to the database.
        let mut connection = super::redis_at(&url).await;
        let () = connection.del(mark(&x)).await.unwrap();
        assert!(!consume(&billing, &x).await.unwrap());
        assert_eq!(state(&url, &x).await.as_deref(), Some("d"));
        let () = connection.del(mark(&x)).await.unwrap();
        let scope = x.dedup_key().scope.clone();
        let all = billing.both.reconcile(&scope, 0).await.unwrap();
        assert_eq!(
            all,
            Reconciled {
                marked: 1,
                ..Reconciled::default()
            }
        );
        assert_eq!(state(&url, &x).await.as_deref(), Some("d"));
        let mut tx = billing.both.begin(&part(), 1).await.unwrap();
        assert!(matches!(
            billing.both.admit(&mut tx, &x).await,
            Ok(Admission::Done(_))
        ));
        assert!(tx.inner().is_err(), "Redis says so");
        assert_eq!(pg::count(&billing.db, "x").await, 1);
        println!("case 58 redis before postgres: ok");
    });
}

#[test]
fn case_59_redis_claims_what_the_database_does_not_have() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let url = redis.url();
        let Some((billing, _)) = Billing::fresh(&url).await else {
            return;
        };
        let scenario = fresh_name("scenario");
        let at = |id: &str, offset| in_scenario(delivery(id, offset), &scenario);
        let [good, swept, bad] = [at("good", 7), at("swept", 8), at("bad", 9)];
        assert!(consume(&billing, &good).await.unwrap());
        assert!(consume(&billing, &swept).await.unwrap());
        billing
            .db
            .execute("delete from oncelog_id where id = 'swept'", &[])
            .await
            .unwrap();
        let mut connection = super::redis_at(&url).await;
        let fields = [
            ("s", "d"),
            ("f", "x"),
            ("k", "orders"),
            ("q", "0"),
            ("x", "9"),
        ];
        let () = connection.hset_multiple(mark(&bad), &fields).await.unwrap();
        let before: Vec<String> = ids(&billing.db).await;
        let scope = bad.dedup_key().scope.clone();
        let all = billing.both.reconcile(&scope, 0).await.unwrap();
        let corrupt = vec![BizId::new("bad").unwrap()];
        assert_eq!(
            all,
            Reconciled {
                marked: 1,
                removed: 1,
                corrupt
            }
        );
        assert_eq!(state(&url, &bad).await, None);
        assert_eq!(state(&url, &swept).await, None);
        assert_eq!(state(&url, &good).await.as_deref(), Some("d"));
        assert_eq!(ids(&billing.db).await, before, "nothing is inserted");
        assert!(consume(&billing, &bad).await.unwrap());
        // Of what was settled before then nothing is said.
        let later = billing.both.reconcile(&scope, 1 << 50).await.unwrap();
        assert_eq!(later, Reconciled::default());
        println!("case 59 redis before postgres: ok");
    });
}

async fn ids(db: &Client) -> Vec<String> {
    let sql = "select encode(id, 'escape') from oncelog_id order by id";
    let rows = db.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn case_60_without_redis_the_database_does_it_all() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let proxy = Proxy::to(redis.port());
        let url = format!("redis://127.0.0.1:{}/", proxy.port());
        proxy.set_down(true);
        let Some((billing, _)) = Billing::fresh(&url).await else {
            return;
        };
        let scenario = fresh_name("scenario");
        let at = |n: u64| in_scenario(delivery(&format!("x {n}"), n), &scenario);
        // Never there, there, gone again in mid-call.
        for n in 0..10 {
            assert!(consume(&billing, &at(n)).await.unwrap());
            assert!(!consume(&billing, &at(n)).await.unwrap());
        }
        assert_eq!(state(&redis.url(), &at(9)).await, None);
        proxy.set_down(false);
        let mut n = 10;
        while state(&redis.url(), &at(n - 1)).await.is_none() {
            assert!(consume(&billing, &at(n)).await.unwrap());
            n += 1;
            assert!(n < 1_000, "Redis is not asked again");
        }
        proxy.set_down(true);
        proxy.cut(servers::Cut::Reply, b"EVALSHA");
        for n in n..n + 10 {
            assert!(consume(&billing, &at(n)).await.unwrap());
            assert!(!consume(&billing, &at(n)).await.unwrap());
        }
        for n in 0..n + 10 {
            assert_eq!(pg::count(&billing.db, &format!("x {n}")).await, 1, "{n}");
        }
        println!("case 60 redis before postgres: ok");
    });
}

#[test]
fn a_batch_with_an_id_twice_and_one_that_is_given_back() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let url = redis.url();
        let Some((billing, _)) = Billing::fresh(&url).await else {
            return;
        };
        let scenario = fresh_name("scenario");
        let at = |id: &str, offset| in_scenario(delivery(id, offset), &scenario);
        let [x, y, x_again] = [at("x", 7), at("y", 8), at("x", 9)];
        let mut tx = billing.both.begin(&part(), 1).await.unwrap();
        for (delivery, how) in [(&x, Settlement::Done(None)), (&y, Settlement::Released)] {
            let answer = billing.both.admit(&mut tx, delivery).await.unwrap();
            assert_eq!(answer, Admission::Run(()));
            billing.both.settle(&mut tx, delivery, how).await.unwrap();
        }
        let answer = billing.both.admit(&mut tx, &x_again).await.unwrap();
        assert!(matches!(answer, Admission::Done(_)), "{answer:?}");
        assert_eq!(
            state(&url, &x).await.as_deref(),
            Some("b"),
            "not before the commit"
        );
        billing.both.commit(tx, 8).await.unwrap();
        assert_eq!(state(&url, &x).await.as_deref(), Some("d"));
        assert_eq!(state(&url, &y).await, None);
        let key: &DedupKey = y.dedup_key();
        assert_eq!(key.id, BizId::new("y").unwrap());
        assert!(consume(&billing, &y).await.unwrap());
    });
}
