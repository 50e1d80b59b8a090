//! The tables, their version, and how they come to be.

use super::open_error::OpenError;
use super::session::unexpected;
use super::tx::{Dialect, SqlTx};
use crate::error::StoreError;

/// The version of the tables that this crate reads and writes.
pub const VERSION: i64 = 2;

/// One step from the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// What the tables are behind it.
    pub version: i64,
    /// Its statements in PostgreSQL, for one transaction.
    pub postgres: &'static str,
    /// Its statements in SQLite, for one transaction.
    pub sqlite: &'static str,
}

impl Migration {
    /// Its statements.
    pub const fn sql(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Postgres => self.postgres,
            Dialect::Sqlite => self.sqlite,
        }
    }
}

/// All steps, the first one from nothing. Each ends by writing its version into `oncelog_schema`.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        postgres: POSTGRES_1,
        sqlite: SQLITE_1,
    },
    Migration {
        version: 2,
        postgres: POSTGRES_2,
        sqlite: SQLITE_2,
    },
];

/// Whether there are tables, as `number`.
///
/// By a scan, not by name: what a connection remembers of names may be older than the lock under which it asks.
const EXISTS_POSTGRES: &str = "select count(*) as number, cast(null as bytea) as first, cast(null as bytea) as second \
                               from pg_catalog.pg_class where relname = 'oncelog_schema' and relkind in ('r', 'p') \
                               and pg_catalog.pg_table_is_visible(oid)";
const EXISTS_SQLITE: &str = "select count(*) as number, null as first, null as second \
                             from sqlite_master where type = 'table' and name = 'oncelog_schema'";
const FOUND: &str = "select version as number, cast(null as bytea) as first, cast(null as bytea) as second \
                     from oncelog_schema";

/// The version of the tables that are there; 0 if there are none.
///
/// # Errors
/// What the database says.
pub async fn found<T: SqlTx>(tx: &mut T) -> Result<i64, OpenError> {
    let exists = match T::DIALECT {
        Dialect::Postgres => EXISTS_POSTGRES,
        Dialect::Sqlite => EXISTS_SQLITE,
    };
    let exists = tx.query_row(exists, &[]).await?;
    if exists.and_then(|row| row.number) != Some(1) {
        return Ok(0);
    }
    let version = tx.query_row(FOUND, &[]).await?;
    Ok(version.and_then(|row| row.number).unwrap_or(0))
}

/// Refuses tables of another version.
///
/// # Errors
/// [`OpenError::Schema`], and what the database says.
pub async fn check<T: SqlTx>(tx: &mut T) -> Result<(), OpenError> {
    match found(tx).await? {
        VERSION => Ok(()),
        found => Err(OpenError::Schema { found }),
    }
}

const SENDER_POSTGRES: &str = "select version as number, convert_to(sender, 'UTF8') as first, cast(null as bytea) as second \
                               from oncelog_schema";
const SENDER_SQLITE: &str =
    "select version as number, cast(sender as blob) as first, null as second from oncelog_schema";

/// The name of the producer that sends what is in the outbox, whichever group put it there: made with the tables, and no other database's.
///
/// # Errors
/// What the database says.
pub async fn sender<T: SqlTx>(tx: &mut T) -> Result<String, StoreError> {
    let sender = match T::DIALECT {
        Dialect::Postgres => SENDER_POSTGRES,
        Dialect::Sqlite => SENDER_SQLITE,
    };
    let sender = tx.query_row(sender, &[]).await?;
    let sender = sender.and_then(|row| row.first);
    let sender = sender.and_then(|bytes| String::from_utf8(bytes).ok());
    sender.ok_or_else(unexpected)
}

