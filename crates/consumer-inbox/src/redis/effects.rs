//! Effects in Redis that a late redelivery cannot undo: a write says how new it is.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::options::RedisOptions;
use super::scripts::PUT;
use super::server::{Server, number, unexpected};
use crate::error::StoreError;
use crate::identity::Position;

/// How new a write is. Of one key all writes must be guarded in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard<'a> {
    /// As new as the record at that position. Only records of one partition can be compared: those of one ordering key.
    Offset(Position<'a>),
    /// A version that the business gives, from the message say.
    Version(u64),
}

/// What became of a guarded write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is the newest.
    Applied,
    /// It was there: a redelivery. Nothing was changed.
    Repeated,
    /// A newer one was there. Nothing was changed.
    Stale {
        /// Its offset or version.
        current: u64,
    },
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    /// None if it was removed.
    pub value: Option<Bytes>,
    /// The offset or version of the newest write.
    pub guard: u64,
}

/// Values in Redis that are only ever overwritten by newer ones (M1, M6): the effect of a consumer that has no transaction with its ids, and needs
/// none, since each write may be repeated, at any time later.
///
/// A key is a hash with the field `value`, which others may read; a removed one keeps its guard, so that a late write does not bring it back.
///
/// ```no_run
/// # use consumer_inbox::{Delivery, Guard, RedisEffects, RedisOptions, StoreError, Written};
/// # async fn effect(effects: &RedisEffects, price: &Delivery) -> Result<(), StoreError> {
/// let newest = Guard::Offset(price.position());
/// match effects.set(b"price:A-1", price.payload(), newest).await? {
///     Written::Applied | Written::Repeated => {}
///     Written::Stale { current } => println!("offset {current} was there before"),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisEffects {
    server: Arc<Server>,
}

impl fmt::Debug for RedisEffects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisEffects").finish_non_exhaustive()
    }
}

impl RedisEffects {
    /// Connects to a URL, `redis://host:port/`.
    ///
    /// # Errors
    /// As of [`RedisStore::connect`](crate::RedisStore::connect).
    pub async fn connect(url: &str, options: RedisOptions) -> Result<RedisEffects, StoreError> {
        let server = Server::connect(url, &options).await?;
        Ok(RedisEffects::over(Arc::new(server)))
    }

    pub(super) fn over(server: Arc<Server>) -> RedisEffects {
        RedisEffects { server }
    }

    /// Writes a value, unless a newer write was there. After `Unknown` repeat it.
    ///
    /// # Errors
    /// `Misuse` if the key was guarded in another way, or by the offsets of another partition.
    pub async fn set(
        &self,
        key: &[u8],
        value: &[u8],
        guard: Guard<'_>,
    ) -> Result<Written, StoreError> {
        self.put(key, Some(value), guard).await
    }

    /// Removes a value, unless a newer write was there.
    ///
    /// # Errors
    /// As of [`set`](RedisEffects::set).
    pub async fn remove(&self, key: &[u8], guard: Guard<'_>) -> Result<Written, StoreError> {
        self.put(key, None, guard).await
    }

    /// What a key holds; none if it was never written.
    ///
    /// # Errors
    /// What the server says.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Guarded>, StoreError> {
        let mut call = redis::cmd("HMGET");
        call.arg(key).arg(&["guard", "value"]);
        let found: Vec<Option<Bytes>> = self.server.ask(&call).await?;
        let mut found = found.into_iter();
        let Some(guard) = found.next().flatten() else {
            return Ok(None);
        };
        Ok(Some(Guarded {
            guard: number(Some(guard))?,
            value: found.next().flatten(),
        }))
    }

    async fn put(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        guard: Guard<'_>,
    ) -> Result<Written, StoreError> {
        let (source, guard) = match guard {
            Guard::Offset(at) => {
                let source = format!("{}:{}:{}", at.topic.len(), at.topic, at.partition);
                (source, at.offset)
            }
            Guard::Version(version) => ("version".to_owned(), version),
        };
        let mut call = PUT.key(key);
        call.arg(source).arg(format!("{guard:020}")).arg(value);
        let answer: Vec<Bytes> = self.server.run(&call).await?;
        let mut answer = answer.into_iter();
        match answer.next().as_deref() {
            Some(b"applied") => Ok(Written::Applied),
            Some(b"repeated") => Ok(Written::Repeated),
            Some(b"stale") => Ok(Written::Stale {
                current: number(answer.next())?,
            }),
            Some(b"other") => Err(StoreError::Misuse(
                "the key was written under another kind of guard, or from another partition: their numbers cannot be compared",
            )),
            _ => Err(unexpected()),
        }
    }
}
