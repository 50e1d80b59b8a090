//! What writes to the database what Redis has committed.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value as Reply;

use super::entry::Entry;
use super::inbox::Shared;
use super::tables;
use crate::error::StoreError;
use crate::failpoints::{Point, hit};
use crate::identity::Part;
use crate::postgres::Postgres;
use crate::redis::scripts::{BEHIND_READ, BEHIND_TRIM};
use crate::redis::server::{number, text, unexpected};
use crate::sql::session::Session;

/// Writes to the database what a [`RedisInbox`](crate::RedisInbox) has committed, in its order. Any number may run: they take turns, and each entry is
/// written once. Dying anywhere leaves a step that is repeated.
#[derive(Clone)]
pub struct WriteBehind {
    shared: Arc<Shared>,
}

impl fmt::Debug for WriteBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").finish_non_exhaustive()
    }
}

impl WriteBehind {
    pub(super) fn new(shared: Arc<Shared>) -> WriteBehind {
        WriteBehind { shared }
    }

    /// Writes what there is, in transactions of up to `max_batch` of the inbox's, then again after `every`, until `stop` is there; the batch that has begun
    /// is ended first. Errors are tried again: [`synced`](WriteBehind::synced) stands still then, and commits are `Busy` some time later.
    pub async fn run(&self, every: Duration, max_batch: usize, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            while matches!(self.sync(max_batch).await, Ok(1..)) {}
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Writes up to `max` transactions of the inbox, in one of the database: how many there were.
    ///
    /// # Errors
    /// `Conflict` if Redis lost what it had, or is another one: the next [`assign`](crate::Inbox::assign) mends it. What either says otherwise: repeat it.
    pub async fn sync(&self, max: usize) -> Result<usize, StoreError> {
        let shared = &self.shared;
        let tx = shared.database.transaction().await?;
        let mut session = Postgres::new(tx.client()?);
        let written = self.write(&mut session, max).await;
        hit(Point::C3).await?;
        let Some((incarnation, last, entries)) = tx.end(written).await? else {
            return Ok(0);
        };
        hit(Point::C4).await?;
        let mut call = BEHIND_TRIM.key(&[&shared.keys.meta, &shared.keys.stream][..]);
        call.arg(incarnation).arg(last);
        shared.server.run::<String>(&call).await?;
        Ok(entries)
    }

    /// The position up to which the database has a partition; none if nothing. The log must keep what is there and above: tell the group to hold it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn synced(&self, part: &Part) -> Result<Option<u64>, StoreError> {
        let tx = self.shared.database.transaction().await?;
        let mut session = Postgres::new(tx.client()?);
        let find = crate::sql::Statements::POSTGRES.find_position;
        let found = crate::sql::inbox::position(&mut session, find, part).await;
        Ok(tx.end(found).await?.and_then(|(_, next)| next))
    }

    /// The incarnation, the last entry that the database has now, and how many are new.
    async fn write<S: Session>(
        &self,
        session: &mut S,
        max: usize,
    ) -> Result<Option<(String, u64, usize)>, StoreError> {
        let shared = &self.shared;
        tables::lock(session, &shared.name).await?;
        tables::create(session).await?;
        let Some((incarnation, last)) = tables::find(session, &shared.name).await? else {
            return Ok(None);
        };
        let mut call = BEHIND_READ.key(&[&shared.keys.meta, &shared.keys.stream][..]);
        call.arg(last).arg(max.max(1));
        let (found, entries): (String, Vec<Reply>) = shared.server.run(&call).await?;
        if found != incarnation {
            return Err(StoreError::Conflict);
        }
        let mut newest = last;
        for entry in &entries {
            let (id, fields) = parts(entry)?;
            // Each follows the one before, or some are missing.
            if id != newest + 1 {
                return Err(StoreError::Conflict);
            }
            newest = id;
            self.apply(session, fields).await?;
        }
        if newest > last {
            tables::set(session, &shared.name, &incarnation, newest).await?;
        }
        Ok(Some((incarnation, newest, entries.len())))
    }

    async fn apply<S: Session>(
        &self,
        session: &mut S,
        fields: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let mut fields = fields.into_iter();
        let kind = fields.next().unwrap_or_default();
        let first = fields.next();
        match &*kind {
            b"b" => {
                let entry = Entry::decode(first.ok_or_else(unexpected)?)?;
                let at_ms = number(fields.nth(1))?;
                tables::apply(session, &entry, at_ms).await
            }
            b"k" => {
                let ids = text(first)?;
                let scope = self.shared.keys.scope_of(&ids).ok_or_else(unexpected)?;
                // -1 if nothing forgotten had an origin time.
                let floor = number(fields.nth(1)).ok();
                let ids: Vec<Bytes> = fields.skip(1).step_by(2).collect();
                tables::forget(session, scope, &ids, floor).await
            }
            _ => Err(unexpected()),
        }
    }
}

/// The number of an entry of the stream, and its fields.
fn parts(entry: &Reply) -> Result<(u64, Vec<Bytes>), StoreError> {
    let Reply::Array(parts) = entry else {
        return Err(unexpected());
    };
    let [Reply::BulkString(id), Reply::Array(fields)] = &**parts else {
        return Err(unexpected());
    };
    let id = std::str::from_utf8(id)
        .ok()
        .and_then(|id| id.strip_suffix("-0"));
    let id = id.and_then(|id| id.parse().ok()).ok_or_else(unexpected)?;
    let fields = fields.iter().map(|field| match field {
        Reply::BulkString(bytes) => Ok(Bytes::copy_from_slice(bytes)),
        _ => Err(unexpected()),
    });
    Ok((id, fields.collect::<Result<_, _>>()?))
}
