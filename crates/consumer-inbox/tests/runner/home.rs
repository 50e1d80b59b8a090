//! A log, a store and effects, in one directory or in a database, for consumers that are killed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use consumer_inbox::failpoints::{Point, hit};
use consumer_inbox::{
    Consumer, Delivery, EmbeddedInbox, EmbeddedTx, Handler, HandlerError, Inbox, Outgoing, Summary,
};
use log_engine::Engine;
use tempfile::TempDir;

use crate::fixture::{AGAIN, MARGIN, VISIBILITY, consumed, id, position, retry, send};

/// A second topic of orders, where there is one.
pub(crate) const OTHER: &str = "other";

/// Where the effects are.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) store: String,
    pub(crate) directory: PathBuf,
    /// Of PostgreSQL.
    pub(crate) config: String,
    /// How many deliveries go together.
    pub(crate) batch: usize,
}

/// What it does to an order, and where.
struct Effect;

async fn end(order: &Delivery) -> Result<Option<Bytes>, HandlerError> {
    hit(Point::C2).await.map_err(|_| AGAIN)?;
    match id(order).rsplit('/').next() {
        Some("bad") => Err(AGAIN),
        Some("fatal") => std::process::abort(),
        _ => Ok(None),
    }
}

impl Handler<EmbeddedTx> for Effect {
    async fn handle(
        &self,
        tx: &mut EmbeddedTx,
        order: &Delivery,
    ) -> Result<Option<Bytes>, HandlerError> {
        tx.emit(Outgoing {
            topic: "effects".into(),
            value: Some(id(order).into()),
            ..Outgoing::default()
        });
        end(order).await
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use consumer_inbox::SqliteTx;

    use super::{AGAIN, Bytes, Delivery, Effect, Handler, HandlerError, end, id};

    impl Handler<SqliteTx> for Effect {
        async fn handle(
            &self,
            tx: &mut SqliteTx,
            order: &Delivery,
        ) -> Result<Option<Bytes>, HandlerError> {
            let name = id(order);
            let sql = "insert into effect (name) values (?1)";
            let done = tx.run(move |db| db.execute(sql, [name]).map(drop)).await;
            done.map_err(|_| AGAIN)?.map_err(|_| AGAIN)?;
            end(order).await
        }
    }
}

#[cfg(feature = "postgres")]
#[path = "../servers/mod.rs"]
mod servers;

#[cfg(feature = "postgres")]
mod postgres {
    use consumer_inbox::PgTx;
    use tokio_postgres::{Client, NoTls};

    use super::{AGAIN, Bytes, Delivery, Effect, Handler, HandlerError, end, id};

    pub(super) async fn client(config: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A schema of its own with the table of effects.
    pub(super) async fn schema(config: &str) -> String {
        let schema = super::servers::fresh_name("runner");
        let sql =
            format!("create schema {schema}; create table {schema}.effect (name text not null)");
        client(config).await.batch_execute(&sql).await.unwrap();
        format!("{config} options='-c search_path={schema}'")
    }

    impl Handler<PgTx> for Effect {
        async fn handle(
            &self,
            tx: &mut PgTx,
            order: &Delivery,
        ) -> Result<Option<Bytes>, HandlerError> {
            let sql = "insert into effect (name) values ($1)";
            let done = tx.execute(sql, &[&id(order)]).await;
            done.map_err(|_| AGAIN)?;
            end(order).await
        }
    }
}

/// In memory, where syncs cost nothing, if the system has such a directory: processes die here, and no power is cut.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// Every store that can be had, with orders of these ids in its log.
pub(crate) fn homes(ids: &[&str], mut check: impl FnMut(&Home)) {
    let mut stores = vec![("embedded", String::new())];
    #[cfg(feature = "sqlite")]
    stores.push(("sqlite", String::new()));
    #[cfg(feature = "postgres")]
    if let Some(server) = servers::postgres() {
        stores.push(("postgres", block_on(postgres::schema(&server.config()))));
    }
    for (store, config) in stores {
        let kept = directory();
        let home = Home {
            store: store.to_owned(),
            directory: kept.path().to_owned(),
            config,
            batch: 1,
        };
        block_on(async {
            let engine = home.engine();
            for topic in ["orders", "effects"] {
                engine.ensure_topic(topic, 1).unwrap();
            }
            send(&engine, ids).await;
            engine.close().unwrap();
        });
        check(&home);
    }
}

impl Home {
    pub(crate) fn of(argument: &str) -> Home {
        let mut parts = argument.split('|').map(str::to_owned);
        let mut part = || parts.next().unwrap();
        Home {
            store: part(),
            directory: part().into(),
            batch: part().parse().unwrap(),
            config: part(),
        }
    }