const POSTGRES_1: &str = "
create table oncelog_schema (version bigint not null);
create sequence oncelog_token maxvalue 9007199254740991;
-- What is known of business ids. `scope` is the length of the group's name, the group and the scenario: '7:billing:orders'.
-- state: 0 busy, 1 free, 2 done, 3 parked; prior: 0 new, 1 released, 2 crashed, 3 parked;
-- at_ms: when a lease ends, or since when it is settled; the record is the newest one that carried the id.
create table oncelog_id (
    scope text not null,
    id bytea not null,
    token bigint not null,
    at_ms bigint not null,
    origin_ms bigint,
    record_offset bigint,
    topic_partition bigint,
    attempt integer not null,
    state smallint not null check (state between 0 and 3),
    prior smallint not null check (prior between 0 and 3),
    fingerprint bytea not null,
    owner bytea,
    topic text,
    result bytea,
    primary key (scope, id)
);
create index oncelog_id_oldest on oncelog_id (scope, origin_ms nulls first, at_ms) where state <> 0;
-- The newest origin time that was ever forgotten.
create table oncelog_floor (scope text primary key, floor_ms bigint not null);
create table oncelog_position (
    consumers text not null,
    topic text not null,
    topic_partition bigint not null,
    epoch bigint not null,
    next_offset bigint,
    primary key (consumers, topic, topic_partition)
);
-- Records to send. They are numbered when they are fetched, in an order in which nothing comes up behind.
create table oncelog_outbox (
    seq bigserial primary key,
    number bigint unique,
    topic text not null,
    key bytea,
    value bytea,
    headers bytea not null
);
create index oncelog_outbox_unnumbered on oncelog_outbox (seq) where number is null;
create table oncelog_outbox_counter (last bigint not null);
insert into oncelog_outbox_counter (last) values (0);
create table oncelog_entity (id bytea primary key, version bigint not null, amount bigint not null, value bytea);
insert into oncelog_schema (version) values (1);
";

const SQLITE_1: &str = "
create table oncelog_schema (version integer not null);
create table oncelog_token (last integer not null);
insert into oncelog_token (last) values (0);
-- What is known of business ids. `scope` is the length of the group's name, the group and the scenario: '7:billing:orders'.
-- state: 0 busy, 1 free, 2 done, 3 parked; prior: 0 new, 1 released, 2 crashed, 3 parked;
-- at_ms: when a lease ends, or since when it is settled; the record is the newest one that carried the id.
create table oncelog_id (
    scope text not null,
    id blob not null,
    token integer not null,
    at_ms integer not null,
    origin_ms integer,
    record_offset integer,
    topic_partition integer,
    attempt integer not null,
    state integer not null check (state between 0 and 3),
    prior integer not null check (prior between 0 and 3),
    fingerprint blob not null,
    owner blob,
    topic text,
    result blob,
    primary key (scope, id)
) without rowid;
create index oncelog_id_oldest on oncelog_id (scope, origin_ms, at_ms) where state <> 0;
-- The newest origin time that was ever forgotten.
create table oncelog_floor (scope text primary key, floor_ms integer not null) without rowid;
create table oncelog_position (
    consumers text not null,
    topic text not null,
    topic_partition integer not null,
    epoch integer not null,
    next_offset integer,
    primary key (consumers, topic, topic_partition)
) without rowid;
-- Records to send. Transactions follow each other, so the key is the order of commits.
create table oncelog_outbox (
    number integer primary key autoincrement,
    topic text not null,
    key blob,
    value blob,
    headers blob not null
);
create table oncelog_entity (id blob primary key, version integer not null, amount integer not null, value blob) without rowid;
insert into oncelog_schema (version) values (1);
";

const POSTGRES_2: &str = "
-- Who sends what is in the outbox.
alter table oncelog_schema add column sender text;
update oncelog_schema set sender = 'inbox-' || gen_random_uuid(), version = 2;
";

const SQLITE_2: &str = "
-- Who sends what is in the outbox.
alter table oncelog_schema add column sender text;
update oncelog_schema set sender = 'inbox-' || lower(hex(randomblob(16))), version = 2;
";
