//! What only Redis has to show: restarts, lost data, refused servers, lost replies, keys that vanish by themselves.

use std::sync::Arc;
use std::time::Duration;

use consumer_inbox::conformance::block_on;
use consumer_inbox::{
    Admission, ClaimRequest, DedupStore, Delivery, Held, Prior, RedisOptions, RedisStore,
    Settlement, StoreError,
};
use redis::AsyncCommands as _;

use super::common::TestClock;
use super::common::records::delivery;
use super::fixture::{client, connect};
use super::servers::{self, Cut, Proxy, Redis, fresh_name};

const LEASE: Duration = Duration::from_secs(60);
const DONE: Settlement = Settlement::Done(None);

/// An id of a scope that nothing else has.
fn fresh(id: &str) -> Delivery {
    delivery(id, 7).in_scenario(fresh_name("scenario"))
}

async fn ask(store: &RedisStore, x: &Delivery, owner: u128) -> Result<Admission<Held>, StoreError> {
    store.claim(x.claim(owner, LEASE)).await
}

async fn run(store: &RedisStore, x: &Delivery, owner: u128) -> Held {
    let answer = ask(store, x, owner).await.unwrap();
    answer
        .clone()
        .granted()
        .unwrap_or_else(|| panic!("{answer:?}"))
}

fn key(x: &Delivery, rest: &str) -> String {
    let digest = u128::from_be_bytes(x.dedup_key().scope.digest());
    format!("oncelog:{{{digest:032x}}}:{rest}")
}

#[test]
fn a_lost_reply_is_unknown_and_a_server_that_is_not_there_unavailable() {
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let proxy = Proxy::to(server.port());
        let store = connect(proxy.port(), RedisOptions::new()).await;
        let x = fresh("x");
        for cut in [Cut::Request, Cut::Reply] {
            proxy.cut(cut, b"EVALSHA");
            let lost = ask(&store, &x, 1).await;
            assert!(
                matches!(lost, Err(StoreError::Unknown)),
                "{cut:?}: {lost:?}"
            );
        }
        let held = run(&store, &x, 1).await;
        assert_eq!((held.attempt, held.prior), (1, Prior::New));
        proxy.set_down(true);
        proxy.cut(Cut::Request, b"EVALSHA");
        let lost = store.settle(&held, DONE).await;
        assert!(matches!(lost, Err(StoreError::Unknown)), "{lost:?}");
        for _ in 0..2 {
            let refused = store.settle(&held, DONE).await;
            assert!(
                matches!(refused, Err(StoreError::Unavailable)),
                "{refused:?}"
            );
        }
        proxy.set_down(false);
        assert!(matches!(
            ask(&store, &x, 2).await,
            Ok(Admission::Busy { .. })
        ));
        store.settle(&held, DONE).await.unwrap();
        assert!(matches!(ask(&store, &x, 2).await, Ok(Admission::Done(_))));
        assert_eq!(proxy.cuts(), 3);
    });
}

