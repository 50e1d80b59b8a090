//! Redis before a database: redeliveries of what is committed need no transaction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::front::{Front, Record, Said};
use super::options::RedisOptions;
use super::server::Server;
use super::tiered_tx::{Mark, TieredTx};
use crate::admission::{Admission, Receipt, Settlement, Token};
use crate::clock::Owners;
use crate::committed::{CommittedIds, Known};
use crate::dedup_store::Horizon;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::identity::{BizId, DedupKey, Part, Position, Scope};
use crate::inbox::{Inbox, Outgoing};

/// Between two questions whether somebody else is through.
const PAUSE: Duration = Duration::from_millis(10);

/// Ids of one piece of a reconciliation.
const PIECE: usize = 500;

/// An inbox, or a store of claims, with Redis before it (M10). What it promises is theirs alone; Redis saves work where many records are delivered again,
/// or two consumers have the same id.
///
/// Redis says "done" only of what the database has committed, and only of that very record: another record with the same id goes to the database, which has
/// to know of it. "Absent" proves nothing. So Redis may evict, lose, or be away: then each delivery costs a transaction, and no more.
///
/// After the database was set back, to a backup say, call [`reconcile`](Tiered::reconcile) before anything is consumed: Redis still says done what the
/// database has lost.
pub struct Tiered<I> {
    pub(super) slow: I,
    pub(super) front: Arc<Front>,
    owners: Owners,
    patience: Duration,
}

impl<I> fmt::Debug for Tiered<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered").finish_non_exhaustive()
    }
}

/// What a reconciliation did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Ids that are done in the database, and now in Redis.
    pub marked: usize,
    /// Marks removed whose ids the database has parked, or forgotten.
    pub removed: usize,
    /// Marks removed of which the database knows nothing: corruption, or a database that was set back.
    pub corrupt: Vec<BizId>,
}

impl<I> Tiered<I> {
    /// Puts Redis at that URL before an inbox or a store. Redis need not be there: it is connected to when it is first needed, and again after some calls without it
    /// when it went. Any settings of it will do. A short [`RedisOptions::timeout`] bounds what a silent one costs.
    ///
    /// # Errors
    /// `Backend` for a URL that is none.
    pub fn new(url: &str, options: RedisOptions, slow: I) -> Result<Tiered<I>, StoreError> {
        let server = Server::new(url, &options.lossy())?;
        Ok(Tiered {
            slow,
            front: Arc::new(Front::new(server)),
            owners: Owners::random(),
            patience: Duration::from_secs(2),
        })
    }

    /// How long a consumer that died keeps others from its id. 30 s, and longer than a transaction takes.
    ///
    /// # Panics
    /// After the first transaction was begun.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Tiered<I> {
        self.set(|front| front.lease = lease)
    }

    /// How long Redis remembers what is done. A day; the longer, the more redeliveries it answers.
    ///
    /// # Panics
    /// After the first transaction was begun.
    #[must_use]
    pub fn keep(self, time: Duration) -> Tiered<I> {
        self.set(|front| front.keep = time)
    }

    /// How long another consumer that has the id is waited for before the answer is `Busy`; not at all in a transaction that has ids itself. 2 s.
    #[must_use]
    pub fn patience(mut self, wait: Duration) -> Tiered<I> {
        self.patience = wait;
        self
    }

    /// What is behind.
    pub fn slow(&self) -> &I {
        &self.slow
    }

    #[expect(
        clippy::expect_used,
        reason = "documented: settings are made before the first transaction"
    )]
    fn set(mut self, change: impl FnOnce(&mut Front)) -> Tiered<I> {
        change(Arc::get_mut(&mut self.front).expect("no transaction yet"));
        self
    }
}

impl<I: Inbox> Tiered<I> {
    async fn first<'t>(&self, tx: &'t mut TieredTx<I::Tx>) -> Result<&'t mut I::Tx, StoreError> {
        if tx.inner.is_none() {
            tx.inner = Some(self.slow.begin(&tx.part, tx.epoch).await?);
        }
        tx.inner()
    }

    async fn ask_redis(&self, record: &Record<'_>, owner: u128, wait: bool) -> Said {
        let mut waited = Duration::ZERO;
        loop {
            let said = self.front.claim(record, owner).await;
            if said != Said::Busy || !wait || waited >= self.patience {
                return said;
            }
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
    }
}

impl<I: CommittedIds> Tiered<I> {
    /// Makes Redis say of a scope what the database has committed: ids done since then, ms of the database's clock, become done; what Redis has done and
    /// the database not becomes absent. Never writes to the database.
    ///
    /// # Errors
    /// What either says. Repeat it.
    pub async fn reconcile(&self, scope: &Scope, since_ms: u64) -> Result<Reconciled, StoreError> {
        let mut all = Reconciled::default();
        let mut after = None;
        loop {
            let piece = self.slow.committed(scope, since_ms, after.as_ref(), PIECE);
            let piece = piece.await?;
            let last = piece.len() < PIECE;
            after = piece.last().map(|id| id.id.clone());
            for id in piece {
                let Some((topic, partition, offset)) = &id.origin.position else {
                    continue;
                };
                let record = Record {
                    key: &DedupKey::new(scope.clone(), id.id),
                    fingerprint: id.fingerprint,
                    at: Position {
                        topic,
                        partition: *partition,
                        offset: *offset,
                    },
                };
                self.front.done(&record, id.result.as_ref()).await?;
                all.marked += 1;
            }
            if last {
                break;
            }
        }
        let mut cursor = 0;
        loop {
            let (next, marks) = self.front.scan(scope, cursor).await?;
            for mark in marks {
                let Some((id, topic, partition, offset)) = self.front.read(scope, &mark).await?
                else {
                    continue;
                };
                let key = DedupKey::new(scope.clone(), id);
                let at = Position {
                    topic: &topic,
                    partition,
                    offset,
                };
                match self.slow.look_up(&key, at).await? {
                    Known::Done => continue,
                    Known::Parked | Known::Passed => all.removed += 1,
                    Known::Absent => all.corrupt.push(key.id),
                }
                self.front.forget(&mark).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(all);
            }
        }
    }
}

