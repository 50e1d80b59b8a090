//! Processes that die with a claim.

use std::time::Duration;

use consumer_inbox::conformance::block_on;
use consumer_inbox::{Admission, DedupStore, Held, Prior, RedisOptions, RedisStore, Settlement};

use super::common::child;
use super::common::records::delivery;
use super::servers::{self, fresh_name};

const CHILD: &str = "crashes::dies_with_a_claim";
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);

async fn open(url: &str) -> RedisStore {
    RedisStore::connect(url, RedisOptions::new()).await.unwrap()
}

#[test]
fn dies_with_a_claim() {
    let Some(argument) = child::argument() else {
        return;
    };
    let (url, scenario) = argument.split_once(' ').unwrap();
    block_on(async {
        let store = open(url).await;
        let x = delivery("x", 7).in_scenario(scenario);
        let held = store.claim(x.claim(1, SHORT)).await.unwrap();
        let held = held.granted().unwrap();
        let done = Settlement::Done(Some("r".into()));
        store.settle(&held, done).await.unwrap();
    });
}

/// Asks until the lease of the dead is over.
async fn next(store: &RedisStore, scenario: &str) -> Held {
    let x = delivery("x", 7).in_scenario(scenario);
    loop {
        match store.claim(x.claim(2, LONG)).await.unwrap() {
            Admission::Run(held) => return held,
            Admission::Busy { retry_after } => {
                assert!(retry_after <= SHORT, "{retry_after:?}");
                tokio::time::sleep(retry_after).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_claim_of_the_dead_is_followed_and_a_settlement_stays() {
    block_on(async {
        let Some(redis) = servers::redis() else {
            return;
        };
        let store = open(&redis.url()).await;
        for point in ["C1", "C3"] {
            let scenario = fresh_name("scenario");
            let argument = format!("{} {scenario}", redis.url());
            child::abort(CHILD, &argument, &format!("{point}:abort"));
            let held = next(&store, &scenario).await;
            assert_eq!((held.attempt, held.prior), (2, Prior::Crashed), "{point}");
        }
        let scenario = fresh_name("scenario");
        let argument = format!("{} {scenario}", redis.url());
        child::abort(CHILD, &argument, "C4:abort");
        let x = delivery("x", 7).in_scenario(&*scenario);
        let answer = store.claim(x.claim(2, LONG)).await.unwrap();
        let Admission::Done(receipt) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(receipt.result.as_deref(), Some(&b"r"[..]));
    });
}
