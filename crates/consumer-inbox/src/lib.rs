//! What consumers remember, so that an effect happens once.
//!
//! A log delivers at least once: an acknowledgement gets lost, a consumer dies, a partition moves, somebody rewinds. That is a *redelivery*, the
//! same record again. Or an upstream sends the same business fact in another record, a *re-publication*, which only its business id gives
//! away. This crate is what a consumer asks "did I do this?", and what it tells "I did", for the [engine's](log_engine) groups and for anybody
//! else's consumer ([`Delivery::foreign`], [`Inbox::process`]).
//!
//! # Which one
//!
//! *If the effect lives in a store with transactions, put the id there ([`Inbox`]); otherwise hand the remote side a stable key or a
//! token ([`ClaimCx::idempotency_key`], [`Fence`]); otherwise decide openly between losing and repeating.*
//!
//! | the effect | use | what holds |
//! | --- | --- | --- |
//! | rows, entities, records in the same store | [`Inbox`]: id, effect and position in one transaction | effectively once |
//! | one insert | a unique key, inside the inbox's transaction; compare the row on conflict | no second row |
//! | an entity under contention | [`EntityStore::load`] with [`Read::ForUpdate`] inside the transaction | one after another; the second must look again |
//! | an entity, rarely contended | [`EntityStore::store`] with [`Expect::Version`], [`compare_and_set`] | a lost race changes nothing |
//! | "if there are n left" | [`Expect::AtLeast`] with [`Amount::Add`], inside the transaction | never below |
//! | the state of an order, a payment | [`Machine`], inside the transaction | late and repeated events change nothing, early ones wait |
//! | a remote call that takes a key | a claim ([`DedupStore`]) and [`ClaimCx::idempotency_key`] | effectively once, if the remote side keeps its word |
//! | a remote call that takes none | a claim, and [`Handler::verify`] or [`Handler::compensate`] after a crash | at least once |
//! | anything that must not overlap | [`Lock`], with a [`Fence`] at the resource | exclusion while the lease is valid, by the fence beyond it |
//! | overwriting, deleting by id | nothing; [`Expect::Version`] for deletions | the same end, however often |
//!
//! # From nothing
//!
//! A consumer whose effects are records in the same log, with feature `runner`. Killed anywhere, it has billed each order once.
//!
//! ```
//! use bytes::Bytes;
//! use consumer_inbox::{Consumer, Delivery, EmbeddedInbox, EmbeddedTx, Handler, HandlerError, Outgoing};
//! use log_engine::{Engine, Record};
//!
//! struct Billing;
//!
//! impl Handler<EmbeddedTx> for Billing {
//!     async fn handle(&self, tx: &mut EmbeddedTx, order: &Delivery) -> Result<Option<Bytes>, HandlerError> {
//!         let value = order.value().cloned();
//!         tx.emit(Outgoing { topic: "invoices".into(), value, ..Outgoing::default() });
//!         Ok(None)
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let directory = tempfile::tempdir()?; let path = directory.path().join("data");
//! let engine = Engine::open(path)?;
//! (engine.ensure_topic("orders", 4)?, engine.ensure_topic("invoices", 4)?);
//! let order = Record::to("orders").value("two shirts").biz_id("A-1");
//! engine.producer().name("shop").open()?.append(order.position(1)).await?;
//!
//! let inbox = EmbeddedInbox::open(&engine, "billing")?;
//! let runner = Consumer::transactional(engine.group("billing").topic("orders"), inbox, Billing).dead_letter("orders.dlq").build()?;
//! let metrics = runner.metrics();
//! let shutdown = async { while metrics.summary().forwarded < 1 { tokio::task::yield_now().await } };
//! let summary = runner.run(shutdown).await?;
//! assert_eq!((summary.done, summary.forwarded), (1, 1));
//! # Ok::<_, Box<dyn std::error::Error>>(()) })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Four policies
//!
//! Every way to remember is one of four. *Crashed* is what becomes of a record whose consumer dies there.
//!
//! | policy | mark written, effect not begun | effect half done | effect done, not settled | settled, not acknowledged | two consumers at once | is |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | `Before`: mark, then effect | effect **lost** | **lost or half** | ok | ok | one runs | at most once |
//! | `After`: look, effect, then mark | | repeats | repeats | ok | **both run** | at least once; duplicates in sequence are seen |
//! | `Lease`: claim, effect, settle | again after the lease | again, and told so ([`Prior::Crashed`]) | again, and told so | ok | one runs | at least once; effectively once if the effect is fenced, keyed or can be verified |
//! | `Tx`: id, effect and position in one transaction | rolled back | rolled back | rolled back | ok | one commits | **effectively once** |
//!
//! "Effectively once" means: the durable effect is that of one execution. The handler may run more than once. The order is always
//! *claim, effect, settle, acknowledge*, and never acknowledge what is only [`Busy`](Admission::Busy): if the one who works on it fails, the
//! record is gone.
//!
//! # Stores
//!
//! | where | claims | inbox | feature | what is answered survives |
//! | --- | --- | --- | --- | --- |
//! | the engine's own log | [`EmbeddedStore`] | [`EmbeddedInbox`], whose effects are records | | a power cut, as far as the log does |
//! | SQLite | `SqliteStore` | `SqliteInbox` | `sqlite` | a power cut (WAL, `synchronous=full`) |
//! | PostgreSQL | `PgStore` | `PgInbox` | `postgres` | what the server's commits survive |
//! | Redis | `RedisStore` | | `redis` | what its append-only file survives; not the loss of the primary |
//! | Redis before one of these | `Tiered` | `Tiered` | `redis` | what that one's does |
//! | Redis, PostgreSQL behind | | `RedisInbox`, with `WriteBehind` | `redis`, `postgres` | the loss of Redis, as far as the log has the rest |
//! | a SQL database of yours | module `sql`: statements for a transaction of yours | | `sql` | what its commits survive |
//! | memory | [`MemoryStore`] | [`MemoryInbox`], [`MemoryEntities`] | | nothing: for tests, and for what nobody misses |
//!
//! Every store passes one suite (module `conformance`, feature of the same name), also one of yours. One that may lose what it answered is
//! refused unless you say `lossy`.
//!
//! # Forgetting
//!
//! An id is forgotten when the log can no longer deliver its record *and* the time has passed in which its fact may be published again
//! ([`Horizon`]), never by age alone. What is as old as the newest forgotten id, and unknown, is [`Expired`](Admission::Expired): refused, not new.

