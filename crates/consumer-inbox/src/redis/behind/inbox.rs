//! Effect, id and position in Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::commit::call;
use super::entry::Settled;
use super::keys::Keys;
use super::recovery::prepare;
use super::tables;
use super::tx::{RedisTx, Savepoint, Writes};
use super::writer::WriteBehind;
use crate::admission::{Admission, Receipt, Settlement, Token};
use crate::clock::{Owners, millis};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::entity::{EntityRow, Versioned};
use crate::error::StoreError;
use crate::failpoints::{Point, hit};
use crate::id_row::{IdRow, IdState, Origin};
use crate::identity::{DedupKey, Fingerprint, Part};
use crate::inbox::{Inbox, Outgoing};
use crate::postgres::{PgInbox, Postgres};
use crate::redis::options::RedisOptions;
use crate::redis::scripts::{BEHIND_ADMIT, BEHIND_ASSIGN, FRONT_CLAIM, FRONT_RELEASE};
use crate::redis::server::{Server, exact, number, text, unexpected};
use crate::redis::sweep::sweep;

/// Between two questions whether somebody else is through, and what is asked for when nobody is.
const PAUSE: Duration = Duration::from_millis(10);

/// What is asked for while the database is too far behind.
const LAG: Duration = Duration::from_secs(1);

/// How long a consumer that died keeps others from its ids.
const LEASE: Duration = Duration::from_secs(30);

/// Transactions that are written in one when records are to be sent.
const BATCH: usize = 1_000;

/// An inbox whose effects are entities in Redis, which a database follows (M9): [`WriteBehind`] writes there what is committed here.
///
/// A transaction is one script. What Redis does not have is read from the database, so that entities may be there alone. If Redis loses what it had,
/// [`assign`](Inbox::assign) notices, throws the rest away, takes ids from the database, and answers with the position that the database has: the log must still have
/// what comes behind ([`WriteBehind::synced`]), and brings it again. Until then everything is `Fenced` with a stored epoch of 0.
///
/// Records to send, dead letters too, are sent by the database, so [`outgoing`](Inbox::outgoing) writes first what is not there yet.
#[derive(Clone)]
pub struct RedisInbox {
    shared: Arc<Shared>,
    max_lag: u64,
    patience: Duration,
}

pub(super) struct Shared {
    pub(super) server: Server,
    pub(super) options: RedisOptions,
    pub(super) keys: Keys,
    pub(super) name: String,
    pub(super) database: PgInbox,
    pub(super) owners: Owners,
}

impl fmt::Debug for RedisInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisInbox")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// An entity, from the database if Redis does not have it: a miss is not absence.
    pub(super) async fn entity(&self, id: &[u8]) -> Result<EntityRow, StoreError> {
        let mut ask = redis::cmd("HMGET");
        ask.arg(self.keys.entity(id)).arg(&["v", "a", "d"]);
        let found: Vec<Option<Bytes>> = self.server.ask(&ask).await?;
        let mut found = found.into_iter();
        let (version, amount, value) = (
            found.next().flatten(),
            found.next().flatten(),
            found.next().flatten(),
        );
        if version.is_none() {
            let tx = self.database.transaction().await?;
            let row = tables::entity(&mut Postgres::new(tx.client()?), id).await;
            return tx.end(row).await;
        }
        Ok(EntityRow {
            version: number(version)?,
            amount: text(amount)?.parse().map_err(|_| unexpected())?,
            value,
        })
    }

    async fn lock(&self, key: &DedupKey, owner: u128) -> Result<bool, StoreError> {
        let mut call = FRONT_CLAIM.key(self.keys.lock(key));
        call.arg(&owner.to_be_bytes()[..])
            .arg("")
            .arg(millis(LEASE));
        call.arg("").arg("").arg("");
        let said: Vec<Bytes> = self.server.run(&call).await?;
        Ok(said.first().is_some_and(|said| **said == *b"run"))
    }

    pub(super) async fn unlock(&self, key: &DedupKey, owner: u128) -> Result<(), StoreError> {
        let mut call = FRONT_RELEASE.key(self.keys.lock(key));
        call.arg(&owner.to_be_bytes()[..]);
        self.server.run::<String>(&call).await.map(drop)
    }
}

