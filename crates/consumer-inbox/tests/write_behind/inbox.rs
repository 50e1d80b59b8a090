//! Redis with a database behind it: the suites, and what becomes of one when the other is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use consumer_inbox::conformance::block_on;
use consumer_inbox::{
    Admission, Horizon, Inbox, Outgoing, PgInbox, PgOptions, RedisInbox, RedisOptions, RedisTx,
    Settlement, StoreError,
};
use redis::AsyncCommands as _;
use tokio_postgres::Client;

use super::common::child;
use super::common::records::{Consumer, consume, delivery, part};
use super::fixture::{add_one, count};
use super::pg::{self, schema};
use super::servers::{self, Cut, Proxy, Redis, fresh_name};

/// One that consumes: each record adds one to an entity of several, and sends a record.
struct Billing {
    inbox: RedisInbox,
    db: Client,
}

impl Consumer for Billing {
    type Inbox = RedisInbox;

    fn inbox(&self) -> &RedisInbox {
        &self.inbox
    }

    async fn effect(&self, tx: &mut RedisTx, name: &str) -> Result<(), StoreError> {
        let number: u64 = name.rsplit(' ').next().unwrap().parse().unwrap();
        add_one(tx, &format!("sum {}", number % 7)).await?;
        let record = Outgoing {
            topic: "out".into(),
            value: Some(name.to_owned().into()),
            ..Outgoing::default()
        };
        self.inbox.emit(tx, record).await
    }
}

impl Billing {
    async fn new(name: &str, config: &str, url: &str) -> Billing {
        let database = PgInbox::connect(config, PgOptions::new()).await.unwrap();
        let inbox = RedisInbox::connect(name, url, RedisOptions::new(), database).await;
        let (inbox, db) = (inbox.unwrap(), pg::client(config).await);
        inbox.assign(&part(), 1).await.unwrap();
        Billing { inbox, db }
    }

    async fn fresh(url: &str) -> Option<(Billing, String, String)> {
        let config = schema(&servers::postgres()?.config()).await;
        let name = fresh_name("inbox");
        Some((Billing::new(&name, &config, url).await, name, config))
    }

    async fn consume(&self, offsets: std::ops::Range<u64>) -> u64 {
        let mut effects = 0;
        for n in offsets {
            let x = delivery(&format!("x {n}"), n);
            effects += u64::from(consume(self, &x).await.unwrap());
        }
        effects
    }

    /// The sums in Redis.
    async fn sums(&self) -> BTreeMap<u64, u64> {
        let mut sums = BTreeMap::new();
        for n in 0..7 {
            sums.insert(n, count(&self.inbox, &format!("sum {n}")).await);
        }
        sums
    }

    /// Entities (id, version, amount), records to send and ids, in the database.
    async fn stored(&self) -> (Vec<(String, i64, i64)>, i64, i64) {
        let sql = "select encode(id, 'escape'), version, amount from oncelog_entity order by id";
        let rows = self.db.query(sql, &[]).await.unwrap();
        let entities = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2)));
        let entities = entities.collect();
        let sql = "select (select count(*) from oncelog_outbox), (select count(*) from oncelog_id where state = 2)";
        let counts = self.db.query_one(sql, &[]).await.unwrap();
        (entities, counts.get(0), counts.get(1))
    }

    async fn sync(&self) -> usize {
        let writer = self.inbox.write_behind();
        let mut all = 0;
        loop {
            match writer.sync(64).await.unwrap() {
                0 => return all,
                some => all += some,
            }
        }
    }
}

/// What the database has behind so many records, without any accident.
fn expected(records: u64) -> (Vec<(String, i64, i64)>, i64, i64) {
    let sum = |n: u64| (0..records).filter(|record| record % 7 == n).count();
    let entities = (0..7).map(|n| {
        let sum = i64::try_from(sum(n)).unwrap();
        (format!("sum {n}"), sum, sum)
    });
    let records = i64::try_from(records).unwrap();
    (
        entities.filter(|(_, sum, _)| *sum > 0).collect(),
        records,
        records,
    )
}

async fn keys_like(url: &str, name: &str, end: &str) -> String {
    let digest = blake3::hash(name.as_bytes()).to_hex();
    let mut redis = super::redis_at(url).await;
    let pattern = format!("oncelog:?behind:{}?:{end}*", &digest[..32]);
    let keys: Vec<String> = redis.keys(pattern).await.unwrap();
    keys.into_iter().next().unwrap()
}

