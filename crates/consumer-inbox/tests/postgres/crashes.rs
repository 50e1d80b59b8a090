//! Processes, connections and servers that die: cases 31, 32, 34, 44, 45, and 15 with 16 of claims.

use std::time::Duration;

use consumer_inbox::conformance::block_on;
use consumer_inbox::{
    Admission, DedupStore, Inbox, PgInbox, PgOptions, PgStore, PgTx, Settlement, StoreError,
};

use super::common::child;
use super::common::records::{Consumer, consume, delivery, part};
use super::fixture::{EFFECTS, ONE_MORE, client, count, schema};
use super::servers::{self, Cut, Postgres, Proxy};

const LONG: Duration = Duration::from_secs(60);

struct Billing(PgInbox);

impl Billing {
    async fn open(config: &str, options: PgOptions) -> Billing {
        let effects = EFFECTS.replace("table", "table if not exists");
        let db = client(config).await;
        db.batch_execute(&effects).await.unwrap();
        Billing(PgInbox::connect(config, options).await.unwrap())
    }
}

impl Consumer for Billing {
    type Inbox = PgInbox;

    fn inbox(&self) -> &PgInbox {
        &self.0
    }

    async fn effect(&self, tx: &mut PgTx, name: &str) -> Result<(), StoreError> {
        let done = tx.execute(ONE_MORE, &[&name]).await;
        done.map(drop).map_err(StoreError::backend)
    }
}

/// Consumes x at offset 7 and y at offset 8, in the schema it was told.
#[test]
fn child_consumes() {
    let Some(config) = child::argument() else {
        return;
    };
    block_on(async {
        let billing = Billing::open(&config, PgOptions::new()).await;
        billing.0.assign(&part(), 1).await.unwrap();
        for (id, offset) in [("x", 7), ("y", 8)] {
            consume(&billing, &delivery(id, offset)).await.unwrap();
        }
    });
}

#[test]
fn case_31_and_32_a_process_dies_at_each_point() {
    let Some(server) = servers::postgres() else {
        return;
    };
    for (failpoint, effects, position) in [
        ("C0:abort", 0, None),
        ("C1:abort", 0, None),
        ("C2:abort", 0, None),
        ("C3:abort", 0, None),
        ("C4:abort", 1, Some(8)),
        ("C3:abort:2", 1, Some(8)),
        ("C4:abort:2", 1, Some(9)),
    ] {
        let config = block_on(schema(&server.config()));
        child::abort("crashes::child_consumes", &config, failpoint);
        block_on(async {
            let billing = Billing::open(&config, PgOptions::new()).await;
            let db = client(&config).await;
            assert_eq!(count(&db, "x").await, effects, "{failpoint}");
            let stored = billing.0.assign(&part(), 1).await.unwrap();
            assert_eq!(stored, position, "{failpoint}");
            // Delivered again, whatever the position says.
            let again = consume(&billing, &delivery("x", 7)).await.unwrap();
            assert_eq!(again, effects == 0, "{failpoint}");
            assert_eq!(count(&db, "x").await, 1, "{failpoint}");
            // And published again.
            assert!(!consume(&billing, &delivery("x", 20)).await.unwrap());
            assert_eq!(count(&db, "x").await, 1, "{failpoint}");
        });
        println!("case 31 32 postgres {failpoint}: ok");
    }
}

#[test]
fn case_34_the_connection_is_cut_around_the_commit() {
    let Some(server) = servers::postgres() else {
        return;
    };
    block_on(async {
        for (cut, done) in [(Cut::Reply, true), (Cut::Request, false)] {
            let config = schema(&server.config()).await;
            let proxy = Proxy::to(server.port());
            let through = config.replace(
                &format!("port={}", server.port()),
                &format!("port={}", proxy.port()),
            );
            let billing = Billing::open(&through, PgOptions::new()).await;
            billing.0.assign(&part(), 1).await.unwrap();
            let (x, db) = (delivery("x", 7), client(&config).await);
            proxy.cut(cut, b"commit\0");
            let lost = consume(&billing, &x).await;
            assert!(
                matches!(lost, Err(StoreError::Unknown)),
                "{cut:?}: {lost:?}"
            );
            assert_eq!(proxy.cuts(), 1);
            // The look-up is the delivery itself, in a new transaction on a new connection.
            let again = consume(&billing, &x).await.unwrap();
            assert_eq!(again, !done, "{cut:?}");
            assert_eq!(count(&db, "x").await, 1, "{cut:?}");
            assert_eq!(billing.0.assign(&part(), 1).await.unwrap(), Some(8));
        }
        println!("case 34 postgres: ok");
    });
}

