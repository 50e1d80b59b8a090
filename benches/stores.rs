//! What does it cost to remember? Claims and transactional effects a second in each store, with 1, 8 and 64 ids at once, beside what the same
//! server or file does with a bare insert in the same run.
//!
//! * *claims*: each id is claimed and settled, by as many tasks as there are ids at once. Beside it, an insert of each id, `on conflict do nothing`,
//!   committed alone.
//! * *effects*: a row (in the log: a record) with its id and the position, as many ids in a transaction as there are at once. Beside it, that
//!   many bare inserts in a transaction.
//!
//! The servers are started here and keep their data in memory, so that the figures are of work, not of a disk; SQLite and the log sync to the disk
//! of the build. Those that are not installed are left out.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that fails has nothing to report, and this one reports by itself"
)]

#[path = "../crates/consumer-inbox/tests/servers/mod.rs"]
mod servers;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use consumer_inbox::{
    Admission, BizId, ClaimRequest, DedupKey, DedupStore, Delivery, EmbeddedInbox, EmbeddedStore,
    EmbeddedTx, Fingerprint, Inbox, MemoryInbox, MemoryStore, MemoryTx, Outgoing, Part, PgInbox,
    PgOptions, PgStore, PgTx, Position, Scope, Settlement, SqliteInbox, SqliteStore, SqliteTx,
};
use oncelog::{Engine, SystemClock};
use oncelog_benches::{scratch, sized};
use rusqlite::Connection;

const AT_ONCE: [u64; 3] = [1, 8, 64];
const EFFECT: &str = "insert into effect (id, body) values ($1, $2)";
const TABLES: &str =
    "create table effect (id text primary key, body text); create table bare (id text primary key)";
const BARE: &str = "insert into bare (id) values ($1) on conflict do nothing";
const BODY: &str = "two shirts, blue, to be delivered on Monday";

fn id(run: u64, number: u64) -> String {
    format!("order-{run:03}-{number:020}")
}

/// Ids a second.
async fn rate(ids: u64, work: impl Future<Output = ()>) -> f64 {
    let begun = Instant::now();
    work.await;
    #[expect(
        clippy::cast_precision_loss,
        reason = "far fewer ids than a double counts"
    )]
    let ids = ids as f64;
    ids / begun.elapsed().as_secs_f64()
}

fn show(store: &str, what: &str, at_once: u64, ours: f64, bare: Option<f64>) {
    let beside = bare.map_or_else(String::new, |bare| {
        format!("{bare:>12.0}{:>9.0} %", 100.0 * ours / bare)
    });
    println!("{store:12}{what:10}{at_once:>5}{ours:>12.0}{beside}");
}

async fn claimed<S: DedupStore>(store: Arc<S>, run: u64, ids: u64, at_once: u64) {
    let task = |task| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in (task..ids).step_by(usize::try_from(at_once).unwrap()) {
                let id = BizId::new(id(run, number)).unwrap();
                let key = DedupKey::new(Scope::new("billing", "orders"), id);
                let lease = Duration::from_secs(60);
                let print = Fingerprint([7; 16]);
                let request = ClaimRequest::new(&key, u128::from(number), print, lease);
                let held = store.claim(request).await.unwrap().granted().unwrap();
                store.settle(&held, Settlement::Done(None)).await.unwrap();
            }
        })
    };
    let tasks: Vec<_> = (0..at_once).map(task).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// What a handler does in a transaction.
trait Effect: Sized {
    fn effect(&mut self, id: String) -> impl Future<Output = ()> + Send;
}

impl Effect for SqliteTx {
    async fn effect(&mut self, id: String) {
        self.run(move |tx| {
            let mut insert = tx.prepare_cached(EFFECT).unwrap();
            insert.execute((id, BODY)).unwrap();
        })
        .await
        .unwrap();
    }
}

impl Effect for PgTx {
    async fn effect(&mut self, id: String) {
        self.execute(EFFECT, &[&id, &BODY]).await.unwrap();
    }
}

impl Effect for EmbeddedTx {
    async fn effect(&mut self, id: String) {
        self.emit(Outgoing {
            topic: "invoices".into(),
            key: Some(id.into()),
            value: Some(BODY.into()),
            ..Outgoing::default()
        });
    }
}

impl Effect for MemoryTx {
    async fn effect(&mut self, _id: String) {}
}

async fn acted<I: Inbox<Tx: Effect>>(inbox: &I, run: u64, ids: u64, at_once: u64) {
    let group = format!("billing-{run}");
    let part = Part::new(group.as_str(), "orders", 0);
    inbox.assign(&part, 1).await.unwrap();
    for first in (0..ids).step_by(usize::try_from(at_once).unwrap()) {
        let end = ids.min(first + at_once);
        let mut tx = inbox.begin(&part, 1).await.unwrap();
        for number in first..end {
            let id = id(run, number);
            let at = Position {
                topic: "orders",
                partition: 0,
                offset: number,
            };
            let delivery =
                Delivery::foreign(group.as_str(), at, &id, Some(BODY.as_bytes())).unwrap();
            let answer = inbox.admit(&mut tx, &delivery).await.unwrap();
            assert!(matches!(answer, Admission::Run(())), "{answer:?}");
            tx.effect(id).await;
            let done = Settlement::Done(None);
            inbox.settle(&mut tx, &delivery, done).await.unwrap();
        }
        inbox.commit(tx, end).await.unwrap();
    }
}

/// Of each number of ids at once: each committed alone; all in one transaction.
type Bare = [(f64, f64); 3];