#[test]
fn case_34_the_connection_is_cut_around_the_commit() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let proxy = Proxy::to(redis.port());
        let url = format!("redis://127.0.0.1:{}", proxy.port());
        let Some((billing, ..)) = Billing::fresh(&url).await else {
            return;
        };
        // A server that has not heard of a script yet is called twice.
        assert_eq!(billing.consume(0..1).await, 1);
        for (n, cut, was_done) in [(1, Cut::Reply, true), (2, Cut::Request, false)] {
            let x = delivery(&format!("x {n}"), n);
            let mut tx = billing.inbox.begin(&part(), 1).await.unwrap();
            let answer = billing.inbox.admit(&mut tx, &x).await.unwrap();
            assert_eq!(answer, Admission::Run(()));
            let name = format!("x {n}");
            billing.effect(&mut tx, &name).await.unwrap();
            let done = Settlement::Done(None);
            billing.inbox.settle(&mut tx, &x, done).await.unwrap();
            proxy.cut(cut, b"EVALSHA");
            let lost = billing.inbox.commit(tx, n + 1).await;
            assert!(matches!(lost, Err(StoreError::Unknown)), "{lost:?}");
            // Its own lock, if nothing was written, is given back by the transaction that was dropped.
            assert_eq!(consume(&billing, &x).await.unwrap(), !was_done);
            assert_eq!(count(&billing.inbox, &format!("sum {n}")).await, 1);
        }
        billing.sync().await;
        assert_eq!(billing.stored().await, expected(3));
        println!("case 34 redis with postgres behind: ok");
    });
}

#[test]
fn case_61_child() {
    let Some(argument) = child::argument() else {
        return;
    };
    let (name, rest) = argument.split_once('\n').unwrap();
    let (config, url) = rest.split_once('\n').unwrap();
    block_on(async {
        let database = PgInbox::connect(config, PgOptions::new()).await.unwrap();
        let inbox = RedisInbox::connect(name, url, RedisOptions::new(), database).await;
        inbox.unwrap().write_behind().sync(1_000).await.unwrap();
    });
}

#[test]
fn case_61_death_of_what_writes_behind() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let url = redis.url();
        let Some((billing, name, config)) = Billing::fresh(&url).await else {
            return;
        };
        assert_eq!(billing.consume(0..20).await, 20);
        let argument = format!("{name}\n{config}\n{url}");
        child::abort("inbox::case_61_child", &argument, "C3:abort");
        assert_eq!(billing.stored().await, expected(0), "before its commit");
        child::abort("inbox::case_61_child", &argument, "C4:abort");
        assert_eq!(billing.stored().await, expected(20));
        let mut connection = super::redis_at(&url).await;
        let stream = keys_like(&url, &name, "stream").await;
        let length = redis::cmd("XLEN").arg(stream).to_owned();
        let left = length.query_async::<usize>(&mut connection).await.unwrap();
        assert_eq!(left, 20, "before it trimmed");
        assert_eq!(billing.sync().await, 0);
        assert_eq!(billing.stored().await, expected(20));
        let left = length.query_async::<usize>(&mut connection).await.unwrap();
        assert_eq!(left, 0);
        assert_eq!(billing.consume(20..30).await, 10);
        assert_eq!(billing.sync().await, 10);
        assert_eq!(billing.stored().await, expected(30));
        println!("case 61 redis with postgres behind: ok");
    });
}

#[test]
fn case_62_redis_loses_everything_with_500_transactions_not_written() {
    block_on(async {
        let Some(redis) = Redis::start() else { return };
        let Some((billing, ..)) = Billing::fresh(&redis.url()).await else {
            return;
        };
        assert_eq!(billing.consume(0..100).await, 100);
        assert_eq!(billing.sync().await, 100);
        assert_eq!(billing.consume(100..600).await, 500);
        let sums = billing.sums().await;
        let open = billing.inbox.begin(&part(), 1).await.unwrap();
        let mut connection = super::redis_at(&redis.url()).await;
        let () = connection.flushall().await.unwrap();

        let fenced = |answer: StoreError| matches!(answer, StoreError::Fenced { current: 0, .. });
        assert!(fenced(billing.inbox.commit(open, 600).await.unwrap_err()));
        assert!(fenced(billing.inbox.begin(&part(), 1).await.unwrap_err()));
        let conflict = billing.inbox.write_behind().sync(10).await;
        assert!(
            matches!(conflict, Err(StoreError::Conflict)),
            "{conflict:?}"
        );

        let position = billing.inbox.assign(&part(), 2).await.unwrap();
        assert_eq!(position, Some(100));
        let x = |id: u64, offset| delivery(&format!("x {id}"), offset).at_epoch(2);
        // What the database has is known again, also in another record.
        assert!(!consume(&billing, &x(7, 100)).await.unwrap());
        for n in 100..600 {
            // The log is one longer than it was: one record was published again.
            assert!(consume(&billing, &x(n, n + 1)).await.unwrap(), "{n}");
        }
        assert_eq!(billing.sums().await, sums);
        assert_eq!(billing.sync().await, 501);
        assert_eq!(billing.stored().await, expected(600));
        assert_eq!(
            billing.inbox.write_behind().synced(&part()).await.unwrap(),
            Some(601)
        );
        println!("case 62 redis with postgres behind: ok");
    });
}

