//! Claims and settlements that share a transaction.

use std::sync::Arc;
use std::time::Duration;

use consumer_inbox::conformance::block_on;
use consumer_inbox::{
    Admission, DedupStore, Held, PgInbox, PgOptions, PgStore, Prior, Settlement, StoreError, Token,
};

use super::common::records::delivery;
use super::fixture::{client, schema};
use super::servers;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn calls_that_come_together_are_answered_each_for_itself() {
    const IDS: u64 = 100;
    block_on(async {
        let Some(server) = servers::postgres() else {
            return;
        };
        let config = schema(&server.config()).await;
        let store = Arc::new(PgStore::connect(&config, PgOptions::new()).await.unwrap());
        let db = client(&config).await;
        let floor = "insert into oncelog_floor (scope, floor_ms) values ('7:billing:orders', 1009)";
        db.batch_execute(floor).await.unwrap();
        let transactions = async || {
            let sql = "select count(distinct xmin::text) from oncelog_id";
            db.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
        };
        // Three owners want each id, at the same time; the records of ten of them were forgotten before.
        let name = |n: u64| format!("id {n}");
        let all = |f: &dyn Fn(u64, u128) -> tokio::task::JoinHandle<Admission<Held>>| {
            let each = (0..IDS).flat_map(|n| (1..=3).map(move |owner| (n, owner)));
            each.map(|(n, owner)| f(n, owner)).collect::<Vec<_>>()
        };
        let claim = |n: u64, owner: u128| {
            let (store, id) = (store.clone(), name(n));
            tokio::spawn(async move {
                let x = delivery(&id, n).stored_at(1_000 + n);
                store.claim(x.claim(owner, LONG)).await.unwrap()
            })
        };
        let mut held = Vec::new();
        for (nth, answer) in (0..).zip(all(&claim)) {
            let (n, owner) = (nth / 3, nth % 3 + 1);
            match answer.await.unwrap() {
                Admission::Run(mine) => held.push((n, u128::from(owner), mine)),
                Admission::Busy { .. } if n > 9 => {}
                Admission::Expired if n <= 9 => {}
                other => panic!("{n} {owner}: {other:?}"),
            }
        }
        let ids: Vec<u64> = held.iter().map(|(n, ..)| *n).collect();
        assert_eq!(ids, (10..IDS).collect::<Vec<_>>());
        let mut tokens: Vec<_> = held.iter().map(|(.., held)| held.token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), held.len());
        let used = transactions().await;
        assert!(used < 60, "they were not together: {used}");

        // Asked again each owner has its own; settled in three ways, each twice, and once with a token that is none.
        let how = move |n: u64| match n % 3 {
            0 => Settlement::Done(Some(name(n).into_bytes().into())),
            1 => Settlement::Released,
            _ => Settlement::Parked,
        };
        for (n, owner, held) in &held {
            let again = claim(*n, *owner).await.unwrap();
            assert_eq!(again, Admission::Run(held.clone()));
        }
        let mut settling = Vec::new();
        for (n, _, held) in held {
            for _ in 0..2 {
                let (store, held) = (store.clone(), held.clone());
                settling.push(tokio::spawn(async move {
                    store.settle(&held, how(n)).await.unwrap();
                    let token = Token::new(held.token.get() + 1_000_000);
                    let other = Held {
                        token: token.unwrap(),
                        ..held
                    };
                    let lost = store.settle(&other, how(n)).await;
                    assert!(matches!(lost, Err(StoreError::Lost(_))), "{lost:?}");
                }));
            }
        }
        for settled in settling {
            settled.await.unwrap();
        }
        let used = transactions().await;
        assert!(used < 60, "they were not together: {used}");
        for n in 10..IDS {
            let result = Some(name(n).into_bytes().into());
            match claim(n, 9).await.unwrap() {
                Admission::Done(receipt) if n % 3 == 0 => assert_eq!(receipt.result, result),
                Admission::Run(held) if n % 3 == 1 => {
                    assert_eq!((held.attempt, held.prior), (2, Prior::Released));
                }
                Admission::Parked if n % 3 == 2 => {}
                other => panic!("{n}: {other:?}"),
            }
        }
    });
}

async fn store_and_pool(connections: usize) -> Option<(PgStore, PgInbox)> {
    let config = schema(&servers::postgres()?.config()).await;
    let options = || PgOptions::new().connections(connections);
    let inbox = PgInbox::connect(&config, options()).await.unwrap();
    let store = PgStore::over(inbox.pool().clone(), options());
    Some((store.await.unwrap(), inbox))
}

#[test]
fn a_claim_that_was_given_up_before_there_was_a_connection_is_not_made() {
    block_on(async {
        let Some((store, inbox)) = store_and_pool(1).await else {
            return;
        };
        let x = delivery("x", 7);
        let taken = inbox.pool().get().await.unwrap();
        let soon = Duration::from_millis(100);
        let given_up = tokio::time::timeout(soon, store.claim(x.claim(1, LONG))).await;
        assert!(given_up.is_err());
        drop(taken);
        let held = store.claim(x.claim(2, LONG)).await.unwrap();
        let held = held.granted().unwrap();
        assert_eq!((held.attempt, held.prior), (1, Prior::New));
    });
}

#[test]
fn connections_that_hang_hold_up_those_alone_who_use_them() {
    block_on(async {
        let Some((store, inbox)) = store_and_pool(6).await else {
            return;
        };
        let mut hung = Vec::new();
        let both = [
            inbox.pool().get().await.unwrap(),
            inbox.pool().get().await.unwrap(),
        ];
        for connection in &both {
            let row = connection.query_one("select pg_backend_pid()", &[]).await;
            hung.push(row.unwrap().get::<_, i32>(0).to_string());
        }
        drop(both);
        let signal = |which: &str| {
            let mut kill = std::process::Command::new("kill");
            assert!(kill.arg(which).args(&hung).status().unwrap().success());
        };
        signal("-STOP");
        let soon = Duration::from_secs(2);
        let mut answered = Vec::new();
        for n in 0..4_u8 {
            let x = delivery(&format!("id {n}"), u64::from(n));
            let claim = tokio::time::timeout(soon, store.claim(x.claim(1, LONG))).await;
            answered.push(claim.is_ok_and(|held| held.unwrap().granted().is_some()));
        }
        signal("-CONT");
        assert_eq!(answered, [false, false, true, true]);
    });
}
