//! Claims in Redis.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Script, ScriptInvocation};

use super::effects::RedisEffects;
use super::options::RedisOptions;
use super::scripts::{CLAIM, RENEW, SETTLE};
use super::server::{Server, exact, number, text, token, unexpected};
use super::sweep::sweep;
use crate::admission::{Admission, Held, Prior, Receipt, Settlement};
use crate::clock::millis;
use crate::dedup_store::{ClaimRequest, DedupStore, Horizon};
use crate::error::StoreError;
use crate::failpoints::{Point, hit};
use crate::identity::{DedupKey, Fingerprint, Scope};

/// Claims in Redis (M8): a hash for each id, which is busy for a lease, then done. Ids need memory, about 350 B each; without
/// [`RedisOptions::forget_after`] call `sweep`.
///
/// It promises what the server keeps: a lost mark is an effect that happens again. A primary that fails over to a replica loses what that had not
/// received; so does a `FLUSHALL`. Tokens grow nevertheless, and claims say for a while that their predecessor crashed
/// ([`RedisOptions::longest_lease`]).
///
/// Keys are `oncelog:{digest of the scope}:length of the id:id`, beside two for the scope, so that a scope is on one server of many.
pub struct RedisStore {
    server: Arc<Server>,
    options: RedisOptions,
    /// When scopes began, by their digests: a later beginning tells that the server lost one.
    born: Mutex<HashMap<[u8; 16], String>>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("options", &self.options)
            .field("may_lose", &self.may_lose())
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects to a URL, `redis://host:port/`, and looks whether the server is fit.
    ///
    /// # Errors
    /// `Unsafe` if the server may lose what it acknowledges, or ids would vanish too early; `Unavailable` if it was not reached.
    pub async fn connect(url: &str, options: RedisOptions) -> Result<RedisStore, StoreError> {
        options.check()?;
        Ok(RedisStore {
            server: Arc::new(Server::connect(url, &options).await?),
            options,
            born: Mutex::default(),
        })
    }

    /// Whether the server may lose what it acknowledged, and was taken nevertheless ([`RedisOptions::lossy`]).
    pub fn may_lose(&self) -> bool {
        self.server.may_lose()
    }

    /// Guarded writes over the same connection.
    pub fn effects(&self) -> RedisEffects {
        RedisEffects::over(self.server.clone())
    }

    fn call<'s>(&self, script: &'s Script, key: &DedupKey) -> ScriptInvocation<'s> {
        let mut call = script.key(id_key(key));
        call.arg(self.options.now());
        call
    }

    fn lease(&self, lease: Duration) -> Result<u64, StoreError> {
        match lease <= self.options.longest_lease {
            true => Ok(millis(lease)),
            false => Err(StoreError::Misuse(
                "a lease longer than `RedisOptions::longest_lease`",
            )),
        }
    }

    fn answered(
        &self,
        request: &ClaimRequest<'_>,
        answer: Vec<Bytes>,
    ) -> Result<Admission<Held>, StoreError> {
        let mut parts = answer.into_iter();
        let kind = parts.next().unwrap_or_default();
        Ok(match &*kind {
            b"run" => {
                let token = token(parts.next())?;
                let attempt = number(parts.next())?;
                let prior = match parts.next().as_deref() {
                    Some(b"n") => Prior::New,
                    Some(b"r") => Prior::Released,
                    Some(b"c") => Prior::Crashed,
                    Some(b"p") => Prior::Parked,
                    _ => return Err(unexpected()),
                };
                if let Ok(born) = text(parts.next()) {
                    self.born.lock().insert(request.key.scope.digest(), born);
                }
                Admission::Run(Held {
                    key: request.key.clone(),
                    token,
                    attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
                    prior,
                })
            }
            b"done" => Admission::Done(Receipt {
                token: token(parts.next())?,
                result: parts.next(),
            }),
            b"busy" => Admission::Busy {
                retry_after: Duration::from_millis(number(parts.next())?),
            },
            b"parked" => Admission::Parked,
            b"mismatch" => {
                let stored = parts.next().and_then(|stored| (*stored).try_into().ok());
                let stored = stored.map(Fingerprint).ok_or_else(unexpected)?;
                Admission::Mismatch { stored }
            }
            b"expired" => Admission::Expired,
            _ => return Err(unexpected()),
        })
    }
}