#[test]
fn case_63_an_entity_that_only_the_database_has() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let Some((billing, ..)) = Billing::fresh(&redis.url()).await else {
            return;
        };
        let there = "insert into oncelog_entity (id, version, amount, value) values ('sum 3', 5, 40, 'kept')";
        billing.db.execute(there, &[]).await.unwrap();
        assert_eq!(billing.consume(3..4).await, 1);
        let entity = billing.inbox.entity(b"sum 3").await.unwrap().unwrap();
        assert_eq!(
            (entity.version, entity.amount, &*entity.value),
            (6, 41, &b"kept"[..])
        );
        billing.sync().await;
        let (entities, ..) = billing.stored().await;
        assert_eq!(entities, [("sum 3".to_owned(), 6, 41)]);
        println!("case 63 redis with postgres behind: ok");
    });
}

#[test]
fn case_64_the_database_is_too_far_behind() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let Some((billing, ..)) = Billing::fresh(&redis.url()).await else {
            return;
        };
        let billing = Billing {
            inbox: billing.inbox.max_lag(3),
            ..billing
        };
        let writer = billing.inbox.write_behind();
        assert_eq!(writer.synced(&part()).await.unwrap(), None);
        assert_eq!(billing.consume(0..3).await, 3);
        for _ in 0..2 {
            let busy = consume(&billing, &delivery("x 3", 3)).await;
            assert!(matches!(busy, Err(StoreError::Busy { .. })), "{busy:?}");
        }
        assert_eq!(count(&billing.inbox, "sum 3").await, 0);
        // What changes nothing need not wait.
        let tx = billing.inbox.begin(&part(), 1).await.unwrap();
        billing.inbox.commit(tx, 0).await.unwrap();
        assert_eq!(writer.sync(2).await.unwrap(), 2);
        assert_eq!(
            writer.synced(&part()).await.unwrap(),
            Some(2),
            "to be held in the log"
        );
        assert_eq!(billing.consume(3..5).await, 2);
        assert_eq!(billing.sync().await, 3);
        assert_eq!(billing.stored().await, expected(5));
        println!("case 64 redis with postgres behind: ok");
    });
}

#[test]
fn case_65_two_that_write_behind() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let Some((billing, name, config)) = Billing::fresh(&redis.url()).await else {
            return;
        };
        let second = Billing::new(&name, &config, &redis.url()).await;
        let writers = [&billing, &second].map(|billing| {
            let writer = billing.inbox.write_behind();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let every = Duration::from_millis(1);
            let running = tokio::spawn(async move {
                let stop = async { drop(stopped.await) };
                writer.run(every, 3, stop).await;
            });
            (stop, running)
        });
        assert_eq!(billing.consume(0..200).await, 200);
        let both = &billing.inbox.write_behind();
        while both.synced(&part()).await.unwrap() != Some(200) {
            tokio::task::yield_now().await;
        }
        for (stop, running) in writers {
            stop.send(()).unwrap();
            running.await.unwrap();
        }
        assert_eq!(billing.stored().await, expected(200));
        println!("case 65 redis with postgres behind: ok");
    });
}

#[test]
fn an_id_whose_lock_was_lost_is_still_committed_once() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let url = redis.url();
        let Some((billing, name, _)) = Billing::fresh(&url).await else {
            return;
        };
        let x = delivery("x 0", 0);
        let begin = async || {
            let mut tx = billing.inbox.begin(&part(), 1).await.unwrap();
            let answer = billing.inbox.admit(&mut tx, &x).await.unwrap();
            assert_eq!(answer, Admission::Run(()));
            // Entities of their own, which cannot be in each other's way.
            let done = Settlement::Done(None);
            billing.inbox.settle(&mut tx, &x, done).await.unwrap();
            tx
        };
        let mut first = begin().await;
        add_one(&mut first, "first").await.unwrap();
        let lock = keys_like(&url, &name, "lock").await;
        let mut connection = super::redis_at(&url).await;
        let () = connection.del(lock).await.unwrap();
        let mut second = begin().await;
        add_one(&mut second, "second").await.unwrap();
        billing.inbox.commit(second, 1).await.unwrap();
        let late = billing.inbox.commit(first, 1).await;
        assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
        assert_eq!(count(&billing.inbox, "first").await, 0);
        assert_eq!(count(&billing.inbox, "second").await, 1);
    });
}