/// What Redis says about a delivery.
struct Found {
    next: u64,
    floor_ms: Option<u64>,
    row: Option<IdRow>,
}

impl RedisInbox {
    /// The inbox of that name in Redis at a URL, before a database which it has for itself.
    ///
    /// # Errors
    /// As of [`RedisStore::connect`](crate::RedisStore::connect).
    pub async fn connect(
        name: &str,
        url: &str,
        options: RedisOptions,
        database: PgInbox,
    ) -> Result<RedisInbox, StoreError> {
        let shared = Shared {
            server: Server::connect(url, &options).await?,
            options,
            keys: Keys::new(name),
            name: name.to_owned(),
            database,
            owners: Owners::random(),
        };
        Ok(RedisInbox {
            shared: Arc::new(shared),
            max_lag: 10_000,
            patience: Duration::from_secs(2),
        })
    }

    /// How many transactions the database may be behind before commits are `Busy`. 10,000.
    #[must_use]
    pub fn max_lag(mut self, transactions: u64) -> RedisInbox {
        self.max_lag = transactions;
        self
    }

    /// How long another transaction that has an id is waited for before the answer is `Busy`; not at all in a transaction that has ids itself. 2 s.
    #[must_use]
    pub fn patience(mut self, wait: Duration) -> RedisInbox {
        self.patience = wait;
        self
    }

    /// An entity, as committed.
    ///
    /// # Errors
    /// What Redis or the database says.
    pub async fn entity(&self, id: &[u8]) -> Result<Option<Versioned>, StoreError> {
        Ok(self.shared.entity(id).await?.entity())
    }

    /// What writes to the database. Somebody must run it.
    pub fn write_behind(&self) -> WriteBehind {
        WriteBehind::new(self.shared.clone())
    }

    async fn find(&self, tx: &RedisTx, delivery: &Delivery) -> Result<Found, StoreError> {
        let (keys, key) = (&self.shared.keys, delivery.dedup_key());
        let mut call = BEHIND_ADMIT.key(&keys.meta);
        call.key(keys.position(&tx.part));
        call.key(keys.scope(&key.scope)).key(keys.id(key));
        let found: Vec<Option<Bytes>> = self.shared.server.run(&call).await?;
        let mut found = found.into_iter();
        let mut next = || found.next().flatten();
        check(tx, next(), next())?;
        let maybe = |part: Option<Bytes>| part.map(|part| number(Some(part))).transpose();
        let (position, floor_ms) = (maybe(next())?, maybe(next())?);
        let (state, at, fingerprint, result) = (next(), next(), next(), next());
        let ms = maybe(next())?;
        let record = (next(), next(), next());
        let position_of = match record {
            (Some(topic), partition, offset) => {
                let partition = u32::try_from(number(partition)?).map_err(|_| unexpected())?;
                Some((text(Some(topic))?.into(), partition, number(offset)?))
            }
            _ => None,
        };
        let row = match state {
            None => None,
            Some(state) => {
                let at_ms = number(at)?;
                let fingerprint = fingerprint.and_then(|bytes| (*bytes).try_into().ok());
                Some(IdRow {
                    state: match *state == *b"d" {
                        true => IdState::Done { at_ms, result },
                        false => IdState::Parked { at_ms },
                    },
                    token: Token::NONE,
                    attempt: 1,
                    fingerprint: fingerprint.map(Fingerprint).ok_or_else(unexpected)?,
                    origin: Origin {
                        ms,
                        position: position_of,
                    },
                })
            }
        };
        Ok(Found {
            next: position.unwrap_or(0),
            floor_ms,
            row,
        })
    }