#[test]
fn an_answer_that_comes_too_late_is_unknown_and_was_done() {
    block_on(async {
        let Some(server) = Redis::start() else { return };
        let short = RedisOptions::new().timeout(Duration::from_millis(300));
        let store = connect(server.port(), short).await;
        let x = fresh("x");
        let mut other = client(&server.url()).await;
        let sleep = redis::cmd("DEBUG").arg("SLEEP").arg("0.8").to_owned();
        let asleep = tokio::spawn(async move { sleep.query_async::<()>(&mut other).await });
        // Until the server sleeps it answers at once.
        let late = loop {
            match ask(&store, &x, 1).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert!(matches!(late, StoreError::Unknown), "{late:?}");
        let _ = asleep.await;
        // It may still sleep: the other client gives up sooner.
        let held = loop {
            match ask(&store, &x, 1).await {
                Err(StoreError::Unknown | StoreError::Unavailable) => {}
                answer => break answer.unwrap().granted().unwrap(),
            }
        };
        assert_eq!((held.attempt, held.prior), (1, Prior::New));
    });
}

#[test]
fn case_52_a_killed_server_keeps_what_it_acknowledged() {
    block_on(async {
        let Some(mut server) = Redis::start() else {
            return;
        };
        let proxy = Proxy::to(server.port());
        let clock = TestClock::new();
        let options = RedisOptions::new().longest_lease(LEASE);
        let options = options.clock(Arc::new(clock.clone()));
        let store = connect(proxy.port(), options).await;
        let [done, free, new, later] = ["done", "free", "new", "later"].map(|id| delivery(id, 7));
        let held = run(&store, &done, 1).await;
        store.settle(&held, DONE).await.unwrap();
        let released = run(&store, &free, 1).await;
        store.settle(&released, Settlement::Released).await.unwrap();
        server.kill("KILL");
        server.restart();
        proxy.lead_to(server.port());
        let answer = loop {
            match ask(&store, &done, 2).await {
                Err(StoreError::Unknown | StoreError::Unavailable) => {}
                answer => break answer.unwrap(),
            }
        };
        assert!(matches!(answer, Admission::Done(_)), "{answer:?}");
        let again = run(&store, &free, 2).await;
        assert!(again.token > released.token, "{again:?} {released:?}");
        assert_eq!(again.attempt, 2);
        // It is another server to those who ask: it may have lost whose claim that was, until every lease is over.
        let held = run(&store, &new, 1).await;
        assert_eq!((held.attempt, held.prior), (1, Prior::Crashed));
        assert_eq!(run(&store, &new, 1).await, held, "told again");
        clock.pass(LEASE);
        assert_eq!(run(&store, &later, 1).await.prior, Prior::New);
        println!("case 52 redis: ok");
    });
}

#[test]
fn case_53_a_server_that_lost_everything() {
    block_on(async {
        let Some(server) = Redis::start() else { return };
        let [a, b] = [
            connect(server.port(), RedisOptions::new()).await,
            connect(server.port(), RedisOptions::new()).await,
        ];
        let x = delivery("x", 7);
        let held = run(&a, &x, 1).await;
        assert_eq!(held.prior, Prior::New);
        assert_eq!(run(&b, &delivery("y", 8), 2).await.prior, Prior::New);
        let mut redis = client(&server.url()).await;
        let () = redis.flushall().await.unwrap();
        let next = run(&b, &x, 2).await;
        assert!(next.token > held.token, "{next:?} {held:?}");
        assert_eq!((next.attempt, next.prior), (1, Prior::Crashed));
        for how in [DONE, Settlement::Released, Settlement::Parked] {
            let lost = a.settle(&held, how).await;
            assert!(
                matches!(lost, Err(StoreError::Lost(t)) if t == held.token),
                "{lost:?}"
            );
        }
        assert!(matches!(
            a.renew(&held, LEASE).await,
            Err(StoreError::Lost(_))
        ));
        b.settle(&next, DONE).await.unwrap();
        println!("case 53 redis: ok");
    });
}

#[test]
fn case_54_the_server_forgets_its_scripts() {
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let store = connect(server.port(), RedisOptions::new()).await;
        let x = fresh("x");
        let held = run(&store, &x, 1).await;
        let mut redis = client(&server.url()).await;
        let flush = redis::cmd("SCRIPT").arg("FLUSH").to_owned();
        let () = flush.query_async(&mut redis).await.unwrap();
        assert_eq!(run(&store, &x, 1).await, held);
        let () = flush.query_async(&mut redis).await.unwrap();
        store.settle(&held, DONE).await.unwrap();
        println!("case 54 redis: ok");
    });
}

#[test]
fn case_55_a_server_that_may_lose_marks_is_refused() {
    block_on(async {
        let unfit = [
            (["--maxmemory-policy", "allkeys-lru"], "noeviction"),
            (["--maxmemory-policy", "volatile-ttl"], "noeviction"),
            (["--appendonly", "no"], "appendonly"),
            (["--appendfsync", "everysec"], "appendfsync"),
        ];
        for (arguments, named) in unfit {
            let Some(server) = Redis::start_with(&arguments) else {
                return;
            };
            let refused = RedisStore::connect(&server.url(), RedisOptions::new()).await;
            let Err(StoreError::Unsafe(why)) = refused else {
                panic!("{arguments:?}: {refused:?}");
            };
            assert!(why.contains(named), "{why}");
            let store = connect(server.port(), RedisOptions::new().lossy()).await;
            assert!(store.may_lose());
            run(&store, &fresh("x"), 1).await;
        }
        let fit = connect(
            servers::redis().unwrap().port(),
            RedisOptions::new().lossy(),
        )
        .await;
        assert!(!fit.may_lose());
        println!("case 55 redis: ok");
    });
}

#[test]
fn case_56_full_memory() {
    block_on(async {
        let Some(server) = Redis::start() else { return };
        let store = connect(server.port(), RedisOptions::new()).await;
        let [x, y] = ["x", "y"].map(|id| delivery(id, 7));
        let held = run(&store, &y, 1).await;
        let mut redis = client(&server.url()).await;
        let mut limit = async |bytes: &str| {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg("maxmemory").arg(bytes);
            let () = set.query_async(&mut redis).await.unwrap();
        };
        limit("100kb").await;
        let full = ask(&store, &x, 1).await;
        assert!(matches!(full, Err(StoreError::Unavailable)), "{full:?}");
        let full = store.settle(&held, DONE).await;
        assert!(matches!(full, Err(StoreError::Unavailable)), "{full:?}");
        assert_eq!(store.peek(y.dedup_key()).await.unwrap(), None);
        limit("0").await;
        let x = run(&store, &x, 2).await;
        assert_eq!((x.attempt, x.prior), (1, Prior::New));
        store.settle(&held, DONE).await.unwrap();
        println!("case 56 redis: ok");
    });
}