#[test]
fn case_45_an_older_copy_of_either_is_noticed() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let url = redis.url();
        let Some((billing, name, _)) = Billing::fresh(&url).await else {
            return;
        };
        billing.consume(0..10).await;
        billing.sync().await;
        // Of Redis: the position is one that the database is ahead of.
        let position = keys_like(&url, &name, "position").await;
        let mut connection = super::redis_at(&url).await;
        let () = connection.hset(&position, "next", 4).await.unwrap();
        let stale = billing.inbox.begin(&part(), 1).await.unwrap();
        assert_eq!(billing.inbox.assign(&part(), 1).await.unwrap(), Some(10));
        // Also one of the same epoch knows what was thrown away.
        let fenced = billing.inbox.commit(stale, 11).await;
        assert!(
            matches!(fenced, Err(StoreError::Fenced { current: 0, .. })),
            "{fenced:?}"
        );
        assert_eq!(billing.consume(0..12).await, 2);
        billing.sync().await;
        assert_eq!(billing.stored().await, expected(12));
        // Of the database: it needs what was trimmed.
        billing.consume(12..20).await;
        billing.sync().await;
        let back = "update oncelog_behind set stream_id = 3; update oncelog_position set next_offset = 5; \
                    delete from oncelog_id; delete from oncelog_entity; delete from oncelog_outbox";
        billing.db.batch_execute(back).await.unwrap();
        assert_eq!(billing.inbox.assign(&part(), 1).await.unwrap(), Some(5));
        assert_eq!(
            count(&billing.inbox, "sum 0").await,
            0,
            "what Redis had is thrown away"
        );
        assert_eq!(billing.consume(5..20).await, 15);
    });
}

#[test]
fn what_was_forgotten_is_forgotten_by_both_and_refused_by_either() {
    block_on(async {
        let Some(redis) = Redis::start() else { return };
        let Some((billing, ..)) = Billing::fresh(&redis.url()).await else {
            return;
        };
        let old = delivery("x 1", 1).stored_at(1_000);
        let parked = delivery("x 2", 2).stored_at(1_001);
        assert!(consume(&billing, &old).await.unwrap());
        let mut tx = billing.inbox.begin(&part(), 1).await.unwrap();
        billing.inbox.admit(&mut tx, &parked).await.unwrap();
        billing
            .inbox
            .settle(&mut tx, &parked, Settlement::Parked)
            .await
            .unwrap();
        billing.inbox.commit(tx, 3).await.unwrap();
        billing.sync().await;
        let begin = std::time::Instant::now();
        let below = Horizon {
            scope: old.dedup_key().scope.clone(),
            log_starts: BTreeMap::from([(("orders".into(), 0), 100)]),
            republish_window: Duration::ZERO,
            origin_before_ms: u64::MAX,
            parked_longer_than: None,
        };
        // As soon as the clock moved on.
        while billing.inbox.sweep(&below, 10).await.unwrap() == 0 {
            assert!(begin.elapsed() < Duration::from_secs(30));
        }
        assert_eq!(billing.sync().await, 1);
        let (_, _, done) = billing.stored().await;
        assert_eq!(done, 0);
        let ask = async |delivery: &consumer_inbox::Delivery| {
            let mut tx = billing
                .inbox
                .begin(&part(), delivery.epoch())
                .await
                .unwrap();
            billing.inbox.admit(&mut tx, delivery).await.unwrap()
        };
        let late = delivery("x 1", 50).stored_at(1_000);
        assert_eq!(ask(&late).await, Admission::Expired);
        let mut connection = super::redis_at(&redis.url()).await;
        let () = connection.flushall().await.unwrap();
        assert_eq!(billing.inbox.assign(&part(), 1).await.unwrap(), Some(3));
        assert_eq!(ask(&late).await, Admission::Expired);
        let parked = delivery("x 2", 51).stored_at(1_001);
        assert_eq!(ask(&parked).await, Admission::Parked);
    });
}