    /// The answer, the record that the id goes with now, and whether it was parked.
    async fn judge(
        &self,
        tx: &RedisTx,
        delivery: &Delivery,
    ) -> Result<(Admission<()>, Option<Origin>, bool), StoreError> {
        let found = self.find(tx, delivery).await?;
        if delivery.offset() < found.next {
            let (token, result) = (Token::NONE, None);
            return Ok((Admission::Done(Receipt { token, result }), None, false));
        }
        let mine = tx.writes.ids.get(delivery.dedup_key()).map(row);
        let stored_parked = |row: &IdRow| matches!(row.state, IdState::Parked { .. });
        let was_parked = found.row.as_ref().is_some_and(stored_parked);
        let row = mine.or(found.row);
        let request = delivery.claim(0, Duration::ZERO);
        let (answer, changed) =
            IdRow::claim(row.as_ref(), &request, 0, found.floor_ms, Token::NONE);
        let newest = changed.map(|row| row.origin);
        Ok((answer.map(drop), newest, was_parked))
    }
}

fn row(settled: &Settled) -> IdRow {
    let how = match settled.is_done {
        true => Settlement::Done(settled.result.clone()),
        false => Settlement::Parked,
    };
    IdRow {
        state: IdState::settled(how, 0),
        token: Token::NONE,
        attempt: 1,
        fingerprint: settled.fingerprint,
        origin: settled.origin.clone(),
    }
}

fn check(tx: &RedisTx, incarnation: Option<Bytes>, epoch: Option<Bytes>) -> Result<(), StoreError> {
    let is_same = incarnation.as_deref() == Some(tx.incarnation.as_bytes());
    let current = match epoch {
        Some(epoch) if is_same => number(Some(epoch))?,
        _ => 0,
    };
    match current == tx.epoch {
        true => Ok(()),
        false => Err(StoreError::Fenced {
            held: tx.epoch,
            current,
        }),
    }
}

impl Inbox for RedisInbox {
    type Tx = RedisTx;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        let (shared, mut force) = (&self.shared, false);
        // Somebody else may recover at the same time.
        for _ in 0..4 {
            let incarnation = prepare(shared, force).await?;
            let synced = shared.database.assign(part, epoch).await?;
            let mut call = BEHIND_ASSIGN.key(&shared.keys.meta);
            call.key(shared.keys.position(part));
            call.arg(incarnation).arg(exact(epoch)?);
            call.arg(exact(synced.unwrap_or(0))?);
            let answer: Vec<Bytes> = shared.server.run(&call).await?;
            let mut answer = answer.into_iter();
            match answer.next().as_deref() {
                Some(b"ok") => {
                    let next = number(answer.next())?;
                    return Ok((next > 0).then_some(next));
                }
                Some(b"fenced") => {
                    let current = number(answer.next())?;
                    let held = epoch;
                    return Err(StoreError::Fenced { held, current });
                }
                Some(b"behind") => force = true,
                Some(b"lost") => force = false,
                _ => return Err(unexpected()),
            }
        }
        Err(StoreError::Conflict)
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<RedisTx, StoreError> {
        let shared = &self.shared;
        let mut command = redis::cmd("HGET");
        command.arg(&shared.keys.meta).arg("incarnation");
        let incarnation: Option<Bytes> = shared.server.ask(&command).await?;
        let mut command = redis::cmd("HGET");
        command.arg(shared.keys.position(part)).arg("epoch");
        let current = shared.server.ask(&command).await?;
        let tx = RedisTx {
            shared: shared.clone(),
            part: part.clone(),
            epoch,
            incarnation: incarnation
                .clone()
                .map_or(Ok(String::new()), |i| text(Some(i)))?,
            writes: Writes::default(),
            open: None,
            locks: Vec::new(),
        };
        check(&tx, incarnation, current)?;
        Ok(tx)
    }

