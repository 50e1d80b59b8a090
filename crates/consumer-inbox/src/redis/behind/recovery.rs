//! Whether Redis still has what it had, and what to do if not: the database has what it absorbed, and the log the rest.

use redis::Pipeline;

use super::inbox::Shared;
use super::tables::{self, Stored};
use crate::error::StoreError;
use crate::postgres::Postgres;
use crate::redis::server::{number, text};
use crate::sql::session::Session;

/// Ids of one message.
const PIECE: i64 = 500;

/// Keys of one message.
const KEYS: usize = 1_000;

/// The incarnation of Redis that the database follows. If Redis is another one, or an older copy, what it holds is thrown away, and ids come from the
/// database; entities come when they are asked for, and what was not absorbed from the log.
pub(super) async fn prepare(shared: &Shared, force: bool) -> Result<String, StoreError> {
    let tx = shared.database.transaction().await?;
    let mut session = Postgres::new(tx.client()?);
    let prepared = locked(shared, &mut session, force).await;
    tx.end(prepared).await
}

async fn locked<S: Session>(
    shared: &Shared,
    session: &mut S,
    force: bool,
) -> Result<String, StoreError> {
    tables::lock(session, &shared.name).await?;
    tables::create(session).await?;
    let stored = tables::find(session, &shared.name).await?;
    let mut ask = redis::cmd("HMGET");
    ask.arg(&shared.keys.meta);
    ask.arg(&["incarnation", "trimmed", "seq"]);
    let found: Vec<Option<bytes::Bytes>> = shared.server.ask(&ask).await?;
    if let (Some((incarnation, absorbed)), [Some(found), trimmed, last]) = (stored, &*found) {
        let known = |number_of: &Option<bytes::Bytes>| match number_of {
            Some(_) => number(number_of.clone()),
            None => Ok(0),
        };
        // A database that was set back needs entries that are gone; a Redis that was, has not made some yet.
        let meets = (known(trimmed)?..=known(last)?).contains(&absorbed);
        if !force && meets && text(Some(found.clone()))? == incarnation {
            return Ok(incarnation);
        }
    }
    let incarnation = format!("{:032x}", shared.owners.next());
    reset(shared, session, &incarnation).await?;
    tables::set(session, &shared.name, &incarnation, 0).await?;
    Ok(incarnation)
}

async fn reset<S: Session>(
    shared: &Shared,
    session: &mut S,
    incarnation: &str,
) -> Result<(), StoreError> {
    let (server, keys) = (&shared.server, &shared.keys);
    // First this, so that nothing commits any more.
    server.ask::<u64>(redis::cmd("DEL").arg(&keys.meta)).await?;
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(format!("{}*", keys.prefix));
        scan.arg("COUNT").arg(KEYS);
        let (next, found): (u64, Vec<Vec<u8>>) = server.ask(&scan).await?;
        if !found.is_empty() {
            server.ask::<u64>(redis::cmd("UNLINK").arg(found)).await?;
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
        // Many keys of others take long, and the database ends what is idle.
        session.batch("select 1").await?;
    }
    let mut last = (String::new(), Vec::new());
    loop {
        let ids = tables::ids(session, (&last.0, &last.1), PIECE).await?;
        let Some(newest) = ids.last() else {
            break;
        };
        last = (newest.scope.clone(), newest.id.clone());
        let mut commands = redis::pipe();
        for id in &ids {
            load(shared, &mut commands, id);
        }
        server.all(&commands).await?;
    }
    for (scope, floor_ms) in tables::floors(session).await? {
        let mut command = redis::cmd("HSET");
        command
            .arg(keys.stored_floor(&scope))
            .arg("floor")
            .arg(floor_ms);
        server.ask::<u64>(&command).await?;
    }
    let mut command = redis::cmd("HSET");
    command
        .arg(&keys.meta)
        .arg("seq")
        .arg(0)
        .arg("trimmed")
        .arg(0);
    command.arg("incarnation").arg(incarnation);
    server.ask::<u64>(&command).await.map(drop)
}

fn load(shared: &Shared, commands: &mut Pipeline, id: &Stored) {
    let (keys, state) = (&shared.keys, if id.is_done { "d" } else { "p" });
    let key = keys.stored_id(&id.scope, &id.id);
    let command = commands.cmd("HSET").arg(&key);
    command.arg("s").arg(state).arg("a").arg(id.at_ms);
    command.arg("f").arg(&id.fingerprint);
    if let Some(ms) = id.origin_ms {
        command.arg("m").arg(ms);
    }
    if let Some((topic, partition, offset)) = &id.record {
        command.arg("k").arg(topic).arg("q").arg(*partition);
        command.arg("x").arg(*offset);
    }
    if let Some(result) = &id.result {
        command.arg("r").arg(result);
    }
    let index = keys.stored_index(&id.scope);
    let score = id.origin_ms.unwrap_or(-1);
    commands.cmd("ZADD").arg(index).arg(score).arg(&id.id);
}