impl<I: Inbox> Inbox for Tiered<I> {
    type Tx = TieredTx<I::Tx>;

    async fn assign(&self, part: &Part, epoch: u64) -> Result<Option<u64>, StoreError> {
        self.slow.assign(part, epoch).await
    }

    async fn begin(&self, part: &Part, epoch: u64) -> Result<Self::Tx, StoreError> {
        Ok(TieredTx::new(part.clone(), epoch, self.front.clone()))
    }

    async fn admit(
        &self,
        tx: &mut Self::Tx,
        delivery: &Delivery,
    ) -> Result<Admission<()>, StoreError> {
        let key = delivery.dedup_key();
        let misused = tx.is_admitted || *delivery.part() != tx.part;
        let is_ours = tx.marks.iter().any(|mark| mark.delivery.dedup_key() == key);
        if misused || is_ours {
            let answer = self.slow.admit(self.first(tx).await?, delivery).await?;
            tx.is_admitted = matches!(answer, Admission::Run(()));
            return Ok(answer);
        }
        let record = record(delivery);
        let owner = self.owners.next();
        match self.ask_redis(&record, owner, tx.marks.is_empty()).await {
            Said::Done(result) => {
                tx.absorbed = true;
                let token = Token::NONE;
                return Ok(Admission::Done(Receipt { token, result }));
            }
            Said::Busy => return Ok(Admission::Busy { retry_after: PAUSE }),
            said => tx.marks.push(Mark {
                delivery: delivery.clone(),
                owner: (said == Said::Run).then_some(owner),
                done: None,
            }),
        }
        let answer = self.slow.admit(self.first(tx).await?, delivery).await?;
        tx.is_admitted = matches!(answer, Admission::Run(()));
        if let (Admission::Done(receipt), Some(mark)) = (&answer, tx.marks.last_mut()) {
            mark.done = Some(receipt.result.clone());
        }
        Ok(answer)
    }

    async fn settle(
        &self,
        tx: &mut Self::Tx,
        delivery: &Delivery,
        how: Settlement,
    ) -> Result<(), StoreError> {
        let done = match &how {
            Settlement::Done(result) => Some(result.clone()),
            Settlement::Released | Settlement::Parked => None,
        };
        self.slow
            .settle(self.first(tx).await?, delivery, how)
            .await?;
        tx.is_admitted = false;
        let key = delivery.dedup_key();
        let mark = tx.marks.iter_mut().rfind(|m| m.delivery.dedup_key() == key);
        if let Some(mark) = mark {
            mark.done = done;
        }
        Ok(())
    }

    async fn emit(&self, tx: &mut Self::Tx, record: Outgoing) -> Result<(), StoreError> {
        self.slow.emit(self.first(tx).await?, record).await
    }

    async fn commit(&self, mut tx: Self::Tx, next: u64) -> Result<(), StoreError> {
        let inner = match tx.inner.take() {
            Some(inner) => inner,
            // Redis answered all, and the position stays.
            None if next == 0 && tx.absorbed => return Ok(()),
            None => self.slow.begin(&tx.part, tx.epoch).await?,
        };
        match self.slow.commit(inner, next).await {
            Ok(()) => {
                // The database has it: Redis may say so, and may not get to it.
                for mark in std::mem::take(&mut tx.marks) {
                    mark.committed(&self.front).await;
                }
                Ok(())
            }
            Err(StoreError::Unknown) => {
                // Nobody may say anything. The leases end.
                tx.marks.clear();
                Err(StoreError::Unknown)
            }
            Err(error) => Err(error),
        }
    }

    async fn outgoing(&self, max: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        self.slow.outgoing(max).await
    }

    async fn forwarded(&self, through: u64) -> Result<(), StoreError> {
        self.slow.forwarded(through).await
    }

    fn sender(&self) -> String {
        self.slow.sender()
    }

    async fn ids(&self) -> Result<Option<u64>, StoreError> {
        self.slow.ids().await
    }

    async fn sweep(&self, below: &Horizon, max: usize) -> Result<usize, StoreError> {
        self.slow.sweep(below, max).await
    }
}

fn record(delivery: &Delivery) -> Record<'_> {
    Record {
        key: delivery.dedup_key(),
        fingerprint: delivery.fingerprint(),
        at: delivery.position(),
    }
}

impl Mark {
    /// Behind the commit. Redis may be away: the mark is missing then, or its lease ends.
    async fn committed(self, front: &Front) {
        let done: Option<Option<Bytes>> = self.done;
        let _ = match (done, self.owner) {
            (Some(result), _) => front.done(&record(&self.delivery), result.as_ref()).await,
            (None, Some(owner)) => front.release(self.delivery.dedup_key(), owner).await,
            (None, None) => Ok(()),
        };
    }
}