impl DedupStore for RedisStore {
    async fn claim(&self, request: ClaimRequest<'_>) -> Result<Admission<Held>, StoreError> {
        let scope = request.key.scope.digest();
        let born = self.born.lock().get(&scope).cloned().unwrap_or_default();
        let mut call = self.call(&CLAIM, request.key);
        call.key(scope_key(&request.key.scope));
        call.key(index_key(&request.key.scope));
        call.arg(&request.owner.to_be_bytes()[..]);
        call.arg(&request.fingerprint.0[..]);
        call.arg(self.lease(request.lease)?);
        call.arg(u8::from(request.redrive));
        call.arg(
            request
                .origin_ms
                .map(exact)
                .transpose()?
                .unwrap_or_default(),
        );
        match request.position {
            Some(at) => call.arg(at.topic).arg(at.partition).arg(exact(at.offset)?),
            None => call.arg("").arg("").arg(""),
        };
        call.arg(request.key.id.as_bytes());
        call.arg(self.options.ttl());
        call.arg(born);
        call.arg(millis(self.options.longest_lease));
        let answer = self.server.run(&call).await?;
        let answer = self.answered(&request, answer)?;
        if matches!(answer, Admission::Run(_)) {
            hit(Point::C1).await?;
        }
        Ok(answer)
    }

    async fn renew(&self, held: &Held, lease: Duration) -> Result<(), StoreError> {
        let mut call = self.call(&RENEW, &held.key);
        call.arg(held.token.get()).arg(self.lease(lease)?);
        call.arg(self.options.ttl());
        is_ok(self.server.run(&call).await?, held)
    }

    async fn settle(&self, held: &Held, how: Settlement) -> Result<(), StoreError> {
        hit(Point::C3).await?;
        let mut call = self.call(&SETTLE, &held.key);
        call.arg(held.token.get());
        call.arg(match how {
            Settlement::Done(_) => "d",
            Settlement::Released => "f",
            Settlement::Parked => "p",
        });
        call.arg(self.options.ttl());
        if let Settlement::Done(Some(result)) = &how {
            call.arg(&result[..]);
        }
        is_ok(self.server.run(&call).await?, held)?;
        hit(Point::C4).await
    }

    async fn peek(&self, key: &DedupKey) -> Result<Option<Receipt>, StoreError> {
        let mut call = redis::cmd("HMGET");
        call.arg(id_key(key)).arg(&["s", "t", "r"]);
        let found: Vec<Option<Bytes>> = self.server.ask(&call).await?;
        let mut found = found.into_iter();
        if found.next().flatten().as_deref() != Some(b"d") {
            return Ok(None);
        }
        Ok(Some(Receipt {
            token: token(found.next().flatten())?,
            result: found.next().flatten(),
        }))
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        if self.options.forgets_by_itself() {
            return Ok(0);
        }
        let keys = [scope_key(&below.scope), index_key(&below.scope)];
        let prefix = prefix(&below.scope);
        sweep(&self.server, &self.options, &keys, &prefix, below, max).await
    }
}

fn is_ok(answer: String, held: &Held) -> Result<(), StoreError> {
    match &*answer {
        "ok" => Ok(()),
        _ => Err(StoreError::Lost(held.token)),
    }
}

/// The first part of every key of a scope. Digests are not identity, but of 128 bits no two are found that are equal.
pub(super) fn prefix(scope: &Scope) -> String {
    let digest = u128::from_be_bytes(scope.digest());
    format!("oncelog:{{{digest:032x}}}:")
}

/// The length in front keeps ids apart from each other and from what else the scope has (E14).
fn id_key(key: &DedupKey) -> Vec<u8> {
    let id = key.id.as_bytes();
    let mut name = format!("{}{}:", prefix(&key.scope), id.len()).into_bytes();
    name.extend_from_slice(id);
    name
}

fn scope_key(scope: &Scope) -> String {
    format!("{}scope", prefix(scope))
}

fn index_key(scope: &Scope) -> String {
    format!("{}index", prefix(scope))
}
