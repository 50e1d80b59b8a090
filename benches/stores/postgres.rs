//! PostgreSQL beside bare, prepared statements on as many connections.

use std::sync::Arc;

use consumer_inbox::{PgInbox, PgOptions, PgStore};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use crate::measure::{AT_ONCE, Run, Sides, Sizes, Space, compare, work};
use crate::servers;
use crate::work::{BARE, BEGUN, BODY, EFFECT, ENDED, TABLES, acted, claimed};

pub(crate) async fn postgres(sizes: Sizes) -> Option<Space> {
    let server = servers::postgres()?;
    let config = server.config();
    let options = || PgOptions::new().connections(64);
    let store = Arc::new(PgStore::connect(&config, options()).await.unwrap());
    let inbox = PgInbox::connect(&config, options()).await.unwrap();
    let bare = Bare::new(&config).await;

    let claims = Sides {
        ours: Some(work(|run| claimed(&store, run))),
        bare: Some(work(|run| bare.alone(run, false))),
        by_hand: Some(work(|run| bare.alone(run, true))),
    };
    compare("postgres", "claims", sizes, claims).await;
    let effects = Sides {
        ours: Some(work(|run| acted(&inbox, run))),
        bare: Some(work(|run| bare.together(run, false))),
        by_hand: Some(work(|run| bare.together(run, true))),
    };
    compare("postgres", "effects", sizes, effects).await;

    let client = client(&config).await;
    client.batch_execute("create schema space").await.unwrap();
    let config = format!("{config} options='-c search_path=space'");
    let store = Arc::new(PgStore::connect(&config, options()).await.unwrap());
    let run = Run::new(sizes.times(5).ids, 64);
    claimed(&store, run).await;
    let size = "select pg_total_relation_size('space.oncelog_id')";
    let bytes: i64 = client.query_one(size, &[]).await.unwrap().get(0);
    Some(Space {
        store: "postgres",
        memory: None,
        disk: Some(u64::try_from(bytes).unwrap() / run.ids),
        how: "the table with its indexes, before a vacuum",
    })
}

pub(crate) async fn client(config: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A connection, and what is prepared there.
struct Prepared {
    client: Client,
    bare: Statement,
    begun: Statement,
    ended: Statement,
    effect: Statement,
}

/// Connections that use nothing of ours.
pub(crate) struct Bare(Vec<Arc<Prepared>>);

impl Bare {
    pub(crate) async fn new(config: &str) -> Bare {
        let mut all = Vec::new();
        for number in 0..AT_ONCE[2] {
            let client = client(config).await;
            if number == 0 {
                client.batch_execute(TABLES).await.unwrap();
            }
            all.push(Arc::new(Prepared {
                bare: client.prepare(BARE).await.unwrap(),
                begun: client.prepare(BEGUN).await.unwrap(),
                ended: client.prepare(ENDED).await.unwrap(),
                effect: client.prepare(EFFECT).await.unwrap(),
                client,
            }));
        }
        Bare(all)
    }

    /// Each id committed by itself, on a connection for each task.
    pub(crate) async fn alone(&self, run: Run, is_settled: bool) {
        run.at_once(|task| {
            let with = self.0[usize::try_from(task).unwrap()].clone();
            async move {
                for number in run.of_task(task) {
                    let id = run.id(number);
                    if is_settled {
                        with.client.execute(&with.begun, &[&id]).await.unwrap();
                        with.client.execute(&with.ended, &[&id]).await.unwrap();
                    } else {
                        with.client.execute(&with.bare, &[&id]).await.unwrap();
                    }
                }
            }
        })
        .await;
    }

    /// As many ids in a transaction as there are at once.
    pub(crate) async fn together(&self, run: Run, has_effect: bool) {
        let with = &self.0[0];
        for ids in run.transactions() {
            with.client.batch_execute("begin").await.unwrap();
            for number in ids {
                let id = run.id(number);
                with.client.execute(&with.bare, &[&id]).await.unwrap();
                if has_effect {
                    let args: [&(dyn ToSql + Sync); 2] = [&id, &BODY];
                    with.client.execute(&with.effect, &args).await.unwrap();
                }
            }
            with.client.batch_execute("commit").await.unwrap();
        }
    }
}