#[test]
fn case_57_a_key_of_another_type_fails_the_script_before_it_writes() {
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let store = connect(server.port(), RedisOptions::new()).await;
        let mut redis = client(&server.url()).await;
        for wrong in ["1:x", "scope", "index"] {
            let x = fresh("x");
            let () = redis.set(key(&x, wrong), "a string").await.unwrap();
            let failed = ask(&store, &x, 1).await;
            assert!(
                matches!(failed, Err(StoreError::Backend(_))),
                "{wrong}: {failed:?}"
            );
            let there: Vec<String> = redis
                .keys(key(&x, "*").replace(['{', '}'], "?"))
                .await
                .unwrap();
            assert_eq!(there, [key(&x, wrong)]);
            let () = redis.del(key(&x, wrong)).await.unwrap();
            assert_eq!(run(&store, &x, 1).await.attempt, 1);
        }
        println!("case 57 redis: ok");
    });
}

#[test]
fn ids_vanish_by_themselves_no_earlier_than_their_records() {
    const HOUR: Duration = Duration::from_secs(3_600);
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let hours = |n: u32| HOUR * n;
        let short = RedisOptions::new().forget_after(hours(9), hours(6), hours(4));
        let refused = RedisStore::connect(&server.url(), short).await;
        assert!(matches!(refused, Err(StoreError::Unsafe(_))), "{refused:?}");

        let options = RedisOptions::new().forget_after(hours(10), hours(6), hours(4));
        let store = connect(server.port(), options).await;
        let mut redis = client(&server.url()).await;
        let now: (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.unwrap();
        let now_ms = now.0 * 1_000;
        let hour_ms = 3_600_000;
        let scenario = fresh_name("scenario");
        let at = |offset: u64, origin_ms: u64| {
            let x = delivery("x", offset).in_scenario(&*scenario);
            x.stored_at(origin_ms)
        };
        let x = at(7, now_ms - hour_ms);
        let mut left = async || {
            let ms: i64 = redis.pttl(key(&x, "1:x")).await.unwrap();
            u64::try_from(ms).unwrap()
        };
        // Busy: its lease and the whole time behind it.
        let held = run(&store, &x, 1).await;
        let busy = left().await;
        assert!(
            (10 * hour_ms..10 * hour_ms + 61_000).contains(&busy),
            "{busy}"
        );
        store.settle(&held, DONE).await.unwrap();
        let settled = left().await;
        assert!(
            (10 * hour_ms - 60_000..=10 * hour_ms).contains(&settled),
            "{settled}"
        );
        // The same record again does not make it live longer, a newer one does.
        assert!(matches!(ask(&store, &x, 2).await, Ok(Admission::Done(_))));
        assert!(left().await <= settled);
        let newer = at(100, now_ms + 3 * hour_ms);
        assert!(matches!(
            ask(&store, &newer, 2).await,
            Ok(Admission::Done(_))
        ));
        let longer = left().await;
        assert!(
            (13 * hour_ms - 60_000..13 * hour_ms + 1_000).contains(&longer),
            "{longer}"
        );

        // Unknown, and as old as what may have vanished.
        let request = |origin_ms| ClaimRequest {
            origin_ms: Some(origin_ms),
            ..x.claim(3, LEASE)
        };
        let [old, young] = ["old", "young"].map(|id| delivery(id, 7).in_scenario(&*scenario));
        let old = ClaimRequest {
            key: old.dedup_key(),
            ..request(now_ms - 10 * hour_ms - 1)
        };
        assert_eq!(store.claim(old).await.unwrap(), Admission::Expired);
        let young = ClaimRequest {
            key: young.dedup_key(),
            ..request(now_ms - 9 * hour_ms)
        };
        assert!(matches!(
            store.claim(young).await.unwrap(),
            Admission::Run(_)
        ));
    });
}

#[test]
fn a_lease_that_is_too_long_is_refused() {
    block_on(async {
        let Some(server) = servers::redis() else {
            return;
        };
        let options = RedisOptions::new().longest_lease(Duration::from_secs(10));
        let store = connect(server.port(), options).await;
        let refused = ask(&store, &fresh("x"), 1).await;
        assert!(matches!(refused, Err(StoreError::Misuse(_))), "{refused:?}");
    });
}
