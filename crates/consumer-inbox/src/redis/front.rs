//! Marks in Redis before an inbox: who works on an id, and what the inbox has committed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use redis::Script;

use super::scripts::{FRONT_CLAIM, FRONT_DONE, FRONT_RELEASE};
use super::server::{Server, number, text, unexpected};
use super::store::prefix;
use crate::clock::millis;
use crate::error::StoreError;
use crate::identity::{BizId, DedupKey, Fingerprint, Position, Scope};

/// So many calls do without Redis after one that failed, before it is asked again.
const SKIPPED: u64 = 100;

pub(super) struct Front {
    pub(super) server: Server,
    pub(super) lease: Duration,
    pub(super) keep: Duration,
    /// Calls that still do without.
    skips: AtomicU64,
}

/// What Redis says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nobody works on it, or Redis knows nothing.
    Run,
    /// Somebody works on it.
    Busy,
    /// This very record is committed.
    Done(Option<Bytes>),
    /// Ask the inbox, and claim nothing.
    Ask,
}

/// A record as marks know it.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) key: &'a DedupKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) at: Position<'a>,
}

impl Front {
    pub(super) fn new(server: Server) -> Front {
        Front {
            server,
            lease: Duration::from_secs(30),
            keep: Duration::from_secs(86_400),
            skips: AtomicU64::new(0),
        }
    }

    /// Without Redis each id may be worked on: the inbox decides.
    pub(super) async fn claim(&self, record: &Record<'_>, owner: u128) -> Said {
        let asked = self.asked(record, owner);
        self.unless_away(asked).await.unwrap_or(Said::Ask)
    }

    /// What Redis answers; none while it is away.
    pub(super) async fn unless_away<T>(
        &self,
        ask: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        let skips = |left: u64| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.skips.fetch_update(order, order, skips).is_ok() {
            return None;
        }
        let answer = ask.await;
        if answer.is_err() {
            self.skips.store(SKIPPED, Ordering::Relaxed);
        }
        answer.ok()
    }

    async fn asked(&self, record: &Record<'_>, owner: u128) -> Result<Said, StoreError> {
        let mut call = FRONT_CLAIM.key(mark_key(record.key));
        call.arg(&owner.to_be_bytes()[..]);
        call.arg(&record.fingerprint.0[..]);
        call.arg(millis(self.lease).max(1));
        let at = record.at;
        call.arg(at.topic).arg(at.partition).arg(at.offset);
        let answer: Vec<Bytes> = self.server.run(&call).await?;
        let mut answer = answer.into_iter();
        match answer.next().as_deref() {
            Some(b"run") => Ok(Said::Run),
            Some(b"busy") => Ok(Said::Busy),
            Some(b"done") => Ok(Said::Done(answer.next())),
            Some(b"ask") => Ok(Said::Ask),
            _ => Err(unexpected()),
        }
    }

    /// Says that the inbox has committed it.
    pub(super) async fn done(
        &self,
        record: &Record<'_>,
        result: Option<&Bytes>,
    ) -> Result<(), StoreError> {
        let mut call = FRONT_DONE.key(mark_key(record.key));
        call.arg(&record.fingerprint.0[..]);
        call.arg(millis(self.keep).max(1));
        let at = record.at;
        call.arg(at.topic).arg(at.partition).arg(at.offset);
        if let Some(result) = result {
            call.arg(&result[..]);
        }
        self.server.run::<String>(&call).await.map(drop)
    }

    pub(super) async fn release(&self, key: &DedupKey, owner: u128) -> Result<(), StoreError> {
        let script: &Script = &FRONT_RELEASE;
        let mut call = script.key(mark_key(key));
        call.arg(&owner.to_be_bytes()[..]);
        self.server.run::<String>(&call).await.map(drop)
    }

    /// A piece of the marks of a scope, as keys, and the cursor of the next piece; 0 at the end.
    pub(super) async fn scan(
        &self,
        scope: &Scope,
        cursor: u64,
    ) -> Result<(u64, Vec<Vec<u8>>), StoreError> {
        let mut call = redis::cmd("SCAN");
        call.arg(cursor).arg("MATCH").arg(mark_prefix(scope) + "*");
        call.arg("COUNT").arg(1_000);
        self.server.ask(&call).await
    }

    /// The id and record of a done mark; none of another one.
    pub(super) async fn read(
        &self,
        scope: &Scope,
        mark: &[u8],
    ) -> Result<Option<(BizId, String, u32, u64)>, StoreError> {
        let rest = mark.strip_prefix(mark_prefix(scope).as_bytes());
        let rest = rest.ok_or_else(unexpected)?;
        let colon = rest.iter().position(|byte| *byte == b':');
        let id = colon.and_then(|at| rest.get(at + 1..));
        let id = BizId::stored(id.ok_or_else(unexpected)?.to_vec());
        let mut call = redis::cmd("HMGET");
        call.arg(mark).arg(&["s", "k", "q", "x"]);
        let found: Vec<Option<Bytes>> = self.server.ask(&call).await?;
        let mut found = found.into_iter();
        if found.next().flatten().as_deref() != Some(b"d") {
            return Ok(None);
        }
        let topic = text(found.next().flatten())?;
        let partition = number(found.next().flatten())?;
        let partition = u32::try_from(partition).map_err(|_| unexpected())?;
        let offset = number(found.next().flatten())?;
        Ok(Some((id, topic, partition, offset)))
    }

    pub(super) async fn forget(&self, mark: &[u8]) -> Result<(), StoreError> {
        let mut call = redis::cmd("DEL");
        call.arg(mark);
        self.server.ask::<u64>(&call).await.map(drop)
    }
}

fn mark_prefix(scope: &Scope) -> String {
    format!("{}mark:", prefix(scope))
}

fn mark_key(key: &DedupKey) -> Vec<u8> {
    named(&mark_prefix(&key.scope), key)
}

/// Of what Redis was told by a store of claims.
pub(super) fn told_key(key: &DedupKey) -> Vec<u8> {
    named(&format!("{}told:", prefix(&key.scope)), key)
}

pub(super) fn told_sweeps_key(scope: &Scope) -> String {
    format!("{}sweeps", prefix(scope))
}

fn named(prefix: &str, key: &DedupKey) -> Vec<u8> {
    let id = key.id.as_bytes();
    let mut name = format!("{prefix}{}:", id.len()).into_bytes();
    name.extend_from_slice(id);
    name
}