#![forbid(unsafe_code)]

mod admission;
mod clock;
#[cfg(feature = "redis")]
mod committed;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dedup_store;
mod delivery;
mod embedded;
mod entity;
mod error;
#[cfg(not(feature = "failpoints"))]
mod failpoints;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod handler;
mod id_row;
mod identity;
mod inbox;
mod lock;
mod machine;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod process;
#[cfg(feature = "redis")]
mod redis;
mod retry;
#[cfg(feature = "runner")]
mod runner;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use admission::{Admission, Held, Prior, Receipt, Settlement, Token};
pub use clock::Owners;
#[cfg(feature = "redis")]
pub use committed::{CommittedId, CommittedIds, Known};
pub use dedup_store::{ClaimRequest, DedupStore, Horizon};
pub use delivery::{Arrival, Delivery};
pub use embedded::{
    EmbeddedCounts, EmbeddedError, EmbeddedInbox, EmbeddedSettings, EmbeddedStore, EmbeddedTx,
    ForwardError, WireError,
};
pub use entity::{AMOUNT_MAX, Amount, Change, EntityRow, EntityStore, Expect, Read, Versioned};
pub use error::{CasError, StoreError};
pub use handler::{ClaimCx, Handler, HandlerError, Verified};
pub use id_row::{IdRow, IdState, Origin};
pub use identity::{BizId, DedupKey, Fingerprint, IdError, IdPolicy, Part, Position, Scope};
pub use inbox::{Inbox, Outgoing, seek_to};
pub use lock::{Acquired, Fence, Lock, LockGuard, Overtaken};
pub use machine::{Machine, MachineBuilder, MachineError, NumberedMachine, Step};
pub use memory::{MemoryEntities, MemoryInbox, MemoryStore, MemoryTx};
#[cfg(feature = "postgres")]
pub use postgres::{PgInbox, PgOptions, PgStore, PgTx, Postgres};
pub use process::{ParkReason, ProcessError, Processed};
#[cfg(feature = "redis")]
pub use redis::{
    Guard, Guarded, Reconciled, RedisEffects, RedisOptions, RedisStore, Tiered, TieredTx, Written,
};
#[cfg(all(feature = "redis", feature = "postgres"))]
pub use redis::{RedisInbox, RedisTx, WriteBehind};
pub use retry::{Decided, compare_and_set};
#[cfg(feature = "runner")]
pub use runner::{
    BuildError, Claimed, Consumer, ConsumerBuilder, Gauges, KeyAfterPark, Metrics, Natural,
    OnUnknown, Order, Policy, Retry, RunError, Runner, Summary, Transactional,
};
#[cfg(feature = "sqlite")]
pub use rusqlite;
#[cfg(feature = "sqlite")]
pub use sqlite::{
    EffectError, EffectResult, Rusqlite, SqliteEffect, SqliteInbox, SqliteOptions, SqliteStore,
    SqliteTx, sqlite_effect,
};