    pub(crate) fn argument(&self) -> String {
        let directory = self.directory.display();
        format!("{}|{directory}|{}|{}", self.store, self.batch, self.config)
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::open(self.directory.join("log")).unwrap()
    }

    #[cfg(feature = "sqlite")]
    fn database(&self) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(self.directory.join("ids.db")).unwrap();
        db.busy_timeout(Duration::from_secs(30)).unwrap();
        let sql = "create table if not exists effect (name text not null)";
        db.execute_batch(sql).unwrap();
        db
    }

    /// Consumes all there is.
    pub(crate) fn consume(&self) -> Summary {
        block_on(async {
            let engine = self.engine();
            let summary = match self.store.as_str() {
                "embedded" => {
                    let inbox = EmbeddedInbox::open(&engine, "billing").unwrap();
                    self.run(&engine, inbox).await
                }
                #[cfg(feature = "sqlite")]
                "sqlite" => {
                    drop(self.database());
                    let path = self.directory.join("ids.db");
                    self.run(&engine, consumer_inbox::SqliteInbox::open(path).unwrap())
                        .await
                }
                #[cfg(feature = "postgres")]
                "postgres" => {
                    let options = consumer_inbox::PgOptions::new();
                    let inbox = consumer_inbox::PgInbox::connect(&self.config, options).await;
                    self.run(&engine, inbox.unwrap()).await
                }
                other => panic!("no such store: {other}"),
            };
            assert_eq!(position(&engine), end_of(&engine, "orders"));
            engine.close().unwrap();
            summary
        })
    }

    async fn run<I: Inbox>(&self, engine: &Engine, inbox: I) -> Summary
    where
        Effect: Handler<I::Tx>,
    {
        let mut group = engine.group("billing").topic("orders");
        if engine.topic(OTHER).is_ok() {
            group = group.topic(OTHER);
        }
        let consumer = Consumer::transactional(group, inbox, Effect)
            .batch(self.batch)
            .visibility(VISIBILITY)
            .margin(MARGIN)
            .retry(retry(2))
            .dead_letter("dlq");
        let runner = consumer.build().unwrap();
        let patience = Duration::from_secs(120);
        let all = tokio::time::timeout(patience, consumed(engine.clone()));
        runner.run(async { all.await.unwrap() }).await.unwrap()
    }

    /// How often each effect is there, as the store says.
    pub(crate) fn effects(&self) -> BTreeMap<String, usize> {
        let names: Vec<String> = match self.store.as_str() {
            "embedded" => {
                let engine = self.engine();
                let inbox = EmbeddedInbox::open(&engine, "billing").unwrap();
                // What is in its topic and not crossed out in the outbox is sent once all the same.
                while block_on(inbox.forward(100)).unwrap() > 0 {}
                let mut sent = engine.reader("effects").open().unwrap();
                let sent = sent.blocking_iter();
                let sent = sent.map(|record| record.unwrap().value().unwrap().to_vec());
                let all: Vec<Vec<u8>> = sent.collect();
                drop(inbox);
                engine.close().unwrap();
                all.into_iter()
                    .map(|name| String::from_utf8(name).unwrap())
                    .collect()
            }
            #[cfg(feature = "sqlite")]
            "sqlite" => {
                let db = self.database();
                let mut all = db.prepare("select name from effect").unwrap();
                let all = all.query_map([], |row| row.get(0)).unwrap();
                all.map(Result::unwrap).collect()
            }
            #[cfg(feature = "postgres")]
            "postgres" => block_on(async {
                let db = postgres::client(&self.config).await;
                let rows = db.query("select name from effect", &[]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }),
            other => panic!("no such store: {other}"),
        };
        let mut counts = BTreeMap::new();
        for name in names {
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    pub(crate) fn letters(&self) -> Vec<(u64, String)> {
        let engine = self.engine();
        let letters = engine.dead_letters("dlq").unwrap().map(Result::unwrap);
        let letters = letters.map(|l| (l.offset(), l.reason().into_owned()));
        let letters = letters.collect();
        engine.close().unwrap();
        letters
    }
}

fn end_of(engine: &Engine, topic: &str) -> u64 {
    let topic = engine.topic(topic).unwrap();
    topic.partition(0).unwrap().high_watermark()
}