/// Both measures of a store, and what is bare.
async fn measure<S: DedupStore, I: Inbox<Tx: Effect>>(
    name: &str,
    ids: u64,
    (store, inbox): (S, I),
    bare: Option<Bare>,
) {
    let store = Arc::new(store);
    for (n, at_once) in AT_ONCE.into_iter().enumerate() {
        let run = n as u64;
        let ours = rate(ids, claimed(store.clone(), run, ids, at_once)).await;
        show(name, "claims", at_once, ours, bare.map(|bare| bare[n].0));
    }
    for (n, at_once) in AT_ONCE.into_iter().enumerate() {
        let run = 10 + n as u64;
        let ours = rate(ids, acted(&inbox, run, ids, at_once)).await;
        show(name, "effects", at_once, ours, bare.map(|bare| bare[n].1));
    }
}

/// Many at once in SQLite are one after another: it has one writer.
async fn bare_sqlite(connection: &Connection, ids: u64) -> Bare {
    let mut bare = Bare::default();
    for (n, at_once) in AT_ONCE.into_iter().enumerate() {
        let in_transactions = |run, of: u64| async move {
            for first in (0..ids).step_by(usize::try_from(of).unwrap()) {
                connection.execute_batch("begin immediate").unwrap();
                for number in first..ids.min(first + of) {
                    let mut insert = connection.prepare_cached(BARE).unwrap();
                    insert.execute([id(run, number)]).unwrap();
                }
                connection.execute_batch("commit").unwrap();
            }
        };
        let run = 2 * n as u64;
        bare[n] = (
            rate(ids, in_transactions(run, 1)).await,
            rate(ids, in_transactions(run + 1, at_once)).await,
        );
    }
    bare
}

async fn bare_postgres(config: &str, ids: u64) -> Bare {
    let mut bare = Bare::default();
    for (n, at_once) in AT_ONCE.into_iter().enumerate() {
        let mut clients = Vec::new();
        for _ in 0..at_once {
            clients.push(client(config).await);
        }
        let run = 2 * n as u64;
        let alone = async {
            let task = |(task, client): (u64, tokio_postgres::Client)| {
                tokio::spawn(async move {
                    let insert = client.prepare(BARE).await.unwrap();
                    for number in (task..ids).step_by(usize::try_from(at_once).unwrap()) {
                        client.execute(&insert, &[&id(run, number)]).await.unwrap();
                    }
                })
            };
            let tasks: Vec<_> = (0..).zip(clients).map(task).collect();
            for task in tasks {
                task.await.unwrap();
            }
        };
        let alone = rate(ids, alone).await;
        let client = client(config).await;
        let together = async {
            let insert = client.prepare(BARE).await.unwrap();
            for first in (0..ids).step_by(usize::try_from(at_once).unwrap()) {
                client.batch_execute("begin").await.unwrap();
                for number in first..ids.min(first + at_once) {
                    let id = id(run + 1, number);
                    client.execute(&insert, &[&id]).await.unwrap();
                }
                client.batch_execute("commit").await.unwrap();
            }
        };
        bare[n] = (alone, rate(ids, together).await);
    }
    bare
}

async fn client(config: &str) -> tokio_postgres::Client {
    let connected = tokio_postgres::connect(config, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    client
}

async fn sqlite(ids: u64) {
    let directory = scratch().unwrap();
    let file = directory.path().join("stores.db");
    let stores = (
        SqliteStore::open(&file).unwrap(),
        SqliteInbox::open(&file).unwrap(),
    );
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch(TABLES).unwrap();
    connection
        .pragma_update(None, "synchronous", "full")
        .unwrap();
    let bare = bare_sqlite(&connection, ids).await;
    measure("sqlite", ids, stores, Some(bare)).await;
    let disk = "select sum(pgsize) / (select count(*) from oncelog_id) from dbstat
        where name like '%oncelog_id%'";
    let bytes: i64 = connection.query_row(disk, [], |row| row.get(0)).unwrap();
    println!("{:12}{bytes} bytes an id", "");
}

async fn postgres(ids: u64) {
    let Some(server) = servers::postgres() else {
        return;
    };
    let options = || PgOptions::new().connections(64);
    let config = server.config();
    let stores = (
        PgStore::connect(&config, options()).await.unwrap(),
        PgInbox::connect(&config, options()).await.unwrap(),
    );
    let client = client(&config).await;
    client.batch_execute(TABLES).await.unwrap();
    let bare = bare_postgres(&config, ids).await;
    measure("postgres", ids, stores, Some(bare)).await;
    let disk = "select pg_total_relation_size('oncelog_id') / count(*) from oncelog_id";
    let bytes: i64 = client.query_one(disk, &[]).await.unwrap().get(0);
    println!("{:12}{bytes} bytes an id", "");
}

async fn embedded(ids: u64) {
    let directory = scratch().unwrap();
    let engine = Engine::open(directory.path().join("data")).unwrap();
    let store = EmbeddedStore::open(&engine, "bench").unwrap();
    let inbox = EmbeddedInbox::open(&engine, "bench-inbox").unwrap();
    measure("log", ids, (store.clone(), inbox), None).await;
    let counts = store.counts();
    let bytes = counts.index_bytes / counts.ids.max(1);
    println!("{:12}{bytes} bytes of memory an id", "");
    engine.close().unwrap();
}

fn main() {
    let ids = sized(20_000, 100);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!(
        "{:12}{:10}{:>5}{:>12}{:>12}{:>11}",
        "store", "", "", "ids/s", "bare", "of it"
    );
    runtime.block_on(async {
        let clock = || Arc::new(SystemClock);
        let memory = (
            MemoryStore::lossy(clock(), 1 << 20),
            MemoryInbox::lossy(clock()),
        );
        measure("memory", ids, memory, None).await;
        embedded(ids).await;
        sqlite(ids).await;
        postgres(ids).await;
    });
}