#[test]
fn case_15_and_16_replies_to_a_claim_are_lost() {
    let Some(server) = servers::postgres() else {
        return;
    };
    block_on(async {
        let config = schema(&server.config()).await;
        let proxy = Proxy::to(server.port());
        let through = config.replace(
            &format!("port={}", server.port()),
            &format!("port={}", proxy.port()),
        );
        let store = PgStore::connect(&through, PgOptions::new()).await.unwrap();
        let x = delivery("x", 7);
        proxy.cut(Cut::Reply, b"commit\0");
        let lost = store.claim(x.claim(1, LONG)).await;
        assert!(matches!(lost, Err(StoreError::Unknown)), "{lost:?}");
        let other = store.claim(x.claim(2, LONG)).await.unwrap();
        assert!(
            matches!(other, Admission::Busy { .. }),
            "it was done: {other:?}"
        );
        let held = store
            .claim(x.claim(1, LONG))
            .await
            .unwrap()
            .granted()
            .unwrap();
        assert_eq!(held.attempt, 1);
        for done in [true, false] {
            proxy.cut(Cut::Reply, b"commit\0");
            let lost = store.settle(&held, Settlement::Done(None)).await;
            assert!(matches!(lost, Err(StoreError::Unknown)), "{lost:?}");
            let answer = store.claim(x.claim(2, LONG)).await.unwrap();
            assert!(matches!(answer, Admission::Done(_)), "{done}: {answer:?}");
        }
        store.settle(&held, Settlement::Done(None)).await.unwrap();
        println!("case 15 16 postgres through a proxy: ok");
    });
}

#[test]
fn case_44_commits_that_a_crashed_server_loses_are_lost_whole() {
    let settings = ["synchronous_commit=off", "wal_writer_delay=10s"];
    let Some(mut server) = Postgres::start_with(&settings) else {
        return;
    };
    let mut lost = 0;
    for round in 0..5 {
        let id = format!("x {round}");
        let options = || PgOptions::new().lossy();
        let x = delivery(&id, 7 + round);
        block_on(async {
            let billing = Billing::open(&server.config(), options()).await;
            billing.0.assign(&part(), 1).await.unwrap();
            client(&server.config())
                .await
                .batch_execute("checkpoint")
                .await
                .unwrap();
            assert!(consume(&billing, &x).await.unwrap());
        });
        server.kill("QUIT");
        server.restart();
        block_on(async {
            let billing = Billing::open(&server.config(), options()).await;
            let db = client(&server.config()).await;
            let effect = count(&db, &id).await;
            let position = billing.0.assign(&part(), 1).await.unwrap();
            assert_eq!(position == Some(8 + round), effect == 1, "{position:?}");
            assert_eq!(consume(&billing, &x).await.unwrap(), effect == 0);
            assert_eq!(count(&db, &id).await, 1);
            lost += 1 - effect;
        });
    }
    assert!(lost > 0, "nothing was lost, so nothing was shown");
    println!("case 44 postgres: ok, {lost} of 5 were lost");
}

#[test]
fn case_45_a_restored_backup_is_consumed_again() {
    let Some(server) = Postgres::start() else {
        return;
    };
    block_on(async {
        let admin = client(&server.config()).await;
        admin.batch_execute("create database work").await.unwrap();
        let ids: Vec<String> = (0..10).map(|n| format!("id {n}")).collect();
        let work = format!("{} dbname=work", server.config());
        let billing = Billing::open(&work, PgOptions::new()).await;
        billing.0.assign(&part(), 1).await.unwrap();
        for (id, offset) in ids.iter().zip(0..5) {
            assert!(consume(&billing, &delivery(id, offset)).await.unwrap());
        }
        // A copy needs a database that nobody is connected to.
        drop(billing);
        let alone = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'work'";
        admin.batch_execute(alone).await.unwrap();
        let begin = std::time::Instant::now();
        while let Err(error) = admin
            .batch_execute("create database backup template work")
            .await
        {
            assert!(begin.elapsed() < Duration::from_secs(30), "{error}");
        }
        let billing = Billing::open(&work, PgOptions::new()).await;
        for (id, offset) in ids.iter().zip(0..10) {
            let new = consume(&billing, &delivery(id, offset)).await.unwrap();
            assert_eq!(new, offset >= 5);
        }

        let backup = format!("{} dbname=backup", server.config());
        let restored = Billing::open(&backup, PgOptions::new()).await;
        let db = client(&backup).await;
        assert_eq!(restored.0.assign(&part(), 2).await.unwrap(), Some(5));
        for (id, offset) in ids.iter().zip(0..10) {
            let again = delivery(id, offset).at_epoch(2);
            assert_eq!(consume(&restored, &again).await.unwrap(), offset >= 5);
            assert_eq!(count(&db, id).await, 1, "{id}");
        }
        println!("case 45 postgres: ok");
    });
}

#[test]
fn a_server_that_is_down_changes_nothing_and_what_it_answered_is_there_behind_a_kill() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let x = delivery("x", 7);
    let held = block_on(async {
        let store = PgStore::connect(&server.config(), PgOptions::new())
            .await
            .unwrap();
        let held = store
            .claim(x.claim(1, LONG))
            .await
            .unwrap()
            .granted()
            .unwrap();
        store.settle(&held, Settlement::Released).await.unwrap();
        server.kill("KILL");
        // Backends of a killed server see it within a moment; until then they may answer.
        loop {
            match store.claim(x.claim(2, LONG)).await {
                Err(StoreError::Unavailable) => break,
                Err(StoreError::Unknown) | Ok(_) => {}
                Err(other) => panic!("{other}"),
            }
        }
        held
    });
    server.restart();
    block_on(async {
        let store = PgStore::connect(&server.config(), PgOptions::new())
            .await
            .unwrap();
        let again = store
            .claim(x.claim(2, LONG))
            .await
            .unwrap()
            .granted()
            .unwrap();
        assert!(again.token > held.token && again.attempt == 2, "{again:?}");
    });
}