    async fn admit(
        &self,
        tx: &mut RedisTx,
        delivery: &Delivery,
    ) -> Result<Admission<()>, StoreError> {
        if tx.open.is_some() {
            return Err(StoreError::Misuse(
                "settle the last delivery before the next is admitted",
            ));
        }
        if *delivery.part() != tx.part {
            return Err(StoreError::Misuse(
                "a transaction carries deliveries of one partition",
            ));
        }
        let key = delivery.dedup_key();
        let mut is_ours = tx.locks.iter().any(|(locked, _)| locked == key);
        let may_wait = tx.locks.is_empty();
        let owner = self.shared.owners.next();
        let mut waited = Duration::ZERO;
        loop {
            let (answer, newest, was_parked) = self.judge(tx, delivery).await?;
            if answer != Admission::Run(()) {
                if let Some(newest) = newest {
                    tx.writes.seen.push((key.clone(), newest));
                }
                return Ok(answer);
            }
            if is_ours {
                tx.open = Some(Savepoint {
                    key: key.clone(),
                    origin: newest.unwrap_or_default(),
                    was_parked,
                    before: tx.writes.clone(),
                });
                hit(Point::C1).await?;
                return Ok(answer);
            }
            if self.shared.lock(key, owner).await? {
                // Who had it may have committed since: look again.
                tx.locks.push((key.clone(), owner));
                is_ours = true;
            } else if may_wait && waited < self.patience {
                tokio::time::sleep(PAUSE).await;
                waited += PAUSE;
            } else {
                return Ok(Admission::Busy { retry_after: PAUSE });
            }
        }
    }

    async fn settle(
        &self,
        tx: &mut RedisTx,
        delivery: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        let key = delivery.dedup_key();
        let Some(savepoint) = tx.open.take_if(|open| open.key == *key) else {
            return Err(StoreError::Misuse(
                "only the delivery that was admitted last is settled",
            ));
        };
        let (is_done, result) = match how {
            Settlement::Done(result) => (true, result),
            Settlement::Parked => {
                tx.writes = savepoint.before;
                (false, None)
            }
            Settlement::Released => {
                tx.writes = savepoint.before;
                return Ok(());
            }
        };
        let settled = Settled {
            is_done,
            was_parked: savepoint.was_parked,
            fingerprint: delivery.fingerprint(),
            origin: savepoint.origin,
            result,
        };
        tx.writes.ids.insert(key.clone(), settled);
        Ok(())
    }

    async fn emit(&self, tx: &mut RedisTx, record: Outgoing) -> Result<(), StoreError> {
        tx.writes.outgoing.push(record);
        Ok(())
    }

    async fn commit(&self, mut tx: RedisTx, next: u64) -> Result<(), StoreError> {
        if tx.open.is_some() {
            return Err(StoreError::Misuse(
                "a delivery was admitted and not settled",
            ));
        }
        let call = call(&mut tx, self.max_lag, next)?;
        hit(Point::C3).await?;
        let answer: Vec<Bytes> = self.shared.server.run(&call).await?;
        let mut answer = answer.into_iter();
        match answer.next().as_deref() {
            Some(b"ok") => {
                tx.locks.clear();
                hit(Point::C4).await
            }
            Some(b"fenced") => Err(StoreError::Fenced {
                held: tx.epoch,
                current: number(answer.next())?,
            }),
            Some(b"conflict") => Err(StoreError::Conflict),
            Some(b"busy") => Err(StoreError::Busy { retry_after: LAG }),
            _ => Err(unexpected()),
        }
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        let writer = self.write_behind();
        while writer.sync(BATCH).await? > 0 {}
        self.shared.database.outgoing(max).await
    }

    async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        self.shared.database.forwarded(through).await
    }

    fn sender(&self) -> String {
        self.shared.database.sender()
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        let (shared, scope) = (&self.shared, &below.scope);
        let keys = [
            shared.keys.scope(scope),
            shared.keys.index(scope),
            shared.keys.meta.clone(),
            shared.keys.stream.clone(),
        ];
        let prefix = shared.keys.ids(&crate::sql::stored_scope(scope));
        sweep(&shared.server, &shared.options, &keys, &prefix, below, max).await
    }
}
